"""mIoU: the Cityscapes network, the scores, label colours, and the segmenter trained on pairs."""

from __future__ import annotations

import io
import json
import math
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import existing, make_paired, write_image
from PIL import Image
from torch import Tensor, nn

from gancompress.checkpoint.files import save_tensors
from gancompress.cli.main import main
from gancompress.config import SegmenterOptions, build
from gancompress.data import ImageSet, Split, read_image, to_tensor
from gancompress.errors import CheckpointError, ConfigError, DataError
from gancompress.metrics import segmentation
from gancompress.metrics.drn import DrnSegmenter, Level, bilinear_kernel, load_drn
from gancompress.metrics.palette import CITYSCAPES, IGNORED, Palette, find_palette
from gancompress.metrics.segmentation import (
    CITYSCAPES_STATISTICS,
    IMAGENET,
    SEGMENTERS,
    Judge,
    build_segmenter,
    confusion_matrix,
    load_judge,
    mean_iou,
    miou_interval,
    normalise,
    pixel_accuracy,
    resize_logits,
)
from gancompress.training.labels import LabelSet, SegmentationStream
from gancompress.training.loop import Trainer
from gancompress.training.segmenter import class_weights, load_backbone, train_segmenter
from runs import Crash, at_call, crash, fingerprints, finished, log_lines, process

COLOURS = ((0, 0, 170), (0, 255, 255), (255, 85, 0), (170, 255, 85))


# -- DRN-D-105 ----------------------------------------------------------------------------


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes in drn-d-105_ms_cityscapes.pth, spelled out from the paper's table."""
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (channels,)

    plain = {0: (16, 3, 7, 7), 1: (16, 16, 3, 3), 2: (32, 16, 3, 3), 7: (512, 2048, 3, 3)}
    for level, shape in {**plain, 8: (512, 512, 3, 3)}.items():
        shapes[f"base.{level}.0.weight"] = shape
        norm(f"base.{level}.1", shape[0])
    for level, blocks, first, inner in ((3, 3, 32, 64), (4, 4, 256, 128), (5, 23, 512, 256),
                                        (6, 3, 1024, 512)):  # fmt: skip
        for block in range(blocks):
            name, before = f"base.{level}.{block}", first if block == 0 else 4 * inner
            shapes[f"{name}.conv1.weight"] = (inner, before, 1, 1)
            shapes[f"{name}.conv2.weight"] = (inner, inner, 3, 3)
            shapes[f"{name}.conv3.weight"] = (4 * inner, inner, 1, 1)
            for index, channels in ((1, inner), (2, inner), (3, 4 * inner)):
                norm(f"{name}.bn{index}", channels)
        shapes[f"base.{level}.0.downsample.0.weight"] = (4 * inner, first, 1, 1)
        norm(f"base.{level}.0.downsample.1", 4 * inner)
    head = {"seg.weight": (19, 512, 1, 1), "seg.bias": (19,), "up.weight": (19, 1, 16, 16)}
    return {**shapes, **head}


def test_drn_has_the_published_names_and_shapes() -> None:
    with torch.device("meta"):
        network = DrnSegmenter()
    state = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    counters = {name for name in state if name.endswith("num_batches_tracked")}
    assert {name: s for name, s in state.items() if name not in counters} == published_shapes()
    assert (len(published_shapes()), len(counters)) == (543, 108)
    # 54,801,304 is the published classifier, with a head of 512 * 1000 + 1000
    classifier = 54_801_304
    parameters = sum(p.numel() for p in network.parameters())
    assert parameters == classifier - 513_000 + (512 * 19 + 19) + 19 * 16 * 16


def test_drn_dilates_instead_of_shrinking() -> None:
    with torch.device("meta"):
        base = DrnSegmenter().base
    facts = {3: (2, 1), 4: (2, 1), 5: (1, 2), 6: (1, 4), 7: (1, 2), 8: (1, 1)}
    for level, (stride, dilation) in facts.items():
        convs = [m for m in base[level].modules() if isinstance(m, nn.Conv2d)]
        square = [m for m in convs if m.kernel_size == (3, 3)]
        assert square[0].stride == (stride, stride)
        assert {m.stride for m in square[1:]} <= {(1, 1)}
        assert {(m.dilation, m.padding) for m in square} == {((dilation,) * 2, (dilation,) * 2)}


SMALL = (Level(4, 1), Level(6, 1, stride=2), Level(4, 2, stride=2, bottleneck=True),
         Level(6, 1, stride=2, bottleneck=True), Level(8, 1, dilation=2))  # fmt: skip


def test_drn_gives_logits_at_the_next_multiple_of_eight() -> None:
    network = DrnSegmenter(5, SMALL).eval()
    with torch.no_grad():
        assert network(torch.rand(2, 3, 32, 48)).shape == (2, 5, 32, 48)
        assert network(torch.rand(1, 3, 33, 41)).shape == (1, 5, 40, 48)


def test_drn_upsampling_is_bilinear_interpolation() -> None:
    network = DrnSegmenter(3, SMALL)
    coarse = torch.rand(2, 3, 5, 6)
    with torch.no_grad():
        fine = network.up(coarse)
    expected = nn.functional.interpolate(coarse, scale_factor=8, mode="bilinear")
    inside = (..., slice(4, -4), slice(4, -4))  # at the rim the deconvolution fades to zero
    torch.testing.assert_close(fine[inside], expected[inside])
    assert not network.up.weight.requires_grad
    assert bilinear_kernel(8)[0, 0] == (1 / 16) ** 2
    assert bilinear_kernel(8)[7, 8] == (15 / 16) ** 2


def test_other_weights_are_refused_by_name(tmp_path: Path) -> None:
    torch.save({"seg.weight": torch.zeros(12, 512, 1, 1), "fc.bias": torch.zeros(1)},
               tmp_path / "other.pth")  # fmt: skip
    with pytest.raises(CheckpointError, match=r"base.0.0.weight is missing"):
        load_drn(tmp_path / "other.pth")
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="not a state dict"):
        load_drn(tmp_path / "list.pth")


@pytest.mark.slow
def test_published_weights_load_strictly(tmp_path: Path) -> None:
    """A file as torch 0.3 wrote it: without counters in its batch norms."""
    values = {name: torch.rand(shape) for name, shape in published_shapes().items()}
    path = tmp_path / "drn-d-105_ms_cityscapes.pth"
    torch.save(values, path)
    judge = load_judge(path)
    assert (judge.name, judge.classes, judge.real) == ("drn_d_105", 19, {})
    loaded = judge.module.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in values.items())
    truth = torch.randint(0, 19, (1, 64, 128))
    assert judge.confusions(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), truth).sum() == 64 * 128
    values["seg.bias"] = torch.zeros(20)
    torch.save(values, path)
    with pytest.raises(CheckpointError, match=r"seg.bias: \(20,\) instead of \(19,\)"):
        load_drn(path)


# -- scores -------------------------------------------------------------------------------


def test_confusion_counts_pairs_and_leaves_ignored_pixels_out() -> None:
    truth = torch.tensor([[0, 0, 1, 255], [2, 1, 255, 0]])
    predicted = torch.tensor([[0, 1, 1, 2], [2, 0, 0, 0]])
    assert confusion_matrix(predicted, truth, 3).tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 1]]


def test_miou_equals_sets_of_pixels() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 4, 500), rng.integers(0, 4, 500)
    truth[:50] = 255
    expected = []
    kept = truth < 4
    for k in range(4):
        a, b = (set(np.flatnonzero(kept & (values == k))) for values in (truth, predicted))
        expected.append(100 * len(a & b) / len(a | b))
    confusion = confusion_matrix(torch.from_numpy(predicted), torch.from_numpy(truth), 4)
    miou, per_class = mean_iou(confusion)
    assert per_class == pytest.approx(expected)
    assert miou == pytest.approx(sum(expected) / 4)
    hits = int((truth == predicted)[kept].sum())
    assert pixel_accuracy(confusion) == pytest.approx(100 * hits / kept.sum())


def test_a_class_that_does_not_occur_is_left_out_of_the_mean() -> None:
    confusion = torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    miou, per_class = mean_iou(confusion)
    assert math.isnan(per_class[2])
    assert miou == pytest.approx(100 * (3 / 4 + 4 / 5) / 2)
    predicted_alone = torch.tensor([[3, 0, 1], [0, 4, 0], [0, 0, 0]])
    assert mean_iou(predicted_alone)[1][2] == 0


def test_interval_repeats_contains_the_score_and_shrinks_with_more_images() -> None:
    rng = torch.Generator().manual_seed(0)
    few = torch.randint(0, 50, (8, 3, 3), generator=rng) + 60 * torch.eye(3, dtype=torch.int64)
    low, high = miou_interval(few, torch.Generator().manual_seed(1))
    assert low < mean_iou(few.sum(0))[0] < high
    assert (low, high) == miou_interval(few, torch.Generator().manual_seed(1))
    many = miou_interval(few.repeat(16, 1, 1), torch.Generator().manual_seed(1))
    assert many[1] - many[0] < (high - low) / 3
    same = miou_interval(few[:1].repeat(5, 1, 1), torch.Generator().manual_seed(1))
    assert same == pytest.approx([mean_iou(few[0])[0]] * 2)


@pytest.mark.parametrize("size", [(96, 200), (40, 61), (17, 20), (32, 48)])
def test_logits_are_resized_as_pillow_does(size: tuple[int, int]) -> None:
    logits = torch.randn(4, 32, 48) * 5
    expected = [
        np.asarray(Image.fromarray(channel).resize(size[::-1], Image.Resampling.BILINEAR))
        for channel in logits.numpy()
    ]
    np.testing.assert_allclose(resize_logits(logits, size).numpy(), expected, rtol=1e-5, atol=5e-5)


def test_log_softmax_before_the_resizing_changes_no_class() -> None:
    logits = torch.randn(19, 16, 16) * 3
    plain, normalised = (resize_logits(x, (64, 128)) for x in (logits, logits.log_softmax(0)))
    assert torch.equal(plain.argmax(0), normalised.argmax(0))


def test_published_protocol_reads_at_own_resolution_and_scores_at_that_of_the_labels() -> None:
    network = DrnSegmenter(19, SMALL).eval()
    judge = Judge("drn", network, CITYSCAPES, CITYSCAPES_STATISTICS)
    photos = torch.randint(0, 256, (2, 3, 32, 64), dtype=torch.uint8)
    labels = torch.randint(0, 19, (2, 128, 256), dtype=torch.uint8)
    labels[:, :9] = 255
    mean, deviation = (np.array(v)[:, None, None] for v in CITYSCAPES_STATISTICS)
    expected = np.zeros((19, 19), dtype=np.int64)
    for photo, label in zip(photos.numpy(), labels.numpy(), strict=True):
        values = torch.from_numpy(((photo / 255 - mean) / deviation).astype(np.float32))
        with torch.no_grad():
            scores = network(values[None])[0].log_softmax(0).numpy()
        big = [np.asarray(Image.fromarray(s).resize((256, 128), Image.Resampling.BILINEAR))
               for s in scores]  # fmt: skip
        seen = label != 255
        np.add.at(expected, (label[seen], np.argmax(big, 0)[seen]), 1)
    assert (judge.confusions(photos, labels).sum(0) - torch.from_numpy(expected)).abs().sum() <= 4


# -- palettes -----------------------------------------------------------------------------


def label_map(index: int, size: int, classes: int = len(COLOURS)) -> np.ndarray:
    """Class numbers (size, size): rectangles on a ground, all of them with every index."""
    rng = np.random.default_rng(index)
    numbers = np.full((size, size), index % classes)
    for k in [*range(classes), *rng.integers(0, classes, 2)]:
        height, width = rng.integers(size // 4, size // 2, 2)
        top, left = rng.integers(0, size - height), rng.integers(0, size - width)
        numbers[top : top + height, left : left + width] = k
    return numbers


def painted(numbers: np.ndarray) -> np.ndarray:
    return np.array(COLOURS, dtype=np.uint8)[numbers]


def through_jpeg(pixels: np.ndarray, quality: int) -> Tensor:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return to_tensor(read_image(file.getvalue()))


@pytest.mark.parametrize("quality", [75, 85, 95])
def test_label_colours_are_found_in_jpeg_files(quality: int) -> None:
    maps = [label_map(index, 96) for index in range(8)]
    images = [through_jpeg(painted(numbers), quality) for numbers in maps]
    palette = find_palette(images)
    assert len(palette.colours) == len(COLOURS)
    numbers = []
    for colour in COLOURS:
        away = [math.dist(colour, found) for found in palette.colours]
        assert min(away) <= 4
        numbers.append(int(np.argmin(away)))
    truth = torch.from_numpy(np.array(numbers)[np.stack(maps)])
    assert float((palette.classes(torch.stack(images)) == truth).double().mean()) > 0.97
    assert 0 < palette.stray_share(torch.stack(images)) < 0.25
    assert find_palette(reversed(images)) == palette
    assert find_palette(images, classes=3).colours == palette.colours[:3]


def test_clean_labels_are_read_exactly() -> None:
    maps = np.stack([label_map(index, 48) for index in range(4)])
    images = torch.from_numpy(painted(maps)).permute(0, 3, 1, 2)
    palette = find_palette(images)
    assert set(palette.colours) == set(COLOURS)
    assert torch.equal(Palette(COLOURS).classes(images), torch.from_numpy(maps))
    assert palette.stray_share(images, tolerance=0) == 0
    assert torch.equal(palette.paint(palette.classes(images)), images)


def test_a_mixture_on_a_border_gets_a_class_beside_it() -> None:
    """Half way from the first colour to the third lies the second one."""
    palette = Palette(((0, 0, 0), (110, 110, 130), (240, 240, 240)))
    image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    image[..., 4:] = 240
    image[..., 4] = torch.tensor([[[120]], [[120]], [[90]]])[None, :, 0]
    found = palette.classes(image)[0]
    assert set(found[:, 4].tolist()) <= {0, 2}
    inside = torch.full((1, 3, 8, 8), 110, dtype=torch.uint8)
    assert set(palette.classes(inside).flatten().tolist()) == {1}


def test_photos_are_no_labels_and_a_wrong_number_is_refused() -> None:
    grey = torch.full((3, 32, 32), 90, dtype=torch.uint8)
    with pytest.raises(DataError, match="have one colour"):
        find_palette([grey])
    noise = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    with pytest.raises(DataError, match="no colours that fill areas"):
        find_palette([noise])
    clean = [torch.from_numpy(painted(label_map(i, 48))).permute(2, 0, 1) for i in range(4)]
    with pytest.raises(DataError, match="hold 4 colours, not 5"):
        find_palette(clean, classes=5)


def test_cityscapes_colours_become_train_ids() -> None:
    colours = [(128, 64, 128), (0, 0, 142), (119, 11, 32), (0, 0, 0), (81, 0, 81)]
    image = torch.tensor(colours, dtype=torch.uint8).T[None, :, None].expand(1, 3, 4, 5)
    assert CITYSCAPES.classes(image)[0, 0].tolist() == [0, 13, 18, IGNORED, IGNORED]
    assert CITYSCAPES.num_classes == 19


def test_facades_has_twelve_colours(shared: Path) -> None:
    files = sorted(existing(shared / "data" / "facades" / "train").iterdir())[::20]
    labels = [to_tensor(read_image(path))[:, :, 256:] for path in files]
    palette = find_palette(labels)
    assert len(palette.colours) == 12
    nearest = min(math.dist(a, b) for a in palette.colours for b in palette.colours if a is not b)
    assert nearest > 30
    shares = torch.bincount(palette.classes(torch.stack(labels)).flatten(), minlength=12)
    assert float(shares.min() / shares.sum()) > 0.005


# -- judges -------------------------------------------------------------------------------


class TinySegmenter(nn.Module):
    """Colours to classes by two layers; the interface of torchvision's segmenters."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.head = nn.Conv2d(16, classes, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": self.head(self.backbone(x))}


def tiny_segmenter(num_classes: int) -> nn.Module:
    return TinySegmenter(num_classes)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of an architecture that trains in no time."""
    monkeypatch.setitem(segmentation.SEGMENTERS, "tiny", tiny_segmenter)
    return "tiny"


def make_labelled(root: Path, counts: dict[str, int], size: int = 32) -> Path:
    """Pairs of photo (left) and labels (right): each class has its colour and its stripes."""
    tints = np.array([(60, 60, 70), (200, 190, 160), (150, 60, 50), (70, 130, 60)])
    rows, columns = np.mgrid[0:size, 0:size]
    stripes = np.stack([rows % 2, columns % 2, (rows + columns) % 3 == 0, rows % 4 < 2])
    for start, (split, count) in enumerate(counts.items()):
        for index in range(1000 * start, 1000 * start + count):
            numbers = label_map(index, size)
            texture = np.take_along_axis(stripes, numbers[None], 0)[0] * 30.0
            noise = np.random.default_rng(index).normal(0, 12, (size, size, 3))
            photo = (tints[numbers] + texture[..., None] + noise).clip(0, 255).astype(np.uint8)
            pair = np.concatenate([photo, painted(numbers)], axis=1)
            write_image(root / split / f"{index:04d}.png", pair)
    return root


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    return make_labelled(tmp_path / "data", {"train": 10, "test": 3})


def segmenter_options(root: Path, run: Path, *sets: str) -> SegmenterOptions:
    raw: dict[str, Any] = {
        "run": str(run),
        "arch": "tiny",
        "data": {"root": str(root), "direction": "BtoA", "load_size": 32, "crop_size": 24},
        "schedule": {"num_images": 16, "num_images_decay": 8, "batch_size": 4, "lr": 0.01,
                     "beta1": 0.9, "ema": 0.9, "precision": "fp32"},
        "log": {"log_every": 8, "sample_every": 100, "checkpoint_every": 8, "num_samples": 2},
    }  # fmt: skip
    return build(SegmenterOptions, raw, "segmenter", list(sets))


CPU = torch.device("cpu")


def test_a_trained_segmenter_is_a_judge_with_its_scores(
    labelled: Path, tmp_path: Path, tiny: str
) -> None:
    summary = train_segmenter(segmenter_options(labelled, tmp_path / "run"), CPU)
    judge = load_judge(tmp_path / "run")
    assert (judge.name, judge.classes, judge.size) == ("tiny", 4, 32)
    assert set(judge.palette.colours) == set(COLOURS)
    assert (judge.real["num_images"], judge.real["split"]) == (3, "test")
    assert judge.accuracy_on_real == summary["accuracy"] > summary["chance_accuracy"]
    assert judge.miou_on_real == summary["miou"] > summary["chance_miou"]
    assert summary["miou_low"] <= summary["miou"] <= summary["miou_high"]
    pairs = [to_tensor(read_image(path)) for path in sorted((labelled / "test").iterdir())]
    photos, labels = (torch.stack([p[..., half] for p in pairs])
                      for half in (slice(0, 32), slice(32, 64)))  # fmt: skip
    total = judge.confusions(photos, labels).sum(0)
    assert pixel_accuracy(total) == judge.accuracy_on_real
    assert mean_iou(total)[0] == judge.miou_on_real
    assert (tmp_path / "run" / "samples" / "00000024.png").exists()


def test_confusions_depend_on_no_batch_and_no_order(tiny: str) -> None:
    judge = Judge("tiny", build_segmenter(tiny, 4).eval(), Palette(COLOURS), size=32)
    photos = torch.randint(0, 256, (5, 3, 40, 40), dtype=torch.uint8)
    labels = torch.stack([torch.from_numpy(painted(label_map(i, 48))).permute(2, 0, 1)
                          for i in range(5)])  # fmt: skip
    together = judge.confusions(photos, labels)
    assert together.shape == (5, 4, 4)
    assert together.dtype == torch.int64
    assert (together.sum((1, 2)) == 48 * 48).all()
    alone = [judge.confusions(photos[i : i + 1], labels[i : i + 1]) for i in (4, 1, 3, 0, 2)]
    assert torch.equal(torch.cat(alone), together[[4, 1, 3, 0, 2]])
    numbers = judge.palette.classes(labels)
    assert torch.equal(judge.confusions(photos, numbers[:, None]), together)
    with pytest.raises(DataError, match="5 photos cannot be scored with 4 labels"):
        judge.confusions(photos, labels[:4])


def test_a_killed_segmenter_goes_on_to_the_same_weights(
    labelled: Path, tmp_path: Path, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = (segmenter_options(labelled, tmp_path / name) for name in ("whole", "killed"))
    train_segmenter(whole, CPU)
    with monkeypatch.context() as patch:
        at_call(patch, Trainer, "_advance", 4, crash)
        with pytest.raises(Crash):
            train_segmenter(killed, CPU)
    train_segmenter(killed, CPU)
    assert fingerprints(tmp_path / "killed") == fingerprints(tmp_path / "whole")
    assert log_lines(tmp_path / "killed") == log_lines(tmp_path / "whole")


@pytest.mark.parametrize(
    "arch",
    ["lraspp_mobilenet_v3_large", pytest.param("fcn_resnet50", marks=pytest.mark.slow)],
)
def test_every_segmenter_builds_and_takes_its_backbones_weights(arch: str, tmp_path: Path) -> None:
    module = build_segmenter(arch, 3).eval()
    with torch.no_grad():
        assert module(torch.rand(1, 3, 32, 32))["out"].shape == (1, 3, 32, 32)
    values = {name: torch.full_like(value, 2)
              for name, value in module.get_submodule("backbone").state_dict().items()}  # fmt: skip
    prefix = "features." if "mobilenet" in arch else ""
    classifier = {prefix + name: value for name, value in values.items()}
    save_tensors(tmp_path / "a.safetensors", {**classifier, "fc.bias": torch.zeros(4)}, {})
    load_backbone(module, tmp_path / "a.safetensors")
    loaded = module.get_submodule("backbone").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in values.items())
    first = next(iter(classifier))
    for wrong in ({**classifier, first: torch.zeros(1)}, {"x": torch.zeros(1)}):
        torch.save(wrong, tmp_path / "b.pth")
        with pytest.raises(CheckpointError, match="does not fit this backbone"):
            load_backbone(module, tmp_path / "b.pth")


def test_every_segmenter_is_tested() -> None:
    assert set(SEGMENTERS) == {"lraspp_mobilenet_v3_large", "fcn_resnet50"}


def test_photo_and_labels_are_cut_and_turned_alike(labelled: Path) -> None:
    """With label images in the place of photos, the crop's colours say its classes."""
    files = sorted((labelled / "train").iterdir())
    labels = ImageSet(files, 32, "right")
    classes = LabelSet(labels, Palette(COLOURS))
    classes.preload()
    split = Split(labels, classes, paired=True)
    data = segmenter_options(labelled, labelled / "run").data
    stream = SegmentationStream(split, data, seed=0, window=0.5, jitter=0.0)
    batch = stream.batch(0, 8)
    assert batch.real_b is not None
    assert batch.real_a.shape == (8, 3, 24, 24)
    assert batch.real_b.shape == (8, 1, 24, 24)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in IMAGENET)
    colours = ((batch.real_a * deviation + mean) * 255).round().to(torch.uint8)
    same = Palette(COLOURS).classes(colours) == batch.real_b[:, 0]
    assert float(same.double().mean()) > 0.93
    wrong = Palette(COLOURS).classes(colours.flip(-1)) == batch.real_b[:, 0]
    assert float(wrong.double().mean()) < 0.8
    assert torch.equal(stream.batch(4, 4).real_a, batch.real_a[4:])


def test_class_weights_have_mean_one_over_pixels() -> None:
    frequencies = torch.tensor([0.64, 0.36, 0.0])
    assert class_weights(frequencies, 0.0).tolist() == [1, 1, 0]
    balanced = class_weights(frequencies, 0.5)
    assert balanced[1] / balanced[0] == pytest.approx(0.8 / 0.6)
    assert float((balanced * frequencies).sum()) == pytest.approx(1)


def test_photos_are_normalised_by_channel() -> None:
    photo = torch.tensor([[255, 0, 128]], dtype=torch.uint8)[:, :, None, None]
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (128 / 255 - 0.406) / 0.225]
    assert normalise(photo).flatten().tolist() == pytest.approx(expected)


def test_other_files_are_no_judges(tmp_path: Path) -> None:
    save_tensors(tmp_path / "weights.safetensors", {"a": torch.zeros(1)}, {"generator": {}})
    with pytest.raises(CheckpointError, match="not a segmenter"):
        load_judge(tmp_path)
    with pytest.raises(CheckpointError, match="no weights"):
        load_judge(tmp_path / "nothing")


# -- command line -------------------------------------------------------------------------


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    """The command's JSON."""
    assert main(["segmenter", *map(str, arguments), "--json", "--device", "cpu"]) == 0
    content: dict[str, Any] = json.loads(capsys.readouterr().out)
    return content


def test_command_trains_and_a_second_call_reports_the_same(
    labelled: Path, tmp_path: Path, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = (labelled, "--direction", "BtoA", "--run", tmp_path / "run", "--arch", tiny)
    sets = ("--set", "schedule.batch_size=4", "--num-images", "8", "--seed", "3")
    result = call(capsys, *flags, *sets)
    assert (result["images"], result["classes"], result["split"]) == (8, 4, "test")
    assert {"accuracy", "miou", "miou_low", "chance_miou", "num_images"} <= result.keys()
    assert call(capsys, *flags, *sets) == result
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert "load_size: 32" in config
    assert "seed: 3" in config


def test_dry_run_names_the_colours_and_writes_nothing(
    labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = call(capsys, labelled, "--direction", "BtoA", "--run", tmp_path / "run", "--dry-run")
    assert {tuple(colour) for colour in result["palette"]} == set(COLOURS)
    assert (result["num_images"], result["stray_share"]) == (9, 0)
    assert not (tmp_path / "run").exists()


def test_labels_may_lie_in_a_folder_of_their_own(
    labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in labelled.glob("*/*.png"):
        pair = np.asarray(read_image(path))
        for folder, half in (("img", pair[:, :32]), ("label", pair[:, 32:])):
            write_image(tmp_path / "apart" / f"{path.parent.name}_{folder}" / path.name, half)
    flags = ("--classes", "4", "--run", tmp_path / "run", "--dry-run")
    apart = call(capsys, tmp_path / "apart", *flags)
    assert {tuple(colour) for colour in apart["palette"]} == set(COLOURS)
    assert (apart["num_images"], apart["stray_share"]) == (9, 0)
    assert main(["segmenter", str(tmp_path / "apart"), *map(str, flags)]) == 0
    said = capsys.readouterr().out
    assert "load_size: 32" in said
    assert "labels: train_label/, 4 colours" in said


def test_wrong_uses_are_one_message(
    labelled: Path, unpaired: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = make_paired(tmp_path / "photos")
    cases = [
        ((labelled, "--direction", "BtoA", "--arch", "unet"), "unknown segmenter 'unet'"),
        ((labelled, "--direction", "BtoA", "--classes", "9"), "hold 4 colours, not 9"),
        ((make_paired(tmp_path / "lone", folders=("{}A", "{}C")),), "no partner in trainB/"),
        ((tmp_path / "nothing",), "no data folder"),
        ((wrong, "--classes", "200"), "not 200"),
    ]
    for arguments, message in cases:
        assert main(["segmenter", *map(str, arguments), "--dry-run"]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error
    options = segmenter_options(unpaired, tmp_path / "run", "data.mode=unpaired")
    with pytest.raises(ConfigError, match=r"data.mode=paired"):
        train_segmenter(options, CPU)


@pytest.mark.slow
def test_a_segmenter_learns_to_read_photos(tmp_path: Path) -> None:
    root = make_labelled(tmp_path / "data", {"train": 32, "test": 8}, size=64)
    flags = (root, "--direction", "BtoA", "--run", tmp_path / "run", "--num-images", "480")
    sets = ("--set", "schedule.lr=0.003", "--set", "schedule.batch_size=8")
    done = finished("segmenter", *flags, *sets, "--json", "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["accuracy"] > 85
    assert result["miou"] > 70 > 40 > result["chance_miou"]


@pytest.mark.slow
def test_termination_saves_and_the_same_command_goes_on(tmp_path: Path) -> None:
    root = make_labelled(tmp_path / "data", {"train": 10, "test": 2})
    flags = ("segmenter", root, "--direction", "BtoA", "--run", tmp_path / "run", "--device",
             "cpu", "--num-images", "120", "--set", "schedule.batch_size=4", "--set",
             "log.log_every=4")  # fmt: skip
    running = process(*flags, cwd=tmp_path)
    log = tmp_path / "run" / "log.jsonl"
    until = time.monotonic() + 120
    while not log.exists() and time.monotonic() < until:
        time.sleep(0.1)
    running.send_signal(signal.SIGTERM)
    error = running.communicate(timeout=120)[1]
    assert running.returncode == 75, error
    assert (tmp_path / "run" / "state.pt").exists()
    assert finished(*flags, cwd=tmp_path).returncode == 0
    assert (tmp_path / "run" / "done.json").exists()
