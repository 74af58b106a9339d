"""What a runtime does with a network in memory, and with an exported file."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from gancompress.errors import CheckpointError, ExportError
from gancompress.headers import check_header

if TYPE_CHECKING:
    from torch import Tensor

Array: TypeAlias = npt.NDArray[Any]
Floats: TypeAlias = npt.NDArray[np.float32]
Run: TypeAlias = Callable[..., Floats]
"""From (n, ...) float32 for each input of a network to its output, (n, ...) float32."""

HEADER = "gancompress"
"""Entry of a file's metadata in which it says what it is."""


class Runtime(Protocol):
    """Opens networks that translate several images at once, each with a thread of its own.

    Images are independent of each other, so this is faster than one image with several threads,
    and what comes out does not depend on the number of threads.
    """

    @property
    def label(self) -> str:
        """Name, version and precision: all that its numbers depend on."""

    @property
    def precision(self) -> str:
        """`float32` or `bfloat16`."""

    def open(self, model: bytes) -> Run:
        """A network that takes one image at a time.

        Args:
            model: Serialised ONNX whose inputs have fixed shapes, (1, ...) each.

        Raises:
            ExportError: The runtime cannot open it. Calling what is returned raises the same.
        """


def each(inputs: Sequence[Floats]) -> list[tuple[Floats, ...]]:
    """Image by image, (1, ...) each."""
    parts = (np.split(np.ascontiguousarray(x), len(x)) for x in inputs)
    return list(zip(*parts, strict=True))


def refused(label: str, error: Exception) -> ExportError:
    """The error of a network that a runtime does not run."""
    return ExportError(f"{label} cannot run this network: {reason(error)}\n  Take --runtime eager.")


def reason(error: Exception) -> str:
    """The first line of what a runtime says; it raises types of its own."""
    return str(error).strip().partition("\n")[0]


class FileGenerator(ABC):
    """An exported file as a generator, on the CPU.

    Attributes:
        kind: What people call files of this kind.
        path: The file.
        files: It, and those that it refers to.
        runtime: What runs it, with the version.
        header: What it says of itself; `image_size` also where its input has that one size.
        stride: What H and W must be multiples of.
        side: H and W of its inputs, where it takes only one square size.
        channels: Of its input and output, None where the graph leaves them open.
        is_bytes: Whether the graph itself takes and gives (N, H, W, C) uint8.
    """

    kind: str
    path: Path
    files: Sequence[Path]
    runtime: str
    header: dict[str, Any]
    stride: int
    side: int | None = None
    channels: tuple[int | None, int | None] = (None, None)
    is_bytes: bool = False

    @abstractmethod
    def run(self, image: Array) -> Array:
        """The bare graph, from an array of its own layout and type to another one."""

    def translate(self, x: Floats) -> Floats:
        """(N, C, H, W) float32 in [-1, 1] -> (N, C', H, W), the same.

        Raises:
            CheckpointError: The file does not take images of this shape.
        """
        self.require_shape(x.shape)
        if not self.is_bytes:
            return self.run(np.ascontiguousarray(x))
        # as `to_uint8` and `to_float` of `gancompress.data`, in the same order and precision
        levels = np.rint((x + 1) * 127.5).clip(0, 255).astype(np.uint8)
        pixels = self.run(np.ascontiguousarray(levels.transpose(0, 2, 3, 1)))
        return pixels.transpose(0, 3, 1, 2).astype(np.float32) * np.float32(1 / 127.5) - 1

    def __call__(self, x: Tensor) -> Tensor:
        """As `translate`, for tensors."""
        import torch  # not needed to read a file

        return torch.from_numpy(self.translate(x.cpu().numpy()))

    def require_shape(self, shape: tuple[int, ...]) -> None:
        """Refuse images that the file does not take.

        Raises:
            CheckpointError: Not (N, C, H, W), other channels, or sides that are no multiples of the
                stride.
        """
        channels = self.channels[0] or 3
        sides = shape[2:]
        if len(shape) != 4 or shape[1] != channels or any(s % self.stride or not s for s in sides):
            raise CheckpointError(
                f"{self.path} takes images (N, {channels}, H, W) whose sides are multiples of "
                f"{self.stride}, not {tuple(shape)}"
            )


def read_header(metadata: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What the file says of itself; nothing where it is not ours.

    Raises:
        CheckpointError: It is no JSON object, or its numbers are none.
    """
    try:
        header: Any = json.loads(metadata.get(HEADER) or "{}")
    except (ValueError, RecursionError):
        header = None
    return check_header(header, path, "metadata")
