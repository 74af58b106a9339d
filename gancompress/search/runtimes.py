"""Runtimes for frozen networks on the CPU: several images at once, each with a thread of its own.

| name | |
|---|---|
| `onnxruntime` | opens a network in some 20 ms; always installed |
| `openvino` | compiles for some 300 ms, then takes about a tenth less; an extra; also bfloat16 |

Images are independent of each other, so this is faster than one image with several threads, and
what comes out does not depend on the number of threads.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor, nn

from gancompress.errors import ConfigError, ExportError
from gancompress.export.openvino import PRECISIONS, open_core
from gancompress.tables import lookup

Compiled: TypeAlias = Callable[..., Tensor]
"""From (n, ...) float32 for each input of a network to its output, (n, ...) float32."""

Floats: TypeAlias = npt.NDArray[np.float32]
AGREES = {"float32": 1e-4, "bfloat16": 5e-2}
"""Largest difference of a frozen network's output from eager's, relative to its largest value."""

logger = logging.getLogger(__name__)


class Runtime(Protocol):
    """Opens networks."""

    @property
    def label(self) -> str:
        """Name, version and precision: all that its numbers depend on."""

    @property
    def precision(self) -> str:
        """Entry of `PRECISIONS`."""

    def open(self, model: bytes) -> Compiled:
        """A network that takes one image at a time.

        Args:
            model: Serialised ONNX whose inputs have fixed shapes, (1, ...) each.

        Raises:
            ExportError: The runtime cannot open it. Calling what is returned raises the same.
        """


class OnnxRuntime:
    """ONNX Runtime: one session that as many threads call as torch has.

    Raises:
        ConfigError: Another precision than float32.
    """

    def __init__(self, precision: str) -> None:
        if precision != "float32":
            raise ConfigError(
                f"precision={precision} needs --runtime openvino; ONNX Runtime computes in float32"
            )
        self.label, self.precision = f"onnxruntime {onnxruntime.__version__}", precision
        self._pool = ThreadPoolExecutor(torch.get_num_threads())

    def open(self, model: bytes) -> Compiled:
        """See `Runtime`."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        try:
            session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
        except Exception as error:  # the runtime raises types of its own
            raise _refused(self.label, error) from None
        names = [value.name for value in session.get_inputs()]

        def one(image: tuple[Floats, ...]) -> Floats:
            found: Floats = session.run(None, dict(zip(names, image, strict=True)))[0]
            return found

        def run(*inputs: Tensor) -> Tensor:
            try:
                return torch.from_numpy(np.concatenate(list(self._pool.map(one, _each(inputs)))))
            except Exception as error:  # as above
                raise _refused(self.label, error) from None

        return run


class OpenVino:
    """OpenVINO: as many streams of one thread as torch has threads.

    Raises:
        ConfigError: It is not installed, or this processor does not compute in this precision.
    """

    def __init__(self, precision: str) -> None:
        try:
            import openvino  # an extra
        except ImportError:
            raise ConfigError(
                "--runtime openvino is not installed\n"
                "  `pip install openvino` brings it; or take --runtime onnxruntime."
            ) from None
        self._core = open_core()
        able = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bfloat16" and "BF16" not in able:
            raise ConfigError(
                "precision=bfloat16 needs a processor that computes in bfloat16 (AVX-512 BF16 or "
                "AMX), and this one does not\n  Take precision=float32."
            )
        version = openvino.__version__.partition("-")[0]
        self.label, self.precision = f"openvino {version} {precision}", precision
        self._threads = torch.get_num_threads()
        self._settings = {
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": self._threads,
            "ENABLE_CPU_PINNING": False,  # several processes would be pinned to the same cores
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
        }

    def open(self, model: bytes) -> Compiled:
        """See `Runtime`."""
        try:
            network = self._core.compile_model(self._core.read_model(model), "CPU", self._settings)
            # no queue with a callback: its end and the callback's thread may wait for each other
            requests = [network.create_infer_request() for _ in range(self._threads)]
        except Exception as error:  # the runtime raises types of its own
            raise _refused(self.label, error) from None

        def run(*inputs: Tensor) -> Tensor:
            found: list[Floats] = []
            busy: deque[Any] = deque()
            try:
                for number, image in enumerate(_each(inputs)):
                    if len(busy) == len(requests):
                        found.append(_output(busy.popleft()))
                    busy.append(requests[number % len(requests)])
                    busy[-1].start_async(dict(enumerate(image)))
                found += [_output(request) for request in busy]
            except Exception as error:  # as above
                raise _refused(self.label, error) from None
            return torch.from_numpy(np.concatenate(found))

        return run


def _output(request: Any) -> Floats:
    """What a request of OpenVINO has computed, once it is done."""
    request.wait()
    output: Floats = request.get_output_tensor(0).data.copy()
    return output


RUNTIMES: dict[str, Callable[[str], Runtime]] = {"onnxruntime": OnnxRuntime, "openvino": OpenVino}
"""From the name to a function of the precision."""


def load_runtime(name: str, precision: str = "float32") -> Runtime:
    """A runtime by name.

    Raises:
        ConfigError: Unknown, not installed, or without this precision here.
    """
    return lookup(RUNTIMES, name, "runtime")(precision)


def _each(inputs: Sequence[Tensor]) -> list[tuple[Floats, ...]]:
    """Image by image, (1, ...) each."""
    parts = (x.detach().cpu().float().contiguous().numpy() for x in inputs)
    return list(zip(*(np.split(part, len(part)) for part in parts), strict=True))


def _refused(label: str, error: Exception) -> ExportError:
    reason = str(error).strip().partition("\n")[0]
    return ExportError(f"{label} cannot run this network: {reason}\n  Take --runtime eager.")


@torch.inference_mode()
def frozen(runtime: Runtime, module: nn.Module, *examples: Tensor) -> Compiled | None:
    """A network in a runtime, or None where it cannot be exported or computes something else.

    Args:
        runtime: The runtime.
        module: The network, in evaluation mode.
        examples: An input each, (1, ...) float32, that the comparison with eager is made on.
    """
    try:
        compiled = runtime.open(_exported(module, examples))
        found = compiled(*examples)
    except Exception as error:  # exporters raise types of their own: eager works all the same
        logger.info("a network stays in eager: %s", str(error).partition("\n")[0])
        return None
    expected = module(*examples)
    largest = float((found.reshape(expected.shape) - expected).abs().max())
    if largest > AGREES[runtime.precision] * max(float(expected.abs().max()), 1e-6):
        logger.info("a network stays in eager: %s differs from it by %.1e", runtime.label, largest)
        return None
    return compiled


def _exported(module: nn.Module, examples: tuple[Tensor, ...]) -> bytes:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    is_script = any(isinstance(part, torch.jit.ScriptModule) for part in module.modules())
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        path = Path(folder) / "network.onnx"
        # the exporter of today cannot follow TorchScript, and that of yesterday follows it whole
        subject = torch.jit.script(module) if is_script else module
        torch.onnx.export(
            subject, examples, path, dynamo=not is_script, external_data=False, verbose=False
        )
        return path.read_bytes()
