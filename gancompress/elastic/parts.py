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
        size: Full number of channels.
    """

    name: str
    size: int


@dataclass(frozen=True)
class Parts:
    """One dimension of a tensor.

    Attributes:
        segments: What lies one after another: the channels of a group, or a fixed number of them.
    """

    segments: tuple[Group | int, ...]

    @property
    def full(self) -> int:
        """Channels in the generator itself."""
        return sum(s if isinstance(s, int) else s.size for s in self.segments)

    @property
    def is_elastic(self) -> bool:
        """Whether a group is among the segments."""
        return any(isinstance(segment, Group) for segment in self.segments)

    def without(self, groups: Collection[str]) -> Parts:
        """What is left where some groups are gone."""
        gone = [s for s in self.segments if isinstance(s, Group) and s.name in groups]
        return Parts(tuple(s for s in self.segments if s not in gone)) if gone else self

    def _places(self) -> Iterator[tuple[Group | None, int, int]]:
        """Group, start and full length of every segment."""
        start = 0
        for segment in self.segments:
            group, size = (None, segment) if isinstance(segment, int) else (segment, segment.size)
            yield group, start, size
            start += size

    def narrow(self, tensor: Tensor, dim: int, channels: Mapping[str, int]) -> Tensor:
        """A tensor whose dimension `dim` this is, with the first channels of every group.

        Args:
            tensor: At full width along `dim`.
            dim: The dimension.
            channels: How many stay, by group; all of those that are not named.
        """
        kept = [
            (start, channels.get(group.name, size) if group else size)
            for group, start, size in self._places()
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
        for group, _, size in self._places():
            if group is None or group.name not in genes:
                constant += size
                continue
            gene, unit = genes[group.name]
            factors[gene] = factors.get(gene, 0) + unit
        return constant, factors

    def split(self, values: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Of a vector at full width the values of each group, by its name."""
        for group, start, size in self._places():
            if group is not None:
                yield group.name, values[start : start + size]

    def order(self, orders: Mapping[str, Tensor]) -> Tensor:
        """The permutation of this dimension that permutes every group in its own order."""
        pieces = [
            start + (orders[group.name] if group else torch.arange(size))
            for group, start, size in self._places()
        ]
        return torch.cat(pieces)


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
