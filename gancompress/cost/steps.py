"""What a generator does one after another, as a latency table knows it: keys and channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import fx, nn

from gancompress.elastic import Parts, Supernet, Width
from gancompress.elastic.costs import Size
from gancompress.elastic.graph import Operation, Shapes
from gancompress.errors import ConfigError

SILENT = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.AlphaDropout)
"""Modules that do nothing at inference."""

ONE = Parts((1,))


@dataclass(frozen=True)
class Step:
    """A multiply-accumulate layer, or all that lies between two of them.

    Attributes:
        key: What it computes apart from elastic widths, such as `conv 3x3 64x64 32x32` (kernel,
            size before and after), `conv 7x7 70x70 64x64 from 3` (from the image's channels) or
            `between 32x32 34x34 InstanceNorm2d ReLU ReflectionPad2d`.
        inputs: Parts of the channels that come in; of what lies between: of the layer before.
        outputs: Parts of the channels that go out; (1,) where they follow from those of `inputs`.
    """

    key: str
    inputs: Parts
    outputs: Parts


@dataclass(frozen=True)
class Plan:
    """All steps of a generator at one image size.

    The number of a step counts layers in the order of the graph: what lies before the first layer
    is 0, layer n (from 1) is 2 n - 1, and what follows it, up to the next layer, is 2 n.

    Attributes:
        steps: In this order.
        places: Number of the step that each node of the graph belongs to, by node name; nodes
            that compute nothing are not among them.
    """

    steps: tuple[Step, ...]
    places: Mapping[str, int]


def plan_of(net: Supernet, size: Size) -> Plan:
    """The steps of a supernet's subnets.

    What lies between two layers belongs to the latest layer that its inputs come from.

    Args:
        net: The supernet.
        size: Of the image.

    Raises:
        ConfigError: Subnets differ in more than widths: not all have the same steps.
        TraceError: The generator does not accept this size.
    """
    if not all(isinstance(dimension, Width) for dimension in net.space.dimensions):
        raise ConfigError(
            "latency tables are for subnets that differ in widths alone\n"
            "  Search with --macs or --params, and measure the subnets found: gancompress profile."
        )
    height, width = (size, size) if isinstance(size, int) else size
    traced = net.traced
    shapes = traced.shapes(height, width)
    numbers = {op.node: n for n, (op, _, _) in enumerate(traced.operations, 1)}
    layer_of = _latest_layers(traced.graph, numbers)
    places: dict[str, int] = {}
    between: list[list[str]] = [[] for _ in range(len(numbers) + 1)]
    for node in traced.graph.graph.nodes:
        if node.name in numbers:
            places[node.name] = 2 * numbers[node.name] - 1
        elif _computes(traced.graph, node, shapes):
            places[node.name] = 2 * layer_of[node.name]
            between[layer_of[node.name]].append(_name(traced.graph, node))
    steps = [_between(0, between[0], net, shapes, layer_of, (height, width))]
    for n, (op, ins, outs) in enumerate(traced.operations, 1):
        steps.append(_layer(op, ins, outs, shapes))
        steps.append(_between(n, between[n], net, shapes, layer_of, (height, width)))
    return Plan(tuple(steps), places)


def _latest_layers(graph: fx.GraphModule, numbers: Mapping[str, int]) -> dict[str, int]:
    """Number of the latest layer that a node's value depends on directly, 0 before the first."""
    latest: dict[str, int] = {}
    for node in graph.graph.nodes:
        before = max((latest[value.name] for value in node.all_input_nodes), default=0)
        latest[node.name] = numbers.get(node.name, before)
    return latest


def _computes(graph: fx.GraphModule, node: fx.Node, shapes: Shapes) -> bool:
    if node.op not in ("call_module", "call_function", "call_method") or shapes[node.name] is None:
        return False
    silent = node.op == "call_module" and isinstance(graph.get_submodule(str(node.target)), SILENT)
    return not silent


def _name(graph: fx.GraphModule, node: fx.Node) -> str:
    if node.op == "call_module":
        return type(graph.get_submodule(str(node.target))).__name__
    return str(node.target) if node.op == "call_method" else str(getattr(node.target, "__name__"))  # noqa: B009


def _layer(op: Operation, ins: Parts, outs: Parts, shapes: Shapes) -> Step:
    side = round(op.kernel**0.5)
    kernel = f"{side}x{side}" if side * side == op.kernel else str(op.kernel)
    before, after = (_spatial(shapes[name]) for name in (op.source, op.node))
    if op.kind.endswith("depthwise"):
        outs = ONE
    return _step([op.kind, kernel, before, after], ins, outs)


def _between(
    number: int,
    names: list[str],
    net: Supernet,
    shapes: Shapes,
    layer_of: Mapping[str, int],
    size: tuple[int, int],
) -> Step:
    """What follows layer `number`: from its output to the input of the layers that it feeds."""
    operations = net.traced.operations
    fed = [(op, ins) for op, ins, _ in operations if layer_of[op.source] == number]
    if number == 0:
        before, ins = "x".join(map(str, size)), fed[0][1] if fed else ONE
    else:
        before, ins = _spatial(shapes[operations[number - 1][0].node]), operations[number - 1][2]
    after, outs = (_spatial(shapes[fed[0][0].source]), fed[0][1]) if fed else (before, ins)
    return _step(["between", before, after, *names], ins, ONE if outs == ins else outs)


def _step(words: list[str], ins: Parts, outs: Parts) -> Step:
    """Channels that no subnet changes are in the key: runtimes treat images of three apart."""
    for word, parts in (("from", ins), ("to", outs)):
        if parts != ONE and not parts.is_elastic:
            words += [word, str(parts.full)]
    return Step(" ".join(words), ins, outs)


def _spatial(shape: tuple[int, ...]) -> str:
    """H and W of (N, C, H, W); the positions of what has no channels in its second dimension."""
    return "x".join(map(str, shape[2:] if len(shape) > 2 else (1, 1)))
