"""Small bundles and drawings for tests of the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers import picture, write_image

from gancompress.demo.manifest import NAME, Example, Manifest, Model, Pad, sha256
from gancompress.demo.server import RUNTIME
from runs import REPOSITORY

Pixels = npt.NDArray[np.uint8]

WEB = REPOSITORY / "gancompress" / "demo" / "web"
MODELS = {"models/8_8.onnx": b"small network", "models/teacher.onnx": b"large network, " * 9}
EXAMPLES = {"examples/0-a.png": b"picture"}

needs_runtime = pytest.mark.skipif(
    not all((WEB / "vendor" / name).is_file() for name in RUNTIME),
    reason="needs the page's runtime: scripts/vendor.sh installs it",
)


def manifest(**changes: Any) -> Manifest:
    """What the files of `MODELS` and `EXAMPLES` make."""
    models = [
        Model(
            file=file,
            sha256=sha256(content),
            bytes=len(content),
            name=Path(file).stem,
            role="teacher" if "teacher" in file else "subnet",
            params=10 * number,
            macs=1000 * number,
            score=None,
            max_difference=0.0,
            psnr_db=None,
            num_images=1,
        )
        for number, (file, content) in enumerate(MODELS.items(), 1)
    ]
    examples = [
        Example(file=file, sha256=sha256(content), name="a") for file, content in EXAMPLES.items()
    ]
    facts: dict[str, Any] = {
        "title": "shoes",
        "input": "sketch",
        "size": 32,
        "stride": 4,
        "pad": Pad(grid=32, width=2, paper="#ffffff", colours=("#000000",)),
        "models": tuple(models),
        "examples": tuple(examples),
        "source": "0" * 64,
    }
    return Manifest(**{**facts, **changes})


def write_bundle(folder: Path) -> Path:
    """A whole bundle, whose models are no networks."""
    for name, content in {**MODELS, **EXAMPLES}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / NAME).write_text(manifest().model_dump_json(), encoding="utf-8")
    return folder


def drawing(index: int, size: int, width: int = 2) -> Pixels:
    """A black rectangle and a bar on white paper, (size, size, 3) uint8."""
    rng = np.random.default_rng(index)
    top, left = rng.integers(1, size // 4, 2)
    bottom, right = rng.integers(size // 2, size - width, 2)
    ink = np.zeros((size, size), bool)
    ink[top : bottom + width, left : right + width] = True
    ink[top + width : bottom, left + width : right] = False
    ink[size // 2 : size // 2 + width, left:right] = True
    return np.where(ink[..., None], 0, 255).astype(np.uint8).repeat(3, -1)


def coloured(index: int, size: int) -> Pixels:
    """Two boxes in colours of their own, with black outlines a pixel wide, on white paper."""
    rng = np.random.default_rng(index)
    pixels = np.full((size, size, 3), 255, np.uint8)
    for left in (size // 8, 9 * size // 16):
        box = pixels[size // 4 : size // 2 + size // 4, left : left + 3 * size // 8]
        box[:] = 0
        box[1:-1, 1:-1] = rng.integers(20, 236, 3)
    return pixels


def make_sketches(root: Path, count: int = 8, size: int = 32) -> Path:
    """Side-by-side pairs of a drawing and a picture: `count` in train/, four elsewhere.

    Returns:
        `root`.
    """
    for folder, start, number in (("train", 0, count), ("search", 100, 4), ("test", 200, 4)):
        for index in range(start, start + number):
            pair = np.concatenate([drawing(index, size), picture(index, size)], axis=1)
            write_image(root / folder / f"{index:04d}.png", pair)
    return root
