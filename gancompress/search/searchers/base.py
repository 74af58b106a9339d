"""What all searchers share: the interface, what has been found, the first generation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np

from gancompress.config.schema import Few, SearcherOptions
from gancompress.elastic.space import Genomes, SearchSpace, Subnet
from gancompress.search.front import best_first
from gancompress.search.genes import keys, unseen
from gancompress.search.problem import Floats, Problem


class Evaluated(Protocol):
    """A trial, as far as a searcher looks at it."""

    @property
    def subnet(self) -> Subnet:
        """What was evaluated."""

    @property
    def loss(self) -> float:
        """The score, lower is better; infinite or not a number where it failed."""


class Searcher(SearcherOptions, ABC):
    """Proposes generations of subnets; its fields are the options that it takes.

    A proposal is a function of its arguments, and the order of the trials does not matter: a
    search that was killed goes on from its log as if nothing had happened, and workers may
    finish in any order. Take `generation_rng` for that.

    Attributes:
        name: In the table of searchers, where it was chosen by name.
        generation: Subnets in a proposal.
    """

    name: str = ""
    generation: Few = 100
    lists_all: ClassVar[bool] = False  # it ends by itself, whatever the number of trials asked for

    @abstractmethod
    def propose(
        self, problem: Problem, trials: Sequence[Evaluated], rng: np.random.Generator
    ) -> list[Subnet]:
        """Subnets to evaluate next: new, distinct, within the limits; empty when none is left.

        Raises:
            BudgetError: Nothing fits a budget.
        """

    def check(self, space: SearchSpace) -> None:
        """Raise unless this space can be searched; at once, before anything is evaluated.

        Raises:
            ConfigError: It cannot.
        """

    def diagnose(self, problem: Problem, trials: Sequence[Evaluated]) -> dict[str, float]:
        """What it says of itself at the end of a search, by name; most have nothing to say."""
        return {}


def generation_rng(seed: int, num_trials: int) -> np.random.Generator:
    """The randomness of the generation that follows this number of trials."""
    return np.random.default_rng([seed, num_trials])


@dataclass(frozen=True, eq=False)
class Archive:
    """All trials as arrays, in the order of their genomes.

    Attributes:
        problem: What is searched.
        genomes: (K, D).
        losses: (K,); infinite where the loss is not a number.
    """

    problem: Problem
    genomes: Genomes
    losses: Floats

    @classmethod
    def of(cls, problem: Problem, trials: Sequence[Evaluated]) -> Archive:
        """From trials in any order.

        Raises:
            BudgetError: Nothing fits a budget.
        """
        problem.check()
        genomes = problem.space.genomes(trial.subnet for trial in trials)
        losses = np.array([trial.loss for trial in trials], np.float64)
        order = np.lexsort((losses, *genomes.T[::-1]))
        ordered = losses[order]
        return cls(problem, genomes[order], np.where(np.isnan(ordered), np.inf, ordered))

    def __len__(self) -> int:
        return len(self.genomes)

    @cached_property
    def known(self) -> frozenset[bytes]:
        """Keys of all genomes."""
        return frozenset(keys(self.genomes))

    def best(self, name: str, count: int) -> Genomes:
        """The best trials by non-domination in (log cost, loss), the least crowded first.

        Those within the cost's limit; all of them where there is none within it.
        """
        costs = np.log(self.problem.values(self.genomes, name))
        inside = np.flatnonzero(self.problem.within(self.genomes, name))
        if not len(inside):
            inside = np.arange(len(self))
        order = best_first(costs[inside], self.losses[inside])
        return self.genomes[inside[order[:count]]]


def first_generation(problem: Problem, count: int, rng: np.random.Generator) -> Genomes:
    """The cheapest subnets, uniform levels of width, and random ones spread over the costs."""
    genes = problem.genes
    cheapest = problem.space.genomes(subnet for subnet, _ in problem.cheapest.values())
    ladder = problem.repair(genes.values(genes.ladder()), rng)
    start = _distinct(np.concatenate([cheapest, ladder]), frozenset())[:count]
    levelled = problem.repair(genes.values(genes.levelled(8 * count, rng)), rng)
    drawn = problem.draw(8 * count, rng, start)
    pool = _distinct(np.concatenate([drawn, levelled]), frozenset(keys(start)))
    return np.concatenate([start, _spread(problem, pool, count - len(start), rng)])


def _spread(problem: Problem, pool: Genomes, count: int, rng: np.random.Generator) -> Genomes:
    """Evenly over the logarithm of each cost in turn."""
    chosen: list[int] = []
    names = list(problem.costs)
    for turn, name in enumerate(names):
        share = count * (turn + 1) // len(names) - count * turn // len(names)
        places = np.log(problem.values(pool, name))
        left = np.setdiff1d(np.arange(len(pool)), chosen)
        for target in np.linspace(places.min(initial=0), places.max(initial=0), share):
            if len(left):
                nearest = int(np.abs(places[left] - target).argmin())
                chosen.append(int(left[nearest]))
                left = np.delete(left, nearest)
    return pool[chosen]


def complete(
    archive: Archive, batches: Sequence[Genomes], count: int, rng: np.random.Generator
) -> list[Subnet]:
    """The first new ones of some batches, filled up at random to `count` where possible."""
    problem = archive.problem
    genomes = _distinct(np.concatenate([*batches, archive.genomes[:0]]), archive.known)[:count]
    missing = count - len(genomes)
    if missing:
        known = np.concatenate([archive.genomes, genomes])
        genomes = np.concatenate([genomes, problem.draw(missing, rng, known)])
    return problem.space.subnets(genomes)


def _distinct(genomes: Genomes, known: frozenset[bytes]) -> Genomes:
    return genomes[unseen(genomes, known)]
