"""Pseudo pairs: the teacher's output for every training image, computed once."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor, nn
from tqdm import tqdm

from gancompress.checkpoint.files import write_atomic
from gancompress.data import ImageSet, to_float, to_uint8
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

    def __getitem__(self, index: int) -> Tensor:
        """Output for input `index`, (3, S, S) uint8."""
        return torch.from_numpy(np.array(self.array[index]))


def pseudo_pairs(
    path: Path, teacher: nn.Module, images: ImageSet, device: torch.device, precision: str
) -> PseudoPairs:
    """Translate all images with the teacher, or reuse what an earlier start has computed.

    Args:
        path: The `.npy` file to write; beside it a `.json` says what it was made from.
        teacher: The teacher.
        images: Inputs; outputs have the same size.
        device: Where to compute.
        precision: auto, fp32 or bf16.
    """
    key = _key(teacher, images)
    note = path.with_suffix(".json")
    if path.exists() and note.exists() and json.loads(note.read_text()) == key:
        return PseudoPairs(path)
    temporary = path.with_name(f".{path.stem}.partial.npy")
    shape = (len(images), 3, images.size, images.size)
    array = open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
    bar = tqdm(total=len(images), desc="pseudo pairs", unit="img", file=sys.stderr, disable=None)
    with bar, torch.inference_mode():
        for start in range(0, len(images), BATCH):
            indices = range(start, min(start + BATCH, len(images)))
            x = to_float(torch.stack([images[i] for i in indices])).to(device)
            with autocast(precision, device):
                fake = teacher(x)
            array[start : start + len(indices)] = to_uint8(fake.cpu()).expand(-1, 3, -1, -1).numpy()
            bar.update(len(indices))
    array.flush()
    temporary.replace(path)
    write_atomic(note, json.dumps(key).encode())
    return PseudoPairs(path)


def _key(teacher: nn.Module, images: ImageSet) -> dict[str, str]:
    weights = hashlib.sha256()
    for name, tensor in teacher.state_dict().items():
        weights.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    files = hashlib.sha256("\n".join(str(path) for path in images.files).encode())
    return {"teacher": weights.hexdigest(), "images": files.hexdigest(), "size": str(images.size)}
