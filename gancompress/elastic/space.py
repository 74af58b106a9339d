"""The search space: what a subnet may look like. A subnet is a value."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from gancompress.elastic.parts import Group, Parts
from gancompress.errors import SpaceError

Genomes: TypeAlias = npt.NDArray[np.int64]
"""Many subnets as one array: a row for each, with its width in units for each dimension."""


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

    def channels(self, width: int) -> dict[str, int]:
        """Number of channels of each of its groups at a width."""
        return dict.fromkeys(self.groups, width * self.unit)

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
        found: dict[str, int] = {}
        for width, dimension in zip(subnet.widths, self.dimensions, strict=True):
            found |= dimension.channels(width)
        return found

    @cached_property
    def _genes(self) -> dict[str, tuple[int, int]]:
        """Position of the dimension and channels per unit, by group."""
        units = enumerate(dimension.channels(1) for dimension in self.dimensions)
        return {group: (gene, unit) for gene, groups in units for group, unit in groups.items()}

    def channel_terms(self, parts: Parts) -> tuple[int, dict[int, int]]:
        """The length of a tensor's dimension as a constant plus multiples of genes.

        Returns:
            The constant (fixed channels, and groups outside the space at their full width), and the
            factor of every gene that counts.
        """
        constant, factors = 0, dict[int, int]()
        for segment in parts.segments:
            if isinstance(segment, int):
                constant += segment
            elif segment.name in self._genes:
                gene, unit = self._genes[segment.name]
                factors[gene] = factors.get(gene, 0) + unit
            else:
                constant += segment.size
        return constant, factors

    # -- many subnets at once -----------------------------------------------------------

    def genomes(self, subnets: Iterable[Subnet]) -> Genomes:
        """Subnets as rows, (K, D) for K subnets and D dimensions.

        Raises:
            SpaceError: One of them cannot be cut out of the generator.
        """
        rows = list(subnets)
        for subnet in rows:
            self.check(subnet)
        widths = [subnet.widths for subnet in rows]
        return np.array(widths, np.int64).reshape(len(rows), len(self.dimensions))

    def subnets(self, genomes: Genomes) -> list[Subnet]:
        """The rows as subnets.

        Raises:
            SpaceError: See `check_genomes`.
        """
        self.check_genomes(genomes)
        return [Subnet(tuple(row)) for row in genomes.tolist()]

    def check_genomes(self, genomes: Genomes) -> None:
        """Raise unless every row can be cut out of the generator.

        Raises:
            SpaceError: No integer array (K, D), or a width outside 1 .. full.
        """
        if genomes.ndim != 2 or genomes.shape[1] != len(self) or genomes.dtype != np.int64:
            raise SpaceError(
                f"genomes are int64 of shape (number of subnets, {len(self)}), not "
                f"{genomes.dtype} of {genomes.shape}"
            )
        bad = np.zeros(len(genomes), bool)
        for gene, dimension in enumerate(self.dimensions):
            column = genomes[:, gene]
            bad |= (column < 1) | (column > dimension.full)
        for row in genomes[bad][:1].tolist():
            self.check(Subnet(tuple(row)))

    def count_channels(self, parts: Parts, genomes: Genomes) -> Genomes:
        """The length of a tensor's dimension for each of many subnets, (K,)."""
        constant, factors = self.channel_terms(parts)
        total = np.full(len(genomes), constant, np.int64)
        for gene, factor in factors.items():
            total += factor * genomes[:, gene]
        return total

    def sample_genomes(self, count: int, rng: np.random.Generator) -> Genomes:
        """`count` subnets, uniform and independent for each dimension, (count, D)."""
        genomes = np.empty((count, len(self)), np.int64)
        for gene, dimension in enumerate(self.dimensions):
            genomes[:, gene] = rng.choice(np.array(dimension.choices, np.int64), count)
        return genomes

    def genomes_at(self, indices: npt.ArrayLike) -> Genomes:
        """The subnets at these places of the iteration over the space, (len(indices), D).

        All subnets piece by piece, or distinct random ones, without a list of them:
        `space.genomes_at(np.arange(start, stop))`, `space.genomes_at(rng.choice(space.size, 100))`.

        Args:
            indices: Integers in [0, size).

        Raises:
            SpaceError: An index is outside, or the space is too large for 64-bit indices.
        """
        rest = np.array(indices, np.int64, ndmin=1)
        if self.size > np.iinfo(np.int64).max or ((rest < 0) | (rest >= self.size)).any():
            raise SpaceError(f"indices of subnets are 64-bit numbers from 0 to {self.size - 1}")
        genomes = np.empty((len(rest), len(self)), np.int64)
        for gene in reversed(range(len(self))):
            choices = np.array(self.dimensions[gene].choices, np.int64)
            rest, place = np.divmod(rest, len(choices))
            genomes[:, gene] = choices[place]
        return genomes


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
