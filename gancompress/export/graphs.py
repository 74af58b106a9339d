"""Forms of an ONNX graph: images as bytes, weights stored in fewer bits."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Step = tuple[str, list[str], dict[str, Any]]
"""A node: its kind, its inputs besides what the node before gives, its attributes."""

SMALLEST_NARROWED = 16
"""Elements; what is smaller are constants of the computation rather than weights."""

WEIGHTS = ("float32", "float16", "int8")
"""How a file may store weights; computing stays in float32."""

TINY = np.float32(1e-12)

CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1}
"""The dimension of a layer's weight that has its output channels."""


def with_bytes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The form that takes and gives (N, H, W, C) uint8, with the normalisation inside.

    What `gancompress.data.to_float` and `to_uint8` do, in the same order and precision.

    Args:
        model: From (N, C, H, W) to (N, C', H, W) float32 in [-1, 1]; with one input and one output.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    (image,) = _inputs(graph)
    (result,) = graph.output
    _rename(graph, {image.name: "values", result.name: "values_translated"})
    constants = {"scale": 1 / 127.5, "half_range": 127.5, "one": 1.0, "darkest": 0.0, "full": 255.0}
    for name, value in constants.items():
        graph.initializer.append(
            numpy_helper.from_array(np.array(value, np.float32), f"bytes.{name}")
        )
    before: list[Step] = [
        ("Transpose", [image.name], {"perm": [0, 3, 1, 2]}),
        ("Cast", [], {"to": TensorProto.FLOAT}),
        ("Mul", ["bytes.scale"], {}),
        ("Sub", ["bytes.one"], {}),
    ]
    after: list[Step] = [
        ("Add", ["values_translated", "bytes.one"], {}),
        ("Mul", ["bytes.half_range"], {}),
        ("Round", [], {}),
        ("Clip", ["bytes.darkest", "bytes.full"], {}),
        ("Cast", [], {"to": TensorProto.UINT8}),
        ("Transpose", [], {"perm": [0, 2, 3, 1]}),
    ]
    nodes = [*_chain(before, "values"), *graph.node, *_chain(after, result.name)]
    del graph.node[:]
    graph.node.extend(nodes)
    for value in (image, result):
        _make_bytes(value)
    return made


def with_narrow_weights(model: onnx.ModelProto, kind: str) -> onnx.ModelProto:
    """The form whose file holds weights in fewer bits; computing stays in float32.

    Runtimes widen the weights once, when they open the file. `float16` rounds all weights; `int8`
    rounds those of convolutions to 255 steps of their output channel's own largest magnitude, and
    all others as `float16` does.

    Args:
        model: With weights in float32.
        kind: `float16` or `int8`.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    axes = _channel_axes(made.graph) if kind == "int8" else {}
    steps, tensors = [], []
    for tensor in made.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST_NARROWED:
            tensors.append(tensor)
            continue
        values, name = numpy_helper.to_array(tensor), tensor.name
        if name not in axes:
            tensors.append(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
            steps.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
            continue
        others = tuple(axis for axis in range(values.ndim) if axis != axes[name])
        scale = np.maximum(np.abs(values).max(others, keepdims=True) / 127, TINY)
        tensors.append(
            numpy_helper.from_array(np.rint(values / scale).astype(np.int8), f"{name}.int8")
        )
        tensors.append(numpy_helper.from_array(scale, f"{name}.scale"))
        wide = f"{name}.wide"
        steps.append(helper.make_node("Cast", [f"{name}.int8"], [wide], to=TensorProto.FLOAT))
        steps.append(helper.make_node("Mul", [wide, f"{name}.scale"], [name]))
    nodes = [*steps, *made.graph.node]
    for field, content in ((made.graph.initializer, tensors), (made.graph.node, nodes)):
        kept = list(content)
        del field[:]
        field.extend(kept)
    return made


def _channel_axes(graph: Any) -> dict[str, int]:
    """The output channels' axis of every convolution's weight, by name; none of shared ones."""
    axes: dict[str, int] = {}
    uses = Counter(name for node in graph.node for name in node.input)
    for node in graph.node:
        if node.op_type in CHANNEL_AXIS and uses[node.input[1]] == 1:
            axes[node.input[1]] = CHANNEL_AXIS[node.op_type]
    return axes


def _inputs(graph: Any) -> list[Any]:
    stored = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in stored]


def _rename(graph: Any, names: dict[str, str]) -> None:
    """Rename values inside the graph; its inputs and outputs keep their names."""
    for node in graph.node:
        for field in (node.input, node.output):
            for place, name in enumerate(field):
                field[place] = names.get(name, name)


def _chain(steps: list[Step], last: str) -> list[Any]:
    """Nodes that each take what the one before gives; the last one gives `last`."""
    nodes: list[Any] = []
    for number, (kind, inputs, attributes) in enumerate(steps):
        taken = [*(nodes[-1].output if nodes else ()), *inputs]
        result = last if number == len(steps) - 1 else f"{last}.{number}{kind}"
        nodes.append(helper.make_node(kind, taken, [result], name=f"bytes.{result}", **attributes))
    return nodes


def _make_bytes(value: Any) -> None:
    """(N, C, H, W) float32 -> (N, H, W, C) uint8, in what a graph says of its input or output."""
    tensor = value.type.tensor_type
    tensor.elem_type = TensorProto.UINT8
    batch, channels, height, width = tensor.shape.dim
    dims = []
    for dim in (batch, height, width, channels):
        copy = onnx.TensorShapeProto.Dimension()
        copy.CopyFrom(dim)
        dims.append(copy)
    del tensor.shape.dim[:]
    tensor.shape.dim.extend(dims)
