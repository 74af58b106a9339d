"""Pairs: side by side in one file, or two files of one name, whatever the suffix, in two folders.

A list of pairs in two folders has one pair a line: the name of either file, or what both names
have in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from pathlib import Path, PurePosixPath
from typing import ClassVar

from gancompress.data.images import SUFFIXES, image_files
from gancompress.data.kinds.kind import (
    SPLIT_FOLDERS,
    DataKind,
    Layout,
    Source,
    list_lines,
    searched,
    side_sources,
)
from gancompress.errors import DataError

SIDE_BY_SIDE: Layout = {"AB": "{}"}


class Paired(DataKind):
    """Pairs of input and truth."""

    name = "paired"
    layouts: ClassVar[tuple[Layout, ...]] = (
        SIDE_BY_SIDE,
        {"A": "{}A", "B": "{}B"},
        {"A": "{}_A", "B": "{}_B"},
        {"A": "A/{}", "B": "B/{}"},
        {"A": "{}_label", "B": "{}_img"},
    )
    is_paired = True
    list_sides: ClassVar[tuple[str, ...]] = ("AB",)
    description = (
        "train/ and test/ with side-by-side pairs, or trainA/ trainB/ testA/ testB/ with pairs of "
        "one name"
    )

    def sources(
        self, root: Path, layout: Layout, split: str, lists: Mapping[str, Path]
    ) -> dict[str, Source]:
        """See `DataKind`."""
        if layout == SIDE_BY_SIDE:
            return side_sources(root, layout, split, lists)
        if lists:
            return _listed(lists["AB"], root, layout, split)
        return _paired(root, layout, split)


def _paired(root: Path, layout: Layout, split: str) -> dict[str, Source]:
    """All pairs of two folders, in the order of the files of side A."""
    for base in SPLIT_FOLDERS[split]:
        names = {side: pattern.format(base) for side, pattern in layout.items()}
        stems = {name: _by_stem(root / name) for name in names.values()}
        if any((root / name).is_dir() for name in names.values()):
            break
    _refuse_unmatched(str(root), stems)
    order = list(stems[names["A"]])
    return {
        side: Source(name, [stems[name][stem][0] for stem in order])
        for side, name in names.items()
        if order
    }


def _listed(file: Path, root: Path, layout: Layout, split: str) -> dict[str, Source]:
    """The pairs of two folders that a list names, in its order."""
    every = [base for names in SPLIT_FOLDERS.values() for base in names]
    own = [base for each in searched(split) for base in SPLIT_FOLDERS[each]]
    stems = {
        base: {p.format(base): _by_stem(root / p.format(base)) for p in layout.values()}
        for base in every
    }

    def find(line: str) -> tuple[str, str] | None:
        for text in (line, line.split()[0]):  # a name may hold spaces
            path = PurePosixPath(text)
            folder = path.parent.as_posix()
            stem = path.stem if path.suffix.lower() in SUFFIXES else path.name
            for base in own if folder == "." else [b for b in every if folder in stems[b]]:
                if any(stem in files for files in stems[base].values()):
                    return base, stem
        return None

    seen: dict[tuple[str, str], int] = {}
    for number, line in list_lines(file, split):
        pair = find(line)
        if pair is None:
            folders = ", ".join(f"{name}/" for base in own for name in stems[base])
            raise DataError(f"{file}:{number}: no pair '{line}' in {folders} of {root}")
        if pair in seen:
            raise DataError(f"{file}:{number}: {pair[1]} is in line {seen[pair]} already")
        seen[pair] = number
    for base in every:
        listed = [stem for b, stem in seen if b == base]
        _refuse_unmatched(
            str(file),
            {name: {s: f[s] for s in listed if s in f} for name, f in stems[base].items()},
        )
    return {
        side: Source(
            str(file),
            [stems[base][pattern.format(base)][stem][0] for base, stem in seen],
            list(seen.values()),
        )
        for side, pattern in layout.items()
    }


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    """Image files by their names without suffix; none where there is no folder."""
    stems: dict[str, list[Path]] = {}
    for path in image_files(folder) if folder.is_dir() else ():
        stems.setdefault(path.stem, []).append(path)
    return stems


def _refuse_unmatched(where: str, stems: dict[str, dict[str, list[Path]]]) -> None:
    """Every name has one file in both folders; `stems` are those of each."""
    problems = []
    for (name, own), (other, others) in permutations(stems.items(), 2):
        lone = [paths[0] for stem, paths in own.items() if stem not in others]
        twins = [path for paths in own.values() if len(paths) > 1 for path in paths]
        for files, what in ((lone, f"have no partner in {other}/"), (twins, "share their name")):
            if files:
                examples = ", ".join([path.name for path in files[:3]] + ["..."] * (len(files) > 3))
                total = sum(map(len, own.values()))
                problems.append(f"{len(files)} of {total} files in {name}/ {what} ({examples})")
    if problems:
        raise DataError(
            f"{where}: {'; '.join(problems)}\n  The two files of a pair have one name, whatever "
            "the suffix, and no other file has it. Data without pairs is of mode unpaired."
        )
