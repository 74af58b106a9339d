"""Genetic searchers: the published evolution, its spread along the front, and NSGA-II."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gancompress.elastic.space import Genomes, Subnet
from gancompress.search.front import best_first
from gancompress.search.genes import Places, unseen
from gancompress.search.problem import Problem
from gancompress.search.searchers.base import Archive, Evaluated, complete, first_generation
from gancompress.search.searchers.predictor import Predictor

ATTEMPTS = 12  # rounds of children before the rest of a generation is drawn at random


@dataclass(frozen=True)
class Evolution:
    """Mutation and crossover of the best trials under the first cost's limit.

    One budget, one answer: the best score wins, whatever it costs. Every trial counts, the last
    generation's too. Children that exceed the limit or were evaluated before are drawn again.

    Source: Li et al., GAN Compression, T-PAMI 2022; the defaults are the published settings.

    Attributes:
        population: Subnets in a generation.
        parent_ratio: Share of a population that may have children.
        mutation_ratio: Share of children that are mutants; the rest are crossovers.
        mutate_prob: Probability that a width of a mutant is drawn anew.
        spread: Take parents from the whole front instead, so that one run serves every budget,
            and children that exceed the limits are narrowed.
    """

    population: int = 100
    parent_ratio: float = 0.25
    mutation_ratio: float = 0.5
    mutate_prob: float = 0.2
    spread: bool = False

    def propose(
        self, problem: Problem, trials: Sequence[Evaluated], rng: np.random.Generator
    ) -> list[Subnet]:
        """The next generation; the first is random (spread: over the costs)."""
        archive = Archive.of(problem, trials)
        if not len(archive):
            first = [first_generation(problem, self.population, rng)] if self.spread else []
            return complete(archive, first, self.population, rng)
        parents = problem.genes.places(self._parents(archive))
        mutants = round(self.population * self.mutation_ratio)
        found = [
            self._children(archive, mutants, self._mutate(archive, parents), rng),
            self._children(archive, self.population - mutants, _mate(archive, parents), rng),
        ]
        return complete(archive, found, self.population, rng)

    def _parents(self, archive: Archive) -> Genomes:
        count = max(2, round(self.population * self.parent_ratio))
        names = list(archive.problem.costs)
        if self.spread:
            share = -(-count // len(names))
            return np.concatenate([archive.best(name, share) for name in names])
        inside = np.flatnonzero(archive.problem.within(archive.genomes, names[0]))
        if not len(inside):  # all trials so far fit another cost's limit alone
            inside = np.arange(len(archive))
        order = np.argsort(archive.losses[inside], kind="stable")
        return archive.genomes[inside[order[:count]]]

    def _mutate(self, archive: Archive, parents: Places) -> Breed:
        def breed(count: int, rng: np.random.Generator) -> Places:
            chosen = parents[rng.integers(len(parents), size=count)]
            return archive.problem.genes.redraw(chosen, self.mutate_prob, rng)

        return breed

    def _children(
        self, archive: Archive, count: int, breed: Breed, rng: np.random.Generator
    ) -> Genomes:
        return bring_up(archive, count, breed, rng, repair=self.spread)


Breed = Callable[[int, np.random.Generator], Places]
"""From a number of children to them, whether or not they fit or are new."""


def _mate(archive: Archive, parents: Places) -> Breed:
    def breed(count: int, rng: np.random.Generator) -> Places:
        one, other = parents[rng.integers(len(parents), size=(2, count))]
        return archive.problem.genes.cross(one, other, rng)

    return breed


def bring_up(
    archive: Archive, count: int, breed: Breed, rng: np.random.Generator, repair: bool = True
) -> Genomes:
    """Distinct new children that fit; fewer where the parents yield no more.

    Args:
        archive: What has been evaluated.
        count: How many.
        breed: Makes them.
        rng: Source of randomness.
        repair: Narrow those that do not fit; otherwise drop them.
    """
    problem = archive.problem
    found = archive.genomes[:0]
    for _ in range(ATTEMPTS):
        if len(found) >= count:
            break
        genomes = problem.genes.widths(breed(2 * count, rng))
        genomes = problem.repair(genomes, rng) if repair else genomes[problem.fits(genomes)]
        found = np.concatenate([found, genomes])
        found = found[unseen(found, archive.known)]
    return found[:count]


@dataclass(frozen=True)
class Nsga2:
    """Elitist genetic search of the front in (cost, loss), with integer genes.

    Parents are the best of all trials by non-domination and crowding; children come from binary
    tournaments and differ by a step to a neighbouring width, by widths drawn anew or by uniform
    crossover. Crossover is rarer than in the source: the best subnets of neighbouring budgets are
    neighbours themselves, and steps find the front with fewer evaluations. Children cost next to
    nothing, so more are bred than evaluated: most of a generation are those that rank best, by
    non-domination and crowding among all trials, with their exact costs and predicted losses.
    With several costs, each front breeds its share of every generation.

    Source: Deb et al., A fast and elitist multiobjective genetic algorithm, 2002; the archive of
    all trials takes the place of the population.

    Attributes:
        generation: Subnets in a proposal; small ones learn sooner, large ones keep more workers
            busy.
        population: Trials that may have children.
        crossover: Share of children that have two parents.
        redraw: Share of children that have widths drawn anew; the rest take one step.
        first: Subnets in the first proposal.
        bred: Children for each one that is evaluated; with 1 nothing is predicted.
        exploration: Share of a generation, rounded up, that are the first of the other children.
    """

    generation: int = 16
    population: int = 40
    crossover: float = 0.1
    redraw: float = 0.05
    first: int = 24
    bred: int = 4
    exploration: float = 0.25

    def propose(
        self, problem: Problem, trials: Sequence[Evaluated], rng: np.random.Generator
    ) -> list[Subnet]:
        """The next generation; the first is spread over the costs."""
        archive = Archive.of(problem, trials)
        if not len(archive):
            first = first_generation(problem, self.first, rng)
            return complete(archive, [first], self.first, rng)
        names = list(problem.costs)
        shares = [self.generation * turn // len(names) for turn in range(len(names) + 1)]
        predictor = self._predictor(archive)
        found = []
        for name, before, after in zip(names, shares, shares[1:], strict=False):
            count = after - before
            bred = count * (self.bred if predictor else 1)
            children = bring_up(archive, bred, self._tournaments(archive, name), rng)
            if predictor:
                children = self._promising(archive, predictor, name, children, count)
            found.append(children)
        return complete(archive, found, self.generation, rng)

    def _predictor(self, archive: Archive) -> Predictor | None:
        if self.bred == 1 or np.isfinite(archive.losses).sum() < 2:
            return None
        return Predictor.of(archive)

    def _promising(
        self, archive: Archive, predictor: Predictor, name: str, children: Genomes, count: int
    ) -> Genomes:
        """Those within the cost's limit that rank best among all trials, and some as they come."""
        problem = archive.problem
        inside = problem.within(children, name)
        children = children[inside] if inside.sum() >= count else children
        losses = predictor.scaled(archive.losses)
        means, _ = predictor.predict(children)
        costs = np.log(problem.values(np.concatenate([archive.genomes, children]), name))
        order = best_first(costs, np.concatenate([losses, means])) - len(archive)
        best = order[order >= 0][: count - math.ceil(count * self.exploration)]
        rest = np.setdiff1d(np.arange(len(children)), best)
        chosen: Genomes = children[np.concatenate([best, rest])[:count]]
        return chosen

    def _tournaments(self, archive: Archive, name: str) -> Breed:
        genes = archive.problem.genes
        parents = genes.places(archive.best(name, self.population))
        rate = 1 / max(1, len(genes.counts))

        def breed(count: int, rng: np.random.Generator) -> Places:
            pairs = rng.integers(len(parents), size=(2, 2, count)).min(axis=0)  # best come first
            one, other = parents[pairs]
            kind = rng.random((count, 1))
            crossed, drawn = kind < self.crossover, kind > 1 - self.redraw
            children = np.where(crossed, genes.cross(one, other, rng), genes.step(one, rng))
            return np.where(drawn, genes.redraw(one, rate, rng), children)

        return breed
