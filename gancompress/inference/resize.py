"""The one way an input is resized before it is translated."""

from __future__ import annotations

from gancompress.data import RGB, ImageKind
from gancompress.data.image_kinds import Planes
from gancompress.data.images import MAX_PIXELS
from gancompress.errors import DataError


def resize_shorter(planes: Planes, size: int | None, name: str, kind: ImageKind = RGB) -> Planes:
    """Resize so that the shorter side is `size`; the shape is kept.

    Args:
        planes: An image.
        size: Pixels, or None to leave the image as it is.
        name: What errors call the image.
        kind: What it is.

    Raises:
        DataError: The result would be above `MAX_PIXELS`.
    """
    image = planes[0]
    shorter = min(image.size)
    if size is None or size == shorter:
        return planes
    width, height = (max(1, round(side * size / shorter)) for side in image.size)
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{name}: {image.width}x{image.height} with a shorter side of {size} is "
            f"{width}x{height}, above {MAX_PIXELS} pixels"
        )
    return kind.resize(planes, (width, height))
