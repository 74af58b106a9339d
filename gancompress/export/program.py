"""PyTorch programs: written by torch.export, run by PyTorch without the package's modules."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental import _config as shape_config

from gancompress.cost import pinned_threads
from gancompress.errors import CheckpointError, ExportError
from gancompress.export.onnx import HEADER, describe_floats, read_header, require_shape


def export_program(path: Path, module: nn.Module, stride: int, header: dict[str, Any]) -> None:
    """Write a generator as a program: any batch, any H and W that `stride` divides.

    Args:
        path: The file.
        module: The generator, in evaluation mode, on the CPU.
        stride: What H and W must be multiples of.
        header: JSON facts kept in the file.

    Raises:
        ExportError: torch.export cannot follow the generator.
    """
    channels = next(m for m in module.modules() if isinstance(m, nn.Conv2d)).in_channels
    example = torch.zeros(2, channels, 2 * max(stride, 16), 3 * max(stride, 16))
    dim = torch.export.Dim
    sides = (stride * dim("rows", min=1), stride * dim("columns", min=1))
    shapes = ({0: dim("batch", min=1), 2: sides[0], 3: sides[1]},)
    try:
        # without this, sides that a bottleneck of one pixel makes 1 are taken for another program
        with shape_config.patch(backed_size_oblivious=True), _without_warnings():  # type: ignore[attr-defined]
            program = torch.export.export(
                copy.deepcopy(module), (example,), dynamic_shapes=shapes, strict=False
            )
    except Exception as error:  # whatever stops the tracer
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(f"torch.export cannot follow the generator: {reason}") from error
    torch.export.save(program, path, extra_files={HEADER: describe_floats(stride, header)})


class ProgramGenerator:
    """A file of torch.export as a callable from (N, 3, H, W) to images, both in [-1, 1].

    Attributes:
        header: What the file says of itself.
        side: None: it takes images of all sizes.
        stride: What H and W must be multiples of.

    Args:
        path: The file.
        threads: Of the computation; the runtime's choice by default.
        allow_code: Whether its maker is trusted: torch evaluates expressions and builds objects
            that such a file holds, so that reading it can run any code.

    Raises:
        CheckpointError: Not a readable file, or nobody has said that its maker is trusted.
    """

    def __init__(self, path: Path, threads: int | None = None, allow_code: bool = False) -> None:
        self.path, self.threads = path, threads
        self.side: int | None = None
        if not path.exists():
            raise CheckpointError(f"no model {path}")
        if not allow_code:
            raise CheckpointError(
                f"{path}: a .pt2 file may run any code while it is read\n"
                "  If you made it or trust who did, say so with --allow-code; a .safetensors or "
                ".onnx file needs no trust."
            )
        extra = {HEADER: ""}
        try:
            with _no_pickled_code(), _without_warnings():
                self.program = torch.export.load(path, extra_files=extra)
                self.module = self.program.module()
        except Exception as error:  # the loader raises types of its own
            reason = str(error).strip().partition("\n")[0]
            raise CheckpointError(f"{path}: not a readable pt2 file: {reason}") from None
        self.header = read_header(extra, path)
        self.stride = int(self.header.get("stride", 4))

    def __call__(self, x: Tensor) -> Tensor:
        """Translate images.

        Raises:
            CheckpointError: H or W is no multiple of the stride.
        """
        require_shape(self.path, x, self.stride)
        if self.threads is None:
            return self._run(x)
        with pinned_threads(self.threads):
            return self._run(x)

    def _run(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            out: Tensor = self.module(x.cpu())
        return out


@contextmanager
def _no_pickled_code() -> Iterator[None]:
    """Context in which torch.load, wherever it is called, makes tensors only."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
