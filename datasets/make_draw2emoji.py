#!/usr/bin/env python3
"""Make draw2emoji: pairs of a coloured drawing (A) and the 3-D emoji that it was made from (B).

    python datasets/make_draw2emoji.py --renders FOLDER --output datasets/draw2emoji
    python datasets/make_draw2emoji.py --output datasets/draw2emoji      # fetches the npm package

The renders are Microsoft's Fluent Emoji (MIT), 256x256 WebP with alpha, as packaged on npm under
`@lobehub/fluent-emoji-3d`. A file name is the emoji's code points, joined by '-'.

A drawing is black lines, one pixel wide, over flat colours. It is stored without loss, so a pixel
is a line exactly if it is (0, 0, 0): no colour is that dark.

Needs pillow, numpy and opencv-python-headless (`pip install gancompress[datasets]`); `npm` when no
folder of renders is given.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

PACKAGE = "@lobehub/fluent-emoji-3d@1.1.0"
SKIN_TONES = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}
PRESENTATION = {"fe0f", "200d", "2640", "2642"}  # variation selector, joiner, gender signs
PERSONS = {"1f468": "1f9d1", "1f469": "1f9d1"}  # man, woman -> person
HELD_OUT = {"test": 180, "search": 180}
CANNY_THRESHOLDS = (60, 140)
LEAST_REGION = 12  # pixels of the render
LEAST_OTHER = 150  # pixels of the render
CELL = 32  # levels of a channel that count as one colour
OTHER_COLOUR = 80  # largest difference of a channel, of 255
DARKEST = 8

Array = npt.NDArray[Any]


def family(name: str) -> str:
    """Key shared by emoji that are variants of one drawing: skin tone and gender do not count."""
    points = [PERSONS.get(point, point) for point in name.split("-")]
    return "-".join(p for p in points if p not in SKIN_TONES | PRESENTATION)


def choose(names: list[str]) -> dict[str, list[str]]:
    """Split the emoji without a skin tone; all members of one family go to one split.

    Families are ordered by the SHA-256 of their key, so the split depends on the names alone.
    """
    families: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        if not SKIN_TONES & set(name.split("-")):
            families[family(name)].append(name)
    order = sorted(families, key=lambda key: hashlib.sha256(key.encode()).hexdigest())
    splits: dict[str, list[str]] = {"test": [], "search": [], "train": []}
    for key in order:
        fits = (s for s, most in HELD_OUT.items() if len(splits[s]) + len(families[key]) <= most)
        splits[next(fits, "train")].extend(families[key])
    return splits


def on_white(render: Image.Image) -> Array:
    """Render with alpha -> RGB on white with the render's alpha, (H, W, 4) uint8."""
    rgba = render.convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    flat.putalpha(rgba.getchannel("A"))
    return np.asarray(flat)


def edges(image: Array) -> Array:
    """Canny edges of the channel that changes most at each pixel, (H, W) bool."""
    return cv2.Canny(cv2.GaussianBlur(image, (3, 3), 0), *CANNY_THRESHOLDS) > 0


def components(mask: Array, least: int) -> list[Array]:
    """Masks of the 4-connected parts of a mask that have at least `least` pixels."""
    found = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    count, labels, stats, _ = found
    sizes = stats[:, cv2.CC_STAT_AREA]
    return [labels == label for label in range(1, count) if sizes[label] >= least]


def most_frequent(shades: Array) -> Array:
    """Mean of the shades in the fullest cell of a coarse grid of colours, (3,).

    Args:
        shades: Colours of N pixels, (N, 3) int in 0 .. 255.
    """
    cells = shades // CELL @ np.array([1, 256, 65536])
    _, cell, counts = np.unique(cells, return_inverse=True, return_counts=True)
    return shades[cell == counts.argmax()].mean(axis=0)


def paint(picture: Array) -> Array:
    """Flat colours: each region between lines in the colour that it mostly has in the render.

    That is the median of what resembles its most frequent colour. Where a line has a gap, one
    region holds two colours: what does not resemble the first is a region of its own. Lines, and
    what is too small to paint, take the nearest region's colour.

    Args:
        picture: RGB on white and alpha, (H, W, 4) uint8.

    Returns:
        (H, W, 3) uint8, no pixel of it (0, 0, 0).
    """
    kernel = np.ones((3, 3), np.uint8)
    walls = np.logical_or.reduce([edges(channel) for channel in cv2.split(picture)])
    closed = cv2.morphologyEx(walls.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    render = picture[..., :3].astype(int)
    fill = np.full(render.shape, 255, np.uint8)
    unpainted = np.ones(walls.shape, np.uint8)
    regions = components(closed == 0, LEAST_REGION)
    for region in regions:  # grows while it is read, by ever smaller parts
        shades = render[region]
        alike = np.abs(shades - most_frequent(shades)).max(axis=1) <= OTHER_COLOUR
        colour = np.median(shades[alike], axis=0).astype(int)
        fill[region] = colour if colour.max() >= DARKEST else DARKEST
        unpainted[region] = 0
        other = np.zeros(region.shape, np.uint8)
        other[region] = ~alike
        regions += components(cv2.morphologyEx(other, cv2.MORPH_OPEN, kernel), LEAST_OTHER)
    if not regions:
        return fill
    _, nearest = cv2.distanceTransformWithLabels(
        unpainted, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    colours = np.zeros((nearest.max() + 1, 3), np.uint8)
    colours[nearest[unpainted == 0]] = fill[unpainted == 0]
    return colours[nearest]


def pair(render: Image.Image, size: int) -> tuple[Image.Image, Image.Image]:
    """Drawing and photo of one render, both `size` x `size`, RGB."""
    picture = on_white(render)
    bands = [
        Image.fromarray(band).resize((size, size), Image.Resampling.LANCZOS)
        for band in cv2.split(picture)
    ]
    drawing = cv2.resize(paint(picture), (size, size), interpolation=cv2.INTER_NEAREST)
    drawing[edges(np.dstack(bands))] = 0
    return Image.fromarray(drawing), Image.merge("RGB", bands[:3])


def fetch(folder: Path) -> Path:
    """Download the npm package into `folder` and return the folder that holds its renders."""
    subprocess.run(["npm", "pack", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    archive = next(folder.glob("*.tgz"))
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return next(folder.rglob("*.webp")).parent


def make(renders: Path, output: Path, size: int, quality: int) -> dict[str, int]:
    """Write `output/{train,search,test}{A,B}/NAME.webp` and return the number of pairs in each."""
    names = [path.stem for path in renders.glob("*.webp")]
    if not names:
        raise SystemExit(f"no .webp renders in {renders}")
    splits = choose(names)
    for split, members in splits.items():
        folders = [output / f"{split}{side}" for side in "AB"]
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        for name in members:
            with Image.open(renders / f"{name}.webp") as render:
                drawing, photo = pair(render, size)
            drawing.save(folders[0] / f"{name}.webp", lossless=True)
            photo.save(folders[1] / f"{name}.webp", quality=quality)
    return {split: len(members) for split, members in splits.items()}


def main() -> None:
    """Parse the flags and make the data set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--renders", type=Path, help="folder of 256x256 WebP renders")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--quality", type=int, default=92)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        renders = args.renders or fetch(Path(temporary))
        counts = make(renders, args.output, args.size, args.quality)
    print(", ".join(f"{split}: {count}" for split, count in counts.items()), file=sys.stderr)


if __name__ == "__main__":
    main()
