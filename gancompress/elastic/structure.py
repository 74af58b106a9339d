"""A generator without some of its branches, as a graph or as a module of its own class."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from gancompress.elastic.dimensions import FULL
from gancompress.elastic.graph import (
    Example,
    Inputs,
    call_with,
    empty_inputs,
    inputs_of,
    resized,
    trace_graph,
)
from gancompress.elastic.kernels import centre, crop_kernels
from gancompress.elastic.layers import fit
from gancompress.elastic.parts import narrow
from gancompress.elastic.trace import trace
from gancompress.elastic.traced import Traced
from gancompress.errors import CheckpointError, TraceError


@dataclass(frozen=True)
class Cut:
    """What a subnet lacks besides channels.

    Attributes:
        dropped: Branches.
        kernels: Sides of kernels that are smaller than the generator's, by name of the layer.
        resolution: Per cent of the image's sides at which the generator runs.
    """

    dropped: frozenset[str] = frozenset()
    kernels: Mapping[str, int] = field(default_factory=dict)
    resolution: int = FULL


def graph_module(root: nn.Module, traced: Traced, layers: Iterable[str] = ()) -> fx.GraphModule:
    """A module that runs a graph with the layers of `root`, and needs nothing of this package.

    Args:
        root: The generator, or one with the same layers.
        traced: What is left of it.
        layers: Modules whose outputs are given as well: the result is then a pair of the output and
            these by name. What is not left has none.
    """
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    by_name: dict[str, fx.Node] = {}
    for node in traced.graph.graph.nodes:
        if node.op != "output":
            by_name[node.name] = copies[node] = graph.node_copy(node, copies.__getitem__)
            continue
        result = fx.node.map_arg(node.args[0], copies.__getitem__)
        wanted = {n: by_name[traced.values[n]] for n in layers if n in traced.values}
        graph.output((result, wanted) if layers else result)
    graph._tracer_cls = None  # a file of the module must not name this package
    return fx.GraphModule(root, graph)


HOW: dict[str, Any] = {"mode": "bilinear", "align_corners": False}
"""How images are made smaller and larger; at one half it is the mean of four pixels."""


def resampled(x: Tensor, sides: Iterable[int]) -> Tensor:
    """Images (N, C, H, W) of another height and width, as `at_resolution` makes them."""
    made: Tensor = F.interpolate(x, [*sides], **HOW)
    return made


def at_resolution(module: nn.Module, inputs: Inputs, resolution: int) -> nn.Module:
    """A graph that runs a generator on a smaller image and enlarges what it makes.

    Args:
        module: The generator; the graph shares its modules, which stay of their classes.
        inputs: Shapes of inputs that it accepts, the image first. What its forward decides on
            shapes is decided at the resolution, or at these shapes where it is no whole pixels.
        resolution: Per cent of the image's sides.
    """
    sides = next(iter(inputs.values()))[2:]
    if not any(side * resolution % FULL for side in sides):
        inputs = resized(inputs, *(side * resolution // FULL for side in sides))
    graph = trace_graph(module, inputs, shallow=True).graph
    image, *_, output = graph.nodes
    last = [node for node in graph.nodes if node.op == "placeholder"][-1]
    with graph.inserting_before(last.next):
        size = [graph.call_method("size", (image, dim)) for dim in (2, 3)]
        scaled = [graph.call_function(operator.mul, (side, resolution)) for side in size]
        small = [graph.call_function(operator.floordiv, (side, FULL)) for side in scaled]
        shrunk = graph.call_function(F.interpolate, (image, small), HOW)
    image.replace_all_uses_with(shrunk, lambda user: user not in (*size, shrunk))
    with graph.inserting_before(output):
        output.args = (graph.call_function(F.interpolate, (output.args[0], size), HOW),)
    graph._tracer_cls = None  # see `graph_module`
    return fx.GraphModule(module, graph).train(module.training)


def stride_at(stride: int, resolution: int) -> int:
    """What H and W must be multiples of, so that this share of them is a multiple of `stride`."""
    return stride * FULL // math.gcd(resolution, stride * FULL)


def reduce_module(
    generator: nn.Module,
    traced: Traced,
    cut: Cut,
    tensors: Mapping[str, Tensor],
    inputs: Inputs,
) -> nn.Module:
    """A copy of a generator without some branches, with smaller kernels, on smaller images.

    It is of the generator's own class where every branch is a module of an `nn.Sequential` that can
    be taken out: a ResNet of nine blocks without its last three is one of six. A class may do in
    its forward what cannot be seen from here, so both are run on one input and must agree; anything
    else is a `torch.fx.GraphModule`, whose parameters keep their names.

    Args:
        generator: At full width.
        traced: Its channels.
        cut: What is left out, which kernels are smaller, and the resolution.
        tensors: Parameters and buffers of what is left, by their names in the generator.
        inputs: Shapes of inputs that it accepts.
    """
    small = _reduced(generator, traced, cut, tensors, inputs)
    return small if cut.resolution == FULL else at_resolution(small, inputs, cut.resolution)


def _reduced(
    generator: nn.Module,
    traced: Traced,
    cut: Cut,
    tensors: Mapping[str, Tensor],
    inputs: Inputs,
) -> nn.Module:
    """The same at the image's own resolution."""
    dropped = cut.dropped
    whole = copy.deepcopy(generator)
    crop_kernels(whole, traced.kernels, cut.kernels)
    if not dropped:
        fit(whole, tensors, inputs)
        return whole
    graph = graph_module(whole, traced.reduced(dropped))
    own = _without_modules(whole, traced, dropped)
    constants = graph.state_dict()
    fit(graph, {name: tensors.get(name, constants[name]) for name in constants}, inputs)
    graph.train(generator.training)
    if own is None:
        return graph
    module, olds = own
    try:
        fit(module, {new: tensors[old] for new, old in olds.items()}, inputs)
        return module if _agree(module, graph, inputs) else graph
    except Exception:  # whatever the forward of somebody's class raises without its module
        return graph


def _without_modules(
    generator: nn.Module, traced: Traced, dropped: frozenset[str]
) -> tuple[nn.Module, dict[str, str]] | None:
    """A copy without some modules of `nn.Sequential`s, and its tensors' old names by the new ones.

    None where a branch is no module that stands in an `nn.Sequential`.
    """
    joins = {b.name: b.join for stage in traced.stages for b in stage}
    names = [name for name in joins if name in dropped]
    if any(traced.values.get(name) != joins[name] for name in names):
        return None
    small = copy.deepcopy(generator)
    old = {id(tensor): name for name, tensor in _tensors(small).items()}
    pairs = []
    for name in names:
        owner = small.get_submodule(name.rpartition(".")[0])
        if type(owner) is not nn.Sequential:
            return None
        pairs.append((owner, small.get_submodule(name)))
    for owner, module in pairs:
        keys = list(owner._modules)
        key = next(key for key in keys if owner._modules[key] is module)
        if all(map(str.isdigit, keys)):
            del owner[keys.index(key)]  # those after it are numbered anew
        else:
            del owner._modules[key]
    return small, {name: old[id(tensor)] for name, tensor in _tensors(small).items()}


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return module.state_dict(keep_vars=True)


@torch.no_grad()
def _agree(one: nn.Module, other: nn.Module, inputs: Inputs) -> bool:
    """Whether two modules of equal layers compute the same in evaluation mode."""
    modes = [(part, part.training) for module in (one, other) for part in module.modules()]
    draw = torch.Generator().manual_seed(0)
    empty = empty_inputs(one, inputs)
    given = {
        name: x if x.is_meta else (torch.rand(x.shape, generator=draw) * 2 - 1).to(x)
        for name, x in empty.items()
    }
    args, kwargs = call_with(given)
    try:
        found, wanted = one.eval()(*args, **kwargs), other.eval()(*args, **kwargs)
    finally:
        for part, mode in modes:
            part.training = mode
    same: bool = found.shape == wanted.shape and (found.is_meta or torch.equal(found, wanted))
    return same


def reduced_copy(generator: nn.Module, cut: Cut, example: Example) -> nn.Module:
    """A generator without some branches and with smaller kernels.

    Raises:
        CheckpointError: It cannot be traced, or has no such branch or kernel.
    """
    try:
        traced = trace(generator, example)
    except TraceError as error:
        raise CheckpointError(f"branches of a generator that cannot be followed: {error}") from None
    dropped = cut.dropped
    sides = {kernel.layer: kernel.choices for kernel in traced.kernels}
    for layer, side in cut.kernels.items():
        if side not in sides.get(layer, ()):
            raise CheckpointError(f"the generator has no kernel {layer!a} to crop to {side!a}")
    known = {branch.name for stage in traced.stages for branch in stage}
    if dropped - known:
        raise CheckpointError(f"the generator has no branch {min(dropped - known)!a} to leave out")
    gone = dict.fromkeys(traced.lacks(dropped), 0)
    kept = traced.reduced(dropped).parameters
    tensors = {
        name: narrow(tensor, traced.parameters[name], gone) if name in kept else tensor
        for name, tensor in _tensors(generator).items()
    }
    for layer, side in cut.kernels.items():
        tensors[f"{layer}.weight"] = centre(tensors[f"{layer}.weight"], side)
    return reduce_module(generator, traced, cut, tensors, inputs_of(generator, example))
