"""Which images a model is evaluated on: those of its run's lists, or those of a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gancompress.checkpoint.models import run_data, run_splits, run_stage, supernet_of
from gancompress.checkpoint.run import read_splits
from gancompress.config import DataOptions
from gancompress.data import DATA_KINDS, RGB, ImageKind, Splits, data_kind, make_splits
from gancompress.data.hashing import file_digests
from gancompress.data.kinds.kind import has_folders
from gancompress.errors import DataError

SplitName = Literal["train", "search", "test"]


@dataclass(frozen=True)
class ChosenData:
    """Images of one split.

    Attributes:
        options: Root, mode and direction.
        split: Its name.
        splits: The lists.
        from_run: Whether the lists are those that the model's run was trained by.
    """

    options: DataOptions
    split: SplitName
    splits: Splits
    from_run: bool

    @property
    def is_paired(self) -> bool:
        """Whether every input has a truth."""
        return data_kind(self.options.mode).is_paired

    def set_sizes(self, max_images: int | None = None) -> tuple[int, int]:
        """Images to translate, and real images to compare their distribution with."""
        counts = self.splits.counts(self.split)
        side = self.splits.input_side(self.options.direction)
        inputs = min(counts.get(side, 0), max_images or counts.get(side, 0))
        if self.is_paired:
            return inputs, inputs
        return inputs, sum(count for other, count in counts.items() if other != side)


def choose_data(
    root: Path,
    split: SplitName,
    model: Path,
    direction: str | None = None,
    mode: str | None = None,
    kinds: tuple[ImageKind, ImageKind] = (RGB, RGB),
) -> ChosenData:
    """The run's own lists where the folder holds its images; else what the folder holds.

    Args:
        root: The run's data, a copy of it, or any other data.
        split: Its name.
        model: A run folder, or any other path.
        direction: AtoB or BtoA; None for the run's, which is AtoB for any other model.
        mode: The kind of data; None for the run's if the folder can be of it, and for any other
            model the first one that it can be.
        kinds: What images the model takes and makes.

    Raises:
        DataError: There is no such folder, or its images cannot be listed.
    """
    if not root.is_dir():
        raise DataError(f"no data folder {root}")
    known = run_data(model)
    asked = dict(zip(("input", "target"), map(str, kinds), strict=True))
    asked |= {"direction": direction} if direction else {}
    modes = (mode,) if mode else tuple(DATA_KINDS)
    if known is not None and known[0].mode in modes:
        if _holds_data_of(root, split, model, known[0]):
            options = known[0].model_copy(update={"root": root, **asked})
            return ChosenData(options, split, run_splits(model, options), from_run=True)
        modes = (known[0].mode, *modes)
    if known is not None:
        asked = {"direction": known[0].direction, **asked}
    fitting = (each for each in modes if _can_be(root, each, split))
    options = DataOptions(root=root, mode=next(fitting, mode or "paired")).model_copy(update=asked)
    return ChosenData(options, split, make_splits(options, (split,)), from_run=False)


def _can_be(root: Path, mode: str, split: SplitName) -> bool:
    return any(has_folders(root, layout, (split, "train")) for layout in data_kind(mode).layouts)


def _holds_data_of(root: Path, split: SplitName, run: Path, data: DataOptions) -> bool:
    """Whether a folder is the run's data or a copy: all listed names, and a listed content.

    Names alone may be those of another data set (`1.jpg`). One content is enough, as every other
    is compared with the list when it is decoded: a damaged copy is an error.
    """
    if data.root.resolve() == root.resolve():
        return True
    lists = _recorded(run)
    if lists is None:
        return False
    sides = lists.counts(split)
    files = [path for side in sides for path in lists.at(root).files(split, side)]
    digests = [image.digest for side in sides for image in lists.images(split, side)]
    return all(path.is_file() for path in files) and any(
        file_digests([path]) == [digest] for path, digest in zip(files, digests, strict=True)
    )


def _recorded(run: Path) -> Splits | None:
    """The lists in a run's folder, or in that of the supernet that it began with."""
    found = read_splits(run)
    if found is None and run_stage(run) in ("search", "finetune"):
        found = read_splits(supernet_of(run))
    return found
