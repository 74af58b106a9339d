"""The kinds of elastic numbers: what may be chosen, and what a choice changes in the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gancompress.errors import SpaceError


@dataclass(frozen=True)
class Dimension:
    """One elastic number of a search space.

    Running, extracting and costs follow from what its methods say of a value.

    Attributes:
        members: What follows it; what these are depends on the kind.
        full: The value of the generator itself.
        choices: Candidates, ascending; the last makes the largest network.
    """

    members: tuple[str, ...]
    full: int
    choices: tuple[int, ...]

    kind: ClassVar[str]
    plural: ClassVar[str]  # of the kind, for messages
    least: ClassVar[int] = 1  # value

    def __post_init__(self) -> None:
        bad = [c for c in self.choices if not self.least <= c <= self.full]
        if bad or not self.choices or list(self.choices) != sorted(set(self.choices)):
            raise SpaceError(
                f"candidate {self.plural} {self.choices} of {self.members[0]} must ascend from at "
                f"least {self.least} to at most its full {self.kind} {self.full}"
            )

    def channels(self, value: int) -> dict[str, int]:
        """Channels of each group that it narrows, proportional to the value."""
        return {}


@dataclass(frozen=True)
class Width(Dimension):
    """Channels; the members are groups, and a subnet has the first channels of each.

    Attributes:
        unit: Channels of each group per unit of the value (config strings count in units of ngf).
    """

    unit: int = 1

    kind: ClassVar[str] = "width"
    plural: ClassVar[str] = "widths"

    def channels(self, value: int) -> dict[str, int]:
        """See `Dimension`."""
        return dict.fromkeys(self.members, value * self.unit)


DIMENSIONS: dict[str, type[Dimension]] = {kind.kind: kind for kind in (Width,)}
"""Kinds of dimensions by name."""
