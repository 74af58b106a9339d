"""Programs and HTTP endpoints that teach."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gancompress.data.image_kinds import Bands, Planes
from gancompress.errors import ConfigError
from gancompress.hashes import file_sha256
from gancompress.training.functions.function import CallError, Function, Question

AUTHORIZATION = "GANCOMPRESS_TEACHER_AUTHORIZATION"
"""Environment variable with the header `Authorization` for an endpoint; it is never written."""

WAITING = {408, 425, 429}  # of HTTP's 4xx, those that another try may help
MAX_ANSWER = 256 << 20  # bytes
CHUNK = 1 << 16
MAX_SAID = 4096  # bytes of what a command says, from the end


@dataclass
class Command(Function):
    """A command line with `{input}` and `{output}`; no shell reads it."""

    timeout_s: float = 300.0
    probe = "before calls"
    running: set[subprocess.Popen[bytes]] = field(default_factory=set)

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
        with tempfile.TemporaryFile() as file:
            try:
                process = subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=file,
                    start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise CallError(f"the command cannot be run: {error}") from None
            self._wait(process)
            if process.returncode:
                file.seek(max(0, file.seek(0, os.SEEK_END) - MAX_SAID))
                said = file.read().decode(errors="replace").strip().splitlines()[-1:]
                raise CallError(f"the command ended with {process.returncode}: {''.join(said)}")

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        self.running.add(process)
        try:
            process.wait(self.timeout_s)
        except subprocess.TimeoutExpired:
            _end(process)
            raise CallError(f"the command took more than {self.timeout_s:g} s") from None
        except BaseException:
            _end(process)
            raise
        finally:
            self.running.discard(process)

    def stop(self) -> None:
        """See `Function`."""
        for process in list(self.running):
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command and what it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


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
        deadline = time.monotonic() + self.timeout_s
        try:
            with self.opener.open(request, timeout=self.timeout_s) as response:
                content = _body(response, deadline)
        except urllib.error.HTTPError as error:
            again = error.code >= 500 or error.code in WAITING
            wait = error.headers.get("Retry-After", "")
            after_s = float(wait) if wait.isascii() and wait.isdecimal() else 0.0
            raise CallError(f"HTTP {error.code} {error.reason}", again, after_s) from None
        except Exception as error:  # sockets and HTTP raise many types
            raise CallError(f"{type(error).__name__}: {error}") from None
        if len(content) > MAX_ANSWER:
            raise CallError(f"an answer of more than {MAX_ANSWER} bytes", again=False)
        return self.decoded(content)


def _body(response: Any, deadline: float) -> bytes:
    """The body of a response, up to a byte more than is allowed.

    Raises:
        TimeoutError: The deadline has passed; the timeout of a socket is that of one read.
    """
    content = bytearray()
    while len(content) <= MAX_ANSWER and (part := response.read1(CHUNK)):
        content += part
        if time.monotonic() > deadline:
            raise TimeoutError("the answer took too long")
    return bytes(content)
