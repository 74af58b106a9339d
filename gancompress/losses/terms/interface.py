"""What a term of the distillation loss is, and what it is shown."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from gancompress.config import DistillLossOptions
from gancompress.elastic import capture
from gancompress.errors import ConfigError
from gancompress.losses import judged
from gancompress.losses.perceptual import PerceptualLoss
from gancompress.models import compared_layers

Need = Literal["activations", "backbone", "discriminator"]
C = TypeVar("C")
T = TypeVar("T")


@dataclass(frozen=True)
class Tap:
    """Two layers whose activations are compared.

    Attributes:
        student: Layer of the student.
        teacher: Layer of the teacher.
        width: Channels of the student's activations there, at full width.
        channels: Of the teacher's.
    """

    student: str
    teacher: str
    width: int
    channels: int

    def check(self, ours: torch.Size, theirs: torch.Size) -> None:
        """Refuse activations that cannot be compared place by place.

        Args:
            ours: (N, C, H, W) of the student's.
            theirs: Of the teacher's.

        Raises:
            ConfigError: Height or width differ.
        """
        if ours[2:] != theirs[2:]:
            raise ConfigError(
                f"loss.taps: '{self.student}' of the student gives {ours[2]}x{ours[3]} "
                f"activations, '{self.teacher}' of the teacher {theirs[2]}x{theirs[3]}; "
                "name layers of one size"
            )


class View(ABC):
    """A network that a step trains."""

    @property
    def is_largest(self) -> bool:
        """Whether the others of its step may imitate it."""
        return True

    @abstractmethod
    def __call__(self, x: Tensor, layers: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """Translate (N, C, H, W), and give the activations of some layers by name."""

    @abstractmethod
    def narrow(self, weight: Tensor, layer: str) -> Tensor:
        """Of a convolution (C_out, C_in, 1, 1) after a layer, what is for the channels in use."""


@dataclass(frozen=True)
class Observers:
    """Frozen networks in whose activations images are compared.

    Attributes:
        backbone: None where no term needs it.
        discriminator: None where no term needs it.
        paired: Whether the discriminator sees input and image together.
        autocast: Context in which networks run.
    """

    backbone: PerceptualLoss | None
    discriminator: nn.Module | None
    paired: bool
    autocast: Callable[[], AbstractContextManager[object]]


@dataclass
class _Seen(ABC):
    """Images and what networks make of them, computed at most once and only where it is asked for.

    Attributes:
        inputs: What is translated, (N, 3, H, W) in [-1, 1].
        image: The translation, (N, 3, H, W) float32 in [-1, 1].
        activations: The generator's at the taps, (N, C, H, W) each; None where it lacks the layer.
        observers: Networks that look at the image.
    """

    inputs: Tensor
    image: Tensor
    activations: Sequence[Tensor | None]
    observers: Observers

    @cached_property
    def features(self) -> list[Tensor]:
        """The backbone's activations of the image, (N, C, H, W) float32 each, shallow to deep."""
        assert self.observers.backbone is not None
        with self.observers.autocast():
            return self.observers.backbone.activations(self.image)

    @cached_property
    def judged(self) -> list[Tensor]:
        """The discriminator's inner activations of the image, (N, C, H, W) float32 each."""
        judge = self.observers.discriminator
        assert judge is not None
        layers = compared_layers(judge)
        with self.observers.autocast(), capture(judge, layers) as found:
            judge(judged(self.inputs, self.image, self.observers.paired))
        return [found[name].float() for name in layers]


@dataclass
class Goal(_Seen):
    """What the subnets of one step are to make; nothing in it has a gradient.

    Attributes:
        activations: The teacher's at all taps.
        rng: Source of whatever a term draws at random in this step.
    """

    activations: list[Tensor]
    rng: torch.Generator


@dataclass
class Output(_Seen):
    """What one subnet has made.

    Attributes:
        view: The subnet.
        largest: The largest subnet's image of this step, detached; None for that subnet itself, and
            where the step does not train it before this one.
    """

    view: View
    largest: Tensor | None

    def compared(self, wanted: Sequence[T]) -> Iterator[tuple[int, Tensor, T]]:
        """Number and activations of each tap that there is, and what they are compared with."""
        for number, (ours, other) in enumerate(zip(self.activations, wanted, strict=True)):
            if ours is not None:
                yield number, ours, other

    def total(self, distances: Sequence[Tensor]) -> Tensor:
        """The sum of what taps give; 0 where the subnet has none of them."""
        return torch.stack([*distances]).sum() if distances else self.image.new_zeros(())


@dataclass(frozen=True)
class Setting:
    """What terms are built from.

    Attributes:
        loss: The section `loss` of the options.
        inplace: Weight of the largest subnet as a teacher.
        batch_size: Images in a step.
        taps: Layers whose activations are compared; none where no term needs them.
        inherited: Whether the largest subnet started as the teacher itself.
        observers: Networks that look at images.
    """

    loss: DistillLossOptions
    inplace: float
    batch_size: int
    taps: tuple[Tap, ...]
    inherited: bool
    observers: Observers


class Term(ABC, Generic[C]):
    """How far the output of a subnet is from the goal of its step.

    Attributes:
        needs: What has to be computed for it besides the images.
        trained: Modules of its own that are trained with the student; names must not clash.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    trained: Mapping[str, nn.Module] = {}

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    @abstractmethod
    def prepare(self, goal: Goal) -> C:
        """What all subnets of the step are compared with; called without gradients."""

    @abstractmethod
    def __call__(self, output: Output, context: C) -> Tensor:
        """A scalar that is smaller the nearer the output is; called outside of autocast."""
