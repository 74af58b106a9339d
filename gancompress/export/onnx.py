"""ONNX files: written by torch's exporter, run by ONNX Runtime."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from gancompress.checkpoint.files import write_atomic
from gancompress.errors import CheckpointError

OPSET = 20
HEADER = "gancompress"
INPUT, OUTPUT = "image", "translated"


def export_onnx(path: Path, module: nn.Module, stride: int, header: dict[str, Any]) -> None:
    """Write a generator as ONNX: any batch, any H and W that `stride` divides, float32 [-1, 1].

    Instance norms stay whole; batch norms are folded into convolutions by the exporter.

    Args:
        path: The file.
        module: The generator, in evaluation mode, on the CPU.
        stride: What H and W must be multiples of.
        header: JSON facts kept in the file's metadata.
    """
    # two different sides, so that the exporter does not take them for one symbol
    channels = next(m for m in module.modules() if isinstance(m, nn.Conv2d)).in_channels
    example = torch.zeros(2, channels, 2 * max(stride, 16), 3 * max(stride, 16))
    dynamic = {index: torch.export.Dim.DYNAMIC for index in (0, 2, 3)}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (example,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=(dynamic,),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    facts = {**header, "stride": stride, "range": [-1, 1], "layout": "NCHW RGB"}
    onnx.helper.set_model_props(model, {HEADER: json.dumps(facts)})
    onnx.checker.check_model(model)
    write_atomic(path, model.SerializeToString())


class OnnxGenerator:
    """An ONNX file as a callable from (N, C, H, W) to images, both in [-1, 1].

    Args:
        path: The file.
        threads: Threads of the session; the runtime's choice by default.

    Raises:
        CheckpointError: Not a readable ONNX file.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads:
            options.intra_op_num_threads = threads
        if not path.exists():
            raise CheckpointError(f"no model {path}")
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime raises types of its own
            raise CheckpointError(f"{path}: not a readable ONNX file: {error}") from None
        self.input = self.session.get_inputs()[0].name
        metadata = self.session.get_modelmeta().custom_metadata_map
        self.header: dict[str, Any] = json.loads(metadata.get(HEADER, "{}"))
        self.stride = int(self.header.get("stride", 4))

    def __call__(self, x: Tensor) -> Tensor:
        """Translate images."""
        array: np.ndarray[Any, Any] = self.session.run(None, {self.input: x.cpu().numpy()})[0]
        return torch.from_numpy(array)
