"""Scores of subnets on one fixed set of images, at little more than the cost of translating it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import torch
from torch import Tensor

from gancompress.data import RGB, Generator, ImageKind, ImageSet, Split, spread, translate_batches
from gancompress.data.translation import PIECE
from gancompress.elastic import Subnet, Supernet, ready_subnet
from gancompress.errors import GanCompressError, Interrupted
from gancompress.metrics import PAIRED, all_scores
from gancompress.metrics.distances import (
    Estimate,
    RealSet,
    mean_estimate,
)
from gancompress.metrics.statistics import real_features
from gancompress.search.compiled import CompiledSubnets, accelerated
from gancompress.search.quality import Measurement, Quality, load_quality
from gancompress.search.racing import Rival, checkpoints, expected_loss
from gancompress.search.trials import Trial

BESIDE = ("mae", "psnr")  # paired scores that are next to nothing beside a forward pass
ORDER_SEED = 0
PARTS = ("forward", "features", "distance")  # of the seconds that an evaluation takes
SEGMENT = 64  # images that are held as floats at once


@dataclass(frozen=True, eq=False)
class Evaluator:
    """Translates a set of images and scores what comes out.

    It never changes; one with another score, runtime or calibration is made by `replace`. The
    teacher runs once, at the first use; inputs, references and real features stay in memory.
    Images come in one shuffled order, so that the first of them stand for all.

    Attributes:
        net: The supernet, in evaluation mode.
        teacher: From (N, C, H, W) in [-1, 1] to images; never run again after the first use.
        inputs: (N, C, S, S) uint8.
        truth: Targets of the inputs, or None.
        batch_size: Images at a time.
        device: Where to run.
        calibration: Batches of training inputs for subnets with batch norms.
        quality: The score to measure; mean absolute distance to the teacher by default.
        targets: Real images of the target domain, for distances between sets.
        compiled: Subnets in a faster runtime; they run in eager PyTorch by default.
        exact_quality: The score in float32, where `quality` computes in fewer bits.
        known_real: Features of the real images, where they need not be computed from `targets`.
        kinds: What the inputs are, and what the teacher makes of them.
    """

    net: Supernet
    teacher: Generator
    inputs: Tensor
    truth: Tensor | None
    batch_size: int
    device: torch.device
    calibration: Sequence[Tensor] = ()
    quality: Quality = field(default_factory=lambda: load_quality("teacher_mae"))
    targets: ImageSet | None = None
    compiled: CompiledSubnets | None = None
    exact_quality: Quality | None = None
    known_real: RealSet | None = None
    kinds: tuple[ImageKind, ImageKind] = (RGB, RGB)
    _references: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise unless the score can be measured on these images; see `Quality.check`."""
        has_real = self.targets is not None or self.known_real is not None
        self.quality.check(self.truth is not None, has_real, min(self.size))

    @classmethod
    def of_split(
        cls, net: Supernet, teacher: Generator, split: Split, count: int | None,
        batch_size: int, device: torch.device,
    ) -> Evaluator:  # fmt: skip
        """An evaluator over a split, or over `count` images evenly spread in it."""
        total = len(split.inputs)
        indices = spread(total, count or total)
        inputs = split.inputs.take(indices)
        truth = None
        if split.paired and split.targets is not None:
            truth = split.targets.take(indices)
        return cls(
            net, teacher, inputs, truth, batch_size, device, targets=split.targets,
            kinds=(split.inputs.kind, split.output),
        )  # fmt: skip

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        height, width = self.inputs.shape[-2:]
        return height, width

    @property
    def runtime(self) -> str:
        """What subnets and the score's network run in."""
        if self.compiled is None:
            return "eager"
        label = self.compiled.runtime.label
        return f"{label}, features in eager" if self.quality.is_eager else label

    def compiled_as(self, compiled: CompiledSubnets | None) -> Evaluator:
        """The same evaluator with subnets and the network of the score in a runtime, if any."""
        if compiled is None:
            return self
        quality = exact = accelerated(self.quality, compiled.exact, self.size)
        if compiled.runtime is not compiled.exact and self.quality.network is not None:
            fast = accelerated(self.quality, compiled.runtime, self.size)
            quality = exact if fast.is_eager else fast
        return replace(self, compiled=compiled, quality=quality, exact_quality=exact)

    def in_float32(self) -> Evaluator:
        """The same evaluator in float32; itself where it computes so."""
        compiled = self.compiled
        if compiled is None or compiled.runtime is compiled.exact:
            return self
        exact = replace(compiled, runtime=compiled.exact)
        return replace(self, compiled=exact, quality=self.exact_quality or self.quality)

    @property
    def references(self) -> dict[str, Tensor]:
        """Teacher outputs and, for paired data, truth; (N, C, S, S) uint8."""
        if not self._references:
            self._references["teacher"] = self.translate(self.teacher)
            if self.truth is not None:
                self._references["truth"] = self.truth
        return self._references

    @cached_property
    def real(self) -> RealSet | None:
        """Features of the real images where the score needs them."""
        if self.quality.network is None or self.known_real is not None:
            return self.known_real
        assert self.targets is not None  # see `Quality.check`
        eager = replace(self.quality.network, compiled=None)  # the cache knows no runtimes
        return RealSet(real_features(eager, self.targets))

    def translate(self, generator: Generator) -> Tensor:
        """All images through a generator, (N, C, S, S) uint8, in the order of the inputs."""
        return translate_batches(generator, self.inputs, self.device, self.batch_size)

    @torch.inference_mode()
    def outputs(self, subnet: Subnet) -> Tensor:
        """Images of one subnet, (N, C, S, S) uint8."""
        generator = self._ready(subnet)
        return torch.cat([generator(chunk) for chunk in self.inputs.split(SEGMENT)])

    def _ready(self, subnet: Subnet) -> Callable[[Tensor], Tensor]:
        """A subnet, from uint8 to uint8 images."""
        source = f"subnet {subnet}"
        if self.compiled is not None:
            generator: Generator = self.compiled(subnet)
            return partial(translate_batches, generator, device=self.device, source=source)
        generator = ready_subnet(self.net, subnet, self.calibration)
        return partial(
            translate_batches, generator,
            device=self.device, batch_size=self.batch_size, source=source,
        )  # fmt: skip

    def scores(self, subnet: Subnet) -> dict[str, float]:
        """All paired scores that apply to one subnet."""
        return all_scores(self.outputs(subnet), self.references)

    @cached_property
    def _order(self) -> Tensor:
        return torch.randperm(len(self.inputs), generator=torch.Generator().manual_seed(ORDER_SEED))

    def prepare(self) -> None:
        """Compute what all evaluations share: references and real features.

        Raises:
            DataError: An image cannot be used.
        """
        self.references, self.real  # noqa: B018  # computed at the first use

    def attempt(self, subnet: Subnet, rivals: Sequence[Rival] = ()) -> Trial:
        """What `measure` gives; a trial that failed where it raises, so that a search goes on."""
        try:
            return self.measure(subnet, rivals)
        except Interrupted:
            raise
        except Exception as error:  # whatever a subnet, a runtime or a user's metric makes of it
            text = str(error) if isinstance(error, GanCompressError) else repr(error)
            macs = self.net.macs(subnet, self.size)
            return Trial(subnet, macs, math.inf, {}, complete=False, failure=text)

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
            generator = self._ready(subnet)
        made = Measurement(self.quality)
        beside: dict[str, list[Tensor]] = {}
        for start, stop in self._segments:
            chosen = self._order[start:stop]
            with clock("forward"):
                outputs = generator(self.inputs[chosen])
            with clock("distance"):
                _add_beside(beside, outputs, {k: v[chosen] for k, v in references.items()})
            with clock("features"):
                own = references.get(self.quality.reference)
                made.add(outputs, None if own is None else own[chosen])
            loss = expected_loss(made.losses.numpy(), rivals) if stop in self._checkpoints else None
            if loss is not None:
                scores = {self.quality.name: self.quality.sign * loss}
                return Trial(subnet, macs, loss, scores, stop, False, (), clock.seconds)
        with clock("distance"):
            loss = made.loss(self.real)
        scores = {name: float(torch.cat(parts).mean()) for name, parts in beside.items()}
        scores[self.quality.name] = self.quality.sign * loss
        values = tuple(made.losses.tolist())
        return Trial(subnet, macs, loss, scores, len(self.inputs), True, values, clock.seconds)

    @cached_property
    def _checkpoints(self) -> tuple[int, ...]:
        """Numbers of images after which a subnet may be given up."""
        return () if self.quality.is_distance else checkpoints(len(self.inputs))

    @cached_property
    def _segments(self) -> list[tuple[int, int]]:
        """Images that are translated together: always the same, whether there are rivals or not."""
        count = len(self.inputs)
        ends = sorted({*range(SEGMENT, count, SEGMENT), *self._checkpoints, count})
        return list(zip([0, *ends], ends, strict=False))

    def estimate(self, subnet: Subnet) -> Estimate:
        """The score of one subnet with its interval, on all images of this evaluator."""
        outputs = self.outputs(subnet)
        if self.quality.network is not None:
            assert self.real is not None
            features = self.quality.network(outputs)
            assert self.quality.distance is not None
            return self.quality.distance.estimate(features, self.real.features, 0)
        assert self.quality.per_image is not None
        return mean_estimate(
            self.quality.per_image(outputs, self.references[self.quality.reference])
        )


def _add_beside(
    found: dict[str, list[Tensor]], outputs: Tensor, references: dict[str, Tensor]
) -> None:
    for reference, images in references.items():
        for short in BESIDE:
            name = f"{reference}_{short}"
            pairs = zip(outputs.split(PIECE), images.split(PIECE), strict=True)
            found.setdefault(name, []).extend(PAIRED[short].per_image(*pair) for pair in pairs)


class _Clock:
    """Adds up what parts of an evaluation take."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - start
