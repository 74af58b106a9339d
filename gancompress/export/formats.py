"""Kinds of files that hold one generator."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import onnx
import torch

from gancompress.checkpoint.files import write_atomic
from gancompress.checkpoint.network import Network, load_network, save_network
from gancompress.cost import Comparison, time_calls
from gancompress.data import Generator, to_float
from gancompress.errors import ConfigError
from gancompress.export.graphs import WEIGHTS, with_bytes, with_narrow_weights
from gancompress.export.job import ExportOptions, Job
from gancompress.export.onnx import describe_bytes, get_header, onnx_model, set_header
from gancompress.export.openvino import export_openvino
from gancompress.export.program import export_program
from gancompress.export.quantise import quantise
from gancompress.export.rewrites import CHOICES, Trial, rewrite
from gancompress.runtimes import OnnxGenerator, OpenVinoGenerator
from gancompress.runtimes.openvino import require_openvino, require_precision
from gancompress.runtimes.program import ProgramGenerator
from gancompress.tables import lookup

TOLERANCE = 1e-3  # of images in [-1, 1]
INT8_PSNR_DB = 25.0
"""Least accepted; the published horse2zebra generator has 27 on its worst of 16 photos."""

BF16_PSNR_DB = 30.0
"""Least accepted; the published horse2zebra generator has 46 on its worst of 16 photos."""

ROUNDS = 15  # of a rewrite's measurement


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        suffix: Of its name.
        write: Writes it, and says which rewrites were tried.
        read: From a path to a callable that runs the file by itself.
        runtime: The package that runs it.
        tolerance: Largest accepted difference to the generator in memory.
        min_psnr_db: Least accepted PSNR to it, where that decides instead.
        is_calibrated: Whether real inputs decide what is written.
        companions: Suffixes of further files that belong to it.
        is_graph: Whether `ExportOptions` say anything about it.
    """

    suffix: str
    write: Callable[[Path, Job], list[Trial]]
    read: Callable[[Path, Network], Generator]
    runtime: str = "torch"
    tolerance: float = TOLERANCE
    min_psnr_db: float | None = None
    is_calibrated: bool = False
    companions: tuple[str, ...] = ()
    is_graph: bool = False

    def files(self, path: Path) -> list[Path]:
        """All files of an export; that which others refer to comes last."""
        return [*(path.with_suffix(suffix) for suffix in self.companions), path]


def _write_safetensors(path: Path, job: Job) -> list[Trial]:
    header = {key: value for key, value in job.header.items() if key not in ("network", "costs")}
    save_network(path, job.network.module, job.network.description, **header)
    return []


def _write_pth(path: Path, job: Job) -> list[Trial]:
    """A bare state dict, as pytorch-CycleGAN-and-pix2pix and gan-compression load it."""
    buffer = io.BytesIO()
    state = job.network.module.state_dict()
    torch.save({name: tensor.detach().cpu() for name, tensor in state.items()}, buffer)
    write_atomic(path, buffer.getvalue())
    return []


def _write_program(path: Path, job: Job) -> list[Trial]:
    export_program(path, job.network.module, job.network.stride, job.header)
    return []


def _write_onnx(path: Path, job: Job) -> list[Trial]:
    model, trials = _graph(job, OnnxGenerator)
    write_atomic(path, model.SerializeToString())
    return trials


def _write_int8(path: Path, job: Job) -> list[Trial]:
    model, trials = _graph(job, OnnxGenerator, lambda model: quantise(model, job.images))
    write_atomic(path, model.SerializeToString())
    return trials


def _write_openvino(
    path: Path, job: Job, precision: str = "float32", is_int8: bool = False
) -> list[Trial]:
    require_precision(precision)
    runtime = partial(OpenVinoGenerator, precision=precision)
    is_half = job.options.weights == "float16"  # OpenVINO has a way of its own to store them
    wide = replace(job, options=replace(job.options, weights="float32")) if is_half else job
    if is_int8:
        model, trials = _graph(wide, runtime, lambda model: quantise(model, job.images))
    else:
        model, trials = _graph(wide, runtime)
    export_openvino(path, model, is_half, precision)
    return trials


def _graph(
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

    plain = change(onnx_model(network.module, network.stride, job.header))
    model, trials = rewrite(plain, network.stride, options.rewrite, compare)
    if options.weights != "float32":
        model = with_narrow_weights(model, options.weights)
    if options.uint8:
        model = with_bytes(model)
        set_header(model, describe_bytes(get_header(model)))
    onnx.checker.check_model(model)
    return model, trials


def _read_tensors(path: Path, network: Network) -> Generator:
    return load_network(path, network.description.get("module")).module


FORMATS: dict[str, Format] = {
    "safetensors": Format(".safetensors", _write_safetensors, _read_tensors, tolerance=0.0),
    "pth": Format(".pth", _write_pth, _read_tensors, tolerance=0.0),
    "pt2": Format(".pt2", _write_program, lambda path, _: ProgramGenerator(path, allow_code=True)),
    "onnx": Format(
        ".onnx", _write_onnx, lambda path, _: OnnxGenerator(path), "onnxruntime", is_graph=True
    ),
    "onnx-int8": Format(
        ".int8.onnx",
        _write_int8,
        lambda path, _: OnnxGenerator(path),
        "onnxruntime",
        min_psnr_db=INT8_PSNR_DB,
        is_calibrated=True,
        is_graph=True,
    ),
    "openvino": Format(
        ".xml",
        _write_openvino,
        lambda path, _: OpenVinoGenerator(path),
        "openvino",
        companions=(".bin",),
        is_graph=True,
    ),
    "openvino-bf16": Format(
        ".bf16.xml",
        partial(_write_openvino, precision="bfloat16"),
        lambda path, _: OpenVinoGenerator(path),
        "openvino",
        min_psnr_db=BF16_PSNR_DB,
        companions=(".bin",),
        is_graph=True,
    ),
    "openvino-int8": Format(
        ".int8.xml",
        partial(_write_openvino, is_int8=True),
        lambda path, _: OpenVinoGenerator(path),
        "openvino",
        min_psnr_db=INT8_PSNR_DB,
        is_calibrated=True,
        companions=(".bin",),
        is_graph=True,
    ),
}


def require_format(kind: str, options: ExportOptions) -> Format:
    """The format that can be written here with these options.

    Raises:
        ConfigError: There is none, an option says nothing about it, or its package is missing.
    """
    entry = lookup(FORMATS, kind, "export format")
    lookup(dict.fromkeys(CHOICES), options.rewrite, "choice of --rewrite")
    lookup(dict.fromkeys(WEIGHTS), options.weights, "choice of --weights")
    if not entry.is_graph and options != ExportOptions():
        graphs = ", ".join(name for name, other in FORMATS.items() if other.is_graph)
        raise ConfigError(
            f"--uint8, --weights and --rewrite change graphs ({graphs}); they say nothing "
            f"about --to {kind}"
        )
    if entry.runtime == "openvino":
        if options.rewrite == "browser":
            raise ConfigError(f"--rewrite browser is for --to onnx, not for --to {kind}")
        require_openvino()
    return entry
