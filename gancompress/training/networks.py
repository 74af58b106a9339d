"""What a distillation trains: a supernet, of which every step samples subnets, or one subnet."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gancompress.checkpoint.files import Json
from gancompress.checkpoint.network import describe_space
from gancompress.data import Generator
from gancompress.elastic import (
    FULL,
    Subnet,
    Supernet,
    Traced,
    calibrate,
    capture,
    ready_subnet,
    trace,
)
from gancompress.errors import ConfigError
from gancompress.losses.terms import View


@dataclass(frozen=True)
class SubnetView(View):
    """A subnet of a supernet, whose weights it shares."""

    net: Supernet
    subnet: Subnet

    @property
    def is_largest(self) -> bool:
        """See `View`."""
        return self.subnet == self.net.space.largest()

    def __call__(self, x: Tensor, layers: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """See `View`; activations of a smaller image are as large as those of the whole one."""
        image, found = self.net.with_features(x, self.subnet, layers)
        return image, _enlarged(found, self.net.space.resolution(self.subnet))

    def narrow(self, weight: Tensor, layer: str) -> Tensor:
        """See `View`."""
        parts = self.net.traced.outputs[layer]
        return parts.narrow(weight, 1, self.net.space.channels(self.subnet))


def _enlarged(features: dict[str, Tensor], resolution: int) -> dict[str, Tensor]:
    """Activations (N, C, H, W) at a resolution in per cent as large as those of the whole image.

    By nearest neighbours: the gradient of a squared distance is that to the mean of what lies
    around each position.
    """
    if resolution == FULL:
        return features
    return {
        name: F.interpolate(x, [side * FULL // resolution for side in x.shape[2:]], mode="nearest")
        for name, x in features.items()
    }


@dataclass(frozen=True)
class WholeView(View):
    """All of a generator, which runs at a resolution in per cent."""

    generator: nn.Module
    resolution: int = FULL

    def __call__(self, x: Tensor, layers: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """See `View`."""
        with capture(self.generator, layers) as features:
            image = self.generator(x)
        return image, _enlarged(features, self.resolution)

    def narrow(self, weight: Tensor, layer: str) -> Tensor:
        """See `View`."""
        return weight


@dataclass
class Student(ABC):
    """What is trained, and the teacher in the channel order that it starts from.

    Attributes:
        net: A supernet, or a plain generator.
        description: How to build the generator.
        stride: What H and W of images for student and teacher must be multiples of.
        teacher: The teacher; where the student inherits everything, its channels are sorted alike.
        inherited: Whether the student started as the teacher itself.
        example_shape: (N, C, H, W) of an input that both accept.
    """

    net: nn.Module
    description: Json
    stride: int
    teacher: nn.Module
    inherited: bool
    example_shape: tuple[int, ...]

    @property
    @abstractmethod
    def generator(self) -> nn.Module:
        """The plain generator that is saved."""

    @property
    @abstractmethod
    def traced(self) -> Traced:
        """The generator's channels."""

    @abstractmethod
    def channels(self, layers: Sequence[str]) -> list[int]:
        """Channels of the activations of some layers, at full width.

        Raises:
            ConfigError: There is no such layer, or its channels are not known.
        """

    @abstractmethod
    def translators(self, generator: nn.Module, batch: Tensor) -> dict[str, Generator]:
        """What is evaluated of a copy of the generator, by name, the largest network first.

        Args:
            generator: The copy, in evaluation mode.
            batch: Inputs (N, C, H, W) for the statistics of batch norms.
        """

    @abstractmethod
    def header(self) -> Json:
        """What the weights file says besides its network."""


@dataclass
class SupernetStudent(Student):
    """Distillation into a supernet."""

    net: Supernet

    @property
    def generator(self) -> nn.Module:
        """See `Student`."""
        return self.net.generator

    @property
    def traced(self) -> Traced:
        """See `Student`."""
        return self.net.traced

    def channels(self, layers: Sequence[str]) -> list[int]:
        """See `Student`."""
        for layer in layers:
            if layer not in self.traced.outputs:
                raise ConfigError(f"loss.taps: layer '{layer}' of the student has no elastic width")
        return [self.traced.outputs[layer].full for layer in layers]

    def translators(self, generator: nn.Module, batch: Tensor) -> dict[str, Generator]:
        """The largest, a middle and the smallest subnet."""
        space = self.net.space
        middle = space.subnet(d.choices[(len(d.choices) - 1) // 2] for d in space.dimensions)
        shown = {"largest": space.largest(), "middle": middle, "smallest": space.smallest()}
        net = Supernet(generator, torch.empty(self.example_shape), space=space).eval()
        return {name: ready_subnet(net, subnet, [batch]) for name, subnet in shown.items()}

    def header(self) -> Json:
        """The search space."""
        return {"space": describe_space(self.net.space)}


@dataclass
class SubnetStudent(Student):
    """Further training of a subnet that was extracted, and is a plain module.

    Attributes:
        subnet: Which one of the supernet that it is from.
    """

    subnet: Subnet

    @property
    def generator(self) -> nn.Module:
        """See `Student`."""
        return self.net

    @property
    def traced(self) -> Traced:
        """See `Student`."""
        return trace(self.net, self.example_shape)

    def channels(self, layers: Sequence[str]) -> list[int]:
        """See `Student`."""
        example = torch.zeros(self.example_shape, device=next(self.net.parameters()).device)
        found = activations(copy.deepcopy(self.net).eval(), example, tuple(layers))
        return [found[layer].shape[1] for layer in layers]

    def translators(self, generator: nn.Module, batch: Tensor) -> dict[str, Generator]:
        """The subnet itself."""
        calibrated = copy.deepcopy(generator)
        calibrate(calibrated, [batch])
        return {"subnet": calibrated}

    def header(self) -> Json:
        """The subnet."""
        return {"subnet": str(self.subnet)}


class _Enough(Exception):  # noqa: N818  # no error: ends a forward early
    """All wanted activations are there."""


@torch.no_grad()
def activations(module: nn.Module, x: Tensor, layers: tuple[str, ...]) -> dict[str, Tensor]:
    """Outputs of some layers (N, C, H, W) by name; the forward ends when the last one is there.

    Raises:
        ConfigError: The module has no such layer, or did not run it.
    """
    found: dict[str, Tensor] = {}
    hooks = []

    def keep(name: str) -> None:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            found[name] = output
            if len(found) == len(layers):
                raise _Enough

        try:
            hooks.append(module.get_submodule(name).register_forward_hook(hook))
        except AttributeError:
            raise ConfigError(
                f"loss.taps: the network has no layer '{name}'\n  Where the two networks differ, "
                "write student_layer:teacher_layer, or set loss.lambda_distill=0."
            ) from None

    try:
        for name in layers:
            keep(name)
        module(x)
    except _Enough:
        pass
    finally:
        for handle in hooks:
            handle.remove()
    missing = [name for name in layers if name not in found]
    if missing:
        raise ConfigError(f"loss.taps: the forward never runs '{missing[0]}'")
    return found
