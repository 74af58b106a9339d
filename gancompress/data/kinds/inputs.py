"""Images of the source domain alone, in the folder itself: enough to distil a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from gancompress.data.kinds.kind import DataKind, Layout, Source, side_sources


class Inputs(DataKind):
    """A folder of images; what the search needs is held out of them, and there is no test split."""

    name = "inputs"
    layouts: ClassVar[tuple[Layout, ...]] = ({"A": "."},)
    is_paired = False
    list_sides: ClassVar[tuple[str, ...]] = ("A",)
    description = "images in the folder itself"

    def sources(
        self, root: Path, layout: Layout, split: str, lists: Mapping[str, Path]
    ) -> dict[str, Source]:
        """See `DataKind`."""
        if split != "train" and not lists:
            return {}
        return side_sources(root, layout, split, lists)
