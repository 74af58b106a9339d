"""A teacher's answers: asked for once, kept in a store that runs share.

A store is a folder of one teacher, one size and one number of channels: `outputs.bin` holds the
answers one after another, (C, S, S) uint8 each, and `manifest.jsonl` a line for each: hashes of
input and output, where the output begins, and how long it took. An answer is written as soon as it
is there, so that whatever ends a process loses at most one. Answers are found by the hash of the
input's pixels: two runs that show the teacher the same images share them.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from torch import Tensor, nn

from gancompress.checkpoint.files import Json, write_atomic
from gancompress.data import RGB, ImageKind, ImageSet, translate_batches
from gancompress.data.hashing import pixel_digest
from gancompress.data.image_kinds import Labels
from gancompress.distributed import agreed, any_rank, exchanged, is_first_here, rank, world_size
from gancompress.errors import DataError
from gancompress.paths import inside
from gancompress.progress import Progress
from gancompress.training.precision import autocast

Shape = tuple[int, int, int]


class Teacher(Protocol):
    """What answers images.

    Attributes:
        label: What the folder of its answers is called, besides a hash.
        taken: What kind of images it takes.
        channels: Of its answers.
    """

    @property
    def label(self) -> str:
        """See above."""

    @property
    def taken(self) -> ImageKind:
        """See above."""

    @property
    def channels(self) -> int:
        """See above."""

    def identity(self, size: int) -> dict[str, str]:
        """Facts that are others where its answers to images of this size are others."""

    def answers(
        self, store: PairStore, images: ImageSet, indices: Sequence[int]
    ) -> Iterator[tuple[int, Tensor | None, Json]]:
        """Index, output (C, S, S) uint8 or None, and facts of images: the same on all ranks.

        Args:
            store: Where the answers go, and those of earlier starts are.
            images: The images.
            indices: Those that are asked for, in order.
        """


@dataclass(frozen=True)
class PaddedTeacher:
    """A network as a teacher, of images of any size; see `Teacher`.

    Attributes:
        module: The network.
        stride: Images are padded to a multiple of this by reflection, and outputs cropped.
        device: Where it is.
        precision: auto, fp32 or bf16.
        channels: Of its outputs.
        taken: What kind of images it takes.
    """

    module: nn.Module
    stride: int
    device: torch.device
    precision: str
    channels: int
    taken: ImageKind = RGB
    label: str = "network"
    batch: int = 4

    def identity(self, size: int) -> dict[str, str]:
        """The hash of its weights, its class, and its answers to two fixed images.

        A module without weights of its own is known by these answers.
        """
        weights = hashlib.sha256()
        for name, tensor in self.module.state_dict().items():
            weights.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        kind = type(self.module)
        return {
            "class": f"{kind.__module__}.{kind.__qualname__}",
            "weights": weights.hexdigest(),
            "probe": pixel_digest(self(probe_images(self.taken, size))),
        }

    def answers(
        self, store: PairStore, images: ImageSet, indices: Sequence[int]
    ) -> Iterator[tuple[int, Tensor | None, Json]]:
        """See `Teacher`; every rank translates its share."""
        given, together = iter(indices), self.batch * world_size()
        with Progress(len(indices), "teacher's answers", "images", shown=rank() == 0) as bar:
            for start in range(0, len(indices), together):
                own = indices[start + rank() * self.batch :][: self.batch]
                began = time.perf_counter()
                outputs = self(torch.stack([images[index] for index in own])) if own else None
                seconds = round((time.perf_counter() - began) / max(len(own), 1), 4)
                for block in exchanged(outputs):
                    for output in () if block is None else block:
                        index = next(given)
                        yield index, output, {"name": images.files[index].name, "seconds": seconds}
                        bar.update()

    def __call__(self, images: Tensor) -> Tensor:
        """(N, C, S, S) uint8 -> (N, channels, S, S) uint8."""
        return translate_batches(self._translate, images, self.device, source="the teacher")

    def _translate(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % self.stride, 0, -height % self.stride), mode="reflect")
        with autocast(self.precision, self.device):
            fake: Tensor = self.module(x)
        return fake[..., :height, :width]


def probe_images(kind: ImageKind, size: int) -> Tensor:
    """Two fixed images, smooth and busy, (2, C, size, size) uint8."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    if isinstance(kind, Labels):
        numbers = torch.stack([x // 8 + y // 8, x // 3 * 5 + y // 5]) % kind.classes
        classes = torch.arange(kind.classes)[:, None, None]
        return (numbers[:, None] == classes).to(torch.uint8) * 255
    planes = [(x * (1 + c % 3) + y * (2 - c % 2)) * 255 // (5 * size) for c in range(kind.channels)]
    blocks = [(x // 4 * 37 + y // 4 * 59 + c * 83) % 256 for c in range(kind.channels)]
    return torch.stack([torch.stack(planes), torch.stack(blocks)]).to(torch.uint8)


class PairStore:
    """The answers of one teacher to images of one size, see above.

    Args:
        root: Folder of stores.
        teacher: Whose answers.
        size: Side of images in pixels.
    """

    def __init__(self, root: Path, teacher: Teacher, size: int) -> None:
        self.shape: Shape = (teacher.channels, size, size)
        facts = agreed(lambda: teacher.identity(size))
        facts |= {"size": str(size), "channels": str(teacher.channels)}
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        name = f"{teacher.label}-{size}-{key[:12]}"
        self.folder = inside(root, name)
        self.manifest = inside(root, f"{name}/manifest.jsonl")
        self.outputs = inside(root, f"{name}/outputs.bin")
        self._lock = FileLock(inside(root, f"{name}/.lock"))
        self._places: dict[str, tuple[int, str]] = {}  # number of the output and its hash
        self._read = 0  # bytes of the manifest
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
                self._places[str(entry["input"])] = (int(entry["place"]), str(entry["output"]))


@dataclass(frozen=True)
class Answers:
    """Images of a store by position, see `Indexed`."""

    array: np.memmap[Any, np.dtype[np.uint8]]
    places: np.ndarray[Any, np.dtype[np.int64]]

    def __len__(self) -> int:
        return len(self.places)

    def take(self, indices: Sequence[int]) -> Tensor:
        """Outputs for inputs `indices`, (N, C, S, S) uint8."""
        return torch.from_numpy(self.array[self.places[list(indices)]])


@dataclass(frozen=True)
class Asked:
    """What came of asking a teacher about images.

    Attributes:
        store: Has its answers.
        digests: Hash of every image.
        errors: Why there is no answer, by the image's index.
    """

    store: PairStore
    digests: list[str]
    errors: dict[int, str]


def ask(root: Path, teacher: Teacher, images: ImageSet) -> Asked:
    """Ask a teacher about all images whose answers are not in its store yet.

    Args:
        root: Folder of stores.
        teacher: The teacher.
        images: Inputs; outputs have the same size.
    """
    store = PairStore(root, teacher, images.size)
    digests = [pixel_digest(images[index]) for index in range(len(images))]
    errors: dict[str, str] = {}
    with store.making():
        wanted = {digest for missing in exchanged(store.missing(digests)) for digest in missing}
        first = {digest: index for index, digest in reversed([*enumerate(digests)])}
        indices = sorted(index for digest, index in first.items() if digest in wanted)
        for index, output, facts in teacher.answers(store, images, indices):
            if output is None:
                errors[digests[index]] = facts["error"]
            if is_first_here():
                store.add(digests[index], output, **facts)
    any_rank(False)  # the others wait until all is written
    found = {index: errors[d] for index, d in enumerate(digests) if d in errors}
    return Asked(store, digests, found)


def teacher_pairs(root: Path, teacher: Teacher, images: ImageSet) -> Answers:
    """The teacher's answers to all images, see `ask`.

    Raises:
        DataError: It has no answer to one.
    """
    asked = ask(root, teacher, images)
    for index, error in asked.errors.items():
        raise DataError(f"the teacher has no answer to {images.files[index]}: {error}")
    return asked.store.take(asked.digests)
