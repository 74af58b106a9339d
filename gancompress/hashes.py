"""Hashes by which damage is noticed: in a file, in the list of its folder, in an export's proof.

Files of weights and of ONNX carry the hash of their own content, wherever they are copied.

The writer leaves room for the hash in the file's metadata, and fills it with the SHA-256 of the
file as it is with 64 zeros there. Readers of the format see one more entry. PyTorch's archives need
none: they have a CRC-32 of every part.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from gancompress.errors import CheckpointError
from gancompress.paths import relative_name

LIST = "files.json"
"""A folder's list of its files: SHA-256 by path; several while a file is being replaced."""

PROOF = ".proof.json"
"""Added to the name of an exported file: what was measured, with the SHA-256 of its files."""

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


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal; the content is never held as a whole."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_list(folder: Path, names: Iterable[str], new: Mapping[str, bytes]) -> bytes:
    """Content of a list of files.

    Args:
        folder: Where they are.
        names: Of those that are there.
        new: Contents of those that will be, by name.
    """
    digests = {name: [file_sha256(folder / name)] for name in names}
    digests |= {name: [hashlib.sha256(content).hexdigest()] for name, content in new.items()}
    return json.dumps(digests, indent=1).encode()


def read_list(path: Path) -> dict[str, list[str]]:
    """Accepted digests of every file in a list.

    Raises:
        ValueError: It is damaged.
        OSError: It cannot be read.
    """
    try:
        digests = {name: list(found) for name, found in json.loads(path.read_bytes()).items()}
        for name in digests:
            relative_name(name)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is not a list of files: {error}") from None
    return digests


def check_listed(path: Path) -> None:
    """Compare a file with the list in its folder, if there is one that names it.

    Raises:
        CheckpointError: The content is another one than was written, or the list is damaged.
    """
    try:
        accepted = read_list(path.with_name(LIST)).get(path.name)
    except FileNotFoundError:
        return
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    if accepted is not None:
        check_hashes(path, accepted)


def check_proof(path: Path) -> list[Path]:
    """Compare an exported file, and those that belong to it, with the proof beside it.

    Returns:
        What was compared; nothing where there is no proof.

    Raises:
        CheckpointError: The content of one is another than was proven, or the proof is damaged.
    """
    proof = path.with_name(f"{path.name}{PROOF}")
    try:
        digests = json.loads(proof.read_bytes())["sha256"]
        files = {path.with_name(relative_name(name).name): [d] for name, d in digests.items()}
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{proof} is damaged: {error}") from None
    for file, accepted in files.items():
        check_hashes(file, accepted)
    return list(files)


def check_hashes(path: Path, accepted: Sequence[str]) -> None:
    """Compare a file with the hashes that it may have.

    Raises:
        CheckpointError: It has another one, or is missing.
    """
    try:
        found = file_sha256(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; it is in the list of its folder") from None
    if found not in accepted:
        raise CheckpointError(damage(path, str(accepted[-1]) if accepted else "", found))


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
