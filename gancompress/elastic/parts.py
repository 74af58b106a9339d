"""What a dimension of a tensor is made of, and the arithmetic that follows for narrower ones."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """Channel dimensions that move together.

    Attributes:
        name: The layer that first gives it its width, such as `model.7`.
        size: Full number of channels, or of units of channels that move as one.
        unit: Channels in such a unit where it is widest.
    """

    name: str
    size: int
    unit: int = 1


@dataclass(frozen=True)
class Blocks:
    """Several entries of a dimension for each channel of a group.

    Attributes:
        group: The group.
        length: Entries for each of its channels, one after another.
    """

    group: Group
    length: int

    @property
    def name(self) -> str:
        """Name of the group."""
        return self.group.name

    @property
    def size(self) -> int:
        """Full number of entries."""
        return self.group.size * self.length


Segment = Group | Blocks | int


@dataclass(frozen=True)
class Parts:
    """One dimension of a tensor.

    Attributes:
        segments: What lies one after another: the channels of a group, which may be there several
            times, blocks of entries for each, or a fixed number.
    """

    segments: tuple[Segment, ...]

    @property
    def full(self) -> int:
        """Channels in the generator itself."""
        return sum(s if isinstance(s, int) else s.size for s in self.segments)

    @property
    def is_elastic(self) -> bool:
        """Whether a group is among the segments."""
        return any(not isinstance(segment, int) for segment in self.segments)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups among the segments."""
        return tuple(s.name for s in self.segments if not isinstance(s, int))

    def without(self, groups: Collection[str]) -> Parts:
        """What is left where some groups are gone."""
        gone = [s for s in self.segments if not isinstance(s, int) and s.name in groups]
        return Parts(tuple(s for s in self.segments if s not in gone)) if gone else self

    def _places(self) -> Iterator[tuple[Group | None, int, int, int]]:
        """Group, start, full length and entries for each channel of every segment."""
        start = 0
        for segment in self.segments:
            if isinstance(segment, int):
                yield None, start, segment, 1
                start += segment
                continue
            blocks = segment if isinstance(segment, Blocks) else Blocks(segment, 1)
            yield blocks.group, start, blocks.size, blocks.length
            start += blocks.size

    def narrow(self, tensor: Tensor, dim: int, channels: Mapping[str, int]) -> Tensor:
        """A tensor whose dimension `dim` this is, with the first channels of every group.

        Args:
            tensor: At full width along `dim`.
            dim: The dimension.
            channels: How many stay, by group; all of those that are not named.
        """
        kept = [
            (start, channels.get(group.name, group.size) * length if group else size)
            for group, start, size, length in self._places()
        ]
        pieces = [tensor.narrow(dim, start, count) for start, count in kept if count]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim)

    def terms(self, genes: Mapping[str, tuple[int, int]]) -> tuple[int, dict[int, int]]:
        """Its length as a constant plus multiples of genes.

        Args:
            genes: By group the gene that it follows, and its channels for each unit of that; all
                other groups have their full width.

        Returns:
            The constant, and the factor of every gene that counts.
        """
        constant, factors = 0, dict[int, int]()
        for group, _, size, length in self._places():
            if group is None or group.name not in genes:
                constant += size
                continue
            gene, unit = genes[group.name]
            factors[gene] = factors.get(gene, 0) + unit * length
        return constant, factors

    def split(self, values: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Of a vector at full width the values of each group, by its name; sums over blocks."""
        for group, start, size, length in self._places():
            if group is not None:
                yield group.name, values[start : start + size].reshape(-1, length).sum(1)

    def order(self, orders: Mapping[str, Tensor]) -> Tensor:
        """The permutation of this dimension that permutes every group in its own order."""
        pieces = [
            start + (_blocks(orders[group.name], length) if group else torch.arange(size))
            for group, start, size, length in self._places()
        ]
        return torch.cat(pieces)


def _blocks(order: Tensor, length: int) -> Tensor:
    """A permutation of channels as one of their blocks."""
    return (order.cpu()[:, None] * length + torch.arange(length)).flatten()


def narrow(tensor: Tensor, dims: Sequence[Parts | None], channels: Mapping[str, int]) -> Tensor:
    """A tensor with the first channels of every group, as a view where that is possible.

    Args:
        tensor: At full width.
        dims: Parts of its dimensions; None where the length is fixed. Empty for none at all.
        channels: See `Parts.narrow`.
    """
    for dim, parts in enumerate(dims):
        if parts is not None:
            tensor = parts.narrow(tensor, dim, channels)
    return tensor
