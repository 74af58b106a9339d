"""A generator as a file that provably computes the same images."""

from gancompress.export.formats import FORMATS
from gancompress.export.job import ExportOptions
from gancompress.export.onnx import onnx_model
from gancompress.export.proof import Proof
from gancompress.export.publish import export_network

__all__ = [
    "FORMATS",
    "ExportOptions",
    "Proof",
    "export_network",
    "onnx_model",
]
