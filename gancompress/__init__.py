"""gancompress: make conditional GANs small enough to use."""

import os
import sys
from typing import TYPE_CHECKING

# Both runtimes report to their vendors, and must be told not to before they are imported: ONNX
# Runtime when a process has lived for ten seconds, OpenVINO as soon as it is imported. Here that is
# before any module of the package; who has set the variable has chosen for himself.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # not importable

if TYPE_CHECKING:
    from gancompress.elastic import Subnet, Supernet
    from gancompress.inference import LoadedGenerator, load_generator
else:
    _PARTS = {
        "LoadedGenerator": "inference",
        "Subnet": "elastic",
        "Supernet": "elastic",
        "load_generator": "inference",
    }

    def __getattr__(name: str) -> object:
        """Names that bring PyTorch, runtimes and codecs are imported when they are asked for."""
        if name not in _PARTS:
            raise AttributeError(f"module 'gancompress' has no attribute '{name}'")
        from importlib import import_module

        return getattr(import_module(f"gancompress.{_PARTS[name]}"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__version__ = "0.1.0"
__all__ = ["LoadedGenerator", "Subnet", "Supernet", "__version__", "load_generator"]
