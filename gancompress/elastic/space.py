"""The search space: what a subnet may look like. A subnet is a value."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from gancompress.elastic.trace import Group
from gancompress.errors import SpaceError


@dataclass(frozen=True)
class Subnet:
    """One choice of widths, one number for each dimension of its search space.

    Its text form is the published config string where the space has that form:
    `16_16_32_16_32_32_16_16`.

    Attributes:
        widths: Width in units (see `Dimension`) for each dimension of the space.
    """

    widths: tuple[int, ...]

    def __str__(self) -> str:
        return "_".join(map(str, self.widths))


@dataclass(frozen=True)
class Dimension:
    """One elastic number of the space.

    Attributes:
        groups: Channel groups that follow it.
        full: The width of the generator itself, in units.
        choices: Candidate widths in units, ascending.
        unit: Channels of each group per unit (config strings count in units of ngf).
    """

    groups: tuple[str, ...]
    full: int
    choices: tuple[int, ...]
    unit: int = 1

    def __post_init__(self) -> None:
        bad = [c for c in self.choices if not 1 <= c <= self.full]
        if bad or not self.choices or list(self.choices) != sorted(set(self.choices)):
            raise SpaceError(
                f"candidate widths {self.choices} of {self.groups[0]} must ascend from at least 1 "
                f"to at most its full width {self.full}"
            )


@dataclass(frozen=True)
class Tie:
    """Groups that share one dimension, counted in units of `unit` channels."""

    groups: tuple[str, ...]
    unit: int = 1


@dataclass(frozen=True)
class SearchSpace:
    """All subnets.

    Attributes:
        dimensions: The elastic numbers in order of execution.
        forms: Shorter text forms: for a number of widths, the position that each dimension takes
            its width from (the 6-number form has one width for all residual blocks).
    """

    dimensions: tuple[Dimension, ...]
    forms: Mapping[int, tuple[int, ...]] = field(default_factory=dict, hash=False)

    @cached_property
    def size(self) -> int:
        """Number of subnets."""
        return math.prod(len(d.choices) for d in self.dimensions)

    def __len__(self) -> int:
        return len(self.dimensions)

    def __iter__(self) -> Iterator[Subnet]:
        """Every subnet, the smallest first."""
        for widths in itertools.product(*(d.choices for d in self.dimensions)):
            yield Subnet(widths)

    def __contains__(self, subnet: object) -> bool:
        """Whether every width is among the candidates."""
        return (
            isinstance(subnet, Subnet)
            and len(subnet.widths) == len(self.dimensions)
            and all(w in d.choices for w, d in zip(subnet.widths, self.dimensions, strict=True))
        )

    def smallest(self) -> Subnet:
        """The narrowest choice everywhere."""
        return Subnet(tuple(d.choices[0] for d in self.dimensions))

    def largest(self) -> Subnet:
        """The widest choice everywhere."""
        return Subnet(tuple(d.choices[-1] for d in self.dimensions))

    def full(self) -> Subnet:
        """The generator itself."""
        return Subnet(tuple(d.full for d in self.dimensions))

    def sample(self, rng: random.Random) -> Subnet:
        """Uniform and independent for each dimension."""
        return Subnet(tuple(rng.choice(d.choices) for d in self.dimensions))

    def parse(self, text: str) -> Subnet:
        """A subnet from its text form.

        Raises:
            SpaceError: Not numbers, another count of numbers, or a width out of range.
        """
        try:
            widths = tuple(int(part) for part in text.strip().split("_"))
        except ValueError:
            raise SpaceError(
                f"'{text}' is no subnet: numbers joined by '_' are, such as {self.largest()}"
            ) from None
        if len(widths) != len(self.dimensions) and len(widths) in self.forms:
            widths = tuple(widths[i] for i in self.forms[len(widths)])
        subnet = Subnet(widths)
        self.check(subnet)
        return subnet

    def check(self, subnet: Subnet) -> None:
        """Raise unless the subnet can be cut out of the generator.

        Widths between the candidates are allowed: their weights exist, though no one trained them.

        Raises:
            SpaceError: Another count of widths, or a width outside 1 .. full.
        """
        if len(subnet.widths) != len(self.dimensions):
            raise SpaceError(
                f"subnet {subnet} has {len(subnet.widths)} widths, this space has "
                f"{len(self.dimensions)} (its largest is {self.largest()})"
            )
        for width, dimension in zip(subnet.widths, self.dimensions, strict=True):
            if not 1 <= width <= dimension.full:
                raise SpaceError(
                    f"subnet {subnet}: {width} is no width of {dimension.groups[0]}, which has "
                    f"1 to {dimension.full}; candidates: {', '.join(map(str, dimension.choices))}"
                )

    def channels(self, subnet: Subnet) -> dict[str, int]:
        """Number of channels of each group."""
        self.check(subnet)
        return {
            group: width * dimension.unit
            for width, dimension in zip(subnet.widths, self.dimensions, strict=True)
            for group in dimension.groups
        }


def make_space(
    groups: Sequence[Group],
    widths: Sequence[float],
    divisor: int = 8,
    ties: Sequence[Tie] = (),
    forms: Mapping[int, tuple[int, ...]] | None = None,
) -> SearchSpace:
    """A space whose candidates are fractions of every group's full width.

    Args:
        groups: Channel groups of the generator.
        widths: Fractions in (0, 1].
        divisor: Candidates are rounded to multiples of this many units, at least one such multiple
            (the full width itself is always itself).
        ties: Groups that share a dimension; every other group has its own.
        forms: See `SearchSpace`.

    Raises:
        SpaceError: A fraction is out of range, or tied groups do not exist or differ in width.
    """
    if not widths or any(not 0 < w <= 1 for w in widths):
        raise SpaceError(f"widths are fractions in (0, 1], not {tuple(widths)}")
    sizes = {group.name: group.size for group in groups}
    tied = {name: tie for tie in ties for name in tie.groups}
    missing = [name for name in tied if name not in sizes]
    if missing:
        raise SpaceError(f"no channel group {missing[0]}; there are {', '.join(sizes)}")
    dimensions: dict[tuple[str, ...], Dimension] = {}
    for group in groups:
        tie = tied.get(group.name, Tie((group.name,)))
        if len({sizes[name] for name in tie.groups}) > 1 or group.size % tie.unit:
            raise SpaceError(f"groups {', '.join(tie.groups)} differ in width and cannot be tied")
        full = group.size // tie.unit
        choices = tuple(sorted({round_width(full * w, full, divisor) for w in widths}))
        dimensions.setdefault(tie.groups, Dimension(tie.groups, full, choices, tie.unit))
    return SearchSpace(tuple(dimensions.values()), dict(forms or {}))


def round_width(width: float, full: int, divisor: int) -> int:
    """Nearest multiple of `divisor`, at least one, at most the full width."""
    if width >= full:
        return full
    return min(full, max(divisor, int(width / divisor + 0.5) * divisor))
