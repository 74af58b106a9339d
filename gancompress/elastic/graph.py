"""A generator's graph by `torch.fx`, and the shape of every value in it at any image size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from gancompress.errors import TraceError

Shape = tuple[int, ...]
Shapes = dict[str, Any]
"""By node name: a shape, a (nested) list of shapes for several tensors, None for what is none."""


class _Tracer(fx.Tracer):
    """Remembers which module was entered last, for error messages."""

    def __init__(self) -> None:
        super().__init__()
        self.module_name = ""

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        before, self.module_name = self.module_name, self.path_of_module(m)
        result = super().call_module(m, forward, args, kwargs)
        self.module_name = before
        return result


def trace_graph(module: nn.Module) -> fx.GraphModule:
    """Symbolic trace with `torch.nn` layers as leaves.

    Raises:
        TraceError: The forward cannot be traced (control flow that depends on values, say).
    """
    tracer = _Tracer()
    try:
        graph = tracer.trace(module)
    except Exception as error:  # tracing runs the user's code: anything can be raised
        where = tracer.module_name or type(module).__name__
        raise TraceError(
            f"cannot trace {where}: {error}\n"
            "  The forward must be straight-line tensor code; move decisions on values out of it."
        ) from error
    return fx.GraphModule(module, graph)


class _ShapeRecorder(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: Shapes = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        self.shapes[n.name] = _shape_of(result)
        return result


def _shape_of(value: Any) -> Any:
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if isinstance(value, list | tuple):
        inner = [_shape_of(v) for v in value]
        return inner if any(shape is not None for shape in inner) else None
    return None


def record_shapes(graph: fx.GraphModule, shape: Shape) -> Shapes:
    """Shapes of all values for an input of `shape` (N, C, H, W); nothing is computed.

    Raises:
        TraceError: The generator does not accept this shape.
    """
    recorder = _ShapeRecorder(graph)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            recorder.run(empty_input(graph, shape))
    except Exception as error:
        reason = str(error).partition("\n")[0]  # torch.fx appends the state of its interpreter
        raise TraceError(
            f"the generator cannot take an input of shape {shape}: {reason}"
        ) from error
    return recorder.shapes


def empty_input(module: nn.Module, shape: Shape) -> Tensor:
    """An input without values, of the type and on the device of a module's parameters."""
    like = next(module.parameters(), torch.empty(0))
    return torch.empty(shape, dtype=like.dtype, device=like.device)


def module_of(node: fx.Node) -> str:
    """Name of the module in which a node was traced."""
    if node.op in ("call_module", "get_attr"):
        return str(node.target)
    stack = node.meta.get("nn_module_stack") or {}
    names = [str(entry[0]) for entry in stack.values()]
    return names[-1] if names and names[-1] else "the generator's own forward"


@dataclass(frozen=True)
class Operation:
    """One multiply-accumulate layer.

    Attributes:
        node: Name of its node.
        source: Name of the node that feeds it.
        kind: conv, transposed, depthwise or linear.
        kernel: Kernel positions (k * k), 1 for linear.
        weight: Name of its weight parameter, or None where the weight is computed.
    """

    node: str
    source: str
    kind: str
    kernel: int
    weight: str | None

    def positions(self, shapes: Shapes, paper: bool = False) -> int:
        """How often each weight is used for one image.

        A transposed convolution multiplies once for each *input* position. The papers count its
        output positions, which is stride^2 times too much.
        """
        node = self.node if self.kind != "transposed" or paper else self.source
        shape: Shape = shapes[node]
        if self.kind == "linear":
            return _product(shape[1:-1])
        return _product(shape[2:])


def _product(numbers: tuple[int, ...]) -> int:
    result = 1
    for number in numbers:
        result *= number
    return result
