"""ONNX Runtime: sessions, networks of a search, and ONNX files."""

from __future__ import annotations

import math
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import Message

from gancompress.errors import CheckpointError, ConfigError
from gancompress.hashes import check_seal
from gancompress.paths import inside
from gancompress.runtimes.interface import (
    Array,
    FileGenerator,
    Floats,
    Run,
    each,
    read_header,
    reason,
    refused,
)

VERSION = str(onnxruntime.__version__)
SILENT = 4  # what goes wrong is raised as well


def open_session(
    model: Path | bytes, threads: int | None = None, profile: Path | None = None
) -> Any:
    """A session on the CPU; it raises types of its own.

    Args:
        model: A file, or a serialised model.
        threads: Of one run; the runtime's choice by default.
        profile: Where the runtime's own profile goes, without the suffix; none by default.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = SILENT
    if threads:
        options.intra_op_num_threads = threads
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


class OnnxRuntime:
    """One session that several threads call; see `Runtime`.

    Args:
        precision: `float32`.
        threads: Images at once.

    Raises:
        ConfigError: Another precision.
    """

    def __init__(self, precision: str = "float32", threads: int = 1) -> None:
        if precision != "float32":
            raise ConfigError(
                f"precision={precision} needs --runtime openvino; ONNX Runtime computes in float32"
            )
        self.label, self.precision = f"onnxruntime {VERSION}", precision
        self._pool = ThreadPoolExecutor(threads)

    def open(self, model: bytes) -> Run:
        """See `Runtime`."""
        try:
            session = open_session(model, threads=1)
        except Exception as error:
            raise refused(self.label, error) from None
        names = [value.name for value in session.get_inputs()]

        def one(image: tuple[Floats, ...]) -> Floats:
            found: Floats = session.run(None, dict(zip(names, image, strict=True)))[0]
            return found

        def run(*inputs: Floats) -> Floats:
            try:
                return np.concatenate(list(self._pool.map(one, each(inputs))))
            except Exception as error:
                raise refused(self.label, error) from None

        return run


class OnnxGenerator(FileGenerator):
    """An ONNX file with one image input of any channels; see `FileGenerator`.

    Attributes:
        shape: (N, C, H, W) of the input, None where any is taken.

    Args:
        path: The file, or a serialised model.
        threads: Of the session; the runtime's choice by default.

    Raises:
        CheckpointError: Not a readable ONNX file, or not one of an image generator; it has other
            content than was written.
    """

    kind, runtime = "ONNX", f"ONNX Runtime {VERSION}"

    def __init__(self, path: Path | bytes, threads: int | None = None) -> None:
        self.path, self.files = Path("graph"), ()
        if isinstance(path, Path):
            if not path.exists():
                raise CheckpointError(f"no model {path}")
            check_seal(path)
            self.path, self.files = path, (path, *external_files(path))
        try:
            self.session = open_session(path, threads)
            metadata = self.session.get_modelmeta().custom_metadata_map  # of any bytes
        except Exception as error:
            raise CheckpointError(f"{self.path}: not a readable ONNX file: {error}") from None
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) not in (0, 4):  # 0: the file does not say
            raise CheckpointError(f"{self.path}: no generator with one input (N, C, H, W)")
        self.input = inputs[0]
        sides = self.input.shape or [None] * 4
        self.is_bytes = self.input.type == "tensor(uint8)"
        if self.is_bytes:
            sides = [sides[place] for place in (0, 3, 1, 2)]
        self.shape = tuple(side if isinstance(side, int) else None for side in sides)
        self.header = read_header(metadata, self.path)
        made = self.session.get_outputs()[0].shape or [None] * 4
        found = made[3 if self.is_bytes else 1] if len(made) == 4 else None
        self.channels = (self.shape[1], found if isinstance(found, int) else None)
        height, width = self.shape[2:]
        self.side = height if height == width else None
        if self.side:
            self.header.setdefault("image_size", self.side)
        self.stride = int(self.header.get("stride", math.gcd(4, height or 0, width or 0)))

    def translate(self, x: Floats) -> Floats:
        """See `FileGenerator`."""
        if self.shape[0] == 1 and len(x) > 1:
            return np.concatenate([self.translate(image[None]) for image in x])
        try:
            return super().translate(x)
        except Exception as error:
            takes = ", ".join("any" if side is None else str(side) for side in self.shape)
            raise CheckpointError(
                f"{self.path} takes {self.input.type} of shape ({takes}), and cannot run on float "
                f"{x.shape}: {reason(error)}"
            ) from None

    def require_shape(self, shape: tuple[int, ...]) -> None:
        """The runtime refuses what somebody else's file does not take."""

    def run(self, image: Array) -> Array:
        """See `FileGenerator`."""
        output: Array = self.session.run(None, {self.input.name: image})[0]
        return output


def external_files(path: Path) -> list[Path]:
    """Files beside an ONNX file in which it keeps weights, none of which leads elsewhere.

    A location is a path in or below the file's folder, of a file of its own: no link of either
    kind, through which weights could be any file of the user's.

    Raises:
        CheckpointError: Not a readable ONNX file, or one with another location.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf raises types of its own
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{path}: not a readable ONNX file: {reason}") from None
    found = set()
    for tensor in _messages(model, onnx.TensorProto):
        for entry in tensor.external_data:
            if entry.key == "location":
                found.add(_own_file(path, entry.value))
    return sorted(found)


def _messages(message: Message, kind: type[Message]) -> Iterator[Any]:
    """All messages of a kind in a message, wherever they are: in subgraphs, functions, types."""
    if isinstance(message, kind):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                yield from _messages(part, kind)


def _own_file(path: Path, location: str) -> Path:
    try:
        file = inside(path.parent, location)
        status = file.lstat()
    except (ConfigError, OSError) as error:
        raise CheckpointError(f"{path} keeps weights in another file: {error}") from None
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        raise CheckpointError(
            f"{path} keeps weights in {file}, which is a link to a file that has other names, too\n"
            "  Put a copy in its place."
        )
    return file
