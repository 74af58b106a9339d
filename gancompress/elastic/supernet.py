"""One set of weights in which every narrower generator lives."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from gancompress.elastic.branches import is_kept
from gancompress.elastic.candidates import (
    Tie,
    elastic_groups,
    make_space,
    with_depths,
    with_kernels,
    with_resolutions,
)
from gancompress.elastic.costs import CostModel
from gancompress.elastic.dimensions import FULL
from gancompress.elastic.graph import with_batch
from gancompress.elastic.kernels import centre
from gancompress.elastic.layers import elastic_twin, fit
from gancompress.elastic.parts import narrow
from gancompress.elastic.space import SearchSpace, Subnet
from gancompress.elastic.structure import Cut, graph_module, reduce_module, resampled, stride_at
from gancompress.elastic.trace import trace
from gancompress.elastic.traced import Traced


class Supernet(nn.Module):
    """A generator whose widths, depth, kernels and resolution can be chosen at every call.

    The generator stays an ordinary module; its parameters are this module's parameters. A subnet
    uses the first channels of every group, as views, so gradients reach the shared weights, and
    runs without the branches that it leaves out, on the image or on a smaller one.

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
        depths: Candidate fractions of every stage's branches, such as residual blocks.
        kernels: Candidate sides of kernels; a convolution takes those of which it has a centre.
        resolutions: Candidate shares of the image's sides.
        ties: Groups that share a dimension of the space.
        keep: Names of modules and parameters that keep their full width.
        space: A ready-made space in place of all these.

    Raises:
        TraceError: The generator's own forward cannot be traced.
        SpaceError: Widths, ties or names of what is kept do not fit the generator.
    """

    def __init__(
        self,
        generator: nn.Module,
        example_input: Tensor | Mapping[str, Tensor],
        widths: Sequence[float] = (0.25, 0.375, 0.5, 0.75, 1.0),
        divisor: int = 8,
        *,
        depths: Sequence[float] = (1.0,),
        kernels: Sequence[int] = (),
        resolutions: Sequence[float] = (1.0,),
        ties: Sequence[Tie] = (),
        keep: Collection[str] = (),
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
        if space is None:
            space = make_space(elastic_groups(self.traced, keep), widths, divisor, ties)
            space = with_depths(space, self.traced, depths)
            space = with_kernels(space, self.traced, kernels)
            space = with_resolutions(space, self.traced, resolutions)
        self.space = space
        self._graphs: dict[tuple[frozenset[str], tuple[str, ...]], fx.GraphModule] = {}
        self._twin = (
            elastic_twin(generator, space.kernel_genes),
        )  # in a tuple: not a second registered module

    def train(self, mode: bool = True) -> Supernet:
        """Training or evaluation mode, as for any module."""
        super().train(mode)
        self._twin[0].train(mode)
        return self

    def stride(self, stride: int) -> int:
        """What H and W of images for all subnets must be multiples of, by that of the generator."""
        return math.lcm(*(stride_at(stride, share) for share in self.space.resolutions))

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
        out: Tensor = self._run(x, subnet)
        return out

    def _run(
        self, x: Tensor | Mapping[str, Tensor], subnet: Subnet, layers: tuple[str, ...] = ()
    ) -> Any:
        """The output; with layers (of a subnet that leaves something out) also theirs, by name."""
        resolution = self.space.resolution(subnet)
        if resolution == FULL:
            return self._run_here(x, subnet, layers)
        (image,) = x.values() if isinstance(x, Mapping) else (x,)
        sides = image.shape[2:]
        small = resampled(image, (side * resolution // FULL for side in sides))
        result = self._run_here(small, subnet, layers)
        if layers:
            return resampled(result[0], sides), result[1]
        return resampled(result, sides)

    def _run_here(
        self, x: Tensor | Mapping[str, Tensor], subnet: Subnet, layers: tuple[str, ...]
    ) -> Any:
        """The same at the size of x."""
        dropped, tensors = self.space.dropped(subnet), self.narrowed(subnet)
        if not dropped:
            return functional_call(self._twin[0], tensors, *_arguments(x))
        key = (dropped, layers)
        if key not in self._graphs:
            left = self.traced.reduced(dropped)
            self._graphs[key] = graph_module(self._twin[0], left, layers)
        names = self._graphs[key].state_dict().keys()
        own = {name: tensor for name, tensor in tensors.items() if name in names}
        return functional_call(self._graphs[key], own, *_arguments(x))

    def with_features(
        self, x: Tensor | Mapping[str, Tensor], subnet: Subnet, layers: Iterable[str]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The output, and the activations of some layers (N, C, H, W) by module name.

        A layer that the subnet leaves out has none; instead of the sum of a branch that is left
        out it is the value that the branch would have been added to. H and W are as small as the
        subnet's resolution makes them.
        """
        layers = tuple(layers)
        if not layers:
            return self(x, subnet), {}
        if self.space.dropped(subnet):
            image, found = self._run(x, subnet, layers)
            return image, found
        with capture(self._twin[0], layers) as features:
            out = self(x, subnet)
        return out, features

    def narrowed(self, subnet: Subnet) -> dict[str, Tensor]:
        """Parameters and buffers of a subnet, as views of the first channels of every group."""
        generator, dropped = self.generator, self.space.dropped(subnet)
        tensors = {**dict(generator.named_parameters()), **dict(generator.named_buffers())}
        channels = dict.fromkeys(self.traced.lacks(dropped), 0) | {
            group: count for group, count in self.space.channels(subnet).items() if count
        }
        kept = self.traced.reduced(dropped).parameters
        for name, needs in self.traced.needs.tensors.items():
            if not is_kept(needs, dropped):
                tensors.pop(name, None)
        for name, dims in self.traced.parameters.items():
            if name in kept:
                tensors[name] = narrow(tensors[name], dims, channels)
        for layer, side in self.space.kernels(subnet).items():
            tensors[f"{layer}.weight"] = centre(tensors[f"{layer}.weight"], side)
        return tensors

    def widest(self, dropped: frozenset[str]) -> nn.Module:
        """The generator without some branches, under its own names.

        Where something is left out it is a graph, and what a concatenation loses is narrowed.
        """
        if not dropped:
            return self.generator
        graph = copy.deepcopy(graph_module(self.generator, self.traced.reduced(dropped)))
        gone = dict.fromkeys(self.traced.lacks(dropped), 0)
        tensors = graph.state_dict()
        for name in tensors.keys() & self.traced.parameters.keys():
            tensors[name] = narrow(tensors[name], self.traced.parameters[name], gone)
        fit(graph, tensors, with_batch(self.traced.inputs, 1))
        return graph.train(self.training)

    def cut(self, subnet: Subnet) -> Cut:
        """What a subnet lacks besides channels."""
        full = {kernel.layer: kernel.side for kernel in self.traced.kernels}
        sides = self.space.kernels(subnet)
        smaller = {layer: side for layer, side in sides.items() if side != full[layer]}
        return Cut(self.space.dropped(subnet), smaller, self.space.resolution(subnet))

    def extract(self, subnet: Subnet) -> nn.Module:
        """The subnet as an ordinary module that needs nothing of this package.

        Its outputs equal `self(x, subnet)` exactly; see `reduce_module` for its class.
        """
        inputs = with_batch(self.traced.inputs, 1)
        with torch.no_grad():
            tensors = self.narrowed(subnet)
            small = reduce_module(self.generator, self.traced, self.cut(subnet), tensors, inputs)
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
        structure = self.space.structure(subnet)
        return int(self.costs.mac_polynomial(size, paper, structure)(subnet.values))

    def num_parameters(self, subnet: Subnet) -> int:
        """Number of parameters of a subnet."""
        structure = self.space.structure(subnet)
        return int(self.costs.parameter_polynomial(structure)(subnet.values))


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
