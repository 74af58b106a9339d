"""Paired and unpaired folders as in-memory sets of uint8 images.

Layouts are those of pytorch-CycleGAN-and-pix2pix: `trainA/ trainB/ testA/ testB/` for unpaired
data, side-by-side AB images in `train/ val/ test/` for paired data, or pairs of one name in two
folders. Inputs are called `a` and targets `b` whatever the direction.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from gancompress.config import DataOptions
from gancompress.data.hashing import content_digest
from gancompress.data.images import SUFFIXES, is_image_file, read_image, to_tensor
from gancompress.data.kinds import data_kind
from gancompress.data.kinds.kind import folder_names, split_folder
from gancompress.data.listing import find_layout
from gancompress.data.splits import Splits, make_splits
from gancompress.errors import DataError

DECODERS = 2
_ADVICE = (
    "\n  Put the file back as it was, or train on new lists: another run folder and another "
    "data.split_seed."
)
_MISSING = f"the run's list of images names it, and it is not there{_ADVICE}"
_CHANGED = f"its content is not the one in the run's list of images{_ADVICE}"


class ImageSet:
    """Images of one side, decoded at `size` x `size`, kept in memory up to a limit.

    Args:
        files: Image files.
        size: Side in pixels that every image is resized to.
        half: `left` or `right` half of a side-by-side pair, or None for the whole image.
        cache_gb: Least recently used images beyond this many gigabytes are decoded again.
        digests: SHA-256 that each file's content must have, in hexadecimal; None for any content.
    """

    def __init__(
        self,
        files: list[Path],
        size: int,
        half: str | None = None,
        cache_gb: float = 4.0,
        digests: list[str] | None = None,
    ) -> None:
        self.files = files
        self.digests = digests
        self.size = size
        self.half = half
        self._cache: OrderedDict[int, Tensor] = OrderedDict()
        self.resized = False  # whether an image that was decoded had another size
        self._all: Tensor | None = None  # where all of them fit into the cache
        self._capacity = max(1, int(cache_gb * 1e9 / (3 * size * size)))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        """Image `index`, (3, size, size) uint8."""
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        pixels = self._decode(index)
        self._cache[index] = pixels
        while len(self._cache) > self._capacity:
            self._cache.popitem(last=False)
        return pixels

    def take(self, indices: Sequence[int]) -> Tensor:
        """Images `indices`, (N, 3, size, size) uint8."""
        if self._all is not None:
            return self._all[torch.tensor(indices)]
        return torch.stack([self[index] for index in indices])

    def preload(self, workers: int = DECODERS) -> None:
        """Decode as many images as the cache holds; a damaged file is found before training."""
        indices = range(min(len(self), self._capacity))
        with ThreadPoolExecutor(workers) as pool:
            decoded = pool.map(self._decode, indices)
            first = next(decoded)
            pixels = first.new_empty((len(indices), *first.shape))
            for index, image in enumerate(chain([first], decoded)):
                pixels[index] = image
        if len(indices) == len(self):
            self._all = pixels
        self._cache.update(zip(indices, pixels, strict=True))

    def _decode(self, index: int) -> Tensor:
        path = self.files[index]
        image = read_image(self._content(index), str(path))
        if self.half:
            image = _half(image, self.half, path)
        if image.size != (self.size, self.size):
            self.resized = True
            image = image.resize((self.size, self.size), Image.Resampling.BICUBIC, reducing_gap=3)
        return to_tensor(image)

    def _content(self, index: int) -> Path | bytes:
        """The file, or its bytes where these are known to be the listed ones."""
        path = self.files[index]
        if self.digests is None:
            return path
        try:
            content = path.read_bytes()
        except OSError:
            raise DataError(f"{path}: {_MISSING}") from None
        if content_digest(content) != self.digests[index]:
            raise DataError(f"{path}: {_CHANGED}")
        return content


def _half(image: Image.Image, half: str, path: Path) -> Image.Image:
    if image.width % 2 or image.width < 2:
        raise DataError(f"{path}: {image.width}x{image.height} is no side-by-side pair (odd width)")
    middle = image.width // 2
    box = (0, 0, middle, image.height) if half == "left" else (middle, 0, image.width, image.height)
    return image.crop(box)


class Indexed(Protocol):
    """Images by position."""

    def take(self, indices: Sequence[int]) -> Tensor:
        """Images `indices`, (N, 3, S, S) uint8."""


@dataclass(frozen=True)
class Split:
    """Inputs and targets of one split; `paired` says whether item i of both belong together.

    Attributes:
        inputs: Images of the source domain.
        targets: Images of the target domain, or None where there are none.
        paired: Whether inputs[i] and targets[i] show the same thing.
        pseudo: A teacher's outputs for the inputs, which stand in for a missing truth.
    """

    inputs: ImageSet
    targets: ImageSet | None
    paired: bool
    pseudo: Indexed | None = None

    def __len__(self) -> int:
        if self.targets is None or self.paired:
            return len(self.inputs)
        return max(len(self.inputs), len(self.targets))

    @property
    def names(self) -> list[str]:
        """File names of the inputs, without suffix."""
        return [path.stem for path in self.inputs.files]


def load_split(options: DataOptions, split: str, size: int, splits: Splits | None = None) -> Split:
    """Images of one split at `size` x `size` pixels.

    Where the data has no search folder and no list of search images, `search_fraction` of the
    training images are the search split, and training leaves them out.

    Args:
        options: The data section.
        split: train, search or test.
        size: Side in pixels.
        splits: Lists made before, to which contents must agree; by default, those of the data
            as it is now.

    Raises:
        DataError: A folder is missing or empty, or a listed file is missing or has changed.
    """
    if not options.root.is_dir():
        raise DataError(f"no data folder {options.root}")
    lists = splits or make_splits(options, (split,))
    side_a, side_b = lists.input_side(options.direction), options.direction[-1]
    if side_a == "AB":
        halves = ("left", "right") if options.direction == "AtoB" else ("right", "left")
        inputs, targets = (_images(options, lists, (split, "AB"), size, half) for half in halves)
        return Split(inputs, targets, paired=True)
    a = _images(options, lists, (split, side_a), size)
    if not lists.images(split, side_b):
        return Split(a, None, paired=False)
    b = _images(options, lists, (split, side_b), size)
    return Split(a, b, paired=data_kind(options.mode).is_paired)


def _images(
    options: DataOptions, splits: Splits, key: tuple[str, str], size: int, half: str | None = None
) -> ImageSet:
    files = splits.files(*key)
    if not files:
        raise DataError(_why_none(options, *key))
    missing = [path for path in files if not path.is_file()]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise DataError(f"{missing[0]}{more}: {_MISSING}")
    digests = [image.digest for image in splits.images(*key)]
    return ImageSet(files, size, half, options.cache_gb / 2, digests)


def _why_none(options: DataOptions, split: str, side: str) -> str:
    """What is wrong with data that has no images for a split and side."""
    root, layout = options.root, find_layout(options.root, options.mode)
    folder, names = split_folder(root, layout, split, side), folder_names(layout, split, side)
    if split == "search" and folder is None and split_folder(root, layout, "train", side):
        return f"{root} has no {names[0]} folder: data.search_fraction must be above 0"
    if folder is None:
        wanted = folder_names(layout, "train", side) if split == "search" else names
        return f"{root} has no folder {' or '.join(wanted)}: {_layout(options, root)}"
    if any(is_image_file(path) for path in folder.iterdir()):
        return f"{folder}: none of its images is left for {split}; other splits hold all of them"
    return f"{folder} holds no images ({', '.join(sorted(SUFFIXES))})"


def _layout(options: DataOptions, root: Path) -> str:
    there = sorted(path.name for path in root.iterdir() if path.is_dir())
    wanted = data_kind(options.mode).description
    return f"{options.mode} data has {wanted}; this folder has {', '.join(there) or 'no folders'}"


def spread(length: int, count: int) -> list[int]:
    """At most `count` positions, evenly spread over 0 .. length - 1."""
    count = min(length, count)
    return [i * length // count for i in range(count)]
