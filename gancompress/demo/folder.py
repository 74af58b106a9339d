"""Folders that are written as a whole, and written again without losing anybody's file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from gancompress.checkpoint.files import write_atomic
from gancompress.demo.manifest import NAME, sha256
from gancompress.errors import ConfigError
from gancompress.hashes import LIST, read_list
from gancompress.paths import inside

PARTIAL_LIST = f".{LIST}.partial"


def publish(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Put files into a folder that is empty, or that this function has filled before.

    Files of an earlier call go, unless somebody has changed them; files of others stay. After an
    interruption the same call goes on.

    Args:
        folder: Made where it is missing.
        contents: By path below the folder, with forward slashes.

    Raises:
        ConfigError: The folder holds something else, files that somebody has changed, or links
            that lead out of it.
    """
    before = written_before(folder)
    new = {name: [sha256(content)] for name, content in contents.items()}
    for name in {LIST, PARTIAL_LIST} | before.keys() | new.keys():
        inside(folder, name)
    for name, digests in before.items():
        if not _is_one_of(folder / name, digests):
            raise ConfigError(
                f"{folder / name} has been changed since it was written\n"
                "  Move it away, or name another folder."
            )
    added = contents.keys() - before.keys()
    strangers = sorted(name for name in added if os.path.lexists(folder / name))
    if strangers:
        raise ConfigError(
            f"{folder / strangers[0]} was not written by this command, and would be replaced\n"
            "  Move it away, or name another folder."
        )
    # before the files, so that those which an interrupted call leaves are known to be its own
    both = {name: before.get(name, []) + new.get(name, []) for name in before | new}
    write_atomic(folder / LIST, json.dumps(both).encode())
    for name in sorted(contents, key=lambda name: name == NAME):  # who reads it finds all files
        write_atomic(folder / name, contents[name])
    for name in before.keys() - contents.keys():
        (folder / name).unlink(missing_ok=True)
    write_atomic(folder / LIST, json.dumps(new, indent=1).encode())


def _is_one_of(path: Path, digests: Sequence[str]) -> bool:
    """Whether a path is free, or a file with one of these digests."""
    if not os.path.lexists(path):
        return True
    return path.is_file() and not path.is_symlink() and sha256(path.read_bytes()) in digests


def written_before(folder: Path) -> dict[str, list[str]]:
    """Digests of the files that earlier calls of `publish` wrote, by path.

    Raises:
        ConfigError: The folder holds something, and no list of ours.
    """
    # an interruption may leave nothing but the beginning of the very first list
    if not folder.exists() or (folder.is_dir() and set(os.listdir(folder)) <= {PARTIAL_LIST}):
        return {}
    try:
        return read_list(folder / LIST)
    except (OSError, ValueError):
        raise ConfigError(
            f"{folder} is not empty, and was not written by this command\n"
            "  Name an empty or a new folder."
        ) from None
