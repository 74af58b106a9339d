"""Rewrites of ONNX graphs compute exactly what the plain graph does."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from gancompress.export.rewrites import (
    BROWSER_REWRITES,
    REWRITES,
    merge_last_convolution,
    pool_norms,
)


def model_of(
    kernel: tuple[int, int] = (7, 7),
    channels: tuple[int, int] = (5, 3),
    sides: tuple[int | str, int | str] = ("h", "w"),
    bias: bool = True,
    **attributes: Any,
) -> onnx.ModelProto:
    """Tanh behind one convolution, with weights that are multiples of 1/8."""
    rng = np.random.default_rng(0)
    inner, out = channels
    shape = (out, inner // attributes.get("group", 1), *kernel)
    tensors = [numpy_helper.from_array(eighths(rng, shape), "weight")]
    if bias:
        tensors.append(numpy_helper.from_array(eighths(rng, (out,)), "bias"))
    inputs = ["image", *(tensor.name for tensor in tensors)]
    nodes = [
        helper.make_node("Conv", inputs, ["sums"], name="last", **attributes),
        helper.make_node("Identity", ["sums"], ["translated"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ("n", inner, *sides))
    result = helper.make_tensor_value_info("translated", TensorProto.FLOAT, ("n", out, "y", "x"))
    graph = helper.make_graph(nodes, "g", [image], [result], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def eighths(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Few enough bits that float32 sums of them are exact in any order."""
    return (rng.integers(-8, 9, shape) / 8).astype(np.float32)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), None, ["CPUExecutionProvider"]
    )
    found: np.ndarray = session.run(None, {"image": x})[0]
    return found


PADS = {"none": {}, "same": {"pads": [3, 3, 3, 3]}, "uneven": {"pads": [0, 3, 4, 1]}}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("kernel", "pads"), [((7, 7), "same"), ((5, 5), "uneven"), ((3, 3), "none")]
)
def test_merged_convolution_gives_the_very_same_values(
    kernel: tuple[int, int], pads: str, bias: bool
) -> None:
    plain = model_of(kernel, bias=bias, **PADS[pads])
    before = plain.SerializeToString()
    merged = merge_last_convolution(plain, 4)
    assert merged is not None
    assert plain.SerializeToString() == before
    assert [node.op_type for node in merged.graph.node] == ["Conv", "DepthToSpace", "Identity"]
    for batch, height, width in ((1, 16, 16), (3, 12, 40)):
        x = eighths(np.random.default_rng(1), (batch, 5, height, width))
        wanted, found = run(plain, x), run(merged, x)
        assert found.shape == wanted.shape
        assert np.array_equal(found, wanted)
        assert np.unique(wanted).size > 100


def test_merged_convolution_leaves_no_weights_behind() -> None:
    merged = merge_last_convolution(model_of(), 4)
    assert merged is not None
    shapes = {tensor.name: tuple(tensor.dims) for tensor in merged.graph.initializer}
    assert shapes == {"weight.merged": (12, 5, 8, 8), "bias.merged": (12,)}


def test_weights_that_another_layer_uses_stay() -> None:
    model = model_of(channels=(3, 3), pads=[3, 3, 3, 3])
    first = helper.make_node("Conv", ["image", "weight"], ["x"], pads=[3, 3, 3, 3])
    model.graph.node[0].input[0] = "x"
    model.graph.node.insert(0, first)
    x = eighths(np.random.default_rng(1), (1, 3, 16, 16))
    merged = merge_last_convolution(model, 4)
    assert merged is not None
    assert np.allclose(run(merged, x), run(model, x), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("changes", "stride"),
    [
        ({}, 1),
        ({}, 3),
        ({"channels": (5, 8)}, 4),
        ({"kernel": (1, 1)}, 4),
        ({"strides": [2, 2]}, 4),
        ({"dilations": [2, 2]}, 4),
        ({"channels": (4, 4), "group": 2}, 4),
        ({"auto_pad": "SAME_UPPER"}, 4),
        ({"pads": [0, 0, 1, 0]}, 4),
        ({"sides": (17, 16)}, 4),
    ],
    ids=[
        "stride1",
        "stride3",
        "wide",
        "point",
        "strided",
        "dilated",
        "grouped",
        "auto_pad",
        "odd_pads",
        "odd_input",
    ],
)
def test_rewrite_is_refused_where_it_would_not_be_exact(
    changes: dict[str, Any], stride: int
) -> None:
    assert merge_last_convolution(model_of(**changes), stride) is None


def norms(scale: np.ndarray, bias: np.ndarray) -> onnx.ModelProto:
    """Two instance norms, one of them with these factors, the first after a large mean."""
    ones, zeros = np.ones_like(scale), np.zeros_like(scale)
    tensors = {"ones": ones, "zeros": zeros, "scale": scale, "bias": bias}
    tensors["far"] = np.full((1, len(scale), 1, 1), 100, np.float32)
    norm = "InstanceNormalization"
    nodes = [
        helper.make_node("Add", ["image", "far"], ["moved"]),
        helper.make_node(norm, ["moved", "ones", "zeros"], ["plain"], epsilon=1e-3),
        helper.make_node(norm, ["plain", "scale", "bias"], ["translated"], epsilon=0.5),
    ]
    shape = ("n", len(scale), "h", "w")
    image, result = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name in ("image", "translated")
    )
    stored = [numpy_helper.from_array(values, name) for name, values in tensors.items()]
    graph = helper.make_graph(nodes, "g", [image], [result], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


FACTORS = {
    "idle": ([1.0, 1.0], [0.0, 0.0]),
    "scaled": ([0.5, 3.0], [0.0, 0.0]),
    "moved": ([1.0, 1.0], [0.25, -2.0]),
    "both": ([-0.5, 3.0], [0.25, -2.0]),
}


@pytest.mark.parametrize("size", [(1, 8, 8), (3, 6, 10)], ids=str)
@pytest.mark.parametrize("factors", FACTORS)
def test_pooled_norms_are_the_norms(factors: str, size: tuple[int, int, int]) -> None:
    scale, bias = (np.array(values, np.float32) for values in FACTORS[factors])
    plain = norms(scale, bias)
    before = plain.SerializeToString()
    pooled = pool_norms(plain, 4)
    assert pooled is not None
    assert plain.SerializeToString() == before
    kinds = [node.op_type for node in pooled.graph.node]
    assert "InstanceNormalization" not in kinds
    assert kinds.count("GlobalAveragePool") == 4
    assert len(kinds) == 1 + 2 * 7 + int((scale != 1).any()) + int((bias != 0).any())
    batch, height, width = size
    x = np.random.default_rng(0).normal(0, 1, (batch, 2, height, width)).astype(np.float32)
    x[0, 0] *= 0.01  # so that the epsilon counts
    wanted = numpy_norm(numpy_norm(100 + x.astype(np.float64), 1e-3), 0.5)
    wanted = wanted * scale[:, None, None] + bias[:, None, None]
    np.testing.assert_allclose(run(pooled, x), wanted, atol=2e-4)
    np.testing.assert_allclose(run(pooled, x), run(plain, x), atol=2e-4)


def numpy_norm(x: np.ndarray, epsilon: float) -> np.ndarray:
    mean, variance = x.mean((2, 3), keepdims=True), x.var((2, 3), keepdims=True)
    return np.asarray((x - mean) / np.sqrt(variance + epsilon))


def test_what_a_norm_leaves_unused_is_not_stored() -> None:
    pooled = pool_norms(norms(np.ones(2, np.float32), np.zeros(2, np.float32)), 4)
    assert pooled is not None
    names = {tensor.name for tensor in pooled.graph.initializer}
    assert names == {"far", "plain.epsilon", "translated.epsilon"}


@pytest.mark.parametrize("kind", ["input", "computed"])
def test_norm_whose_scale_is_not_stored_stays_whole(kind: str) -> None:
    """The other one is pooled; what is shared or given out goes on being stored."""
    plain = norms(np.full(2, 3, np.float32), np.zeros(2, np.float32))
    if kind == "input":
        plain.graph.input.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, (2,)))
    else:
        plain.graph.node.insert(0, helper.make_node("Neg", ["ones"], ["minus"]))
        plain.graph.node[-1].input[1] = "minus"
    plain.graph.output.append(helper.make_tensor_value_info("zeros", TensorProto.FLOAT, (2,)))
    pooled = pool_norms(plain, 4)
    assert pooled is not None
    kept = [node for node in pooled.graph.node if node.op_type == "InstanceNormalization"]
    assert [node.output[0] for node in kept] == ["translated"]
    x = np.random.default_rng(0).normal(0, 1, (2, 2, 6, 6)).astype(np.float32)
    np.testing.assert_allclose(run(pooled, x), run(plain, x), atol=2e-4)


@pytest.mark.parametrize("rewrite", (REWRITES | BROWSER_REWRITES).values())
def test_graph_without_convolutions_and_norms_is_left_alone(rewrite: Any) -> None:
    model = model_of()
    del model.graph.node[0]
    model.graph.node[0].input[0] = "image"
    assert rewrite(model, 4) is None
