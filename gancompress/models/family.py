"""What the toolkit knows of a kind of generator or discriminator; records stand in its file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from gancompress.config import DiscriminatorOptions, GeneratorOptions
from gancompress.errors import CheckpointError

Tensors = Mapping[str, Tensor]
Norm = Literal["instance", "batch", "none"]
LayerTie = tuple[tuple[str, ...], int]
"""Names of channel groups that share one number, and how many channels a unit of it is."""
ConfigSet = tuple[tuple[int, ...], ...]
"""Candidate widths of every number of a config string."""


@dataclass(frozen=True)
class Port:
    """An input or output of a generator.

    Attributes:
        name: What it is called.
        channels: Of its tensor (N, channels, H, W).
    """

    name: str
    channels: int

    def __str__(self) -> str:
        return f"{self.name} ({self.channels} channels)"


def _input(options: GeneratorOptions) -> tuple[Port, ...]:
    return (Port("image", options.channels[0]),)


def _output(options: GeneratorOptions) -> tuple[Port, ...]:
    return (Port("image", options.channels[1]),)


@dataclass(frozen=True)
class Family:
    """A kind of generator.

    Attributes:
        module: Its class, which nothing else builds.
        build: The untrained generator of an options section.
        takes: Shared keys of the section that it takes besides `name`, `input_nc`, `output_nc` and
            `ngf`.
        options: The class of its section, which may add keys of its own.
        stride: What H and W of an image must be multiples of.
        infer: The section that builds the network of these foreign tensors, apart from its widths,
            or None where they are of another family; raises CheckpointError where they are of this
            one but cannot be built. Families that differ in size alone share the function.
        inputs: Of the forward, in its order.
        outputs: Of the forward, in its order.
        student: Values of the section where a student is not its teacher's copy.
        ties: Channel groups (given in order of execution) that share a number of the config string.
        forms: Shorter config strings; see `SearchSpace`.
        config_sets: Published candidates for the numbers of the config string, by name.
        taps: Of the layers with elastic outputs (given by name in order of execution) those whose
            activations are matched where the options name none; by default four convolutions,
            evenly spread.
    """

    module: type[nn.Module]
    build: Callable[[GeneratorOptions], nn.Module]
    takes: frozenset[str]
    stride: int
    infer: Callable[[Tensors], GeneratorOptions | None]
    options: type[GeneratorOptions] = GeneratorOptions
    inputs: Callable[[GeneratorOptions], tuple[Port, ...]] = _input
    outputs: Callable[[GeneratorOptions], tuple[Port, ...]] = _output
    student: Mapping[str, Any] = field(default_factory=dict)
    ties: Callable[[Sequence[str]], list[LayerTie]] = lambda groups: []
    forms: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    config_sets: Mapping[str, ConfigSet] = field(default_factory=dict)
    taps: Callable[[Sequence[str]], tuple[str, ...]] | None = None


def leaky_relus(discriminator: nn.Module) -> list[str]:
    """Names of the layers that activate the inner convolutions of a PatchGAN."""
    return [name for name, m in discriminator.named_modules() if isinstance(m, nn.LeakyReLU)]


@dataclass(frozen=True)
class DiscriminatorFamily:
    """A kind of discriminator.

    Attributes:
        module: Its class, which nothing else builds.
        build: The untrained discriminator of an options section for images of so many channels.
        takes: Shared keys of the section that it takes besides `name` and `ndf`.
        infer: The section and the channels of the judged image of these foreign tensors, or None
            where they are of another family; raises CheckpointError where they are of this one but
            cannot be built.
        options: The class of its section, which may add keys of its own.
        layers: Names of the inner layers whose activations a loss compares.
    """

    module: type[nn.Module]
    build: Callable[[DiscriminatorOptions, int], nn.Module]
    takes: frozenset[str]
    infer: Callable[[Tensors], tuple[DiscriminatorOptions, int] | None]
    options: type[DiscriminatorOptions] = DiscriminatorOptions
    layers: Callable[[nn.Module], list[str]] = leaky_relus


def kernel(tensors: Tensors, name: str) -> Tensor:
    """The weight of a convolution among foreign tensors.

    Raises:
        CheckpointError: It is missing or has another shape.
    """
    tensor = tensors.get(name)
    if tensor is None or tensor.ndim != 4 or not tensor.numel():
        raise CheckpointError(f"{name} is missing or is not the weight of a convolution")
    return tensor


def infer_norm(tensors: Tensors, norm_layer: str, conv_layer: str) -> Norm:
    """The norm of foreign tensors: instance norm has none itself, but the layer before a bias."""
    if f"{norm_layer}.running_mean" in tensors:
        return "batch"
    return "instance" if f"{conv_layer}.bias" in tensors else "none"
