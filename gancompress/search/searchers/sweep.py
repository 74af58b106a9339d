"""Searchers that learn nothing: every subnet, and random ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gancompress.elastic.space import SearchSpace, Subnet
from gancompress.errors import ConfigError
from gancompress.search.problem import Problem
from gancompress.search.searchers.base import Archive, Evaluated, complete

LARGEST = 10_000_000


def refuse_large(space: SearchSpace) -> None:
    """Raise unless all subnets of a space can be listed.

    Raises:
        ConfigError: It has more than `LARGEST` subnets.
    """
    if space.size > LARGEST:
        raise ConfigError(
            f"{space.size:,} subnets are too many for an exhaustive search, which "
            f"takes spaces of up to {LARGEST:,}; choose guided or nsga2"
        )


@dataclass(frozen=True)
class Exhaustive:
    """Every subnet that fits, in the order of the space.

    Attributes:
        generation: Subnets in a proposal.
    """

    generation: int = 100

    def propose(
        self, problem: Problem, trials: Sequence[Evaluated], rng: np.random.Generator
    ) -> list[Subnet]:
        """The next ones.

        Raises:
            ConfigError: The space has more than `LARGEST` subnets.
            BudgetError: Nothing fits a budget.
        """
        refuse_large(problem.space)
        archive = Archive.of(problem, trials)
        left = problem.left(archive.genomes)[: self.generation]
        return problem.space.subnets(problem.space.genomes_at(left))


@dataclass(frozen=True)
class RandomSearch:
    """Distinct random subnets that fit.

    Attributes:
        generation: Subnets in a proposal.
    """

    generation: int = 100

    def propose(
        self, problem: Problem, trials: Sequence[Evaluated], rng: np.random.Generator
    ) -> list[Subnet]:
        """Some more."""
        return complete(Archive.of(problem, trials), [], self.generation, rng)
