"""What a kind of file is; `gancompress.export.formats.FORMATS` is the table of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gancompress.checkpoint.network import Network
from gancompress.data import Generator
from gancompress.export.job import ExportOptions, Job
from gancompress.export.rewrites import Trial
from gancompress.runtimes import FILES

TOLERANCE = 1e-3  # of images in [-1, 1]
INT8_PSNR_DB = 25.0
"""Least accepted; the published horse2zebra generator has 27 on its worst of 16 photos."""


def _read_by_suffix(path: Path, _: Network) -> Generator:
    return FILES[path.suffix](path, None, True)


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        suffix: Of its name.
        write: Writes it, and says which rewrites were tried.
        read: From a path to a callable that runs the file; that of `FILES` by default.
        runtime: The package that runs it.
        tolerance: Largest accepted difference to the generator in memory.
        min_psnr_db: Least accepted PSNR to it, where that decides instead.
        is_calibrated: Whether real inputs decide what is written.
        companions: Suffixes of further files that belong to it.
        is_graph: Whether `ExportOptions` say anything about it.
        require: Raises where it cannot be written here with these options.
    """

    suffix: str
    write: Callable[[Path, Job], list[Trial]]
    read: Callable[[Path, Network], Generator] = _read_by_suffix
    runtime: str = "torch"
    tolerance: float = TOLERANCE
    min_psnr_db: float | None = None
    is_calibrated: bool = False
    companions: tuple[str, ...] = ()
    is_graph: bool = False
    require: Callable[[ExportOptions], None] = lambda options: None

    def files(self, path: Path) -> list[Path]:
        """All files of an export; that which others refer to comes last."""
        return [*(path.with_suffix(suffix) for suffix in self.companions), path]
