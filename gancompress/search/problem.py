"""What is searched: a space, what its subnets cost, and the largest budgets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from gancompress.cost import format_count
from gancompress.elastic.space import Genomes, SearchSpace, Subnet
from gancompress.errors import BudgetError, ConfigError
from gancompress.search.genes import Booleans, Genes, Places, keys, unseen

Floats: TypeAlias = npt.NDArray[np.float64]
CostFunction: TypeAlias = Callable[[Genomes], npt.NDArray[np.float64]]
"""From genomes (K, D) to their costs (K,), all positive."""

ENUMERABLE = 500_000  # up to this size all subnets that fit are listed: draws are exact
CHUNK = 65_536


@dataclass(frozen=True, eq=False)
class Problem:
    """A space with named costs; what a searcher may propose.

    A subnet fits if it is within the limit of at least one cost: one search serves several
    budgets and devices, and each is answered from the subnets within its own limit.

    Attributes:
        space: The space.
        costs: Name ("macs", "params", "latency_ms@phone") -> vectorised cost.
        limits: Largest budget of each cost; a cost that is not named has no limit.
    """

    space: SearchSpace
    costs: Mapping[str, CostFunction]
    limits: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.costs:
            raise ConfigError("a search needs at least one cost, such as macs")
        stray = [name for name in self.limits if name not in self.costs]
        if stray:
            raise ConfigError(f"a limit for {stray[0]}, but costs are {', '.join(self.costs)}")

    # -- costs and limits ---------------------------------------------------------------

    def limit(self, name: str) -> float:
        """Largest budget of a cost, infinite where there is none."""
        return float(self.limits.get(name, math.inf))

    def values(self, genomes: Genomes, name: str) -> Floats:
        """One cost of many subnets, (K,)."""
        return np.asarray(self.costs[name](genomes), np.float64)

    def within(self, genomes: Genomes, name: str) -> Booleans:
        """Which subnets are within the limit of one cost, (K,)."""
        if math.isinf(self.limit(name)):
            return np.ones(len(genomes), np.bool_)
        return self.values(genomes, name) <= self.limit(name)

    def fits(self, genomes: Genomes) -> Booleans:
        """Which subnets are within the limit of at least one cost, (K,)."""
        mask = np.zeros(len(genomes), np.bool_)
        for name in self.costs:
            left = np.flatnonzero(~mask)
            if len(left):
                mask[left] = self.within(genomes[left], name)
        return mask

    def span(self, name: str) -> tuple[float, float]:
        """Smallest cost, and the limit or, where it is lower, the cost of the largest subnet."""
        largest = self.space.genomes([self.space.largest()])
        high = min(self.limit(name), float(self.values(largest, name)[0]))
        low = self.cheapest[name][1]
        return low, max(low, high)

    @cached_property
    def cheapest(self) -> dict[str, tuple[Subnet, float]]:
        """For each cost the cheapest subnet and its cost.

        Exact in spaces of up to `ENUMERABLE` subnets. Beyond, by descent from the narrowest: exact
        for costs that grow with every width (MACs, parameters), a local minimum for measured ones,
        where a wider layer may be faster.
        """
        find = self._look_everywhere if self.space.size <= ENUMERABLE else self._descend
        return {name: find(name) for name in self.costs}

    def _look_everywhere(self, name: str) -> tuple[Subnet, float]:
        best, lowest = self._descend(name)
        for start in range(0, self.space.size, CHUNK):
            genomes = self.space.genomes_at(np.arange(start, min(start + CHUNK, self.space.size)))
            values = self.values(genomes, name)
            if values.min() < lowest:
                lowest = float(values.min())
                best = self.space.subnets(genomes[[int(values.argmin())]])[0]
        return best, lowest

    def _descend(self, name: str) -> tuple[Subnet, float]:
        best = self.space.genomes([self.space.smallest()])
        lowest = float(self.values(best, name)[0])
        while len(around := self.genes.values(self.genes.neighbours(self.genes.places(best)))):
            values = self.values(around, name)
            if values.min() >= lowest:
                break
            lowest, best = float(values.min()), around[[int(values.argmin())]]
        return self.space.subnets(best)[0], lowest

    def check(self) -> None:
        """Refuse a budget that nothing fits, before anything runs.

        Raises:
            BudgetError: The smallest cost exceeds a limit.
        """
        for name in self.costs:
            subnet, cost = self.cheapest[name]
            if cost > self.limit(name):
                limit = format_count(self.limit(name))
                raise BudgetError(
                    f"no subnet fits {name} {limit}: the smallest ({subnet}) needs "
                    f"{format_count(cost)}.\n"
                    "  Raise the budget, or add smaller widths to student.widths and train again."
                )

    # -- subnets that fit ---------------------------------------------------------------

    @cached_property
    def genes(self) -> Genes:
        """The candidate widths."""
        return Genes.of(self.space)

    @cached_property
    def fitting(self) -> npt.NDArray[np.int64]:
        """Places among all rows of candidates of all subnets that fit, ascending.

        For spaces of up to some millions: costs of all subnets are computed.
        """
        parts = []
        for start in range(0, self.space.size, CHUNK):
            indices = np.arange(start, min(start + CHUNK, self.space.size))
            genomes = self.space.genomes_at(indices)
            own = self.genes.indices(self.genes.places(genomes)) == indices  # one row for each
            indices, genomes = indices[own], genomes[own]
            parts.append(indices[self.fits(genomes)])
        return np.concatenate(parts)

    def left(self, known: Genomes) -> npt.NDArray[np.int64]:
        """`fitting` without known subnets."""
        places = self.genes.places(known)
        candidates = (self.genes.values(places) == known).all(axis=1)
        left = np.isin(self.fitting, self.genes.indices(places[candidates]), invert=True)
        return np.asarray(self.fitting[left], np.int64)

    def repair(self, genomes: Genomes, rng: np.random.Generator) -> Genomes:
        """Narrow the relatively widest gene of each misfit until it fits; ties at random.

        Raises:
            BudgetError: See `check`.
        """
        places = self.genes.places(genomes)
        misfits = np.flatnonzero(~self.fits(self.genes.values(places)))
        while len(misfits):
            here = places[misfits]
            places[misfits] = self._narrowed(here, rng)
            stuck = (here == 0).all(axis=1)
            misfits = misfits[~stuck]
            misfits = misfits[~self.fits(self.genes.values(places[misfits]))]
        return self.genes.values(places)

    def _narrowed(self, places: Places, rng: np.random.Generator) -> Places:
        """One step; what cannot be narrowed becomes a subnet that fits."""
        anchor = self._anchor
        share = self.genes.values(places) / self.genes.full
        share = np.where(places > 0, share + 1e-6 * rng.random(share.shape), -1.0)
        narrowed = places.copy()
        rows = np.arange(len(places))
        narrowed[rows, share.argmax(axis=1)] -= 1
        narrowed[(places == 0).all(axis=1)] = anchor
        return narrowed

    @cached_property
    def _anchor(self) -> Places:
        """A subnet that fits, (D,)."""
        self.check()
        subnet = self.cheapest[next(iter(self.costs))][0]
        return np.asarray(self.genes.places(self.space.genomes([subnet]))[0], np.int64)

    def draw(self, count: int, rng: np.random.Generator, known: Genomes) -> Genomes:
        """Distinct random subnets that fit and are not known; fewer where fewer are left.

        Uniform among all that fit in spaces of up to `ENUMERABLE` subnets. Beyond, by rejection
        as long as that yields enough, then also from narrowed misfits, at last by walking from
        the cheapest subnet; it ends however few fit.

        Raises:
            BudgetError: See `check`.
        """
        self.check()
        if self.space.size <= ENUMERABLE:
            indices = self.left(known)
            chosen = rng.choice(indices, min(count, len(indices)), replace=False)
            return self.space.genomes_at(chosen)
        found = self._sample(count, rng, set(keys(known)))
        if len(found) < count:
            more = self._walk(count - len(found), set(keys(known)) | set(keys(found)))
            found = np.concatenate([found, more])
        return found

    def _sample(self, count: int, rng: np.random.Generator, seen: set[bytes]) -> Genomes:
        """By rejection while one draw in a hundred fits, then by repair while that finds any."""
        found = np.empty((0, len(self.space)), np.int64)
        fitting, repairing = True, False
        while len(found) < count and (fitting or repairing):
            missing = count - len(found)
            drawn = self.genes.uniform(missing if repairing else max(1024, 2 * missing), rng)
            genomes = self.genes.values(drawn)
            genomes = self.repair(genomes, rng) if repairing else genomes[self.fits(genomes)]
            genomes = genomes[unseen(genomes, seen)]
            enough = len(genomes) * (4 if repairing else 100) >= len(drawn)
            fitting, repairing = (
                fitting and enough,
                (repairing and enough) or (fitting and not enough),
            )
            seen = seen | set(keys(genomes[:missing]))
            found = np.concatenate([found, genomes[:missing]])
        return found

    def _walk(self, count: int, known: set[bytes]) -> Genomes:
        """From neighbour to neighbour, starting at a subnet that fits.

        Where costs grow with the widths, everything that fits can be reached so.
        """
        edge = self.genes.values(self._anchor[None])
        seen = set(keys(edge))
        found = [edge[unseen(edge, known)]]
        while sum(map(len, found)) < count and len(edge):
            edge = self.genes.values(self.genes.neighbours(self.genes.places(edge)))
            edge = edge[unseen(edge, seen)]
            edge = edge[self.fits(edge)]
            seen.update(keys(edge))
            found.append(edge[unseen(edge, known)])
        return np.concatenate(found)[:count]
