"""Branches that a generator can do without: x + f(x) and [x, f(x)], found in its graph."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx

from gancompress.elastic.graph import Shapes

Needs = frozenset[frozenset[str]]
"""When a value is computed: all branches of any of these sets are kept."""

ALWAYS: Needs = frozenset({frozenset()})

_ADDITIONS: tuple[Any, ...] = (operator.add, operator.iadd, torch.add, "add", "add_")
_CONCATENATIONS: tuple[Any, ...] = (torch.cat, torch.concat, torch.concatenate)


@dataclass(frozen=True)
class Branch:
    """The f of a join x + f(x), or [x, f(x)] along the channels; without it the join is x.

    Attributes:
        name: The module whose output the join is, else the branch's first layer.
        join: Name of the join's node.
        skip: Name of the node that gives x.
        body: Name of the node that gives f(x).
        joins: Which kind of join.
    """

    name: str
    join: str
    skip: str
    body: str
    joins: Literal["add", "concat"]


def find_joins(
    graph: fx.Graph, shapes: Shapes, layers: Mapping[str, str], values: Mapping[str, str]
) -> list[Branch]:
    """All joins in which one operand is an ancestor of the other, in order of execution.

    x must come from a layer: without a branch around the whole generator nothing would be left.

    Args:
        graph: The traced generator.
        shapes: Of all values.
        layers: Names of multiply-accumulate layers by the name of their node.
        values: Name of the node of each module's output.
    """
    numbers = {node: number for number, node in enumerate(graph.nodes)}
    ancestors: dict[fx.Node, int] = {}  # as the bits of a number
    weighted = sum(1 << number for node, number in numbers.items() if node.name in layers)
    found: list[Branch] = []
    for node in graph.nodes:
        ancestors[node] = 0
        for value in node.all_input_nodes:
            ancestors[node] |= ancestors[value] | 1 << numbers[value]
        kind, operands = _operands(node, shapes)
        for x, f in (operands, operands[::-1]) if kind else ():
            before = ancestors[x] | 1 << numbers[x]
            if not ancestors[f] >> numbers[x] & 1 or not before & weighted:
                continue
            inside = (ancestors[f] | 1 << numbers[f]) & ~before & weighted
            if inside:
                first = next(n.name for n, number in numbers.items() if inside >> number & 1)
                name = _unique(_module_of(node.name, values) or layers[first], found)
                found.append(Branch(name, node.name, x.name, f.name, kind))  # type: ignore[arg-type]
    return found


def _operands(node: fx.Node, shapes: Shapes) -> tuple[str, tuple[fx.Node, ...]]:
    """Kind of join and its two operands; the kind is empty where it is none."""
    if node.op not in ("call_function", "call_method") or node.kwargs.keys() - {"dim"}:
        return "", ()
    operands: Sequence[Any] = node.args
    if node.target in _CONCATENATIONS:
        along = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
        listed = node.args[0] if along in (1, -3) else ()
        operands = listed if isinstance(listed, list | tuple) else ()  # else what `chunk` gave
    elif node.target not in _ADDITIONS:
        return "", ()
    if len(operands) != 2 or not all(isinstance(value, fx.Node) for value in operands):
        return "", ()
    one, other = (shapes[value.name] for value in operands)
    if not isinstance(one, tuple) or not isinstance(other, tuple) or len(one) != 4:
        return "", ()
    if node.target in _CONCATENATIONS:
        return "concat", tuple(operands)
    return ("add", tuple(operands)) if one == other else ("", ())


def _module_of(node: str, values: Mapping[str, str]) -> str | None:
    """The innermost module whose output a node's value is."""
    return max((path for path, value in values.items() if value == node), key=len, default=None)


def _unique(name: str, known: Sequence[Branch]) -> str:
    count = sum(branch.name.partition("#")[0] == name for branch in known)
    return f"{name}#{count + 1}" if count else name


def find_needs(graph: fx.Graph, branches: Sequence[Branch]) -> dict[str, Needs]:
    """When each node is computed, by name; never where nothing uses its value."""
    by_join = {branch.join: branch for branch in branches}
    needs: dict[str, Needs] = {}
    for node in reversed(graph.nodes):
        if node.op == "output":
            needs[node.name] = ALWAYS
            continue
        cases: set[frozenset[str]] = set()
        for user in node.users:
            branch = by_join.get(user.name)
            inside = branch is not None and branch.body == node.name
            extra = frozenset({branch.name}) if branch and inside else frozenset()
            cases |= {case | extra for case in needs[user.name]}
        needs[node.name] = any_of([frozenset(cases)])
    return needs


def any_of(needs: Sequence[Needs]) -> Needs:
    """What is computed where any of these is."""
    cases = {case for own in needs for case in own}
    return frozenset(case for case in cases if not any(other < case for other in cases))


def find_stages(
    graph: fx.Graph, branches: Sequence[Branch], needs: Mapping[str, Needs], shapes: Shapes
) -> tuple[tuple[Branch, ...], ...]:
    """Branches that are left out one after the other, in the order in which they are kept.

    A stage is a run of sums on one trunk, in order of execution, or a nest of concatenations, the
    outermost first. Outer stages come before those inside their branches.
    """
    nodes = {node.name: node for node in graph.nodes}
    by_join = {branch.join: branch for branch in branches}
    stages: list[list[Branch]] = []
    runs: dict[str, list[Branch]] = {}  # by the join that the stage ends with
    nests: dict[frozenset[str], list[Branch]] = {}  # by the concatenations that lie around
    concatenations = {branch.name for branch in branches if branch.joins == "concat"}
    for branch in branches:
        if branch.joins == "add":
            before = _join_before(nodes[branch.skip], by_join, shapes)
            stage = runs.pop(before, None)
            stages += [] if stage else [[]]
            stage = stage or stages[-1]
            stage.append(branch)
            runs[branch.join] = stage
    for branch in sorted(branches, key=lambda b: min(map(len, needs[b.join]), default=0)):
        if branch.joins == "concat" and len(needs[branch.join]) == 1:
            around = next(iter(needs[branch.join])) & concatenations
            stage = nests.pop(around, None) if around else None
            stages += [] if stage else [[]]
            stage = stage or stages[-1]
            stage.append(branch)
            nests[around | {branch.name}] = stage
    first = {branch.name: number for number, branch in enumerate(branches)}
    stages.sort(key=lambda s: (min(map(len, needs[s[0].join]), default=0), first[s[0].name]))
    return tuple(map(tuple, stages))


def _join_before(node: fx.Node, joins: Mapping[str, Branch], shapes: Shapes) -> str:
    """The join that a value follows from without weights and without a change of its shape."""
    root = node.graph.owning_module
    shape = shapes[node.name]
    while node.name not in joins:
        inputs = node.all_input_nodes
        weighted = node.op == "get_attr" or (
            node.op == "call_module"
            and root is not None
            and any(True for _ in root.get_submodule(str(node.target)).parameters())
        )
        if weighted or len(inputs) != 1 or shapes[inputs[0].name] != shape:
            return ""
        node = inputs[0]
    return node.name


def reduced_graph(
    graph: fx.Graph, branches: Sequence[Branch], needs: Mapping[str, Needs], dropped: frozenset[str]
) -> fx.Graph:
    """The graph without some branches; its nodes keep their names."""
    skips = {branch.join: branch.skip for branch in branches if branch.name in dropped}
    small, copies = fx.Graph(), dict[str, fx.Node]()

    def copied(node: fx.Node) -> fx.Node:
        return copies[node.name]

    for node in graph.nodes:
        if node.name in skips:
            if skips[node.name] in copies:
                copies[node.name] = copies[skips[node.name]]
        elif node.op == "placeholder" or is_kept(needs[node.name], dropped):
            copies[node.name] = small.node_copy(node, copied)
    return small


def is_kept(needs: Needs, dropped: frozenset[str]) -> bool:
    """Whether something is still computed without some branches."""
    return not dropped or any(not case & dropped for case in needs)
