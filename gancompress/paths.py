"""Names that come out of files. They are names of things in a folder, and never lead out of it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path, PurePosixPath

from gancompress.errors import CheckpointError, ConfigError

WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+\-]{0,199}")
"""What of a header may become the name of a file."""

FACTORY = re.compile(r"[\w.]+:\w+")
"""`package.module:factory`."""


def relative_name(name: object) -> PurePosixPath:
    """A path below some folder, with forward slashes, as a file lists it.

    Raises:
        ValueError: It is no such path, or leads out of the folder as it is written.
    """
    if not isinstance(name, str) or not name or b"\0" in os.fsencode(name):
        raise ValueError(f"{name!r} is not a valid file name")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{name} is outside the folder")
    return path


def inside(folder: Path, name: object) -> Path:
    """Where to read or write below a folder, which may have come from a stranger.

    Args:
        folder: As the user named it; it may itself be a link.
        name: A path below it.

    Raises:
        ConfigError: The name leads out of the folder, by itself or through a link in the folder.
    """
    try:
        path = folder / relative_name(name)
        leads_out = not path.resolve().is_relative_to(folder.resolve())
    except (ValueError, OSError, RuntimeError) as error:  # the last one: a ring of links
        raise ConfigError(f"{folder}: {error}") from None
    if leads_out:
        raise ConfigError(
            f"{path} is a link out of {folder}, and nothing is read or written through it\n"
            "  Put a file or a folder in its place."
        )
    return path


def file_name(word: object, source: object) -> str:
    """A word of a file's header that becomes the name of another file.

    Args:
        word: What the header says.
        source: What errors call the file with the header.

    Returns:
        The word.

    Raises:
        CheckpointError: It is not of the kind of `WORD`.
    """
    if isinstance(word, str) and WORD.fullmatch(word):
        return word
    raise CheckpointError(
        f"{source}: {str(word)[:80]!a} in its header cannot be the name of a file\n"
        "  Name the file yourself: --output FILE."
    )


def sync_folder(folder: Path) -> None:
    """Put a folder's names on the disk, so that a file renamed in it keeps its name after a crash.

    Windows opens no folders, and writes their names by itself.
    """
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
