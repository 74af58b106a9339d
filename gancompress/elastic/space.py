"""The search space: what a subnet may look like. A subnet is a value."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from gancompress.elastic.dimensions import ALWAYS, DIMENSIONS, FULL, Dimension, Width
from gancompress.elastic.parts import Parts
from gancompress.errors import SpaceError

Genomes: TypeAlias = npt.NDArray[np.int64]
"""Many subnets as one array: a row for each, with its value for each dimension."""

_PART = re.compile(r"([a-z]?)(-?\d{1,18})")


class Structure(NamedTuple):
    """What of a subnet changes the graph and the sizes in it.

    Attributes:
        dropped: Branches that it leaves out.
        resolution: Per cent of the image's sides at which the generator runs.
    """

    dropped: frozenset[str] = frozenset()
    resolution: int = FULL


@dataclass(frozen=True)
class Subnet:
    """One choice for each dimension of a search space.

    Its text form is the published config string where the space has that form:
    `16_16_32_16_32_32_16_16`. Values that are no widths have a letter: `16_16_32_0_d6`.

    Attributes:
        values: The chosen value for each dimension (see `Dimension`) of the space.
        letters: Of the dimensions; none at all where all are widths.
    """

    values: tuple[int, ...]
    letters: tuple[str, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        letters = self.letters or ("",) * len(self.values)
        return "_".join(f"{a}{value}" for a, value in zip(letters, self.values, strict=True))

    @classmethod
    def of_text(cls, text: str) -> Subnet:
        """The subnet of a full text form, whose space is not at hand.

        Raises:
            ValueError: It is no text form.
        """
        parts = [_PART.fullmatch(part) for part in text.strip().split("_")]
        if not all(parts):
            raise ValueError(f"'{text}' is not a subnet")
        pairs = [(part[1], int(part[2])) for part in parts if part]
        return cls(tuple(v for _, v in pairs), tuple(a for a, _ in pairs))


@dataclass(frozen=True)
class SearchSpace:
    """All subnets.

    Attributes:
        dimensions: The elastic numbers: widths in order of execution, then those of other kinds.
        forms: Shorter text forms: for a number of widths, the position that each width is taken
            from (the 6-number form has one width for all residual blocks).
    """

    dimensions: tuple[Dimension, ...]
    forms: Mapping[int, tuple[int, ...]] = field(default_factory=dict, hash=False)

    @cached_property
    def size(self) -> int:
        """Number of rows of candidates; one subnet may have several, see `canonical`."""
        return math.prod(len(d.choices) for d in self.dimensions)

    @cached_property
    def distinct(self) -> int:
        """Number of subnets."""
        deciding = sorted({gene for d in self.dimensions for case in d.uses for gene, _ in case})
        total = 0
        for values in itertools.product(*(self.dimensions[gene].choices for gene in deciding)):
            row = np.ones((1, len(self)), np.int64)
            row[0, deciding] = values
            used = self.used(row)[0]
            lowest = (self.dimensions[gene].choices[0] for gene in deciding)
            if all(
                used[gene] or value == least
                for gene, value, least in zip(deciding, values, lowest, strict=True)
            ):
                others = (n for n, d in enumerate(self.dimensions) if used[n] and n not in deciding)
                total += math.prod(len(self.dimensions[n].choices) for n in others)
        return total

    def __len__(self) -> int:
        return len(self.dimensions)

    def __iter__(self) -> Iterator[Subnet]:
        """Every subnet, the smallest first."""
        for values in itertools.product(*(d.choices for d in self.dimensions)):
            subnet = self.subnet(values)
            if all(
                value == own or (own == 0 and value == d.choices[0])
                for value, own, d in zip(values, subnet.values, self.dimensions, strict=True)
            ):
                yield subnet

    def __contains__(self, subnet: object) -> bool:
        """Whether every value is among the candidates."""
        return (
            isinstance(subnet, Subnet)
            and len(subnet.values) == len(self.dimensions)
            and all(
                value in d.choices if used else value == 0
                for value, d, used in zip(
                    subnet.values, self.dimensions, self._used_by(subnet), strict=True
                )
            )
        )

    def smallest(self) -> Subnet:
        """The first choice everywhere."""
        return self.subnet(d.choices[0] for d in self.dimensions)

    def largest(self) -> Subnet:
        """The last choice everywhere."""
        return self.subnet(d.choices[-1] for d in self.dimensions)

    def full(self) -> Subnet:
        """The generator itself."""
        return self.subnet(d.full for d in self.dimensions)

    def sample(self, rng: random.Random) -> Subnet:
        """Uniform and independent for each dimension."""
        return self.subnet(rng.choice(d.choices) for d in self.dimensions)

    @cached_property
    def _letters(self) -> tuple[str, ...]:
        letters = tuple(d.letter for d in self.dimensions)
        return letters if any(letters) else ()

    def subnet(self, values: Iterable[int]) -> Subnet:
        """The subnet with these values; those of what it leaves out become 0."""
        row = np.array([*values], np.int64)[None]
        return Subnet(tuple(self.canonical(row)[0].tolist()), self._letters)

    def parse(self, text: str) -> Subnet:
        """A subnet from its text form; a kind that is not there is as in the generator itself.

        Raises:
            SpaceError: Not numbers, another count of numbers, or a value out of range.
        """
        try:
            given = Subnet.of_text(text)
        except ValueError:
            raise SpaceError(
                f"'{text}' is not a subnet: expected integers joined by '_', such as "
                f"{self.largest()}"
            ) from None
        left: dict[str, list[int]] = {}
        for letter, value in zip(given.letters, given.values, strict=True):
            left.setdefault(letter, []).append(value)
        values = [0] * len(self)
        for kind in dict.fromkeys(type(d) for d in self.dimensions):
            places = [n for n, d in enumerate(self.dimensions) if type(d) is kind]
            own = left.pop(kind.letter, [self.dimensions[n].full for n in places])
            if len(own) != len(places) and kind is Width and len(own) in self.forms:
                own = [own[n] for n in self.forms[len(own)]]
            if len(own) != len(places):
                raise self._miscounted(given, len(own), len(places), kind.plural)
            for place, value in zip(places, own, strict=True):
                values[place] = value
        for letter, own in left.items():
            kinds = [kind.plural for kind in DIMENSIONS.values() if kind.letter == letter]
            raise self._miscounted(given, len(own), 0, kinds[0] if kinds else f"'{letter}'")
        subnet = self.subnet(values)
        self.check(subnet)
        return subnet

    def _miscounted(self, subnet: Subnet, found: int, wanted: int, what: str) -> SpaceError:
        return SpaceError(
            f"subnet {subnet} has {found} {what}, this space has {wanted} (its largest is "
            f"{self.largest()})"
        )

    def check(self, subnet: Subnet) -> None:
        """Raise unless the subnet can be cut out of the generator.

        Widths between the candidates are allowed: their weights exist, though no one trained them.

        Raises:
            SpaceError: Another count of widths, or a value out of range.
        """
        if len(subnet.values) != len(self.dimensions):
            what = "values" if self._letters else "widths"
            raise self._miscounted(subnet, len(subnet.values), len(self), what)
        used = self._used_by(subnet)
        for value, dimension, is_used in zip(subnet.values, self.dimensions, used, strict=True):
            if not is_used and value:
                raise SpaceError(
                    f"subnet {subnet}: {dimension.members[0]} is left out, so its "
                    f"{dimension.kind} is 0, not {value}"
                )
            if is_used and not dimension.allowed(value):
                raise SpaceError(
                    f"subnet {subnet}: {value} is not a {dimension.kind} of "
                    f"{dimension.members[0]}, which has {dimension.least} to {dimension.full}; "
                    f"candidates: {', '.join(map(str, dimension.choices))}"
                )

    def channels(self, subnet: Subnet) -> dict[str, int]:
        """Number of channels of each group."""
        self.check(subnet)
        found: dict[str, int] = {}
        for value, dimension in zip(subnet.values, self.dimensions, strict=True):
            found |= dimension.channels(value)
        return found

    def dropped(self, subnet: Subnet) -> frozenset[str]:
        """Branches that a subnet leaves out."""
        self.check(subnet)
        found: frozenset[str] = frozenset()
        for value, dimension in zip(subnet.values, self.dimensions, strict=True):
            found |= dimension.dropped(value)
        return found

    def kernels(self, subnet: Subnet) -> dict[str, int]:
        """Sides of the kernels of convolutions that a subnet has, by their names."""
        self.check(subnet)
        found: dict[str, int] = {}
        for value, dimension in zip(subnet.values, self.dimensions, strict=True):
            found |= dimension.kernels(value) if value else {}
        return found

    def resolution(self, subnet: Subnet) -> int:
        """Per cent of the image's sides at which a subnet runs the generator."""
        self.check(subnet)
        pairs = zip(subnet.values, self.dimensions, strict=True)
        return min((dimension.resolution(value) for value, dimension in pairs), default=FULL)

    def structure(self, subnet: Subnet) -> Structure:
        """What of a subnet changes the graph and the sizes in it."""
        return Structure(self.dropped(subnet), self.resolution(subnet))

    @cached_property
    def resolutions(self) -> tuple[int, ...]:
        """All candidates of `resolution`."""
        found = {d.resolution(value) for d in self.dimensions for value in d.choices} - {FULL}
        return (*sorted(found), FULL)

    @cached_property
    def kernel_genes(self) -> dict[str, int]:
        """Position of the dimension that is the side of a convolution's kernel, by its name."""
        sides = enumerate(dimension.kernels(1) for dimension in self.dimensions)
        return {layer: gene for gene, layers in sides for layer in layers}

    def _used_by(self, subnet: Subnet) -> list[bool]:
        values = subnet.values
        return [
            any(all(values[gene] >= least for gene, least in case) for case in dimension.uses)
            for dimension in self.dimensions
        ]

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
            if len(subnet.values) != len(self):
                self.check(subnet)
        values = [subnet.values for subnet in rows]
        genomes = np.array(values, np.int64).reshape(len(rows), len(self))
        self.check_genomes(genomes)
        return genomes

    def subnets(self, genomes: Genomes) -> list[Subnet]:
        """The rows as subnets.

        Raises:
            SpaceError: See `check_genomes`.
        """
        self.check_genomes(genomes)
        return [Subnet(tuple(row), self._letters) for row in genomes.tolist()]

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
            wrong = ~dimension.allowed(column)
            if dimension.uses != ALWAYS:
                wrong = np.where(self._is_used(gene, genomes), wrong, column != 0)
            bad |= wrong
        for row in genomes[bad][:1].tolist():
            self.check(Subnet(tuple(row), self._letters))

    def _is_used(self, gene: int, genomes: Genomes) -> npt.NDArray[np.bool_]:
        """In which subnets a dimension matters, (K,)."""
        used = np.zeros(len(genomes), np.bool_)
        for case in self.dimensions[gene].uses:
            reached = np.ones(len(genomes), np.bool_)
            for other, least in case:
                reached &= genomes[:, other] >= least
            used |= reached
        return used

    def used(self, genomes: Genomes) -> npt.NDArray[np.bool_]:
        """Which dimensions matter in which subnets, (K, D)."""
        columns = [self._is_used(gene, genomes) for gene in range(len(self))]
        return np.stack(columns, axis=1) if columns else np.empty((len(genomes), 0), np.bool_)

    def canonical(self, genomes: Genomes) -> Genomes:
        """The rows with 0 for what is left out, so that every subnet has one row, (K, D)."""
        rows = genomes
        for gene, dimension in enumerate(self.dimensions):
            if dimension.uses != ALWAYS:
                rows = genomes.copy() if rows is genomes else rows
                rows[:, gene] = np.where(self._is_used(gene, genomes), genomes[:, gene], 0)
        return rows

    def structures(self, genomes: Genomes) -> Iterator[tuple[Structure, Any]]:
        """Subnets of one structure together: the structure, and which rows."""
        deciding = [
            n
            for n, d in enumerate(self.dimensions)
            if d.dropped(d.least) or d.resolution(d.least) != FULL
        ]
        if not deciding:
            yield Structure(), slice(None)
            return
        codes = np.zeros(len(genomes), np.int64)
        for gene in deciding:
            codes = np.unique(codes, return_inverse=True)[1] * (self.dimensions[gene].full + 1)
            codes += genomes[:, gene]
        for code in np.unique(codes):
            rows = np.flatnonzero(codes == code)
            values = genomes[rows[0]].tolist()
            yield self.structure(Subnet(tuple(values), self._letters)), rows

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
        return self.canonical(genomes)

    def genomes_at(self, indices: npt.ArrayLike) -> Genomes:
        """The subnets at these places among all rows of candidates, (len(indices), D).

        All rows of candidates piece by piece, or random ones, without a list of them:
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
        return self.canonical(genomes)
