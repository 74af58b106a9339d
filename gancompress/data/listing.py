"""Which files belong to which split: folders, or lists that name them.

A data folder has one layout of its kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gancompress.config import DataOptions
from gancompress.data.images import image_files
from gancompress.data.kinds import data_kind
from gancompress.data.kinds.kind import SPLIT_FOLDERS, Layout, Source, has_folders
from gancompress.errors import DataError

Sources = dict[tuple[str, str], Source]


def find_sources(options: DataOptions, layout: Layout, splits: Sequence[str]) -> Sources:
    """Files by split and side; a side that nothing names is not there.

    Item i of side A and item i of side B of paired data are a pair.

    Raises:
        ConfigError: Lists are given for sides that this mode does not have.
        DataError: A list is missing or empty, or names what is not there or twice; or files in
            two folders are no pairs.
    """
    kind = data_kind(options.mode)
    sources: Sources = {}
    for split in splits:
        found = kind.sources(options.root, layout, split, kind.lists(options, split))
        sources |= {(split, side): source for side, source in found.items()}
    for side in layout:
        _refuse_overlaps([sources[split, side] for split in splits if (split, side) in sources])
    return sources


def find_layout(root: Path, mode: str) -> Layout:
    """The layout that a data folder has; the mode's first one where it has none.

    A layout counts where a split has images on every side. Only where none does, folders of one
    side, and empty ones, count too.

    Args:
        root: The data folder.
        mode: A kind of data.

    Raises:
        DataError: The folder has two layouts.
    """
    layouts = data_kind(mode).layouts
    bases = [base for names in SPLIT_FOLDERS.values() for base in names]
    complete: dict[str, Layout] = {}
    for layout in layouts:
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
    begun = (layout for layout in layouts if has_folders(root, layout, SPLIT_FOLDERS))
    return next(iter([*complete.values(), *begun]), layouts[0])


def _holds_images(folder: Path) -> bool:
    return folder.is_dir() and bool(image_files(folder))


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
