"""A kind of data set of the tests alone, registered with one line, and a maker of such folders.

Every test that loops over `DATA_KINDS` covers it like the built-in ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from helpers import counterpart, picture, splits_of, write_image

from gancompress.data import DATA_KINDS, DataKind
from gancompress.data.kinds.kind import Layout, Source, split_folder


class Numbered(DataKind):
    """Pairs in one folder: 0001_in.png and 0001_out.png."""

    name = "numbered"
    layouts: ClassVar[tuple[Layout, ...]] = ({"A": "numbered_{}", "B": "numbered_{}"},)
    is_paired = True
    list_sides: ClassVar[tuple[str, ...]] = ()
    description = "numbered_train/ and numbered_test/ with files NUMBER_in and NUMBER_out"

    def sources(
        self, root: Path, layout: Layout, split: str, lists: Mapping[str, Path]
    ) -> dict[str, Source]:
        folder = split_folder(root, layout, split, "A")
        ends = {"A": "_in", "B": "_out"}
        return {
            side: Source(folder.name, sorted(folder.glob(f"*{end}.png")))
            for side, end in ends.items()
            if folder is not None
        }


def make_numbered(root: Path, count: int = 8, size: int = 32) -> Path:
    """Pairs of a picture and its counterpart, as `helpers.make_paired` has them."""
    for split, start, number in splits_of(count):
        for index in range(start, start + number):
            folder, pixels = root / f"numbered_{split}", picture(index, size)
            write_image(folder / f"{index:04d}_in.png", pixels)
            write_image(folder / f"{index:04d}_out.png", counterpart(pixels))
    return root


DATA_KINDS["numbered"] = Numbered
