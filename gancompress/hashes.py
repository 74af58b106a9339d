"""A file's hash of its own content, which it carries wherever it is copied.

The writer leaves room for the hash in the file's metadata, and fills it with the SHA-256 of the
file as it is with 64 zeros there. Readers of the format see one more entry. PyTorch's archives need
none: they have a CRC-32 of every part.
"""

from __future__ import annotations

import hashlib
import mmap
import re
import zipfile
from pathlib import Path

from gancompress.errors import CheckpointError

SEAL = "content_sha256"
ROOM = "0" * 64

# as JSON within the JSON of a safetensors header, and as an entry of ONNX's metadata
_MARK = re.compile(SEAL.encode() + rb'(?:\\": \\"|\x12@)([0-9a-f]{64})')
_MAX_MARK = 128  # bytes of a mark with its hash


def sealed(content: bytes) -> bytes:
    """A file's content with its hash in the room that was left for it."""
    place = _place(content)
    assert place is not None
    start, end = place
    return content[:start] + _digest(content, place).encode() + content[end:]


def check_seal(path: Path) -> bool:
    """Compare a file with the hash that it carries.

    Returns:
        Whether it carries one; files of others do not.

    Raises:
        CheckpointError: The content is another one than was written.
        OSError: It cannot be read.
    """
    with open(path, "rb") as file:
        if not file.seek(0, 2):
            return False  # nothing can be mapped
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            place = _place(content)
            if place is None:
                return False
            written, found = content[slice(*place)].decode(), _digest(content, place)
    if written != found:
        raise CheckpointError(damage(path, written, found))
    return True


def check_archive(path: Path) -> None:
    """Compare the parts of an archive of PyTorch's with their checksums.

    Raises:
        CheckpointError: A part is another one than was written.
        zipfile.BadZipFile: It is no archive, or damaged beyond its parts.
    """
    with zipfile.ZipFile(path) as archive:
        summed = any(part.CRC for part in archive.infolist())  # PyTorch can be told not to
        part = archive.testzip() if summed else None
    if part is not None:
        raise CheckpointError(f"{path} is damaged: its part {part} does not have its checksum")


def damage(path: Path, written: str, found: str) -> str:
    """What errors say of a file whose hash is another one."""
    return (
        f"{path} has changed since it was written: its SHA-256 is {found[:16]}..., not "
        f"{written[:16]}...\n  Restore it from a copy, or make it again."
    )


def _place(content: bytes | mmap.mmap) -> tuple[int, int] | None:
    """Where the hash is: near the beginning of safetensors, near the end of ONNX."""
    for start in (content.find(SEAL.encode()), content.rfind(SEAL.encode())):
        found = _MARK.search(content, start, start + _MAX_MARK) if start >= 0 else None
        if found:
            return found.span(1)
    return None


def _digest(content: bytes | mmap.mmap, place: tuple[int, int]) -> str:
    """SHA-256 of a content with zeros for its hash, in hexadecimal."""
    with memoryview(content) as view:
        digest = hashlib.sha256(view[: place[0]])
        digest.update(ROOM.encode())
        digest.update(view[place[1] :])
    return digest.hexdigest()
