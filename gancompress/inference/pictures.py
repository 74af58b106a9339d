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

from gancompress.data.images import to_image, to_rgb, to_tensor
from gancompress.errors import DataError

ACCEPTED = """Accepted, one or a list:
    PIL images of any mode
    numpy arrays (H, W, 3) or (N, H, W, 3): uint8, or floating in [0, 1]
    torch tensors (3, H, W) or (N, 3, H, W): uint8, or floating in [-1, 1]"""
ROUNDING = 1e-3
"""How far a float may leave its range: half a level of 8 bits is 2e-3 in [0, 1]."""


@dataclass(frozen=True)
class Unpacked:
    """Somebody's picture or batch of pictures.

    Attributes:
        images: (3, h, w) each, uint8, or float32 in [-1, 1].
        pack: From translations of `images` to the kind that came.
    """

    images: list[Tensor]
    pack: Callable[[list[Tensor]], Any]


def unpack(given: object) -> list[Unpacked]:
    """The images in whatever came; see `ACCEPTED`.

    Raises:
        DataError: It is no picture: its type, shape, dtype or values are wrong.
    """
    if not isinstance(given, list):
        return [_unpack(given, "generate")]
    if not given:
        raise _refusal("generate", "an empty list")
    return [_unpack(picture, f"generate, image {index}") for index, picture in enumerate(given)]


def _unpack(picture: object, name: str) -> Unpacked:
    if isinstance(picture, Image.Image):
        return _of_image(picture, name)
    if isinstance(picture, np.ndarray):
        return _of_array(picture, name)
    if isinstance(picture, Tensor):
        return _of_tensor(picture, name)
    raise _refusal(name, f"{type(picture).__name__} is no picture")


def _of_image(image: Image.Image, name: str) -> Unpacked:
    what = f"a PIL image of mode {image.mode} and {image.width}x{image.height} pixels"
    if not image.width or not image.height:
        raise _refusal(name, what)
    try:
        pixels = to_tensor(to_rgb(image))
    except (ValueError, OSError) as error:  # values out of range; a truncated file
        raise _refusal(name, f"{what}, unreadable: {error}") from None
    return Unpacked([pixels], lambda results: to_image(results[0]))


def _of_array(array: NDArray[Any], name: str) -> Unpacked:
    what = f"an array of shape {array.shape} and dtype {array.dtype}"
    if array.ndim not in (3, 4) or array.shape[-1] != 3 or not array.size:
        grey = array.ndim == 2 and array.size
        raise _refusal(name, f"{what}{'; grey: Image.fromarray(array)' if grey else ''}")
    floating = np.issubdtype(array.dtype, np.floating)
    if not floating and array.dtype != np.uint8:
        raise _refusal(name, what)
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
        # a copy: torch takes neither read-only arrays nor negative strides
        values = torch.from_numpy(np.array(array, np.float32 if floating else np.uint8, order="C"))
    if floating:
        values = _in_range(values, 0, name, what).mul_(2).sub_(1)

    def pack(results: list[Tensor]) -> NDArray[Any]:
        stacked = torch.stack(results).permute(0, 2, 3, 1).reshape(array.shape)
        return (stacked.add(1).div(2) if floating else stacked).numpy().astype(array.dtype)

    return Unpacked(list(values.reshape(-1, *array.shape[-3:]).permute(0, 3, 1, 2)), pack)


def _of_tensor(tensor: Tensor, name: str) -> Unpacked:
    what = f"a tensor of shape {tuple(tensor.shape)} and dtype {tensor.dtype}"
    if tensor.ndim not in (3, 4) or tensor.shape[-3] != 3 or not tensor.numel():
        raise _refusal(name, what)
    values = tensor.detach()
    if tensor.is_floating_point():
        values = _in_range(values.float(), -1, name, what)
    elif tensor.dtype != torch.uint8:
        raise _refusal(name, what)

    def pack(results: list[Tensor]) -> Tensor:
        return torch.stack(results).reshape(tensor.shape).to(tensor.dtype)

    return Unpacked(list(values.reshape(-1, *tensor.shape[-3:])), pack)


def _in_range(values: Tensor, low: int, name: str, what: str) -> Tensor:
    """Values in [low, 1], with what rounding adds cut off."""
    least, largest = (float(value) for value in values.aminmax())
    if not (low - ROUNDING <= least and largest <= 1 + ROUNDING):  # also where they are NaN
        raise _refusal(name, f"{what} with values from {least:.4g} to {largest:.4g}")
    return values.clamp(low, 1)


def _refusal(name: str, what: str) -> DataError:
    return DataError(f"{name}: {what}\n  {ACCEPTED}")
