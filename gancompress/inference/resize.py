"""The one way an input is resized before it is translated."""

from __future__ import annotations

from PIL import Image

from gancompress.data.images import MAX_PIXELS
from gancompress.errors import DataError


def resize_shorter(image: Image.Image, size: int | None, name: str) -> Image.Image:
    """Resize so that the shorter side is `size`, bicubic; the shape is kept.

    Args:
        image: RGB.
        size: Pixels, or None to leave the image as it is.
        name: What errors call the image.

    Raises:
        DataError: The result would be above `MAX_PIXELS`.
    """
    shorter = min(image.size)
    if size is None or size == shorter:
        return image
    width, height = (max(1, round(side * size / shorter)) for side in image.size)
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{name}: {image.width}x{image.height} with a shorter side of {size} is "
            f"{width}x{height}, above {MAX_PIXELS} pixels"
        )
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3)
