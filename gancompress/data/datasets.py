"""Paired and unpaired folders as in-memory sets of uint8 images.

Layouts are those of pytorch-CycleGAN-and-pix2pix: `trainA/ trainB/ testA/ testB/` for unpaired
data, side-by-side AB images in `train/ val/ test/` for paired data. Inputs are called `a` and
targets `b` whatever the direction.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from gancompress.config import DataOptions
from gancompress.data.images import list_images, read_image, to_tensor
from gancompress.errors import DataError

SPLIT_FOLDERS = {"train": ("train",), "search": ("search",), "test": ("test", "val")}
DECODERS = 2


class ImageSet:
    """Images of one side, decoded at `size` x `size`, kept in memory up to a limit.

    Args:
        files: Image files.
        size: Side in pixels that every image is resized to.
        half: `left` or `right` half of a side-by-side pair, or None for the whole image.
        cache_gb: Least recently used images beyond this many gigabytes are decoded again.
    """

    def __init__(
        self, files: list[Path], size: int, half: str | None = None, cache_gb: float = 4.0
    ) -> None:
        self.files = files
        self.size = size
        self.half = half
        self._cache: OrderedDict[int, Tensor] = OrderedDict()
        self._capacity = max(1, int(cache_gb * 1e9 / (3 * size * size)))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        """Image `index`, (3, size, size) uint8."""
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        pixels = self._decode(self.files[index])
        self._cache[index] = pixels
        while len(self._cache) > self._capacity:
            self._cache.popitem(last=False)
        return pixels

    def preload(self) -> None:
        """Decode as many images as the cache holds; a damaged file is found before training."""
        indices = range(min(len(self), self._capacity))
        with ThreadPoolExecutor(DECODERS) as pool:
            decoded = pool.map(lambda i: self._decode(self.files[i]), indices)
            self._cache.update(zip(indices, decoded, strict=True))

    def _decode(self, path: Path) -> Tensor:
        image = read_image(path)
        if self.half:
            image = _half(image, self.half, path)
        if image.size != (self.size, self.size):
            image = image.resize((self.size, self.size), Image.Resampling.BICUBIC, reducing_gap=3)
        return to_tensor(image)


def _half(image: Image.Image, half: str, path: Path) -> Image.Image:
    if image.width % 2 or image.width < 2:
        raise DataError(f"{path}: {image.width}x{image.height} is no side-by-side pair (odd width)")
    middle = image.width // 2
    box = (0, 0, middle, image.height) if half == "left" else (middle, 0, image.width, image.height)
    return image.crop(box)


class Indexed(Protocol):
    """Images by position."""

    def __getitem__(self, index: int) -> Tensor:
        """Image `index`, (3, S, S) uint8."""


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


def load_split(options: DataOptions, split: str, size: int) -> Split:
    """Images of one split at `size` x `size` pixels.

    Where the data has no search folder, `search_fraction` of the training images (the same ones
    on every machine, chosen by the hash of their names) are the search split, and training leaves
    them out.

    Args:
        options: The data section.
        split: train, search or test.
        size: Side in pixels.

    Raises:
        DataError: A folder is missing or empty.
    """
    if options.mode == "paired":
        files = _split_files(options, split, "")
        halves = ("left", "right") if options.direction == "AtoB" else ("right", "left")
        inputs, targets = (ImageSet(files, size, half, options.cache_gb / 2) for half in halves)
        return Split(inputs, targets, paired=True)
    sides = ("A", "B") if options.direction == "AtoB" else ("B", "A")
    a = ImageSet(_split_files(options, split, sides[0]), size, None, options.cache_gb / 2)
    if split != "test" and not (options.root / f"train{sides[1]}").is_dir():
        return Split(a, None, paired=False)
    b = ImageSet(_split_files(options, split, sides[1]), size, None, options.cache_gb / 2)
    return Split(a, b, paired=False)


def _split_files(options: DataOptions, split: str, side: str) -> list[Path]:
    root = options.root
    if not root.is_dir():
        raise DataError(f"no data folder {root}")
    names = [f"{name}{side}" for name in SPLIT_FOLDERS[split]]
    found = [root / name for name in names if (root / name).is_dir()]
    if found:
        files = list_images(found[0])
    elif split == "search":
        files = _held_out(list_images(root / f"train{side}"), options.search_fraction)[1]
        if not files:
            raise DataError(
                f"{root} has no search{side} folder: data.search_fraction must be above 0"
            )
    else:
        raise DataError(f"{root} has no folder {' or '.join(names)}: {_layout(options, root)}")
    if split == "train" and not (root / f"search{side}").is_dir():
        files = _held_out(files, options.search_fraction)[0]
    return files[: options.max_images] if options.max_images else files


def _held_out(files: list[Path], fraction: float) -> tuple[list[Path], list[Path]]:
    count = round(len(files) * fraction)
    if fraction and not 0 < count < len(files):
        raise DataError(
            f"{files[0].parent}: {len(files)} images cannot be split into training and "
            f"{fraction:.0%} for the search; set data.search_fraction"
        )
    order = sorted(files, key=lambda path: hashlib.sha256(path.name.encode()).digest())
    return sorted(order[count:]), sorted(order[:count])


def _layout(options: DataOptions, root: Path) -> str:
    there = sorted(path.name for path in root.iterdir() if path.is_dir())
    wanted = "train/ and test/ with side-by-side pairs"
    if options.mode == "unpaired":
        wanted = "trainA/ trainB/ testA/ testB/"
    return f"{options.mode} data has {wanted}; this folder has {', '.join(there) or 'no folders'}"


def stack(images: ImageSet, indices: list[int]) -> Tensor:
    """Images `indices`, (N, 3, S, S) uint8."""
    return torch.stack([images[i] for i in indices])


def spread(length: int, count: int) -> list[int]:
    """At most `count` positions, evenly spread over 0 .. length - 1."""
    count = min(length, count)
    return [i * length // count for i in range(count)]
