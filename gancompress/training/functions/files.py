"""Exported networks and finished pairs that teach."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image

from gancompress.data import to_float, to_uint8
from gancompress.data.hashing import file_digests
from gancompress.data.image_kinds import Bands, Planes
from gancompress.data.images import is_image_file
from gancompress.errors import GanCompressError
from gancompress.hashes import file_sha256
from gancompress.runtimes import FILES
from gancompress.training.functions.function import CallError, Function, Question


class FileFunction(Function):
    """An exported file of anyone's, such as an ONNX file, run here."""

    def __post_init__(self) -> None:
        """Open it."""
        path = Path(self.text)
        self.generator = FILES[path.suffix](path, 1, False)
        self._lock = threading.Lock()

    def identity(self) -> dict[str, str]:
        """The hashes of its files."""
        files = enumerate(self.generator.files)
        return {f"file {place}": file_sha256(path) for place, path in files}

    def call(self, question: Question) -> Planes:
        """See `Function`."""
        x = to_float(question.pixels[None])
        side, stride = self.generator.side, self.generator.stride
        height, width = x.shape[2:]
        if side is not None:
            x = F.interpolate(x, (side, side), mode="bicubic", antialias=True).clamp(-1, 1)
        else:
            x = F.pad(x, (0, -width % stride, 0, -height % stride), mode="reflect")
        try:
            with self._lock:  # OpenVINO's generators have one inference request
                made = torch.from_numpy(self.generator.translate(x.numpy()))
        except GanCompressError as error:
            raise CallError(str(error), again=False) from None
        if side is None:
            made = made[..., :height, :width]
        if not bool(torch.isfinite(made).all()) or made.shape[1] != self.made.channels:
            raise CallError(f"the answer is no {self.made} image of finite values", again=False)
        pixels = to_uint8(made)[0]
        if not isinstance(self.made, Bands):
            return [self.made.encode(pixels)]
        return [Image.fromarray(plane) for plane in pixels.numpy()]


@dataclass
class FinishedPairs(Function):
    """A folder of answers that are there already, named as the inputs are.

    `trainA/1.jpg` has its answer in `trainB/1.png` below the folder; in `trainA/1.png` where there
    is no `trainB`; or else in `1.png`, which no other input may have as well.
    """

    probe = "never"
    owners: dict[Path, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """List the folder."""
        root = Path(self.text)
        self.files: dict[Path, Path] = {}
        for path in sorted(root.rglob("*")):
            if is_image_file(path):
                self.files.setdefault(path.relative_to(root).with_suffix(""), path)
        self.folders = {name.parent for name in self.files}

    def identity(self) -> dict[str, str]:
        """The hash of the files' names and contents."""
        names = [name.as_posix() for name in self.files]
        lines = zip(names, file_digests(list(self.files.values())), strict=True)
        content = "\n".join(f"{name} {digest}" for name, digest in lines)
        return {"pairs": hashlib.sha256(content.encode()).hexdigest()}

    def expect(self, paths: Iterable[Path]) -> None:
        """See `Function`: the first of several inputs gets an answer, at every start."""
        for path in paths:
            if (name := self._name(path)) is not None:
                self.owners.setdefault(name, path)

    def _name(self, path: Path) -> Path | None:
        folder, stem = path.parent.name, path.stem
        swapped = folder[:-1] + {"A": "B", "B": "A"}.get(folder[-1:], folder[-1:])
        own = swapped if Path(swapped) in self.folders else folder
        return next((name for name in (Path(own) / stem, Path(stem)) if name in self.files), None)

    def call(self, question: Question) -> Planes:
        """See `Function`."""
        path = question.path
        name = self._name(path)
        if name is None:
            raise CallError(f"{self.text} holds no answer named {path.stem}", again=False)
        if self.owners.setdefault(name, path) != path:
            raise CallError(
                f"{self.files[name]} would be the answer to {self.owners[name]}, too", again=False
            )
        try:
            return self.made.read(self.files[name])
        except GanCompressError as error:
            raise CallError(str(error), again=False) from None
