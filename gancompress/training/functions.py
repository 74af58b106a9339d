"""Functions from image to image that teach: Python, a command, an endpoint, a file, finished pairs.

What is called is what the user wrote in `teacher.weights`; no file that is read decides it.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import os
import shlex
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gancompress.checkpoint.network import WEIGHTS_NAMES, import_named
from gancompress.config import TeacherSource
from gancompress.data import ImageKind, to_float, to_uint8
from gancompress.data.hashing import file_digests
from gancompress.data.image_kinds import Bands, Planes
from gancompress.data.images import is_image_file, upright
from gancompress.errors import ConfigError, GanCompressError
from gancompress.hashes import file_sha256
from gancompress.runtimes import FILES

AUTHORIZATION = "GANCOMPRESS_TEACHER_AUTHORIZATION"
"""Environment variable with the header `Authorization` for an endpoint; it is never written."""

WAITING = {408, 425, 429}  # of HTTP's 4xx, those that another try may help
MAX_ANSWER = 256 << 20  # bytes


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
        return self._planes(answer)

    def _planes(self, answer: Any) -> Planes:
        if isinstance(answer, Tensor):
            answer = answer.numpy(force=True)
        if isinstance(answer, np.ndarray):
            if answer.dtype != np.uint8 or answer.ndim not in (2, 3):
                raise CallError(
                    f"an array of {answer.dtype} and shape {answer.shape}; answers are PIL images "
                    "or arrays (H, W, C) of uint8", again=False,
                )  # fmt: skip
            if isinstance(self.made, Bands):
                return [
                    Image.fromarray(plane) for plane in np.atleast_3d(answer).transpose(2, 0, 1)
                ]
            answer = Image.fromarray(answer[..., 0] if answer.shape[2:] == (1,) else answer)
        if not isinstance(answer, Image.Image):
            raise CallError(f"{type(answer).__name__} is no image", again=False)
        try:
            return [self.made.convert(upright(answer))]
        except ValueError as error:
            raise CallError(str(error), again=False) from None


@dataclass
class Command(Function):
    """A command line with `{input}` and `{output}`; no shell reads it."""

    timeout_s: float = 300.0
    probe = "before calls"

    def __post_init__(self) -> None:
        """Find the program."""
        try:
            self.words = shlex.split(self.text)
        except ValueError as error:
            raise ConfigError(f"teacher.weights: '{self.text}': {error}") from None
        program = shutil.which(self.words[0])
        if program is None:
            raise ConfigError(f"teacher.weights: there is no program '{self.words[0]}'")
        self.words[0] = program

    def identity(self) -> dict[str, str]:
        """Its text, and the hashes of the program and of the files that it names."""
        files = [Path(word) for word in self.words if Path(word).is_file()]
        hashes = {f"file {place}": file_sha256(file) for place, file in enumerate(files)}
        return {"command": self.text, **hashes}

    def call(self, question: Question) -> Planes:
        """See `Function`."""
        with tempfile.TemporaryDirectory() as name:
            source = Path(name) / f"input{self.taken.suffix}"
            target = Path(name) / f"output{self.made.suffix}"
            source.write_bytes(self.encoded(question.pixels))
            places = {"{input}": str(source), "{output}": str(target)}
            words = self.words
            for key, path in places.items():
                words = [word.replace(key, path) for word in words]
            self._run(words)
            if not target.is_file():
                raise CallError(f"the command wrote no {{output}} ({target.suffix})")
            return self.decoded(target.read_bytes())

    def _run(self, words: list[str]) -> None:
        try:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, timeout=self.timeout_s,
                check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise CallError(f"the command took more than {self.timeout_s:g} s") from None
        except OSError as error:
            raise CallError(f"the command cannot be run: {error}") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise CallError(f"the command ended with {done.returncode}: {''.join(said)}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Nothing but the named endpoint is spoken to."""

    def redirect_request(self, *_: Any) -> None:
        """An answer that names another address is an error."""


@dataclass
class Endpoint(Function):
    """An HTTP address: the image is the body of a POST, and the answer that of the response."""

    timeout_s: float = 300.0
    probe = "before calls"

    def __post_init__(self) -> None:
        """Reach a server of this machine without a proxy."""
        handlers: list[Any] = [_NoRedirect]
        if urlsplit(self.text).hostname in ("localhost", "127.0.0.1", "::1"):
            handlers.append(urllib.request.ProxyHandler({}))
        self.opener = urllib.request.build_opener(*handlers)

    def identity(self) -> dict[str, str]:
        """Its address."""
        return {"endpoint": self.text}

    def call(self, question: Question) -> Planes:
        """See `Function`."""
        kind = "application/octet-stream" if isinstance(self.taken, Bands) else "image/png"
        headers = {"Content-Type": kind, "User-Agent": "gancompress"}
        if AUTHORIZATION in os.environ:
            headers["Authorization"] = os.environ[AUTHORIZATION]
        request = urllib.request.Request(self.text, self.encoded(question.pixels), headers)
        try:
            with self.opener.open(request, timeout=self.timeout_s) as response:
                content = response.read(MAX_ANSWER + 1)
        except urllib.error.HTTPError as error:
            again = error.code >= 500 or error.code in WAITING
            wait = error.headers.get("Retry-After", "")
            after_s = float(wait) if wait.isdigit() else 0.0
            raise CallError(f"HTTP {error.code} {error.reason}", again, after_s) from None
        except Exception as error:  # sockets and HTTP raise many types
            raise CallError(f"{type(error).__name__}: {error}") from None
        if len(content) > MAX_ANSWER:
            raise CallError(f"an answer of more than {MAX_ANSWER} bytes", again=False)
        return self.decoded(content)


class FileFunction(Function):
    """An exported file of anyone's, such as an ONNX file, run here."""

    def __post_init__(self) -> None:
        """Open it."""
        path = Path(self.text)
        self.generator = FILES[path.suffix](path, 1, False)

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

    `trainA/1.jpg` has its answer in `trainA/1.png` or `trainB/1.png` below the folder, or else in
    `1.png`, which no other input may have as well.
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

    def identity(self) -> dict[str, str]:
        """The hash of the files' names and contents."""
        names = [name.as_posix() for name in self.files]
        lines = zip(names, file_digests(list(self.files.values())), strict=True)
        content = "\n".join(f"{name} {digest}" for name, digest in lines)
        return {"pairs": hashlib.sha256(content.encode()).hexdigest()}

    def call(self, question: Question) -> Planes:
        """See `Function`."""
        path = question.path
        folder, stem = path.parent.name, path.stem
        swapped = folder[:-1] + {"A": "B", "B": "A"}.get(folder[-1:], folder[-1:])
        names = [Path(folder) / stem, Path(swapped) / stem, Path(stem)]
        name = next((name for name in names if name in self.files), None)
        if name is None:
            raise CallError(f"{self.text} holds no answer named {stem}", again=False)
        if self.owners.setdefault(name, path) != path:
            raise CallError(
                f"{self.files[name]} would be the answer to {self.owners[name]}, too", again=False
            )
        try:
            return self.made.read(self.files[name])
        except GanCompressError as error:
            raise CallError(str(error), again=False) from None


def function_kind(source: TeacherSource) -> str | None:
    """What kind of function `teacher.weights` names; None for the weights of a network."""
    given = source.weights
    if given is None or source.module is not None:
        return None
    if isinstance(given, str):
        if "{input}" in given:
            return "command"
        return "endpoint" if "://" in given else "python"
    if given.suffix in FILES and given.is_file():
        return "file"
    known = (*WEIGHTS_NAMES, "config.yaml")
    if given.is_dir() and not any((given / name).exists() for name in known):
        return "pairs" if any(is_image_file(path) for path in given.rglob("*")) else None
    return None


def load_function(source: TeacherSource, taken: ImageKind, made: ImageKind) -> Function:
    """The function that `teacher.weights` names, see `function_kind`.

    Raises:
        ConfigError: It cannot be imported or found.
        CheckpointError: The file cannot be read.
    """
    text, kind = str(source.weights), function_kind(source)
    if kind == "python":
        return PythonFunction(text, taken, made)
    if kind == "command":
        return Command(text, taken, made, source.calls.timeout_s)
    if kind == "endpoint":
        return Endpoint(text, taken, made, source.calls.timeout_s)
    return (FileFunction if kind == "file" else FinishedPairs)(text, taken, made)
