"""ONNX models of many subnets: slices of the widest, which is exported once for each depth."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from gancompress.elastic import Depth, SearchSpace, Subnet, Supernet, Width
from gancompress.elastic.parts import narrow
from gancompress.errors import ExportError
from gancompress.export.onnx import onnx_model
from gancompress.export.rewrites import REWRITES
from gancompress.runtimes.onnx import open_session

CONVOLUTIONS = ("Conv", "ConvTranspose")
LAYERS = (*CONVOLUTIONS, "Gemm", "MatMul")
"""What multiplies and accumulates."""

PER_CHANNEL = ("InstanceNormalization", "BatchNormalization", "PRelu")
"""What has vectors with a value for each channel besides its input."""

TOLERANCE = 1e-3  # of an image in [-1, 1]


class OnnxSubnets:
    """Models of the subnets of one supernet.

    Every node and its output are named `stepN.KIND`, where N counts layers as
    `gancompress.cost.steps.Plan` does, so that a runtime's profile can be told apart.

    Attributes:
        slices: Whether slices of the largest model compute the subnets' images; where they do
            not, every subnet is exported for itself.

    Args:
        net: The supernet, on the CPU, in evaluation mode.
        stride: What H and W must be multiples of.

    Raises:
        ExportError: The exported graph has other layers than the generator's.
    """

    def __init__(self, net: Supernet, stride: int) -> None:
        self.net, self.stride = net, stride
        self._widest: dict[frozenset[str], _Exported] = {}
        self._widest_without(frozenset())
        self.slices = is_sliceable(net.space) and all(
            self._agrees(s) for s in (net.space.smallest(), _mixed(net))
        )

    def model(self, subnet: Subnet) -> bytes:
        """A serialised model."""
        content: bytes = self._model(subnet).SerializeToString()
        return content

    def fast_model(self, subnet: Subnet, size: tuple[int, int]) -> bytes:
        """A serialised model of the same values for one image of this (height, width) at a time."""
        model = self._model(subnet)
        for rewrite in REWRITES.values():
            model = rewrite(model, self.stride) or model
        dims = model.graph.input[0].type.tensor_type.shape.dim
        for dim, side in zip(dims, (1, self.net.example_shape[1], *size), strict=True):
            dim.dim_value = side
        for output in model.graph.output:
            output.type.tensor_type.ClearField("shape")
        content: bytes = model.SerializeToString()
        return content

    def _model(self, subnet: Subnet) -> Any:
        if self.slices:
            return self._sliced(subnet)
        dropped = self.net.space.dropped(subnet)
        return self._export(self.net.extract(subnet).eval(), dropped)

    def _export(self, module: torch.nn.Module, dropped: frozenset[str]) -> Any:
        inputs = self.net.traced.inputs
        model = onnx_model(copy.deepcopy(module).eval(), inputs, self.stride, {})
        del model.graph.value_info[:]
        layers = sum(node.op_type in LAYERS for node in model.graph.node)
        known = len(self.net.traced.reduced(dropped).operations)
        if layers != known:
            raise ExportError(
                f"the exported graph has {layers} layers, the generator {known}: times "
                "cannot be told apart\n"
                "  Measure in eager PyTorch: --runtime eager"
            )
        _name_steps(model.graph)
        return model

    def _widest_without(self, dropped: frozenset[str]) -> _Exported:
        if dropped not in self._widest:
            module = self.net.widest(dropped)
            self._widest[dropped] = _Exported.of(self._export(module, dropped))
        return self._widest[dropped]

    def _sliced(self, subnet: Subnet) -> Any:
        widest = self._widest_without(self.net.space.dropped(subnet))
        model = onnx.ModelProto()
        model.CopyFrom(widest.model)
        slicer = _Slicer(self.net, subnet, widest.tensors)
        for node in model.graph.node:
            slicer.visit(node)
        del model.graph.initializer[:]
        for name, array in slicer.kept.items():
            model.graph.initializer.append(numpy_helper.from_array(array, name))
        return model

    @torch.inference_mode()
    def _agrees(self, subnet: Subnet) -> bool:
        """Whether the slices compute the subnet's image."""
        x = torch.rand(self.net.example_shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
        try:
            session = open_session(self._sliced(subnet).SerializeToString())
            out = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
        except Exception:  # widths that do not fit: the runtime raises types of its own
            return False
        expected = self.net(x, subnet).numpy()
        return out.shape == expected.shape and bool(np.abs(out - expected).max() <= TOLERANCE)


def is_sliceable(space: SearchSpace) -> bool:
    """Whether subnets differ in nothing but what a slice can leave out."""
    return all(isinstance(dimension, Width | Depth) for dimension in space.dimensions)


@dataclass(frozen=True)
class _Exported:
    """A model and its stored tensors by name."""

    model: Any
    tensors: Mapping[str, np.ndarray[Any, Any]]

    @classmethod
    def of(cls, model: Any) -> _Exported:
        stored = model.graph.initializer
        return cls(model, {tensor.name: numpy_helper.to_array(tensor) for tensor in stored})


def _mixed(net: Supernet) -> Subnet:
    """A subnet whose neighbouring widths differ."""
    dimensions = net.space.dimensions
    return net.space.subnet(d.choices[-1 if n % 2 else 0] for n, d in enumerate(dimensions))


def _name_steps(graph: Any) -> None:
    """Name nodes and values by the step that they belong to.

    What is no layer belongs to what lies after the latest layer that its inputs come from.
    """
    step_of: dict[str, int] = {}
    names: dict[str, str] = {}
    ends = {output.name for output in graph.output}
    layers = 0
    for index, node in enumerate(graph.node):
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)
        if node.op_type in LAYERS:
            layers += 1
            step, after = 2 * layers - 1, 2 * layers
        else:
            step = after = max((step_of.get(name, 0) for name in node.input), default=0)
        node.name = f"step{step}.{node.op_type}{index}"
        for place, name in enumerate(node.output):
            if name and name not in ends:
                names[name] = f"{node.name}.{place}"
                node.output[place] = names[name]
            step_of[node.output[place]] = after


class _Slicer:
    """Walks a graph and narrows what is stored to the widths of a subnet.

    Attributes:
        kept: Narrowed tensors by name.
    """

    def __init__(
        self, net: Supernet, subnet: Subnet, tensors: Mapping[str, np.ndarray[Any, Any]]
    ) -> None:
        self.tensors = tensors
        self.dims = net.traced.reduced(net.space.dropped(subnet)).parameters
        self.widths = net.space.channels(subnet)
        self.kept: dict[str, np.ndarray[Any, Any]] = {}
        self._channels: dict[str, int] = {}

    def visit(self, node: Any) -> None:
        """Narrow the tensors of one node; nodes come in the order of execution."""
        known = [self._channels[name] for name in node.input if name in self._channels]
        channels = known[0] if known else 0
        if node.op_type in CONVOLUTIONS:
            channels = self._convolution(node)
        elif node.op_type == "Concat" and _attribute(node, "axis").i == 1:
            channels = sum(known)
        for place, name in enumerate(node.input):
            if name not in self.tensors:
                continue
            if node.op_type in PER_CHANNEL or (node.op_type in CONVOLUTIONS and place == 2):
                node.input[place] = self._vector(name, channels)
            else:
                self._named(name)
        for name in node.output:
            self._channels[name] = channels

    def _convolution(self, node: Any) -> int:
        weight = self._named(node.input[1])
        groups = [a for a in node.attribute if a.name == "group"]
        if groups and groups[0].i > 1:
            groups[0].i = len(weight)  # depth-wise: other groups are refused by the trace
        number = groups[0].i if groups else 1
        return len(weight) if node.op_type == "Conv" else int(weight.shape[1]) * number

    def _named(self, name: str) -> np.ndarray[Any, Any]:
        """A tensor that has a parameter's name, narrowed as that parameter."""
        if name not in self.kept:
            dims = self.dims.get(name, ())
            tensor = torch.from_numpy(self.tensors[name].copy())
            tensor = narrow(tensor, dims, self.widths)
            self.kept[name] = np.ascontiguousarray(tensor.numpy())
        return self.kept[name]

    def _vector(self, name: str, channels: int) -> str:
        """The first channels of a vector, which several nodes of different widths may share."""
        own, tensor = f"{name}.{channels}", self.tensors[name]
        along = int(np.argmax(tensor.shape))  # (C,) or (1, C, 1, 1)
        first = tensor.take(range(min(channels, tensor.shape[along])), along)
        self.kept[own] = np.ascontiguousarray(first)
        return own


def _attribute(node: Any, name: str) -> Any:
    return next(attribute for attribute in node.attribute if attribute.name == name)
