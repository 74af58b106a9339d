"""What every function from image to image has."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from gancompress.data import ImageKind
from gancompress.data.image_kinds import Bands, Planes
from gancompress.errors import GanCompressError


class CallError(Exception):
    """A call has failed.

    Attributes:
        again: Whether another try may help.
        after_s: How long the endpoint asks to wait before it.
    """

    def __init__(self, reason: str, again: bool = True, after_s: float = 0.0) -> None:
        super().__init__(" ".join(reason.split())[:300])
        self.again, self.after_s = again, after_s


@dataclass(frozen=True)
class Question:
    """One image for a function.

    Attributes:
        pixels: (C, S, S) uint8.
        path: Of its file.
    """

    pixels: Tensor
    path: Path


@dataclass
class Function(ABC):
    """A function from image to image.

    Attributes:
        text: As the user wrote it.
        taken: What kind of images it takes.
        made: What kind of images it makes.
        probe: When it is asked about two fixed images, by which it is known: at every start, or
            only before other calls, as these may cost.
    """

    text: str
    taken: ImageKind
    made: ImageKind
    probe: ClassVar[Literal["always", "before calls", "never"]] = "always"

    def __post_init__(self) -> None:  # noqa: B027  # most have something to find
        """Find what is called."""

    @abstractmethod
    def identity(self) -> dict[str, str]:
        """What it is known by without being asked."""

    def expect(self, paths: Iterable[Path]) -> None:  # noqa: B027  # most answer any image
        """Be told all images of a split, in order, before calls for some of them."""

    def stop(self) -> None:  # noqa: B027  # most calls cannot be ended
        """End the calls that are under way, where that is possible."""

    @abstractmethod
    def call(self, question: Question) -> Planes:
        """The answer, of any size.

        Raises:
            CallError: There is none.
        """

    def encoded(self, pixels: Tensor) -> bytes:
        """An input as the bytes of a file."""
        buffer = io.BytesIO()
        if isinstance(self.taken, Bands):
            np.save(buffer, pixels.permute(1, 2, 0).contiguous().numpy())
        else:
            self.taken.encode(pixels).save(buffer, "PNG")
        return buffer.getvalue()

    def decoded(self, content: bytes) -> Planes:
        """An answer from the bytes of a file."""
        try:
            return self.made.read(content, "the answer")
        except GanCompressError as error:
            raise CallError(str(error)) from None
