"""ONNX files, written by torch's exporter."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from gancompress.checkpoint.files import write_atomic
from gancompress.elastic.graph import Example, call_with, inputs_of, resized, with_batch
from gancompress.errors import ExportError
from gancompress.hashes import ROOM, SEAL, sealed
from gancompress.runtimes.interface import HEADER

OPSET = 20
INPUT, OUTPUT = "image", "translated"


def write_onnx(path: Path, model: onnx.ModelProto) -> None:
    """Write a graph with the hash of its file in the metadata."""
    kept = onnx.ModelProto()
    kept.CopyFrom(model)
    kept.metadata_props.add(key=SEAL, value=ROOM)
    write_atomic(path, sealed(kept.SerializeToString()))


def onnx_model(
    module: nn.Module, example: Example, stride: int, header: dict[str, Any]
) -> onnx.ModelProto:
    """A generator as ONNX: any batch, any H and W that `stride` divides, float32 [-1, 1].

    Instance norms stay whole; batch norms are folded into convolutions by the exporter.

    Args:
        module: The generator, in evaluation mode, on the CPU.
        example: The shape (N, C, H, W) of an input that it accepts; of several inputs that of each
            by name, which their inputs in the graph have as well.
        stride: What H and W must be multiples of.
        header: JSON facts kept in the file's metadata.

    Raises:
        ExportError: torch.onnx cannot follow the generator.
    """
    # two different sides, so that the exporter does not take them for one symbol
    sides = (2 * max(stride, 16), 3 * max(stride, 16))
    inputs = with_batch(resized(inputs_of(module, example), *sides), 2)
    names = [INPUT] if len(inputs) == 1 else list(inputs)
    dynamic = {
        name: {
            index: torch.export.Dim.DYNAMIC
            for index, side in enumerate(shape)
            if index != 1 and side > 1
        }
        for name, shape in inputs.items()
    }
    args, kwargs = call_with({name: torch.zeros(shape) for name, shape in inputs.items()})
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                args,
                kwargs=kwargs,
                input_names=names,
                output_names=[OUTPUT],
                dynamic_shapes=tuple(dynamic.values()) if args else dynamic,
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(f"torch.onnx cannot follow the generator: {reason}") from error
    assert program is not None
    model = program.model_proto
    _forget_sources(model)
    set_header(model, describe_floats(stride, header))
    onnx.checker.check_model(model)
    return model


def _forget_sources(model: onnx.ModelProto) -> None:
    """Take out stack traces, which hold paths of the machine that exports."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        del part.metadata_props[:]


def describe_floats(stride: int, header: dict[str, Any]) -> str:
    """The header of a file from (N, C, H, W) float32 to (N, C', H, W), as JSON."""
    facts = {"stride": stride, "range": [-1, 1], "layout": "NCHW", "type": "float32"}
    return json.dumps({**header, **facts})


def describe_bytes(text: str) -> str:
    """A header of floats as that of the uint8 form."""
    facts = {"range": [0, 255], "layout": "NHWC", "type": "uint8"}
    return json.dumps({**json.loads(text), **facts})


def get_header(model: onnx.ModelProto) -> str:
    """The header of a file of ours, as JSON."""
    return next(str(entry.value) for entry in model.metadata_props if entry.key == HEADER)


def set_header(model: onnx.ModelProto, text: str) -> None:
    """Put a header, as JSON, in the place of another one."""
    onnx.helper.set_model_props(model, {HEADER: text})
