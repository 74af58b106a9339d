"""Rewrites of ONNX graphs compute exactly what the plain graph does."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from gancompress.export.rewrites import REWRITES, merge_last_convolution


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


@pytest.mark.parametrize("rewrite", REWRITES.values(), ids=REWRITES)
def test_graph_without_convolutions_is_left_alone(rewrite: Any) -> None:
    model = model_of()
    del model.graph.node[0]
    model.graph.node[0].input[0] = "image"
    assert rewrite(model, 4) is None
