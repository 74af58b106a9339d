"""Scores of images; both sides are uint8 as a file would hold them.

Paired scores (`PAIRED`, LPIPS) compare image by image, with a teacher's outputs or with the truth.
Distances between sets (`DISTANCES`) compare features (`features`) of outputs and real images.
`segmentation` lets a judge read labels in generated photos.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from gancompress.metrics.distances import (
    MIN_FOR_FID,
    Estimate,
    RealSet,
    frechet_estimate,
    kernel_estimate,
)
from gancompress.metrics.pixels import (
    WINDOW,
    absolute_errors,
    ms_ssim_applies,
    ms_ssims,
    psnrs,
    ssims,
)
from gancompress.tables import lookup

Reference = Literal["teacher", "truth"]


@dataclass(frozen=True)
class PairedScore:
    """A score of each image of a pair.

    Attributes:
        per_image: From (images, others), both (N, C, H, W) uint8, to (N,) float64.
        lower_is_better: Direction.
        applies: Whether images of this height and width are large enough.
    """

    per_image: Callable[[Tensor, Tensor], Tensor]
    lower_is_better: bool
    applies: Callable[[int, int], bool] = lambda height, width: True

    def __call__(self, images: Tensor, others: Tensor) -> float:
        """Mean over all images."""
        return float(self.per_image(images, others).mean())


def _holds_window(height: int, width: int) -> bool:
    return min(height, width) >= WINDOW


PAIRED: dict[str, PairedScore] = {
    "mae": PairedScore(absolute_errors, lower_is_better=True),
    "psnr": PairedScore(psnrs, lower_is_better=False),
    "ssim": PairedScore(ssims, lower_is_better=False, applies=_holds_window),
    "ms_ssim": PairedScore(ms_ssims, lower_is_better=False, applies=ms_ssim_applies),
}


@dataclass(frozen=True)
class SetDistance:
    """A distance between features of a set of images and of real ones; lower is better.

    Attributes:
        of_features: From a set's features (N, D) float64 and the real ones to the distance.
        estimate: The same with its interval, from features of both and a seed.
        min_to_decide: Images of each side below which it is reported and decides nothing.
        scale: What tables multiply it by.
    """

    of_features: Callable[[RealSet, Tensor], float]
    estimate: Callable[[Tensor, Tensor, int], Estimate]
    min_to_decide: int = 0
    scale: float = 1.0


DISTANCES: dict[str, SetDistance] = {
    "kid": SetDistance(
        RealSet.kernel, lambda a, b, seed: kernel_estimate(a, b, seed=seed), scale=1000.0
    ),
    "fid": SetDistance(
        RealSet.frechet, lambda a, b, seed: frechet_estimate(a, b, seed=seed), MIN_FOR_FID
    ),
}
"""Names of scores are these with the features' name, such as `kid[inception]`."""


REFERENCES: tuple[Reference, ...] = ("teacher", "truth")
"""Whose images outputs are compared with; names of scores begin with it: `teacher_mae`."""


def paired_names() -> list[str]:
    """Every paired score against every reference."""
    return [f"{reference}_{name}" for reference in REFERENCES for name in PAIRED]


def metric(name: str) -> PairedScore:
    """The score of a name such as `teacher_mae`."""
    lookup(dict.fromkeys(paired_names()), name, "metric")
    return PAIRED[name.partition("_")[2]]


def all_scores(outputs: Tensor, references: dict[str, Tensor]) -> dict[str, float]:
    """Means of every paired score that there are references and large enough images for."""
    return {
        f"{reference}_{name}": score(outputs, references[reference])
        for reference in REFERENCES
        if reference in references
        for name, score in PAIRED.items()
        if score.applies(*outputs.shape[-2:])
    }
