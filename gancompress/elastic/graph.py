"""A generator's graph by `torch.fx`, and the shape of every value in it at any image size."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from gancompress.errors import TraceError

Shape = tuple[int, ...]
Inputs = dict[str, Shape]
"""Shapes of a generator's inputs by the names of its forward's arguments, in their order."""
Example = Shape | Mapping[str, Shape]
"""The shape of a generator's one input, or of each by the names of its forward's arguments."""


class Shapes(dict[str, Any]):
    """By node name: a shape, a (nested) list of shapes for several tensors, None for what is none.

    Attributes:
        macs: Multiply-accumulates by node name as PyTorch counts them, where there are any.
    """

    def __init__(self) -> None:
        super().__init__()
        self.macs: dict[str, int] = {}


class _Undecided(Exception):  # noqa: N818  # no error: it asks
    """A forward decides on a node of the graph so far."""

    def __init__(self, node: fx.Node) -> None:
        super().__init__("symbolic values are used in control flow")
        self.node = node


class _Tracer(fx.Tracer):
    """Remembers which module was entered last, for error messages.

    Args:
        inputs: Arguments of the forward that are symbolic; the others keep their defaults.
        shallow: Leave all modules that the forward calls as they are.
        leaves: Names of modules that are not traced into.
        answers: What the forward's decisions are, and numbers of tensors, in their order.
    """

    def __init__(
        self,
        inputs: Collection[str],
        shallow: bool,
        leaves: Collection[str],
        answers: Sequence[int],
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.shallow = shallow
        self.leaves = leaves
        self.answers = answers
        self.asked = 0
        self.module_name = ""

    def to_bool(self, obj: fx.Proxy) -> bool:
        """A decision on shapes, which is made as for the example; see `fx.Tracer`."""
        obj.node.meta[DECIDED] = answer = bool(self._answer(obj.node))
        return answer

    def iter(self, obj: fx.Proxy) -> Iterator[fx.Proxy]:
        """The tensors that `chunk` gives, one after another; see `fx.Tracer`."""
        several: Any = obj
        return (several[place] for place in range(self._answer(obj.node)))

    def _answer(self, node: fx.Node) -> int:
        """What is known of a node's value."""
        self.asked += 1
        if self.asked > len(self.answers):
            raise _Undecided(node)
        return self.answers[self.asked - 1]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """See `fx.Tracer`."""
        chosen = self.shallow or module_qualified_name in self.leaves
        return chosen or super().is_leaf_module(m, module_qualified_name)

    def create_args_for_root(
        self, root_fn: Any, is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        """See `fx.Tracer`."""
        if not self.inputs:  # a forward that takes whatever comes
            return super().create_args_for_root(root_fn, is_module, concrete_args)
        given = {name: self.create_proxy("placeholder", name, (), {}) for name in self.inputs}
        return lambda module: root_fn(module, **given), [self.root]

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        before, self.module_name = self.module_name, self.path_of_module(m)
        result = super().call_module(m, forward, args, kwargs)
        self.module_name = before
        return result


def inputs_of(module: nn.Module, example: Example) -> Inputs:
    """The inputs that an example names; arguments that have a default need none.

    Raises:
        TraceError: The forward has an argument that has neither an example nor a default, or none
            of an example's name.
    """
    arguments = _arguments(module)
    if not isinstance(example, Mapping):
        example = {next(iter(arguments), "x"): example}
    needed = [name for name, p in arguments.items() if p.default is p.empty]
    for name in needed:
        if name not in example:
            raise TraceError(
                f"the forward of {type(module).__name__} needs '{name}' as well\n"
                f"  Give an example of each input, {{'{needed[0]}': ..., '{name}': ...}}, or fix "
                "it in a wrapper."
            )
    for name in example:
        if arguments and name not in arguments:
            raise TraceError(
                f"the forward of {type(module).__name__} has no argument '{name}'; it has "
                f"{', '.join(arguments)}"
            )
    return {name: tuple(example[name]) for name in arguments or example if name in example}


def _arguments(module: nn.Module) -> dict[str, inspect.Parameter]:
    """Arguments of the forward that have names."""
    known = inspect.signature(module.forward).parameters.values()
    return {p.name: p for p in known if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def trace_graph(
    module: nn.Module, inputs: Collection[str] = (), shallow: bool = False
) -> fx.GraphModule:
    """Symbolic trace with `torch.nn` layers as leaves, and modules that cannot be traced.

    Args:
        module: The module.
        inputs: Names of its inputs, or their shapes by name for a forward that decides on shapes;
            all other arguments keep their defaults. By default those that have none.
        shallow: Have all modules that the forward itself calls as leaves.

    Raises:
        TraceError: The generator's own forward cannot be traced (control flow that depends on
            values, say).
    """
    arguments = _arguments(module)
    needed = [name for name, p in arguments.items() if p.default is p.empty]
    chosen: Collection[str] = inputs or needed or list(arguments)[:1]
    leaves, answers = set[str](), list[int]()
    while True:
        tracer = _Tracer(chosen if arguments else (), shallow, leaves, answers)
        try:
            with _symbolic_factories():
                graph = tracer.trace(module)
            return fx.GraphModule(module, graph)
        except Exception as error:  # tracing runs the user's code: anything can be raised
            name, reason = tracer.module_name, error
            if isinstance(error, _Undecided):
                answer = None
                if isinstance(inputs, Mapping):
                    answer = _evaluate(module, tracer.graph, error.node, dict(inputs))
                if isinstance(answer, list | tuple):
                    answer = len(answer)
                if isinstance(answer, int):
                    answers = [*answers, int(answer)]
                    continue
                reason = TypeError("a value of the image is used in control flow")
            if name and name not in leaves:
                leaves.add(name)
                answers = []
                continue
            raise TraceError(
                f"cannot trace {name or type(module).__name__}: {reason}\n"
                "  The generator's own forward must be straight-line tensor code; move decisions "
                "on values into a module of their own, which then keeps its full width."
            ) from error


_FACTORIES = ("arange", "empty", "eye", "full", "linspace", "ones", "rand", "randn", "zeros")


@contextmanager
def _symbolic_factories() -> Iterator[None]:
    """Let functions that make tensors take symbolic sizes, which they refuse by themselves."""
    originals = {name: getattr(torch, name) for name in _FACTORIES}

    def symbolic(function: Any) -> Any:
        def make(*args: Any, **kwargs: Any) -> Any:
            proxies: list[fx.Proxy] = []
            fx.node.map_aggregate((args, kwargs), lambda a: _note(a, proxies))
            if not proxies:
                return function(*args, **kwargs)
            return proxies[0].tracer.create_proxy("call_function", function, args, kwargs)

        return make

    for name, function in originals.items():
        setattr(torch, name, symbolic(function))
    try:
        yield
    finally:
        for name, function in originals.items():
            setattr(torch, name, function)


def _note(value: Any, proxies: list[fx.Proxy]) -> Any:
    if isinstance(value, fx.Proxy):
        proxies.append(value)
    return value


def _evaluate(root: nn.Module, graph: fx.Graph, node: fx.Node, inputs: Inputs) -> Any:
    """The value of a node for the example; nothing is computed, so tensors have none."""
    part, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    for other in graph.nodes:
        copies[other] = part.node_copy(other, copies.__getitem__)
    part.output(copies[node])
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        empty = empty_inputs(root, inputs)
        return fx.Interpreter(fx.GraphModule(root, part)).run(*empty.values())


class _ShapeRecorder(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, counter: FlopCounterMode) -> None:
        super().__init__(module)
        self.counter = counter
        self.shapes = Shapes()

    def run_node(self, n: fx.Node) -> Any:
        before = self.counter.get_total_flops()
        result = super().run_node(n)
        self.shapes[n.name] = _shape_of(result)
        if DECIDED in n.meta and bool(result) != n.meta[DECIDED]:
            raise TraceError("its forward decides otherwise than at the size of the example")
        macs = (self.counter.get_total_flops() - before) // 2
        if macs:
            self.shapes.macs[n.name] = macs
        return result


def _shape_of(value: Any) -> Any:
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if isinstance(value, list | tuple):
        inner = [_shape_of(v) for v in value]
        return inner if any(shape is not None for shape in inner) else None
    return None


def record_shapes(graph: fx.GraphModule, inputs: Inputs) -> Shapes:
    """Shapes of all values for inputs of these shapes.

    Nothing is computed, unless a module decides on values; that is run on zeros.

    Raises:
        TraceError: The generator does not accept these shapes.
    """
    try:
        try:
            with FakeTensorMode(allow_non_fake_inputs=True):
                return _record(graph, empty_inputs(graph, inputs))
        except DataDependentOutputException:
            given = {n: torch.zeros_like(x) for n, x in empty_inputs(graph, inputs).items()}
            return _record(copy.deepcopy(graph), given)
    except Exception as error:
        reason = str(error).partition("\n")[0]  # torch.fx appends the state of its interpreter
        raise TraceError(f"the generator cannot take {describe(inputs)}: {reason}") from error


@torch.no_grad()
def _record(graph: fx.GraphModule, inputs: Mapping[str, Tensor]) -> Shapes:
    with FlopCounterMode(display=False) as counter:
        recorder = _ShapeRecorder(graph, counter)
        recorder.run(*inputs.values())
    return recorder.shapes


def describe(inputs: Inputs) -> str:
    """Inputs in words."""
    if len(inputs) == 1:
        return f"an input of shape {next(iter(inputs.values()))}"
    return f"inputs of shapes {', '.join(f'{name} {shape}' for name, shape in inputs.items())}"


def resized(inputs: Inputs, height: int, width: int) -> Inputs:
    """Inputs of one image of this size, which is that of the first.

    Sides of the others change in proportion; sides of one pixel, and vectors, stay.
    """
    old = next(iter(inputs.values()))[2:]
    return {
        name: (
            *(1, *shape[1:2]),
            *(
                side if side == 1 else side * new // before
                for side, before, new in zip(shape[2:], old, (height, width), strict=False)
            ),
        )
        for name, shape in inputs.items()
    }


def with_batch(inputs: Inputs, count: int) -> Inputs:
    """The same inputs of so many images."""
    return {name: (count, *shape[1:]) for name, shape in inputs.items()}


DECIDED = "decided"
"""Where a node's meta holds what a decision on it was at the size of the example."""

T = TypeVar("T")


def call_with(inputs: Mapping[str, T]) -> tuple[tuple[T, ...], dict[str, T]]:
    """What to call a forward with: one input has no need of its name."""
    return (tuple(inputs.values()), {}) if len(inputs) == 1 else ((), dict(inputs))


def empty_inputs(module: nn.Module, inputs: Inputs) -> dict[str, Tensor]:
    """Inputs without values by name, see `empty_input`."""
    return {name: empty_input(module, shape) for name, shape in inputs.items()}


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
        kind: conv, transposed, depthwise, transposed depthwise, linear, or matmul. Depth-wise is
            what has groups that move as a whole. A matmul is as well what no rule follows; its
            widths are those of the generator.
        kernel: Kernel positions (k * k), in each of the channels that a group reads; 1 for others.
        weight: Name of its weight parameter, or None where the weight is computed.
    """

    node: str
    source: str
    kind: str
    kernel: int
    weight: str | None

    def positions(self, shapes: Shapes, paper: bool = False) -> int:
        """How often each weight is used for one image; of a matmul, its multiply-accumulates.

        A transposed convolution multiplies once for each *input* position. The papers count its
        output positions, which is stride^2 times too much.
        """
        if self.kind == "matmul":
            return shapes.macs.get(self.node, 0)
        node = self.node if not self.kind.startswith("transposed") or paper else self.source
        shape: Shape = shapes[node]
        if self.kind == "linear":
            return _product(shape[1:-1])
        return _product(shape[2:])


def _product(numbers: tuple[int, ...]) -> int:
    result = 1
    for number in numbers:
        result *= number
    return result
