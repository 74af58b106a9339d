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
    from gancompress.checkpoint.resolve import Model
    from gancompress.config import (
        CompressOptions,
        FinetuneOptions,
        SearchOptions,
        SupernetOptions,
        TeacherOptions,
        load_compression,
        load_options,
    )
    from gancompress.elastic import Subnet, Supernet
    from gancompress.export import ExportOptions
    from gancompress.inference import LoadedGenerator, load_generator
    from gancompress.pipeline import (
        EvaluateOptions,
        compress,
        derive_compression,
        evaluate,
        export_generator,
    )
    from gancompress.search import search as search_subnets
    from gancompress.training.stages import finetune, train_teacher
    from gancompress.training.stages import train_supernet as distil
else:
    _PARTS = {
        "checkpoint.resolve": ["Model"],
        "config": [
            *("CompressOptions", "FinetuneOptions", "SearchOptions", "SupernetOptions"),
            *("TeacherOptions", "load_compression", "load_options"),
        ],
        "elastic": ["Subnet", "Supernet"],
        "export": ["ExportOptions"],
        "inference": ["LoadedGenerator", "load_generator"],
        "pipeline": [
            *("EvaluateOptions", "compress", "derive_compression"),
            *("evaluate", "export_generator"),
        ],
        "search": ["search_subnets:search"],
        "training.stages": ["distil:train_supernet", "finetune", "train_teacher"],
    }
    _SOURCES = {
        name.partition(":")[0]: (part, name.rpartition(":")[2])
        for part, names in _PARTS.items()
        for name in names
    }

    def __getattr__(name: str) -> object:
        """Names that bring PyTorch, runtimes and codecs are imported when they are asked for."""
        if name not in _SOURCES:
            raise AttributeError(f"module 'gancompress' has no attribute '{name}'")
        from importlib import import_module

        part, own_name = _SOURCES[name]
        return getattr(import_module(f"gancompress.{part}"), own_name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__version__ = "0.1.0"
__all__ = [
    "CompressOptions",
    "EvaluateOptions",
    "ExportOptions",
    "FinetuneOptions",
    "LoadedGenerator",
    "Model",
    "SearchOptions",
    "Subnet",
    "Supernet",
    "SupernetOptions",
    "TeacherOptions",
    "__version__",
    "compress",
    "derive_compression",
    "distil",
    "evaluate",
    "export_generator",
    "finetune",
    "load_compression",
    "load_generator",
    "load_options",
    "search_subnets",
    "train_teacher",
]
