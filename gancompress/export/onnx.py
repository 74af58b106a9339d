"""ONNX files: written by torch's exporter, run by ONNX Runtime."""

from __future__ import annotations

import json
import logging
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from gancompress.checkpoint.files import write_atomic
from gancompress.cost.onnx import external_files
from gancompress.data import to_float, to_uint8
from gancompress.errors import CheckpointError, ExportError

OPSET = 20
HEADER = "gancompress"
INPUT, OUTPUT = "image", "translated"


def export_onnx(path: Path, module: nn.Module, stride: int, header: dict[str, Any]) -> None:
    """Write a generator as ONNX; see `onnx_model`."""
    write_atomic(path, onnx_model(module, stride, header).SerializeToString())


def onnx_model(module: nn.Module, stride: int, header: dict[str, Any]) -> onnx.ModelProto:
    """A generator as ONNX: any batch, any H and W that `stride` divides, float32 [-1, 1].

    Instance norms stay whole; batch norms are folded into convolutions by the exporter.

    Args:
        module: The generator, in evaluation mode, on the CPU.
        stride: What H and W must be multiples of.
        header: JSON facts kept in the file's metadata.

    Raises:
        ExportError: torch.onnx cannot follow the generator.
    """
    # two different sides, so that the exporter does not take them for one symbol
    channels = next(m for m in module.modules() if isinstance(m, nn.Conv2d)).in_channels
    example = torch.zeros(2, channels, 2 * max(stride, 16), 3 * max(stride, 16))
    dynamic = {index: torch.export.Dim.DYNAMIC for index in (0, 2, 3)}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
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
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(f"torch.onnx cannot follow the generator: {reason}") from error
    assert program is not None
    model = program.model_proto
    set_header(model, describe_floats(stride, header))
    onnx.checker.check_model(model)
    return model


def describe_floats(stride: int, header: dict[str, Any]) -> str:
    """The header of a file from (N, 3, H, W) float32 to the same, as JSON."""
    facts = {"stride": stride, "range": [-1, 1], "layout": "NCHW RGB", "type": "float32"}
    return json.dumps({**header, **facts})


def describe_bytes(text: str) -> str:
    """A header of floats as that of the uint8 form."""
    facts = {"range": [0, 255], "layout": "NHWC RGB", "type": "uint8"}
    return json.dumps({**json.loads(text), **facts})


def get_header(model: onnx.ModelProto) -> str:
    """The header of a file of ours, as JSON."""
    return next(str(entry.value) for entry in model.metadata_props if entry.key == HEADER)


def set_header(model: onnx.ModelProto, text: str) -> None:
    """Put a header, as JSON, in the place of another one."""
    onnx.helper.set_model_props(model, {HEADER: text})


class OnnxGenerator:
    """An ONNX file as a callable from (N, C, H, W) to images, both in [-1, 1].

    Attributes:
        header: What the file says of itself; `image_size` also where its input has that one size.
        is_bytes: Whether the graph itself takes and gives (N, H, W, 3) uint8.
        shape: (N, C, H, W) of the input, None where any is taken.
        side: H and W of the input, where it takes only one square size.
        stride: What H and W must be multiples of.

    Args:
        path: The file, or a serialised model.
        threads: Threads of the session; the runtime's choice by default.

    Raises:
        CheckpointError: Not a readable ONNX file, or not one of an image generator.
    """

    def __init__(self, path: Path | bytes, threads: int | None = None) -> None:
        self.path = path if isinstance(path, Path) else Path("graph")
        self.session = _open(path, threads)
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) not in (0, 4):  # 0: the file does not say
            raise CheckpointError(f"{self.path}: no generator with one input (N, C, H, W)")
        self.input = inputs[0]
        sides = self.input.shape or [None] * 4
        self.is_bytes = self.input.type == "tensor(uint8)"
        if self.is_bytes:
            sides = [sides[place] for place in (0, 3, 1, 2)]
        self.shape = tuple(side if isinstance(side, int) else None for side in sides)
        self.header = read_header(self.session.get_modelmeta().custom_metadata_map, self.path)
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
            if not self.is_bytes:
                return torch.from_numpy(self.run(x.cpu().numpy()))
            pixels = to_uint8(x.cpu()).permute(0, 2, 3, 1).contiguous().numpy()
            return to_float(torch.from_numpy(self.run(pixels)).permute(0, 3, 1, 2))
        except Exception as error:  # the runtime raises types of its own
            reason = str(error).partition("\n")[0]
            takes = ", ".join("any" if side is None else str(side) for side in self.shape)
            raise CheckpointError(
                f"{self.path} takes {self.input.type} of shape ({takes}), and cannot run on float "
                f"{tuple(x.shape)}: {reason}"
            ) from None

    def run(self, image: Any) -> Any:
        """The bare graph, from an array of its own layout and type to another one."""
        return self.session.run(None, {self.input.name: image})[0]


def _open(path: Path | bytes, threads: int | None) -> Any:
    """A session.

    Raises:
        CheckpointError: There is no file, or it is not readable.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads = threads
    if isinstance(path, Path) and not path.exists():
        raise CheckpointError(f"no model {path}")
    if isinstance(path, Path):
        external_files(path)
    source = str(path) if isinstance(path, Path) else path
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime raises types of its own
        name = path if isinstance(path, Path) else "graph"
        raise CheckpointError(f"{name}: not a readable ONNX file: {error}") from None


def require_shape(path: Path, x: Tensor, stride: int) -> None:
    """Refuse images that a file of ours does not take.

    Raises:
        CheckpointError: Not (N, 3, H, W), or sides that are no multiples of the stride.
    """
    if x.ndim != 4 or x.shape[1] != 3 or any(side % stride or not side for side in x.shape[2:]):
        raise CheckpointError(
            f"{path} takes images (N, 3, H, W) whose sides are multiples of {stride}, not "
            f"{tuple(x.shape)}"
        )


def read_header(metadata: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What the file says of itself; nothing where it is not ours.

    Raises:
        CheckpointError: It is no JSON object, or its numbers are none.
    """
    try:
        header: Any = json.loads(metadata.get(HEADER) or "{}")
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: its metadata '{HEADER}' is no JSON object")
    for key in ("stride", "image_size"):
        value = header.get(key, 1)
        if not isinstance(value, int) or value < 1:
            raise CheckpointError(f"{path}: '{key}' of its metadata is no pixel count: {value!r}")
    return header
