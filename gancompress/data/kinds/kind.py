"""What a kind of data set is, and how folders and lists name its images.

A list is a text file with one image a line, its path relative to the data's root, or its bare name
in the split's folder. Of several columns the first one counts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from gancompress.config import DataOptions
from gancompress.data.images import image_files
from gancompress.errors import ConfigError, DataError

SPLIT_FOLDERS = {"train": ("train",), "search": ("search",), "test": ("test", "val")}

Layout = Mapping[str, str]
"""By side, the name of a folder, where {} stands for the split's."""


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


class DataKind(ABC):
    """How a data set lies in folders, and which of its images belong together.

    Attributes:
        name: Of `data.mode`.
        layouts: Folders that it may have, the preferred ones first.
        is_paired: Whether item i of both sides shows the same thing.
        list_sides: Sides that `data.train_meta` and the like take a list for.
        description: Its folders, for people.
    """

    name: ClassVar[str]
    layouts: ClassVar[tuple[Layout, ...]]
    is_paired: ClassVar[bool]
    list_sides: ClassVar[tuple[str, ...]] = ("A", "B")
    description: ClassVar[str]

    @abstractmethod
    def sources(
        self, root: Path, layout: Layout, split: str, lists: Mapping[str, Path]
    ) -> dict[str, Source]:
        """Files of one split by side; a side that nothing names is left out.

        Args:
            root: The data folder.
            layout: One of the kind's, which the folder has.
            split: train, search or test.
            lists: By side, files that name the images; a folder does where there is none.

        Raises:
            DataError: A list is empty, or names what is not there or twice; or files that should
                be pairs are none.
        """

    def lists(self, options: DataOptions, split: str) -> dict[str, Path]:
        """The lists that the options name for a split, by side.

        Raises:
            ConfigError: There is one for a side that has none in this kind of data.
        """
        key = f"{split}_meta"
        found: dict[str, Path] = dict(getattr(options, key) or {})
        strange = sorted(set(found) - set(self.list_sides))
        if strange:
            sides = ", ".join(f"{side}: FILE" for side in self.list_sides)
            example = "FILE" if self.list_sides == ("AB",) else f"{{{sides}}}"
            takes = f"data.{key}={example}" if sides else "none"
            raise ConfigError(
                f"data.{key} has a list for side {strange[0]}; {self.name} data takes {takes}"
            )
        return found


def side_sources(
    root: Path, layout: Layout, split: str, lists: Mapping[str, Path]
) -> dict[str, Source]:
    """Files of a split whose sides are independent of each other; see `DataKind.sources`."""
    sources = {}
    for side in layout:
        folder = split_folder(root, layout, split, side)
        if side in lists:
            places = [n for each in searched(split) for n in folder_names(layout, each, side)]
            sources[side] = _read_list(lists[side], root, split, places)
        elif folder is not None:
            files = image_files(folder)
            if files:
                sources[side] = Source(folder.name, files)
    return sources


def has_folders(root: Path, layout: Layout, splits: Iterable[str]) -> bool:
    """Whether some side of some of these splits has its folder."""
    return any(split_folder(root, layout, split, side) for split in splits for side in layout)


def folder_names(layout: Layout, split: str, side: str) -> list[str]:
    """Names that a split's folder may have, the preferred one first."""
    return [layout[side].format(base) for base in SPLIT_FOLDERS[split]]


def split_folder(root: Path, layout: Layout, split: str, side: str) -> Path | None:
    """The folder of a split and side, or None where there is none."""
    folders = [root / name for name in folder_names(layout, split, side)]
    there = (folder for folder in folders if folder.is_dir())
    return next((folder for folder in there if folder != root or image_files(folder)), None)


def searched(split: str) -> tuple[str, ...]:
    """Splits in whose folders the names of a list are looked up."""
    return (split, "train") if split == "search" else (split,)


def list_lines(file: Path, split: str) -> Iterator[tuple[int, str]]:
    """The lines of a list that are not empty, with their numbers from 1."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"data.{split}_meta: {file} cannot be read: {error}") from None
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    if not any(line for _, line in lines):
        raise DataError(f"{file}: the list is empty; data.{split}_meta names one image a line")
    return ((number, line) for number, line in lines if line)


def _read_list(file: Path, root: Path, split: str, places: list[str]) -> Source:
    seen: dict[Path, int] = {}
    for number, line in list_lines(file, split):
        path = _listed_file(root, places, line)
        if path is None:
            folders = ", ".join(f"{place}/" for place in places)
            raise DataError(f"{file}:{number}: no image '{line}' in {root} or its {folders}")
        if path in seen:
            raise DataError(f"{file}:{number}: {path} is in line {seen[path]} already")
        seen[path] = number
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
