"""Candidates as places: integer genomes that can be drawn, crossed, mutated and stepped."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from gancompress.elastic.space import Genomes, SearchSpace

Places: TypeAlias = npt.NDArray[np.int64]
"""(K, D): for each subnet and dimension, which candidate it takes, counted from the smallest."""
Booleans: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Genes:
    """The candidates of a space as one table.

    Attributes:
        space: The space.
        counts: Number of candidates of each dimension, (D,).
        table: Candidates, (D, largest count); short rows repeat their last.
        full: Values of the generator itself, (D,).
    """

    space: SearchSpace
    counts: npt.NDArray[np.int64]
    table: npt.NDArray[np.int64]
    full: npt.NDArray[np.int64]

    @classmethod
    def of(cls, space: SearchSpace) -> Genes:
        """The genes of a space."""
        counts = [len(dimension.choices) for dimension in space.dimensions]
        longest = max(counts, default=1)
        rows = [d.choices + d.choices[-1:] * (longest - len(d.choices)) for d in space.dimensions]
        table = np.array(rows, np.int64).reshape(len(counts), longest)
        full = np.array([dimension.full for dimension in space.dimensions], np.int64)
        return cls(space, np.array(counts, np.int64), table, full)

    def values(self, places: Places) -> Genomes:
        """Genomes from places; several places may give the same one, see `canonical`."""
        return self.space.canonical(self.table[np.arange(len(self.counts)), places])

    def places(self, genomes: Genomes) -> Places:
        """Places of genomes; what lies between two candidates is put at the smaller, 0 first."""
        below = (genomes[:, :, None] >= self.table).sum(axis=2) - 1
        return np.asarray(np.clip(below, 0, self.counts - 1), np.int64)

    def indices(self, places: Places) -> npt.NDArray[np.int64]:
        """Where the subnets stand in the iteration over the space, (K,); see `genomes_at`."""
        index = np.zeros(len(places), np.int64)
        for gene, count in enumerate(self.counts):
            index = index * count + places[:, gene]
        return index

    def uniform(self, count: int, rng: np.random.Generator) -> Places:
        """Uniform and independent for each dimension."""
        return rng.integers(0, self.counts, (count, len(self.counts)))

    def levelled(self, count: int, rng: np.random.Generator) -> Places:
        """Around one random level for each subnet: small and large ones are as likely as others.

        Uniform draws gather at middling costs, the more so the more dimensions there are.
        """
        level = rng.random((count, 1))
        return rng.binomial(self.counts - 1, level, (count, len(self.counts)))

    def ladder(self) -> Places:
        """The first everywhere, the last everywhere, and equal levels between."""
        levels = np.linspace(0, 1, int(self.counts.max(initial=1)))[:, None]
        return np.rint(levels * (self.counts - 1)).astype(np.int64)

    def cross(self, one: Places, other: Places, rng: np.random.Generator) -> Places:
        """Uniform crossover: each gene from either parent with equal chances."""
        return np.where(rng.random(one.shape) < 0.5, one, other)

    def redraw(self, places: Places, probability: float, rng: np.random.Generator) -> Places:
        """Each gene drawn anew from all its candidates with this probability."""
        drawn = self.uniform(len(places), rng)
        return np.where(rng.random(places.shape) < probability, drawn, places)

    def neighbours(self, places: Places) -> Places:
        """All subnets one step away in one gene, (at most 2 K D, D), with repetitions."""
        steps = np.concatenate([np.eye(len(self.counts)), -np.eye(len(self.counts))])
        moved = (places[:, None] + steps.astype(np.int64)).reshape(-1, len(self.counts))
        return moved[((moved >= 0) & (moved < self.counts)).all(axis=1)]


def keys(genomes: Genomes) -> list[bytes]:
    """A hashable value for each row."""
    return [row.tobytes() for row in np.ascontiguousarray(genomes)]


def unseen(genomes: Genomes, known: Set[bytes]) -> Booleans:
    """Which rows are neither known nor repetitions of an earlier row, (K,)."""
    seen = set(known)
    mask = np.zeros(len(genomes), np.bool_)
    for row, key in enumerate(keys(genomes)):
        if key not in seen:
            seen.add(key)
            mask[row] = True
    return mask
