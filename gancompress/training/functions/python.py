"""Python functions that teach."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from gancompress.checkpoint.network import import_named
from gancompress.data.image_kinds import Bands, Planes
from gancompress.data.images import upright
from gancompress.hashes import file_sha256
from gancompress.training.functions.function import CallError, Function, Question


class PythonFunction(Function):
    """`package.module:function`, from a PIL image to one, or to an array (H, W, C) uint8.

    Images of bands are arrays (H, W, C) uint8.
    """

    def __post_init__(self) -> None:
        """Import it."""
        self.function: Callable[[Any], Any] = import_named(self.text)

    def identity(self) -> dict[str, str]:
        """Its name, and the hash of the file that it is from."""
        inner = inspect.unwrap(self.function)
        try:
            file = inspect.getsourcefile(inner if inspect.isroutine(inner) else type(inner))
        except TypeError:  # built in
            file = None
        source = file_sha256(Path(file)) if file and Path(file).is_file() else "none"
        return {"function": self.text, "source": source}

    def call(self, question: Question) -> Planes:
        """See `Function`."""
        pixels = question.pixels
        image: Any = pixels.permute(1, 2, 0).contiguous().numpy()
        if not isinstance(self.taken, Bands):
            image = self.taken.encode(pixels)
        try:
            answer = self.function(image)
        except Exception as error:  # whatever the user's function raises
            raise CallError(f"{type(error).__name__}: {error}") from error
        try:
            return self._planes(answer)
        except CallError:
            raise
        except Exception as error:  # files that the function has opened are decoded here
            raise CallError(
                f"{type(answer).__name__} is no image: {type(error).__name__}: {error}", again=False
            ) from error

    def _planes(self, answer: Any) -> Planes:
        if isinstance(answer, Tensor):
            answer = answer.numpy(force=True)
        if isinstance(answer, np.ndarray):
            self._check(answer)
            if isinstance(self.made, Bands):
                planes = np.atleast_3d(answer).transpose(2, 0, 1)
                return [Image.fromarray(np.ascontiguousarray(plane)) for plane in planes]
            answer = Image.fromarray(answer[..., 0] if answer.shape[2:] == (1,) else answer)
        if not isinstance(answer, Image.Image):
            raise CallError(f"{type(answer).__name__} is no image", again=False)
        try:
            return [self.made.convert(upright(answer))]
        except ValueError as error:
            raise CallError(str(error), again=False) from None

    def _check(self, answer: np.ndarray[Any, Any]) -> None:
        counts = (self.made.channels,) if isinstance(self.made, Bands) else (1, 3, 4)
        channels = answer.shape[2] if answer.ndim == 3 else 1
        is_image = answer.ndim in (2, 3) and channels in counts and answer.size
        if answer.dtype != np.uint8 or not is_image:
            raise CallError(
                f"an array of {answer.dtype} and shape {answer.shape}; answers are PIL images or "
                f"arrays (H, W, C) of uint8, where C is {' or '.join(map(str, counts))}",
                again=False,
            )
