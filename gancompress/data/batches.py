"""Batches as a function of (seed, position): resuming needs no saved loader state."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gancompress.config import DataOptions
from gancompress.data.datasets import ImageSet, Split
from gancompress.data.images import to_float


@dataclass(frozen=True)
class Batch:
    """One training batch; all images are (N, 3, crop, crop) float32 in [-1, 1].

    Attributes:
        real_a: Inputs.
        real_b: Images of the target domain; of the same things as the inputs if data is paired.
        pseudo_b: The teacher's outputs for the inputs, cropped and flipped with them.
    """

    real_a: Tensor
    real_b: Tensor | None = None
    pseudo_b: Tensor | None = None


class BatchStream:
    """Endless shuffled batches with random crops and flips.

    Item number k of the stream depends on the seed and on k alone: every epoch is a permutation
    drawn from (seed, epoch), and crop and flip are drawn from (seed, k).

    Args:
        split: The training split, decoded at `options.load_size`.
        options: Crop size and flip.
        seed: Seed of order and augmentation.
    """

    def __init__(self, split: Split, options: DataOptions, seed: int) -> None:
        self.split = split
        self.crop = min(options.crop_size, options.load_size)
        self.flip = options.flip
        self.seed = seed
        self._orders: dict[tuple[int, int], list[int]] = {}

    def batch(self, position: int, size: int) -> Batch:
        """Items position .. position + size - 1 of the stream."""
        items = [self._item(position + offset) for offset in range(size)]
        columns = [
            None if column[0] is None else to_float(torch.stack(column))
            for column in zip(*items, strict=True)
        ]
        assert columns[0] is not None
        return Batch(columns[0], columns[1], columns[2])

    def _item(self, k: int) -> list[Tensor | None]:
        """Input, target and pseudo target, cropped alike where they show the same thing."""
        rng = torch.Generator().manual_seed(mix(self.seed, k, 0))
        split = self.split
        index = self._index(split.inputs, k, side=0)
        together: list[Tensor | None] = [split.inputs[index], None, None]
        apart = None
        if split.targets is not None and split.paired:
            together[1] = split.targets[index]
        elif split.targets is not None:
            apart = split.targets[self._index(split.targets, k, side=1)]
        if split.pseudo is not None:
            together[2] = split.pseudo[index]
        views = iter(self._augment(torch.cat([t for t in together if t is not None]), rng).split(3))
        result = [None if t is None else next(views) for t in together]
        if apart is not None:
            result[1] = self._augment(apart, rng)
        return result

    def _index(self, images: ImageSet, k: int, side: int) -> int:
        epoch, offset = divmod(k, len(images))
        key = (side, epoch)
        if key not in self._orders:
            self._orders = {old: order for old, order in self._orders.items() if old[0] != side}
            rng = torch.Generator().manual_seed(mix(self.seed, epoch, 1 + side))
            self._orders[key] = torch.randperm(len(images), generator=rng).tolist()
        return self._orders[key][offset]

    def _augment(self, pixels: Tensor, rng: torch.Generator) -> Tensor:
        room = pixels.shape[-1] - self.crop
        top, left = (int(torch.randint(room + 1, (), generator=rng)) for _ in range(2))
        pixels = pixels[:, top : top + self.crop, left : left + self.crop]
        if self.flip and torch.rand((), generator=rng) < 0.5:
            pixels = pixels.flip(-1)
        return pixels


def mix(seed: int, position: int, stream: int) -> int:
    """One 63-bit seed from three numbers (a linear congruence, distinct for small inputs)."""
    return (
        seed * 0x9E3779B97F4A7C15 + position * 0xD1B54A32D192ED03 + stream * 0x8CB92BA72F3D8DD7
    ) % (1 << 63)
