"""Who is evaluated next. A chooser proposes; it neither evaluates nor writes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from gancompress.elastic import SearchSpace, Subnet
from gancompress.search.trials import Trial, nondominated_fronts

ATTEMPTS = 200  # draws before a chooser gives up finding a new subnet that fits


class Chooser(Protocol):
    """Proposes generations of subnets."""

    def propose(self, trials: Sequence[Trial], rng: random.Random) -> list[Subnet]:
        """New subnets to evaluate, given all trials so far; empty when there are none left."""


@dataclass
class Exhaustive:
    """Every subnet of the space that fits.

    Attributes:
        space: The space.
        fits: Whether a subnet is within the largest budget.
    """

    space: SearchSpace
    fits: Callable[[Subnet], bool]

    def propose(self, trials: Sequence[Trial], rng: random.Random) -> list[Subnet]:
        """All that are left, in one generation."""
        done = {trial.subnet for trial in trials}
        return [subnet for subnet in self.space if subnet not in done and self.fits(subnet)]


@dataclass
class Evolution:
    """Mutation and crossover of the best trials so far, front by front.

    The published search has one budget and keeps the best under it. This one ranks by
    non-domination in (MACs, loss), so one run serves every budget.

    Source: Li et al., GAN Compression, T-PAMI 2022; population, parents, mutation as there.

    Attributes:
        space: The space.
        fits: Whether a subnet is within the largest budget.
        population: Subnets in a generation.
        parent_ratio: Share of a population that may have children.
        mutation_ratio: Share of children that are mutants; the rest are crossovers.
        mutate_prob: Probability that a width of a mutant is drawn anew.
    """

    space: SearchSpace
    fits: Callable[[Subnet], bool]
    population: int = 100
    parent_ratio: float = 0.25
    mutation_ratio: float = 0.5
    mutate_prob: float = 0.2

    def propose(self, trials: Sequence[Trial], rng: random.Random) -> list[Subnet]:
        """The next generation, without subnets that were evaluated before."""
        known = {trial.subnet for trial in trials}
        if not trials:
            return self._collect(self._first(rng), known)
        parents = self._parents(trials)
        return self._collect(self._children(parents, rng), known)

    def _parents(self, trials: Sequence[Trial]) -> list[Subnet]:
        """The best trials front by front; of a front that does not fit, an even spread in MACs."""
        room = max(2, round(self.population * self.parent_ratio))
        parents: list[Subnet] = []
        for front in nondominated_fronts(trials):
            left = room - len(parents)
            if left <= 0:
                break
            if len(front) > left:
                step = (len(front) - 1) / max(1, left - 1)
                front = [front[round(i * step)] for i in range(left)]
            parents += [trial.subnet for trial in front]
        return parents

    def _first(self, rng: random.Random) -> Iterator[Subnet]:
        """Smallest, largest and equal fractions everywhere, then random ones."""
        steps = max(len(d.choices) for d in self.space.dimensions)
        for step in range(steps):
            yield Subnet(
                tuple(
                    d.choices[min(len(d.choices) - 1, step * len(d.choices) // steps)]
                    for d in self.space.dimensions
                )
            )
        yield self.space.largest()
        while True:
            yield self.space.sample(rng)

    def _children(self, parents: list[Subnet], rng: random.Random) -> Iterator[Subnet]:
        while True:
            if rng.random() < self.mutation_ratio:
                yield self._mutant(rng.choice(parents), rng)
            else:
                yield _crossover(rng.choice(parents), rng.choice(parents), rng)

    def _mutant(self, parent: Subnet, rng: random.Random) -> Subnet:
        return Subnet(
            tuple(
                rng.choice(d.choices) if rng.random() < self.mutate_prob else width
                for width, d in zip(parent.widths, self.space.dimensions, strict=True)
            )
        )

    def _collect(self, source: Iterator[Subnet], known: set[Subnet]) -> list[Subnet]:
        chosen: dict[Subnet, None] = {}
        misses = 0
        for subnet in source:
            shrunk = self._shrink(subnet)
            if shrunk in known or shrunk in chosen:
                misses += 1
            else:
                chosen[shrunk] = None
                misses = 0
            if len(chosen) == self.population or misses > ATTEMPTS:
                break
        return list(chosen)

    def _shrink(self, subnet: Subnet) -> Subnet:
        """Narrow the widest dimension until the subnet fits; terminates at the smallest."""
        while not self.fits(subnet):
            room = [
                (width / d.full, i)
                for i, (width, d) in enumerate(
                    zip(subnet.widths, self.space.dimensions, strict=True)
                )
                if width > d.choices[0]
            ]
            _, widest = max(room)
            lower = [c for c in self.space.dimensions[widest].choices if c < subnet.widths[widest]]
            widths = list(subnet.widths)
            widths[widest] = lower[-1]
            subnet = Subnet(tuple(widths))
        return subnet


def _crossover(one: Subnet, other: Subnet, rng: random.Random) -> Subnet:
    return Subnet(tuple(rng.choice(pair) for pair in zip(one.widths, other.widths, strict=True)))
