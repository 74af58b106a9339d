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

from gancompress.elastic.dimensions import Dimension, Width
from gancompress.elastic.parts import Group, Parts
from gancompress.errors import SpaceError

Genomes: TypeAlias = npt.NDArray[np.int64]
"""Many subnets as one array: a row for each, with its value for each dimension."""


@dataclass(frozen=True)
class Subnet:
    """One choice for each dimension of a search space.

    Its text form is the published config string where the space has that form:
    `16_16_32_16_32_32_16_16`.

    Attributes:
        values: The chosen value for each dimension (see `Dimension`) of the space.
    """

    values: tuple[int, ...]

    def __str__(self) -> str:
        return "_".join(map(str, self.values))

    @classmethod
    def of_text(cls, text: str) -> Subnet:
        """The subnet of a full text form, whose space is not at hand.

        Raises:
            ValueError: It is no text form.
        """
        return cls(tuple(int(part) for part in text.strip().split("_")))


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
        for values in itertools.product(*(d.choices for d in self.dimensions)):
            yield Subnet(values)

    def __contains__(self, subnet: object) -> bool:
        """Whether every value is among the candidates."""
        return (
            isinstance(subnet, Subnet)
            and len(subnet.values) == len(self.dimensions)
            and all(v in d.choices for v, d in zip(subnet.values, self.dimensions, strict=True))
        )

    def smallest(self) -> Subnet:
        """The first choice everywhere."""
        return Subnet(tuple(d.choices[0] for d in self.dimensions))

    def largest(self) -> Subnet:
        """The last choice everywhere."""
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
            subnet = Subnet.of_text(text)
        except ValueError:
            raise SpaceError(
                f"'{text}' is no subnet: numbers joined by '_' are, such as {self.largest()}"
            ) from None
        count = len(subnet.values)
        if count != len(self.dimensions) and count in self.forms:
            subnet = Subnet(tuple(subnet.values[i] for i in self.forms[count]))
        self.check(subnet)
        return subnet

    def check(self, subnet: Subnet) -> None:
        """Raise unless the subnet can be cut out of the generator.

        Widths between the candidates are allowed: their weights exist, though no one trained them.

        Raises:
            SpaceError: Another count of widths, or a value out of range.
        """
        if len(subnet.values) != len(self.dimensions):
            raise SpaceError(
                f"subnet {subnet} has {len(subnet.values)} widths, this space has "
                f"{len(self.dimensions)} (its largest is {self.largest()})"
            )
        for value, dimension in zip(subnet.values, self.dimensions, strict=True):
            if not dimension.least <= value <= dimension.full:
                raise SpaceError(
                    f"subnet {subnet}: {value} is no {dimension.kind} of {dimension.members[0]}, "
                    f"which has {dimension.least} to {dimension.full}; candidates: "
                    f"{', '.join(map(str, dimension.choices))}"
                )

    def channels(self, subnet: Subnet) -> dict[str, int]:
        """Number of channels of each group."""
        self.check(subnet)
        found: dict[str, int] = {}
        for value, dimension in zip(subnet.values, self.dimensions, strict=True):
            found |= dimension.channels(value)
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
        return parts.terms(self._genes)

    # -- many subnets at once -----------------------------------------------------------

    def genomes(self, subnets: Iterable[Subnet]) -> Genomes:
        """Subnets as rows, (K, D) for K subnets and D dimensions.

        Raises:
            SpaceError: One of them cannot be cut out of the generator.
        """
        rows = list(subnets)
        for subnet in rows:
            self.check(subnet)
        values = [subnet.values for subnet in rows]
        return np.array(values, np.int64).reshape(len(rows), len(self.dimensions))

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
            SpaceError: No integer array (K, D), or a value out of range.
        """
        if genomes.ndim != 2 or genomes.shape[1] != len(self) or genomes.dtype != np.int64:
            raise SpaceError(
                f"genomes are int64 of shape (number of subnets, {len(self)}), not "
                f"{genomes.dtype} of {genomes.shape}"
            )
        bad = np.zeros(len(genomes), bool)
        for gene, dimension in enumerate(self.dimensions):
            column = genomes[:, gene]
            bad |= (column < dimension.least) | (column > dimension.full)
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
    dimensions: dict[tuple[str, ...], Width] = {}
    for group in groups:
        tie = tied.get(group.name, Tie((group.name,)))
        if len({sizes[name] for name in tie.groups}) > 1 or group.size % tie.unit:
            raise SpaceError(f"groups {', '.join(tie.groups)} differ in width and cannot be tied")
        full = group.size // tie.unit
        choices = tuple(sorted({round_width(full * w, full, divisor) for w in widths}))
        dimensions.setdefault(tie.groups, Width(tie.groups, full, choices, tie.unit))
    return SearchSpace(tuple(dimensions.values()), dict(forms or {}))


def round_width(width: float, full: int, divisor: int) -> int:
    """Nearest multiple of `divisor`, at least one, at most the full width."""
    if width >= full:
        return full
    return min(full, max(divisor, int(width / divisor + 0.5) * divisor))
