"""ONNX files, in float32 and in eight bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx

from gancompress.cost import Comparison, time_calls
from gancompress.data import Generator, to_float
from gancompress.export.format import INT8_PSNR_DB, Format
from gancompress.export.graphs import with_bytes, with_narrow_weights
from gancompress.export.job import Job
from gancompress.export.onnx import (
    describe_bytes,
    get_header,
    onnx_model,
    set_header,
    write_onnx,
)
from gancompress.export.quantise import quantise
from gancompress.export.rewrites import Trial, rewrite
from gancompress.runtimes import OnnxGenerator

ROUNDS = 15  # of a rewrite's measurement


def make_graph(
    job: Job,
    runtime: Callable[[bytes, int], Generator],
    change: Callable[[onnx.ModelProto], onnx.ModelProto] = lambda model: model,
) -> tuple[onnx.ModelProto, list[Trial]]:
    """The graph of a job: as exported, changed, with the rewrites that were asked for."""
    network, options = job.network, job.options
    x = to_float(job.images[0][None])

    def compare(one: onnx.ModelProto, other: onnx.ModelProto) -> Comparison:
        runs = [runtime(model.SerializeToString(), 1) for model in (one, other)]
        calls = {str(number): lambda run=run: run(x) for number, run in enumerate(runs)}
        return time_calls(calls, ROUNDS).compare("0", "1")

    plain = change(onnx_model(network.module, network.example_shape, network.stride, job.header))
    model, trials = rewrite(plain, network.stride, options.rewrite, compare)
    if options.weights != "float32":
        model = with_narrow_weights(model, options.weights)
    if options.uint8:
        model = with_bytes(model)
        set_header(model, describe_bytes(get_header(model)))
    onnx.checker.check_model(model)
    return model, trials


def _write(path: Path, job: Job) -> list[Trial]:
    model, trials = make_graph(job, OnnxGenerator)
    write_onnx(path, model)
    return trials


def _write_int8(path: Path, job: Job) -> list[Trial]:
    model, trials = make_graph(job, OnnxGenerator, lambda model: quantise(model, job.images))
    write_onnx(path, model)
    return trials


ONNX = Format(".onnx", _write, runtime="onnxruntime", is_graph=True)
ONNX_INT8 = Format(
    ".int8.onnx",
    _write_int8,
    runtime="onnxruntime",
    min_psnr_db=INT8_PSNR_DB,
    is_calibrated=True,
    is_graph=True,
)
