"""Predictor-guided search: propose where the front can still move."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gancompress.config.schema import Few, Share
from gancompress.elastic.space import Genomes, Subnet
from gancompress.search.front import front_indices
from gancompress.search.genes import keys, unseen
from gancompress.search.problem import Floats, Problem
from gancompress.search.searchers.acquisition import StepFront
from gancompress.search.searchers.base import (
    Archive,
    Evaluated,
    Searcher,
    complete,
    first_generation,
)
from gancompress.search.searchers.predictor import Predictor, features_of
from gancompress.search.searchers.regressor import kendall_tau

LISTED = 20_000  # spaces with fewer subnets left are predicted as a whole
WALKS = 6  # rounds of neighbours of the predicted front
SHORTLIST = 600  # subnets among which a batch is chosen, for all costs together
FOLDS = 5


class Guided(Searcher):
    """A Gaussian process on the trials so far proposes what should move the fronts most.

    The cost of every subnet is known, the loss is predicted with its uncertainty. The predicted
    front is improved over tens of thousands of subnets; a batch is chosen from those near it by
    expected hypervolume improvement, each choice believed before the next, each cost in turn. A
    share of every batch comes from the neighbourhood of the front without a look at the
    predictor, so a wrong predictor delays the search but cannot stop it.

    Attributes:
        generation: Subnets in a proposal.
        first: Subnets in the first proposal.
        exploration: Share of a generation that the predictor has no say in.
    """

    generation: Few = 16
    first: Few = 24
    exploration: Share = 0.25

    def propose(
        self, problem: Problem, trials: Sequence[Evaluated], rng: np.random.Generator
    ) -> list[Subnet]:
        """The next generation; the first is spread over the costs."""
        archive = Archive.of(problem, trials)
        if len(archive) < 2 or not np.isfinite(archive.losses).any():
            count = max(2, self.first - len(archive))
            return complete(archive, [first_generation(problem, count, rng)], count, rng)
        predictor = Predictor.of(archive)
        free = round(self.generation * self.exploration)
        pool = candidates(archive, predictor, rng)
        chosen = choose(archive, predictor, pool, self.generation - free)
        known = archive.known | frozenset(keys(chosen))
        around = _neighbours(archive, archive_front(archive))
        around = rng.permutation(around[unseen(around, known)])[:free]
        return complete(archive, [chosen, around], self.generation, rng)

    def diagnose(self, problem: Problem, trials: Sequence[Evaluated]) -> dict[str, float]:
        """How far the predictor can be believed, by cross-validation over `FOLDS` parts.

        Returns:
            `kendall_tau`: rank agreement of predicted and true losses, in [-1, 1]; `held_out`:
            number of trials that were predicted; `inside`: share of them within two predicted
            standard deviations, about 0.95 where the uncertainty is right. Nothing where there are
            too few trials, or all losses are equal.
        """
        archive = Archive.of(problem, trials)
        rows = np.flatnonzero(np.isfinite(archive.losses))
        if len(rows) < 2 * FOLDS:
            return {}
        order = np.random.default_rng(0).permutation(rows)
        errors, means = np.empty(len(archive)), np.empty(len(archive))
        for fold in range(FOLDS):
            held = order[fold::FOLDS]
            rest = np.setdiff1d(order, held)
            model = Predictor.of(Archive(problem, archive.genomes[rest], archive.losses[rest]))
            means[held], std = model.predict(archive.genomes[held])
            spread = np.sqrt(std**2 + model.process.noise)
            errors[held] = (model.scaled(archive.losses[held]) - means[held]) / spread
        inside = float((np.abs(errors[rows]) <= 2).mean())
        tau = kendall_tau(means[rows], archive.losses[rows])
        found = {"kendall_tau": tau, "held_out": len(rows), "inside": inside}
        return {} if math.isnan(tau) else found


def archive_front(archive: Archive) -> Genomes:
    """Subnets on any of the fronts."""
    found = [archive.genomes[:0]]
    for name in archive.problem.costs:
        costs = archive.problem.values(archive.genomes, name)
        inside = np.flatnonzero(archive.problem.within(archive.genomes, name))
        found.append(archive.genomes[inside[front_indices(costs[inside], archive.losses[inside])]])
    return np.concatenate(found)


def _neighbours(archive: Archive, genomes: Genomes) -> Genomes:
    """New subnets one step away that fit."""
    problem = archive.problem
    around = problem.genes.values(problem.genes.neighbours(problem.genes.places(genomes)))
    around = around[unseen(around, archive.known)]
    return around[problem.fits(around)]


def candidates(archive: Archive, predictor: Predictor, rng: np.random.Generator) -> Genomes:
    """All subnets that are left; of large spaces random ones and a walk along the front."""
    problem = archive.problem
    if problem.space.size <= LISTED:
        return problem.space.genomes_at(problem.left(archive.genomes))
    levelled = problem.repair(problem.genes.values(problem.genes.levelled(4000, rng)), rng)
    drawn = problem.draw(4000, rng, archive.genomes)
    pool = np.concatenate([drawn, levelled, archive.genomes])
    pool = pool[unseen(pool, frozenset())]
    means, stds = predictor.predict(pool)
    for _ in range(WALKS):
        edge = optimistic_front(problem, pool, means - stds)
        parents = problem.genes.places(edge)
        one, other = parents[rng.integers(len(parents), size=(2, 4 * len(parents)))]
        crossed = problem.repair(problem.genes.values(problem.genes.cross(one, other, rng)), rng)
        new = np.concatenate([_neighbours(archive, edge), crossed])
        new = new[unseen(new, frozenset(keys(pool)))]
        mean, std = predictor.predict(new)
        pool = np.concatenate([pool, new])
        means, stds = np.concatenate([means, mean]), np.concatenate([stds, std])
    return pool[unseen(pool, archive.known)]


def optimistic_front(problem: Problem, genomes: Genomes, losses: Floats) -> Genomes:
    """Subnets on the first front of each cost, at most a hundred for each, evenly spaced."""
    found = []
    for name in problem.costs:
        inside = np.flatnonzero(problem.within(genomes, name))
        front = front_indices(problem.values(genomes[inside], name), losses[inside])
        if len(front) > 100:
            front = front[np.linspace(0, len(front) - 1, 100).astype(np.int64)]
        found.append(genomes[inside[front]])
    return np.concatenate(found)


def choose(archive: Archive, predictor: Predictor, pool: Genomes, count: int) -> Genomes:
    """A batch by expected hypervolume improvement, one after the other."""
    if not len(pool):
        return pool
    problem, names = archive.problem, list(archive.problem.costs)
    losses = predictor.scaled(archive.losses)
    fronts = {name: StepFront.of(_places(problem, archive.genomes, name), losses) for name in names}
    means, stds = predictor.predict(pool)
    listed = np.zeros(len(pool), np.bool_)
    for name in names:
        gain = fronts[name].expected_gain(_places(problem, pool, name), means, stds)
        listed[np.argsort(-gain, kind="stable")[: SHORTLIST // len(names)]] = True
    shortlist = pool[listed]
    covariance = predictor.process.covariance(features_of(problem, shortlist))
    places = {name: _places(problem, shortlist, name) for name in names}
    batch = Batch(covariance, means[listed], places, fronts, predictor.process.noise)
    picked = [batch.pick(names[turn % len(names)]) for turn in range(min(count, len(shortlist)))]
    return shortlist[picked]


def _places(problem: Problem, genomes: Genomes, name: str) -> Floats:
    """On the logarithmic axis of a cost: 0 at the smallest, 1 at the limit."""
    low, high = problem.span(name)
    values = problem.values(genomes, name)
    if high <= low:
        return np.where(values <= high, 0.0, 2.0)
    places = np.log(values / low) / np.log(high / low)
    return np.where(values <= high, np.minimum(places, 1.0), 2.0)


@dataclass(eq=False)
class Batch:
    """Picks one after the other; each is believed to come out as predicted.

    Attributes:
        covariance: Of the predictions given everything picked, (S, S).
        means: (S,).
        places: For each cost, (S,).
        fronts: For each cost, the front with everything picked.
        noise: Variance of a measurement.
    """

    covariance: Floats
    means: Floats
    places: dict[str, Floats]
    fronts: dict[str, StepFront]
    noise: float

    def __post_init__(self) -> None:
        self.taken = np.zeros(len(self.means), np.bool_)

    def pick(self, name: str) -> int:
        """The one that should move this cost's front most; where none would, the least known."""
        std = np.sqrt(np.maximum(np.diagonal(self.covariance), 1e-12))
        gain = self.fronts[name].expected_gain(self.places[name], self.means, std)
        value = gain if gain[~self.taken].max() > 0 else std
        best = int(np.where(self.taken, -np.inf, value).argmax())
        self.taken[best] = True
        column = self.covariance[best].copy()
        self.covariance -= np.outer(column, column) / (column[best] + self.noise)
        for cost, places in self.places.items():
            self.fronts[cost] = self.fronts[cost].added(float(places[best]), self.means[best])
        return best
