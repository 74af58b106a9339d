"""Channel variables: which dimensions of which tensors must have the same width."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

Layout = tuple[int, ...]
"""Channel variables that lie one after another along one dimension of a tensor."""

Dims = tuple[Layout | None, ...]
"""The layout of every dimension of a tensor; None where the length is fixed."""

Segment = tuple[int, int]
"""A root variable, and how many entries of a dimension each of its channels has."""


@dataclass
class Channels:
    """A union-find over channel variables, which may also consist of others.

    A variable that is no root is made of segments of others: it was tied to one, cut in pieces, or
    has several entries for each channel of another.

    Attributes:
        sizes: Full length of each variable.
        origins: Where each variable was made: the name of a module or parameter.
        ranks: The order of execution; pieces of a variable come where it came.
    """

    sizes: list[int] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)
    ranks: list[tuple[int, ...]] = field(default_factory=list)
    _made_of: dict[int, tuple[Segment, ...]] = field(default_factory=dict)
    _pinned: set[int] = field(default_factory=set)

    def new(self, size: int, origin: str, rank: tuple[int, ...] = ()) -> Layout:
        """A variable of its own."""
        self.sizes.append(size)
        self.origins.append(origin)
        self.ranks.append(rank or (len(self.sizes) - 1,))
        return (len(self.sizes) - 1,)

    def segments(self, layout: Layout | None) -> list[Segment]:
        """What a dimension is made of in the end."""
        return [found for variable in layout or () for found in self._resolve(variable, 1)]

    def _resolve(self, variable: int, factor: int) -> Iterator[Segment]:
        if variable not in self._made_of:
            yield variable, factor
            return
        for inner, own in self._made_of[variable]:
            yield from self._resolve(inner, factor * own)

    def _define(self, variable: int, segments: Sequence[Segment]) -> None:
        """Make a root of others, which keep their width if it does."""
        self._made_of[variable] = tuple(segments)
        if variable in self._pinned:
            self._pinned.update(inner for inner, _ in segments)

    def tie(self, one: Layout | None, other: Layout | None) -> Layout | None:
        """Make two dimensions of equal length move together; returns their common layout.

        Where one of them is fixed, or they cannot be cut at the same places, both are pinned.
        """
        if one is None or other is None:
            self.pin(one)
            self.pin(other)
            return one or other
        if self.width(one) != self.width(other):
            raise ValueError(f"lengths {self.width(one)} and {self.width(other)} are tied")
        bounds = sorted({*self._bounds(one), *self._bounds(other)})
        while self._bounds(one) != bounds or self._bounds(other) != bounds:
            if not (self._cut(one, bounds) and self._cut(other, bounds)):
                self.pin(one)
                self.pin(other)
                return one
            bounds = sorted({*bounds, *self._bounds(one), *self._bounds(other)})
        for place in range(len(bounds)):
            if not self._unite(self.segments(one)[place], self.segments(other)[place]):
                self.pin(one)
                self.pin(other)
        return one

    def _bounds(self, layout: Layout) -> list[int]:
        """Where the segments of a dimension end."""
        ends, total = [], 0
        for variable, factor in self.segments(layout):
            total += self.sizes[variable] * factor
            ends.append(total)
        return ends

    def _cut(self, layout: Layout, bounds: Sequence[int]) -> bool:
        """Cut segments so that they end at these places too; False where one cannot."""
        for bound in bounds:
            start = 0
            for variable, factor in self.segments(layout):
                end = start + self.sizes[variable] * factor
                if start < bound < end:
                    if (bound - start) % factor:
                        return False
                    self._split(variable, (bound - start) // factor)
                    break
                start = end
        return True

    def _split(self, variable: int, size: int) -> None:
        origin, rank = self.origins[variable], self.ranks[variable]
        first = self.new(size, origin, (*rank, 0))
        second = self.new(self.sizes[variable] - size, origin, (*rank, 1))
        self._define(variable, [(first[0], 1), (second[0], 1)])

    def _unite(self, one: Segment, other: Segment) -> bool:
        """Make two segments of equal length move together; False where no unit fits both."""
        early, late = sorted((one, other), key=lambda segment: self.ranks[segment[0]])
        if early[0] == late[0]:
            return early[1] == late[1]
        if not self._coarsen(early, late[1]):
            return False
        (root, unit), *_ = self._resolve(*early)
        self._define(late[0], [(root, unit // late[1])])
        return True

    def _coarsen(self, segment: Segment, unit: int) -> bool:
        """Make a segment move in whole units of entries; False where it has no such number."""
        variable, factor = segment
        length, step = self.sizes[variable] * factor, math.lcm(factor, unit)
        if length % step:
            return False
        if step != factor:
            size = length // step
            coarse = self.new(size, self.origins[variable], self.ranks[variable])
            self._define(variable, [(coarse[0], step // factor)])
        return True

    def in_units(self, layout: Layout | None, unit: int) -> Layout | None:
        """A dimension that moves in whole units of entries, counted in units.

        None, and all is pinned, where its segments do not end with a unit.
        """
        if layout is None:
            return None
        for place in range(len(self.segments(layout))):  # coarsening one may change a later one
            if not self._coarsen(self.segments(layout)[place], unit):
                self.pin(layout)
                return None
        return tuple(self._times(v, factor // unit) for v, factor in self.segments(layout))

    def repeated(self, layout: Layout | None, count: int) -> Layout | None:
        """A dimension with `count` entries for each of another."""
        if layout is None:
            return None
        return tuple(self._times(v, factor * count) for v, factor in self.segments(layout))

    def _times(self, variable: int, factor: int) -> int:
        if factor == 1:
            return variable
        size, origin = self.sizes[variable] * factor, self.origins[variable]
        derived = self.new(size, origin, self.ranks[variable])[0]
        self._define(derived, [(variable, factor)])
        return derived

    def in_equal_parts(self, layout: Layout | None, count: int) -> Layout | None:
        """The layout that all of so many equal parts of a dimension have; None if there is none."""
        if layout is None:
            return None
        length = self.width(layout) // count
        if not self._cut(layout, [length * part for part in range(1, count)]):
            self.pin(layout)
            return None
        parts: list[list[int]] = [[] for _ in range(count)]
        start = 0
        for variable, factor in self.segments(layout):
            parts[start // length].append(self._times(variable, factor))
            start += self.sizes[variable] * factor
        first = tuple(parts[0])
        for part in parts[1:]:
            self.tie(first, tuple(part))
        return first

    def pin(self, layout: Layout | None) -> None:
        """Keep a dimension at its full width for ever."""
        self._pinned.update(variable for variable, _ in self.segments(layout))

    def is_pinned(self, variable: int) -> bool:
        """Whether a variable keeps its full width."""
        return all(root in self._pinned for root, _ in self._resolve(variable, 1))

    def width(self, layout: Layout) -> int:
        """Full width of a layout."""
        return sum(self.sizes[v] for v in layout)
