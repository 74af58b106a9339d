"""Evolution: the published procedure for one budget, and the same spread along the front."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from gancompress.config.schema import Few, Share
from gancompress.elastic.space import Genomes, Subnet
from gancompress.search.genes import Places, unseen
from gancompress.search.problem import Problem
from gancompress.search.searchers.base import (
    Archive,
    Evaluated,
    Searcher,
    complete,
    first_generation,
)

ATTEMPTS = 12  # rounds of children before the rest of a generation is drawn at random


class Evolution(Searcher):
    """Mutation and crossover of the best trials.

    Every trial counts, the last generation's too. Children that were evaluated before are drawn
    again. Without `spread` it is the published procedure: one budget, one answer, the best score
    under the first cost's limit wins, whatever it costs.

    Source: Li et al., GAN Compression, T-PAMI 2022; the defaults are the published settings.

    Attributes:
        generation: Subnets in a proposal.
        parent_ratio: Share of a generation that may have children.
        mutation_ratio: Share of children that are mutants; the rest are crossovers.
        mutate_prob: Probability that a width of a mutant is drawn anew.
        spread: Take parents from the whole front, so that one run serves every budget, and narrow
            children that exceed the limits instead of drawing them again.
    """

    generation: Few = 100
    parent_ratio: Annotated[float, Field(gt=0, le=1)] = 0.25
    mutation_ratio: Share = 0.5
    mutate_prob: Annotated[float, Field(gt=0, le=1)] = 0.2
    spread: bool = True

    def propose(
        self, problem: Problem, trials: Sequence[Evaluated], rng: np.random.Generator
    ) -> list[Subnet]:
        """The next generation; the first is random (spread: over the costs)."""
        archive = Archive.of(problem, trials)
        if not len(archive):
            first = [first_generation(problem, self.generation, rng)] if self.spread else []
            return complete(archive, first, self.generation, rng)
        genes, parents = problem.genes, problem.genes.places(self._parents(archive))

        def mutate(count: int) -> Places:
            chosen = parents[rng.integers(len(parents), size=count)]
            return genes.redraw(chosen, self.mutate_prob, rng)

        def cross(count: int) -> Places:
            one, other = parents[rng.integers(len(parents), size=(2, count))]
            return genes.cross(one, other, rng)

        mutants = round(self.generation * self.mutation_ratio)
        found = [
            self._children(archive, mutants, mutate, rng),
            self._children(archive, self.generation - mutants, cross, rng),
        ]
        return complete(archive, found, self.generation, rng)

    def _parents(self, archive: Archive) -> Genomes:
        count = max(2, round(self.generation * self.parent_ratio))
        names = list(archive.problem.costs)
        if self.spread:
            share = -(-count // len(names))
            return np.concatenate([archive.best(name, share) for name in names])
        inside = np.flatnonzero(archive.problem.within(archive.genomes, names[0]))
        if not len(inside):  # all trials so far fit another cost's limit alone
            inside = np.arange(len(archive))
        order = np.argsort(archive.losses[inside], kind="stable")
        return archive.genomes[inside[order[:count]]]

    def _children(
        self, archive: Archive, count: int, breed: Callable[[int], Places], rng: np.random.Generator
    ) -> Genomes:
        """Distinct new children that fit; fewer where the parents yield no more."""
        problem = archive.problem
        found = archive.genomes[:0]
        for _ in range(ATTEMPTS):
            if len(found) >= count:
                break
            genomes = problem.genes.values(breed(2 * count))
            if self.spread:
                genomes = problem.repair(genomes, rng)
            found = np.concatenate([found, genomes[problem.fits(genomes)]])
            found = found[unseen(found, archive.known)]
        return found[:count]
