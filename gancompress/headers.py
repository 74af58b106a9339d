"""What files say of themselves: a JSON object whose known entries have types and ranges."""

from __future__ import annotations

from typing import Any

from gancompress.errors import CheckpointError

MAX_STRIDE = 4096
MAX_SIDE = 16384  # of images, as in options
_LARGEST = {"stride": MAX_STRIDE, "image_size": MAX_SIDE, "input_nc": 4096}


def check_header(header: Any, source: object, name: str = "header") -> dict[str, Any]:
    """The header of a file.

    Args:
        header: What was read; not even its keys are known.
        source: What errors call the file.
        name: What errors call the header.

    Raises:
        CheckpointError: It is no JSON object, or an entry has another type or an absurd size.
    """
    if not isinstance(header, dict):
        raise CheckpointError(f"{source}: its {name} 'gancompress' is not a JSON object")
    for key, largest in _LARGEST.items():
        value = header.get(key, 1)
        if not isinstance(value, int) or not 1 <= value <= largest:
            raise CheckpointError(
                f"{source}: '{key}' of its {name} is not a pixel count: {repr(value)[:40]}"
            )
    progress = header.get("progress", {})
    known = isinstance(progress, dict) and {type(value) for value in progress.values()} <= {int}
    if not known or ("of" in progress and "images" not in progress):
        raise CheckpointError(f"{source}: 'progress' of its {name} says nothing about images")
    if not isinstance(header.get("subnet", ""), str):
        raise CheckpointError(f"{source}: 'subnet' of its {name} is not text")
    return header
