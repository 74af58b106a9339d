"""gancompress: make conditional GANs small enough to use."""

import os
import sys
from typing import TYPE_CHECKING

from gancompress.elastic import Subnet, Supernet

# Both runtimes report to their vendors, and must be told not to before they are imported: ONNX
# Runtime when a process has lived for ten seconds, OpenVINO as soon as it is imported. Here that is
# before any module of the package; who has set the variable has chosen for himself.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # not importable

if TYPE_CHECKING:
    from gancompress.inference import LoadedGenerator, load_generator
else:

    def __getattr__(name: str) -> object:
        """Names that bring runtimes and codecs with them are imported when they are asked for."""
        if name in ("LoadedGenerator", "load_generator"):
            from gancompress import inference

            return getattr(inference, name)
        raise AttributeError(f"module 'gancompress' has no attribute '{name}'")


__version__ = "0.1.0"
__all__ = ["LoadedGenerator", "Subnet", "Supernet", "__version__", "load_generator"]
