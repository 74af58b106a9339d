"""mIoU: a segmenter reads the generated photo, and the labels it was made from are the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from gancompress.checkpoint.files import load_tensors, save_tensors
from gancompress.errors import CheckpointError, DataError
from gancompress.extras import require
from gancompress.metrics.drn import CITYSCAPES_CLASSES, load_drn
from gancompress.metrics.palette import CITYSCAPES, Palette
from gancompress.tables import lookup

Channels = tuple[float, float, float]

# -- scores of confusion matrices ---------------------------------------------------------


def confusion_matrix(predicted: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Pixels by true class (row) and predicted class (column), (classes, classes) int64.

    Args:
        predicted: Class numbers, any shape of integers below `classes`.
        truth: The same shape; pixels whose number is not below `classes` are left out.
        classes: K.
    """
    counted = (truth >= 0) & (truth < classes)
    pairs = truth[counted].long() * classes + predicted[counted].long()
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes).cpu()


def mean_iou(confusion: Tensor) -> tuple[float, list[float]]:
    """Mean over classes of intersection over union in percent, and that of each class.

    A class that is neither in the truth nor in a prediction has no score: it is NaN and is left
    out of the mean.

    Args:
        confusion: (K, K) pixels by true and predicted class, summed over all images.
    """
    per_class = _ious(confusion.double()) * 100
    return float(per_class.nanmean()), per_class.tolist()


def pixel_accuracy(confusion: Tensor) -> float:
    """Share of the pixels whose class was predicted, in percent; (K, K) as in `mean_iou`."""
    return 100 * float(confusion.diagonal().sum()) / max(1, int(confusion.sum()))


def miou_interval(
    confusions: Tensor, rng: torch.Generator, resamples: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Bootstrap interval over images of the mIoU in percent.

    Source: Efron, Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentiles).

    Args:
        confusions: One matrix for each image, (N, K, K).
        rng: Draws the images.
        resamples: Sets of N images drawn with replacement.
        level: Probability mass between the two ends.
    """
    count, classes = confusions.shape[:2]
    drawn = torch.randint(count, (resamples, count), generator=rng)
    times = torch.zeros(resamples, count, dtype=torch.float64)
    times.scatter_add_(1, drawn, torch.ones_like(times))
    sums = times @ confusions.double().flatten(1)
    scores = 100 * _ious(sums.reshape(resamples, classes, classes)).nanmean(1)
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = scores.quantile(ends).tolist()
    return low, high


def _ious(confusion: Tensor) -> Tensor:
    """(..., K, K) -> (..., K); NaN where a class does not occur."""
    hits = confusion.diagonal(dim1=-2, dim2=-1)
    return hits / (confusion.sum(-1) + confusion.sum(-2) - hits)


# -- segmenters ---------------------------------------------------------------------------


def _torchvision(name: str) -> Callable[..., nn.Module]:
    def build(num_classes: int) -> nn.Module:
        # seconds, so not before it is needed
        segmentation = require("torchvision.models.segmentation", "metrics")
        module: nn.Module = getattr(segmentation, name)(
            weights=None, weights_backbone=None, num_classes=num_classes
        )
        return module

    return build


SEGMENTERS: dict[str, Callable[..., nn.Module]] = {
    name: _torchvision(name) for name in ("lraspp_mobilenet_v3_large", "fcn_resnet50")
}
IMAGENET: tuple[Channels, Channels] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Source: the published DRN weights were trained with these statistics of Cityscapes
CITYSCAPES_STATISTICS: tuple[Channels, Channels] = (
    (0.29010095242892997, 0.32808144844279574, 0.28696394422942517),
    (0.1829540508368939, 0.18656561047509476, 0.18447508988480435),
)


def build_segmenter(arch: str, classes: int) -> nn.Module:
    """An entry of `SEGMENTERS` with random weights; nothing is downloaded."""
    build = lookup(SEGMENTERS, arch, "segmenter")
    return build(num_classes=classes)


def normalise(photos: Tensor, statistics: tuple[Channels, Channels] = IMAGENET) -> Tensor:
    """Photos (N, 3, H, W) with values 0 .. 255 -> float32 with these means and deviations."""
    mean, deviation = (
        torch.tensor(values, device=photos.device)[:, None, None] for values in statistics
    )
    return (photos.float() / 255 - mean) / deviation


def resize_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Every channel at another resolution, as Pillow's BILINEAR does it on floats.

    A triangle over neighbouring pixel centres, widened where the result is the smaller one.

    Args:
        logits: (K, h, w) float.
        size: Height and width of the result.
    """
    if logits.shape[1:] == size:
        return logits
    return nn.functional.interpolate(
        logits[None], size, mode="bilinear", align_corners=False, antialias=True
    )[0]


@final
@dataclass
class Judge:
    """A segmenter that scores generated photos.

    Attributes:
        name: What a score is called after.
        module: Normalised photos (N, 3, H, W) -> logits (N, K, H', W'); in evaluation mode.
        palette: Colours of label images.
        statistics: Means and deviations of the photos that it was trained on.
        size: Side to which photos are resized before it reads them; None: as they are.
        real: What it reaches on real photos (accuracy, miou in percent, num_images, split), or
            nothing where that is not known.
    """

    name: str
    module: nn.Module
    palette: Palette
    statistics: tuple[Channels, Channels] = IMAGENET
    size: int | None = None
    real: dict[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        """K."""
        return self.palette.num_classes

    @property
    def accuracy_on_real(self) -> float | None:
        """Pixel accuracy on real photos in percent."""
        return self.real.get("accuracy")

    @property
    def miou_on_real(self) -> float | None:
        """Intersection over union on real photos in percent, the mean over classes."""
        return self.real.get("miou")

    def confusions(self, photos: Tensor, labels: Tensor) -> Tensor:
        """One confusion matrix for each photo, (N, K, K) int64 by true and predicted class.

        Photos are read one at a time, so neither the memory nor any rounding depends on how many
        come at once. Predictions are made at the resolution of the labels. With the Cityscapes
        network and its full-resolution train ids (1024 x 2048), the sum over images gives the
        published protocol.

        Args:
            photos: (N, 3, H, W) uint8.
            labels: Label images (N, 3, H', W') uint8, or class numbers (N, H', W') or
                (N, 1, H', W') where 255 is ignored.

        Raises:
            DataError: There are not as many labels as photos.
        """
        if len(photos) != len(labels):
            raise DataError(f"{len(photos)} photos cannot be scored with {len(labels)} labels")
        matrices = torch.zeros(len(photos), self.classes, self.classes, dtype=torch.int64)
        for matrix, photo, label in zip(matrices, photos, labels, strict=True):
            matrix += self._confusion(photo, label)
        return matrices

    def _confusion(self, photo: Tensor, label: Tensor) -> Tensor:
        if label.ndim == 3:
            label = self.palette.classes(label[None])[0] if label.shape[0] == 3 else label[0]
        predicted = self.predict(photo, label.shape)
        return confusion_matrix(predicted, label.to(predicted.device), self.classes)

    def predict(self, photo: Tensor, size: Sequence[int]) -> Tensor:
        """The classes that it sees in one photo, (3, H, W) uint8 -> (*size,) int64."""
        height, width = size
        return resize_logits(self.logits(photo), (height, width)).max(0).indices

    @torch.no_grad()
    def logits(self, photo: Tensor) -> Tensor:
        """One photo, (3, H, W) uint8 -> (K, H', W') float32."""
        device = next(self.module.parameters()).device
        values = photo[None].to(device).float()
        if self.size is not None and values.shape[2:] != (self.size, self.size):
            side = (self.size, self.size)
            values = nn.functional.interpolate(
                values, side, mode="bicubic", align_corners=False, antialias=True
            ).clamp_(0, 255)
        output = self.module(normalise(values, self.statistics))
        logits: Tensor = output["out"] if isinstance(output, dict) else output
        return logits[0].float()


# -- files --------------------------------------------------------------------------------


def save_judge(path: Path, judge: Judge, arch: str, progress: dict[str, Any]) -> None:
    """Write a trained segmenter with all that `load_judge` needs.

    Args:
        path: A safetensors file.
        judge: Its module is an entry of `SEGMENTERS`.
        arch: The name of that entry.
        progress: How long it was trained.
    """
    header = {
        "segmenter": {
            "arch": arch,
            "palette": judge.palette.colours,
            "num_classes": judge.classes,
            "size": judge.size,
            "real": judge.real,
        },
        "progress": progress,
    }
    save_tensors(path, judge.module.state_dict(), header)


def load_judge(path: Path, device: torch.device | None = None) -> Judge:
    """A segmenter from a run folder, its weights file, or the published Cityscapes weights.

    Args:
        path: A folder that `gancompress segmenter` wrote, a safetensors file from one, or
            `drn-d-105_ms_cityscapes.pth`.
        device: Where it computes; the CPU by default.

    Raises:
        CheckpointError: It is none of these.
    """
    judge = _load_drn(path) if path.suffix in (".pth", ".pt") else _load_trained(path)
    judge.module.to(device or torch.device("cpu")).eval().requires_grad_(False)
    return judge


def _load_drn(path: Path) -> Judge:
    assert CITYSCAPES.num_classes == CITYSCAPES_CLASSES
    return Judge("drn_d_105", load_drn(path), CITYSCAPES, CITYSCAPES_STATISTICS)


def _load_trained(path: Path) -> Judge:
    file = path / "weights.safetensors" if path.is_dir() else path
    tensors, header = load_tensors(file)
    facts = header.get("segmenter")
    if not isinstance(facts, dict):
        raise CheckpointError(
            f"{path}: not a segmenter.\n  Give a run folder of `gancompress segmenter`, or "
            "drn-d-105_ms_cityscapes.pth."
        )
    try:
        arch, size = str(facts["arch"]), int(facts["size"])
        palette = Palette(tuple((int(r), int(g), int(b)) for r, g, b in facts["palette"]))
        module = build_segmenter(arch, palette.num_classes)
        module.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{file}: not a segmenter of this version: {reason}") from None
    return Judge(arch, module, palette, size=size, real=dict(facts.get("real") or {}))
