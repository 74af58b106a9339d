"""OpenVINO on the CPU, an extra: networks of a search, and its files."""

from __future__ import annotations

import ctypes
import json
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from gancompress.errors import CheckpointError, ConfigError
from gancompress.hashes import check_proof
from gancompress.runtimes.interface import (
    HEADER,
    Array,
    FileGenerator,
    Floats,
    Run,
    each,
    read_header,
    refused,
)

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
            "the package openvino is not installed\n"
            "  `pip install 'gancompress[openvino]'` brings it; or use ONNX Runtime."
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


def computes_in(precision: str, core: Any) -> bool:
    """Whether this processor multiplies so."""
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return precision != "bfloat16" or "BF16" in able


def require_precision(precision: str) -> Any:
    """OpenVINO's core, where it computes so on this processor.

    Raises:
        ConfigError: It is not installed, or this processor does not multiply in bfloat16.
    """
    core = open_core()
    if not computes_in(precision, core):
        raise ConfigError(
            "bfloat16 needs a processor that computes in it (AVX-512 BF16 or AMX), and this one "
            "does not\n  Use float32: --to openvino, or precision=float32."
        )
    return core


class OpenVinoRuntime:
    """As many streams of one thread as images come at once; see `Runtime`.

    Args:
        precision: Entry of `PRECISIONS`.
        threads: Images at once.

    Raises:
        ConfigError: It is not installed, or this processor does not compute in this precision.
    """

    def __init__(self, precision: str = "float32", threads: int = 1) -> None:
        self._core, self._threads = require_precision(precision), threads
        version = require_openvino().__version__.partition("-")[0]
        self.label, self.precision = f"openvino {version} {precision}", precision
        self._settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
            "ENABLE_CPU_PINNING": False,  # several processes would be pinned to the same cores
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
        }

    def open(self, model: bytes) -> Run:
        """See `Runtime`."""
        try:
            network = self._core.compile_model(self._core.read_model(model), "CPU", self._settings)
            # no queue with a callback: its end and the callback's thread may wait for each other
            requests = [network.create_infer_request() for _ in range(self._threads)]
        except Exception as error:  # the runtime raises types of its own
            raise refused(self.label, error) from None

        def run(*inputs: Floats) -> Floats:
            found: list[Floats] = []
            busy: deque[Any] = deque()
            try:
                for number, image in enumerate(each(inputs)):
                    if len(busy) == len(requests):
                        found.append(_output(busy.popleft()))
                    busy.append(requests[number % len(requests)])
                    busy[-1].start_async(dict(enumerate(image)))
                found += [_output(request) for request in busy]
            except Exception as error:  # as above
                raise refused(self.label, error) from None
            return np.concatenate(found)

        return run


def _output(request: Any) -> Floats:
    """What a request of OpenVINO has computed, once it is done."""
    request.wait()
    output: Floats = request.get_output_tensor(0).data.copy()
    return output


class OpenVinoGenerator(FileGenerator):
    """An OpenVINO file (.xml and .bin); see `FileGenerator`.

    It is compiled for every shape of input, which takes about a second and makes it faster than
    one network for all shapes.

    Args:
        path: The `.xml` file, or a serialised ONNX model.
        threads: Of the computation; the runtime's choice by default.
        precision: Entry of `PRECISIONS`; what the file asks for by default. Processors without
            bfloat16 compute in float32.

    Raises:
        CheckpointError: Not readable, or other content than was proven.
        ConfigError: OpenVINO is not installed.
    """

    kind = "OpenVINO"

    def __init__(
        self, path: Path | bytes, threads: int | None = None, precision: str | None = None
    ) -> None:
        self.path, self.files = Path("graph"), ()
        if isinstance(path, Path):
            if not path.exists():
                raise CheckpointError(f"no model {path}")
            check_proof(path)
            weights = path.with_suffix(".bin")
            self.path, self.files = path, (path, weights) if weights.exists() else (path,)
        self._core = open_core()
        self.runtime = f"OpenVINO {require_openvino().__version__.partition('-')[0]}"
        try:
            self._model = self._core.read_model(path)
        except Exception as error:  # the runtime raises types of its own
            raise CheckpointError(
                f"{self.path}: not a readable OpenVINO file: {_last_line(error)}"
            ) from None
        if len(self._model.inputs) != 1 or len(self._model.inputs[0].partial_shape) != 4:
            raise CheckpointError(f"{self.path}: no generator with one input (N, C, H, W)")
        self.header = self._read_header()
        self.stride = int(self.header.get("stride", 4))
        wanted = precision or self.header.get("precision", "float32")
        # never left to the runtime, whose choice is bfloat16 where the processor has it
        hint = PRECISIONS.get(wanted, "f32")
        self._settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": hint,
        }
        if threads:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        self.is_bytes = self._model.inputs[0].element_type.get_type_name() == "u8"
        place = 3 if self.is_bytes else 1
        taken, made = (
            ports[0].partial_shape for ports in (self._model.inputs, self._model.outputs)
        )
        self.channels = (_length(taken, place), _length(made, place))
        self._compiled: dict[tuple[int, ...], Callable[[Array], Array]] = {}

    def run(self, image: Array) -> Array:
        """See `FileGenerator`."""
        if image.shape not in self._compiled:
            while len(self._compiled) >= OPEN_SHAPES:
                del self._compiled[next(iter(self._compiled))]
            self._compiled[image.shape] = self._compile(image.shape)
        return self._compiled[image.shape](image)

    def _compile(self, shape: tuple[int, ...]) -> Callable[[Array], Array]:
        model = self._model.clone()
        model.reshape(list(shape))
        try:
            network = self._core.compile_model(model, "CPU", self._settings)
            request = network.create_infer_request()
        except Exception as error:  # the runtime raises types of its own
            raise CheckpointError(
                f"{self.path} does not run on {shape}: {_last_line(error)}"
            ) from None
        return lambda image: request.infer({0: image})[0].copy()

    def _read_header(self) -> dict[str, Any]:
        try:
            text = str(self._model.get_rt_info([HEADER]).astype(str))
        except Exception:  # a file of somebody else's has none
            text = json.dumps({})
        return read_header({HEADER: text}, self.path)


def _length(shape: Any, place: int) -> int | None:
    """One dimension of a shape, or None where it is open."""
    known = shape.rank.is_static and len(shape) > place and shape[place].is_static
    return int(shape[place].get_length()) if known else None


def _last_line(error: Exception) -> str:
    """The reason in what OpenVINO says, which begins with places in its own code."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
