"""Bundles of the demo: which networks, which inputs, which files, and the command around them."""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import signal
import sys
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from bundles import (
    EXAMPLES,
    MODELS,
    Pixels,
    coloured,
    drawing,
    make_sketches,
    manifest,
    needs_runtime,
    write_bundle,
)
from helpers import picture, write_image
from PIL import Image

from gancompress.checkpoint.network import Network
from gancompress.checkpoint.run import RunFolder
from gancompress.cli.main import main
from gancompress.cost import format_count
from gancompress.data import RGB, ImageSet, list_images, read_image, to_float, to_tensor
from gancompress.demo import (
    BundleOptions,
    DemoServer,
    Manifest,
    kept_bundle,
    make_bundle,
    publish,
    read_manifest,
    site,
)
from gancompress.demo import folder as folder_module
from gancompress.demo.examples import (
    choose,
    drawing_pad,
    file_name,
    flat_colours,
    line_width,
    native,
    png,
)
from gancompress.demo.folder import LIST
from gancompress.demo.manifest import NAME, read_bundle, sha256
from gancompress.demo.sources import NUM_SUBNETS, Offer, _along_front
from gancompress.elastic import NetworkCosts
from gancompress.errors import CheckpointError, ConfigError, SpaceError
from gancompress.runtimes import OnnxGenerator
from gancompress.search import load_result
from runs import (
    TINY,
    TINY_SPACE,
    Crash,
    find_source,
    load_network,
    load_supernet,
    process,
    search,
    search_options,
    supernet_options,
    teacher_options,
    train_supernet,
    write_options,
    write_teacher,
    write_tiny,
)

CPU = torch.device("cpu")
QUICK = ("schedule.num_images=2", "schedule.num_images_decay=0", "loss.lambda_gan=0")


def quiet(_: str) -> None:
    """Nobody listens."""


def tree(folder: Path) -> dict[str, bytes | str]:
    """Everything below a folder: files by content, links by target."""
    return {
        str(path.relative_to(folder)): (
            os.readlink(path)
            if path.is_symlink()
            else path.read_bytes()
            if path.is_file()
            else "folder"
        )
        for path in sorted(folder.rglob("*"))
    }


def files_of(folder: Path) -> dict[str, bytes]:
    """All files below a folder but the list of them."""
    found = {k: v for k, v in tree(folder).items() if isinstance(v, bytes) and k != LIST}
    return {name: content for name, content in found.items() if isinstance(content, bytes)}


def digests(contents: Mapping[str, bytes]) -> dict[str, str]:
    """Of large files: what differs is named without showing it."""
    return {name: sha256(content) for name, content in contents.items()}


# -- publishing -------------------------------------------------------------------------------

FIRST = {NAME: b"1", "models/a.onnx": b"one", "models/b.onnx": b"two", "same.txt": b"same"}
SECOND = {NAME: b"2", "models/a.onnx": b"ONE", "examples/c.png": b"three", "same.txt": b"same"}


def test_published_folder_holds_the_files_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    publish(folder, FIRST)
    assert files_of(folder) == FIRST
    publish(folder, SECOND)
    assert files_of(folder) == SECOND
    before = tree(folder)
    publish(folder, SECOND)
    assert tree(folder) == before


def test_empty_folder_may_be_used(tmp_path: Path) -> None:
    publish(tmp_path, FIRST)
    assert files_of(tmp_path) == FIRST


def test_files_of_others_stay(tmp_path: Path) -> None:
    publish(tmp_path, FIRST)
    mine = {"CNAME": b"drawings.example", "models/notes.txt": b"mine"}
    for name, content in mine.items():
        (tmp_path / name).write_bytes(content)
    publish(tmp_path, SECOND)
    assert files_of(tmp_path) == {**SECOND, **mine}


def test_deleted_files_are_written_again(tmp_path: Path) -> None:
    publish(tmp_path, FIRST)
    shutil.rmtree(tmp_path / "models")
    publish(tmp_path, FIRST)
    assert files_of(tmp_path) == FIRST


def refuses(folder: Path, message: str, contents: Mapping[str, bytes] = SECOND) -> None:
    """Whether publishing raises, and nothing in the folder and beside it changes."""
    before = tree(folder.parent)
    with pytest.raises(ConfigError, match=message):
        publish(folder, contents)
    assert tree(folder.parent) == before


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "models/a.onnx", NAME, "index.html"])
def test_folder_of_somebody_else_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "folder" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    refuses(tmp_path / "folder", "is not empty, and was not written by this command")


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").write_bytes(b"mine")
    refuses(tmp_path / "folder", "is not empty, and was not written by this command")


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "3", '{"a": 1}', "\xff\xfe", '{"/etc/passwd": []}', '{"../a": ["x"]}'),
        *('{"models/../../a": ["x"]}', '{"a/..": []}'),
    ],
)
def test_damaged_list_is_refused(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "folder"
    publish(folder, FIRST)
    (folder / LIST).write_bytes(content.encode("latin-1"))
    (tmp_path / "a").write_bytes(b"mine")
    refuses(folder, "is not empty, and was not written by this command")


def a_file(path: Path) -> None:
    path.write_bytes(b"mine")


def a_folder(path: Path) -> None:
    (path / "inside").mkdir(parents=True)


def a_link(path: Path) -> None:
    path.symlink_to("nowhere")


def a_copy(path: Path) -> None:
    """A link to a file with what was here."""
    copy = path.with_name("copy")
    copy.write_bytes({**FIRST, **SECOND}[path.name if path.name == NAME else f"models/{path.name}"])
    path.symlink_to(copy.name)


@pytest.mark.parametrize("make", [a_file, a_folder, a_link])
def test_new_file_replaces_nothing(tmp_path: Path, make: Callable[[Path], None]) -> None:
    folder = tmp_path / "folder"
    publish(folder, FIRST)
    (folder / "examples").mkdir()
    make(folder / "examples" / "c.png")
    refuses(folder, "c.png was not written by this command, and would be replaced")


@pytest.mark.parametrize("make", [a_file, a_folder, a_link, a_copy])
@pytest.mark.parametrize("name", [NAME, "models/a.onnx", "models/b.onnx"])
def test_changed_file_is_neither_replaced_nor_deleted(
    tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    folder = tmp_path / "folder"
    publish(folder, FIRST)
    (folder / name).unlink()
    make(folder / name)
    for contents in (FIRST, SECOND):
        refuses(folder, f"{name} has been changed since it was written", contents)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", range(1, 7))
def test_interrupted_publishing_loses_nothing_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, after: bool
) -> None:
    publish(tmp_path, FIRST)
    (tmp_path / "models" / "mine.txt").write_bytes(b"mine")
    interrupt(monkeypatch, number, after)
    with pytest.raises(Crash):
        publish(tmp_path, SECOND)
    monkeypatch.undo()
    left = files_of(tmp_path)
    assert left.pop("models/mine.txt") == b"mine"
    for name, content in left.items():
        assert content in (FIRST.get(name), SECOND.get(name))
    if left[NAME] == SECOND[NAME]:  # who reads this file finds all that it lists
        assert left.items() >= SECOND.items()
    wanted: Mapping[str, bytes]
    for wanted in (FIRST, SECOND, {NAME: b"3"}):
        copy = tmp_path.with_name(f"{tmp_path.name}-{wanted[NAME].decode()}")
        shutil.copytree(tmp_path, copy)
        publish(copy, wanted)
        assert files_of(copy) == {**wanted, "models/mine.txt": b"mine"}


def interrupt(monkeypatch: pytest.MonkeyPatch, number: int, after: bool) -> None:
    """Crash before or after a folder's file is written for the `number`-th time."""
    calls, write = 0, folder_module.write_atomic

    def wrapped(path: Path, content: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls == number and not after:
            raise Crash
        write(path, content)
        if calls == number:
            raise Crash

    monkeypatch.setattr(folder_module, "write_atomic", wrapped)


@pytest.mark.parametrize("number", range(1, 6))
def test_publishing_goes_on_where_the_first_call_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    interrupt(monkeypatch, number, after=True)
    with pytest.raises(Crash):
        publish(tmp_path, FIRST)
    monkeypatch.undo()
    assert NAME not in files_of(tmp_path) or files_of(tmp_path) == FIRST
    publish(tmp_path, FIRST)
    assert files_of(tmp_path) == FIRST


def test_publishing_goes_on_after_a_kill_in_the_very_first_write(tmp_path: Path) -> None:
    (tmp_path / f".{LIST}.partial").write_bytes(b'{"models/a')
    publish(tmp_path, FIRST)
    assert files_of(tmp_path) == FIRST


# -- manifest ---------------------------------------------------------------------------------


def test_bundle_says_what_images_its_models_take_and_make(tmp_path: Path) -> None:
    weights = write_teacher(tmp_path / "g.safetensors", "toy", ngf=4, input_nc=1, output_nc=4)
    for number in range(2):
        write_image(tmp_path / "images" / f"{number}.png", picture(number, 32))
    options = BundleOptions(None, tmp_path / "images")
    made = make_bundle(find_source(weights), options, tmp_path / "bundle", quiet)
    assert (made.taken, made.made) == ("grey", "rgba")
    with Image.open(tmp_path / "bundle" / made.examples[0].file) as example:
        assert example.mode == "L"


def test_bundle_of_images_that_the_page_does_not_show_is_refused(tmp_path: Path) -> None:
    weights = write_teacher(tmp_path / "g.safetensors", "toy", ngf=4, input_nc=5)
    np.save(tmp_path / "0.npy", np.zeros((8, 8, 5), np.uint8))
    with pytest.raises(
        ConfigError, match=r"of rgb and grey ones, and .* rgb images of bands:5 ones"
    ):
        make_bundle(find_source(weights), BundleOptions(None, tmp_path), tmp_path / "b", quiet)


def test_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    found, contents = read_bundle(tmp_path)
    assert found == manifest() == read_manifest(tmp_path)
    assert contents == {**MODELS, **EXAMPLES}
    assert found.files() == {name: sha256(content) for name, content in contents.items()}


def test_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ConfigError, match=f"is not a bundle of models: it holds no {NAME}"):
            read_manifest(folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"3", b"\xff\xfe", b"{}", b'{"format": 1, "format"', b"[" * 100_000],
    ids=lambda content: repr(content[:20]),
)
def test_manifest_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"front\.json is not a manifest of this version"):
        read_manifest(tmp_path)


DAMAGES: list[tuple[str, Any]] = [
    *[("format", value) for value in (0, 2, "1", None)],
    *[("input", value) for value in ("video", "", None)],
    *[("size", value) for value in (0, -8, 7, 5000, 32.5, "wide")],
    *[("stride", value) for value in (0, -1)],
    *[("extra", 1), ("models", []), ("models", None), ("examples", None), ("pad", 3)],
    *[("models.0.file", value) for value in ("", "8.onnx", "models/", "models/.onnx")],
    *[("models.0.file", value) for value in ("../8.onnx", "models/../8.onnx", "models/a/b.onnx")],
    *[("models.0.file", value) for value in ("/models/8.onnx", "models//8.onnx", "C:\\8.onnx")],
    *[
        ("models.0.file", value)
        for value in ("models/8.onnx\n", "models/8.onnx\0", "models/é.onnx")
    ],
    *[("models.0.file", value) for value in ("models/8.js", "models/8.html", "examples/8.onnx")],
    *[("examples.0.file", value) for value in ("index.html", "examples/a.html", "examples/a.svg")],
    *[("examples.0.file", value) for value in ("models/a.png", "examples/%2e%2e.png", NAME)],
    *[("models.0.sha256", value) for value in ("", "0" * 63, "A" * 64, "0" * 64 + "\n")],
    *[("models.0.role", "student"), ("models.0.macs", "many"), ("models.0.score", 3)],
    *[("pad.grid", 0), ("pad.width", 0), ("pad.colours", []), ("pad.paper", "white")],
    *[("pad.colours", ["#000"]), ("pad.colours", ["#00000G"]), ("pad.paper", "#ffffff;")],
]


@pytest.mark.parametrize(("key", "value"), DAMAGES)
def test_wrong_value_in_a_manifest_is_named(tmp_path: Path, key: str, value: Any) -> None:
    content = manifest().model_dump(mode="json")
    *parts, last = (int(part) if part.isdigit() else part for part in key.split("."))
    place: Any = content
    for part in parts:
        place = place[part]
    place[last] = value
    (tmp_path / NAME).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CheckpointError, match=f"this version: {re.escape(key)}"):
        read_manifest(tmp_path)


# -- drawings and photos ------------------------------------------------------------------------


def images(folder: Path, *pixels: Pixels, suffix: str = "png") -> ImageSet:
    """Images as a set at the size of the first."""
    for number, content in enumerate(pixels):
        write_image(folder / f"{number:02d}.{suffix}", content)
    return ImageSet(list_images(folder), len(pixels[0]))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize("width", [1, 2, 5])
def test_pad_for_drawings_has_their_paper_pen_and_line_width(
    tmp_path: Path, width: int, suffix: str
) -> None:
    found = drawing_pad(images(tmp_path, *(drawing(i, 96, width) for i in range(4)), suffix=suffix))
    assert found is not None
    assert (found.grid, found.width) == (96, width)
    assert (found.paper, found.colours) == ("#ffffff", ("#000000",))


def label_map(index: int, size: int) -> Pixels:
    """Rectangles in the colours of Cityscapes' road, sky, car and person."""
    rng = np.random.default_rng(index)
    pixels = np.full((size, size, 3), (128, 64, 128), np.uint8)
    for colour in ((70, 130, 180), (0, 0, 142), (220, 20, 60)):
        top, left = rng.integers(0, size // 2, 2)
        pixels[top : top + size // 4, left : left + size // 4] = colour
    return pixels


def test_pad_for_label_maps_has_their_exact_colours(tmp_path: Path) -> None:
    found = drawing_pad(images(tmp_path, *(label_map(i, 64) for i in range(5))))
    assert found is not None
    assert found.paper == "#804080"
    assert set(found.colours) == {"#4682b4", "#00008e", "#dc143c"}
    assert (found.line, found.free) == (None, False)


@pytest.mark.parametrize("count", [1, 5, 40])
def test_pad_for_coloured_drawings_takes_any_colour_and_has_their_lines(
    tmp_path: Path, count: int
) -> None:
    found = drawing_pad(images(tmp_path, *(coloured(i, 128) for i in range(count))))
    assert found is not None
    assert (found.grid, found.width, found.paper) == (128, 1, "#ffffff")
    assert (found.line, found.free) == ("#000000", True)
    assert {"#ffffff", "#ffc83d"} < set(found.colours)
    assert len(found.colours) == 16


def thick(index: int) -> Pixels:
    """The same with bars in black that are no lines."""
    pixels = coloured(index, 128)
    pixels[:, 60:80] = 0
    return pixels


def on_grey(index: int) -> Pixels:
    pixels = coloured(index, 128)
    return np.where(pixels == 255, np.uint8(128), pixels)


@pytest.mark.parametrize("change", [thick, on_grey])
def test_flat_colours_without_lines_on_white_paper_are_no_coloured_drawings(
    tmp_path: Path, change: Callable[[int], Pixels]
) -> None:
    assert drawing_pad(images(tmp_path, *(change(i) for i in range(40)))) is None


def test_few_drawings_with_other_inputs_between_are_still_drawings(tmp_path: Path) -> None:
    drawings = [coloured(i, 64) for i in range(9)]
    found = drawing_pad(images(tmp_path, *drawings, picture(0, 64)))
    assert found is not None
    assert found.free
    half = [picture(i, 64) for i in range(9)]
    (tmp_path / "half").mkdir()
    assert drawing_pad(images(tmp_path / "half", *drawings, *half)) is None


def grey(pixels: Pixels) -> Pixels:
    return pixels.mean(-1, keepdims=True).round().astype(np.uint8).repeat(3, -1)


def noise(index: int, size: int) -> Pixels:
    return np.random.default_rng(index).integers(0, 256, (size, size, 3), dtype=np.uint8)


def shades(index: int, size: int) -> Pixels:
    """A smooth ramp over few neighbouring greys."""
    ramp = np.linspace(100 + index, 130 + index, size).round().astype(np.uint8)
    return np.broadcast_to(ramp[:, None, None], (size, size, 3)).copy()


PHOTOS: dict[str, Callable[[int], Pixels]] = {
    "pictures": lambda index: picture(index, 64),
    "grey pictures": lambda index: grey(picture(index, 64)),
    "noise": lambda index: noise(index, 64),
    "grey noise": lambda index: noise(index, 64)[..., :1].repeat(3, -1),
    "shades": lambda index: shades(index, 64),
    "one colour": lambda index: np.full((64, 64, 3), 200, np.uint8),
}


@pytest.mark.parametrize("kind", PHOTOS)
@pytest.mark.parametrize("count", [1, 4])
def test_photos_have_no_pad(tmp_path: Path, kind: str, count: int) -> None:
    assert drawing_pad(images(tmp_path, *(PHOTOS[kind](i) for i in range(count)))) is None


def test_flat_colours_are_ordered_by_their_share() -> None:
    colours = [(255, 255, 255), (1, 2, 3), (200, 30, 90)]
    shares = (700, 250, 50)
    pixels = np.repeat(np.array(colours), shares, axis=0)
    rng = np.random.default_rng(0)
    assert flat_colours(rng.permutation(pixels)) == colours
    stains = rng.integers(0, 256, (20, 3))  # below the share that counts
    assert flat_colours(np.concatenate([pixels, stains])) == colours


@pytest.mark.parametrize("width", range(1, 10))
def test_line_width_is_that_of_the_lines(width: int) -> None:
    ink = np.zeros((3, 200, 200), bool)
    ink[0, 50 : 50 + width] = True
    ink[1, :, 20 : 20 + width] = True
    ink[2, 100 : 100 + width, 10:190] = True
    assert line_width(ink) == width
    assert line_width(ink[:1]) == width


def test_nothing_drawn_has_the_thinnest_line() -> None:
    assert line_width(np.zeros((1, 8, 8), bool)) == 1
    assert line_width(np.ones((1, 8, 8), bool)) >= 1


def test_drawings_are_examined_at_the_size_of_their_files(tmp_path: Path) -> None:
    pair = np.concatenate([drawing(0, 128, 4), picture(0, 128)], axis=1)
    file = write_image(tmp_path / "a.png", pair)
    shown = native(ImageSet([file], 32, "left"))
    assert (shown.size, shown.half) == (128, "left")
    assert torch.equal(shown[0], to_tensor(Image.fromarray(drawing(0, 128, 4))))
    assert native(ImageSet([file], 256, "left")).size == 256
    huge = write_image(tmp_path / "huge.png", drawing(0, 1500))
    assert native(ImageSet([huge], 32)).size == 512


# -- examples -----------------------------------------------------------------------------------


def test_named_examples_are_chosen_in_their_order_once(tmp_path: Path) -> None:
    found = images(tmp_path, *(picture(i, 16) for i in range(5)))
    assert choose(found, ["03", "01"]) == [3, 1]
    assert choose(found, ["03", "01", "03"]) == [3, 1]


def test_unknown_example_names_some_that_exist(tmp_path: Path) -> None:
    found = images(tmp_path, *(picture(i, 16) for i in range(5)))
    with pytest.raises(ConfigError, match=r"no image '9' among the 5 .*such as 00, 01, 02"):
        choose(found, ["01", "9"])


@pytest.mark.parametrize("count", [1, 2, 6, 7, 40, 150])
def test_examples_are_a_few_different_images(tmp_path: Path, count: int) -> None:
    found = images(tmp_path, *(picture(i, 16) for i in range(count)))
    chosen = choose(found, ())
    assert len(set(chosen)) == len(chosen) == min(count, 6)
    assert choose(found, ()) == chosen


def test_examples_show_every_kind_before_a_copy(tmp_path: Path) -> None:
    kinds = [drawing(0, 16), 255 - drawing(0, 16), picture(1, 16)]
    found = images(tmp_path, *(kinds[index] for index in (0, 0, 0, 1, 0, 2, 0, 0)))
    chosen = choose(found, ())
    assert len(set(chosen)) == 6
    assert {3, 5} < set(chosen[:3])


@pytest.mark.parametrize(
    ("name", "file"),
    [
        *(("shoe_1", "0-shoe_1.png"), ("a b/c", "0-a-b-c.png"), ("../../x", "0-x.png")),
        *(("..", "0-input.png"), ("", "0-input.png"), ("靴", "0-input.png"), ("é1", "0-1.png")),
        *(("a\0b\n", "0-a-b.png"), ("<b>", "0-b.png"), ("%2e%2e", "0-2e-2e.png")),
    ],
)
def test_file_names_of_examples_are_plain(name: str, file: str) -> None:
    assert file_name(name, 0) == f"examples/{file}"


def test_example_files_hold_the_pixels() -> None:
    pixels = to_tensor(Image.fromarray(picture(3, 32)))
    assert torch.equal(to_tensor(read_image(png(pixels, RGB))), pixels)


# -- sources ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a compression leaves it: data/, supernet/ and search/, of 64 subnets."""
    folder = tmp_path_factory.mktemp("demo")
    teacher = write_tiny(folder / "teacher.safetensors")
    root = make_sketches(folder / "data")
    sets = (*TINY_SPACE, *QUICK)
    train_supernet(supernet_options(root, folder / "supernet", teacher, *sets), CPU)
    search(search_options(folder / "search", folder / "supernet"), CPU)
    for number in range(3):
        write_image(folder / "photos" / f"photo {number}.png", picture(number, 32))
    return folder


@pytest.fixture
def run(world: Path, tmp_path: Path) -> Path:
    """The search alone, as a copy that a test may change."""
    shutil.copytree(world / "search", tmp_path / "search")
    return tmp_path / "search"


def names_of(path: Path, *subnets: str) -> list[str]:
    return [offer.name for offer in find_source(path, subnets).offers]


def test_search_offers_its_front_from_end_to_end_and_the_teacher(world: Path) -> None:
    result, source = load_result(world / "search"), find_source(world / "search")
    *subnets, teacher = source.offers
    front = {str(trial.subnet): trial for trial in result.front}
    names = [offer.name for offer in subnets]
    assert 2 <= len(names) <= NUM_SUBNETS
    macs = [front[name].macs for name in names]
    assert macs == sorted(set(macs))
    assert (macs[0], macs[-1]) == (result.front[0].macs, result.front[-1].macs)
    assert (teacher.name, teacher.role, teacher.score) == ("teacher", "teacher", None)
    for offer in subnets:
        assert offer.role == "subnet"
        assert offer.score is not None
        assert offer.score.name == result.metric
        assert offer.score.value == front[offer.name].scores[result.metric]
        assert offer.score.lower_is_better is result.lower_is_better


def test_offered_networks_are_the_extracted_subnets(world: Path) -> None:
    net, _ = load_supernet(world / "supernet")
    x = to_float(torch.from_numpy(picture(0, 32)).permute(2, 0, 1)[None])
    for path in (world / "search", world / "supernet"):
        *subnets, teacher = find_source(path).offers
        for offer in subnets:
            network, subnet = offer.load(), net.space.parse(offer.name)
            with torch.no_grad():
                assert torch.equal(network.module(x), net(x, subnet))
            costs = NetworkCosts(network.module, network.example_shape)
            assert (costs.macs(32), costs.params) == (
                net.macs(subnet, 32),
                net.num_parameters(subnet),
            )
        with torch.no_grad():
            wanted = load_network(world / "teacher.safetensors").module(x)
            assert torch.equal(teacher.load().module(x), wanted)


def test_long_front_is_thinned_to_even_steps_between_its_ends() -> None:
    def thinned(*macs: int) -> list[int]:
        front: list[Any] = [SimpleNamespace(macs=number, subnet=number) for number in macs]
        return [trial.macs for trial in _along_front(front)]

    assert thinned(10, 11, 12, 45, 95, 220, 230, 1000) == [10, 45, 220, 1000]
    assert thinned(10, 11, 12, 13, 95, 100, 1000) == [10, 95, 100, 1000]
    assert thinned(10, 11, 12, 13, 95) == [10, 13, 95]
    assert thinned(10, 999, 1000) == [10, 999, 1000]


def test_supernet_offers_uniform_subnets_and_the_teacher(world: Path) -> None:
    net, _ = load_supernet(world / "supernet")
    names = names_of(world / "supernet")
    assert names[-1] == "teacher"
    assert names[0] == str(net.space.smallest())
    assert names[-2] == str(net.space.largest())
    sizes = [net.num_parameters(net.space.parse(name)) for name in names[:-1]]
    assert sizes == sorted(set(sizes))
    assert all(offer.score is None for offer in find_source(world / "supernet").offers)


def test_named_subnets_are_offered_once(world: Path) -> None:
    net, _ = load_supernet(world / "supernet")
    low, high = str(net.space.smallest()), str(net.space.largest())
    for path in (world / "search", world / "supernet"):
        assert names_of(path, high, low, high) == [high, low, "teacher"]
        with pytest.raises(SpaceError):
            find_source(path, ["9_9_9"])


def test_only_subnets_that_the_search_has_seen_have_a_score(
    world: Path, rng: random.Random
) -> None:
    net, _ = load_supernet(world / "supernet")
    result = load_result(world / "search")
    known = {str(trial.subnet) for trial in result.trials if trial.complete}
    unseen = next(s for s in (str(net.space.sample(rng)) for _ in range(1000)) if s not in known)
    seen = str(result.trials[0].subnet)
    scores = {o.name: o.score for o in find_source(world / "search", [unseen, seen]).offers}
    assert scores[unseen] is None
    assert scores[seen] is not None


def test_checkpoint_is_offered_alone(world: Path) -> None:
    source = find_source(world / "teacher.safetensors")
    assert [(offer.name, offer.role) for offer in source.offers] == [("teacher", "generator")]
    assert (source.data, source.splits, source.size) == (None, None, 32)
    with pytest.raises(ConfigError, match=r"is not a supernet, so --subnet 8_8 has no effect"):
        find_source(world / "teacher.safetensors", ["8_8"])


def test_teacher_run_is_offered_as_the_teacher(world: Path, tmp_path: Path) -> None:
    write_options(tmp_path / "config.yaml", teacher_options(world / "data", tmp_path))
    shutil.copy(world / "teacher.safetensors", tmp_path / "weights.safetensors")
    (offer,) = find_source(tmp_path).offers
    assert (offer.name, offer.role) == ("teacher", "teacher")


def test_compression_stands_for_the_furthest_stage_that_has_ended(
    world: Path, tmp_path: Path
) -> None:
    assert find_source(world).path == world / "search"
    for name in ("search", "supernet"):
        shutil.copytree(world / name, tmp_path / name)
    (tmp_path / "search" / "done.json").unlink()
    assert find_source(tmp_path).path == tmp_path / "supernet"
    (tmp_path / "supernet" / "done.json").unlink()
    with pytest.raises(ConfigError, match="no stage of this compression has ended yet"):
        find_source(tmp_path)


def test_search_that_has_not_ended_is_refused(run: Path) -> None:
    (run / "done.json").unlink()
    with pytest.raises(ConfigError, match="holds no finished search"):
        find_source(run)


# -- bundles ------------------------------------------------------------------------------------


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Nothing is exported: files tell what would be; gives the networks in the order of calls."""
    made: list[str] = []

    def export(network: Network, kind: str, path: Path, proof: list[Any], options: Any) -> Any:
        name = str(network.header.get("subnet", "whole"))
        made.append(name)
        assert all(side % network.stride == 0 for image in proof for side in image.shape[1:])
        path.write_bytes(f"{kind} {name} {options.weights} {options.rewrite}".encode())
        return SimpleNamespace(max_difference=0.25, psnr_db=None, num_images=len(proof))

    monkeypatch.setattr("gancompress.demo.bundle.export_network", export)
    return made


@pytest.mark.usefixtures("exports")
def test_bundle_of_a_search_is_whole_and_in_order(world: Path, tmp_path: Path) -> None:
    source = find_source(world / "search")
    made = make_bundle(source, BundleOptions(), tmp_path / "bundle", quiet)
    found, contents = read_bundle(tmp_path / "bundle")
    assert found == made
    assert files_of(tmp_path / "bundle").keys() == {NAME, *contents}
    assert [model.name for model in made.models] == [offer.name for offer in source.offers]
    assert [model.macs for model in made.models] == sorted(model.macs for model in made.models)
    assert [model.role for model in made.models[-2:]] == ["subnet", "teacher"]
    assert [model.score for model in made.models] == [offer.score for offer in source.offers]
    for model in made.models:
        assert (model.bytes, model.max_difference) == (len(contents[model.file]), 0.25)
        assert model.num_images == 8  # all that there are to train on
    assert (made.title, made.input, made.size, made.stride) == ("data", "sketch", 32, 2)
    assert made.pad is not None
    assert (made.pad.width, made.pad.colours) == (2, ("#000000",))


@pytest.mark.usefixtures("exports")
def test_images_of_a_bundle_have_sides_that_all_its_models_can_take(
    world: Path, tmp_path: Path
) -> None:
    source = find_source(world / "search")

    def bundle(*strides: int) -> Manifest:
        def load(offer: Offer, stride: int) -> Network:
            network = offer.load()
            network.stride = stride
            return network

        pairs = zip(source.offers, strides, strict=False)
        offers = tuple(replace(offer, load=partial(load, offer, side)) for offer, side in pairs)
        return make_bundle(replace(source, offers=offers), BundleOptions(), tmp_path / "b", quiet)

    made = bundle(4, 6)
    assert (made.stride, made.size) == (12, 24)
    with pytest.raises(ConfigError, match="multiples of 40, and its images have 32 pixels"):
        bundle(8, 5)


@pytest.mark.usefixtures("exports")
def test_examples_are_inputs_that_were_not_trained_on(world: Path, tmp_path: Path) -> None:
    made = make_bundle(find_source(world / "search"), BundleOptions(), tmp_path, quiet)
    assert {example.name for example in made.examples} == {"0200", "0201", "0202", "0203"}
    for example in made.examples:
        pixels = np.asarray(Image.open(io.BytesIO((tmp_path / example.file).read_bytes())))
        assert np.array_equal(pixels, drawing(int(example.name), 32))


@pytest.mark.usefixtures("exports")
def test_same_source_gives_the_same_bundle(world: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_bundle(find_source(world / "search"), BundleOptions(), tmp_path / name, quiet)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


@pytest.mark.usefixtures("exports")
@pytest.mark.parametrize(("large", "rewrite"), [(32, "browser"), (33, "never")])
def test_large_images_get_the_graphs_that_are_fast_in_browsers(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: int, rewrite: str
) -> None:
    monkeypatch.setattr("gancompress.demo.bundle.LARGE", large)
    made = make_bundle(find_source(world / "search"), BundleOptions(), tmp_path, quiet)
    for model in made.models:
        assert (tmp_path / model.file).read_text().endswith(f"float32 {rewrite}")


@pytest.mark.usefixtures("exports")
def test_checkpoint_needs_images_and_takes_their_look(world: Path, tmp_path: Path) -> None:
    source = find_source(world / "teacher.safetensors")
    with pytest.raises(ConfigError, match=r"does not say what it was trained on; give --images"):
        make_bundle(source, BundleOptions(), tmp_path / "a", quiet)
    assert not (tmp_path / "a").exists()
    options = BundleOptions(images=world / "photos")
    made = make_bundle(source, options, tmp_path / "a", quiet)
    assert (made.title, made.input, made.pad, made.size) == ("teacher", "photo", None, 32)
    assert [model.name for model in made.models] == ["teacher"]
    assert {example.name for example in made.examples} == {"photo 0", "photo 1", "photo 2"}


@pytest.mark.usefixtures("exports")
def test_inputs_are_taken_as_photos_where_the_user_says_so(world: Path, tmp_path: Path) -> None:
    source = find_source(world / "search")
    made = make_bundle(source, BundleOptions(kind="photo"), tmp_path, quiet)
    assert (made.input, made.pad) == ("photo", None)


def test_photos_are_no_sketches_and_nothing_is_exported_first(
    world: Path, tmp_path: Path, exports: list[str]
) -> None:
    options = BundleOptions(kind="sketch", images=world / "photos")
    with pytest.raises(ConfigError, match=r"--input sketch: .* too many colours"):
        make_bundle(find_source(world / "search"), options, tmp_path / "a", quiet)
    assert exports == []
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", ["my net (2)", "..", "-", "größe", "latest_net_G"])
@pytest.mark.usefixtures("exports")
def test_checkpoint_of_any_name_can_be_shown(world: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.safetensors"
    shutil.copy(world / "teacher.safetensors", path)
    options = BundleOptions(images=world / "photos")
    made = make_bundle(find_source(path), options, tmp_path / "bundle", quiet)
    assert made.models[0].name == path.stem
    assert read_bundle(tmp_path / "bundle")[0] == made


def test_kept_bundle_is_made_once(world: Path, run: Path, exports: list[str]) -> None:
    first = kept_bundle(find_source(run, FEW), BundleOptions(), quiet)
    assert first == run / "demo"
    count, before = len(exports), tree(first)
    times = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    assert kept_bundle(find_source(run, FEW), BundleOptions(), quiet) == first
    assert len(exports) == count
    assert tree(first) == before
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == times


FEW = ("2_4_2",)


def rewrite_done(run: Path) -> None:
    """As if the search had been run again, with another result."""
    content = json.loads((run / "done.json").read_text(encoding="utf-8"))
    content["trials"] = content["trials"][:-1]
    content["costs"] = {name: values[:-1] for name, values in content["costs"].items()}
    RunFolder(run).finish(content)


def lose_a_file(run: Path) -> None:
    next((run / "demo" / "models").iterdir()).unlink()


def lose_the_manifest(run: Path) -> None:
    (run / "demo" / NAME).unlink()


@pytest.mark.parametrize("change", [rewrite_done, lose_a_file, lose_the_manifest])
def test_kept_bundle_is_made_anew_when_the_run_or_it_has_changed(
    run: Path, exports: list[str], change: Callable[[Path], None]
) -> None:
    folder = kept_bundle(find_source(run, FEW), BundleOptions(), quiet)
    count = len(exports)
    change(run)
    assert kept_bundle(find_source(run, FEW), BundleOptions(), quiet) == folder
    assert len(exports) > count
    fresh = run.parent / "fresh"
    make_bundle(find_source(run, FEW), BundleOptions(), fresh, quiet)
    assert tree(folder) == tree(fresh)


def test_kept_bundle_is_made_anew_for_other_options_and_images(
    world: Path, run: Path, tmp_path: Path, exports: list[str]
) -> None:
    shutil.copytree(world / "photos", tmp_path / "photos")
    plain = BundleOptions(images=tmp_path / "photos")
    counts = []
    for options in (plain, replace(plain, weights="int8"), replace(plain, examples=("photo 1",))):
        kept_bundle(find_source(run, FEW), options, quiet)
        counts.append(len(exports))
    write_image(tmp_path / "photos" / "photo 1.png", picture(9, 32))
    kept_bundle(find_source(run, FEW), replace(plain, examples=("photo 1",)), quiet)
    counts.append(len(exports))
    kept_bundle(find_source(run, ["8_12_8"]), replace(plain, examples=("photo 1",)), quiet)
    counts.append(len(exports))
    assert counts == sorted(set(counts))


def test_kept_bundle_that_somebody_changed_is_not_replaced(run: Path, exports: list[str]) -> None:
    folder = kept_bundle(find_source(run, FEW), BundleOptions(), quiet)
    next((folder / "models").iterdir()).write_bytes(b"mine")
    before = tree(folder)
    with pytest.raises(ConfigError, match="has been changed since it was written"):
        kept_bundle(find_source(run, FEW), BundleOptions(), quiet)
    assert tree(folder) == before


def test_folder_demo_of_somebody_else_is_refused_before_anything_is_exported(
    run: Path, exports: list[str]
) -> None:
    (run / "demo").mkdir()
    (run / "demo" / "notes.txt").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="was not written by this command"):
        kept_bundle(find_source(run, FEW), BundleOptions(), quiet)
    assert tree(run / "demo") == {"notes.txt": b"mine"}
    assert exports == []


# -- real files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weights",
    ["float32", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("float16", "int8"))],
)
def test_files_of_a_bundle_compute_what_the_networks_do(
    world: Path, tmp_path: Path, weights: str
) -> None:
    source = find_source(world / "search", ["4_6_4"])
    made = make_bundle(source, BundleOptions(weights=weights), tmp_path, quiet)
    x = to_float(torch.from_numpy(drawing(9, 32)).permute(2, 0, 1)[None])
    for model, offer in zip(made.models, source.offers, strict=True):
        found = OnnxGenerator(tmp_path / model.file, threads=1)(x)
        with torch.no_grad():
            difference = float((found - offer.load().module(x)).abs().max())
        assert difference < (1e-4 if weights == "float32" else 0.2)
        assert model.max_difference < (1e-4 if weights == "float32" else 0.2)


@pytest.mark.slow
def test_narrow_weights_make_smaller_files(call: Call, tmp_path: Path) -> None:
    sizes = []
    for weights in ("float32", "float16", "int8"):
        folder = tmp_path / weights
        flags = ("--subnet", "8_12_8", "--weights", weights, "--bundle", folder)
        assert call("supernet", *flags).code == 0
        sizes.append([model.bytes for model in read_manifest(folder).models])
    for wide, half, byte in zip(*sizes, strict=True):
        assert wide > half > byte


# -- command ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Call = Callable[..., Ended]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, world: Path) -> Call:
    monkeypatch.setattr(sys, "path", [*sys.path])  # the program adds the working folder
    monkeypatch.chdir(world)

    def run(*arguments: str | Path) -> Ended:
        capsys.readouterr()
        is_bundle = bool(arguments) and (Path(arguments[0]) / NAME).is_file()
        try:
            code = main(["demo", *map(str, arguments), *([] if is_bundle else ["--module", TINY])])
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> list[DemoServer]:
    """Servers that were started; each is interrupted at once."""
    servers: list[DemoServer] = []

    def stop(self: DemoServer, poll_interval: float = 0.5) -> None:
        servers.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(DemoServer, "serve_forever", stop)
    return servers


def facts(made: Manifest) -> dict[str, Any]:
    return made.model_dump(mode="json", include={"title", "input", "size", "models"})


def test_dry_run_names_the_models_and_writes_nothing(
    call: Call, world: Path, exports: list[str], listening: list[DemoServer]
) -> None:
    before = tree(world)
    names = names_of(world / "search")
    ended = call("search", "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"would export {', '.join(names)} of search, and show them\n"
    ended = call("search", "--dry-run", "--json")
    assert json.loads(ended.out) == {
        "run": "search",
        "models": [{"name": name} for name in names],
    }
    assert exports == listening == []
    assert tree(world) == before


def test_dry_run_of_a_bundle_describes_it(call: Call, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    ended = call(bundle, "--dry-run")
    macs = [format_count(model.macs) for model in manifest().models]
    assert (
        ended.out == f"would show {bundle}: shoes, 2 models of {' to '.join(macs)} MACs, 0.0 MB\n"
    )
    ended = call(bundle, "--dry-run", "--json")
    assert json.loads(ended.out) == {"bundle": str(bundle), **facts(manifest())}


@pytest.mark.usefixtures("exports")
def test_bundle_is_written_and_described(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    ended = call("search", "--bundle", folder, "--json")
    assert ended.code == 0
    assert ended.out.count("\n") == 1
    made = read_bundle(folder)[0]
    assert json.loads(ended.out) == {"bundle": str(folder), **facts(made)}
    assert ended.err.splitlines() == [f"exporting {model.name}" for model in made.models]
    ended = call("search", "--bundle", folder)
    assert re.fullmatch(rf"{folder}: data, 5 models of .* MACs, 0\.0 MB\n", ended.out)


@pytest.mark.usefixtures("exports")
def test_flags_choose_models_and_examples(call: Call, tmp_path: Path) -> None:
    ended = call(
        *("search", "--bundle", tmp_path, "--subnet", "2_4_2", "--subnet", "8_12_8"),
        *("--example", "0203", "--example", "0201", "--input", "photo", "--weights", "float16"),
    )
    assert ended.code == 0
    made = read_manifest(tmp_path)
    assert [model.name for model in made.models] == ["2_4_2", "8_12_8", "teacher"]
    assert [example.file for example in made.examples] == [
        *("examples/0-0203.png", "examples/1-0201.png")
    ]
    assert made.input == "photo"
    assert b"float16 never" in (tmp_path / "models" / "2_4_2.onnx").read_bytes()


@needs_runtime
def test_static_folder_is_the_site(call: Call, run: Path, exports: list[str]) -> None:
    static = run.parent / "static"
    ended = call(run, "--static", static, "--json")
    assert ended.code == 0
    contents = site(run / "demo")
    written = digests({**contents, ".nojekyll": b""})
    assert digests(files_of(static)) == written
    assert {"index.html", "sw.js", "vendor/ort.wasm.min.js", NAME} < contents.keys()
    assert json.loads(ended.out) == {"static": str(static), **facts(read_manifest(run / "demo"))}
    assert json.loads((static / LIST).read_bytes()).keys() == {*contents, ".nojekyll"}
    count = len(exports)
    ended = call(run / "demo", "--static", static)  # a finished bundle, into the same folder
    assert ended.code == 0
    assert ended.out.startswith(f"{static}: data, 5 models of ")
    assert digests(files_of(static)) == written
    assert len(exports) == count
    assert call(static, "--dry-run").out.startswith(f"would show {static}: data, 5 models of ")


@needs_runtime
def test_run_is_served_from_the_bundle_that_it_keeps(
    call: Call, run: Path, exports: list[str], listening: list[DemoServer]
) -> None:
    ended = call(run, "--port", "0")
    assert ended.code == 0
    assert re.fullmatch(
        r"http://127\.0\.0\.1:\d+/  \(data, 5 models .*; Ctrl-C stops\)\nstopped\n", ended.out
    )
    assert len(listening) == 1
    assert listening[0].table.keys() == {"/", *(f"/{name}" for name in site(run / "demo"))}
    count = len(exports)
    ended = call(run, "--port", "0", "--json")
    found = json.loads(ended.out)
    assert found == {
        "url": listening[1].url,
        "bundle": str(run / "demo"),
        **facts(read_manifest(run / "demo")),
    }
    assert len(exports) == count


@needs_runtime
@pytest.mark.usefixtures("exports")
def test_checkpoint_is_served_and_leaves_nothing(
    call: Call, world: Path, listening: list[DemoServer]
) -> None:
    before = tree(world)
    ended = call("teacher.safetensors", "--images", "photos", "--port", "0")
    assert ended.code == 0
    assert "/models/teacher.onnx" in listening[0].table
    assert tree(world) == before


@needs_runtime
@pytest.mark.usefixtures("listening")
def test_opening_to_other_machines_is_warned_of(call: Call, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    for host, is_warned in (("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)):
        ended = call(bundle, "--host", host, "--port", "0")
        assert ended.code == 0
        assert ("other machines reach the page over plain http" in ended.err) is is_warned


MISTAKES: dict[str, str] = {
    # what is typed in the folder of `world`: the message
    "nowhere": r"ConfigError: no model nowhere",
    "data": r"(Checkpoint|Config)Error: ",
    "data/test/0200.png": r"CheckpointError: ",
    "search --input sketch --images photos": (
        r"ConfigError: --input sketch: the inputs of search have too many colours to be drawn"
    ),
    "search --example nobody": r"ConfigError: no image 'nobody' among the 4 .*such as 0200",
    "search --images missing": r"ConfigError: no folder of --images missing",
    "search --images search": r"DataError: search holds no images",
    "search --images data/test/0200.png": r"DataError: no folder data/test/0200\.png",
    "teacher.safetensors": r"ConfigError: .* give --images FOLDER with inputs",
    "teacher.safetensors --subnet 8_12_8": r"ConfigError: .*is not a supernet, so --subnet 8_12_8",
    "search --subnet 9_9_9": r"SpaceError: ",
    "search --subnet many": r"SpaceError: ",
    "search --weights int4": r"ConfigError: unknown choice of --weights 'int4'; did you mean",
    "search --set a=b": r"ConfigError: ",
    "search --bundle data": r"ConfigError: data is not empty, and was not written by this command",
    "finished --input photo": r"ConfigError: finished is a finished bundle",
    "finished --images photos": r"ConfigError: finished is a finished bundle",
    "finished --example a": r"ConfigError: finished is a finished bundle",
    "finished --subnet 8_8": r"ConfigError: finished is a finished bundle",
    "finished --weights int8": r"ConfigError: finished is a finished bundle",
    "finished --bundle new": r"ConfigError: finished is a finished bundle",
    "finished --module a:b": r"ConfigError: finished is a finished bundle",
    "damaged": r"CheckpointError: damaged/models/8_8\.onnx is not the file that the bundle lists",
    "damaged --static new": r"CheckpointError: damaged/models/8_8\.onnx is not the file",
    "broken --dry-run": r"CheckpointError: broken/front\.json is not a manifest of this version",
    "finished --port 70000": r"ConfigError: --port must be at most 65535",
    "finished --host 192.0.2.1": r"ConfigError: cannot listen at --host 192\.0\.2\.1 --port 8000",
    "finished --static data": r"ConfigError: data is not empty, and was not written by this",
}


@pytest.fixture
def spoilt(world: Path) -> None:
    """Bundles without networks beside the runs: a whole one, and two that are damaged."""
    for name in ("finished", "damaged", "broken"):
        if not (world / name).exists():
            write_bundle(world / name)
    (world / "damaged" / "models" / "8_8.onnx").write_bytes(b"other network")
    (world / "broken" / NAME).write_bytes(b"{}")


@needs_runtime
@pytest.mark.usefixtures("spoilt", "exports", "listening")
@pytest.mark.parametrize("typed", MISTAKES)
def test_mistake_is_one_message_and_exit_code_2(call: Call, world: Path, typed: str) -> None:
    before = tree(world)
    ended = call(*typed.split())
    assert ended.code == 2
    assert ended.out == ""
    assert re.search(MISTAKES[typed], ended.err)
    assert "Traceback" not in ended.err
    assert "exporting" not in ended.err  # before the long work
    assert tree(world).keys() - before.keys() == set()


@pytest.mark.parametrize(
    "typed", ["search --bundle a --static b", "search --input video", "search --port x", ""]
)
def test_flags_that_say_nothing_are_refused(call: Call, typed: str) -> None:
    ended = call(*typed.split())
    assert ended.code == 2
    assert "usage: " in ended.err


@needs_runtime
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_server_as_a_process_answers_until_it_is_interrupted(
    tmp_path: Path, number: signal.Signals
) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    running = process("demo", bundle, "--port", "0", cwd=tmp_path)
    assert running.stdout is not None
    url = running.stdout.readline().split()[0]
    with urllib.request.urlopen(f"{url}models/8_8.onnx", timeout=10) as response:
        assert response.read() == MODELS["models/8_8.onnx"]
    running.send_signal(number)
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out, err) == (0, "stopped\n", "")
    assert tree(tmp_path).keys() == {"bundle", *(f"bundle/{name}" for name in tree(bundle))}
