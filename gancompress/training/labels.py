"""Label images as class numbers, and batches of photos with them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gancompress.config import DataOptions
from gancompress.data import Batch, BatchStream, ImageSet, Split, mix, read_image, to_tensor
from gancompress.metrics.palette import Palette
from gancompress.metrics.segmentation import normalise


def label_image(images: ImageSet, index: int) -> Tensor:
    """Label image `index` at its own resolution, (3, H, W) uint8; a resized one mixes colours."""
    pixels = to_tensor(read_image(images.files[index]))
    middle = pixels.shape[2] // 2
    if images.half is None:
        return pixels
    return pixels[:, :, :middle] if images.half == "left" else pixels[:, :, middle:]


def label_images(images: ImageSet) -> Iterator[Tensor]:
    """All of them, one after the other."""
    return (label_image(images, index) for index in range(len(images)))


class LabelSet(ImageSet):
    """Label images as class numbers, (1, size, size) uint8, each pixel that of one pixel.

    Args:
        images: The label images.
        palette: Their colours.
    """

    def __init__(self, images: ImageSet, palette: Palette) -> None:
        super().__init__(images.files, images.size, images.half)
        self._palette = palette

    def _decode(self, index: int) -> Tensor:
        classes = self._palette.classes(label_image(self, index)[None]).to(torch.uint8)
        size = (self.size, self.size)
        return torch.nn.functional.interpolate(classes[None], size, mode="nearest-exact")[0]


class SegmentationStream(BatchStream):
    """Photos and class numbers, cut out, scaled and flipped alike; colours of photos are varied.

    Item number k depends on the seed and on k alone.

    Args:
        split: Photos as inputs and a `LabelSet` as targets, item by item.
        options: Crop size and flip.
        seed: Seed of order and augmentation.
        window: A square of at least this share of the image's side becomes the crop.
        jitter: Brightness, contrast and saturation change by up to this share.
    """

    def __init__(
        self, split: Split, options: DataOptions, seed: int, window: float, jitter: float
    ) -> None:
        super().__init__(split, options, seed)
        self.window = window
        self.jitter = jitter

    def batch(self, position: int, size: int) -> Batch:
        """Items position .. position + size - 1 of the stream.

        Returns:
            `real_a`: normalised photos, (N, 3, crop, crop) float32; `real_b`: class numbers,
            (N, 1, crop, crop) int64.
        """
        pairs = [self._pair(position + offset) for offset in range(size)]
        photos, classes = (torch.stack(column) for column in zip(*pairs, strict=True))
        return Batch(normalise(photos), classes.long())

    def _pair(self, k: int) -> tuple[Tensor, Tensor]:
        assert self.split.targets is not None
        rng = torch.Generator().manual_seed(mix(self.seed, k, 0))
        index = self._index(self.split.inputs, k, side=0)
        photo, classes = self.split.inputs[index], self.split.targets[index]
        photo, classes = self._cut(photo.float(), classes.float(), rng)
        if self.options.flip and torch.rand((), generator=rng) < 0.5:
            photo, classes = photo.flip(-1), classes.flip(-1)
        return vary_colours(photo, self.jitter, rng), classes

    def _cut(self, photo: Tensor, classes: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        whole = photo.shape[-1]
        share = self.window + (1 - self.window) * float(torch.rand((), generator=rng))
        side = max(1, round(whole * share))
        top, left = (int(torch.randint(whole - side + 1, (), generator=rng)) for _ in range(2))
        size = (self.crop, self.crop)
        photo, classes = (
            pixels[None, :, top : top + side, left : left + side] for pixels in (photo, classes)
        )
        photo = torch.nn.functional.interpolate(photo, size, mode="bilinear", antialias=True)
        return photo[0], torch.nn.functional.interpolate(classes, size, mode="nearest-exact")[0]


def vary_colours(photo: Tensor, jitter: float, rng: torch.Generator) -> Tensor:
    """Random brightness, contrast and saturation; (3, H, W) float with values 0 .. 255."""
    brightness, contrast, saturation = (
        1 + jitter * (2 * torch.rand(3, generator=rng) - 1)
    ).tolist()
    grey = photo.mean(0, keepdim=True)
    photo = grey + saturation * (photo - grey)
    middle = photo.mean()
    varied: Tensor = brightness * (middle + contrast * (photo - middle))
    return varied.clamp_(0, 255)
