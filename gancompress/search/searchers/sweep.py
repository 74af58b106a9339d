"""Searchers that learn nothing: every subnet, and random ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from gancompress.elastic.space import SearchSpace, Subnet
from gancompress.errors import ConfigError
from gancompress.search.problem import Problem
from gancompress.search.searchers.base import Archive, Evaluated, Searcher, complete

LARGEST = 10_000_000


class Exhaustive(Searcher):
    """Every subnet that fits, in the order of the space."""

    lists_all: ClassVar[bool] = True

    def check(self, space: SearchSpace) -> None:
        """See `Searcher`.

        Raises:
            ConfigError: The space has more than `LARGEST` subnets.
        """
        if space.size > LARGEST:
            raise ConfigError(
                f"{space.size:,} subnets are too many for an exhaustive search, which "
                f"takes spaces of up to {LARGEST:,}; choose guided"
            )

    def propose(
        self, problem: Problem, trials: Sequence[Evaluated], rng: np.random.Generator
    ) -> list[Subnet]:
        """The next ones.

        Raises:
            ConfigError: The space has more than `LARGEST` subnets.
            BudgetError: Nothing fits a budget.
        """
        self.check(problem.space)
        archive = Archive.of(problem, trials)
        left = problem.left(archive.genomes)[: self.generation]
        return problem.space.subnets(problem.space.genomes_at(left))


class RandomSearch(Searcher):
    """Distinct random subnets that fit."""

    def propose(
        self, problem: Problem, trials: Sequence[Evaluated], rng: np.random.Generator
    ) -> list[Subnet]:
        """Some more."""
        return complete(Archive.of(problem, trials), [], self.generation, rng)
