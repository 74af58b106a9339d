"""Channel variables: which dimensions of which tensors must have the same width."""

from __future__ import annotations

from dataclasses import dataclass, field

Layout = tuple[int, ...]
"""Channel variables that lie one after another along one dimension of a tensor."""

Dims = tuple[Layout | None, ...]
"""The layout of every dimension of a tensor; None where the length is fixed."""


@dataclass
class Channels:
    """A union-find over channel variables.

    Attributes:
        sizes: Full width of each variable.
        origins: Where each variable was made: the name of a module or parameter.
    """

    sizes: list[int] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)
    _parents: list[int] = field(default_factory=list)
    _pinned: set[int] = field(default_factory=set)

    def new(self, size: int, origin: str) -> Layout:
        """A variable of its own."""
        self.sizes.append(size)
        self.origins.append(origin)
        self._parents.append(len(self._parents))
        return (len(self._parents) - 1,)

    def find(self, variable: int) -> int:
        """The earliest variable tied to this one."""
        while self._parents[variable] != variable:
            variable = self._parents[variable]
        return variable

    def tie(self, one: Layout | None, other: Layout | None) -> Layout | None:
        """Make two dimensions of equal length move together; returns their common layout.

        Where they are cut into different segments, or one of them is fixed, both are pinned.
        """
        if one is None or other is None:
            self.pin(one)
            self.pin(other)
            return one or other
        if [self.sizes[v] for v in one] != [self.sizes[v] for v in other]:
            self.pin(one)
            self.pin(other)
            return one
        for first, second in zip(one, other, strict=True):
            early, late = sorted((self.find(first), self.find(second)))
            self._parents[late] = early
            if late in self._pinned:
                self._pinned.add(early)
        return one

    def pin(self, layout: Layout | None) -> None:
        """Keep a dimension at its full width for ever."""
        self._pinned.update(self.find(v) for v in layout or ())

    def is_pinned(self, variable: int) -> bool:
        """Whether a variable keeps its full width."""
        return self.find(variable) in self._pinned

    def width(self, layout: Layout) -> int:
        """Full width of a layout."""
        return sum(self.sizes[v] for v in layout)
