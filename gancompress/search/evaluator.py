"""Scores of subnets on one fixed set of images, at little more than the cost of translating it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from gancompress.data import ImageSet, Split, spread, stack, to_float, to_uint8
from gancompress.elastic import Subnet, Supernet, ready_subnet
from gancompress.errors import DataError
from gancompress.metrics import METRICS, all_scores
from gancompress.metrics.distances import (
    Estimate,
    RealSet,
    frechet_estimate,
    kernel_estimate,
    mean_estimate,
)
from gancompress.metrics.statistics import real_features
from gancompress.search.quality import Measurement, Quality, load_quality
from gancompress.search.race import Rival, expected_loss, laps
from gancompress.search.trials import Trial

BESIDE = ("mae", "psnr")  # paired scores that are next to nothing beside a forward pass
ORDER_SEED = 0
CODE_VERSION = 2  # raised when the same images would get other scores


@dataclass
class Evaluator:
    """Translates a set of images and scores what comes out.

    The teacher runs once, at the first use; inputs, references and real features stay in memory.
    Images come in one shuffled order, so that the first of them stand for all.

    Attributes:
        net: The supernet, in evaluation mode.
        teacher: From (N, C, H, W) in [-1, 1] to images; never run again after the first use.
        inputs: (N, 3, S, S) uint8.
        truth: Targets of the inputs, or None.
        batch_size: Images at a time.
        device: Where to run.
        calibration: Batches of training inputs for subnets with batch norms.
        quality: The score to measure; mean absolute distance to the teacher by default.
        targets: Real images of the target domain, for distances between sets.
    """

    net: Supernet
    teacher: Callable[[Tensor], Tensor]
    inputs: Tensor
    truth: Tensor | None
    batch_size: int
    device: torch.device
    calibration: Sequence[Tensor] = ()
    quality: Quality = field(default_factory=lambda: load_quality("teacher_mae"))
    targets: ImageSet | None = None
    _references: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of_split(
        cls, net: Supernet, teacher: Callable[[Tensor], Tensor], split: Split, count: int | None,
        batch_size: int, device: torch.device,
    ) -> Evaluator:  # fmt: skip
        """An evaluator over a split, or over `count` images evenly spread in it."""
        total = len(split.inputs)
        indices = spread(total, count or total)
        inputs = stack(split.inputs, indices)
        truth = None
        if split.paired and split.targets is not None:
            truth = stack(split.targets, indices)
        return cls(net, teacher, inputs, truth, batch_size, device, targets=split.targets)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        height, width = self.inputs.shape[-2:]
        return height, width

    @property
    def references(self) -> dict[str, Tensor]:
        """Teacher outputs and, for paired data, truth; (N, 3, S, S) uint8."""
        if not self._references:
            self._references["teacher"] = self.translate(self.teacher)
            if self.truth is not None:
                self._references["truth"] = self.truth
        return self._references

    @cached_property
    def real(self) -> RealSet | None:
        """Features of the real images where the score needs them."""
        if self.quality.network is None:
            return None
        assert self.targets is not None  # see `check`
        return RealSet(real_features(self.quality.network, self.targets))

    @torch.inference_mode()
    def translate(self, generator: Callable[[Tensor], Tensor]) -> Tensor:
        """All images through a generator, (N, 3, S, S) uint8, in the order of the inputs."""
        outputs = []
        for chunk in self.inputs.split(self.batch_size):
            outputs.append(_as_file(generator(to_float(chunk).to(self.device))))
        return torch.cat(outputs)

    def outputs(self, subnet: Subnet) -> Tensor:
        """Images of one subnet, (N, 3, S, S) uint8."""
        return self.translate(ready_subnet(self.net, subnet, self.calibration))

    def scores(self, subnet: Subnet) -> dict[str, float]:
        """All metrics of `METRICS` that apply to one subnet."""
        return all_scores(self.outputs(subnet), self.references)

    @cached_property
    def _order(self) -> Tensor:
        return torch.randperm(len(self.inputs), generator=torch.Generator().manual_seed(ORDER_SEED))

    def check(self) -> None:
        """Raise unless the score can be measured on these images; see `Quality.check`."""
        self.quality.check(self.truth is not None, self.targets is not None, min(self.size))

    @torch.inference_mode()
    def measure(self, subnet: Subnet, rivals: Sequence[Rival] = ()) -> Trial:
        """Evaluate one subnet, or give it up when a rival is surely better.

        Args:
            subnet: Its widths.
            rivals: Subnets that cost no more, with their losses in this evaluator's order.

        Raises:
            DataError: An output is not finite.
        """
        clock = _Clock()
        macs = self.net.macs(subnet, self.size)
        references = self.references
        with clock("forward"):
            generator = ready_subnet(self.net, subnet, self.calibration)
        made = Measurement(self.quality)
        beside: dict[str, list[Tensor]] = {}
        stops = laps(len(self.inputs)) if rivals else ()
        done = 0
        for chosen in self._order.split(self.batch_size):
            with clock("forward"):
                fakes = generator(to_float(self.inputs[chosen]).to(self.device))
                outputs = _as_file(fakes, f"subnet {subnet}")
            with clock("features"):
                own = references.get(self.quality.reference)
                made.add(outputs, None if own is None else own[chosen])
            with clock("distance"):
                _add_beside(beside, outputs, {k: v[chosen] for k, v in references.items()})
            done, before = done + len(chosen), done
            if any(before < stop <= done for stop in stops):
                loss = expected_loss(made.losses.numpy(), rivals)
                if loss is not None:
                    scores = {self.quality.name: self.quality.sign * loss}
                    return Trial(subnet, macs, loss, scores, done, False, (), clock.seconds)
        with clock("distance"):
            loss = made.loss(self.real)
        scores = {name: float(torch.cat(parts).mean()) for name, parts in beside.items()}
        scores[self.quality.name] = self.quality.sign * loss
        values = tuple(made.losses.tolist())
        return Trial(subnet, macs, loss, scores, done, True, values, clock.seconds)

    def estimate(self, subnet: Subnet) -> Estimate:
        """The score of one subnet with its interval, on all images of this evaluator."""
        outputs = self.outputs(subnet)
        if self.quality.network is not None:
            assert self.real is not None
            features = self.quality.network(outputs)
            function = kernel_estimate if self.quality.name.startswith("kid") else frechet_estimate
            return function(features, self.real.features)
        assert self.quality.per_image is not None
        return mean_estimate(
            self.quality.per_image(outputs, self.references[self.quality.reference])
        )

    def fingerprint(self) -> str:
        """Hash of weights, images, score and code: scores made otherwise are not reused."""
        digest = hashlib.sha256(f"{CODE_VERSION} {self.quality.digest}".encode())
        for name, tensor in self.net.generator.state_dict().items():
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        digest.update(self.inputs.numpy().tobytes())
        for images in self.references.values():
            digest.update(images.numpy().tobytes())
        if self.real is not None:
            digest.update(self.real.features.numpy().tobytes())
        return digest.hexdigest()


def _as_file(images: Tensor, source: str = "a generator") -> Tensor:
    """What a file would hold, (n, 3, H, W) uint8; `source` is what errors call its maker.

    Raises:
        DataError: Values are not finite.
    """
    if not bool(torch.isfinite(images).all()):
        raise DataError(f"the output of {source} is not finite")
    return to_uint8(images.cpu()).expand(-1, 3, -1, -1)


def _add_beside(
    found: dict[str, list[Tensor]], outputs: Tensor, references: dict[str, Tensor]
) -> None:
    for reference, images in references.items():
        for short in BESIDE:
            name = f"{reference}_{short}"
            found.setdefault(name, []).append(METRICS[name].score.per_image(outputs, images))


class _Clock:
    """Adds up what parts of an evaluation take."""

    def __init__(self) -> None:
        self.seconds = {"forward": 0.0, "features": 0.0, "distance": 0.0}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - start
