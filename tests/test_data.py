"""Folders become splits, splits become batches; both the same on every machine and every day."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import counterpart, make_paired, make_unpaired, picture, write_image
from PIL import Image
from torch import Tensor

from gancompress.config import DataOptions
from gancompress.data import Batch, BatchStream, ImageSet, Split, image_kinds, load_split, to_uint8
from gancompress.errors import DataError

SIZE = 32


def options(root: Path, **values: object) -> DataOptions:
    given = {"root": root, "load_size": SIZE, "crop_size": SIZE, "search_fraction": 0, **values}
    return DataOptions.model_validate(given)


def as_tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)


# ---------------------------------------------------------------------------- paired data


@pytest.mark.parametrize("split", ["train", "search", "test"])
def test_paired_images_are_halves_of_one_file(paired: Path, split: str) -> None:
    found = load_split(options(paired), split, SIZE)
    assert found.paired
    assert found.targets is not None
    assert len(found) == {"train": 8, "search": 4, "test": 4}[split]
    for index, name in enumerate(found.names):
        a = picture(int(name), SIZE)
        assert torch.equal(found.inputs[index], as_tensor(a))
        assert torch.equal(found.targets[index], as_tensor(counterpart(a)))


def test_direction_swaps_the_halves(paired: Path) -> None:
    forth, back = (load_split(options(paired, direction=d), "test", SIZE) for d in ("AtoB", "BtoA"))
    assert forth.names == back.names
    assert back.targets is not None
    for index in range(len(forth)):
        assert torch.equal(forth.inputs[index], back.targets[index])
        assert not torch.equal(forth.inputs[index], back.inputs[index])


FOLDERS = [("{}A", "{}B"), ("{}_A", "{}_B"), ("A/{}", "B/{}"), ("{}_label", "{}_img")]


@pytest.mark.parametrize("split", ["train", "search", "test"])
@pytest.mark.parametrize("folders", FOLDERS)
def test_pairs_are_files_of_one_name_in_two_folders(
    tmp_path: Path, folders: tuple[str, str], split: str
) -> None:
    make_paired(tmp_path, folders=folders)
    for path in sorted((tmp_path / folders[1].format(split)).iterdir())[::2]:
        write_image(path.with_suffix(".bmp"), np.asarray(Image.open(path)))
        path.unlink()
    for direction, side in (("AtoB", 0), ("BtoA", 1)):
        found = load_split(options(tmp_path, direction=direction), split, SIZE)
        assert found.paired
        assert found.targets is not None
        assert len(found) == {"train": 8, "search": 4, "test": 4}[split]
        for index, name in enumerate(found.names):
            pair = [as_tensor(picture(int(name), SIZE))]
            pair.append(as_tensor(counterpart(picture(int(name), SIZE))))
            assert torch.equal(found.inputs[index], pair[side])
            assert torch.equal(found.targets[index], pair[1 - side])


@pytest.mark.parametrize("size", [16, 32])
def test_pairs_make_the_same_batches_side_by_side_and_in_two_folders(
    paired: Path, two_folders: Path, size: int
) -> None:
    one, other = (
        stream(root, load_size=size, crop_size=size - 8).batch(3, 24)
        for root in (paired, two_folders)
    )
    assert len(fields(one)) == len(fields(other)) == 2
    assert all(torch.equal(a, b) for a, b in zip(fields(one), fields(other), strict=True))


def test_validation_folders_stand_in_for_missing_test_folders(two_folders: Path) -> None:
    for side in "AB":
        (two_folders / f"test{side}").rename(two_folders / f"val{side}")
    assert len(load_split(options(two_folders), "test", SIZE)) == 4
    (two_folders / "testA").mkdir()
    shutil.copy(two_folders / "valA" / "2001.png", two_folders / "testA")
    with pytest.raises(DataError, match="1 of 1 files in testA/ have no partner in testB/"):
        load_split(options(two_folders), "test", SIZE)


def test_validation_folder_stands_in_for_a_missing_test_folder(paired: Path) -> None:
    expected = load_split(options(paired), "test", SIZE).names
    (paired / "test").rename(paired / "val")
    assert load_split(options(paired), "test", SIZE).names == expected
    make_paired(paired.parent / "other")
    shutil.copytree(paired.parent / "other" / "train", paired / "test")
    assert len(load_split(options(paired), "test", SIZE)) == 8


@pytest.mark.parametrize("alias", ["aligned", "paired"])
def test_reference_words_for_pairing_are_understood(paired: Path, alias: str) -> None:
    assert load_split(options(paired, mode=alias), "test", SIZE).paired


def test_images_are_resized_to_the_asked_size(paired: Path) -> None:
    for size in (16, 48):
        found = load_split(options(paired), "test", size)
        assert found.inputs[0].shape == (3, size, size)
        assert found.inputs[0].dtype == torch.uint8
        near = as_tensor(picture(int(found.names[0]), SIZE)).float().mean((1, 2))
        assert (found.inputs[0].float().mean((1, 2)) - near).abs().max() < 4


def test_number_of_images_can_be_limited(paired: Path) -> None:
    everything = load_split(options(paired), "train", SIZE)
    few = load_split(options(paired, max_images=3), "train", SIZE)
    assert few.names == everything.names[:3]
    assert len(load_split(options(paired, max_images=99), "train", SIZE)) == 8


def test_stack_gives_images_in_the_asked_order(paired: Path) -> None:
    inputs = load_split(options(paired), "train", SIZE).inputs
    stacked = inputs.take([5, 0, 5])
    assert stacked.shape == (3, 3, SIZE, SIZE)
    assert torch.equal(stacked[0], inputs[5])
    assert torch.equal(stacked[1], inputs[0])
    assert torch.equal(stacked[2], inputs[5])


# -------------------------------------------------------------------------- unpaired data


def test_unpaired_sides_are_folders_of_any_length(tmp_path: Path) -> None:
    root = make_unpaired(tmp_path, 5, 9)
    found = load_split(options(root, mode="unpaired"), "train", SIZE)
    assert found.targets is not None
    assert not found.paired
    assert (len(found.inputs), len(found.targets), len(found)) == (5, 9, 9)
    back = load_split(options(root, mode="unpaired", direction="BtoA"), "train", SIZE)
    assert back.targets is not None
    assert torch.equal(back.inputs[0], found.targets[0])
    assert torch.equal(back.targets[0], found.inputs[0])
    assert (len(back.inputs), len(back)) == (9, 9)


def test_unaligned_is_the_reference_word_for_unpaired(unpaired: Path) -> None:
    assert not load_split(options(unpaired, mode="unaligned"), "test", SIZE).paired


def test_side_b_may_be_missing_altogether(unpaired: Path) -> None:
    for folder in ("trainB", "testB"):
        shutil.rmtree(unpaired / folder)
    found = load_split(options(unpaired, mode="unpaired"), "train", SIZE)
    assert found.targets is None
    assert len(found) == 8
    with pytest.raises(DataError, match="trainB"):
        load_split(options(unpaired, mode="unpaired", direction="BtoA"), "train", SIZE)


# ------------------------------------------------------------------------------- mistakes


def test_missing_folders_are_named_with_what_is_there(unpaired: Path) -> None:
    with pytest.raises(DataError, match=r"no data folder .*nowhere"):
        load_split(options(unpaired / "nowhere"), "train", SIZE)
    paired = make_paired(unpaired.parent / "pairs")
    with pytest.raises(DataError, match=r"no folder trainA: .*this folder has search, test, train"):
        load_split(options(paired, mode="unpaired"), "train", SIZE)
    shutil.rmtree(paired / "train")
    with pytest.raises(
        DataError, match=r"no folder train: .*side-by-side pairs, or trainA/ trainB"
    ):
        load_split(options(paired), "train", SIZE)
    shutil.rmtree(unpaired / "testA")
    with pytest.raises(DataError, match="has no folder testA or valA"):
        load_split(options(unpaired, mode="unpaired"), "test", SIZE)
    shutil.rmtree(unpaired / "testB")
    (unpaired / "testA").mkdir()
    with pytest.raises(DataError, match=r"testA holds no images \("):
        load_split(options(unpaired, mode="unpaired"), "test", SIZE)


@pytest.mark.parametrize("split", ["train", "search", "test"])
def test_data_folder_without_folders_is_an_error_for_every_split(
    tmp_path: Path, split: str
) -> None:
    for mode in ("paired", "unpaired"):
        with pytest.raises(DataError, match=str(tmp_path)):
            load_split(options(tmp_path, mode=mode, search_fraction=0.5), split, SIZE)


def test_pair_of_odd_width_is_named(paired: Path) -> None:
    bad = write_image(paired / "train" / "odd.png", np.zeros((32, 63, 3), np.uint8))
    split = load_split(options(paired), "train", SIZE)
    with pytest.raises(DataError, match=rf"{bad.name}: 63x32 is not a side-by-side pair"):
        split.inputs[split.names.index("odd")]
    with pytest.raises(DataError, match=bad.name):
        split.inputs.preload()


def test_undecodable_image_is_named_before_training(paired: Path) -> None:
    (paired / "train" / "broken.png").write_bytes(b"not an image")
    split = load_split(options(paired), "train", SIZE)
    with pytest.raises(DataError, match=r"broken\.png"):
        split.inputs.preload()


def test_other_files_and_hidden_ones_are_left_out(paired: Path) -> None:
    (paired / "train" / "notes.txt").write_text("x")
    (paired / "train" / ".hidden.png").write_bytes(b"x")
    (paired / "train" / "folder.png").mkdir()
    assert len(load_split(options(paired), "train", SIZE)) == 8


# ------------------------------------------------------------------------- held-out images


def names(root: Path, split: str, **values: object) -> list[str]:
    return load_split(options(root, mode="unpaired", **values), split, SIZE).names


def named_images(root: Path, number: int) -> Path:
    """A data set of files that are no images: each holds its own name."""
    for folder in ("trainA", "trainB", "testA", "testB"):
        (root / folder).mkdir(parents=True)
        for index in range(number):
            (root / folder / f"photo_{index}.jpg").write_text(f"{folder} {index}")
    return root


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.5, 0.9])
def test_held_out_images_are_not_trained_on(tmp_path: Path, fraction: float) -> None:
    root = named_images(tmp_path, 40)
    train, search = (names(root, split, search_fraction=fraction) for split in ("train", "search"))
    assert not set(train) & set(search)
    assert len(train) + len(search) == 40
    assert len(search) == round(40 * fraction)
    assert search != sorted(train + search)[: len(search)]


def test_more_held_out_images_include_the_fewer(tmp_path: Path) -> None:
    root = named_images(tmp_path, 40)
    fewer, more = (set(names(root, "search", search_fraction=f)) for f in (0.1, 0.4))
    assert fewer < more


def test_search_folder_leaves_training_whole(paired: Path) -> None:
    train = load_split(options(paired, search_fraction=0.5), "train", SIZE)
    search = load_split(options(paired, search_fraction=0.5), "search", SIZE)
    assert len(train) == 8
    assert {int(name) for name in search.names} == {1000, 1001, 1002, 1003}


def test_fraction_that_leaves_no_images_is_an_error(tmp_path: Path) -> None:
    root = named_images(tmp_path, 4)
    for split in ("train", "search"):
        with pytest.raises(DataError, match="4 images cannot be split"):
            names(root, split, search_fraction=0.1)
    assert len(names(root, "train", search_fraction=0)) == 4


def test_search_without_any_images_is_an_error(tmp_path: Path) -> None:
    root = named_images(tmp_path, 4)
    with pytest.raises(DataError, match="search_fraction"):
        names(root, "search", search_fraction=0)


# -------------------------------------------------------------------------------- batches


def stream(root: Path, seed: int = 3, **values: object) -> BatchStream:
    settings = options(root, **{"load_size": SIZE, "crop_size": 24, **values})
    return BatchStream(load_split(settings, "train", SIZE), settings, seed)


def fields(batch: Batch) -> list[Tensor]:
    return [t for t in (batch.real_a, batch.real_b, batch.pseudo_b) if t is not None]


def same(one: Batch, other: Batch) -> bool:
    pairs = zip(fields(one), fields(other), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("mode", ["paired", "unpaired"])
@pytest.mark.parametrize("size", [1, 3, 8])
def test_stream_can_start_anywhere(paired: Path, unpaired: Path, mode: str, size: int) -> None:
    root = paired if mode == "paired" else unpaired
    through = stream(root, mode=mode)
    for position in range(0, 40, size):
        batch = through.batch(position, size)
        assert same(batch, stream(root, mode=mode).batch(position, size))
    assert same(through.batch(0, size), stream(root, mode=mode).batch(0, size))


def test_items_do_not_depend_on_the_batch_size(paired: Path) -> None:
    data = stream(paired)
    whole = data.batch(5, 12)
    singles = [data.batch(5 + k, 1) for k in range(12)]
    assert torch.equal(whole.real_a, torch.cat([s.real_a for s in singles]))


def test_streams_differ_by_seed(paired: Path) -> None:
    assert same(stream(paired, 1).batch(0, 8), stream(paired, 1).batch(0, 8))
    assert not same(stream(paired, 1).batch(0, 8), stream(paired, 2).batch(0, 8))


def test_batches_are_crops_in_the_range_of_networks(paired: Path) -> None:
    batch = stream(paired).batch(0, 8)
    for images in fields(batch):
        assert images.shape == (8, 3, 24, 24)
        assert images.dtype == torch.float32
        assert images.min() >= -1
        assert images.max() <= 1
        assert images.std() > 0.1


def which(images: Tensor, split_images: ImageSet) -> list[int]:
    """Index of every image of a batch without crops and flips."""
    pixels = to_uint8(images)
    everything = [split_images[i] for i in range(len(split_images))]
    return [
        next(i for i, known in enumerate(everything) if torch.equal(known, own)) for own in pixels
    ]


def test_every_epoch_visits_every_image_once_in_another_order(tmp_path: Path) -> None:
    root = make_unpaired(tmp_path, 5, 7)
    data = stream(root, mode="unpaired", crop_size=SIZE, flip=False)
    assert data.split.targets is not None
    a, b = (which(x, s) for x, s in zip(
        fields(data.batch(0, 70)), (data.split.inputs, data.split.targets), strict=True
    ))  # fmt: skip
    for order, length in ((a, 5), (b, 7)):
        epochs = [tuple(order[i : i + length]) for i in range(0, 70, length)]
        assert all(sorted(epoch) == list(range(length)) for epoch in epochs)
        assert len(set(epochs)) > len(epochs) // 2


def with_pseudo(data: BatchStream) -> BatchStream:
    """The same stream with a teacher that turns brightness round, pixel by pixel."""
    split = data.split
    data.split = Split(split.inputs, split.targets, split.paired, Negatives(split.inputs))
    return data


@dataclass(frozen=True)
class Negatives:
    images: ImageSet

    def take(self, indices: Sequence[int]) -> Tensor:
        return 255 - self.images.take(indices)


def test_paired_images_are_cropped_and_flipped_together(paired: Path) -> None:
    batch = with_pseudo(stream(paired)).batch(0, 24)
    assert batch.real_b is not None
    assert batch.pseudo_b is not None
    # the counterpart is the negative in BGR, the pseudo target the negative
    torch.testing.assert_close(batch.real_b, -batch.real_a.flip(1), rtol=0, atol=1e-5)
    torch.testing.assert_close(batch.pseudo_b, -batch.real_a, rtol=0, atol=1e-5)


def test_unpaired_images_are_cropped_alone_but_their_pseudo_targets_with_them(
    unpaired: Path,
) -> None:
    plain = stream(unpaired, mode="unpaired")
    bare = plain.batch(0, 24)
    batch = with_pseudo(stream(unpaired, mode="unpaired")).batch(0, 24)
    assert batch.pseudo_b is not None
    assert batch.real_b is not None
    torch.testing.assert_close(batch.pseudo_b, -batch.real_a, rtol=0, atol=1e-5)
    assert torch.equal(batch.real_a, bare.real_a)
    assert torch.equal(batch.real_b, fields(bare)[1])


def ramps(root: Path, count: int = 6) -> Path:
    """Images that tell where a crop was taken: red counts columns, green counts rows."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    pixels = np.stack([4 * columns, 4 * rows, np.zeros_like(rows)], axis=2).astype(np.uint8)
    for folder in ("trainA", "trainB"):
        for index in range(count):
            write_image(root / folder / f"{index}.png", pixels)
    return root


def crops(images: Tensor) -> list[tuple[int, int, bool]]:
    """(top, left, flipped) of every image of `ramps`."""
    pixels = to_uint8(images).long() // 4
    found = []
    for red, green, _ in pixels:
        flipped = bool(red[0, 0] > red[0, -1])
        found.append((int(green.min()), int(red.min()), flipped))
    return found


def test_crops_reach_every_place_and_flips_are_fair(tmp_path: Path) -> None:
    data = stream(ramps(tmp_path), mode="unpaired", crop_size=29)
    found = crops(data.batch(0, 400).real_a)
    places = {(top, left) for top, left, _ in found}
    assert places == set(itertools.product(range(4), range(4)))
    assert 150 < sum(flipped for *_, flipped in found) < 250


def test_unpaired_sides_are_augmented_independently(tmp_path: Path) -> None:
    batch = stream(ramps(tmp_path), mode="unpaired", crop_size=29).batch(0, 200)
    assert batch.real_b is not None
    equal = sum(a == b for a, b in zip(crops(batch.real_a), crops(batch.real_b), strict=True))
    assert equal < 30  # 200 / 32 by chance


def test_flips_and_crops_can_be_turned_off(tmp_path: Path) -> None:
    data = stream(ramps(tmp_path), mode="unpaired", flip=False, crop_size=SIZE)
    assert set(crops(data.batch(0, 50).real_a)) == {(0, 0, False)}


def test_crop_is_never_larger_than_the_image(paired: Path) -> None:
    batch = stream(paired, crop_size=64).batch(0, 2)
    assert batch.real_a.shape == (2, 3, SIZE, SIZE)


# ---------------------------------------------------------------------------------- cache


class Counter:
    """Counts how often each file is decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decoded: list[str] = []
        read = image_kinds.read_image

        def counted(source: Path | bytes, name: str, *more: Any) -> object:
            self.decoded.append(Path(name).stem)
            return read(source, name, *more)

        monkeypatch.setattr(image_kinds, "read_image", counted)


@pytest.mark.parametrize("capacity", [1, 3, 8])
def test_cache_keeps_the_last_used_images_within_its_limit(
    paired: Path, capacity: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter(monkeypatch)
    files = sorted((paired / "train").iterdir())
    gigabytes = capacity * 3 * SIZE * SIZE / 1e9 * 1.01
    images = ImageSet(files, SIZE, "left", gigabytes)
    expected: list[str] = []
    recent: list[int] = []
    for index in torch.randint(8, (100,)).tolist():
        assert images[index].shape == (3, SIZE, SIZE)
        if index in recent:
            recent.remove(index)
        else:
            expected.append(files[index].stem)
        recent = [*recent, index][-capacity:]
    assert counter.decoded == expected


def test_preloaded_images_are_not_decoded_again(
    paired: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter(monkeypatch)
    images = load_split(options(paired), "train", SIZE).inputs
    images.preload()
    assert sorted(counter.decoded) == sorted(path.stem for path in images.files)
    for index in range(len(images)):
        assert torch.equal(images[index], as_tensor(picture(int(images.files[index].stem), SIZE)))
    assert len(counter.decoded) == len(images)
