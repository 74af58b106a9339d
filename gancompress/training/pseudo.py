"""Pseudo pairs: the teacher's output for every training image, computed once."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.format import open_memmap
from torch import Tensor, nn
from tqdm import tqdm

from gancompress.checkpoint.files import write_atomic
from gancompress.data import ImageSet, translate_batches
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
        """Outputs for inputs `indices`, (N, 3, S, S) uint8."""
        return torch.from_numpy(self.array[list(indices)])


@dataclass(frozen=True)
class PaddedTeacher:
    """A teacher that takes images of any size.

    Attributes:
        module: The teacher.
        stride: Images are padded to a multiple of this by reflection, and outputs cropped.
        device: Where it is.
        precision: auto, fp32 or bf16.
    """

    module: nn.Module
    stride: int
    device: torch.device
    precision: str

    def __call__(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) uint8 -> (N, 3, H, W) uint8."""
        return translate_batches(self._translate, images, self.device, source="the teacher")

    def _translate(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % self.stride, 0, -height % self.stride), mode="reflect")
        with autocast(self.precision, self.device):
            fake: Tensor = self.module(x)
        return fake[..., :height, :width]


def pseudo_pairs(path: Path, teacher: PaddedTeacher, images: ImageSet) -> PseudoPairs:
    """Translate all images with the teacher, or reuse what an earlier start has computed.

    Args:
        path: The `.npy` file to write; beside it a `.json` says what it was made from.
        teacher: The teacher.
        images: Inputs; outputs have the same size.
    """
    key = _key(teacher.module, images)
    note = path.with_suffix(".json")
    if path.exists() and note.exists() and json.loads(note.read_text()) == key:
        return PseudoPairs(path)
    note.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.stem}.partial.npy")
    shape = (len(images), 3, images.size, images.size)
    array = open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
    with tqdm(
        total=len(images), desc="pseudo pairs", unit="img", file=sys.stderr, disable=None
    ) as bar:
        for start in range(0, len(images), BATCH):
            indices = range(start, min(start + BATCH, len(images)))
            outputs = teacher(torch.stack([images[i] for i in indices]))
            array[start : start + len(indices)] = outputs.numpy()
            bar.update(len(indices))
    array.flush()
    temporary.replace(path)
    write_atomic(note, json.dumps(key).encode())
    return PseudoPairs(path)


def _key(teacher: nn.Module, images: ImageSet) -> dict[str, str]:
    weights = hashlib.sha256()
    for name, tensor in teacher.state_dict().items():
        weights.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    facts = [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in images.files]
    files = hashlib.sha256("\n".join([str(images.half), *facts]).encode())
    return {"teacher": weights.hexdigest(), "images": files.hexdigest(), "size": str(images.size)}
