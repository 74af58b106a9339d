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
from torch import Tensor

from gancompress.config import DataOptions
from gancompress.data.hashing import content_digest
from gancompress.data.image_kinds import (
    RGB,
    Half,
    ImageKind,
    find_kind,
    image_kind,
    kind_of_channels,
)
from gancompress.data.images import SUFFIXES, image_files
from gancompress.data.kinds import data_kind
from gancompress.data.kinds.kind import folder_names, split_folder
from gancompress.data.listing import find_layout, find_sources
from gancompress.data.splits import Splits, make_splits
from gancompress.errors import ConfigError, DataError

DECODERS = 2
MAX_EXAMINED = 32  # files of a side, to find out what kind of images they are
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
        kind: What the images are.
    """

    def __init__(
        self,
        files: list[Path],
        size: int,
        half: Half | None = None,
        cache_gb: float = 4.0,
        digests: list[str] | None = None,
        kind: ImageKind = RGB,
    ) -> None:
        self.files = files
        self.kind = kind
        self.digests = digests
        self.size = size
        self.half = half
        self._cache: OrderedDict[int, Tensor] = OrderedDict()
        self.resized = False  # whether an image that was decoded had another size
        self._all: Tensor | None = None  # where all of them fit into the cache
        self._capacity = max(1, int(cache_gb * 1e9 / (kind.channels * size * size)))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        """Image `index`, (C, size, size) uint8."""
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        pixels = self._decode(index)
        self._cache[index] = pixels
        while len(self._cache) > self._capacity:
            self._cache.popitem(last=False)
        return pixels

    def take(self, indices: Sequence[int]) -> Tensor:
        """Images `indices`, (N, C, size, size) uint8."""
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
        planes = self.kind.read(self._content(index), str(self.files[index]), self.half)
        if planes[0].size != (self.size, self.size):
            self.resized = True
            planes = self.kind.resize(planes, (self.size, self.size))
        return self.kind.to_tensor(planes)

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


class Indexed(Protocol):
    """Images by position."""

    def take(self, indices: Sequence[int]) -> Tensor:
        """Images `indices`, (N, C, S, S) uint8."""


@dataclass(frozen=True)
class Split:
    """Inputs and targets of one split; `paired` says whether item i of both belong together.

    Attributes:
        inputs: Images of the source domain.
        targets: Images of the target domain, or None where there are none.
        paired: Whether inputs[i] and targets[i] show the same thing.
        pseudo: A teacher's outputs for the inputs, which stand in for a missing truth.
        output: What kind of images the targets are, or would be.
    """

    inputs: ImageSet
    targets: ImageSet | None
    paired: bool
    pseudo: Indexed | None = None
    output: ImageKind = RGB

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
    input_kind, output = image_kind(options.input), image_kind(options.target)

    def images(side: str, kind: ImageKind, half: Half | None = None) -> ImageSet:
        files, digests = _files(options, lists, (split, side))
        return ImageSet(files, size, half, options.cache_gb / 2, digests, kind)

    if side_a == "AB":
        halves: tuple[Half, Half] = ("left", "right")
        one, other = halves if options.direction == "AtoB" else halves[::-1]
        a, b = images("AB", input_kind, one), images("AB", output, other)
        return Split(a, b, paired=True, output=output)
    a = images(side_a, input_kind)
    if side_b == side_a or not lists.images(split, side_b):
        return Split(a, None, paired=False, output=output)
    is_paired = data_kind(options.mode).is_paired
    return Split(a, images(side_b, output), is_paired, output=output)


def _files(
    options: DataOptions, splits: Splits, key: tuple[str, str]
) -> tuple[list[Path], list[str]]:
    """The files of a split and side, and the hashes of their contents."""
    files = splits.files(*key)
    if not files:
        raise DataError(_why_none(options, *key))
    missing = [path for path in files if not path.is_file()]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise DataError(f"{missing[0]}{more}: {_MISSING}")
    return files, [image.digest for image in splits.images(*key)]


def _why_none(options: DataOptions, split: str, side: str) -> str:
    """What is wrong with data that has no images for a split and side."""
    root, layout = options.root, find_layout(options.root, options.mode)
    folder, names = split_folder(root, layout, split, side), folder_names(layout, split, side)
    if split == "search" and folder is None and split_folder(root, layout, "train", side):
        return f"{root} has no {names[0]} folder: data.search_fraction must be above 0"
    if folder is None:
        wanted = folder_names(layout, "train", side) if split == "search" else names
        return f"{root} has no folder {' or '.join(wanted)}: {_layout(options, root)}"
    if image_files(folder):
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


def with_kinds(options: DataOptions, channels: Sequence[int | None] = (None, None)) -> DataOptions:
    """The options with the kinds of input and target images; an RGB one may stay None.

    Args:
        options: The data section.
        channels: Those of input and output that the generator's section asks for.

    Raises:
        ConfigError: A kind has other channels than the generator.
        DataError: The data cannot be listed.
    """
    known = {"input": options.input, "target": options.target}
    for (key, kind), number in zip(known.items(), channels, strict=True):
        if kind is None and number is not None:
            known[key] = str(kind_of_channels(number))
        elif number is not None and image_kind(kind).channels != number:
            nc = "input_nc" if key == "input" else "output_nc"
            raise ConfigError(
                f"generator.{nc}={number}, but data.{key}={kind} has "
                f"{image_kind(kind).channels} channels"
            )
    if None in known.values() and options.root.is_dir():
        layout = find_layout(options.root, options.mode)
        sources = find_sources(options, layout, ("train",))
        for key, side in zip(known, (options.direction[0], options.direction[-1]), strict=True):
            source = sources.get(("train", side)) or sources.get(("train", "AB"))
            if known[key] is None and source is not None:
                chosen = spread(len(source.files), MAX_EXAMINED)
                known[key] = str(find_kind([source.files[index] for index in chosen]))
    found = {key: kind for key, kind in known.items() if kind not in (None, str(RGB))}
    return options.model_copy(update=found)
