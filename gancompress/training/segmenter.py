"""The judge of label-to-photo tasks: a segmenter trained on the real pairs of the user's data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.checkpoint.files import load_pickle, load_tensors
from gancompress.checkpoint.run import RunFolder, record_splits
from gancompress.config import SegmenterOptions
from gancompress.data import (
    RGB,
    Batch,
    ImageSet,
    Split,
    Splits,
    data_kind,
    image_kind,
    load_split,
    spread,
)
from gancompress.distributed import agreed
from gancompress.errors import CheckpointError, ConfigError, DataError
from gancompress.metrics.palette import IGNORED, Palette, find_palette
from gancompress.metrics.segmentation import (
    Judge,
    build_segmenter,
    mean_iou,
    miou_interval,
    pixel_accuracy,
    save_judge,
)
from gancompress.training.averaging import Ema
from gancompress.training.health import Samples, take_step
from gancompress.training.labels import LabelSet, SegmentationStream, label_image, label_images
from gancompress.training.loop import Losses, Trainer, claimed
from gancompress.training.precision import autocast
from gancompress.training.sheets import sheet

BN_MOMENTUM = 0.1  # torchvision's 0.01 for MobileNetV3 keeps the start for hundreds of steps
MAX_COUNTED = 500  # label images that give the frequencies of the classes


@dataclass(frozen=True)
class HeldOut:
    """Real pairs that the segmenter never trains on.

    Attributes:
        photos: At the size that it reads.
        labels: The label images, in the same order.
        split: Which images these are.
    """

    photos: ImageSet
    labels: ImageSet
    split: str


class SegmenterTask:
    """Cross entropy with AdamW; what is kept is the average of the weights.

    Args:
        options: The segmenter's options.
        palette: The label colours.
        frequencies: Share of the training pixels in each class, (K,).
        held_out: Real pairs for the scores; nothing is chosen by them.
        device: Where to train.
    """

    def __init__(
        self,
        options: SegmenterOptions,
        palette: Palette,
        frequencies: Tensor,
        held_out: HeldOut,
        device: torch.device,
    ) -> None:
        self.options, self.palette, self.held_out, self.device = options, palette, held_out, device
        module = build_segmenter(options.arch, palette.num_classes)
        if options.weights is not None:
            load_backbone(module, options.weights)
        for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.momentum = BN_MOMENTUM
        layout = torch.channels_last  # depth-wise convolutions take half the time
        self.module = module.to(device, memory_format=layout)  # type: ignore[call-overload]
        self.weights = class_weights(frequencies, options.balance).to(device)
        schedule = options.schedule
        self.optimiser = torch.optim.AdamW(
            self.module.parameters(), lr=schedule.lr, betas=(schedule.beta1, 0.999),
            weight_decay=options.weight_decay, fused=True,
        )  # fmt: skip
        self.optimisers: list[torch.optim.Optimizer] = [self.optimiser]
        self.ema = Ema(self.module, schedule.ema)
        self.steps = 0
        self.real: dict[str, Any] = {}

    def step(self, batch: Batch, rng: torch.Generator, progress: float) -> Losses:
        """One update; `batch` is one of a `SegmentationStream`."""
        assert batch.real_b is not None
        photos = batch.real_a.to(self.device, memory_format=torch.channels_last)
        self.module.train()
        with autocast(self.options.schedule.precision, self.device):
            logits = self.module(photos)["out"].float()
        loss = nn.functional.cross_entropy(
            logits, batch.real_b[:, 0].to(self.device), self.weights, ignore_index=IGNORED
        )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        take_step(self.optimisers)
        self.ema.update(self.module, self.steps)
        self.steps += 1
        return {"cross_entropy": loss}

    def judge(self) -> Judge:
        """The averaged segmenter as the judge that it becomes."""
        size = self.options.data.load_size
        return Judge(self.options.arch, self.ema.module, self.palette, size=size, real=self.real)

    def evaluate(self) -> dict[str, float]:
        """Scores on all held-out real photos."""
        judge, held_out = self.judge(), self.held_out
        matrices = [
            judge.confusions(held_out.photos[i][None], label_image(held_out.labels, i)[None])
            for i in range(len(held_out.photos))
        ]
        self.real = real_scores(torch.cat(matrices), self.options.seed)
        self.real["split"] = held_out.split
        return {key: value for key, value in self.real.items() if isinstance(value, float)}

    def samples(self) -> Samples:
        """Rows of photo, predicted labels and true labels."""
        judge, held_out = self.judge(), self.held_out
        chosen = spread(len(held_out.photos), self.options.log.num_samples)
        photos = held_out.photos.take(chosen)
        truth = LabelSet(held_out.labels, self.palette)
        predicted = torch.stack([judge.predict(photo, photo.shape[1:]) for photo in photos])
        classes = (predicted, truth.take(chosen)[:, 0])
        return Samples(sheet([photos, *map(self.palette.paint, classes)]), photos)

    def state_dict(self) -> dict[str, Any]:
        """Network, average and optimiser."""
        return {
            "module": self.module.state_dict(),
            "ema": self.ema.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "steps": self.steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.module.load_state_dict(state["module"])
        self.ema.module.load_state_dict(state["ema"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.steps = state["steps"]

    def save(self, run: RunFolder, progress: dict[str, Any]) -> None:
        """Write the averaged segmenter with its latest scores."""
        save_judge(run.weights, self.judge(), self.options.arch, progress)


def real_scores(confusions: Tensor, seed: int) -> dict[str, Any]:
    """What a judge reaches on real photos, beside an answer that needs no photo.

    Args:
        confusions: One matrix for each photo, (N, K, K).
        seed: Of the bootstrap.

    Returns:
        Percentages: pixel accuracy, mIoU with its 95 % interval, and both for the most frequent
        class everywhere (chance); IoU of each class (None: it does not occur); num_images.
    """
    total = confusions.sum(0)
    pixels = total.sum(1)
    constant = torch.zeros_like(total)
    constant[:, pixels.argmax()] = pixels
    miou, per_class = mean_iou(total)
    low, high = miou_interval(confusions, torch.Generator().manual_seed(seed))
    return {
        "accuracy": pixel_accuracy(total),
        "miou": miou,
        "miou_low": low,
        "miou_high": high,
        "chance_accuracy": pixel_accuracy(constant),
        "chance_miou": mean_iou(constant)[0],
        "iou_per_class": [None if math.isnan(value) else round(value, 2) for value in per_class],
        "num_images": len(confusions),
    }


def class_weights(frequencies: Tensor, balance: float) -> Tensor:
    """Weights of the classes in the loss, frequency ** -balance, whose mean over pixels is 1.

    Args:
        frequencies: Shares of the pixels, (K,); a class without pixels has weight 0.
        balance: 0 counts every pixel alike, 1 every class.
    """
    weights = torch.where(frequencies > 0, frequencies.clamp_min(1e-12) ** -balance, 0.0)
    return (weights / (weights * frequencies).sum()).float()


def load_backbone(module: nn.Module, path: Path) -> None:
    """Start a segmenter's backbone from weights in a file.

    Args:
        module: An entry of `SEGMENTERS`.
        path: A state dict of the classifier with the same backbone, of the backbone alone, or of
            a whole segmenter, as torchvision names them; .pth or .safetensors.

    Raises:
        CheckpointError: It does not fit the backbone.
    """
    state = load_tensors(path)[0] if path.suffix == ".safetensors" else load_pickle(path)
    names = {str(name) for name in state} if isinstance(state, dict) else set()
    prefix = next(
        (p for p in ("backbone.", "features.") if any(n.startswith(p) for n in names)), ""
    )
    backbone = module.get_submodule("backbone")
    wanted = backbone.state_dict()
    found = {name: state[prefix + name] for name in wanted if prefix + name in names}
    try:
        backbone.load_state_dict(found)
    except RuntimeError as error:
        reason = "; ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise CheckpointError(f"{path}: does not fit this backbone: {reason[:300]}") from None


def segmenter_pairs(
    options: SegmenterOptions, splits: Splits, split: str
) -> tuple[ImageSet, ImageSet]:
    """Photos and label images of one split: the labels are on the generator's input side.

    Raises:
        ConfigError: The data is not paired.
        DataError: There are no such images.
    """
    data = options.data
    if not data_kind(data.mode).is_paired:
        raise ConfigError("a segmenter learns from pairs of photo and labels: data.mode=paired")
    for key, kind in (("input", data.input), ("target", data.target)):
        if image_kind(kind) != RGB:
            raise ConfigError(f"a segmenter reads photos and label colours, not data.{key}={kind}")
    images = load_split(data, split, data.load_size, splits)
    assert images.targets is not None
    return images.targets, images.inputs


def choose_palette(options: SegmenterOptions, labels: ImageSet) -> Palette:
    """The colours of the training labels.

    Raises:
        DataError: These are no label images, or have another number of colours than asked for.
    """
    try:
        return find_palette(label_images(labels), options.classes)
    except DataError as error:
        raise DataError(f"{options.data.root}, {labels_name(labels)}: {error}") from None


def labels_name(labels: ImageSet) -> str:
    """Where the labels are, for people: halves of pairs, or a folder."""
    return f"{labels.half} halves" if labels.half else f"{labels.files[0].parent.name}/"


def train_segmenter(options: SegmenterOptions, device: torch.device) -> dict[str, Any]:
    """Train a segmenter on real pairs, or go on with one; returns its final scores.

    Raises:
        DataError: The data cannot be used.
        CheckpointError: The backbone's weights do not fit.
        Interrupted: A signal came; the same call goes on.
    """
    run = RunFolder(options.run)
    with claimed(run, options, options.schedule, device) as before:
        if before is not None:
            return before
        splits = agreed(lambda: record_splits(run, options.data))
        photos, label_files = segmenter_pairs(options, splits, "train")
        palette = choose_palette(options, label_files)
        training = Split(photos, LabelSet(label_files, palette), paired=True)
        photos.preload()
        assert training.targets is not None
        training.targets.preload()
        torch.manual_seed(options.seed)
        frequencies = _frequencies(training.targets, palette.num_classes)
        task = SegmenterTask(options, palette, frequencies, _held_out(options, splits), device)
        stream = SegmentationStream(
            training, options.data, options.seed, options.window, options.jitter
        )
        return Trainer(task, stream, run, options.schedule, options.log, options.seed).fit()


def _held_out(options: SegmenterOptions, splits: Splits) -> HeldOut:
    split = "test" if splits.inputs("test", options.data.direction) else "search"
    return HeldOut(*segmenter_pairs(options, splits, split), split)


def _frequencies(labels: ImageSet, classes: int) -> Tensor:
    counts = torch.zeros(256, dtype=torch.float64)
    for index in spread(len(labels), MAX_COUNTED):
        counts += torch.bincount(labels[index].flatten().long(), minlength=256)
    return counts[:classes] / counts[:classes].sum()
