"""The table of kinds of files that hold one generator."""

from __future__ import annotations

from gancompress.errors import ConfigError
from gancompress.export.format import Format
from gancompress.export.graphs import WEIGHTS
from gancompress.export.job import ExportOptions
from gancompress.export.onnx_file import ONNX, ONNX_INT8
from gancompress.export.openvino import OPENVINO, OPENVINO_BF16, OPENVINO_INT8
from gancompress.export.program import PT2
from gancompress.export.rewrites import CHOICES
from gancompress.export.tensors import PTH, SAFETENSORS
from gancompress.tables import lookup

FORMATS: dict[str, Format] = {
    "safetensors": SAFETENSORS,
    "pth": PTH,
    "pt2": PT2,
    "onnx": ONNX,
    "onnx-int8": ONNX_INT8,
    "openvino": OPENVINO,
    "openvino-bf16": OPENVINO_BF16,
    "openvino-int8": OPENVINO_INT8,
}


def require_format(kind: str, options: ExportOptions) -> Format:
    """The format that can be written here with these options.

    Raises:
        ConfigError: There is none, an option says nothing about it, or its package is missing.
    """
    entry = lookup(FORMATS, kind, "export format")
    lookup(dict.fromkeys(CHOICES), options.rewrite, "choice of --rewrite")
    lookup(dict.fromkeys(WEIGHTS), options.weights, "choice of --weights")
    if not entry.is_graph and options != ExportOptions():
        graphs = ", ".join(name for name, other in FORMATS.items() if other.is_graph)
        raise ConfigError(
            f"--uint8, --weights and --rewrite change graphs ({graphs}); they have no effect "
            f"on --to {kind}"
        )
    entry.require(options)
    return entry
