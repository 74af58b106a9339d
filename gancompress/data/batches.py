"""Batches as a function of (seed, position): resuming needs no saved loader state."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from gancompress.config import DataOptions
from gancompress.data.augment import BYTES_A_PIXEL, Layers, Numbers, augment, draws, take_apart
from gancompress.data.datasets import ImageSet, Split
from gancompress.data.image_kinds import RGB, ImageKind, Labels
from gancompress.data.images import to_float
from gancompress.errors import ConfigError


@dataclass(frozen=True)
class Batch:
    """One training batch; all images are (N, C, crop, crop) float32 in [-1, 1].

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
        options: Crop size, flip and augmentations.
        seed: Seed of order and augmentation.

    Raises:
        ConfigError: Drawings shall be drawn anew, and were resized; or an augmentation does not
            take images of this kind.
    """

    def __init__(self, split: Split, options: DataOptions, seed: int) -> None:
        self.split = split
        self.crop = min(options.crop_size, options.load_size)
        self.options = options
        self.seed = seed
        if options.augment.drawing is not None and split.inputs.resized:
            raise ConfigError(
                f"data.augment.drawing finds lines in drawings as they are, and those in "
                f"{options.root} were resized: set data.load_size to the size of the files"
            )
        _refuse_augmentations(split, options)
        room = int(options.cache_gb * 1e9 / (BYTES_A_PIXEL * options.load_size**2))
        self._layers_of = lru_cache(max(1, room))(self._layers)
        self._orders: dict[tuple[int, int], list[int]] = {}

    def batch(self, position: int, size: int) -> Batch:
        """Items position .. position + size - 1 of the stream."""
        split, positions = self.split, range(position, position + size)
        chosen = [self._index(split.inputs, k, side=0) for k in positions]
        together = {"real_a": split.inputs.take(chosen)}
        if split.targets is not None and split.paired:
            together["real_b"] = split.targets.take(chosen)
        if split.pseudo is not None:
            together["pseudo_b"] = split.pseudo.take(chosen)
        drawn = self.options.augment.drawing is not None
        layers = [self._layers_of(index) for index in chosen] if drawn else None
        stacked = torch.cat(list(together.values()), 1)
        channels = [images.shape[1] for images in together.values()]
        views = self._augment(stacked, positions, 0, layers).split(channels, 1)
        images = dict(zip(together, views, strict=True))
        if split.targets is not None and not split.paired:
            apart = split.targets.take([self._index(split.targets, k, side=1) for k in positions])
            images["real_b"] = self._augment(apart, positions, 1)
        return Batch(**images)

    def _index(self, images: ImageSet, k: int, side: int) -> int:
        epoch, offset = divmod(k, len(images))
        key = (side, epoch)
        if key not in self._orders:
            self._orders = {old: order for old, order in self._orders.items() if old[0] != side}
            rng = torch.Generator().manual_seed(mix(self.seed, epoch, 1 + side))
            self._orders[key] = torch.randperm(len(images), generator=rng).tolist()
        return self._orders[key][offset]

    def _layers(self, index: int) -> Layers:
        return take_apart(self.split.inputs[index])

    def _augment(
        self, pixels: Tensor, positions: range, side: int, layers: list[Layers] | None = None
    ) -> Tensor:
        """(N, C, S, S) uint8 -> (N, C, crop, crop) in [-1, 1]; stacked images stay aligned."""
        numbers = draws(self.seed, positions, side, 3)
        options = self.options.augment
        if options.affine or options.hue or layers:
            order = Numbers(mix(self.seed, 0, side), positions)
            images = augment(to_float(pixels), layers, options, order)
        else:
            images = pixels
        room = pixels.shape[-1] - self.crop
        corners = (numbers[:, :2] * (room + 1)).long().tolist()
        cut = [
            image[:, top : top + self.crop, left : left + self.crop]
            for image, (top, left) in zip(images, corners, strict=True)
        ]
        cropped = torch.stack(cut) if room else images
        if self.options.flip:
            turned = numbers[:, 2] < 0.5
            cropped = torch.where(turned[:, None, None, None], cropped.flip(-1), cropped)
        return cropped if cropped.is_floating_point() else to_float(cropped)


def _refuse_augmentations(split: Split, options: DataOptions) -> None:
    """Raise where an augmentation cannot be made of images of these kinds."""
    both: list[ImageKind] = [split.inputs.kind, split.output]
    labels: list[ImageKind] = [
        kind for kind in both if isinstance(kind, Labels)
    ]  # of which none is between two
    strange: dict[str, list[ImageKind]] = {
        "drawing": [kind for kind in both[:1] if kind != RGB],
        "hue": [kind for kind in both if kind != RGB],
        "affine": labels,
    }
    for key, kinds in strange.items():
        if kinds and getattr(options.augment, key) is not None:
            raise ConfigError(f"data.augment.{key} does not take images of kind {kinds[0]}")


def mix(seed: int, position: int, stream: int) -> int:
    """One 63-bit seed from three numbers (a linear congruence, distinct for small inputs)."""
    return (
        seed * 0x9E3779B97F4A7C15 + position * 0xD1B54A32D192ED03 + stream * 0x8CB92BA72F3D8DD7
    ) % (1 << 63)
