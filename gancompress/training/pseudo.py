"""Pseudo pairs: the teacher's output for every training image, computed once."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.format import open_memmap
from torch import Tensor, nn

from gancompress.checkpoint.files import write_atomic
from gancompress.config import read_json
from gancompress.data import ImageSet, translate_batches
from gancompress.data.hashing import file_digests
from gancompress.distributed import any_rank, is_first_here, rank, whole_batch, world_size
from gancompress.errors import ConfigError
from gancompress.hashes import file_sha256
from gancompress.progress import Progress
from gancompress.training.precision import autocast

BATCH = 4


class PseudoPairs:
    """A teacher's outputs as a memory-mapped array of uint8 images.

    Args:
        path: The `.npy` file.
    """

    def __init__(self, path: Path) -> None:
        self.array = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.array)

    def take(self, indices: Sequence[int]) -> Tensor:
        """Outputs for inputs `indices`, (N, C, S, S) uint8."""
        return torch.from_numpy(self.array[list(indices)])


@dataclass(frozen=True)
class PaddedTeacher:
    """A teacher that takes images of any size.

    Attributes:
        module: The teacher.
        stride: Images are padded to a multiple of this by reflection, and outputs cropped.
        device: Where it is.
        precision: auto, fp32 or bf16.
        channels: Of its outputs.
    """

    module: nn.Module
    stride: int
    device: torch.device
    precision: str
    channels: int

    def __call__(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8 -> (N, channels, H, W) uint8."""
        return translate_batches(self._translate, images, self.device, source="the teacher")

    def _translate(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % self.stride, 0, -height % self.stride), mode="reflect")
        with autocast(self.precision, self.device):
            fake: Tensor = self.module(x)
        return fake[..., :height, :width]


def pseudo_pairs(path: Path, teacher: PaddedTeacher, images: ImageSet) -> PseudoPairs:
    """Translate all images with the teacher, or reuse what an earlier start has computed.

    Ranks translate in turn, and the first one of every host writes all images.

    Args:
        path: The `.npy` file to write; beside it a `.json` says what it was made from.
        teacher: The teacher.
        images: Inputs; outputs have the same size.
    """
    key = _key(teacher.module, images)
    note = path.with_suffix(".json")
    if not any_rank(not _is_known(path, note, key)):
        return PseudoPairs(path)
    if is_first_here():
        note.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.stem}.{rank()}.partial.npy")  # hosts may share it
        shape = (len(images), teacher.channels, images.size, images.size)
        array = open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        for start, block in _translated(teacher, images):
            array[start : start + len(block)] = block.numpy()
        array.flush()
        temporary.replace(path)
        write_atomic(note, json.dumps({**key, "sha256": file_sha256(path)}).encode())
    else:
        deque(_translated(teacher, images), maxlen=0)
    any_rank(False)  # the others wait until it is written
    return PseudoPairs(path)


def _translated(teacher: PaddedTeacher, images: ImageSet) -> Iterator[tuple[int, Tensor]]:
    """All outputs in order, (N, C, S, S) uint8, and the index of the first one of each block."""
    with Progress(len(images), "pseudo pairs", "images", shown=rank() == 0) as bar:
        for start in range(0, len(images), BATCH * world_size()):
            own = range(start + BATCH * rank(), start + BATCH * (rank() + 1))
            indices = [index for index in own if index < len(images)]
            shape = (BATCH, teacher.channels, images.size, images.size)
            block = torch.zeros(shape, dtype=torch.uint8)
            if indices:
                block[: len(indices)] = teacher(torch.stack([images[i] for i in indices]))
            block = whole_batch(block)[: len(images) - start]
            yield start, block
            bar.update(len(block))


def _is_known(path: Path, note: Path, key: dict[str, str]) -> bool:
    """Whether the file is whole, and was made of the same."""
    try:
        return bool(read_json(note) == {**key, "sha256": file_sha256(path)})
    except (ConfigError, OSError):
        return False


def _key(teacher: nn.Module, images: ImageSet) -> dict[str, str]:
    weights = hashlib.sha256()
    for name, tensor in teacher.state_dict().items():
        weights.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    digests = images.digests or file_digests(images.files)
    files = hashlib.sha256("\n".join([str(images.half), *digests]).encode())
    return {"teacher": weights.hexdigest(), "images": files.hexdigest(), "size": str(images.size)}
