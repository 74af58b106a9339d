"""Forms of an ONNX graph: images as bytes, weights stored in half precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Step = tuple[str, list[str], dict[str, Any]]
"""A node: its kind, its inputs besides what the node before gives, its attributes."""

SMALLEST_HALVED = 16
"""Elements; what is smaller are constants of the computation rather than weights."""


def with_bytes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The form that takes and gives (N, H, W, 3) uint8, with the normalisation inside.

    What `gancompress.data.to_float` and `to_uint8` do, in the same order and precision.

    Args:
        model: From (N, 3, H, W) float32 in [-1, 1] to the same; with one input and one output.
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


def with_half_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The form whose file holds weights in half precision; computing stays in float32.

    Runtimes widen the weights once, when they open the file.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    casts, tensors = [], []
    for tensor in made.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST_HALVED:
            tensors.append(tensor)
            continue
        narrow = numpy_helper.to_array(tensor).astype(np.float16)
        stored = f"{tensor.name}.half"
        tensors.append(numpy_helper.from_array(narrow, stored))
        casts.append(helper.make_node("Cast", [stored], [tensor.name], to=TensorProto.FLOAT))
    nodes = [*casts, *made.graph.node]
    for field, content in ((made.graph.initializer, tensors), (made.graph.node, nodes)):
        kept = list(content)
        del field[:]
        field.extend(kept)
    return made


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
