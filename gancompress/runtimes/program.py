"""Programs of torch.export, run by PyTorch without the package's modules."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from gancompress.errors import CheckpointError
from gancompress.hashes import check_archive
from gancompress.runtimes.interface import HEADER, Array, FileGenerator, read_header, reason
from gancompress.runtimes.threads import pinned_threads


class ProgramGenerator(FileGenerator):
    """A `.pt2` file; see `FileGenerator`.

    Args:
        path: The file.
        threads: Of the computation; the runtime's choice by default.
        allow_code: Whether its maker is trusted: torch evaluates expressions and builds objects
            that such a file holds, so that reading it can run any code.

    Raises:
        CheckpointError: Not a readable file, or nobody has said that its maker is trusted.
    """

    kind, runtime = "torch.export", f"torch.export {torch.__version__}"

    def __init__(self, path: Path, threads: int | None = None, allow_code: bool = False) -> None:
        self.path, self.files, self.threads = path, (path,), threads
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
            check_archive(path)
            with _no_pickled_code(), without_warnings():
                self.program = torch.export.load(path, extra_files=extra)
                self.module = self.program.module()
        except CheckpointError:
            raise
        except Exception as error:  # the loader raises types of its own
            raise CheckpointError(f"{path}: not a readable pt2 file: {reason(error)}") from None
        self.header = read_header(extra, path)
        self.stride = int(self.header.get("stride", 4))
        self.channels = (self._channels("placeholder"), self._channels("output"))

    def _channels(self, op: str) -> int | None:
        """Of the last value of a kind in the graph: inputs come after the parameters."""
        (*_, node) = (node for node in self.program.graph.nodes if node.op == op)
        value = node.args[0][-1] if op == "output" else node
        shape: tuple[object, ...] = tuple(getattr(value.meta.get("val"), "shape", ()))
        found = shape[1] if len(shape) == 4 else None
        return found if isinstance(found, int) else None

    def run(self, image: Array) -> Array:
        """See `FileGenerator`."""
        with pinned_threads(self.threads), torch.inference_mode():
            output: Array = self.module(torch.from_numpy(image)).numpy()
        return output


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
def without_warnings() -> Iterator[None]:
    """Context in which warnings are not shown: torch has some of its own code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
