"""What runs frozen networks: exported files, and subnets of a search.

| runtime | |
|---|---|
| ONNX Runtime | opens a network in some 20 ms; always installed |
| OpenVINO | compiles for some 300 ms, then takes about a tenth less; an extra; also bfloat16 |
| torch.export | PyTorch without the package's modules; for files alone |

Nothing else in the package opens a session. PyTorch is imported where a file or a call needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gancompress.runtimes.interface import FileGenerator, Run, Runtime
from gancompress.runtimes.onnx import OnnxGenerator, OnnxRuntime
from gancompress.runtimes.openvino import OpenVinoGenerator, OpenVinoRuntime
from gancompress.tables import lookup

__all__ = [
    "FILES",
    "RUNTIMES",
    "FileGenerator",
    "OnnxGenerator",
    "OnnxRuntime",
    "OpenVinoGenerator",
    "OpenVinoRuntime",
    "Run",
    "Runtime",
    "load_runtime",
]


def _open_program(path: Path, threads: int | None, allow_code: bool) -> FileGenerator:
    from gancompress.runtimes.program import ProgramGenerator  # imports PyTorch

    return ProgramGenerator(path, threads, allow_code)


FILES: dict[str, Callable[[Path, int | None, bool], FileGenerator]] = {
    ".onnx": lambda path, threads, _: OnnxGenerator(path, threads),
    ".xml": lambda path, threads, _: OpenVinoGenerator(path, threads),
    ".pt2": _open_program,
}
"""Suffixes of files that run by themselves, from (path, threads, allow_code); on the CPU."""

RUNTIMES: dict[str, Callable[[str, int], Runtime]] = {
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVinoRuntime,
}
"""From the name to a function of the precision and the number of threads."""


def load_runtime(name: str, precision: str = "float32", threads: int = 1) -> Runtime:
    """A runtime by name.

    Raises:
        ConfigError: Unknown, not installed, or without this precision here.
    """
    return lookup(RUNTIMES, name, "runtime")(precision, threads)
