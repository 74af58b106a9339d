"""Parameters and multiply-accumulates of an ONNX file at an image size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from onnx import numpy_helper, shape_inference

from gancompress.errors import CheckpointError, ConfigError
from gancompress.runtimes.onnx import external_files, open_session

WEIGHTED: dict[str, tuple[int, ...]] = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "ConvInteger": (1,),
    "QLinearConv": (3, 8),
    "Gemm": (1, 2),
    "MatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "QLinearMatMul": (0, 3),
    "PRelu": (1,),
}
"""Layers with parameters: the positions of their weights and biases among the inputs."""

NORMS = ("BatchNormalization", "InstanceNormalization", "GroupNormalization", "LayerNormalization")
"""Layers with a scale and a bias (inputs 1 and 2), which all ones and all zeros stand for none."""

PASSING = ("DequantizeLinear", "Identity", "Cast", "Transpose", "Reshape")
"""What may stand between a stored weight and the layer that uses it."""


@dataclass(frozen=True)
class OnnxCosts:
    """Costs of one image.

    Attributes:
        params: Elements of all weights and biases, as far as the file still has them: batch norms
            are usually folded into convolutions.
        macs: Multiply-accumulates.
        macs_paper: The same with transposed convolutions counted at their output positions.
    """

    params: int
    macs: int
    macs_paper: int


def onnx_costs(path: Path, size: tuple[int, int]) -> OnnxCosts:
    """Costs of an ONNX file with one image input: (N, C, H, W), or (N, H, W, 3) uint8.

    A convolution that computes blocks of 2x2 pixels with zeros around its kernels (see
    `shifted_kernels`) counts as the convolution that it stands for.

    Args:
        path: The file.
        size: Height and width of the image.

    Raises:
        CheckpointError: Not a readable ONNX file, or not one of an image generator.
        ConfigError: It was exported for another image size.
    """
    external_files(path)
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf raises types of its own
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: not a readable ONNX file: {reason}") from None
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    _set_size(model, size, path)
    graph = _Graph(model)
    macs = [graph.macs(node) for node in model.graph.node]
    return OnnxCosts(graph.params(), sum(true for true, _ in macs), sum(paper for _, paper in macs))


def _set_size(model: Any, size: tuple[int, int], path: Path) -> None:
    """Make the input one image of this size, and forget the shapes that followed from another."""
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    dims: Any = inputs[0].type.tensor_type.shape.dim if len(inputs) == 1 else []
    if len(dims) != 4:
        raise CheckpointError(f"{path}: no generator with one input (N, C, H, W)")
    is_bytes = inputs[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    rows, columns = (1, 2) if is_bytes else (2, 3)
    for place, wanted in ((0, 1), (rows, size[0]), (columns, size[1])):
        if place and dims[place].dim_value not in (0, wanted):
            own = f"{dims[rows].dim_value}x{dims[columns].dim_value}"
            raise ConfigError(f"{path} was exported for images of {own}, not {size[0]}x{size[1]}")
        dims[place].dim_value = wanted
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")


def shifted_kernels(weight: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Kernels of a convolution of stride 2 whose outputs are the 2x2 blocks of one of stride 1.

    Args:
        weight: (C, I, k, l).

    Returns:
        (4C, I, k + 1, l + 1), zeros around every kernel; channels in DepthToSpace's order CRD.
    """
    out, into, height, width = weight.shape
    kernels = np.zeros((out, 2, 2, into, height + 1, width + 1), weight.dtype)
    for down in range(2):
        for right in range(2):
            kernels[:, down, right, :, down : down + height, right : right + width] = weight
    return kernels.reshape(4 * out, into, height + 1, width + 1)


class _Graph:
    """A model whose values are known by name."""

    def __init__(self, model: Any) -> None:
        self.stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self.makers = {name: node for node in model.graph.node for name in node.output}
        for node in model.graph.node:
            if node.op_type == "Constant" and node.attribute[0].HasField("t"):
                self.stored[node.output[0]] = node.attribute[0].t
        self.nodes = model.graph.node
        shuffled = {n.input[0] for n in self.nodes if n.op_type == "DepthToSpace"}
        self.merged = {
            node.output[0]
            for node in self.nodes
            if node.op_type == "Conv" and node.output[0] in shuffled and self._is_merged(node)
        }
        self.shapes = self._shapes(model)

    def params(self) -> int:
        """See `OnnxCosts`."""
        names: set[str] = set()
        merged: int = 0
        for node in self.nodes:
            places = WEIGHTED.get(node.op_type, ())
            if node.op_type in NORMS and not self._is_plain(node):
                places = (1, 2)
            for place in places:
                if place < len(node.input):
                    names.add(self._origin(node.input[place]))
            if node.output[0] in self.merged:
                own = {self._origin(name) for name in node.input[1:]}
                names -= own
                merged += self._kernel_size(node) + sum(
                    math.prod(self.stored[name].dims) // 4
                    for name in own
                    if len(self.stored[name].dims) == 1
                )
        stored = names & self.stored.keys()
        return merged + int(sum(math.prod(self.stored[name].dims) for name in stored))

    def macs(self, node: Any) -> tuple[int, int]:
        """Multiply-accumulates of a node: true, and as the papers count."""
        kind, out = node.op_type, node.output[0]
        if kind in ("Conv", "ConvTranspose", "ConvInteger", "QLinearConv"):
            weights = math.prod(self.shapes[node.input[WEIGHTED[kind][0]]])
            if out in self.merged:
                weights = 4 * self._kernel_size(node)  # once for each of the pixels of a block
            paper = weights * math.prod(self.shapes[out][2:])
            if kind == "ConvTranspose":  # once for each input position
                return weights * math.prod(self.shapes[node.input[0]][2:]), paper
            return paper, paper
        if kind == "Gemm":
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            inner = self.shapes[node.input[0]][0 if transposed else 1]
        elif kind in ("MatMul", "MatMulInteger", "QLinearMatMul"):
            inner = self.shapes[node.input[0]][-1]
        else:
            return 0, 0
        total = math.prod(self.shapes[out]) * inner
        return total, total

    def _is_merged(self, node: Any) -> bool:
        strides = [tuple(a.ints) for a in node.attribute if a.name == "strides"]
        if strides != [(2, 2)] or self._origin(node.input[1]) not in self.stored:
            return False
        weight = numpy_helper.to_array(self.stored[self._origin(node.input[1])])
        plain = weight[::4, :, :-1, :-1]
        return len(weight) % 4 == 0 and bool(np.array_equal(shifted_kernels(plain), weight))

    def _kernel_size(self, node: Any) -> int:
        """Weights of the convolution that a merged one stands for."""
        out, into, height, width = self.stored[self._origin(node.input[1])].dims
        return int(out // 4 * into * (height - 1) * (width - 1))

    def _origin(self, name: str) -> str:
        while name not in self.stored and name in self.makers:
            maker = self.makers[name]
            is_scaled = maker.op_type == "Mul" and maker.input[1] in self.stored
            if maker.op_type not in PASSING and not is_scaled:
                break
            name = maker.input[0]
        return name

    def _is_plain(self, norm: Any) -> bool:
        scale, bias = (self.stored.get(self._origin(name)) for name in norm.input[1:3])
        return (
            scale is not None
            and bias is not None
            and bool((numpy_helper.to_array(scale) == 1).all())
            and not numpy_helper.to_array(bias).any()
        )

    def _shapes(self, model: Any) -> dict[str, tuple[int, ...]]:
        """Of all values that matter; those that inference leaves open are taken from one run."""
        shapes = {name: tuple(tensor.dims) for name, tensor in self.stored.items()}
        inferred = shape_inference.infer_shapes(model, data_prop=True).graph
        for value in (*inferred.input, *inferred.value_info, *inferred.output):
            dims = value.type.tensor_type.shape.dim
            if value.type.tensor_type.HasField("shape") and all(
                d.HasField("dim_value") for d in dims
            ):
                shapes[value.name] = tuple(d.dim_value for d in dims)
        needed = [
            name
            for node in self.nodes
            if node.op_type in WEIGHTED and node.op_type != "PRelu"
            for name in (*node.input, *node.output)
            if name and name not in shapes
        ]
        if needed:
            shapes |= _shapes_of_a_run(model, sorted(set(needed)), shapes)
        return shapes


def _shapes_of_a_run(
    model: Any, names: list[str], shapes: dict[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """Shapes of these values when a black image goes through."""
    traced = onnx.ModelProto.FromString(model.SerializeToString())
    del traced.graph.output[:]
    traced.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    try:
        session = open_session(traced.SerializeToString())
        image = session.get_inputs()[0]
        kind = np.uint8 if image.type == "tensor(uint8)" else np.float32
        values = session.run(names, {image.name: np.zeros(shapes[image.name], kind)})
    except Exception as error:  # the runtime raises types of its own
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"the ONNX file does not run at this size: {reason}") from None
    return {name: value.shape for name, value in zip(names, values, strict=True)}
