"""Costs read from an ONNX file are those of the network that was exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from gancompress.config import GeneratorOptions
from gancompress.cost.onnx import OnnxCosts, onnx_costs
from gancompress.elastic import NetworkCosts
from gancompress.errors import CheckpointError, ConfigError
from gancompress.export import onnx_model
from gancompress.models import build_generator
from runs import tiny_generator

Weights = dict[str, np.ndarray]


def module_costs(module: nn.Module, size: tuple[int, int], side: int = 64) -> OnnxCosts:
    costs = NetworkCosts(module, (1, 3, side, side))
    return OnnxCosts(costs.params, costs.macs(size), costs.macs(size, paper=True))


@pytest.mark.slow
def test_exported_generator_costs_what_the_network_costs(tmp_path: Path) -> None:
    module, path = tiny_generator().eval(), tmp_path / "tiny.onnx"
    for parameter in module.parameters():  # the exporter leaves out biases of zeros
        nn.init.normal_(parameter)
    onnx.save(onnx_model(module, (1, 3, 32, 32), 2, {}), path)
    for size in ((32, 32), (48, 64)):
        assert onnx_costs(path, size) == module_costs(module, size)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "norm"),
    [("mobile_resnet_6blocks", "instance"), ("unet_64", "batch")],
)
def test_exported_families_cost_what_the_networks_cost(
    name: str, norm: str, tmp_path: Path
) -> None:
    module = build_generator(
        GeneratorOptions(input_nc=3, output_nc=3, name=name, ngf=4, norm=norm)
    ).eval()
    path = tmp_path / "generator.onnx"
    onnx.save(onnx_model(module, (1, 3, 64, 64), 64 if "unet" in name else 4, {}), path)
    found, expected = onnx_costs(path, (64, 128)), module_costs(module, (64, 128))
    assert (found.macs, found.macs_paper) == (expected.macs, expected.macs_paper)
    if norm == "instance":
        assert found.params == expected.params
    else:  # batch norms are folded: a bias in place of a scale, a shift and no bias
        assert 0.98 * expected.params < found.params < expected.params


# --------------------------------------------------------------------- graphs made by hand


def write(path: Path, nodes: list[Any], weights: Weights, shape: tuple[Any, ...]) -> Path:
    """A model from `image` to `out`."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def floats(*shape: int) -> np.ndarray:
    return np.full(shape, 0.5, np.float32)


FREE = ("n", 3, "h", "w")


def test_grouped_and_transposed_convolutions(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["image", "a"], ["x"], group=3, pads=[1] * 4),
        helper.make_node("Conv", ["x", "b", "c"], ["y"], strides=[2, 2]),
        helper.make_node("ConvTranspose", ["y", "d"], ["out"], strides=[2, 2]),
    ]
    weights = {
        "a": floats(6, 1, 3, 3),
        "b": floats(8, 6, 1, 1),
        "c": floats(8),
        "d": floats(8, 3, 2, 2),
    }
    found = onnx_costs(write(tmp_path / "a.onnx", nodes, weights, FREE), (8, 16))
    assert found.params == 54 + 48 + 8 + 96
    assert found.macs == 8 * 16 * 54 + 4 * 8 * 48 + 4 * 8 * 96
    assert found.macs_paper == 8 * 16 * 54 + 4 * 8 * 48 + 8 * 16 * 96


def test_matrix_products(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "a", "b"], ["x"], transB=1),
        helper.make_node("MatMul", ["x", "c"], ["y"]),
        helper.make_node("PRelu", ["y", "slope"], ["out"]),
    ]
    weights = {"a": floats(10, 3), "b": floats(10), "c": floats(10, 7), "slope": floats(7)}
    found = onnx_costs(write(tmp_path / "a.onnx", nodes, weights, FREE), (8, 8))
    assert found == OnnxCosts(30 + 10 + 70 + 7, 30 + 70, 30 + 70)


def test_weights_stored_as_integers(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["a", "scale", "zero"], ["w"]),
        helper.make_node("Conv", ["image", "w"], ["x"]),
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node(
            "QLinearConv",
            ["q", "scale", "zero", "b", "scale", "zero", "scale", "zero", "bias"],
            ["p"],
        ),
        helper.make_node("DequantizeLinear", ["p", "scale", "zero"], ["out"]),
    ]
    weights = {
        "a": np.ones((4, 3, 1, 1), np.int8),
        "b": np.ones((5, 4, 1, 1), np.int8),
        "bias": np.ones(5, np.int32),
        "scale": np.array(0.1, np.float32),
        "zero": np.array(0, np.int8),
    }
    found = onnx_costs(write(tmp_path / "a.onnx", nodes, weights, FREE), (8, 8))
    assert found == OnnxCosts(12 + 20 + 5, 64 * 32, 64 * 32)


@pytest.mark.parametrize(("scale", "own"), [(0.5, 3 + 3), (1.0, 0)])
def test_norm_without_scale_and_bias_has_no_parameters(
    scale: float, own: int, tmp_path: Path
) -> None:
    nodes = [helper.make_node("InstanceNormalization", ["image", "s", "b"], ["out"])]
    weights = {"s": np.full(3, scale, np.float32), "b": np.zeros(3, np.float32)}
    found = onnx_costs(write(tmp_path / "a.onnx", nodes, weights, FREE), (8, 8))
    assert found == OnnxCosts(own, 0, 0)


def test_shapes_that_cannot_be_inferred_are_taken_from_a_run(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["ones"], ["places"]),  # how many depends on values
        helper.make_node("ReduceSum", ["places", "axes"], ["sum"], keepdims=0),
        helper.make_node("Concat", ["lead", "sum", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["image", "target"], ["x"]),
        helper.make_node("Conv", ["x", "a"], ["out"]),
    ]
    weights = {
        "ones": np.ones(3, np.float32),
        "axes": np.array([1], np.int64),
        "lead": np.array([1], np.int64),
        "rest": np.array([4, -1], np.int64),
        "a": floats(5, 3, 1, 1),
    }
    found = onnx_costs(write(tmp_path / "a.onnx", nodes, weights, FREE), (8, 8))
    assert found.macs == 8 * 8 * 15


def test_file_for_one_size_is_counted_at_that_size_alone(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["image", "a"], ["out"])]
    path = write(tmp_path / "a.onnx", nodes, {"a": floats(2, 3, 1, 1)}, (1, 3, 8, 16))
    assert onnx_costs(path, (8, 16)).macs == 8 * 16 * 6
    with pytest.raises(ConfigError, match="was exported for images of 8x16, not 16x16"):
        onnx_costs(path, (16, 16))


def test_file_that_is_no_generator_is_refused(tmp_path: Path) -> None:
    (tmp_path / "garbage.onnx").write_bytes(b"no model")
    with pytest.raises(CheckpointError, match=r"garbage\.onnx: not a readable ONNX file"):
        onnx_costs(tmp_path / "garbage.onnx", (8, 8))
    path = write(tmp_path / "a.onnx", [helper.make_node("Relu", ["image"], ["out"])], {}, (1, 3))
    with pytest.raises(CheckpointError, match="no generator with one input"):
        onnx_costs(path, (8, 8))
