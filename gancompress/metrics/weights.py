"""Published files of weights: found on this machine or downloaded, and checked either way.

They are looked for in the folder that `$GANCOMPRESS_WEIGHTS` names, where the libraries keep them
that usually fetch them, and in our own cache, `$XDG_CACHE_HOME/gancompress` or
`~/.cache/gancompress`, into which they are downloaded at last. A file counts only if its size and
SHA-256 are those of the table. Files in other folders than our cache are never written.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import os
import ssl
import stat
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from gancompress.errors import CheckpointError, ConfigError
from gancompress.paths import sync_folder
from gancompress.tables import lookup

FOLDER_VARIABLE = "GANCOMPRESS_WEIGHTS"
ATTEMPTS = 3
PAUSE_S = 1.0  # before the second attempt; twice as long before the third
TIMEOUT_S = 60.0  # without a byte
CHUNK_BYTES = 1 << 20
_INTERRUPTIONS = (
    urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError,
)  # fmt: skip

logger = logging.getLogger(__name__)


def _torch_hub() -> list[Path]:
    return [Path(torch.hub.get_dir()) / "checkpoints"]


def _clean_fid() -> list[Path]:
    return [Path("/tmp"), Path(tempfile.gettempdir())]  # the first is written in clean-fid's code


@dataclass(frozen=True)
class WeightFile:
    """A published file.

    Attributes:
        url: Where its publisher keeps it; ends with the file's name.
        sha256: 64 lower-case hexadecimal digits.
        size: Bytes.
        caches: Folders where a library that fetches the same file puts it.
        is_code: Reading it runs code, so not even a path given by the user may lead to another.
    """

    url: str
    sha256: str
    size: int
    caches: Callable[[], list[Path]]
    is_code: bool = False

    @property
    def file_name(self) -> str:
        """Its name in every folder."""
        return self.url.rpartition("/")[2]

    def fault(self, path: Path) -> str | None:
        """Why a file is not this one, or nothing."""
        try:
            if self.is_code and _is_exchangeable(path):
                return "it belongs to another user, who could exchange it after it was checked"
            if not stat.S_ISREG(path.stat().st_mode):
                return "it is not a file"
            size = path.stat().st_size
            if size != self.size:
                return f"it has {size:,} bytes instead of {self.size:,}"
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            return f"it cannot be read: {error.strerror}"
        return None if digest == self.sha256 else f"its SHA-256 is {digest}, not {self.sha256}"


def _is_exchangeable(path: Path) -> bool:
    """Whether it lies where everybody may write, as in a temporary folder, and is a stranger's."""
    if sys.platform == "win32":  # where modes say nothing of this
        return False
    everybody = path.parent.stat().st_mode & stat.S_IWOTH
    return bool(everybody) and path.lstat().st_uid not in (0, os.getuid())


WEIGHTS: dict[str, WeightFile] = {
    "inception": WeightFile(
        "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/"
        "inception-2015-12-05.pt",
        "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
        95_607_719,
        _clean_fid,
        is_code=True,
    ),
    "alexnet": WeightFile(
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        244_408_911,
        _torch_hub,
    ),
    "squeezenet1_1": WeightFile(
        "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
        "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
        4_958_839,
        _torch_hub,
    ),
    "vgg16": WeightFile(
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        553_433_881,
        _torch_hub,
    ),
}


def find_weights(name: str, path: Path | None = None, fetch: bool = True) -> Path:
    """A file of weights: the given one, one that is on this machine, or a downloaded one.

    Args:
        name: Entry of `WEIGHTS`.
        path: A file to use instead; any, unless reading the entry runs code.
        fetch: Whether the user has asked for this very file, so that it may be downloaded.

    Raises:
        CheckpointError: The given file does not exist or may not be used; or there is none, and
            it cannot or may not be downloaded.
        ConfigError: `$GANCOMPRESS_WEIGHTS` names no folder.
    """
    entry = lookup(WEIGHTS, name, "file of weights")
    if path is not None:
        return _given(entry, path)
    target = cache_folder() / entry.file_name
    for folder in dict.fromkeys([*_folder_of_user(), *entry.caches(), target.parent]):
        candidate = folder / entry.file_name
        if not os.path.lexists(candidate):
            continue
        fault = entry.fault(candidate)
        if fault is None:
            return candidate
        logger.warning("%s is not used: %s", candidate, fault)
    if not fetch:
        raise CheckpointError(
            f"{entry.file_name} is not on this machine, and nothing is downloaded unasked"
        )
    return download(entry, target)


def cache_folder() -> Path:
    """Where downloads are kept; it may not be there yet."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # the XDG specification wants relative paths to be ignored
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "gancompress"


def _folder_of_user() -> list[Path]:
    name = os.environ.get(FOLDER_VARIABLE)
    if not name:
        return []
    if not Path(name).is_dir():
        raise ConfigError(f"${FOLDER_VARIABLE} must name a folder of weights; '{name}' is not one")
    return [Path(name)]


def _given(entry: WeightFile, path: Path) -> Path:
    if not path.is_file():
        raise CheckpointError(f"no weights {path}")
    fault = entry.fault(path) if entry.is_code else None
    if fault:
        raise CheckpointError(
            f"{path} is not used: {fault}.\n"
            f"  Reading such a file runs code, so it must be {entry.file_name} as published."
        )
    return path


def download(entry: WeightFile, target: Path) -> Path:
    """Fetch a file so that `target` is either all of it or not there.

    Two processes may do so at once: the second waits, and finds what the first has fetched.

    Returns:
        `target`.

    Raises:
        CheckpointError: There is no connection, the server sends something else, or the folder
            cannot be written. The message tells where to put the file by hand.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target):
            if entry.fault(target):
                _fetch(entry, target)
    except _Unavailable as error:
        raise _with_advice(entry, target, str(error)) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise _with_advice(entry, target, f"{target.parent} cannot be written: {reason}") from None
    return target


class _Unavailable(Exception):  # noqa: N818  # becomes a CheckpointError with advice
    """No further attempt would help."""


def _with_advice(entry: WeightFile, target: Path, problem: str) -> CheckpointError:
    return CheckpointError(
        f"{entry.file_name} cannot be downloaded from {entry.url}: {problem}.\n"
        f"  Put the file into {target.parent} or into the folder that ${FOLDER_VARIABLE} names.\n"
        f"  It has {entry.size:,} bytes and the SHA-256 {entry.sha256}."
    )


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Hold the target's lock; says so where another process has it."""
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.warning("another process downloads %s; waiting for it", target.name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _fetch(entry: WeightFile, target: Path) -> None:
    partial = target.with_name(f".{target.name}.partial")  # the lock makes it this process's own
    try:
        _receive_patiently(entry, partial)
        fault = entry.fault(partial)
        if fault:
            raise _Unavailable(f"the server sent another file: {fault}")
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(target.parent)


def _receive_patiently(entry: WeightFile, partial: Path) -> None:
    problem = ""
    for attempt in range(1, ATTEMPTS + 1):
        if attempt > 1:
            logger.warning("%s; attempt %d of %d", problem, attempt, ATTEMPTS)
            time.sleep(PAUSE_S * (attempt - 1))
        try:
            return _receive(entry, partial)
        except urllib.error.HTTPError as error:
            with error:
                problem = f"the server answers {error.code} {error.reason}"
            if error.code < http.HTTPStatus.INTERNAL_SERVER_ERROR:
                raise _Unavailable(problem) from None
        except _INTERRUPTIONS as error:
            reason = getattr(error, "reason", error)  # urllib wraps the one that says something
            problem = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    raise _Unavailable(f"{problem} ({ATTEMPTS} attempts)")


def _receive(entry: WeightFile, partial: Path) -> None:
    """One attempt: all bytes in `partial` and on the disk."""
    request = urllib.request.Request(entry.url, headers={"User-Agent": "gancompress"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        length = response.headers.get("Content-Length", "")
        if length.isdigit() and int(length) != entry.size:
            is_page = "html" in response.headers.get("Content-Type", "")
            what = "a web page" if is_page else "another file"
            raise _Unavailable(f"the server sends {what} of {int(length):,} bytes")
        with open(partial, "wb") as file:
            size = _copy(response, file, entry)
            file.flush()
            os.fsync(file.fileno())
    if size < entry.size:
        raise ConnectionError(f"the connection ended after {size:,} of {entry.size:,} bytes")


def _copy(source: IO[bytes], file: IO[bytes], entry: WeightFile) -> int:
    """Copy with progress, at most one chunk more than there should be; returns the bytes."""
    bar = tqdm(
        total=entry.size, desc=entry.file_name, unit="B", unit_scale=True, file=sys.stderr,
        disable=None,
    )  # fmt: skip
    done = 0
    with bar:
        while done <= entry.size and (chunk := source.read(CHUNK_BYTES)):
            file.write(chunk)
            done += len(chunk)
            bar.update(len(chunk))
    return done
