"""The kinds of elastic numbers: what may be chosen, and what a choice changes in the network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

import numpy as np

from gancompress.errors import SpaceError

Uses: TypeAlias = tuple[tuple[tuple[int, int], ...], ...]
"""Cases, in any of which a dimension matters: positions of other dimensions and their least value,
all of which must be reached."""

ALWAYS: Uses = ((),)
FULL = 100
"""The image's own resolution, in per cent of its sides."""


@dataclass(frozen=True)
class Dimension:
    """One elastic number of a search space.

    Running, extracting and costs follow from what its methods say of a value.

    Attributes:
        members: What follows it; what these are depends on the kind.
        full: The value of the generator itself.
        choices: Candidates, ascending; the last makes the largest network.
        uses: When it matters; in all other subnets its value is 0.
    """

    members: tuple[str, ...]
    full: int
    choices: tuple[int, ...]
    uses: Uses = field(default=ALWAYS, kw_only=True)

    kind: ClassVar[str]
    plural: ClassVar[str]  # of the kind, for messages
    letter: ClassVar[str]  # before its values in the text form of a subnet
    least: ClassVar[int] = 1  # value

    def __post_init__(self) -> None:
        bad = [c for c in self.choices if not self.least <= c <= self.full]
        if bad or not self.choices or list(self.choices) != sorted(set(self.choices)):
            raise SpaceError(
                f"candidate {self.plural} {self.choices} of {self.members[0]} must ascend from at "
                f"least {self.least} to at most its full {self.kind} {self.full}"
            )

    def allowed(self, values: Any) -> Any:
        """Whether a subnet may have a value, a candidate or not; of an array for each, (K,)."""
        return (values >= self.least) & (values <= self.full)

    def channels(self, value: int) -> dict[str, int]:
        """Channels of each group that it narrows, proportional to the value."""
        return {}

    def dropped(self, value: int) -> frozenset[str]:
        """Branches that it leaves out."""
        return frozenset()

    def kernels(self, value: int) -> dict[str, int]:
        """Sides of the kernels of convolutions; they are the value itself."""
        return {}

    def resolution(self, value: int) -> int:
        """At which share of the image's sides the generator runs, in per cent."""
        return FULL


@dataclass(frozen=True)
class Width(Dimension):
    """Channels; the members are groups, and a subnet has the first channels of each.

    Attributes:
        unit: Channels of each group per unit of the value (config strings count in units of ngf).
    """

    unit: int = 1

    kind: ClassVar[str] = "width"
    plural: ClassVar[str] = "widths"
    letter: ClassVar[str] = ""

    def channels(self, value: int) -> dict[str, int]:
        """See `Dimension`."""
        return dict.fromkeys(self.members, value * self.unit)


@dataclass(frozen=True)
class Depth(Dimension):
    """Branches of one stage (see `find_stages`); a subnet has the first members.

    Source: Cai et al., Once-for-All, ICLR 2020, section 3.3.
    """

    kind: ClassVar[str] = "depth"
    plural: ClassVar[str] = "depths"
    letter: ClassVar[str] = "d"
    least: ClassVar[int] = 0

    def dropped(self, value: int) -> frozenset[str]:
        """See `Dimension`."""
        return frozenset(self.members[value:])


@dataclass(frozen=True)
class KernelSize(Dimension):
    """The side of a convolution's kernel (see `Kernel`); a subnet has its centre.

    Source: Cai et al., Once-for-All, ICLR 2020, section 3.3, there with learned transformations.
    """

    kind: ClassVar[str] = "kernel"
    plural: ClassVar[str] = "kernels"
    letter: ClassVar[str] = "k"

    def allowed(self, values: Any) -> Any:
        """See `Dimension`; what lies between the candidates has no centre or no padding."""
        return np.isin(values, [*self.choices, self.full])

    def kernels(self, value: int) -> dict[str, int]:
        """See `Dimension`."""
        return dict.fromkeys(self.members, value)


@dataclass(frozen=True)
class Resolution(Dimension):
    """At which share of the image's sides the generator runs, in per cent; the member is its input.

    Source: Cai et al., Once-for-All, ICLR 2020, section 3.1, there of the image itself; here the
    image is made smaller before the generator and larger after it.
    """

    kind: ClassVar[str] = "resolution"
    plural: ClassVar[str] = "resolutions"
    letter: ClassVar[str] = "r"

    def allowed(self, values: Any) -> Any:
        """See `Dimension`; others would ask for images of other sides."""
        return np.isin(values, [*self.choices, self.full])

    def resolution(self, value: int) -> int:
        """See `Dimension`."""
        return value


DIMENSIONS: dict[str, type[Dimension]] = {
    kind.kind: kind for kind in (Width, Depth, KernelSize, Resolution)
}
"""Kinds of dimensions by name."""
