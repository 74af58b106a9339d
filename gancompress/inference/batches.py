"""Run a generator on images of any size: pad, group into batches, crop back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gancompress.data.translation import NOT_FINITE, Generator, attempt_batch
from gancompress.errors import DataError

# with stride 4 this leaves a 4x4 trunk: reflection pads and instance norms need more than 1x1
MIN_SIDE = 16


def translate_images(
    generator: Generator,
    images: Sequence[Tensor],
    stride: int,
    batch_size: int = 1,
    device: str = "cpu",
) -> list[Tensor]:
    """Translate images of any size; each result has the size of its input.

    An image is padded at the right and at the bottom, by reflection, or by repeating its last
    row or column where the padding is as large as the image. Images that have the same size
    after padding share batches.

    Args:
        generator: (N, C, H, W) float32 in [-1, 1] -> (N, C', H, W) in [-1, 1], in evaluation
            mode, on `device`; H and W are multiples of `stride`.
        images: (C, h, w) each, uint8, or float32 in [-1, 1].
        stride: Factor by which the generator down-samples; every side is padded to a multiple of
            it, and to at least 16.
        batch_size: Most images in one call of the generator.
        device: Where the generator is.

    Returns:
        (C, h, w) each in the order of the inputs, of the type and on the device of its input; what
        leaves [-1, 1] is clipped.

    Raises:
        DataError: An output has NaN or infinite values, or the device ran out of memory; names
            the image by its index.
        ConfigError: The generator changes the size.
    """
    outcomes = attempt_images(generator, images, stride, batch_size, device)
    results = []
    for index, outcome in enumerate(outcomes):
        if isinstance(outcome, str):
            raise DataError(f"image {index}: {outcome}")
        results.append(outcome)
    return results


def attempt_images(
    generator: Generator, images: Sequence[Tensor], stride: int, batch_size: int, device: str
) -> list[Tensor | str]:
    """As `translate_images`, but an image that fails gives the reason in its place."""
    outcomes: dict[int, Tensor | str] = {}
    for indices in _batches(images, stride, batch_size):
        batch = torch.stack([_pad(images[index], stride) for index in indices])
        try:
            fakes = _generate(generator, batch, device)
        except torch.OutOfMemoryError:
            count, _, height, width = batch.shape
            reason = f"{device} ran out of memory on {count} x {width}x{height} pixels"
            fakes = [f"{reason}; lower the batch size or the size"] * count
        for index, fake in zip(indices, fakes, strict=True):
            height, width = images[index].shape[-2:]
            outcomes[index] = fake if isinstance(fake, str) else fake[:, :height, :width].clone()
    return [outcomes[index] for index in range(len(images))]


def _batches(images: Sequence[Tensor], stride: int, batch_size: int) -> Iterator[list[int]]:
    """Indices of images of equal padded size and type, `batch_size` at a time."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, image in enumerate(images):
        height, width = (_padded(side, stride) for side in image.shape[-2:])
        groups.setdefault((height, width, image.dtype, image.device), []).append(index)
    for group in groups.values():
        for start in range(0, len(group), batch_size):
            yield group[start : start + batch_size]


def _padded(side: int, stride: int) -> int:
    return -(-max(side, MIN_SIDE) // stride) * stride


def _pad(image: Tensor, stride: int) -> Tensor:
    """(C, h, w) -> (C, H, W), both sides as `_padded` has them."""
    for dim in (1, 2):
        side = image.shape[dim]
        padded = _padded(side, stride)
        if padded != side:
            image = image.index_select(dim, _source_indices(side, padded).to(image.device))
    return image


def _source_indices(side: int, padded: int) -> Tensor:
    """Which row of an image of `side` rows each of `padded` rows shows."""
    indices = torch.arange(padded)
    last = side - 1
    if padded - side > last:
        return indices.clamp(max=last)
    return torch.where(indices <= last, indices, 2 * last - indices)


def _generate(generator: Generator, batch: Tensor, device: str) -> list[Tensor | str]:
    """(N, C, H, W) uint8 or float32 -> one (C, H, W) of that type or reason for each."""
    fakes, finite = attempt_batch(generator, batch, torch.device(device))
    reason = NOT_FINITE.format("the generator")
    return [fake if fine else reason for fake, fine in zip(fakes, finite.tolist(), strict=True)]
