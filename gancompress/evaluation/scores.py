"""Scores of evaluated images: distances between sets, paired scores, mIoU."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gancompress.data import ImageSet
from gancompress.evaluation.images import EvaluatedImages
from gancompress.metrics import DISTANCES, PAIRED
from gancompress.metrics.distances import Estimate, bootstrap_estimate, mean_estimate
from gancompress.metrics.features import FeatureNetwork
from gancompress.metrics.perceptual import Lpips
from gancompress.metrics.segmentation import Judge, mean_iou, pixel_accuracy
from gancompress.metrics.statistics import real_features

CHUNK = 16
MIN_FOR_DISTANCES = 2  # images of each side


@dataclass(frozen=True)
class Score:
    """One number of one subject, how sure it is, and what it was measured on.

    Attributes:
        name: Such as `kid[mobilenet_v1_0.75]` or `truth_lpips[alex]`.
        estimate: Value and 95 % interval.
        num_images: Images that were scored.
        against: What they were compared with, in words.
        lower_is_better: Direction.
        decides: False where another score of the same kind is the one to trust.
        scale: What tables multiply the value by.
    """

    name: str
    estimate: Estimate
    num_images: int
    against: str
    lower_is_better: bool
    decides: bool = True
    scale: float = 1.0

    def as_json(self) -> dict[str, Any]:
        """The same for `--json`; values are not scaled, and what is not known is null."""
        return {
            "value": _or_null(self.estimate.value),
            "low": _or_null(self.estimate.low),
            "high": _or_null(self.estimate.high),
            "num_images": self.num_images,
            "against": self.against,
            "lower_is_better": self.lower_is_better,
            "decides": self.decides,
        }


def _or_null(number: float) -> float | None:
    return None if math.isnan(number) else number


@dataclass(frozen=True)
class Instruments:
    """The networks that judge.

    Attributes:
        features: Of distances between sets.
        lpips: Of perceptual distances.
        judge: A segmenter for mIoU; the inputs are then the labels.
        cache: Folder for features of real images; the user's cache folder by default.
        seed: Of the bootstrap.
    """

    features: Sequence[FeatureNetwork] = ()
    lpips: Sequence[Lpips] = ()
    judge: Judge | None = None
    cache: Path | None = None
    seed: int = 0


@dataclass
class _Scorer:
    images: EvaluatedImages
    instruments: Instruments
    real: dict[str, Tensor] = field(default_factory=dict)  # by the network's digest

    def distances(self, subject: Tensor) -> Iterator[Score]:
        """Between the set of images and the set of real ones, for each feature network."""
        real = self.images.real
        if real is None or min(len(subject), len(real)) < MIN_FOR_DISTANCES:
            return
        for network in self.instruments.features:
            theirs = self._real_features(network, real)
            ours = network(subject)
            seed, against = self.instruments.seed, f"{len(real)} real images"
            for kind, distance in DISTANCES.items():
                decides = min(len(ours), len(theirs)) >= distance.min_to_decide
                estimate, name = distance.estimate(ours, theirs, seed), f"{kind}[{network.name}]"
                yield Score(name, estimate, len(ours), against, True, decides, distance.scale)

    def _real_features(self, network: FeatureNetwork, real: ImageSet) -> Tensor:
        if network.digest not in self.real:
            self.real[network.digest] = real_features(network, real, self.instruments.cache)
        return self.real[network.digest]

    def paired(self, subject: Tensor, reference: str, others: Tensor) -> Iterator[Score]:
        """Image by image, with the teacher's outputs or the truth."""
        for name, metric in PAIRED.items():
            if metric.applies(*subject.shape[-2:]):
                values = _in_chunks(metric.per_image, subject, others)
                yield self._paired(f"{reference}_{name}", values, metric.lower_is_better)
        for lpips in self.instruments.lpips:
            values = _in_chunks(lpips, subject, others)
            yield self._paired(f"{reference}_{lpips.name}", values, True)

    def _paired(self, name: str, values: Tensor, lower_is_better: bool) -> Score:
        estimate = mean_estimate(values, seed=self.instruments.seed)
        return Score(name, estimate, len(values), name.partition("_")[0], lower_is_better)

    def segmentation(self, subject: Tensor) -> Iterator[Score]:
        """Mean IoU between what the judge reads in the images and their labels."""
        judge = self.instruments.judge
        if judge is None:
            return
        confusions = torch.cat(
            [
                judge.confusions(photos, labels)
                for photos, labels in zip(
                    subject.split(CHUNK), self.images.inputs.split(CHUNK), strict=True
                )
            ]
        ).double()

        def statistic(weights: Tensor) -> float:
            return mean_iou((confusions * weights[:, None, None]).sum(0))[0]

        def accuracy(weights: Tensor) -> float:
            return pixel_accuracy((confusions * weights[:, None, None]).sum(0))

        for name, measure in (("miou", statistic), ("pixel_accuracy", accuracy)):
            estimate = bootstrap_estimate(measure, len(subject), seed=self.instruments.seed)
            title = f"{name}[{judge.name}]"
            yield Score(title, estimate, len(subject), "labels", lower_is_better=False)


def _in_chunks(
    per_image: Callable[[Tensor, Tensor], Tensor], images: Tensor, others: Tensor
) -> Tensor:
    pairs = zip(images.split(CHUNK), others.split(CHUNK), strict=True)
    return torch.cat([per_image(one, other) for one, other in pairs])


def all_scores_of(images: EvaluatedImages, instruments: Instruments) -> dict[str, dict[str, Score]]:
    """Every score that applies, by subject and name.

    Subjects are those of `images.outputs`; `input`, what the distance was before the translation
    (unpaired data); and `truth`, what the judge reads in the real photos (paired data).

    Args:
        images: What to score.
        instruments: The networks that judge.

    Raises:
        DataError: A real image is one flat colour, or features are not finite.
    """
    scorer = _Scorer(images, instruments)
    teacher = images.outputs.get("teacher")
    found: dict[str, list[Score]] = {}
    for subject, outputs in images.outputs.items():
        scores = [*scorer.distances(outputs), *scorer.segmentation(outputs)]
        if images.truth is not None:
            scores += scorer.paired(outputs, "truth", images.truth)
        if teacher is not None and subject != "teacher":
            scores += scorer.paired(outputs, "teacher", teacher)
        found[subject] = scores
    if not images.paired and images.input_kind == images.output_kind:
        found["input"] = list(scorer.distances(images.inputs))
    elif images.truth is not None:
        found["truth"] = list(scorer.segmentation(images.truth))
    return {
        subject: {score.name: score for score in scores}
        for subject, scores in found.items()
        if scores
    }
