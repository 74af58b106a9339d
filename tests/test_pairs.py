"""A teacher's answers: asked for once, kept whole, never mixed up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers import picture, write_image
from torch import Tensor, nn

from gancompress.data import ImageSet, image_kind, list_images, to_float, to_uint8
from gancompress.training.pairs import PaddedTeacher, probe_images, teacher_pairs
from gancompress.training.store import PairStore
from runs import Crash

CPU = torch.device("cpu")
PROBES = 2


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    for index in range(6):
        write_image(tmp_path / "photos" / f"{index}.png", picture(index, 32))
    return ImageSet(list_images(tmp_path / "photos"), 32)


class Counting(nn.Module):
    """A teacher that counts the images it has translated."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.images = 0

    def forward(self, x: Tensor) -> Tensor:
        self.images += len(x)
        out: Tensor = torch.tanh(self.conv(x))
        return out


class Stateless(nn.Module):
    """A teacher without weights."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def padded(teacher: nn.Module, stride: int = 4) -> PaddedTeacher:
    return PaddedTeacher(teacher.eval(), stride, CPU, "fp32", channels=3)


def answer(teacher: nn.Module, image: Tensor) -> Tensor:
    with torch.no_grad():
        return to_uint8(teacher(to_float(image[None])))[0]


def manifest(root: Path) -> Path:
    (found,) = root.glob("*/manifest.jsonl")
    return found


def test_answers_are_the_teachers_images_computed_once(images: ImageSet, tmp_path: Path) -> None:
    teacher = Counting()
    found = teacher_pairs(tmp_path / "pairs", padded(teacher), images)
    assert teacher.images == len(images) + PROBES
    assert len(found) == len(images)
    for index in range(len(images)):
        assert torch.equal(found.take([index])[0], answer(teacher, images[index]))
    teacher.images = 0
    again = teacher_pairs(tmp_path / "pairs", padded(teacher), images)
    assert teacher.images == PROBES
    assert torch.equal(again.take([3, 1]), found.take([3, 1]))
    lines = [json.loads(line) for line in manifest(tmp_path / "pairs").read_text().splitlines()]
    assert [line["name"] for line in lines] == [path.name for path in images.files]
    assert all(line["seconds"] >= 0 for line in lines)


def test_images_that_are_new_or_of_equal_pixels_are_told_by_their_pixels(
    images: ImageSet, tmp_path: Path
) -> None:
    teacher, root = Counting(), tmp_path / "pairs"
    teacher_pairs(root, padded(teacher), ImageSet(images.files[:3], 32))
    teacher.images = 0
    twice = ImageSet([*images.files[:4], images.files[3]], 32)
    found = teacher_pairs(root, padded(teacher), twice)
    assert teacher.images == 1 + PROBES
    assert torch.equal(found.take([4]), found.take([3]))
    larger = ImageSet(images.files, 36)
    assert teacher_pairs(root, padded(teacher), larger).take([0]).shape == (1, 3, 36, 36)


@pytest.mark.parametrize("kind", ["rgb", "grey", "labels:5", "bands:6"])
def test_probe_images_are_images_of_their_kind_that_differ(kind: str) -> None:
    taken = image_kind(kind)
    one, other = probe_images(taken, 32)
    assert one.shape == (taken.channels, 32, 32)
    assert not torch.equal(one, other)
    if kind == "labels:5":
        assert bool((torch.stack([one, other]).sum(1) == 255).all())


def test_teachers_without_weights_are_told_apart_by_their_answers(
    images: ImageSet, tmp_path: Path
) -> None:
    root = tmp_path / "pairs"
    for factor in (0.5, -0.5, 0.5):
        teacher = Stateless(factor)
        found = teacher_pairs(root, padded(teacher), images)
        assert torch.equal(found.take([2])[0], answer(teacher, images[2]))
    assert len(list(root.iterdir())) == 2


def test_answers_take_sizes_that_the_stride_does_not_divide(
    images: ImageSet, tmp_path: Path
) -> None:
    odd, teacher = ImageSet(images.files, 35), Counting()
    found = teacher_pairs(tmp_path / "pairs", padded(teacher, 8), odd).take([0])
    assert found.shape == (1, 3, 35, 35)
    plain = answer(teacher, odd[0])
    assert torch.equal(found[0][:, :34, :34], plain[:, :34, :34])  # the rest sees the padding


def test_a_crash_loses_one_answer(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, root = Counting(), tmp_path / "pairs"
    add = PairStore.add
    alone = PaddedTeacher(teacher.eval(), 4, CPU, "fp32", channels=3, batch=1)

    def crashing(store: PairStore, digest: str, output: Tensor, **facts: object) -> None:
        add(store, digest, output, **facts)
        if facts["name"] == images.files[3].name:
            raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(PairStore, "add", crashing)
        with pytest.raises(Crash):
            teacher_pairs(root, alone, images)
    outputs = manifest(root).with_name("outputs.bin")
    cut = manifest(root).read_bytes()[:-5]
    manifest(root).write_bytes(cut)  # as if the last line and output had not got to the disk
    outputs.write_bytes(outputs.read_bytes()[:-100])
    teacher.images = 0
    found = teacher_pairs(root, alone, images)
    assert teacher.images == 3 + PROBES
    for index in range(len(images)):
        assert torch.equal(found.take([index])[0], answer(teacher, images[index]))


def test_a_damaged_answer_is_asked_for_again(images: ImageSet, tmp_path: Path) -> None:
    teacher, root = Counting(), tmp_path / "pairs"
    teacher_pairs(root, padded(teacher), images)
    outputs = manifest(root).with_name("outputs.bin")
    content = bytearray(outputs.read_bytes())
    content[2 * 3 * 32 * 32 + 7] ^= 1
    outputs.write_bytes(content)
    teacher.images = 0
    found = teacher_pairs(root, padded(teacher), images)
    assert teacher.images == 1 + PROBES
    assert torch.equal(found.take([2])[0], answer(teacher, images[2]))
