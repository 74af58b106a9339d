"""Training, search and test: chosen by content and seed, written down, and kept apart."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from helpers import existing, make_paired, make_unpaired, picture, write_image

from gancompress.checkpoint.models import run_splits
from gancompress.checkpoint.run import RunFolder, read_splits, record_splits
from gancompress.cli.main import main
from gancompress.config import DataOptions
from gancompress.data import ImageSet, Splits, load_split, make_splits
from gancompress.errors import ConfigError, DataError
from runs import (
    TINY,
    TINY_SPACE,
    search,
    search_options,
    supernet_options,
    teacher_options,
    train_supernet,
    write_tiny,
)

CPU = torch.device("cpu")
SIZE = 32
Warned = pytest.LogCaptureFixture


def options(root: Path, **values: object) -> DataOptions:
    mode = "paired" if (root / "train").is_dir() else "unpaired"
    given = {"root": root, "mode": mode, "load_size": SIZE, "crop_size": SIZE, **values}
    return DataOptions.model_validate(given)


def texts(root: Path, contents: list[str], folder: str = "train") -> Path:
    """Files that are no images; lists need their contents alone."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    for index, content in enumerate(contents):
        (root / folder / f"{index:03d}.jpg").write_text(content)
    return root


def sha256(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def digests(splits: Splits, split: str, side: str = "AB") -> set[str]:
    return {image.digest for image in splits.images(split, side)}


def names(splits: Splits, split: str, side: str = "AB") -> list[str]:
    return [image.name for image in splits.images(split, side)]


# -- which images are held out --------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 7])
def test_images_of_the_lowest_seeded_hashes_are_held_out(tmp_path: Path, seed: int) -> None:
    contents = [f"image {index}" for index in range(40)]
    splits = make_splits(options(texts(tmp_path, contents), search_fraction=0.2, split_seed=seed))
    ranks = sorted(contents, key=lambda c: sha256(f"{seed}:{sha256(c)}"))
    assert digests(splits, "search") == {sha256(content) for content in ranks[:8]}
    assert digests(splits, "train") == {sha256(content) for content in ranks[8:]}
    for split in ("train", "search"):
        assert names(splits, split) == sorted(names(splits, split))


def test_names_and_order_of_files_do_not_matter(tmp_path: Path) -> None:
    contents = [f"image {index}" for index in range(30)]
    one = make_splits(options(texts(tmp_path / "one", contents)))
    other = make_splits(options(texts(tmp_path / "two", contents[::-1])))
    for split in ("train", "search"):
        assert digests(one, split) == digests(other, split)
        assert one.list_hash(split) == other.list_hash(split)
    assert names(one, "search") != names(other, "search")


def test_seeds_choose_differently(tmp_path: Path) -> None:
    root = texts(tmp_path, [f"image {index}" for index in range(40)])
    chosen = {
        frozenset(digests(make_splits(options(root, split_seed=s)), "search")) for s in range(5)
    }
    assert len(chosen) == 5


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5, 0.8])
def test_images_of_the_same_bytes_stay_together(tmp_path: Path, fraction: float) -> None:
    root = texts(tmp_path, [f"image {index // 3}" for index in range(60)])
    for seed in range(8):
        splits = make_splits(options(root, search_fraction=fraction, split_seed=seed))
        assert not digests(splits, "train") & digests(splits, "search")
        count = len(splits.images("search", "AB"))
        assert 60 * fraction <= count < 60 * fraction + 3
        assert count + len(splits.images("train", "AB")) == 60


def test_nothing_is_left_to_train_on_where_all_images_are_alike(tmp_path: Path) -> None:
    root = texts(tmp_path, ["the same"] * 10)
    with pytest.raises(DataError, match="10 images cannot be split into training and 10%"):
        make_splits(options(root))


def test_duplicates_of_real_photos_stay_together(shared: Path) -> None:
    root = existing(shared / "data" / "horse2zebra")
    for seed in range(3):
        splits = make_splits(options(root, split_seed=seed, search_fraction=0.5))
        assert splits.counts("test") == {"A": 120, "B": 140}
        for side, total, distinct in (("A", 1067, 1059), ("B", 1334, 1318)):
            train, held_out = digests(splits, "train", side), digests(splits, "search", side)
            assert not train & held_out
            assert len(train | held_out) == distinct
            assert sum(splits.counts(split)[side] for split in ("train", "search")) == total


# -- the test split is never seen -----------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("own_search", [True, False])
@pytest.mark.parametrize("make", [make_paired, make_unpaired])
def test_splits_share_no_image(
    tmp_path: Path, make: Callable[[Path, int], Path], own_search: bool, fraction: float
) -> None:
    root = make(tmp_path, 16)
    sides = ("A", "B") if (root / "trainA").is_dir() else ("",)
    for side in sides:
        if not own_search:
            shutil.rmtree(root / f"search{side}", ignore_errors=True)
        elif side:
            shutil.copytree(root / f"train{side}", root / f"search{side}")
            for path in sorted((root / f"search{side}").iterdir())[3:]:
                path.unlink()
        for path in sorted((root / f"test{side}").iterdir())[:2]:
            for folder in ("train", "search"):
                if (root / f"{folder}{side}").is_dir():
                    shutil.copy(path, root / f"{folder}{side}" / f"leak{path.name}")
    splits = make_splits(options(root, search_fraction=fraction))
    for side in sides:
        train, held_out, test = (
            digests(splits, split, side or "AB") for split in ("train", "search", "test")
        )
        assert train
        assert held_out
        assert len(test) == 8
        assert not train & test
        assert not held_out & test
        assert not train & held_out


def test_image_that_the_test_folder_holds_too_is_left_out_with_one_warning(
    paired: Path, caplog: Warned
) -> None:
    for folder in ("train", "search"):
        for index in (2000, 2001):
            shutil.copy(paired / "test" / f"{index}.png", paired / folder / f"x{index}.png")
    splits = make_splits(options(paired))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "4 images are left out, as the test split holds the same" in caplog.text
    assert splits.counts("train") == {"AB": 8}
    assert splits.counts("search") == {"AB": 4}
    assert splits.counts("test") == {"AB": 4}


def test_image_of_both_folders_is_the_searchs(paired: Path, caplog: Warned) -> None:
    shutil.copy(paired / "search" / "1000.png", paired / "train" / "x.png")
    splits = make_splits(options(paired))
    assert "1 images are left out, as the search split holds the same" in caplog.text
    assert "train/x.png" not in names(splits, "train")
    assert len(splits.images("search", "AB")) == 4


def test_training_on_the_test_images_is_refused(paired: Path) -> None:
    shutil.rmtree(paired / "test")
    shutil.copytree(paired / "train", paired / "test")
    with pytest.raises(DataError, match="none of its images is left for train"):
        load_split(options(paired), "train", SIZE)
    assert len(load_split(options(paired), "test", SIZE)) == 8


def test_test_images_alone_are_enough_to_test(paired: Path) -> None:
    for folder in ("train", "search"):
        shutil.rmtree(paired / folder)
    data = DataOptions(root=paired, crop_size=SIZE)
    assert len(load_split(data, "test", SIZE)) == 4
    assert make_splits(data, ["test"]).describe("test").startswith("test: 4 pairs of test, list ")


# -- lists given by the user ----------------------------------------------------------------


def write_list(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_lists_of_bare_names_in_any_order_are_read(tmp_path: Path, caplog: Warned) -> None:
    root = make_unpaired(tmp_path / "data", 6)
    lists = {
        f"{split}_meta": {
            side: write_list(tmp_path / f"{split}{side}.meta", *(f"{i:04d}.png" for i in indices))
            for side in ("A", "B")
        }
        for split, indices in (("train", (3, 0, 5)), ("search", (4, 1)))
    }
    splits = make_splits(options(root, **lists))
    for side in ("A", "B"):
        assert names(splits, "train", side) == [f"train{side}/{i:04d}.png" for i in (3, 0, 5)]
        assert names(splits, "search", side) == [f"train{side}/{i:04d}.png" for i in (4, 1)]
        assert len(splits.images("test", side)) == 3
    assert not splits.held_out_sides()
    assert not caplog.records
    split = load_split(options(root, **lists), "search", SIZE, splits)
    assert split.names == ["0004", "0001"]


def test_list_of_paths_with_further_columns_is_read(paired: Path) -> None:
    lines = ("train/0001.png a b", "", "./train/0000.png\tx", "a name.png")
    write_image(paired / "train" / "a name.png", picture(50, SIZE))
    meta = write_list(paired.parent / "list.meta", *lines)
    splits = make_splits(options(paired, train_meta=str(meta)))
    assert names(splits, "train") == ["train/0001.png", "train/0000.png", "train/a name.png"]
    assert splits.sources["train"] == {"AB": str(meta)}


@pytest.mark.parametrize("split", ["search", "test"])
def test_listed_images_of_the_training_folder_are_not_trained_on(
    paired: Path, split: str, caplog: Warned
) -> None:
    shutil.rmtree(paired / split)
    meta = write_list(paired.parent / "list.meta", "train/0002.png", "train/0005.png")
    splits = make_splits(options(paired, **{f"{split}_meta": meta}))
    assert names(splits, split) == ["train/0002.png", "train/0005.png"]
    assert names(splits, "train") == [f"train/{i:04d}.png" for i in (0, 1, 3, 4, 6, 7)]
    assert not caplog.records


def test_search_images_are_held_out_of_a_training_list(paired: Path) -> None:
    shutil.rmtree(paired / "search")
    meta = write_list(paired.parent / "list.meta", *(f"{i:04d}.png" for i in range(6)))
    splits = make_splits(options(paired, train_meta=meta, search_fraction=0.5))
    assert splits.counts("train") == splits.counts("search") == {"AB": 3}
    listed = {f"train/{i:04d}.png" for i in range(6)}
    assert {*names(splits, "train"), *names(splits, "search")} == listed
    assert splits.held_out_sides() == ["AB"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["0000.png", "nowhere.png"], r"train\.meta:2: no image 'nowhere\.png' in .* train/"),
        (["../paired/train/0000.png"], r"train\.meta:1: no image '\.\./paired"),
        (["0000.png", "0001.png", "train/0000.png"], r"train\.meta:3: .*0000\.png is in line 1"),
        (["", "  "], r"train\.meta: the list is empty; data\.train_meta names one image a line"),
    ],
)
def test_mistake_in_a_list_names_file_and_line(
    paired: Path, lines: list[str], message: str
) -> None:
    meta = write_list(paired.parent / "train.meta", *lines)
    with pytest.raises(DataError, match=message):
        make_splits(options(paired, train_meta=meta))


def test_lists_that_overlap_are_refused(paired: Path) -> None:
    train = write_list(paired.parent / "train.meta", "0000.png", "0001.png")
    for split in ("search", "test"):
        other = write_list(paired.parent / "other.meta", "train/0003.png", "", "train/0001.png")
        with pytest.raises(DataError, match=r"other\.meta:3: .*0001.png is also in .*train.meta:2"):
            make_splits(options(paired, train_meta=train, **{f"{split}_meta": other}))


def test_list_that_is_not_there_is_named(paired: Path) -> None:
    with pytest.raises(DataError, match=r"data\.search_meta: .*nowhere\.meta cannot be read"):
        make_splits(options(paired, search_meta=paired / "nowhere.meta"))


def test_lists_for_other_sides_than_the_datas_are_refused(paired: Path, unpaired: Path) -> None:
    meta = write_list(paired.parent / "list.meta", "0000.png")
    with pytest.raises(ConfigError, match=r"side A; paired data takes data\.train_meta=FILE"):
        make_splits(options(paired, train_meta={"A": meta}))
    with pytest.raises(ConfigError, match=r"unpaired data takes .*\{A: FILE, B: FILE\}"):
        make_splits(options(unpaired, train_meta=meta))


# -- pairs in two folders -------------------------------------------------------------------


def pair_texts(root: Path, pairs: dict[str, tuple[str, str]], split: str = "train") -> Path:
    """Files that are no images, in {split}A/ and {split}B/."""
    for name, contents in pairs.items():
        for side, content in zip("AB", contents, strict=True):
            (root / f"{split}{side}").mkdir(parents=True, exist_ok=True)
            (root / f"{split}{side}" / f"{name}.png").write_text(content)
    return root


def by_name(root: Path, **values: object) -> DataOptions:
    return options(root, mode="paired", **values)


def stems(splits: Splits, split: str) -> list[str]:
    """Names of the pairs of a split, which both sides have in one order."""
    a, b = ([Path(name).stem for name in names(splits, split, side)] for side in "AB")
    assert a == b
    return a


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_pairs_of_the_lowest_seeded_input_hashes_are_held_out(
    tmp_path: Path, direction: str
) -> None:
    pairs = {f"{index:02d}": (f"a {index}", f"b {index}") for index in range(40)}
    root = pair_texts(tmp_path, pairs)
    splits = make_splits(by_name(root, search_fraction=0.2, split_seed=5, direction=direction))
    side = "AB".index(direction[0])
    ranks = sorted(pairs, key=lambda name: sha256(f"5:{sha256(pairs[name][side])}"))
    assert stems(splits, "search") == sorted(ranks[:8])
    assert stems(splits, "train") == sorted(ranks[8:])
    for name, image in zip(stems(splits, "search"), splits.images("search", "B"), strict=True):
        assert image == (f"trainB/{name}.png", sha256(pairs[name][1]))
    mark = splits.list_hash("search")[:6]
    assert splits.describe("search") == (
        f"search: 8 pairs of trainA and trainB, seed 5, list {mark}"
    )


def test_pairs_of_the_same_input_stay_together(tmp_path: Path) -> None:
    pairs = {f"{index:02d}": (f"a {index // 3}", f"b {index}") for index in range(30)}
    for seed in range(5):
        splits = make_splits(by_name(pair_texts(tmp_path, pairs), split_seed=seed))
        assert stems(splits, "search")
        train, search = ({int(n) // 3 for n in stems(splits, s)} for s in ("train", "search"))
        assert not train & search
        assert sorted(stems(splits, "train") + stems(splits, "search")) == sorted(pairs)


def test_pair_whose_input_the_test_split_holds_is_left_out_whole(
    tmp_path: Path, caplog: Warned
) -> None:
    pair_texts(tmp_path, {"t": ("seen", "truth"), "u": ("a", "blank")}, "test")
    pair_texts(tmp_path, {"leak": ("seen", "x"), "same_target": ("b", "blank"), "own": ("c", "d")})
    pair_texts(tmp_path, {"leak2": ("a", "y"), "searched": ("c", "z")}, "search")
    splits = make_splits(by_name(tmp_path))
    assert stems(splits, "test") == ["t", "u"]
    assert stems(splits, "search") == ["searched"]
    assert stems(splits, "train") == ["same_target"]
    assert "2 images are left out, as the test split holds the same" in caplog.text
    assert "1 images are left out, as the search split holds the same" in caplog.text
    back = make_splits(by_name(tmp_path, direction="BtoA"))
    assert stems(back, "train") == ["leak", "own"]
    assert stems(back, "search") == ["leak2", "searched"]


def test_the_first_pairs_are_kept_whole_where_their_number_is_limited(two_folders: Path) -> None:
    splits = make_splits(by_name(two_folders, max_images=3))
    assert stems(splits, "train") == ["0000", "0001", "0002"]
    assert splits.counts("search") == {"A": 3, "B": 3}
    assert splits.describe("train").startswith("train: 3 pairs of trainA and trainB, list ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["-trainB/0002.png"], r"1 of 8 files in trainA/ have no partner in trainB/ \(0002.png\)"),
        (
            [f"-trainA/000{i}.png" for i in range(5)],
            r"5 of 8 files in trainB/ .* in trainA/ \(0000\.png, 0001\.png, 0002\.png, \.\.\.\)",
        ),
        (
            ["-testB/2000.png", "-testA/2003.png"],
            r": 1 of 3 .* testA/ .* testB/ \(2000.png\); 1 of 3 .* testB/ .* testA/ \(2003.png\)\n",
        ),
        (["-searchB"], r"4 of 4 files in searchA/ have no partner in searchB/"),
        (["+trainA/0001.jpg"], r"2 of 9 files in trainA/ share their name \(0001.jpg, 0001.png\)"),
    ],
)  # fmt: skip
def test_files_without_one_partner_are_counted_and_named(
    two_folders: Path, changes: list[str], message: str
) -> None:
    for change in changes:
        path = two_folders / change[1:]
        if change.startswith("+"):
            shutil.copy(path.with_suffix(".png"), path)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    with pytest.raises(DataError, match=message):
        make_splits(by_name(two_folders))


def test_a_folder_of_two_layouts_is_refused_unless_one_is_complete(
    paired: Path, two_folders: Path
) -> None:
    assert "AB" in make_splits(by_name(paired)).counts("train")
    shutil.copytree(two_folders / "trainA", paired / "trainA")
    (paired / "trainB").mkdir()
    assert make_splits(by_name(paired)).counts("train") == {"AB": 8}
    recorded = make_splits(by_name(paired))
    shutil.copytree(two_folders / "trainB", paired / "trainB", dirs_exist_ok=True)
    with pytest.raises(DataError, match=r"paired data in two layouts: train/ and trainA/ trainB/"):
        make_splits(by_name(paired))
    assert len(load_split(by_name(paired), "train", SIZE, recorded)) == 8
    for folder in ("train", "test", "search"):
        shutil.rmtree(paired / folder)
        (paired / folder).mkdir()
    assert make_splits(by_name(paired, search_fraction=0)).counts("train") == {"A": 8, "B": 8}
    shutil.copytree(two_folders / "testA", paired / "A" / "test")
    shutil.copytree(two_folders / "testB", paired / "B" / "test")
    with pytest.raises(DataError, match=r"layouts: trainA/ trainB/ and A/test/ B/test/"):
        make_splits(by_name(paired))


def test_one_list_names_the_pairs_of_two_folders(two_folders: Path, caplog: Warned) -> None:
    shutil.rmtree(two_folders / "searchA")
    shutil.rmtree(two_folders / "searchB")
    (two_folders / "trainB" / "0006.png").rename(two_folders / "trainB" / "0006.jpg")
    write_image(two_folders / "trainA" / "alone.png", picture(50, SIZE))
    for side in "AB":
        write_image(two_folders / f"train{side}" / "a name.v2.png", picture(51, SIZE))
    lines = ("0003.png", "", "0001", "./trainA/0000.png x y", "trainB/0006.jpg", "a name.v2.png")
    train = write_list(two_folders.parent / "train.txt", *lines)
    search = write_list(two_folders.parent / "search.txt", "0005", "trainB/0002.png")
    splits = make_splits(by_name(two_folders, train_meta=train, search_meta=search))
    assert stems(splits, "train") == ["0003", "0001", "0000", "0006", "a name.v2"]
    assert names(splits, "train", "B")[3] == "trainB/0006.jpg"
    assert stems(splits, "search") == ["0005", "0002"]
    assert stems(splits, "test") == ["2000", "2001", "2002", "2003"]
    assert splits.sources["train"] == {"A": str(train), "B": str(train)}
    assert not splits.held_out_sides()
    assert not caplog.records


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["0000", "nowhere"], r"list\.txt:2: no pair 'nowhere' in trainA/, trainB/ of "),
        (["../two_folders/trainA/0000.png"], r"list\.txt:1: no pair"),
        (["0000", "0001", "trainB/0000.png"], r"list\.txt:3: 0000 is in line 1 already"),
        (["0000", "0004"], r"list\.txt: 1 of 2 files in trainA/ have no partner in trainB/ \(0004"),
        (["", " "], r"list\.txt: the list is empty"),
    ],
)
def test_mistake_in_a_list_of_pairs_is_named(
    two_folders: Path, lines: list[str], message: str
) -> None:
    (two_folders / "trainB" / "0004.png").unlink()
    meta = write_list(two_folders.parent / "list.txt", *lines)
    with pytest.raises(DataError, match=message):
        make_splits(by_name(two_folders, train_meta=meta))


def test_lists_of_pairs_that_overlap_are_refused(two_folders: Path) -> None:
    train = write_list(two_folders.parent / "train.txt", "0000", "0001")
    search = write_list(two_folders.parent / "search.txt", "trainB/0001.png")
    with pytest.raises(DataError, match=r"search\.txt:1: .*0001\.png is also in .*train\.txt:2"):
        make_splits(by_name(two_folders, train_meta=train, search_meta=search))
    with pytest.raises(ConfigError, match=r"side A; paired data takes data\.train_meta=FILE"):
        make_splits(by_name(two_folders, train_meta={"A": train, "B": train}))


def test_the_embedded_drawings_have_their_splits() -> None:
    splits = make_splits(by_name(Path(__file__).parents[1] / "datasets" / "draw2emoji"))
    for split, number in (("train", 1511), ("search", 180), ("test", 180)):
        assert len(set(stems(splits, split))) == number


# -- splits.json ----------------------------------------------------------------------------


def test_lists_of_side_by_side_pairs_are_read_as_they_were_always_written(paired: Path) -> None:
    digest = {
        f"train/{i:04d}.png": hashlib.sha256(
            (paired / "train" / f"{i:04d}.png").read_bytes()
        ).hexdigest()
        for i in (3, 1)
    }
    rule = {"mode": "paired", "search_fraction": 0.1, "split_seed": 0, "train_meta": None,
            "search_meta": None, "test_meta": None, "max_images": None}  # fmt: skip
    content = {
        "format": 1, "root": paired.as_posix(), "rule": rule, "sources": {"train": {"AB": "train"}},
        "lists": {"train": {"AB": digest}, "search": {"AB": {}}, "test": {"AB": {}}},
    }  # fmt: skip
    splits = Splits.from_json(json.dumps(content), "splits.json")
    assert splits.fits(options(paired))
    lines = sorted(f"AB {value}" for value in digest.values())
    assert splits.list_hash("train") == sha256("\n".join(lines))
    assert load_split(options(paired), "train", SIZE, splits).names == ["0003", "0001"]
    assert json.loads(splits.to_json()) == content


def test_lists_of_two_folders_hold_both_files_of_a_pair(two_folders: Path) -> None:
    splits = make_splits(by_name(two_folders))
    text = splits.to_json()
    assert Splits.from_json(text, "x") == splits
    assert set(json.loads(text)["lists"]["test"]["B"]) == {
        f"testB/{i}.png" for i in range(2000, 2004)
    }
    content = json.loads(text)
    del content["lists"]["train"]["B"]["trainB/0003.png"]
    with pytest.raises(DataError, match=r"splits\.json: .*sides of the pairs of train differ"):
        Splits.from_json(json.dumps(content), "splits.json")
    shutil.copy(two_folders / "trainB" / "0002.png", two_folders / "trainB" / "0004.png")
    split = load_split(by_name(two_folders), "train", SIZE, splits)
    assert split.targets is not None
    with pytest.raises(DataError, match=r"trainB/0004\.png: its content is not the one"):
        split.targets.preload()


def test_lists_come_back_from_text(unpaired: Path) -> None:
    splits = make_splits(options(unpaired, max_images=5))
    assert splits.counts("train") == {"A": 5, "B": 5}
    assert Splits.from_json(splits.to_json(), "x") == splits


@pytest.mark.parametrize("name", ["/etc/passwd.png", "../x.png", "train/../../x.png"])
def test_lists_never_leave_the_data_folder(paired: Path, name: str) -> None:
    text = make_splits(options(paired)).to_json().replace("train/0003.png", name)
    with pytest.raises(DataError, match=r"splits\.json: no readable lists .*outside"):
        Splits.from_json(text, "splits.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "lists": 3}'])
def test_damaged_lists_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "splits.json").write_text(text)
    with pytest.raises(DataError, match=r"splits\.json: no readable lists of images"):
        read_splits(tmp_path)


def test_description_tells_number_origin_seed_and_list(paired: Path, unpaired: Path) -> None:
    splits = make_splits(options(unpaired, split_seed=4, search_fraction=0.25))
    mark = splits.list_hash("search")[:6]
    assert splits.describe("search") == (
        f"search: 2 A and 2 B images of trainA and trainB, seed 4, list {mark}"
    )
    own = make_splits(options(paired, split_seed=4))
    assert (
        own.describe("search") == f"search: 4 pairs of search, list {own.list_hash('search')[:6]}"
    )
    assert len({own.list_hash(split) for split in ("train", "search", "test")}) == 3


@pytest.mark.parametrize("split", ["train", "search", "test"])
def test_changed_file_is_named_when_it_is_read(paired: Path, split: str) -> None:
    splits = make_splits(options(paired))
    victim = splits.files(split, "AB")[2]
    other = splits.files(split, "AB")[1]
    content = other.read_bytes()
    victim.write_bytes(content)
    images = load_split(options(paired), split, SIZE, splits).inputs
    assert images[1].shape == (3, SIZE, SIZE)
    with pytest.raises(DataError, match=rf"{victim.name}: its content is not the one in the run"):
        images[2]
    with pytest.raises(DataError, match=victim.name):
        images.preload()


def test_missing_file_is_named_before_anything_is_read(
    paired: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = make_splits(options(paired))
    (paired / "train" / "0004.png").unlink()
    monkeypatch.setattr(ImageSet, "_decode", None)
    with pytest.raises(DataError, match=r"0004\.png: .*list of images names it.* not there"):
        load_split(options(paired), "train", SIZE, splits)
    (paired / "train" / "0005.png").unlink()
    with pytest.raises(DataError, match=r"0004\.png \(and 1 more\)"):
        load_split(options(paired), "train", SIZE, splits)


def test_images_added_later_are_not_in_the_lists(paired: Path) -> None:
    splits = make_splits(options(paired))
    write_image(paired / "train" / "new.png", picture(70, SIZE))
    assert len(load_split(options(paired), "train", SIZE, splits)) == 8


# -- run folders ----------------------------------------------------------------------------


def test_stages_hand_the_lists_on_and_never_read_a_test_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_unpaired(tmp_path / "data", 8)
    teacher = RunFolder(tmp_path / "teacher")
    write_tiny(teacher.weights)
    recorded = record_splits(teacher, supernet_options(root, tmp_path, None).data)
    write_image(root / "trainA" / "later.png", picture(80, SIZE))
    read: list[Path] = []
    content = ImageSet._content

    def note(self: ImageSet, index: int) -> Path | bytes:
        read.append(self.files[index])
        return content(self, index)

    monkeypatch.setattr(ImageSet, "_content", note)
    sets = ("loss.lambda_gan=0", *TINY_SPACE)
    train_supernet(supernet_options(root, tmp_path / "supernet", teacher.path, *sets), CPU)
    lists = {split: set(recorded.files(split, "A")) for split in ("train", "search", "test")}
    assert set(read) & lists["train"]
    assert set(read) - lists["train"] - set(recorded.files("train", "B")) <= (
        lists["search"] | set(recorded.files("search", "B"))
    )
    read.clear()
    search(search_options(tmp_path / "search", tmp_path / "supernet"), CPU)
    assert set(read) == lists["search"]
    assert read_splits(tmp_path / "supernet") == recorded
    assert read_splits(tmp_path / "search") == recorded
    assert run_splits(tmp_path / "search", supernet_options(root, tmp_path, None).data) == recorded


def test_other_data_options_than_the_teachers_give_lists_of_their_own(paired: Path) -> None:
    shutil.rmtree(paired / "search")
    teacher, run = RunFolder(paired.parent / "teacher"), RunFolder(paired.parent / "run")
    first = record_splits(teacher, options(paired, search_fraction=0.5))
    same = options(paired, search_fraction=0.5, load_size=99, direction="BtoA")
    assert record_splits(run, same, teacher.path) == first
    other = record_splits(run, options(paired, search_fraction=0.5, split_seed=1), teacher.path)
    assert other.list_hash("search") != first.list_hash("search")
    assert read_splits(run.path) == other


def test_run_goes_on_with_its_own_lists_and_a_fresh_one_takes_the_data_as_it_is(
    paired: Path,
) -> None:
    run = RunFolder(paired.parent / "run")
    before = record_splits(run, options(paired))
    write_image(paired / "train" / "new.png", picture(70, SIZE))
    assert record_splits(run, options(paired)).counts("train") == {"AB": 9}
    record_splits(run, options(paired))
    run.splits.write_text(before.to_json())
    run.state.touch()
    assert record_splits(run, options(paired)) == before


def test_moved_data_folder_keeps_its_lists(paired: Path) -> None:
    run = RunFolder(paired.parent / "run")
    splits = record_splits(run, options(paired))
    moved = paired.rename(paired.parent / "moved")
    found = run_splits(run.path, options(moved))
    assert found.lists == splits.lists
    assert len(load_split(options(moved), "train", SIZE, found)) == 8


def test_folder_without_lists_gets_them_anew_with_a_warning_where_they_may_differ(
    paired: Path, unpaired: Path, tmp_path: Path, caplog: Warned
) -> None:
    assert read_splits(tmp_path) is None
    assert read_splits(tmp_path / "weights.safetensors") is None
    assert run_splits(tmp_path, options(paired)) == make_splits(options(paired))
    assert not caplog.records
    assert run_splits(tmp_path, options(unpaired)) == make_splits(options(unpaired))
    assert "has no splits.json" in caplog.text


def test_config_from_before_an_option_existed_says_its_default(paired: Path) -> None:
    chosen = teacher_options(paired, paired.parent / "run")
    run = RunFolder(paired.parent / "run")
    old = chosen.model_dump(mode="json")
    for key in ("split_seed", "train_meta", "search_meta", "test_meta"):
        del old["data"][key]
    run.path.mkdir()
    run.config.write_text(yaml.safe_dump(old))
    assert run.changes(chosen) == []
    other = teacher_options(paired, run.path, "data.split_seed=1")
    assert [str(change) for change in run.changes(other)] == ["data.split_seed: 0 -> 1"]


def test_dry_run_tells_the_splits(
    paired: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = write_tiny(tmp_path / "teacher.safetensors")
    chosen = supernet_options(paired, tmp_path / "run", teacher, *TINY_SPACE)
    file = tmp_path / "supernet.yaml"
    file.write_text(yaml.safe_dump(chosen.model_dump(mode="json")))
    assert main(["supernet", str(file), "--dry-run", "--json", "--module", TINY]) == 0
    splits = make_splits(chosen.data)
    facts = json.loads(capsys.readouterr().out)
    assert facts["splits"] == [splits.describe(split) for split in ("train", "search", "test")]
    assert not (tmp_path / "run").exists()
    shutil.rmtree(paired)
    assert main(["supernet", str(file), "--dry-run", "--module", TINY]) == 0
    assert f"no splits: no data folder {paired}" in capsys.readouterr().out
