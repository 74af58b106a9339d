"""Two sets of images of one domain each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from gancompress.data.kinds.kind import DataKind, Layout, Source, side_sources


class Unpaired(DataKind):
    """Images of two domains in two folders."""

    name = "unpaired"
    layouts: ClassVar[tuple[Layout, ...]] = ({"A": "{}A", "B": "{}B"},)
    is_paired = False
    description = "trainA/ trainB/ testA/ testB/"

    def sources(
        self, root: Path, layout: Layout, split: str, lists: Mapping[str, Path]
    ) -> dict[str, Source]:
        """See `DataKind`."""
        return side_sources(root, layout, split, lists)
