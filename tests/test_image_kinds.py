"""Kinds of images: files to tensors and back, what files are taken for, and whole pipelines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import picture, splits_of
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn

from gancompress import load_generator
from gancompress.checkpoint.network import build_network
from gancompress.checkpoint.run import RunFolder
from gancompress.cli.main import main
from gancompress.config import DataOptions, build
from gancompress.data import (
    IMAGE_KINDS,
    RGB,
    ImageKind,
    ImageSet,
    image_kind,
    load_split,
    make_splits,
    with_kinds,
)
from gancompress.data.image_kinds import find_kind
from gancompress.errors import ConfigError, DataError
from gancompress.inference.plan import plan_folder
from gancompress.search import search
from gancompress.training.stages import train_supernet, train_teacher, with_found_images
from runs import search_options, supernet_options, teacher_options

CPU = torch.device("cpu")
KINDS = [image_kind(text) for text in ("rgb", "grey", "rgba", "labels:4", "bands:6")]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=str)


def write(path: Path, kind: ImageKind, index: int, size: int = 32) -> Path:
    """A file of a kind with content, as somebody else's program would write it."""
    path = path.with_suffix(kind.suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb = picture(index, size)
    grey = Image.fromarray(rgb).convert("L")
    if str(kind) == "grey":
        grey.save(path)
    elif str(kind) == "rgba":
        Image.merge("RGBA", [*Image.fromarray(rgb).split(), grey]).save(path)
    elif str(kind).startswith("labels"):
        Image.fromarray(np.asarray(grey) // 64).save(path)
    elif str(kind).startswith("bands"):
        np.save(path, np.concatenate([rgb, 255 - rgb], 2))
    else:
        Image.fromarray(rgb).save(path)
    return path


# -- files --------------------------------------------------------------------------------


def test_every_entry_of_the_table_is_tested() -> None:
    assert {str(kind).partition(":")[0] for kind in KINDS} == set(IMAGE_KINDS)


@every_kind
def test_what_is_written_is_read_again(kind: ImageKind, tmp_path: Path) -> None:
    first = write(tmp_path / "in", kind, 3)
    pixels = kind.to_tensor(kind.read(first))
    assert pixels.shape == (kind.channels, 32, 32)
    assert pixels.dtype == torch.uint8
    again = tmp_path / f"out{kind.suffix}"
    kind.save(pixels, again)
    assert torch.equal(kind.to_tensor(kind.read(again)), pixels)
    shown = kind.preview(torch.stack([pixels, pixels]))
    assert shown.shape == (2, 3, 32, 32)
    assert torch.equal(kind.preview(pixels), shown[1])


@every_kind
def test_half_of_a_pair_is_cut_before_it_is_read(kind: ImageKind, tmp_path: Path) -> None:
    path = write(tmp_path / "pair", kind, 3)
    whole = kind.to_tensor(kind.read(path))
    assert torch.equal(kind.to_tensor(kind.read(path, half="right")), whole[..., 16:])


def test_labels_are_resized_to_the_nearest_pixel_and_one_hot(tmp_path: Path) -> None:
    numbers = np.repeat(np.array([[0, 2], [255, 1]], np.uint8), 3, 0).repeat(3, 1)
    Image.fromarray(numbers).save(tmp_path / "a.png")
    pixels = ImageSet([tmp_path / "a.png"], 2, kind=image_kind("labels:3"))[0]
    assert pixels.tolist() == [
        [[255, 0], [0, 0]],
        [[0, 0], [0, 255]],
        [[0, 255], [0, 0]],
    ]


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "I;16"])
def test_labels_are_numbers_in_whatever_mode(mode: str, tmp_path: Path) -> None:
    numbers = np.arange(16, dtype=np.uint8).reshape(4, 4)
    image = Image.fromarray(numbers)
    if mode == "P":
        image.putpalette(list(range(255, -1, -1)) * 3)
    elif mode == "I;16":
        image = Image.fromarray(numbers.astype(np.uint16))
    else:
        image = image.convert(mode)
    image.save(tmp_path / "a.png")
    kind = image_kind("labels:16")
    read = kind.to_tensor(kind.read(tmp_path / "a.png"))
    assert read.argmax(0).tolist() == numbers.tolist()


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("labels:3", np.full((4, 4), 3, np.uint8), "class 3, and labels:3 has 0 to 2"),
        ("labels:3", picture(0, 8), "RGB image of several colours"),
        ("labels:3", np.full((4, 4), 1.7, np.float32), "floating-point samples"),
        ("bands:5", np.zeros((4, 4, 6), np.uint8), "6 bands, and not the 5 of bands:5"),
        ("bands:2", np.zeros((4, 4, 2), np.int32), "8 or 16 bits"),
        ("bands:2", np.full((4, 4, 2), 1.5), "8 or 16 bits"),
        ("bands:2", np.zeros((4, 4), np.uint8), r"array \(H, W, bands\)"),
    ],
)
def test_file_of_another_kind_is_refused_by_name(
    kind: str, values: Any, message: str, tmp_path: Path
) -> None:
    floats = kind.startswith("labels") and values.dtype == np.float32
    path = tmp_path / ("a.npy" if kind.startswith("bands") else "a.tif" if floats else "a.png")
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)
    with pytest.raises(DataError, match=f"{path.name}: .*{message}"):
        image_kind(kind).read(path)


def test_arrays_run_no_code(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[[print]]]), allow_pickle=True)
    with pytest.raises(DataError, match="not a readable array"):
        image_kind("bands:1").read(tmp_path / "a.npy")


def test_wide_bands_are_scaled_to_levels(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[[0, 257 * 100, 65535]]], np.uint16))
    np.save(tmp_path / "b.npy", np.array([[[0, 100 / 255, 1]]], np.float32))
    kind = image_kind("bands:3")
    for name in ("a.npy", "b.npy"):
        assert kind.to_tensor(kind.read(tmp_path / name)).flatten().tolist() == [0, 100, 255]


def test_formats_that_cannot_hold_a_kind_are_refused(tmp_path: Path) -> None:
    for kind, name in (("rgba", "a.jpg"), ("labels:3", "a.webp"), ("bands:3", "a.png")):
        made = image_kind(kind)
        with pytest.raises(DataError, match=r"written"):
            made.save(torch.zeros(made.channels, 4, 4, dtype=torch.uint8), tmp_path / name)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gray", "unknown kind of image 'gray'; did you mean 'grey'"),
        ("labels", "say how many, such as labels:6"),
        ("grey:2", "fixed number of channels"),
        ("labels:256", "1 to 255 classes"),
        ("bands:0", "1 to 4096 bands"),
    ],
)
def test_name_of_no_kind_is_an_error(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(DataOptions, {"root": "x", "input": text}, "options")


# -- what files are taken for ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["rgb", "grey", "rgba", "bands:6"])
def test_files_say_what_they_are(name: str, tmp_path: Path) -> None:
    kind = image_kind(name)
    files = [write(tmp_path / str(index), kind, index) for index in range(3)]
    assert find_kind(files) == kind
    if kind.suffix == ".png":  # one file of another kind makes the folder unclear
        other = image_kind("grey" if name == "rgb" else "rgb")
        files.append(write(tmp_path / "other", other, 4))
        assert str(find_kind(files)) == "rgb"


def test_opaque_alpha_is_no_alpha(tmp_path: Path) -> None:
    Image.fromarray(picture(0, 8)).convert("RGBA").save(tmp_path / "a.png")
    assert str(find_kind([tmp_path / "a.png"])) == "rgb"


def test_found_kinds_are_those_of_each_side(tmp_path: Path) -> None:
    for split, start, number in splits_of(2):
        for index in range(start, start + number):
            write(tmp_path / f"{split}A" / str(index), image_kind("grey"), index)
            write(tmp_path / f"{split}B" / str(index), image_kind("rgba"), index)
    options = DataOptions(root=tmp_path)
    found = with_kinds(options)
    assert (found.input, found.target) == ("grey", "rgba")
    back = with_kinds(options.model_copy(update={"direction": "BtoA"}))
    assert (back.input, back.target) == ("rgba", "grey")
    split = load_split(found, "train", 32)
    assert split.inputs[0].shape[0] == 1
    assert split.targets is not None
    assert split.targets[0].shape[0] == 4
    asked = with_kinds(options, (3, 4))  # the generator's channels count more than the files
    assert (asked.input, asked.target) == (None, "rgba")
    with pytest.raises(ConfigError, match=r"generator.input_nc=3, but data.input=grey has 1"):
        with_kinds(options.model_copy(update={"input": "grey"}), (3, None))


def test_what_a_failed_start_found_does_not_count(tmp_path: Path) -> None:
    for name in ("grey", "rgb"):
        for side in ("trainA", "trainB"):
            write(tmp_path / name / side / "0", image_kind(name), 0)
    run = RunFolder(tmp_path / "run")
    with pytest.raises(ConfigError, match="a multiple of the stride"):
        train_teacher(teacher_options(tmp_path / "grey", run.path, "data.crop_size=31"), CPU)
    options = teacher_options(tmp_path / "rgb", run.path)
    assert with_found_images(run.resolved(options)).generator.input_nc == 3
    run.save_state({"images": 1})
    assert run.resolved(options).data.input == "grey"


def test_arrays_beside_images_are_no_images(tmp_path: Path) -> None:
    root, bands = tmp_path / "data", image_kind("bands:6")
    for side, kind in (("A", "rgb"), ("B", "bands:6")):
        for index in range(3):
            write(root / f"train{side}" / str(index), image_kind(kind), index)
    np.save(root / "trainA" / "features.npy", np.zeros((5, 7)))
    for mode in ("paired", "unpaired"):
        found = with_kinds(DataOptions(root=root, mode=mode, search_fraction=0.4))
        assert (found.input, found.target) == (None, "bands:6")
        splits = make_splits(found)
        assert [splits.counts(split)["A"] for split in ("train", "search")] == [2, 1]
    for kind, names in ((RGB, "012"), (bands, ("features",))):
        jobs = plan_folder(root / "trainA", tmp_path / "out", ".png", kind.read_suffixes)
        assert [job.source.stem for job in jobs] == list(names)


class Offset(nn.Module):
    """Adds a grid that it makes in its first forward."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.grid: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.grid is None:
            self.grid = torch.linspace(-1, 1, x.shape[-1])
        return self.conv(x) + self.grid


def test_module_that_keeps_a_grid_of_its_first_forward_is_left_as_it_was() -> None:
    module = build_network({"module": f"{__name__}:Offset"}, "mine").module
    assert isinstance(module, Offset)
    assert module.grid is None
    fresh, x = Offset(), torch.zeros(1, 3, 4, 4)
    fresh.load_state_dict(module.state_dict())
    assert torch.equal(module(x), fresh(x))


# -- from the files to the scores -----------------------------------------------------------


@pytest.mark.parametrize(
    ("taken", "made"),
    [
        ("grey", "rgb"),
        ("rgb", "grey"),
        ("rgba", "rgba"),
        ("labels:4", "rgb"),
        ("bands:6", "bands:6"),
    ],
)
def test_images_of_a_kind_go_through_all_stages(
    taken: str, made: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data, kinds = tmp_path / "data", (image_kind(taken), image_kind(made))
    for split, start, number in splits_of(4):
        for index in range(start, start + number):
            for side, kind in zip("AB", kinds, strict=True):
                write(data / f"{split}{side}" / str(index), kind, index)
    short = ("schedule.num_images=2", "schedule.num_images_decay=0", "data.mode=paired")
    named = () if ":" not in taken else (f"data.input={taken}",)  # all others are found

    run = Path("teacher")
    options = teacher_options(data, run, "generator.name=toy", "generator.ngf=4", *short, *named)
    train_teacher(options, CPU)
    supernet, found = Path("supernet"), Path("search")
    options = supernet_options(data, supernet, run, "student.divisor=1", *short)
    train_supernet(options, CPU)
    result = search(search_options(found, supernet, "num_trials=3", "runtime=eager"), CPU)
    assert train_supernet(options, CPU)["images"] == 2  # finished; what was found is no change

    subnet = str(result.front[0].subnet)
    for trained in (run, supernet):
        with safe_open(trained / "weights.safetensors", "np") as file:
            header = json.loads(file.metadata()["gancompress"])
        assert header["inputs"] == {"image": taken}
        assert header["outputs"] == {"image": made}
    assert main(["export", "search", "--subnet", subnet, "--to", "onnx", "--output", "g.onnx"]) == 0
    loaded = load_generator("g.onnx")
    assert (str(loaded.input), str(loaded.output)) == (taken, made)

    assert main(["translate", "g.onnx", str(data / "testA"), "out"]) == 0
    source, *_ = sorted((data / "testA").iterdir())
    translated = kinds[1].to_tensor(kinds[1].read(Path("out") / f"{source.stem}{kinds[1].suffix}"))
    assert translated.shape == (kinds[1].channels, 32, 32)
    assert main(["evaluate", "search", str(data), "--output", "evaluation"]) == 0
    scores = json.loads(Path("evaluation/scores.json").read_text())
    assert {"truth_mae", "teacher_mae"} <= scores["scores"].keys()
    if made != "rgb":
        assert any(f"these are {made}" in text for text in scores["left_out"])
        assert main(["evaluate", "search", str(data), "--lpips", "alex"]) == 2
        with pytest.raises(ConfigError, match=f"teacher_lpips.alex. is of RGB images.*{made}"):
            search(search_options(found, supernet, "metric=teacher_lpips[alex]"), CPU)
