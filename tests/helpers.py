"""Small data sets for tests, the same on every machine, and generators with every norm."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gancompress.models import GENERATORS


def picture(index: int, size: int) -> np.ndarray:
    """A gradient with a disc and stripes, (size, size, 3) uint8; every index gives another one."""
    rng = np.random.default_rng(index)
    rows, columns = np.mgrid[0:size, 0:size] / size
    ground, disc, stripe = rng.integers(20, 236, (3, 3))
    slope = rng.uniform(-80, 80, 3)
    pixels = ground + slope * (columns + rows)[..., None] / 2
    middle, radius = rng.uniform(0.3, 0.7, 2), rng.uniform(0.12, 0.3)
    pixels[np.hypot(rows - middle[0], columns - middle[1]) < radius] = disc
    pixels[(columns * (2 + index % 3) + rows) % 1 < 0.15] = stripe
    return pixels.clip(0, 255).astype(np.uint8)


def counterpart(pixels: np.ndarray) -> np.ndarray:
    """The other half of a pair: negative, with the colour channels turned round."""
    return 255 - pixels[..., ::-1]


def write_image(path: Path, pixels: np.ndarray) -> Path:
    """Write pixels to a file whose folder may not be there yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)
    return path


def make_paired(
    root: Path, count: int = 8, size: int = 32, folders: tuple[str, str] | None = None
) -> Path:
    """Pairs of a picture and its counterpart: `count` in train/, half each in search/ and test/.

    Args:
        root: Made here.
        count: Training pairs.
        size: Side in pixels.
        folders: Where either picture goes, {} standing for the split: ("{}A", "{}B"), say; both
            side by side in one file by default.

    Returns:
        `root`.
    """
    for split, start, number in splits_of(count):
        for index in range(start, start + number):
            a = picture(index, size)
            b = counterpart(a)
            if folders is None:
                write_image(root / split / f"{index:04d}.png", np.concatenate([a, b], axis=1))
                continue
            for folder, pixels in zip(folders, (a, b), strict=True):
                write_image(root / folder.format(split) / f"{index:04d}.png", pixels)
    return root


def make_unpaired(root: Path, count_a: int = 8, count_b: int | None = None, size: int = 32) -> Path:
    """trainA/ trainB/ testA/ testB/; `count_b` is `count_a` unless given; tests have half of it.

    Returns:
        `root`.
    """
    for side, count in (("A", count_a), ("B", count_a if count_b is None else count_b)):
        for folder, start, number in splits_of(count):
            if folder == "search":
                continue
            for index in range(start, start + number):
                pixels = picture(index + 500 * (side == "B"), size)
                if side == "B":
                    pixels = counterpart(pixels)
                write_image(root / f"{folder}{side}" / f"{index:04d}.png", pixels)
    return root


def splits_of(count: int) -> list[tuple[str, int, int]]:
    half = max(1, count // 2)
    return [("train", 0, count), ("search", 1000, half), ("test", 2000, half)]


def existing(path: Path) -> Path:
    """The path, or a skipped test where it is not there."""
    if not path.exists():
        pytest.skip(f"needs {path.name} in the folder shared/ beside the repository")
    return path


def with_norms(names: Iterable[str], norms: Iterable[str]) -> list[tuple[str, str]]:
    """Generators with every norm; those whose family takes none only with the default.

    Args:
        names: Families, or a family and, after a space, what else the test makes of it.
        norms: Names of norms.
    """
    return [
        (name, norm)
        for name in names
        for norm in norms
        if norm == "instance" or "norm" in GENERATORS[name.partition(" ")[0]].takes
    ]
