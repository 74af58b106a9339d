"""Files to images and back: one rule for every mode, the same in every command.

In this order: the orientation in EXIF is applied; samples wider than 8 bits become 8 bits; an
embedded colour profile is converted to sRGB; alpha is composited on white. The result is 8-bit RGB;
other kinds of images are in `gancompress.data.image_kinds`.

Wider samples: 16-bit grey is scaled by 1/257, so that white stays white; 32-bit integers count as
16-bit values; floats are [0, 1] and nothing else. Pillow hands out 16-bit colour as its high
bytes, which is at most one level away. An animation is its first frame.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageCms, UnidentifiedImageError
from torch import Tensor

from gancompress.errors import DataError

ARRAY_SUFFIX = ".npy"
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
SUFFIXES = {
    ".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm",
    ARRAY_SUFFIX,
}  # fmt: skip
# the suffixes whose formats hold 8-bit RGB: a GIF has 256 colours, a PGM none
SAVE_SUFFIXES = SUFFIXES - {".gif", ".pgm", ARRAY_SUFFIX}
MAX_PIXELS = 64_000_000
# a larger image whose file has fewer bytes to a pixel is one colour, made to fill the memory
SMALL_PIXELS = 16_000_000
MIN_DENSITY = 1 / 200

ORIENTATION_TAG = 0x0112
ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def list_images(folder: Path) -> list[Path]:
    """Image files of a folder, sorted by name; sub-folders and hidden files are left out.

    Raises:
        DataError: The folder is missing or holds no images.
    """
    if not folder.is_dir():
        raise DataError(f"no folder {folder}")
    files = image_files(folder)
    if not files:
        raise DataError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))})")
    return files


def image_files(folder: Path) -> list[Path]:
    """Image files of a folder, sorted by name, which may be none.

    Arrays are images of bands where there is nothing else; beside other images they are features,
    masks and the like.
    """
    files = sorted(path for path in folder.iterdir() if is_image_file(path))
    return [path for path in files if path.suffix.lower() != ARRAY_SUFFIX] or files


def is_image_file(path: Path, suffixes: Collection[str] = SUFFIXES) -> bool:
    """Whether a path is a file, not hidden, with a suffix of an image; nothing is read."""
    return path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()


def read_image(
    source: Path | bytes,
    name: str | None = None,
    convert: Callable[[Image.Image], Image.Image] | None = None,
) -> Image.Image:
    """Decode one image completely, upright, and convert it to 8-bit sRGB.

    Safe to call from several threads: no warning filter or other global state is touched.

    Args:
        source: A file, or its bytes.
        name: What errors call it; the path by default.
        convert: What to make of the upright image; `flattened` by default.

    Raises:
        DataError: Not an image, truncated, of an unknown format, or above `MAX_PIXELS`.
    """
    name = name or (str(source) if isinstance(source, Path) else "image")
    try:
        stream = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(stream, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _too_large(name, f"{image.width}x{image.height}")
            _refuse_inflated(image, source, name)
            image.load()
            return (convert or flattened)(upright(image))
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"no image {name}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(name, "its size") from None
    except UnidentifiedImageError:
        raise DataError(f"{name}: not an image ({', '.join(FORMATS)} are read)") from None
    except Exception as error:  # Pillow's decoders raise many types for damaged files
        raise DataError(f"{name}: not a readable image: {error}") from None


def _refuse_inflated(image: Image.Image, source: Path | bytes, name: str) -> None:
    """Raise where a few bytes say that they are a great many pixels; none of them is decoded."""
    pixels = image.width * image.height
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if pixels > SMALL_PIXELS and size < MIN_DENSITY * pixels:
        raise DataError(f"{name}: {image.width}x{image.height} pixels in a file of {size} bytes")


def _too_large(name: str, size: str) -> DataError:
    return DataError(f"{name}: {size} is above {MAX_PIXELS} pixels")


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a loaded image of any mode to RGB by the rules at the top of this module.

    Raises:
        ValueError: Floating-point samples outside [0, 1], or a mode that Pillow cannot convert.
    """
    return flattened(upright(image))


def flattened(image: Image.Image) -> Image.Image:
    """An upright image as RGB, with alpha composited on white; see `to_rgb`."""
    rgb, alpha = colour_and_alpha(image)
    if alpha is None:
        return rgb
    return Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)


def colour_and_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """An upright image as sRGB, and its alpha as L, or None where it has none."""
    colour, alpha = _split_alpha(image)
    return _to_srgb(colour, image.info.get("icc_profile")), alpha


def upright(image: Image.Image) -> Image.Image:
    """A loaded image turned as its EXIF says."""
    try:
        orientation = image.getexif().get(ORIENTATION_TAG)
    except Exception:  # damaged EXIF says nothing about the pixels
        return image
    method = ORIENTATIONS.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colours as L, RGB or CMYK, and alpha as L or None where there is none."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _split_deep(image)
    if "transparency" in image.info or image.mode in ("RGBA", "RGBa", "LA", "La", "PA"):
        rgba = image.convert("RGBA")
        grey = image.mode in ("1", "L", "LA", "La")  # stays grey for the sake of grey profiles
        return rgba.getchannel("R") if grey else rgba.convert("RGB"), rgba.getchannel("A")
    if image.mode in ("L", "RGB", "CMYK"):
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def _split_deep(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    values = np.asarray(image)
    if image.mode == "F":
        if not bool(((values >= 0) & (values <= 1)).all()):
            raise ValueError("its floating-point samples leave [0, 1]; save it with 8 or 16 bits")
        levels = np.rint(values * np.float64(255)).astype(np.uint8)
    else:
        table = np.rint(np.arange(1 << 16) / 257).astype(np.uint8)
        levels = table[values.clip(0, 65535)]
    grey = Image.fromarray(levels)
    hidden = image.info.get("transparency")
    if not isinstance(hidden, int):
        return grey, None
    return grey, Image.fromarray(np.where(values == hidden, 0, 255).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """L, RGB or CMYK with its profile -> RGB."""
    if not profile:
        return image.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):  # a broken profile says nothing about the pixels
        return image.convert("RGB")
    assert converted is not None  # None is for conversions in place
    return converted


def to_tensor(image: Image.Image) -> Tensor:
    """RGB image -> (3, H, W) uint8."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def to_image(pixels: Tensor) -> Image.Image:
    """(3, H, W) or (1, H, W) uint8 -> RGB image."""
    if pixels.shape[0] == 1:
        pixels = pixels.expand(3, -1, -1)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().cpu().numpy())


def to_float(pixels: Tensor) -> Tensor:
    """Uint8 [0, 255] -> float32 [-1, 1], same shape."""
    return pixels.float().mul_(1 / 127.5).sub_(1)


def to_uint8(values: Tensor) -> Tensor:
    """Float [-1, 1] -> uint8 [0, 255], rounded, same shape; NaN has no level: look for it first."""
    return values.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def refuse_constant(images: Iterable[Tensor], names: Iterable[object], what: str) -> None:
    """Raise where an image shows nothing.

    A flat image has no features to speak of, and instance norms amplify its rounding errors.

    Args:
        images: (C, H, W) uint8 each.
        names: Of the images.
        what: What errors call them, before the name.

    Raises:
        DataError: All pixels of an image are equal; names it.
    """
    for name, image in zip(names, images, strict=True):
        if bool((image == image[:, :1, :1]).all()):
            raise DataError(
                f"{what} {name}: all pixels have one colour; scores of such an image mean nothing"
            )


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Path of a temporary file beside `path` that replaces it when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    temporary.unlink(missing_ok=True)  # in a stranger's folder it may be a link to anywhere
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_image(
    pixels: Tensor,
    path: Path,
    encode: Callable[[Tensor], Image.Image] = to_image,
    suffixes: Collection[str] = SAVE_SUFFIXES,
) -> None:
    """Write an image to a file whose suffix chooses the format; never half-written.

    Nothing but the pixels is written: no EXIF, profile or comment of any input.

    Args:
        pixels: (C, H, W) uint8.
        path: The file.
        encode: From the pixels to what is written; to RGB by default.
        suffixes: Of the formats that can hold that.

    Raises:
        DataError: The format is unknown, or cannot hold an image of this kind or size.
        OSError: The file system refuses: a full disk, no permission.
    """
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        raise DataError(
            f"{path}: images are not written as '{suffix}'\n"
            f"  Choose from {', '.join(sorted(suffixes))}."
        )
    lossy = suffix in (".jpg", ".jpeg", ".jfif", ".webp")
    options: dict[str, Any] = {"quality": 95} if lossy else {}
    with atomic_path(path) as temporary:
        try:
            encode(pixels).save(temporary, **options)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            height, width = pixels.shape[-2:]
            raise DataError(f"{path}: cannot write {width}x{height} pixels: {error}") from None
