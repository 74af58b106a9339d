"""Somebody's own photo-to-style generator compressed from photos alone, by the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import torchvision.models as tv
from helpers import picture, write_image

from gancompress.data import list_images
from options.cartoon.generator import CartoonGenerator
from runs import REPOSITORY, finished

MODULE = "options.mine.generator:build"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with photos, weights, and options/cartoon copied and renamed by the user."""
    for folder, start, number in (("trainA", 0, 20), ("testA", 2000, 3)):
        for index in range(start, start + number):
            write_image(tmp_path / "photos" / folder / f"{index}.png", picture(index, 64))
    shutil.copytree(REPOSITORY / "options" / "cartoon", tmp_path / "options" / "mine")
    torch.save(CartoonGenerator(width=32).state_dict(), tmp_path / "style.pth")
    backbone = tv.squeezenet1_1().features.state_dict(prefix="features.")
    torch.save(backbone, tmp_path / "squeezenet.pth")
    return tmp_path


def run(place: Path, *arguments: str) -> str:
    """What a command prints, started where the user's `options/` is."""
    ended = finished(*arguments, cwd=place)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.slow
def test_style_of_ones_own_is_compressed_from_photos_alone(place: Path) -> None:
    sets = (
        *("supernet.data.root=photos", "supernet.data.load_size=64", "supernet.data.crop_size=32"),
        *("supernet.teacher.weights=style.pth", f"supernet.teacher.module={MODULE}"),
        *("supernet.loss.lpips.weights=squeezenet.pth", "search.max_images=2", "search.size=64"),
        *("supernet.schedule.num_images=8", "supernet.schedule.num_images_decay=8"),
        *("search.metric=teacher_lpips[squeeze]", "search.features={squeeze: squeezenet.pth}"),
        *("search.num_trials=3", "search.searcher.generation=2", "search.budgets=[100M]"),
    )
    flags = [flag for text in sets for flag in ("--set", text)]
    printed = run(place, "compress", "options/mine/compress.yaml", *flags)
    assert "teacher_lpips[squeeze] on the search split, 64x64" in printed
    assert "scores on 3 images of the test split" in printed
    lists = json.loads((place / "runs/cartoon/supernet/splits.json").read_text())["lists"]
    assert {split: len(sides["A"]) for split, sides in lists.items()} == {
        "train": 18, "search": 2, "test": 3,
    }  # fmt: skip
    assert not any(sides["B"] for sides in lists.values())
    done = json.loads((place / "runs/cartoon/search/done.json").read_text())
    (chosen,) = done["chosen"].values()
    assert chosen["macs"] <= 100e6
    assert len(list((place / "runs/cartoon/export").glob("*.onnx"))) == 1
    run(place, "translate", "runs/cartoon", "photos/testA", "out", "--module", MODULE)
    assert len(list_images(place / "out")) == 3
