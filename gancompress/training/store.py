"""A store of a teacher's answers, which runs share.

A store is a folder of one teacher, one size and one number of channels: `outputs.bin` holds the
answers one after another, (C, S, S) uint8 each, and `manifest.jsonl` a line for each: hashes of
input and output, the output's number, and how long it took. An answer is written as soon as it is
there, so that whatever ends a process loses at most one. Answers are found by the hash of the
input's pixels: two runs that show the teacher the same images share them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from gancompress.checkpoint.files import Json, write_atomic
from gancompress.distributed import is_first_here, world_size
from gancompress.paths import inside

Shape = tuple[int, int, int]


class PairStore:
    """The answers of one teacher to images of one size, see above.

    Args:
        root: Folder of stores.
        label: What the teacher is called.
        identity: What it is known by.
        shape: Of the answers, (C, S, S).
    """

    def __init__(self, root: Path, label: str, identity: Json, shape: Shape) -> None:
        self.shape = shape
        facts = {**identity, "size": str(shape[-1]), "channels": str(shape[0])}
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        name = f"{label}-{shape[-1]}-{key[:12]}"
        self.folder = inside(root, name)
        self.manifest = inside(root, f"{name}/manifest.jsonl")
        self.outputs = inside(root, f"{name}/outputs.bin")
        self._lock = FileLock(inside(root, f"{name}/.lock"))
        self._places: dict[str, tuple[int, str]] = {}  # number of the output and its hash
        self._read = 0  # bytes of the manifest
        self.failed: set[str] = set()  # inputs that had no answer at some time
        if not (self.folder / "teacher.json").exists() and is_first_here():
            write_atomic(self.folder / "teacher.json", json.dumps(facts, indent=1).encode())

    def making(self) -> AbstractContextManager[object]:
        """Held while answers are asked for, so that no other run asks for the same ones.

        Ranks of one training share their work instead.
        """
        return FileLock(self.folder / ".making") if world_size() == 1 else nullcontext()

    def missing(self, digests: Iterable[str]) -> list[str]:
        """Those of some inputs that have no answer, or a damaged one, in order; each once."""
        self._refresh()
        return [digest for digest in dict.fromkeys(digests) if not self._is_whole(digest)]

    def add(self, digest: str, output: Tensor | None, **facts: Any) -> None:
        """Keep an answer, (C, S, S) uint8, unless another process has brought it meanwhile.

        None is kept as a line with the facts, for people; it is asked for again.
        """
        if output is None:
            with self._lock:
                self._note({"input": digest, **facts})
            return
        content = output.contiguous().numpy().tobytes()
        with self._lock:
            self._refresh()
            if self._is_whole(digest):
                return
            place = self._append(content)
            found = hashlib.sha256(content).hexdigest()
            self._note({"input": digest, "output": found, "place": place, **facts})

    def take(self, digests: Sequence[str]) -> Answers:
        """The answers to some inputs, all of which are there."""
        self._refresh()
        if not digests:
            return Answers(np.zeros((0, *self.shape), np.uint8), np.zeros(0, np.int64))
        places = [self._places[digest][0] for digest in digests]
        return Answers(self._array(), np.array(places, dtype=np.int64))

    def _array(self) -> np.memmap[Any, np.dtype[np.uint8]]:
        count = self.outputs.stat().st_size // int(np.prod(self.shape))
        return np.memmap(self.outputs, np.uint8, "r", shape=(count, *self.shape))

    def _is_whole(self, digest: str) -> bool:
        place, wanted = self._places.get(digest, (0, ""))
        size = int(np.prod(self.shape))
        if not wanted or not self.outputs.exists():
            return False
        with open(self.outputs, "rb") as file:
            file.seek(place * size)
            return hashlib.sha256(file.read(size)).hexdigest() == wanted

    def _append(self, content: bytes) -> int:
        """Write an output after the last whole one; its number."""
        with open(self.outputs, "ab") as file:
            place = file.tell() // len(content)
            file.truncate(place * len(content))  # part of one that a crash has cut
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return place

    def _note(self, line: Json) -> None:
        with open(self.manifest, "ab") as file:
            start = "\n" if file.tell() and not self._ends_line() else ""
            file.write((start + json.dumps(line) + "\n").encode())
        self._refresh()

    def _ends_line(self) -> bool:
        with open(self.manifest, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _refresh(self) -> None:
        """Read the lines that are new; those that a crash has cut are left out."""
        if not self.manifest.exists():
            return
        with open(self.manifest, "rb") as file:
            file.seek(self._read)
            lines = file.read().splitlines(keepends=True)
        for line in lines:
            if not line.endswith(b"\n"):
                break
            self._read += len(line)
            with suppress(ValueError, KeyError, TypeError, RecursionError):
                entry = json.loads(line)
                if "error" in entry:
                    self.failed.add(str(entry["input"]))
                self._places[str(entry["input"])] = (int(entry["place"]), str(entry["output"]))


@dataclass(frozen=True)
class Answers:
    """Images of a store by position, see `Indexed`."""

    array: np.ndarray[Any, np.dtype[np.uint8]]
    places: np.ndarray[Any, np.dtype[np.int64]]

    def __len__(self) -> int:
        return len(self.places)

    def take(self, indices: Sequence[int]) -> Tensor:
        """Outputs for inputs `indices`, (N, C, S, S) uint8."""
        return torch.from_numpy(self.array[self.places[list(indices)]])
