"""What holds for every kind of data set, that of the tests included."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import counterpart, make_paired, make_unpaired, picture, write_image
from toy_data import make_numbered

from gancompress.config import DataOptions, build
from gancompress.data import DATA_KINDS, Splits, load_split, make_splits
from gancompress.data.splits import SPLITS
from gancompress.errors import ConfigError, DataError
from gancompress.evaluation.data import choose_data
from gancompress.training.stages import train_teacher
from runs import teacher_options


def make_inputs(root: Path, count: int) -> Path:
    for index in range(count):
        write_image(root / f"{index:04d}.png", picture(index, 32))
    return root


MAKERS: dict[str, Callable[..., Path]] = {
    "paired": make_paired,
    "unpaired": make_unpaired,
    "numbered": make_numbered,
    "inputs": make_inputs,
}
every_kind = pytest.mark.parametrize("kind", DATA_KINDS)
two_sided = pytest.mark.parametrize("kind", [kind for kind in DATA_KINDS if kind != "inputs"])


def options_of(kind: str, folder: Path, **values: object) -> DataOptions:
    root = MAKERS[kind](folder / kind, 8)
    return build(DataOptions, {"root": root, "mode": kind, "search_fraction": 0.25, **values}, "")


@every_kind
def test_every_image_is_in_one_split(kind: str, tmp_path: Path) -> None:
    splits = make_splits(options_of(kind, tmp_path))
    for side in splits.lists["train"]:
        found = [set(splits.images(split, side)) for split in SPLITS]
        assert all(found[:2]) == bool(splits.images("train", side))
        assert not any(one & other for one, other in combinations(found, 2))


@every_kind
def test_lists_are_written_and_read(kind: str, tmp_path: Path) -> None:
    options = options_of(kind, tmp_path)
    splits = make_splits(options)
    assert Splits.from_json(splits.to_json(), "splits.json") == splits
    assert splits.fits(options)
    assert all(splits.describe(split).startswith(f"{split}: ") for split in SPLITS)


def test_inputs_alone_have_no_test_split_and_no_targets(tmp_path: Path) -> None:
    options = options_of("inputs", tmp_path)
    splits = make_splits(options)
    assert [splits.counts(split) for split in SPLITS] == [{"A": 6}, {"A": 2}, {}]
    found = load_split(options, "train", 32, splits)
    assert (len(found.inputs), found.targets) == (6, None)
    assert choose_data(options.root, "train", tmp_path / "model").options.mode == "inputs"


def test_inputs_alone_are_inputs_in_either_direction(tmp_path: Path) -> None:
    options = options_of("inputs", tmp_path, direction="BtoA")
    found = load_split(options, "search", 32)
    assert (len(found.inputs), found.targets) == (2, None)
    with pytest.raises(DataError, match="none of its images is left for test"):
        load_split(options, "test", 32)


@two_sided
@pytest.mark.parametrize("split", SPLITS)
def test_images_of_both_sides_load_and_pairs_belong_together(
    kind: str, split: str, tmp_path: Path
) -> None:
    options = options_of(kind, tmp_path)
    forth = load_split(options, split, 32)
    back = load_split(options.model_copy(update={"direction": "BtoA"}), split, 32)
    assert forth.paired == back.paired == DATA_KINDS[kind].is_paired
    assert forth.targets is not None
    assert torch.equal(back.inputs[1], forth.targets[1])
    if forth.paired:
        pixels = forth.inputs[1].permute(1, 2, 0).numpy()
        wanted = torch.from_numpy(np.ascontiguousarray(counterpart(pixels))).permute(2, 0, 1)
        assert torch.equal(forth.targets[1], wanted)


@every_kind
def test_what_is_missing_is_named(kind: str, tmp_path: Path) -> None:
    options = options_of(kind, tmp_path)
    empty = options.model_copy(update={"root": tmp_path})
    with pytest.raises(DataError, match="has no folder") as caught:
        load_split(empty, "train", 32)
    assert DATA_KINDS[kind].description in str(caught.value)
    side = next(side for side in ("A", "AB", "C") if side not in DATA_KINDS[kind].list_sides)
    strange = options.model_copy(update={"train_meta": {side: tmp_path / "list"}})
    with pytest.raises(ConfigError, match=rf"data\.train_meta has a list for side {side}; {kind}"):
        make_splits(strange)


@two_sided
def test_kind_can_be_named_for_an_evaluation(kind: str, tmp_path: Path) -> None:
    root = options_of(kind, tmp_path).root
    chosen = choose_data(root, "test", tmp_path / "model", mode=kind)
    assert chosen.options.mode == kind
    assert chosen.is_paired == DATA_KINDS[kind].is_paired
    assert chosen.set_sizes() == (4, 4)


def test_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown kind of data 'pared'; did you mean 'paired'"):
        build(DataOptions, {"root": tmp_path, "mode": "pared"}, "x.yaml")


def test_teacher_learns_from_a_kind_of_the_tests(tmp_path: Path) -> None:
    root = make_numbered(tmp_path / "data")
    quick = ("data.mode=numbered", "schedule.num_images=2", "schedule.num_images_decay=0")
    scores = train_teacher(teacher_options(root, tmp_path / "run", *quick), torch.device("cpu"))
    assert scores["mae"] > 0
