"""Distances between images; both sides are uint8 as a file would hold them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from gancompress.tables import lookup


def mean_absolute_error(images: Tensor, others: Tensor) -> float:
    """Mean |difference| on the scale where images are in [-1, 1]; (N, C, H, W) uint8 each."""
    return float((images.float() - others.float()).abs().mean() / 127.5)


def psnr(images: Tensor, others: Tensor) -> float:
    """Mean over images of the peak signal-to-noise ratio in dB, at most 100.

    Args:
        images: (N, C, H, W) uint8.
        others: The same shape.
    """
    errors = (images.float() - others.float()).square().flatten(1).mean(1).clamp_min(6.5e-6)
    return float((10 * (255**2 / errors).log() / math.log(10)).clamp(max=100).mean())


@dataclass(frozen=True)
class Metric:
    """A score of a generator's outputs.

    Attributes:
        distance: From (outputs, references), both (N, C, H, W) uint8.
        reference: Whose images the outputs are compared with.
        lower_is_better: Direction.
    """

    distance: Callable[[Tensor, Tensor], float]
    reference: Literal["teacher", "truth"]
    lower_is_better: bool


METRICS: dict[str, Metric] = {
    "teacher_mae": Metric(mean_absolute_error, "teacher", lower_is_better=True),
    "teacher_psnr": Metric(psnr, "teacher", lower_is_better=False),
    "truth_mae": Metric(mean_absolute_error, "truth", lower_is_better=True),
    "truth_psnr": Metric(psnr, "truth", lower_is_better=False),
}


def metric(name: str) -> Metric:
    """Entry of `METRICS`."""
    return lookup(METRICS, name, "metric")


def all_scores(outputs: Tensor, references: dict[str, Tensor]) -> dict[str, float]:
    """Every metric whose reference images there are."""
    return {
        name: entry.distance(outputs, references[entry.reference])
        for name, entry in METRICS.items()
        if entry.reference in references
    }
