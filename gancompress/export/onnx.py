"""ONNX files: written by torch's exporter, run by ONNX Runtime."""

from __future__ import annotations

import json
import logging
import math
import warnings
from pathlib import Path
from typing import Any

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

    Attributes:
        header: What the file says of itself; `image_size` also where its input has that one size.
        shape: (N, C, H, W) of the input, None where any is taken.
        side: H and W of the input, where it takes only one square size.
        stride: What H and W must be multiples of.

    Args:
        path: The file.
        threads: Threads of the session; the runtime's choice by default.

    Raises:
        CheckpointError: Not a readable ONNX file, or not one of an image generator.
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
        self.path = path
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) not in (0, 4):  # 0: the file does not say
            raise CheckpointError(f"{path}: no generator with one input (N, C, H, W)")
        self.input = inputs[0]
        sides = self.input.shape or [None] * 4
        self.shape = tuple(side if isinstance(side, int) else None for side in sides)
        self.header = _header(self.session.get_modelmeta().custom_metadata_map, path)
        height, width = self.shape[2:]
        self.side = height if height == width else None
        if self.side:
            self.header.setdefault("image_size", self.side)
        self.stride = int(self.header.get("stride", math.gcd(4, height or 0, width or 0)))

    def __call__(self, x: Tensor) -> Tensor:
        """Translate images.

        Raises:
            CheckpointError: The file does not take images of this number, shape or type.
        """
        if self.shape[0] == 1 and len(x) > 1:
            return torch.cat([self(image[None]) for image in x])
        try:
            return torch.from_numpy(self.session.run(None, {self.input.name: x.cpu().numpy()})[0])
        except Exception as error:  # the runtime raises types of its own
            reason = str(error).partition("\n")[0]
            takes = ", ".join("any" if side is None else str(side) for side in self.shape)
            raise CheckpointError(
                f"{self.path} takes {self.input.type} of shape ({takes}), and cannot run on float "
                f"{tuple(x.shape)}: {reason}"
            ) from None


def _header(metadata: dict[str, str], path: Path) -> dict[str, Any]:
    """What the file says of itself; nothing where it is not ours.

    Raises:
        CheckpointError: It is no JSON object, or its numbers are none.
    """
    try:
        header: Any = json.loads(metadata.get(HEADER, "{}"))
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: its metadata '{HEADER}' is no JSON object")
    for key in ("stride", "image_size"):
        value = header.get(key, 1)
        if not isinstance(value, int) or value < 1:
            raise CheckpointError(f"{path}: '{key}' of its metadata is no pixel count: {value!r}")
    return header
