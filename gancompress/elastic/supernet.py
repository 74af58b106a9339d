"""One set of weights in which every narrower generator lives."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gancompress.elastic.costs import CostModel
from gancompress.elastic.graph import with_batch
from gancompress.elastic.layers import fit, width_free_twin
from gancompress.elastic.parts import narrow
from gancompress.elastic.space import SearchSpace, Subnet, Tie, make_space
from gancompress.elastic.trace import Traced, trace


class Supernet(nn.Module):
    """A generator whose channels are widths that can be chosen at every call.

    The generator stays an ordinary module; its parameters are this module's parameters. A subnet
    uses the first channels of every group, as views, so gradients reach the shared weights.

        net = Supernet(generator, torch.randn(1, 3, 256, 256))
        image = net(x, net.space.sample(random.Random(0)))
        small = net.extract(net.space.smallest())

    Source: Li et al., GAN Compression, CVPR 2020, section 3.3; Cai et al., Once-for-All, ICLR 2020.

    Args:
        generator: Any module that `torch.fx` can trace.
        example_input: (N, C, H, W), used for its shape; of a generator of several inputs each of
            them, by the names of its forward's arguments.
        widths: Candidate fractions of every group's full width.
        divisor: Candidates are rounded to multiples of this many channels.
        ties: Groups that share a dimension of the space.
        space: A ready-made space in place of `widths`, `divisor` and `ties`.

    Raises:
        TraceError: The generator's channels cannot be followed; names the module.
        SpaceError: Widths or ties do not fit the generator.
    """

    def __init__(
        self,
        generator: nn.Module,
        example_input: Tensor | Mapping[str, Tensor],
        widths: Sequence[float] = (0.25, 0.375, 0.5, 0.75, 1.0),
        divisor: int = 8,
        *,
        ties: Sequence[Tie] = (),
        space: SearchSpace | None = None,
    ) -> None:
        super().__init__()
        self.generator = generator
        self.traced: Traced = trace(
            generator,
            {name: tuple(tensor.shape) for name, tensor in example_input.items()}
            if isinstance(example_input, Mapping)
            else tuple(example_input.shape),
        )
        self.space = space or make_space(self.traced.groups, widths, divisor, ties)
        self._twin = (width_free_twin(generator),)  # in a tuple: not a second registered module

    def train(self, mode: bool = True) -> Supernet:
        """Training or evaluation mode, as for any module."""
        super().train(mode)
        self._twin[0].train(mode)
        return self

    @property
    def example_shape(self) -> tuple[int, ...]:
        """Shape (N, C, H, W) of an image that it accepts, its first input."""
        return next(iter(self.traced.inputs.values()))

    def forward(self, x: Tensor | Mapping[str, Tensor], subnet: Subnet) -> Tensor:
        """Translate images with one subnet.

        Args:
            x: (N, C, H, W) in [-1, 1], or all inputs by name.
            subnet: Which one.

        Returns:
            (N, C_out, H, W) in [-1, 1].
        """
        out: Tensor = functional_call(self._twin[0], self.narrowed(subnet), *_arguments(x))
        return out

    def with_features(
        self, x: Tensor | Mapping[str, Tensor], subnet: Subnet, layers: Iterable[str]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The output, and the activations of some layers (N, C, H, W) by module name."""
        with capture(self._twin[0], layers) as features:
            out = self(x, subnet)
        return out, features

    def narrowed(self, subnet: Subnet) -> dict[str, Tensor]:
        """All parameters and buffers, narrowed to views of the first channels of every group."""
        generator = self.generator
        tensors = {**dict(generator.named_parameters()), **dict(generator.named_buffers())}
        channels = self.space.channels(subnet)
        for name, dims in self.traced.parameters.items():
            tensors[name] = narrow(tensors[name], dims, channels)
        return tensors

    def extract(self, subnet: Subnet) -> nn.Module:
        """The subnet as an ordinary module that needs nothing of this package.

        Its outputs equal `self(x, subnet)` exactly.
        """
        with torch.no_grad():
            small = copy.deepcopy(self.generator)
            fit(small, self.narrowed(subnet), with_batch(self.traced.inputs, 1))
        return small.train(self.training)

    @cached_property
    def costs(self) -> CostModel:
        """Closed-form costs of many subnets at once; `macs` and `num_parameters` are for one."""
        return CostModel(self.generator, self.traced, self.space)

    def macs(self, subnet: Subnet, size: int | tuple[int, int], paper: bool = False) -> int:
        """Multiply-accumulates for one image.

        Args:
            subnet: Which one.
            size: Side of a square image, or (height, width).
            paper: Count transposed convolutions at their output positions, as the papers do.
        """
        self.space.check(subnet)
        return int(self.costs.mac_polynomial(size, paper)(subnet.values))

    def num_parameters(self, subnet: Subnet) -> int:
        """Number of parameters of a subnet."""
        self.space.check(subnet)
        return int(self.costs.parameter_polynomial(subnet.values))


def _arguments(x: Tensor | Mapping[str, Tensor]) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """What a forward is called with."""
    return ((), dict(x)) if isinstance(x, Mapping) else ((x,), {})


class capture:  # noqa: N801  # used like a function
    """Context in which the outputs of some layers of a module are kept, by name."""

    def __init__(self, module: nn.Module, layers: Iterable[str]) -> None:
        self.module = module
        self.layers = tuple(layers)
        self.features: dict[str, Tensor] = {}
        self._hooks: list[Any] = []

    def __enter__(self) -> dict[str, Tensor]:
        for name in self.layers:
            layer = self.module.get_submodule(name)
            self._hooks.append(layer.register_forward_hook(self._keep(name)))
        return self.features

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _keep(self, name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            self.features[name] = output

        return hook
