"""Walk a generator's graph and find which channel dimensions must move together."""

from __future__ import annotations

import operator
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
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
    DECIDED,
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
from gancompress.elastic.parts import Blocks, Group, Parts, Segment
from gancompress.elastic.rules import FUNCTION_RULES, METHOD_RULES, MODULE_RULES
from gancompress.elastic.traced import Needed, Traced
from gancompress.errors import TraceError


def trace(generator: nn.Module, example: Example) -> Traced:
    """Find the channel groups of a generator.

    Args:
        generator: Any module whose forward `torch.fx` can trace.
        example: The shape (N, C, H, W) of an input that it accepts, or that of each by name.

    Raises:
        TraceError: The generator's own forward cannot be traced.
    """
    _refuse_parametrizations(generator)
    inputs = inputs_of(generator, example)
    graph = trace_graph(generator, inputs)
    walk = Walk(graph, inputs, generator)
    for node in graph.graph.nodes:
        walk.visit(node)
    return walk.result()


def _names_of_tensors(generator: nn.Module) -> dict[int, list[str]]:
    """All names of every parameter and buffer, by its identity."""
    names: dict[int, list[str]] = defaultdict(list)
    for found in (generator.named_parameters, generator.named_buffers):
        for name, tensor in found(remove_duplicate=False):
            names[id(tensor)].append(name)
    return names


def _tied(generator: nn.Module) -> set[str]:
    """Names of the tensors that several modules have, not those of one module of several names."""
    owners: dict[int, int] = Counter(
        id(tensor)
        for module in generator.modules()
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False))
    )
    names = _names_of_tensors(generator)
    return {name for key, count in owners.items() if count > 1 for name in names[key]}


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
        generator: What was traced.
    """

    def __init__(self, graph: fx.GraphModule, inputs: Inputs, generator: nn.Module) -> None:
        self.graph = graph
        self.inputs = inputs
        self._names = _names_of_tensors(generator)
        self._known = {name for names in self._names.values() for name in names}
        self._whole = _tied(generator)  # tensors that keep their full width
        self.shapes = record_shapes(graph, with_batch(inputs, 2))
        self.channels = Channels()
        self.dims: dict[fx.Node, Dims] = {}
        self.parameters: dict[str, Dims] = {}
        self.operations: list[Operation] = []
        self.kept: dict[str, str] = {}
        self.pieces: dict[fx.Node, list[Dims]] = {}  # of values that are several tensors
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

    def pinned_layout(self, size: int, origin: str) -> Layout:
        """A variable of its own for a fixed dimension."""
        layout = self.channels.new(size, origin)
        self.channels.pin(layout)
        return layout

    def is_share(self, size: Any, layout: Layout | None, count: int) -> bool:
        """Whether a size in a forward is always this part of a dimension's width."""
        wanted = {root: share / count for root, share in self._form(layout).items()}
        return self._number(size) == wanted

    def agree(self, size: Any, layout: Layout | None) -> None:
        """A view says that a dimension has this size, which other widths may decide."""
        if not isinstance(size, fx.Node) or self.is_share(size, layout, 1):
            return
        read = self._lengths_read(size)
        if read is not None and len(read) == 1 and read[0]:
            self.channels.tie(read[0], layout)
            return
        self.channels.pin(layout)
        self.pin_lengths(size)

    def whole_of(self, size: Any, count: int) -> Layout | None:
        """The dimension of which a size is one of so many parts, as in `x.shape[1] // heads`."""
        if not isinstance(size, fx.Node) or size.target is not operator.floordiv:
            return None
        read = self._lengths_read(size.args[0]) if isinstance(size.args[0], fx.Node) else None
        return read[0] if read and len(read) == 1 and size.args[1] == count else None

    def pin_lengths(self, node: fx.Node) -> None:
        """Keep all widths that a number is made of."""
        read = self._lengths_read(node)
        if read is not None:
            for layout in read:
                self.channels.pin(layout)
            return
        for value in node.all_input_nodes:
            if not self.is_tensor(value):
                self.pin_lengths(value)

    def _form(self, layout: Layout | None) -> dict[int, Fraction]:
        """The width of a dimension as a sum of shares of root variables."""
        form: dict[int, Fraction] = {}
        for root, length in self.channels.segments(layout):
            form[root] = form.get(root, Fraction(0)) + length
        return form

    def _number(self, size: Any) -> dict[int, Fraction] | None:
        """The same of a size in a forward, None where that is not known."""
        if not isinstance(size, fx.Node):
            return {}
        read = self._lengths_read(size)
        if read is not None:
            return self._form(read[0]) if len(read) == 1 else None
        if size.target in (operator.floordiv, operator.mul) and isinstance(size.args[1], int):
            form, number = self._number(size.args[0]), Fraction(size.args[1])
            factor = number if size.target is operator.mul else 1 / number
            return form and {root: share * factor for root, share in form.items()}
        return None

    def _lengths_read(self, node: fx.Node) -> list[Layout | None] | None:
        """The dimensions whose lengths a value is, such as `x.size(1)` and `x.shape[-2:]`."""
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node):
            return None
        if node.op == "call_method" and node.target == "size" and self.is_tensor(source):
            dims = list(self.dims[source])
            return dims if len(node.args) == 1 else [dims[int(node.args[1])]]  # type: ignore[arg-type]
        if node.target is getattr and node.args[1] == "shape" and self.is_tensor(source):
            return list(self.dims[source])
        if node.target is operator.getitem and self.shapes[source.name] is None:
            read, key = self._lengths_read(source), node.args[1]
            if read is not None and isinstance(key, int | slice):
                return read[key] if isinstance(key, slice) else [read[key]]
        return None

    def output_of(self, name: str, size: int) -> Layout | None:
        """The layout of layer `name`'s output: one variable however often it is called."""
        if name not in self._outputs:
            self._outputs[name] = self.channels.new(size, name)
        return self._outputs[name]

    def set_parameter(self, name: str, dims: Dims) -> None:
        """Say what each dimension of a parameter follows; ties it to what was said before.

        One that several modules have, or one without a rule has as well, keeps its full width.
        """
        if name in self._whole:
            self.kept.setdefault(name.rpartition(".")[0], "shared weights")
            for layout in dims:
                self.channels.pin(layout)
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

    def keep(self, node: fx.Node) -> Dims:
        """What a node reads, and its own tensors, keep their full width; so does its value."""
        layouts = [layout for value in node.all_input_nodes for layout in self.dims[value]]
        for value in node.all_input_nodes:
            layouts += [layout for dims in self.pieces.get(value, ()) for layout in dims]
        if node.op == "call_module":
            layer = self.graph.get_submodule(str(node.target))
            tensors = (*layer.parameters(), *layer.buffers())
            own = [name for tensor in tensors for name in self._names[id(tensor)]]
            self._whole.update(own)
            layouts += [layout for name in own for layout in self.parameters.get(name, ())]
        elastic = any(not self.channels.is_pinned(v) for layout in layouts for v in layout or ())
        if elastic or self._has_weights(node):
            target = node.target
            if node.op == "call_module":
                target = type(self.graph.get_submodule(str(target))).__name__
            elif callable(target):
                target = getattr(target, "__name__", str(target))
            self.kept.setdefault(module_of(node), str(target))
        for layout in layouts:
            self.channels.pin(layout)
        return self.fixed(node)

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
            if DECIDED in node.meta:
                self.pin_lengths(node)
        else:
            self.dims[node] = self._operation(node)
            for path, *_ in (node.meta.get("nn_module_stack") or {}).values():
                self._modules[path] = node

    def _attribute(self, node: fx.Node) -> Dims:
        name, shape = str(node.target), self.shapes[node.name]
        if not isinstance(shape, tuple):
            return ()
        if name not in self._known or name in self._whole:  # a constant has no narrower one
            return self.fixed(node)
        if name not in self.parameters:
            new = [
                self.channels.new(n, name.rpartition(".")[0] or name) if n > 1 else None
                for n in shape
            ]
            self.parameters[name] = tuple(new)
        return self.parameters[name]

    def _operation(self, node: fx.Node) -> Dims:
        try:
            dims = self._by_rule(node)
        except (TraceError, TypeError, ValueError, LookupError, AttributeError, AssertionError):
            dims = None  # a call that its rule does not foresee, such as a list in another form
        if dims is None or not self._fit(dims, self.shapes[node.name]):
            for layout in dims or ():
                self.channels.pin(layout)
            dims = self.keep(node)
        if node.name in self.shapes.macs and node.name not in self.layouts_of:
            self._fixed_cost(node)
        return dims

    def _fit(self, dims: Dims, shape: Any) -> bool:
        """Whether what a rule has answered is as long as the value, which may be several ones."""
        if not isinstance(shape, tuple):
            return True
        pairs = zip(dims, shape, strict=False)
        widths = (layout is None or self.channels.width(layout) == n for layout, n in pairs)
        return len(dims) == len(shape) and all(widths)

    def _by_rule(self, node: fx.Node) -> Dims | None:
        """What the rule for an operation says, None where there is no rule."""
        rule: Any
        if node.op == "call_module":
            layer = self.graph.get_submodule(str(node.target))
            rule = MODULE_RULES.get(type(layer))
            return rule(self, node, layer) if rule else None
        table = FUNCTION_RULES if node.op == "call_function" else METHOD_RULES
        rule = dict[Any, Any](table).get(node.target)
        return rule(self, node) if rule else None

    def _fixed_cost(self, node: fx.Node) -> None:
        """Count the multiply-accumulates of a node whose widths are not followed."""
        self.keep(node)
        tensors = [value for value in node.all_input_nodes if self.is_tensor(value)]
        source = tensors[0] if tensors else node
        self.operations.append(Operation(node.name, source.name, "matmul", 1, None))
        self.layouts_of[node.name] = (None, None)

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
            if op.kind == "matmul":
                operations.append((op, self._parts(channels_in, 1), self._parts(channels_out, 1)))
                continue
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
            kept=self.kept,
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
        elif kinds and not kinds[0].endswith(("depthwise", "matmul")):
            layouts = (self.layouts_of[node.name][1],)
        for variable in {v for layout in layouts for v, _ in self.channels.segments(layout)}:
            group = self._groups.get(variable)
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
        names = parts.groups
        return len(names) == len(parts.segments) and all(only(needs.groups[n]) for n in names)

    def _name_groups(self) -> dict[int, Group]:
        groups: dict[int, Group] = {}
        units: dict[int, int] = {}
        for dims in self.parameters.values():
            for root, length in (s for layout in dims for s in self.channels.segments(layout)):
                units[root] = max(units.get(root, 1), length)
        for root in sorted(units, key=lambda v: (self.channels.ranks[v], v)):
            if self.channels.is_pinned(root):
                continue
            origin = self.channels.origins[root]
            namesakes = sum(group.name.partition("#")[0] == origin for group in groups.values())
            name = f"{origin}#{namesakes + 1}" if namesakes else origin
            groups[root] = Group(name, self.channels.sizes[root], units[root])
        self._groups = groups
        return groups

    def _parts(self, layout: Layout | None, length: int) -> Parts:
        if layout is None:
            return Parts((length,))
        return Parts(tuple(self._segment(*found) for found in self.channels.segments(layout)))

    def _segment(self, root: int, length: int) -> Segment:
        group = self._groups.get(root)
        if group is None:
            return self.channels.sizes[root] * length
        return group if length == 1 else Blocks(group, length)

    def _elastic_dims(self, dims: Dims) -> tuple[Parts | None, ...]:
        parts = [self._parts(layout, 0) if layout else None for layout in dims]
        return tuple(p if p is not None and p.is_elastic else None for p in parts)
