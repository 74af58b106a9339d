"""Whole stages for programs and for the command line: options in, files and values out."""

from gancompress.pipeline.compression import Compression, compress
from gancompress.pipeline.derive import derive_compression
from gancompress.pipeline.evaluation import EvaluateOptions, Evaluation, evaluate
from gancompress.pipeline.export import Exported, export_generator

__all__ = [
    "Compression",
    "EvaluateOptions",
    "Evaluation",
    "Exported",
    "compress",
    "derive_compression",
    "evaluate",
    "export_generator",
]
