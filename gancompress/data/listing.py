"""Which files belong to which split: folders, or lists that name them.

Pairs are side by side in one file, or two files of one name, whatever the suffix, in two folders.
`LAYOUTS` has the folders' names; a data folder has one layout.

A list is a text file with one image a line, its path relative to the data's root, or its bare name
in the split's folder. Of several columns the first one counts. A list of pairs in two folders has
one pair a line: the name of either file, or what both names have in common.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path, PurePosixPath

from gancompress.config import DataOptions
from gancompress.data.images import SUFFIXES, is_image_file
from gancompress.errors import ConfigError, DataError

SPLIT_FOLDERS = {"train": ("train",), "search": ("search",), "test": ("test", "val")}

Layout = Mapping[str, str]
"""By side, the name of a folder, where {} stands for the split's."""

SIDE_BY_SIDE: Layout = {"AB": "{}"}
TWO_FOLDERS: tuple[Layout, ...] = (
    {"A": "{}A", "B": "{}B"},
    {"A": "{}_A", "B": "{}_B"},
    {"A": "A/{}", "B": "B/{}"},
    {"A": "{}_label", "B": "{}_img"},
)
LAYOUTS = {"paired": (SIDE_BY_SIDE, *TWO_FOLDERS), "unpaired": TWO_FOLDERS[:1]}


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


def find_sources(options: DataOptions, layout: Layout, splits: Sequence[str]) -> Sources:
    """Files by split and side; a side that nothing names is not there.

    Item i of side A and item i of side B of paired data are a pair.

    Raises:
        ConfigError: Lists are given for sides that this mode does not have.
        DataError: A list is missing or empty, or names what is not there or twice; or files in
            two folders are no pairs.
    """
    sources: Sources = {}
    for split in splits:
        metas = _metas(options, split)
        if options.mode == "paired" and layout != SIDE_BY_SIDE:
            if metas:
                pairs = _listed(metas["AB"], options.root, layout, split)
            else:
                pairs = _paired(options.root, layout, split)
            sources |= {(split, side): source for side, source in pairs.items()}
            continue
        for side in layout:
            folder = split_folder(options.root, layout, split, side)
            if side in metas:
                places = [n for each in _searched(split) for n in folder_names(layout, each, side)]
                sources[split, side] = _read_list(metas[side], options.root, split, places)
            elif folder is not None:
                files = sorted(path for path in folder.iterdir() if is_image_file(path))
                if files:
                    sources[split, side] = Source(folder.name, files)
    for side in layout:
        _refuse_overlaps([sources[split, side] for split in splits if (split, side) in sources])
    return sources


def find_layout(root: Path, mode: str) -> Layout:
    """The layout that a data folder has; the mode's first one where it has none.

    A layout counts where a split has images on every side. Only where none does, folders of one
    side, and empty ones, count too.

    Args:
        root: The data folder.
        mode: paired or unpaired.

    Raises:
        DataError: The folder has two layouts.
    """
    bases = [base for names in SPLIT_FOLDERS.values() for base in names]
    complete: dict[str, Layout] = {}
    for layout in LAYOUTS[mode]:
        for base in bases:
            folders = [pattern.format(base) for pattern in layout.values()]
            if all(_holds_images(root / folder) for folder in folders):
                complete.setdefault(" ".join(f"{folder}/" for folder in folders), layout)
                break
    if len(complete) > 1:
        raise DataError(
            f"{root} holds {mode} data in two layouts: {' and '.join(complete)}\n"
            "  Move all but one away, or take a folder that holds one of them as data.root."
        )
    begun = (layout for layout in LAYOUTS[mode] if has_folders(root, layout, SPLIT_FOLDERS))
    return next(iter([*complete.values(), *begun]), LAYOUTS[mode][0])


def has_folders(root: Path, layout: Layout, splits: Iterable[str]) -> bool:
    """Whether some side of some of these splits has its folder."""
    return any(split_folder(root, layout, split, side) for split in splits for side in layout)


def folder_names(layout: Layout, split: str, side: str) -> list[str]:
    """Names that a split's folder may have, the preferred one first."""
    return [layout[side].format(base) for base in SPLIT_FOLDERS[split]]


def split_folder(root: Path, layout: Layout, split: str, side: str) -> Path | None:
    """The folder of a split and side, or None where there is none."""
    folders = [root / name for name in folder_names(layout, split, side)]
    return next((folder for folder in folders if folder.is_dir()), None)


def _holds_images(folder: Path) -> bool:
    return folder.is_dir() and any(map(is_image_file, folder.iterdir()))


def _searched(split: str) -> tuple[str, ...]:
    """Splits in whose folders the names of a list are looked up."""
    return (split, "train") if split == "search" else (split,)


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
    own = [base for each in _searched(split) for base in SPLIT_FOLDERS[each]]
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
    for number, line in _lines(file, split):
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
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if is_image_file(path):
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


def _metas(options: DataOptions, split: str) -> dict[str, Path]:
    key = f"{split}_meta"
    metas: dict[str, Path] = dict(getattr(options, key) or {})
    strange = sorted(set(metas) - ({"AB"} if options.mode == "paired" else {"A", "B"}))
    if strange:
        example = "FILE" if options.mode == "paired" else "{A: FILE, B: FILE}"
        raise ConfigError(
            f"data.{key} has a list for side {strange[0]}; {options.mode} data takes "
            f"data.{key}={example}"
        )
    return metas


def _lines(file: Path, split: str) -> Iterator[tuple[int, str]]:
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
    for number, line in _lines(file, split):
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
