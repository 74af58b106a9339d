"""What is known of a traced generator: groups, operations, branches, and what needs which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import fx

from gancompress.elastic.branches import Branch, Needs, is_kept, reduced_graph
from gancompress.elastic.graph import Inputs, Operation, Shapes, record_shapes, resized
from gancompress.elastic.kernels import Kernel
from gancompress.elastic.parts import Group, Parts


@dataclass(frozen=True)
class Needed:
    """When something is computed or used, by its name.

    Attributes:
        nodes: Of the graph.
        tensors: Parameters and buffers that the graph uses.
        groups: Channel groups.
    """

    nodes: Mapping[str, Needs]
    tensors: Mapping[str, Needs]
    groups: Mapping[str, Needs]


@dataclass(frozen=True)
class Traced:
    """What the walk found.

    Attributes:
        graph: The traced generator.
        inputs: Shapes of its inputs by name.
        groups: Channel groups in order of execution.
        parameters: For each parameter and buffer with an elastic dimension, the parts of every
            dimension; None where the length is fixed.
        operations: Multiply-accumulate layers with the parts of their input and output.
        outputs: Parts of the channel dimension (1) of each module's output, by module name.
        values: Name of the node of each module's output, by module name.
        kernels: Kernels that can be cropped, in order of execution.
        stages: Branches that can be left out, see `find_stages`.
        needs: When each node, parameter and buffer, and group is computed or used, by its name.
        kept: Modules around operations without a rule, and the first of these; what they read keeps
            its full width.
    """

    graph: fx.GraphModule
    inputs: Inputs
    groups: tuple[Group, ...]
    parameters: dict[str, tuple[Parts | None, ...]]
    operations: tuple[tuple[Operation, Parts, Parts], ...]
    outputs: dict[str, Parts]
    values: dict[str, str]
    kernels: tuple[Kernel, ...]
    stages: tuple[tuple[Branch, ...], ...]
    needs: Needed
    kept: Mapping[str, str]
    _whole: fx.GraphModule | None = field(default=None, repr=False, compare=False)
    _reduced: dict[frozenset[str], Traced] = field(default_factory=dict, repr=False, compare=False)

    def shapes(self, height: int, width: int) -> Shapes:
        """Shapes of all values for one image, at full width and with all branches."""
        return record_shapes(self._whole or self.graph, resized(self.inputs, height, width))

    def lacks(self, dropped: frozenset[str]) -> frozenset[str]:
        """Groups that are gone where some branches are left out."""
        kept = self.needs.groups
        return frozenset(name for name in kept if not is_kept(kept[name], dropped))

    def reduced(self, dropped: frozenset[str]) -> Traced:
        """What is left without some branches; made once for every set of them."""
        if not dropped:
            return self
        if dropped not in self._reduced:
            self._reduced[dropped] = self._reduce(dropped)
        return self._reduced[dropped]

    def _reduce(self, dropped: frozenset[str]) -> Traced:
        branches = [branch for stage in self.stages for branch in stage]
        gone, needs = self.lacks(dropped), self.needs
        instead = {b.join: b.skip for b in branches if b.name in dropped}

        def standing(node: str) -> str:
            while node in instead:
                node = instead[node]
            return node

        def left(dims: tuple[Parts | None, ...]) -> tuple[Parts | None, ...]:
            return tuple(parts and parts.without(gone) for parts in dims)

        graph = reduced_graph(self.graph.graph, branches, needs.nodes, dropped)
        values = {name: standing(node) for name, node in self.values.items()}
        kept = {name for name, node in values.items() if is_kept(needs.nodes[node], dropped)}
        return Traced(
            graph=fx.GraphModule(self.graph, graph),
            inputs=self.inputs,
            groups=tuple(group for group in self.groups if group.name not in gone),
            parameters={
                name: left(dims)
                for name, dims in self.parameters.items()
                if is_kept(needs.tensors[name], dropped)
            },
            operations=tuple(
                (replace(op, source=standing(op.source)), ins.without(gone), outs.without(gone))
                for op, ins, outs in self.operations
                if is_kept(needs.nodes[op.node], dropped)
            ),
            outputs={n: parts.without(gone) for n, parts in self.outputs.items() if n in kept},
            values={name: node for name, node in values.items() if name in kept},
            kernels=self.kernels,
            stages=(),
            needs=needs,
            kept=self.kept,
            _whole=self.graph,
        )
