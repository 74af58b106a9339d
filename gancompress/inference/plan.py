"""Which file each input is written to, decided before anything is read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from gancompress.data.images import SUFFIXES, is_image_file
from gancompress.errors import DataError

VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"}
# containers that hold H.264
VIDEO_TARGETS = {".mp4", ".m4v", ".mov", ".mkv"}


@dataclass(frozen=True)
class Job:
    """One input file and where its translation goes."""

    source: Path
    target: Path


def plan_file(source: Path, target: Path, suffix: str, allowed: Collection[str]) -> Job:
    """Where the translation of one file goes.

    Args:
        source: The input file.
        target: A file; or a folder, if it is one already or has no suffix.
        suffix: Suffix of the output in a folder.
        allowed: Suffixes that an output may have.

    Raises:
        DataError: An unknown suffix, or the output would replace the input.
    """
    if target.is_dir() or not target.suffix:
        target = target / f"{source.stem}{suffix}"
    elif target.suffix.lower() not in allowed:
        raise DataError(
            f"{target}: cannot write '{target.suffix}' from {source.name}\n"
            f"  Choose from {', '.join(sorted(allowed))}, or name a folder."
        )
    if target.resolve() == source.resolve():
        raise DataError(f"{target} is the input itself; choose another output")
    return Job(source, target)


def plan_folder(source: Path, target: Path, suffix: str, reads: Collection[str]) -> list[Job]:
    """Where the translation of every image below a folder goes; sub-folders are kept.

    Hidden files and folders, files with a suffix that is not in `reads`, and `target` where it lies
    inside `source` are left out. An output is called as its input, with `suffix`; inputs that
    differ in their suffix only keep it (`a.jpg` and `a.bmp` become `a.jpg.png`, `a.bmp.png`).

    Raises:
        DataError: No images; `target` is a file, has the suffix of one, or is `source`.
    """
    is_file = target.exists() and not target.is_dir()
    if is_file or (not target.exists() and target.suffix.lower() in SUFFIXES | VIDEO_SUFFIXES):
        raise DataError(f"{source} is a folder, so the output is one too, not the file {target}")
    if target.resolve() == source.resolve():
        raise DataError(f"{target} is the input folder itself; choose another output")
    files = sorted(_walk(source, target.resolve(), reads))
    if not files:
        raise DataError(f"{source} holds no images ({', '.join(sorted(reads))})")
    names = _output_names([file.relative_to(source) for file in files], suffix)
    return [Job(file, target / name) for file, name in zip(files, names, strict=True)]


def _walk(folder: Path, skipped: Path, reads: Collection[str]) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: {error.strerror}") from None

    for parent, folders, names in os.walk(folder, onerror=refuse):
        here = Path(parent)
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and (here / name).resolve() != skipped
        ]
        yield from (here / name for name in names if is_image_file(here / name, reads))


def _output_names(inputs: list[Path], suffix: str) -> list[Path]:
    """Names with the new suffix, with the old one before it where two would be the same.

    A longer name can be the short name of a third file, so this repeats until nothing changes.
    """
    longer: set[Path] = set()
    while True:
        names = [
            path.with_name((path.name if path in longer else path.stem) + suffix) for path in inputs
        ]
        # file systems that ignore case would write both to one file
        keys = [str(name).casefold() for name in names]
        counts = Counter(keys)
        clashing = {path for path, key in zip(inputs, keys, strict=True) if counts[key] > 1}
        if clashing <= longer:
            return names
        longer |= clashing
