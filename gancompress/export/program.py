"""PyTorch programs, written by torch.export."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.fx.experimental import _config as shape_config

from gancompress.errors import ExportError
from gancompress.export.format import Format
from gancompress.export.job import Job
from gancompress.export.onnx import describe_floats
from gancompress.export.rewrites import Trial
from gancompress.runtimes.interface import HEADER
from gancompress.runtimes.program import without_warnings


def export_program(
    path: Path, module: nn.Module, channels: int, stride: int, header: dict[str, Any]
) -> None:
    """Write a generator as a program: any batch, any H and W that `stride` divides.

    Args:
        path: The file.
        module: The generator, in evaluation mode, on the CPU.
        channels: Of its input.
        stride: What H and W must be multiples of.
        header: JSON facts kept in the file.

    Raises:
        ExportError: torch.export cannot follow the generator.
    """
    example = torch.zeros(2, channels, 2 * max(stride, 16), 3 * max(stride, 16))
    dim = torch.export.Dim
    sides = (stride * dim("rows", min=1), stride * dim("columns", min=1))
    shapes = ({0: dim("batch", min=1), 2: sides[0], 3: sides[1]},)
    try:
        # without this, sides that a bottleneck of one pixel makes 1 are taken for another program
        with shape_config.patch(backed_size_oblivious=True), without_warnings():  # type: ignore[attr-defined]
            program = torch.export.export(
                copy.deepcopy(module), (example,), dynamic_shapes=shapes, strict=False
            )
    except Exception as error:  # whatever stops the tracer
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(f"torch.export cannot follow the generator: {reason}") from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it holds paths of the machine that exports
    torch.export.save(program, path, extra_files={HEADER: describe_floats(stride, header)})


def _write(path: Path, job: Job) -> list[Trial]:
    network = job.network
    export_program(path, network.module, network.input.channels, network.stride, job.header)
    return []


PT2 = Format(".pt2", _write)
