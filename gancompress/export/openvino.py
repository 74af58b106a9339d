"""OpenVINO files: made of the ONNX graph, run by OpenVINO on the CPU."""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import onnx
import torch
from torch import Tensor

from gancompress.data import to_float, to_uint8
from gancompress.errors import CheckpointError, ConfigError
from gancompress.export.onnx import HEADER, get_header, read_header, require_shape

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
"""What OpenVINO calls the types that it may compute in."""

OPEN_SHAPES = 4
"""Compiled networks that are kept, one for each shape of input."""


def require_openvino() -> ModuleType:
    """The optional package.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import openvino
    except ImportError:
        raise ConfigError(
            "OpenVINO files need the package openvino, which is not installed\n"
            "  pip install 'gancompress[openvino]'"
        ) from None
    module: ModuleType = openvino
    return module


class _SignalStack(ctypes.Structure):
    """`stack_t` of <signal.h> on Linux."""

    _fields_: ClassVar = [
        ("ss_sp", ctypes.c_void_p),
        ("ss_flags", ctypes.c_int),
        ("ss_size", ctypes.c_size_t),
    ]


def open_core() -> Any:
    """OpenVINO's core with its plugin for processors loaded.

    The plugin gives this thread a stack for signals, and puts back the one before when it goes.
    Where cores go in another order than they came, that is one which is gone already, and the next
    signal, such as Ctrl-C, ends the process. So signals are handled where they were before.

    Raises:
        ConfigError: OpenVINO is not installed.
    """
    core = require_openvino().Core()
    if sys.platform != "linux":
        return core
    libc, before = ctypes.CDLL(None), _SignalStack()
    libc.sigaltstack(None, ctypes.byref(before))
    core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")  # loads it
    libc.sigaltstack(ctypes.byref(before), None)
    return core


def require_precision(precision: str) -> None:
    """Raise unless OpenVINO is there and computes so on this processor.

    Raises:
        ConfigError: It is not installed, or this processor does not multiply in bfloat16.
    """
    able = open_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bfloat16" and "BF16" not in able:
        raise ConfigError(
            "bfloat16 needs a processor with it (AVX-512 BF16 or AMX); this one has none, "
            "so the file could not be proven\n  Take --to openvino."
        )


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
    openvino = require_openvino()
    made = open_core().read_model(model.SerializeToString())
    header = {**json.loads(get_header(model)), "precision": precision}
    made.set_rt_info(json.dumps(header), [HEADER])
    openvino.save_model(made, path, compress_to_fp16=half_weights)


def run_in_openvino(source: Path | bytes, threads: int | None) -> Any:
    """A model that is ready to be compiled, and how: (core, model, settings)."""
    core = open_core()
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    return core, core.read_model(source), settings


class OpenVinoGenerator:
    """An OpenVINO file as a callable from (N, 3, H, W) to images, both in [-1, 1].

    It is compiled for every shape of input, which takes about a second and makes it faster than
    one network for all shapes.

    Attributes:
        header: What the file says of itself.
        is_bytes: Whether the graph itself takes and gives (N, H, W, 3) uint8.
        side: None: it takes images of all sizes.
        stride: What H and W must be multiples of.

    Args:
        path: The `.xml` file, or a serialised ONNX model.
        threads: Of the computation; the runtime's choice by default.
        precision: Entry of `PRECISIONS`; what the file asks for by default. Processors without
            bfloat16 compute in float32.

    Raises:
        CheckpointError: Not readable.
        ConfigError: OpenVINO is not installed.
    """

    def __init__(
        self, path: Path | bytes, threads: int | None = None, precision: str | None = None
    ) -> None:
        self.path = path if isinstance(path, Path) else Path("graph")
        self.side: int | None = None
        if isinstance(path, Path) and not path.exists():
            raise CheckpointError(f"no model {path}")
        require_openvino()
        try:
            self._core, self._model, self._settings = run_in_openvino(path, threads)
        except Exception as error:  # the runtime raises types of its own
            lines = [line for line in str(error).splitlines() if line.strip()]
            reason = lines[-1].strip() if lines else type(error).__name__
            raise CheckpointError(f"{self.path}: not a readable OpenVINO file: {reason}") from None
        if len(self._model.inputs) != 1 or len(self._model.inputs[0].partial_shape) != 4:
            raise CheckpointError(f"{self.path}: no generator with one input (N, C, H, W)")
        self.header = self._read_header()
        self.stride = int(self.header.get("stride", 4))
        wanted = precision or self.header.get("precision", "float32")
        # never left to the runtime, whose choice is bfloat16 where the processor has it
        self._settings["INFERENCE_PRECISION_HINT"] = PRECISIONS.get(wanted, "f32")
        self.is_bytes = self._model.inputs[0].element_type.get_type_name() == "u8"
        self._compiled: dict[tuple[int, ...], Callable[[Any], Any]] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """Translate images.

        Raises:
            CheckpointError: H or W is no multiple of the stride.
        """
        require_shape(self.path, x, self.stride)
        if not self.is_bytes:
            return torch.from_numpy(self.run(x.cpu().contiguous().numpy()))
        pixels = to_uint8(x.cpu()).permute(0, 2, 3, 1).contiguous().numpy()
        return to_float(torch.from_numpy(self.run(pixels)).permute(0, 3, 1, 2))

    def run(self, image: Any) -> Any:
        """The bare graph, from an array of its own layout and type to another one."""
        if image.shape not in self._compiled:
            while len(self._compiled) >= OPEN_SHAPES:
                del self._compiled[next(iter(self._compiled))]
            self._compiled[image.shape] = self._compile(image.shape)
        return self._compiled[image.shape](image)

    def _compile(self, shape: tuple[int, ...]) -> Callable[[Any], Any]:
        model = self._model.clone()
        model.reshape(list(shape))
        try:
            network = self._core.compile_model(model, "CPU", self._settings)
            request = network.create_infer_request()
        except Exception as error:  # the runtime raises types of its own
            reason = str(error).strip().splitlines()[-1]
            raise CheckpointError(f"{self.path} does not run on {shape}: {reason}") from None
        return lambda image: request.infer({0: image})[0].copy()

    def _read_header(self) -> dict[str, Any]:
        try:
            text = str(self._model.get_rt_info([HEADER]).astype(str))
        except Exception:  # a file of somebody else's has none
            text = json.dumps({})
        return read_header({HEADER: text}, self.path)
