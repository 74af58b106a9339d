"""OpenVINO files, made of the ONNX graph: in float32, bfloat16 and eight bits."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import onnx

from gancompress.errors import ConfigError
from gancompress.export.format import INT8_PSNR_DB, Format
from gancompress.export.job import ExportOptions, Job
from gancompress.export.onnx import get_header
from gancompress.export.onnx_file import make_graph
from gancompress.export.quantise import quantise
from gancompress.export.rewrites import Trial
from gancompress.runtimes import OpenVinoGenerator
from gancompress.runtimes.interface import HEADER
from gancompress.runtimes.openvino import open_core, require_openvino, require_precision

BF16_PSNR_DB = 30.0
"""Least accepted; the published horse2zebra generator has 46 on its worst of 16 photos."""


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
    made = open_core().read_model(model.SerializeToString())
    header = {**json.loads(get_header(model)), "precision": precision}
    made.set_rt_info(json.dumps(header), [HEADER])
    require_openvino().save_model(made, path, compress_to_fp16=half_weights)


def _write(path: Path, job: Job, precision: str = "float32", is_int8: bool = False) -> list[Trial]:
    require_precision(precision)
    runtime = partial(OpenVinoGenerator, precision=precision)
    is_half = job.options.weights == "float16"  # OpenVINO has a way of its own to store them
    wide = replace(job, options=replace(job.options, weights="float32")) if is_half else job
    if is_int8:
        model, trials = make_graph(wide, runtime, lambda model: quantise(model, job.images))
    else:
        model, trials = make_graph(wide, runtime)
    export_openvino(path, model, is_half, precision)
    return trials


def _require(options: ExportOptions) -> None:
    if options.rewrite == "browser":
        raise ConfigError("--rewrite browser is for --to onnx alone")
    require_openvino()


OPENVINO = Format(
    ".xml",
    _write,
    runtime="openvino",
    companions=(".bin",),
    is_graph=True,
    require=_require,
)
OPENVINO_BF16 = replace(
    OPENVINO,
    suffix=".bf16.xml",
    write=partial(_write, precision="bfloat16"),
    min_psnr_db=BF16_PSNR_DB,
)
OPENVINO_INT8 = replace(
    OPENVINO,
    suffix=".int8.xml",
    write=partial(_write, is_int8=True),
    min_psnr_db=INT8_PSNR_DB,
    is_calibrated=True,
)
