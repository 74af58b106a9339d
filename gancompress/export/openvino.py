"""OpenVINO files, made of the ONNX graph."""

from __future__ import annotations

import json
from pathlib import Path

import onnx

from gancompress.export.onnx import get_header
from gancompress.runtimes.interface import HEADER
from gancompress.runtimes.openvino import open_core, require_openvino


def export_openvino(
    path: Path, model: onnx.ModelProto, half_weights: bool, precision: str = "float32"
) -> None:
    """Write an ONNX graph as PATH (.xml) and its weights beside it (.bin).

    Args:
        path: The file of the graph.
        model: With the header in its metadata.
        half_weights: Whether to store weights in half precision.
        precision: What it is to be computed in, entry of `PRECISIONS`; kept in the header.
    """
    made = open_core().read_model(model.SerializeToString())
    header = {**json.loads(get_header(model)), "precision": precision}
    made.set_rt_info(json.dumps(header), [HEADER])
    require_openvino().save_model(made, path, compress_to_fp16=half_weights)
