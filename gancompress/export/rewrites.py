"""Changes of an ONNX graph that leave every value as it is, but for rounding, and may be faster.

A rewrite takes a model and the stride of its images, and gives another model that computes the
same, or None where it does not apply. What it is given stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from gancompress.cost import Comparison
from gancompress.cost.onnx import shifted_kernels

Rewrite = Callable[[onnx.ModelProto, int], onnx.ModelProto | None]
Compare = Callable[[onnx.ModelProto, onnx.ModelProto], Comparison]

MAX_CHANNELS = 4
"""Of the output of a convolution that is merged; more of them keep the processor busy anyway."""


def merge_last_convolution(model: onnx.ModelProto, stride: int) -> onnx.ModelProto | None:
    """The last convolution computes blocks of 2x2 pixels at once.

    A k x k convolution to C <= 4 channels leaves most of a processor's vector registers empty.
    Four shifted copies of its kernel, padded with zeros to (k + 1) x (k + 1), make 4C channels;
    with a stride of 2 and DepthToSpace (mode CRD) behind it every value is the same sum as before:
    y[c, 2m + a, 2n + b] = sum over k, l of w[c, k, l] x[2m + a + k, 2n + b + l].

    Applies where that convolution has k >= 3, stride 1, no dilation, no groups, stored weights,
    and outputs of even height and width.

    Args:
        model: Of a generator (N, C, H, W) whose H and W are multiples of `stride`.
        stride: As the generator's.
    """
    nodes = [node for node in model.graph.node if node.op_type == "Conv"]
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    if stride % 2 or not nodes or not all(name in stored for name in nodes[-1].input[1:]):
        return None
    weight, *bias = (numpy_helper.to_array(stored[name]) for name in nodes[-1].input[1:])
    if not _is_plain(nodes[-1], weight) or not _has_even_sides(model, nodes[-1].output[0], stride):
        return None
    merged = onnx.ModelProto()
    merged.CopyFrom(model)
    index = list(model.graph.node).index(nodes[-1])
    _merge(merged.graph, index, shifted_kernels(weight), [np.repeat(values, 4) for values in bias])
    return merged


def pool_norms(model: onnx.ModelProto, stride: int) -> onnx.ModelProto | None:
    """Instance norms as global average pooling and arithmetic.

    ONNX Runtime computes a whole norm on one thread and, in WebAssembly, a number at a time; the
    parts run on all threads, four numbers at a time. Outside of WebAssembly they gain nothing.
    `docs/results.md` has the figures.

    Applies to norms of (N, C, H, W) whose scale and shift are stored in the graph.

    Args:
        model: Of a generator.
        stride: As the generator's.
    """
    norms = {
        index: node.input[1:]
        for index, node in enumerate(model.graph.node)
        if node.op_type == "InstanceNormalization"
    }
    factors = {name for names in norms.values() for name in names}
    factors -= {value.name for value in model.graph.input}
    stored = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.name in factors
    }
    places = [index for index, names in norms.items() if all(name in stored for name in names)]
    if not places:
        return None
    pooled = onnx.ModelProto()
    pooled.CopyFrom(model)
    for index in reversed(places):
        _pool(pooled.graph, index, stored)
    _drop_unused(pooled.graph, factors)
    return pooled


REWRITES: dict[str, Rewrite] = {"merged last convolution": merge_last_convolution}
"""By the name that a proof gives them."""

BROWSER_REWRITES: dict[str, Rewrite] = {"norms as pooling": pool_norms}
"""Those that win in a browser's WebAssembly, which is not to be had where files are written."""

CHOICES = ("measured", "always", "never", "browser")
"""When a rewrite is kept: where it is faster here, wherever it applies, not at all, or, of those
for browsers, wherever it applies."""


@dataclass(frozen=True)
class Trial:
    """What became of one rewrite.

    Attributes:
        name: Entry of `REWRITES` or `BROWSER_REWRITES`.
        is_kept: Whether the file has it.
        speed_up: Of the rewritten graph against the one without, medians of rounds in turn; None
            where it was not measured.
        interval: Of that speed-up (99 %); one that holds 1 means that no gain was seen.
    """

    name: str
    is_kept: bool
    speed_up: float | None = None
    interval: tuple[float, float] | None = None


def rewrite(
    model: onnx.ModelProto, stride: int, choice: str, compare: Compare
) -> tuple[onnx.ModelProto, list[Trial]]:
    """The model with the rewrites that win, and what became of each that applies.

    Args:
        model: Of a generator (N, C, H, W) whose H and W are multiples of `stride`.
        stride: As the generator's.
        choice: One of `CHOICES`.
        compare: Measures how many times faster the first model is than the second.
    """
    trials = []
    changes = {"never": {}, "browser": BROWSER_REWRITES}.get(choice, REWRITES)
    for name, change in changes.items():
        changed = change(model, stride)
        if changed is None:
            continue
        if choice != "measured":
            trial = Trial(name, True)
        else:
            found = compare(changed, model)
            is_faster = found.is_ranked and found.speed_up > 1
            trial = Trial(name, is_faster, found.speed_up, (found.low, found.high))
        trials.append(trial)
        model = changed if trial.is_kept else model
    return model, trials


def _pool(graph: Any, index: int, stored: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Put average pooling and arithmetic in place of a norm."""
    norm = graph.node[index]
    (value, *factors), (result,) = norm.input, norm.output
    scale, shift = (stored[name] for name in factors)
    nodes: list[Any] = []

    def add(op: str, *inputs: str) -> str:
        nodes.append(helper.make_node(op, inputs, [f"{result}.{len(nodes)}"]))
        return str(nodes[-1].output[0])

    def store(name: str, values: np.ndarray[Any, Any]) -> str:
        graph.initializer.append(numpy_helper.from_array(values, f"{result}.{name}"))
        return f"{result}.{name}"

    (epsilon,) = [a.f for a in norm.attribute if a.name == "epsilon"] or [1e-5]
    least = store("epsilon", np.array(epsilon, scale.dtype))
    centred = add("Sub", value, add("GlobalAveragePool", value))
    variance = add("GlobalAveragePool", add("Mul", centred, centred))
    made = add("Div", centred, add("Sqrt", add("Add", variance, least)))
    if (scale != 1).any():
        made = add("Mul", made, store("scale", scale.reshape(-1, 1, 1)))
    if (shift != 0).any():
        add("Add", made, store("shift", shift.reshape(-1, 1, 1)))
    nodes[-1].output[0] = result
    del graph.node[index]
    for node in reversed(nodes):
        graph.node.insert(index, node)


def _drop_unused(graph: Any, names: set[str]) -> None:
    """Do not store these values any longer, where nothing uses them."""
    used = {value for node in graph.node for value in node.input}
    used |= {output.name for output in graph.output}
    unused = [tensor for tensor in graph.initializer if tensor.name in names - used]
    for tensor in unused:
        graph.initializer.remove(tensor)


def _is_plain(node: Any, weight: np.ndarray[Any, Any]) -> bool:
    found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    units = (*found.get("strides", ()), *found.get("dilations", ()), found.get("group", 1))
    is_own_padding = found.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
    is_small = weight.ndim == 4 and len(weight) <= MAX_CHANNELS and min(weight.shape[2:]) >= 3
    return is_small and is_own_padding and all(unit == 1 for unit in units)


def _has_even_sides(model: onnx.ModelProto, name: str, stride: int) -> bool:
    """Whether a value (N, C, H, W) has even H and W for images of two neighbouring sizes."""
    return all(
        len(sides) == 2 and all(side > 0 and side % 2 == 0 for side in sides)
        for sides in (_sides(model, name, 8 * stride), _sides(model, name, 9 * stride))
    )


def _sides(model: onnx.ModelProto, name: str, side: int) -> list[int]:
    """H and W of a value for images of this side, or of the one size that the model takes."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.value_info[:]
    stored = {tensor.name for tensor in probe.graph.initializer}
    (image, *_) = (value for value in probe.graph.input if value.name not in stored)
    dims = image.type.tensor_type.shape.dim
    for place, wanted in zip(range(len(dims)), (1, 3, side, side), strict=False):
        if not dims[place].dim_value:
            dims[place].dim_value = wanted
    for output in probe.graph.output:
        output.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(probe, data_prop=True).graph
    for value in (*inferred.value_info, *inferred.output):
        if value.name == name:
            return [dim.dim_value for dim in value.type.tensor_type.shape.dim[2:]]
    return []


def _merge(
    graph: Any, index: int, weight: np.ndarray[Any, Any], bias: list[np.ndarray[Any, Any]]
) -> None:
    node = graph.node[index]
    replaced = set(node.input[1:])
    for place, values in enumerate((weight, *bias), start=1):
        name = f"{node.input[place]}.merged"
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        node.input[place] = name
    kept = [a for a in node.attribute if a.name not in ("strides", "kernel_shape")]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.append(helper.make_attribute("kernel_shape", weight.shape[2:]))
    node.attribute.append(helper.make_attribute("strides", (2, 2)))
    result, blocks = node.output[0], f"{node.output[0]}.blocks"
    node.output[0] = blocks
    name = f"{node.name}.shuffle" if node.name else ""
    shuffle = helper.make_node(
        "DepthToSpace", [blocks], [result], name=name, blocksize=2, mode="CRD"
    )
    graph.node.insert(index + 1, shuffle)
    _drop_unused(graph, replaced)
