"""Walk a generator's graph and find which channel dimensions must move together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, fx, nn

from gancompress.elastic.branches import (
    ALWAYS,
    Branch,
    Needs,
    any_of,
    find_joins,
    find_needs,
    find_stages,
)
from gancompress.elastic.channels import Channels, Dims, Layout
from gancompress.elastic.graph import (
    Example,
    Inputs,
    Operation,
    inputs_of,
    module_of,
    record_shapes,
    trace_graph,
    with_batch,
)
from gancompress.elastic.kernels import find_kernels
from gancompress.elastic.parts import Group, Parts
from gancompress.elastic.rules import FUNCTION_RULES, METHOD_RULES, MODULE_RULES
from gancompress.elastic.traced import Needed, Traced
from gancompress.errors import TraceError


def trace(generator: nn.Module, example: Example) -> Traced:
    """Find the channel groups of a generator.

    Args:
        generator: Any module whose forward `torch.fx` can trace.
        example: The shape (N, C, H, W) of an input that it accepts, or that of each by name.

    Raises:
        TraceError: The forward cannot be traced, or an operation on elastic channels is unknown;
            the message names the module.
    """
    _refuse_parametrizations(generator)
    inputs = inputs_of(generator, example)
    graph = trace_graph(generator, inputs)
    walk = Walk(graph, inputs)
    for node in graph.graph.nodes:
        walk.visit(node)
    return walk.result()


def _refuse_parametrizations(generator: nn.Module) -> None:
    for name, module in generator.named_modules():
        hooks = module._forward_pre_hooks.values()
        if hasattr(module, "parametrizations") or any(hasattr(h, "compute_weight") for h in hooks):
            raise TraceError(
                f"{name} ({type(module).__name__}) computes its weight by a parametrization\n"
                "  Bake it in first (torch.nn.utils.parametrize.remove_parametrizations, or "
                "torch.nn.utils.remove_spectral_norm)."
            )


class Walk:
    """The walk in progress: layouts by node, parameters and operations found so far.

    Args:
        graph: The traced generator.
        inputs: Shapes of its inputs by name.
    """

    def __init__(self, graph: fx.GraphModule, inputs: Inputs) -> None:
        self.graph = graph
        self.inputs = inputs
        self.shapes = record_shapes(graph, with_batch(inputs, 2))
        self.channels = Channels()
        self.dims: dict[fx.Node, Dims] = {}
        self.parameters: dict[str, Dims] = {}
        self.operations: list[Operation] = []
        self.layouts_of: dict[str, tuple[Layout | None, Layout | None]] = {}
        self._outputs: dict[str, Layout] = {}
        self._modules: dict[str, fx.Node] = {}

    # -- for the rules ------------------------------------------------------------------

    def is_tensor(self, node: fx.Node) -> bool:
        """Whether a value is a single tensor."""
        return isinstance(self.shapes[node.name], tuple)

    def fixed(self, node: fx.Node) -> Dims:
        """All dimensions fixed."""
        shape = self.shapes[node.name]
        return (None,) * len(shape) if isinstance(shape, tuple) else ()

    def pin_all(self, node: fx.Node) -> None:
        """Keep every dimension of a value at full width."""
        for layout in self.dims.get(node, ()):
            self.channels.pin(layout)

    def pin_others(self, node: fx.Node, keep: int) -> None:
        """Keep all but one dimension of a value at full width."""
        for dim, layout in enumerate(self.dims[node]):
            if dim != keep:
                self.channels.pin(layout)

    def as_layout(self, node: fx.Node, dim: int) -> Layout:
        """Layout of a dimension; a fixed one becomes a pinned variable of its own."""
        layout = self.dims[node][dim]
        if layout is None:
            layout = self.channels.new(self.shapes[node.name][dim], node.name)
            self.channels.pin(layout)
        return layout

    def output_of(self, name: str, size: int) -> Layout | None:
        """The layout of layer `name`'s output: one variable however often it is called."""
        if name not in self._outputs:
            self._outputs[name] = self.channels.new(size, name)
        return self._outputs[name]

    def set_parameter(self, name: str, dims: Dims) -> None:
        """Say what each dimension of a parameter follows; ties it to what was said before."""
        before = self.parameters.get(name)
        if before is not None:
            dims = tuple(
                self.channels.tie(one, other) if one or other else None
                for one, other in zip(before, dims, strict=True)
            )
        self.parameters[name] = dims

    def own_tensors(self, layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
        """A layer's own parameters and buffers."""
        yield from layer.named_parameters(recurse=False)
        yield from layer.named_buffers(recurse=False)

    def refuse_cost(self, node: fx.Node, what: str) -> None:
        """Stop at a layer whose multiply-accumulates are not modelled."""
        raise TraceError(f"{module_of(node)}: {what} is not supported")

    def unknown(self, node: fx.Node) -> Dims:
        """The error for an operation without a rule.

        Raises:
            TraceError: Always.
        """
        target = node.target
        if node.op == "call_module":
            target = type(self.graph.get_submodule(str(target))).__name__
        elif callable(target):
            target = getattr(target, "__name__", str(target))
        raise TraceError(
            f"{module_of(node)}: operation '{target}' on elastic channels is not known\n"
            "  Use another layer there, or wrap that part in a module that keeps its width."
        )

    # -- the walk -----------------------------------------------------------------------

    def visit(self, node: fx.Node) -> None:
        """Find the layout of one node's value."""
        if node.op == "placeholder":
            self.dims[node] = self.fixed(node)
        elif node.op == "output":
            for value in node.all_input_nodes:
                self.pin_all(value)
        elif node.op == "get_attr":
            self.dims[node] = self._attribute(node)
        elif self.shapes[node.name] is None:
            self.dims[node] = ()  # a size, a number: narrower subnets compute their own
        else:
            self.dims[node] = self._operation(node)
            for path, *_ in (node.meta.get("nn_module_stack") or {}).values():
                self._modules[path] = node

    def _attribute(self, node: fx.Node) -> Dims:
        name, shape = str(node.target), self.shapes[node.name]
        if not isinstance(shape, tuple):
            return ()
        if name not in self.parameters:
            new = [
                self.channels.new(n, name.rpartition(".")[0] or name) if n > 1 else None
                for n in shape
            ]
            self.parameters[name] = tuple(new)
        return self.parameters[name]

    def _operation(self, node: fx.Node) -> Dims:
        rule: Any
        if node.op == "call_module":
            layer = self.graph.get_submodule(str(node.target))
            rule = MODULE_RULES.get(type(layer))
            if rule is not None:
                dims: Dims = rule(self, node, layer)
                return dims
        else:
            table = FUNCTION_RULES if node.op == "call_function" else METHOD_RULES
            rule = dict[Any, Any](table).get(node.target)
            if rule is not None:
                found: Dims = rule(self, node)
                return found
        if self._has_weights(node) or any(
            layout for value in node.all_input_nodes for layout in self.dims[value]
        ):
            return self.unknown(node)
        return self.fixed(node)

    def _has_weights(self, node: fx.Node) -> bool:
        if node.op != "call_module":
            return False
        return any(True for _ in self.graph.get_submodule(str(node.target)).parameters())

    # -- the result ---------------------------------------------------------------------

    def result(self) -> Traced:
        """Names in place of variables."""
        groups = self._name_groups()
        operations = []
        for op in self.operations:
            channels_in, channels_out = self.layouts_of[op.node]
            source = self.shapes[op.source][-1 if op.kind == "linear" else 1]
            result = self.shapes[op.node][-1 if op.kind == "linear" else 1]
            operations.append(
                (op, self._parts(channels_in, source), self._parts(channels_out, result))
            )
        outputs = {
            name: self._parts(self.dims[node][1], 0)
            for name, node in self._modules.items()
            if len(self.dims[node]) == 4 and self.dims[node][1]
        }
        values = {name: node.name for name, node in self._modules.items()}
        branches, needs = self._branches(values)
        parameters = {name: self._elastic_dims(dims) for name, dims in self.parameters.items()}
        return Traced(
            graph=self.graph,
            inputs=self.inputs,
            groups=tuple(groups.values()),
            parameters={name: dims for name, dims in parameters.items() if any(dims)},
            operations=tuple(operations),
            outputs=outputs,
            values=values,
            kernels=find_kernels(self.graph),
            stages=find_stages(self.graph.graph, branches, needs.nodes, self.shapes),
            needs=needs,
        )

    def _branches(self, values: Mapping[str, str]) -> tuple[list[Branch], Needed]:
        """Branches that can be left out, and when everything is needed."""
        graph = self.graph.graph
        layers = {op.node: (op.weight or op.node).removesuffix(".weight") for op in self.operations}
        found = find_joins(graph, self.shapes, layers, values)
        needs = self._needed(find_needs(graph, found))
        kept = [branch for branch in found if self._is_separate(branch, layers, needs)]
        return kept, self._needed(find_needs(graph, kept))

    def _needed(self, nodes: Mapping[str, Needs]) -> Needed:
        tensors: dict[str, Needs] = {}
        groups: dict[str, Needs] = {group.name: frozenset() for group in self._groups.values()}
        for node in self.graph.graph.nodes:
            for name in self._tensors_of(node):
                tensors[name] = any_of([tensors.get(name, frozenset()), nodes[node.name]])
            for name in self._made_by(node):
                groups[name] = any_of([groups[name], nodes[node.name]])
        return Needed(nodes, tensors, {name: own or ALWAYS for name, own in groups.items()})

    def _tensors_of(self, node: fx.Node) -> Iterator[str]:
        if node.op == "get_attr":
            yield str(node.target)
        elif node.op == "call_module":
            for name, _ in self.own_tensors(self.graph.get_submodule(str(node.target))):
                yield f"{node.target}.{name}"

    def _made_by(self, node: fx.Node) -> Iterator[str]:
        """Names of groups whose channels begin at a node."""
        kinds = [op.kind for op in self.operations if op.node == node.name]
        layouts: Sequence[Layout | None] = ()
        if node.op == "get_attr":
            layouts = self.dims[node]
        elif kinds and kinds != ["depthwise"]:
            layouts = (self.layouts_of[node.name][1],)
        for variable in {v for layout in layouts for v in layout or ()}:
            group = self._groups.get(self.channels.find(variable))
            if group is not None:
                yield group.name

    def _is_separate(self, branch: Branch, layers: Mapping[str, str], needs: Needed) -> bool:
        """Whether a layer, and what is concatenated, is computed for this branch alone."""

        def only(own: Needs) -> bool:
            return all(branch.name in case for case in own)

        if not any(only(needs.nodes[node]) and needs.nodes[node] for node in layers):
            return False
        if branch.joins == "add":
            return True
        body = next(node for node in self.dims if node.name == branch.body)
        parts = self._parts(self.dims[body][1], 0)
        names = [segment.name for segment in parts.segments if isinstance(segment, Group)]
        return len(names) == len(parts.segments) and all(only(needs.groups[n]) for n in names)

    def _name_groups(self) -> dict[int, Group]:
        groups: dict[int, Group] = {}
        used = {v for dims in self.parameters.values() for layout in dims for v in layout or ()}
        for variable in sorted(used):
            root = self.channels.find(variable)
            if root in groups or self.channels.is_pinned(root):
                continue
            origin = self.channels.origins[root]
            namesakes = sum(group.name.partition("#")[0] == origin for group in groups.values())
            name = f"{origin}#{namesakes + 1}" if namesakes else origin
            groups[root] = Group(name, self.channels.sizes[root])
        self._groups = groups
        return groups

    def _parts(self, layout: Layout | None, length: int) -> Parts:
        if layout is None:
            return Parts((length,))
        roots = [self.channels.find(v) for v in layout]
        return Parts(tuple(self._groups.get(root, self.channels.sizes[root]) for root in roots))

    def _elastic_dims(self, dims: Dims) -> tuple[Parts | None, ...]:
        parts = [self._parts(layout, 0) if layout else None for layout in dims]
        return tuple(p if p is not None and p.is_elastic else None for p in parts)
