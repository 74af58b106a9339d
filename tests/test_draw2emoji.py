"""The embedded drawings: black lines on flat colours, as their script makes them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
from helpers import existing
from PIL import Image

from runs import REPOSITORY

DATA = REPOSITORY / "datasets" / "draw2emoji"
SPLITS = ("train", "search", "test")
BLACK, WHITE = (0, 0, 0), (255, 255, 255)

Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    pytest.importorskip("cv2", reason="needs the optional package opencv-python-headless")
    path = REPOSITORY / "datasets" / "make_draw2emoji.py"
    spec = importlib.util.spec_from_file_location("make_draw2emoji", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(path: Path) -> Pixels:
    with Image.open(path) as image:
        assert (image.mode, image.size) == ("RGB", (128, 128))
        return np.asarray(image)


def names(split: str, side: str = "A") -> list[str]:
    return sorted(path.stem for path in (DATA / f"{split}{side}").glob("*.webp"))


def colours(drawing: Pixels) -> set[tuple[int, ...]]:
    return {tuple(colour) for colour in drawing.reshape(-1, 3).tolist()}


def rendered(pixels: Pixels, alpha: Pixels) -> Image.Image:
    return Image.fromarray(np.dstack([pixels, alpha]))


def canvas() -> tuple[Pixels, Pixels]:
    """A white disc of radius 100 on nothing: colours and alpha at 256x256."""
    rows, columns = np.mgrid[:256, :256] - 127.5
    return np.full((256, 256, 3), 255, np.uint8), np.uint8(255) * (np.hypot(rows, columns) < 100)


# -- the files ------------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
def test_a_drawing_is_black_lines_on_few_colours_none_of_which_is_nearly_black(split: str) -> None:
    for name in names(split)[::15]:
        drawing = read(DATA / f"{split}A" / f"{name}.webp")
        brightest = drawing.max(axis=2)
        assert not ((brightest > 0) & (brightest < 8)).any()
        assert 0.005 < (brightest == 0).mean() < 0.2
        assert len(colours(drawing)) <= 128
        photo = read(DATA / f"{split}B" / f"{name}.webp").astype(int)
        filled = brightest > 0
        assert np.abs(photo - drawing)[filled].mean() < 40


def test_variants_of_an_emoji_never_cross_the_splits(script: ModuleType) -> None:
    families = {split: {script.family(name) for name in names(split)} for split in SPLITS}
    assert not families["train"] & families["search"]
    assert not families["test"] & (families["train"] | families["search"])


def test_the_script_makes_the_files_again(script: ModuleType, shared: Path) -> None:
    renders = existing(shared / "data" / "fluent-emoji-3d")
    splits = script.choose([path.stem for path in renders.glob("*.webp")])
    assert {split: sorted(chosen) for split, chosen in splits.items()} == {
        split: names(split) for split in SPLITS
    }
    for name in names("search")[::20]:
        with Image.open(renders / f"{name}.webp") as render:
            drawing, photo = (np.asarray(image) for image in script.pair(render, 128))
        stored = [read(DATA / f"search{side}" / f"{name}.webp") for side in "AB"]
        assert (drawing == stored[0]).all(axis=2).mean() > 0.99
        assert np.abs(photo.astype(int) - stored[1]).mean() < 4


# -- the script -----------------------------------------------------------------------------


def test_white_on_white_has_a_closed_outline_and_regions_have_their_exact_colours(
    script: ModuleType,
) -> None:
    pixels, alpha = canvas()
    pixels[100:160, 90:170] = (200, 30, 40)
    drawing, photo = script.pair(rendered(pixels, alpha), 128)
    found = np.asarray(drawing)
    assert colours(found) == {BLACK, WHITE, (200, 30, 40)}
    assert tuple(found[64, 64]) == (200, 30, 40)
    inside, outside = (
        next(part for part in script.components(found.max(axis=2) > 0, 1) if part[point])
        for point in ((30, 64), (0, 0))
    )
    assert not (inside & outside).any()
    assert 0.9 < (inside.sum() + 40 * 30) / (np.pi * 50**2) < 1
    assert np.asarray(photo)[0, 0].tolist() == [255, 255, 255]


def test_black_paint_is_no_line(script: ModuleType) -> None:
    pixels, alpha = canvas()
    pixels[80:180, 80:180] = 0
    found = np.asarray(script.pair(rendered(pixels, alpha), 128)[0])
    assert tuple(found[64, 64]) == (8, 8, 8)


def test_one_region_of_two_colours_is_painted_in_two(script: ModuleType) -> None:
    pixels, alpha = canvas()
    ramp = (np.arange(256.0)[None, :, None] - 88).clip(0, 80) / 80  # too smooth for a line
    pixels[:] = ((1 - ramp) * (40, 80, 220) + ramp * (240, 200, 40)).round()
    found = np.asarray(script.pair(rendered(pixels, alpha), 128)[0]).astype(int)
    assert np.abs(found[64, 25] - (40, 80, 220)).max() < 30
    assert np.abs(found[64, 102] - (240, 200, 40)).max() < 30


def test_drawing_of_nothing_is_white(script: ModuleType) -> None:
    nothing = Image.new("RGBA", (256, 256), (0, 0, 0, 0))
    assert colours(np.asarray(script.pair(nothing, 128)[0])) == {WHITE}
