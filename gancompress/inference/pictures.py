"""PIL images, arrays and tensors as tensors that a generator takes, and results as what came."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from gancompress.data import ImageKind
from gancompress.data.images import upright
from gancompress.errors import DataError

ACCEPTED = """Accepted, one or a list:
    PIL images of any mode
    numpy arrays (H, W, {0}) or (N, H, W, {0}): uint8, or floating in [0, 1]
    torch tensors ({0}, H, W) or (N, {0}, H, W): uint8, or floating in [-1, 1]"""
ROUNDING = 1e-3
"""How far a float may leave its range: half a level of 8 bits is 2e-3 in [0, 1]."""


@dataclass(frozen=True)
class Unpacked:
    """Somebody's picture or batch of pictures.

    Attributes:
        images: (C, h, w) each, uint8, or float32 in [-1, 1].
        pack: From translations of `images` to the kind that came.
    """

    images: list[Tensor]
    pack: Callable[[list[Tensor]], Any]


def unpack(given: object, taken: ImageKind, made: ImageKind) -> list[Unpacked]:
    """The images in whatever came; see `ACCEPTED`.

    Args:
        given: A picture, or a list of them.
        taken: What kind of images the generator takes.
        made: What kind of images it makes.

    Raises:
        DataError: It is no picture: its type, shape, dtype or values are wrong.
    """
    if not isinstance(given, list):
        return [_Picture("generate", taken, made).unpack(given)]
    if not given:
        raise _Picture("generate", taken, made).refusal("an empty list")
    return [
        _Picture(f"generate, image {index}", taken, made).unpack(picture)
        for index, picture in enumerate(given)
    ]


@dataclass(frozen=True)
class _Picture:
    """What errors call a picture, and the kinds of image that it and its translation are."""

    name: str
    taken: ImageKind
    made: ImageKind

    def refusal(self, what: str) -> DataError:
        return DataError(f"{self.name}: {what}\n  {ACCEPTED.format(self.taken.channels)}")

    def unpack(self, picture: object) -> Unpacked:
        if isinstance(picture, Image.Image):
            return self._of_image(picture)
        if isinstance(picture, np.ndarray):
            return self._of_array(picture)
        if isinstance(picture, Tensor):
            return self._of_tensor(picture)
        raise self.refusal(f"{type(picture).__name__} is not a picture")

    def _of_image(self, image: Image.Image) -> Unpacked:
        what = f"a PIL image of mode {image.mode} and {image.width}x{image.height} pixels"
        if not image.width or not image.height:
            raise self.refusal(what)
        try:
            pixels = self.taken.to_tensor([self.taken.convert(upright(image))])
        except (ValueError, OSError) as error:  # values out of range; a truncated file
            raise self.refusal(f"{what}, unreadable: {error}") from None
        return Unpacked([pixels], lambda results: self.made.encode(results[0]))

    def _of_array(self, array: NDArray[Any]) -> Unpacked:
        what = f"an array of shape {array.shape} and dtype {array.dtype}"
        if array.ndim not in (3, 4) or array.shape[-1] != self.taken.channels or not array.size:
            grey = array.ndim == 2 and array.size
            raise self.refusal(f"{what}{'; grey: Image.fromarray(array)' if grey else ''}")
        floating = np.issubdtype(array.dtype, np.floating)
        if not floating and array.dtype != np.uint8:
            raise self.refusal(what)
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
            # a copy: torch takes neither read-only arrays nor negative strides
            copied = np.array(array, np.float32 if floating else np.uint8, order="C")
        values = torch.from_numpy(copied)
        if floating:
            values = self._in_range(values, 0, what).mul_(2).sub_(1)

        def pack(results: list[Tensor]) -> NDArray[Any]:
            stacked = torch.stack(results).permute(0, 2, 3, 1)
            stacked = stacked.reshape(*array.shape[:-1], stacked.shape[-1])
            return (stacked.add(1).div(2) if floating else stacked).numpy().astype(array.dtype)

        return Unpacked(list(values.reshape(-1, *array.shape[-3:]).permute(0, 3, 1, 2)), pack)

    def _of_tensor(self, tensor: Tensor) -> Unpacked:
        what = f"a tensor of shape {tuple(tensor.shape)} and dtype {tensor.dtype}"
        if tensor.ndim not in (3, 4) or tensor.shape[-3] != self.taken.channels:
            raise self.refusal(what)
        if not tensor.numel():
            raise self.refusal(what)
        values = tensor.detach()
        if tensor.is_floating_point():
            values = self._in_range(values.float(), -1, what)
        elif tensor.dtype != torch.uint8:
            raise self.refusal(what)

        def pack(results: list[Tensor]) -> Tensor:
            stacked = torch.stack(results)
            shape = (*tensor.shape[:-3], *stacked.shape[1:])
            return stacked.reshape(shape).to(tensor.dtype)

        return Unpacked(list(values.reshape(-1, *tensor.shape[-3:])), pack)

    def _in_range(self, values: Tensor, low: int, what: str) -> Tensor:
        """Values in [low, 1], with what rounding adds cut off."""
        least, largest = (float(value) for value in values.aminmax())
        if not (low - ROUNDING <= least and largest <= 1 + ROUNDING):  # also where they are NaN
            raise self.refusal(f"{what} with values from {least:.4g} to {largest:.4g}")
        return values.clamp(low, 1)
