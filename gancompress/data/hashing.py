"""Hashes of image files' contents."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from gancompress.errors import DataError

READERS = 2
MAX_REMEMBERED = 1 << 18
CHUNK = 64  # files a thread is given at a time
PATIENCE_S = 2.0  # reading that takes longer shows a progress bar


def file_digests(files: Sequence[Path]) -> list[str]:
    """SHA-256 of every file's content, in hexadecimal, in the order given.

    Within one process, a file that is the same to the file system is not read again. Its time of
    change is the kernel's own, which nobody can set as a time of modification can be.

    Raises:
        DataError: A file is missing or cannot be read.
    """
    chunks = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
    digests: list[str] = []
    bar = tqdm(
        total=len(files), desc="hashing images", unit="img", file=sys.stderr, disable=None,
        delay=PATIENCE_S,
    )  # fmt: skip
    with ThreadPoolExecutor(READERS) as pool, bar:
        for found in pool.map(lambda chunk: [_file_digest(path) for path in chunk], chunks):
            digests += found
            bar.update(len(found))
    return digests


def _file_digest(path: Path) -> str:
    try:
        facts = path.stat()
        return _remembered(str(path.absolute()), facts.st_ino, facts.st_size, facts.st_ctime_ns)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


@lru_cache(MAX_REMEMBERED)
def _remembered(path: str, inode: int, size: int, ctime_ns: int) -> str:
    return content_digest(Path(path).read_bytes())


def content_digest(content: bytes) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def pixel_digest(pixels: Tensor) -> str:
    """SHA-256 of an image's shape and pixels, (C, H, W) uint8 on the CPU, in hexadecimal."""
    shape = str(tuple(pixels.shape)).encode()
    return hashlib.sha256(shape + pixels.contiguous().numpy().tobytes()).hexdigest()
