"""Kinds of images: how files of each are read, written and shown, and what a network gets of them.

| name | channels | a file holds | written as |
|---|---|---|---|
| `rgb` | 3 | anything; alpha is composited on white | any format |
| `grey` | 1 | anything; colours become their luminance | any format |
| `rgba` | 4 | anything; opaque where it has no alpha | PNG, TIFF, WebP |
| `labels:N` | N | the number of a class for each pixel, grey or palette | PNG, TIFF, BMP |
| `bands:N` | N | a NumPy array (H, W, N) | `.npy` |

Whatever the kind, pixels are (channels, H, W) uint8 in memory and [-1, 1] for a network. Label maps
are one-hot there: the plane of a pixel's class is 255, all others are 0. They are resized to the
nearest pixel; everything else is resized bicubically.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from gancompress.data.images import (
    ARRAY_SUFFIX,
    MAX_PIXELS,
    SAVE_SUFFIXES,
    SUFFIXES,
    atomic_path,
    colour_and_alpha,
    flattened,
    read_image,
    save_image,
    to_image,
)
from gancompress.errors import ConfigError, DataError
from gancompress.tables import lookup

Half = Literal["left", "right"]
Planes = list[Image.Image]
"""An image on its way from a file to a tensor: one image, or one for each band."""

NO_CLASS = 255  # in a file: a pixel without class
LOSSLESS = frozenset({".png", ".tif", ".tiff", ".bmp"})
WITH_ALPHA = frozenset({".png", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True)
class ImageKind(ABC):
    """One kind of image.

    Attributes:
        resampling: How it is resized.
        suffixes: Of the formats that hold it.
        read_suffixes: Of the files that it is read from.
        suffix: The usual one.
    """

    resampling: ClassVar[Image.Resampling] = Image.Resampling.BICUBIC
    suffixes: ClassVar[frozenset[str]] = frozenset(SAVE_SUFFIXES)
    read_suffixes: ClassVar[frozenset[str]] = frozenset(SUFFIXES - {ARRAY_SUFFIX})
    suffix: ClassVar[str] = ".png"

    @property
    @abstractmethod
    def name(self) -> str:
        """As options and files' headers write it."""

    @property
    @abstractmethod
    def channels(self) -> int:
        """Of its tensors."""

    def __str__(self) -> str:
        return self.name

    @abstractmethod
    def convert(self, image: Image.Image) -> Image.Image:
        """An upright image of any mode as one of this kind.

        Raises:
            ValueError: It cannot be one.
        """

    def read(
        self, source: Path | bytes, name: str | None = None, half: Half | None = None
    ) -> Planes:
        """Decode an image.

        Args:
            source: A file, or its bytes.
            name: What errors call it; the path by default.
            half: Of a side-by-side pair; the whole image by default.

        Raises:
            DataError: It is no image of this kind, or too large; see `read_image`.
        """
        what = name or str(source)
        return [read_image(source, name, lambda image: self.convert(_cut(image, half, what)))]

    def resize(self, planes: Planes, size: tuple[int, int]) -> Planes:
        """The image at this (width, height)."""
        return [plane.resize(size, self.resampling, reducing_gap=3) for plane in planes]

    def to_tensor(self, planes: Planes) -> Tensor:
        """(channels, H, W) uint8."""
        arrays = (np.atleast_3d(np.array(plane)) for plane in planes)
        return torch.from_numpy(np.concatenate(list(arrays), 2)).permute(2, 0, 1).contiguous()

    def encode(self, pixels: Tensor) -> Image.Image:
        """(channels, H, W) uint8 as a file holds it."""
        values = pixels.permute(1, 2, 0).contiguous().cpu().numpy()
        return Image.fromarray(values[..., 0] if self.channels == 1 else values)

    def save(self, pixels: Tensor, path: Path) -> None:
        """Write (channels, H, W) uint8; see `save_image`."""
        self._check(pixels, path)
        save_image(pixels, path, self.encode, self.suffixes)

    def _check(self, pixels: Tensor, path: Path) -> None:
        if pixels.shape[0] != self.channels:
            raise DataError(f"{path}: {pixels.shape[0]} channels do not make a {self} image")

    @abstractmethod
    def preview(self, images: Tensor) -> Tensor:
        """(..., channels, H, W) uint8 as people look at it, (..., 3, H, W) uint8."""


def _cut(image: Image.Image, half: Half | None, name: str) -> Image.Image:
    if half is None:
        return image
    middle = _middle(image.width, image.height, name)
    box = (0, 0, middle, image.height) if half == "left" else (middle, 0, image.width, image.height)
    return image.crop(box)


def _middle(width: int, height: int, name: str) -> int:
    if width % 2 or width < 2:
        raise DataError(f"{name}: {width}x{height} is not a side-by-side pair (odd width)")
    return width // 2


@dataclass(frozen=True)
class Rgb(ImageKind):
    """Colours."""

    name = "rgb"
    channels = 3

    def convert(self, image: Image.Image) -> Image.Image:
        """See `ImageKind`."""
        return flattened(image)

    def encode(self, pixels: Tensor) -> Image.Image:
        """See `ImageKind`."""
        return to_image(pixels)

    def preview(self, images: Tensor) -> Tensor:
        """See `ImageKind`."""
        return images


@dataclass(frozen=True)
class Grey(ImageKind):
    """Brightness alone."""

    name = "grey"
    channels = 1
    suffixes = frozenset(SAVE_SUFFIXES | {".pgm"})

    def convert(self, image: Image.Image) -> Image.Image:
        """See `ImageKind`."""
        return flattened(image).convert("L")

    def preview(self, images: Tensor) -> Tensor:
        """See `ImageKind`."""
        return images.expand(*images.shape[:-3], 3, -1, -1)


@dataclass(frozen=True)
class Rgba(ImageKind):
    """Colours, and how opaque they are; shown on white."""

    name = "rgba"
    channels = 4
    suffixes = WITH_ALPHA

    def convert(self, image: Image.Image) -> Image.Image:
        """See `ImageKind`."""
        colour, alpha = colour_and_alpha(image)
        colour.putalpha(255 if alpha is None else alpha)
        return colour

    def preview(self, images: Tensor) -> Tensor:
        """See `ImageKind`."""
        alpha = images[..., 3:, :, :].float() / 255
        shown = images[..., :3, :, :].float() * alpha + 255 * (1 - alpha)
        return shown.round().to(torch.uint8)


@dataclass(frozen=True)
class Labels(ImageKind):
    """Which of so many classes every pixel has.

    Attributes:
        classes: Their number; a file has 0 .. classes - 1, and 255 where there is none.
    """

    classes: int
    resampling = Image.Resampling.NEAREST
    suffixes = LOSSLESS

    def __post_init__(self) -> None:
        """Raise where a file cannot number the classes."""
        if not 1 <= self.classes <= NO_CLASS:
            raise ConfigError(f"labels:{self.classes}: label maps have 1 to {NO_CLASS} classes")

    @property
    def name(self) -> str:
        """See `ImageKind`."""
        return f"labels:{self.classes}"

    @property
    def channels(self) -> int:
        """See `ImageKind`."""
        return self.classes

    def convert(self, image: Image.Image) -> Image.Image:
        """See `ImageKind`."""
        if image.mode == "F":
            raise ValueError("floating-point samples; classes are whole numbers")
        values = np.asarray(image)
        if values.ndim == 3:
            if not bool((values == values[..., :1]).all()):
                raise ValueError(
                    f"a {image.mode} image of several colours; a label map has the number of a "
                    "class for each pixel, in one channel"
                )
            values = values[..., 0]
        strange = np.unique(values[(values >= self.classes) & (values != NO_CLASS)])
        if len(strange):
            raise ValueError(f"class {strange[0]}, and {self} has 0 to {self.classes - 1}")
        return Image.fromarray(values.astype(np.uint8))

    def to_tensor(self, planes: Planes) -> Tensor:
        """See `ImageKind`."""
        numbers = torch.from_numpy(np.array(planes[0]))
        hot = numbers[None] == torch.arange(self.classes, dtype=torch.uint8)[:, None, None]
        return hot.to(torch.uint8) * 255

    def numbers(self, images: Tensor) -> Tensor:
        """(..., channels, H, W) uint8 -> the brightest plane of every pixel, 255 where none is."""
        value, number = images.max(-3)
        return torch.where(value > 127, number, NO_CLASS).to(torch.uint8)

    def encode(self, pixels: Tensor) -> Image.Image:
        """See `ImageKind`."""
        return Image.fromarray(self.numbers(pixels).cpu().numpy())

    def preview(self, images: Tensor) -> Tensor:
        """See `ImageKind`; every class has a colour of its own, and none is black."""
        colours = _colours().to(images.device)
        return colours[self.numbers(images).long()].movedim(-1, -3).contiguous()


@cache
def _colours() -> Tensor:
    """256 colours that differ, (256, 3) uint8; the last one, of no class, is black."""
    hues = [number * 0.618034 % 1 * 6 for number in range(NO_CLASS)]
    table = [
        [
            round(
                255 * (0.95 - 0.25 * (number % 3)) * min(1, max(0.15, abs((hue - k) % 6 - 3) - 1))
            )
            for k in (0, 2, 4)
        ]
        for number, hue in enumerate(hues)
    ]
    return torch.tensor([*table, [0, 0, 0]], dtype=torch.uint8)


@dataclass(frozen=True)
class Bands(ImageKind):
    """Bands of any meaning, such as those of a satellite; the first three are shown.

    Attributes:
        number: Of bands.
    """

    number: int
    suffixes = read_suffixes = frozenset({ARRAY_SUFFIX})
    suffix = ARRAY_SUFFIX

    def __post_init__(self) -> None:
        """Raise where there are none, or too many."""
        if not 1 <= self.number <= 4096:
            raise ConfigError(f"bands:{self.number}: images have 1 to 4096 bands")

    @property
    def name(self) -> str:
        """See `ImageKind`."""
        return f"bands:{self.number}"

    @property
    def channels(self) -> int:
        """See `ImageKind`."""
        return self.number

    def convert(self, image: Image.Image) -> Image.Image:
        """See `ImageKind`."""
        raise ValueError(f"{self} is read from {ARRAY_SUFFIX} files")

    def read(
        self, source: Path | bytes, name: str | None = None, half: Half | None = None
    ) -> Planes:
        """See `ImageKind`; 16-bit values are scaled by 1/257, floats are in [0, 1]."""
        what = name or str(source)
        values = _levels(read_array(source, what), what)
        if values.shape[2] != self.number:
            raise DataError(f"{what}: {values.shape[2]} bands, and not the {self.number} of {self}")
        if half is not None:
            middle = _middle(values.shape[1], values.shape[0], what)
            values = values[:, :middle] if half == "left" else values[:, middle:]
        return [Image.fromarray(np.ascontiguousarray(band)) for band in np.moveaxis(values, 2, 0)]

    def encode(self, pixels: Tensor) -> Image.Image:
        """See `ImageKind`."""
        raise DataError(f"{self} is kept in arrays, and not in images that Pillow knows")

    def save(self, pixels: Tensor, path: Path) -> None:
        """See `ImageKind`."""
        self._check(pixels, path)
        if path.suffix.lower() != ARRAY_SUFFIX:
            raise DataError(f"{path}: {self} is written to {ARRAY_SUFFIX} files")
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, pixels.permute(1, 2, 0).contiguous().cpu().numpy())

    def preview(self, images: Tensor) -> Tensor:
        """See `ImageKind`."""
        shown = images[..., :3, :, :]
        return (
            shown if self.number >= 3 else shown[..., :1, :, :].expand(*shown.shape[:-3], 3, -1, -1)
        )


def read_array(source: Path | bytes, name: str) -> NDArray[Any]:
    """A `.npy` file, (H, W, bands); nothing in it is run.

    Raises:
        DataError: It is no such file, or above `MAX_PIXELS`.
    """
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
        values: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{name}: not a readable array: {error}") from None
    if not isinstance(values, np.ndarray) or values.ndim != 3 or not values.size:
        raise DataError(f"{name}: an image of bands is an array (H, W, bands)")
    if values.shape[0] * values.shape[1] > MAX_PIXELS:
        raise DataError(f"{name}: {values.shape[1]}x{values.shape[0]} is above {MAX_PIXELS} pixels")
    return values


def _levels(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    is_share = np.issubdtype(values.dtype, np.floating)
    if is_share and bool(((values >= 0) & (values <= 1)).all()):
        values = values * 255
    elif values.dtype == np.uint16:
        values = values / 257
    elif values.dtype != np.uint8:
        kind = values.dtype
        raise DataError(f"{name}: bands have 8 or 16 bits, or are floats in [0, 1], not {kind}")
    levels: NDArray[np.uint8] = np.rint(values).astype(np.uint8)
    return levels


RGB, GREY, RGBA = Rgb(), Grey(), Rgba()

IMAGE_KINDS: dict[str, type[ImageKind]] = {
    "rgb": Rgb,
    "grey": Grey,
    "rgba": Rgba,
    "labels": Labels,
    "bands": Bands,
}
"""By the name in `data.input` and `data.target`, without the number of channels."""


def image_kind(text: str | None) -> ImageKind:
    """The kind of a name, such as `grey` or `labels:35`; None is RGB.

    Raises:
        ConfigError: There is none; the message lists those there are.
    """
    name, colon, number = (text or "rgb").partition(":")
    made = lookup(IMAGE_KINDS, name, "kind of image")
    counted = bool(fields(made))
    if counted and not (number.isascii() and number.isdigit()):
        raise ConfigError(f"kind of image '{text}': say how many, such as {name}:6")
    if colon and not counted:
        raise ConfigError(f"kind of image '{text}': {name} has a fixed number of channels")
    return made(*([int(number)] if counted else []))


def kind_of_channels(channels: int) -> ImageKind:
    """The kind of images of so many channels, where nothing says more."""
    return {kind.channels: kind for kind in (RGB, GREY, RGBA)}.get(channels) or Bands(channels)


def find_kind(files: Sequence[Path]) -> ImageKind:
    """The kind of image files; RGB where they do not all say that they are something else.

    Grey files are grey, files with alpha that is somewhere less than opaque are RGBA, and arrays
    have bands. That numbers are those of classes is nothing that files say.
    """
    if not files:
        return RGB
    if all(path.suffix.lower() == ARRAY_SUFFIX for path in files):
        return Bands(read_array(files[0], str(files[0])).shape[2])
    modes = set()
    for path in files:
        try:
            with Image.open(path) as image:
                modes.add(image.mode)
        except (OSError, ValueError, Image.DecompressionBombError):
            return RGB  # an error where it is decoded
    if modes <= {"1", "L", "I", "F", "I;16", "I;16B"}:
        return GREY
    if modes <= {"RGBA", "LA", "PA"}:
        seen = (RGBA.to_tensor(RGBA.read(path))[3] for path in files)
        return RGBA if any(bool((alpha < 255).any()) for alpha in seen) else RGB
    return RGB
