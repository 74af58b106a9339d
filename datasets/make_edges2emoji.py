#!/usr/bin/env python3
"""Make edges2emoji: side-by-side pairs of a sketch and the 3-D emoji that it was drawn from.

    python datasets/make_edges2emoji.py --renders FOLDER --output datasets/edges2emoji
    python datasets/make_edges2emoji.py --output datasets/edges2emoji      # fetches the npm package

The renders are Microsoft's Fluent Emoji (MIT), 256x256 WebP with alpha, as packaged on npm under
`@lobehub/fluent-emoji-3d`. A file name is the emoji's code points, joined by '-'.

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

import cv2
import numpy as np
from PIL import Image

PACKAGE = "@lobehub/fluent-emoji-3d@1.1.0"
SKIN_TONES = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}
PRESENTATION = {"fe0f", "200d", "2640", "2642"}  # variation selector, joiner, gender signs
PERSONS = {"1f468": "1f9d1", "1f469": "1f9d1"}  # man, woman -> person
HELD_OUT = {"test": 180, "search": 180}
CANNY_THRESHOLDS = (60, 140)


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


def on_white(render: Image.Image, size: int) -> np.ndarray:
    """Render with alpha -> RGB on white, (size, size, 3) uint8."""
    rgba = render.convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    flat = Image.alpha_composite(white, rgba).convert("RGB")
    return np.asarray(flat.resize((size, size), Image.Resampling.LANCZOS))


def sketch(photo: np.ndarray) -> np.ndarray:
    """Union of the Canny edges of each colour channel, black on white, same shape as the photo."""
    blurred = cv2.GaussianBlur(photo, (3, 3), 0)
    edges = [cv2.Canny(np.ascontiguousarray(blurred[..., c]), *CANNY_THRESHOLDS) for c in range(3)]
    lines = 255 - np.maximum.reduce(edges)
    return np.repeat(lines[..., None], 3, axis=2)


def fetch(folder: Path) -> Path:
    """Download the npm package into `folder` and return the folder that holds its renders."""
    subprocess.run(["npm", "pack", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    archive = next(folder.glob("*.tgz"))
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return next(folder.rglob("*.webp")).parent


def make(renders: Path, output: Path, size: int, quality: int) -> dict[str, int]:
    """Write `output/{train,search,test}/NAME.webp` and return the number of pairs in each."""
    names = [path.stem for path in renders.glob("*.webp")]
    if not names:
        raise SystemExit(f"no .webp renders in {renders}")
    counts = {}
    for split, members in choose(names).items():
        target = output / split
        if target.exists():
            shutil.rmtree(target)
        target.mkdir(parents=True)
        for name in members:
            with Image.open(renders / f"{name}.webp") as render:
                photo = on_white(render, size)
            pair = Image.fromarray(np.concatenate([sketch(photo), photo], axis=1))
            pair.save(target / f"{name}.webp", quality=quality, method=6)
        counts[split] = len(members)
    return counts


def main() -> None:
    """Parse the flags and make the data set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--renders", type=Path, help="folder of 256x256 WebP renders")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--quality", type=int, default=88)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        renders = args.renders or fetch(Path(temporary))
        counts = make(renders, args.output, args.size, args.quality)
    print(", ".join(f"{split}: {count}" for split, count in counts.items()), file=sys.stderr)


if __name__ == "__main__":
    main()
