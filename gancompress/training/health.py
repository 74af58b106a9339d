"""What goes wrong in a training without an error: steps that are left out, and alarms."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor

from gancompress.distributed import average_gradients, gradients_of

logger = logging.getLogger(__name__)

NOTHING = 2.0
"""Mean difference of two images, in levels of 0 to 255, that nobody sees."""
SOMETHING = 10.0
"""Mean difference that everybody sees."""
SATURATED = 0.5
"""Share of the values that are 0 or 255, beyond that of the wanted images."""
WORSE_THAN_FLAT = 1.5
"""Distance in shares of a flat colour's from which on nothing can have been learnt."""
MOVED_AWAY = 1.5
"""Distance in shares of the best one."""
BEGUN = 1000
"""Images after which a network that makes flat ones will not learn any more."""
DECIDED = 0.01
"""Loss of a discriminator that is never wrong; one that has a task has 0.2 or more (lsgan)."""


class StepSkipped(Exception):  # noqa: N818 - not an error as long as it is rare
    """A gradient is not finite; no weight was changed."""


def take_step(optimisers: Collection[torch.optim.Optimizer]) -> None:
    """Average gradients over the ranks, and update what the optimisers train.

    Raises:
        StepSkipped: A gradient is NaN or infinite; all weights are as they were. Adam would never
            get rid of it.
    """
    average_gradients(optimisers)
    if not bool(torch.isfinite(torch.nn.utils.get_total_norm(gradients_of(optimisers)))):
        raise StepSkipped
    for optimiser in optimisers:
        optimiser.step()


class Alarm(StrEnum):
    """What is said about a training that runs, but does not train."""

    FLAT = "every output is one flat colour"
    ALIKE = "the outputs are alike, whatever the input"
    UNCHANGED = "the outputs are the inputs"
    SATURATED = "most values of the outputs are at the ends of the range"
    WORSE_THAN_FLAT = "the outputs are worse than one flat colour"
    MOVED_AWAY = "the distance to what is wanted grows"
    DISCRIMINATOR = "the discriminator is never wrong, so the generator learns nothing from it"


NO_RESULT = ({Alarm.FLAT}, {Alarm.ALIKE}, {Alarm.WORSE_THAN_FLAT, Alarm.SATURATED})
"""Signs of a training that diverged; an untrained network is worse than a flat colour, too."""


def is_fatal(found: set[Alarm]) -> bool:
    """Whether a training that ends so has no result."""
    return any(kind <= found for kind in NO_RESULT)


@dataclass(frozen=True)
class Samples:
    """What a task's network makes of held-out images.

    Attributes:
        sheet: For people, (3, H, W) uint8.
        inputs: Previews, (N, 3, H, W) uint8.
        outputs: The same of what the network makes; None where that is no picture.
        wanted: The same of what it should make; None where nobody knows.
    """

    sheet: Tensor
    inputs: Tensor
    outputs: Tensor | None = None
    wanted: Tensor | None = None


def alarms(samples: Samples) -> set[Alarm]:
    """What is wrong with images, at one point of a training."""
    if samples.outputs is None:
        return set()
    inputs, outputs = samples.inputs.float(), samples.outputs.float()
    wanted = None if samples.wanted is None else samples.wanted.float()
    reference = inputs if wanted is None else wanted
    found = set()
    if _contrast(outputs) < NOTHING and _contrast(reference) > SOMETHING:
        found.add(Alarm.FLAT)
    elif (
        _spread(outputs) < NOTHING and _spread(inputs) > SOMETHING and _spread(reference) > NOTHING
    ):
        found.add(Alarm.ALIKE)
    if _at_the_ends(outputs) > SATURATED + _at_the_ends(reference):
        found.add(Alarm.SATURATED)
    if wanted is not None:
        if outputs.shape == inputs.shape and _distance(outputs, inputs) < NOTHING:
            found |= {Alarm.UNCHANGED} if _distance(wanted, inputs) > SOMETHING else set()
        flat = wanted.mean((0, 2, 3), keepdim=True)
        if _distance(outputs, wanted) > WORSE_THAN_FLAT * max(_distance(flat, wanted), SOMETHING):
            found.add(Alarm.WORSE_THAN_FLAT)
    return found


def _contrast(images: Tensor) -> float:
    """Mean deviation within an image, in levels, of the image that has most."""
    return float((images - images.mean((2, 3), keepdim=True)).abs().mean((1, 2, 3)).max())


def _spread(images: Tensor) -> float:
    """Mean deviation from the mean image, in levels; that of a single image is infinite."""
    if len(images) < 2:
        return float("inf")
    return float((images - images.mean(0, keepdim=True)).abs().mean())


def _at_the_ends(images: Tensor) -> float:
    return float(((images == 0) | (images == 255)).float().mean())


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().mean())


@dataclass
class Health:
    """Tells what is wrong twice in a row, once.

    One bad evaluation is no alarm: a network that has hardly begun makes flat images.

    Attributes:
        name: Of the run, for messages.
    """

    name: str
    _lasting: dict[str, set[Alarm]] = field(default_factory=dict)
    _latest: dict[str, set[Alarm]] = field(default_factory=dict)
    _best: dict[str, float] = field(default_factory=dict)
    _was_good: bool = False
    _images: int = 0

    def see_losses(self, means: Mapping[str, float], images: int) -> None:
        """Take note of mean losses by name; those of discriminators begin with D."""
        judges = [value for name, value in means.items() if name.startswith("D")]
        self._note(
            "losses", [Alarm.DISCRIMINATOR] if max(judges, default=1) < DECIDED else [], images
        )

    def see_images(self, samples: Samples, scores: Mapping[str, float], images: int) -> list[str]:
        """Take note of an evaluation; returns the names of what is wrong with it."""
        found = alarms(samples)
        self._images = images
        if self._moved_away(scores):
            found.add(Alarm.MOVED_AWAY)
        self._note("images", found, images)
        self._remember(found)
        return sorted(alarm.name for alarm in found)

    def _remember(self, found: set[Alarm]) -> None:
        self._latest["images"] = found
        self._was_good |= not is_fatal(found)

    def _moved_away(self, scores: Mapping[str, float]) -> bool:
        """Whether a mean absolute error, in [0, 2], is far above its best."""
        moved = False
        for name, score in scores.items():
            if name == "mae" or name.startswith("mae_"):
                best = self._best[name] = min(score, self._best.get(name, score))
                moved |= score > max(MOVED_AWAY * best, NOTHING * 2 / 255)
        return moved

    def _note(self, source: str, found: Iterable[Alarm], images: int) -> None:
        now = set(found)
        lasting = now & self._latest.get(source, set())
        for alarm in sorted(lasting - self._lasting.get(source, set())):
            logger.warning("%s, image %d: %s", self.name, images, alarm)
        self._latest[source], self._lasting[source] = now, lasting

    def restore(self, log: Iterable[Mapping[str, Any]]) -> None:
        """Know what the evaluations in a log have shown."""
        for entry in log:
            scores = {name: score for name, score in entry.items() if isinstance(score, float)}
            if "alarms" in entry or any(name.startswith("mae") for name in scores):
                names = set(map(str, entry.get("alarms", [])))
                self._moved_away(scores)
                self._remember({alarm for alarm in Alarm if alarm.name in names})

    @property
    def is_spoiled(self) -> bool:
        """Whether the latest images are no result, after some that were."""
        return self._was_good and is_fatal(self._latest.get("images", set()))

    @property
    def fatal(self) -> list[Alarm]:
        """What leaves no result: it came after good images, or lasts and is no mere beginning."""
        if self.is_spoiled:
            return sorted(self._latest["images"])
        found = self._lasting.get("images", set())
        begun = Alarm.SATURATED in found or self._images >= BEGUN
        return sorted(found) if begun and is_fatal(found) else []
