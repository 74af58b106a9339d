"""Which files belong to which split: folders, or lists that name them.

A list is a text file with one image a line, its path relative to the data's root, or its bare name
in the split's folder. Of several columns the first one counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gancompress.config import DataOptions
from gancompress.data.images import is_image_file
from gancompress.errors import ConfigError, DataError

SPLIT_FOLDERS = {"train": ("train",), "search": ("search",), "test": ("test", "val")}
SIDES = {"paired": ("AB",), "unpaired": ("A", "B")}


@dataclass(frozen=True)
class Source:
    """Where the images of one split and side are named.

    Attributes:
        name: The folder in the root, or the list's path.
        files: In the list's order, or by name.
        lines: Line numbers in the list, from 1; None for a folder.
    """

    name: str
    files: list[Path]
    lines: list[int] | None = None


Sources = dict[tuple[str, str], Source]


def find_sources(options: DataOptions, splits: Sequence[str]) -> Sources:
    """Files by split and side; a side that nothing names is not there.

    Raises:
        ConfigError: Lists are given for sides that this mode does not have.
        DataError: A list is missing or empty, or names what is not there or twice.
    """
    sources: Sources = {}
    for split in splits:
        metas = _metas(options, split)
        for side in SIDES[options.mode]:
            folder = split_folder(options, split, side)
            if side in metas:
                sources[split, side] = _read_list(metas[side], options, split, side)
            elif folder is not None:
                files = sorted(path for path in folder.iterdir() if is_image_file(path))
                if files:
                    sources[split, side] = Source(folder.name, files)
    for side in SIDES[options.mode]:
        _refuse_overlaps([sources[split, side] for split in splits if (split, side) in sources])
    return sources


def input_side(options: DataOptions) -> str:
    """The side of the inputs: A or B of unpaired data, AB of paired data."""
    return "AB" if options.mode == "paired" else options.direction[0]


def folder_names(options: DataOptions, split: str, side: str) -> list[str]:
    """Names that a split's folder may have, the preferred one first."""
    return [name + (side if options.mode == "unpaired" else "") for name in SPLIT_FOLDERS[split]]


def split_folder(options: DataOptions, split: str, side: str) -> Path | None:
    """The folder of a split and side, or None where there is none."""
    folders = [options.root / name for name in folder_names(options, split, side)]
    return next((folder for folder in folders if folder.is_dir()), None)


def _metas(options: DataOptions, split: str) -> dict[str, Path]:
    key = f"{split}_meta"
    metas: dict[str, Path] = dict(getattr(options, key) or {})
    strange = sorted(set(metas) - set(SIDES[options.mode]))
    if strange:
        example = "FILE" if options.mode == "paired" else "{A: FILE, B: FILE}"
        raise ConfigError(
            f"data.{key} has a list for side {strange[0]}; {options.mode} data takes "
            f"data.{key}={example}"
        )
    return metas


def _read_list(file: Path, options: DataOptions, split: str, side: str) -> Source:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"data.{split}_meta: {file} cannot be read: {error}") from None
    splits = (split, "train") if split == "search" else (split,)
    places = [name for each in splits for name in folder_names(options, each, side)]
    seen: dict[Path, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        path = _listed_file(options.root, places, line.strip())
        if path is None:
            folders = ", ".join(f"{place}/" for place in places)
            raise DataError(
                f"{file}:{number}: no image '{line.strip()}' in {options.root} or its {folders}"
            )
        if path in seen:
            raise DataError(f"{file}:{number}: {path} is in line {seen[path]} already")
        seen[path] = number
    if not seen:
        raise DataError(f"{file}: the list is empty; data.{split}_meta names one image a line")
    return Source(str(file), list(seen), list(seen.values()))


def _listed_file(root: Path, places: list[str], line: str) -> Path | None:
    for text in (line, line.split()[0]):  # a name may hold spaces
        name = PurePosixPath(text)
        if name.is_absolute() or ".." in name.parts:
            continue
        for path in (root / name, *(root / place / name for place in places)):
            if path.is_file():
                return path
    return None


def _refuse_overlaps(sources: list[Source]) -> None:
    """No file in two lists; between folders and lists it is contents that decide."""
    owners: dict[Path, str] = {}
    for source in sources:
        if source.lines is None:
            continue
        for path, line in zip(source.files, source.lines, strict=True):
            if path in owners:
                raise DataError(
                    f"{source.name}:{line}: {path} is also in {owners[path]}\n"
                    "  An image belongs to one split: take it out of one of the lists."
                )
            owners[path] = f"{source.name}:{line}"
