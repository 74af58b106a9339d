"""A generator as a file that provably computes the same images."""

from gancompress.export.formats import FORMATS, Proof, export_network
from gancompress.export.onnx import OnnxGenerator, export_onnx

__all__ = ["FORMATS", "OnnxGenerator", "Proof", "export_network", "export_onnx"]
