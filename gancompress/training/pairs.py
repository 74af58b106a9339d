"""Pairs of images and a teacher's answers, which it is asked for once."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gancompress.checkpoint.files import Json
from gancompress.data import RGB, ImageKind, ImageSet, translate_batches
from gancompress.data.hashing import pixel_digest
from gancompress.data.image_kinds import Labels
from gancompress.distributed import agreed, any_rank, exchanged, is_first_here, rank, world_size
from gancompress.errors import DataError
from gancompress.progress import Progress
from gancompress.training.precision import autocast
from gancompress.training.store import Answers, PairStore


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
    size = images.size
    facts = agreed(lambda: teacher.identity(size))
    store = PairStore(root, teacher.label, facts, (teacher.channels, size, size))
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
    refuse_missing(asked, images)
    return asked.store.take(asked.digests)


def refuse_missing(asked: Asked, images: ImageSet) -> None:
    """Raise where an image has no answer.

    Raises:
        DataError: It names the first one.
    """
    for index, error in asked.errors.items():
        raise DataError(f"the teacher has no answer to {images.files[index]}: {error}")
