"""Run by `torchrun`: what the ranks of a test compute, written into a folder for the test to read.

python -m torch.distributed.run --standalone --nproc-per-node 2 tests/ranks.py FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gancompress.config import FinetuneOptions, SupernetOptions, TeacherOptions, load_options
from gancompress.distributed import (
    agreed,
    any_rank,
    average_gradients,
    averaged,
    own_share,
    process_group,
    rank,
    share_of,
    whole_batch,
    whole_batches,
    world_size,
)
from gancompress.errors import ConfigError
from gancompress.losses.pool import ImagePool
from gancompress.losses.terms.alignment import _kernel
from gancompress.training.stages import finetune, train_supernet, train_teacher


def batch() -> Tensor:
    """A batch of four images, the same on every rank."""
    return torch.rand(4, 3, 5, 6, generator=torch.Generator().manual_seed(1)) * 2 - 1


def norms() -> dict[str, Tensor]:
    """A step through batch norms of all kinds and dropout: output, gradients, statistics."""
    torch.manual_seed(2)
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Dropout(0.4), nn.ReLU(), nn.Dropout2d(0.3),
        nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4, affine=False, momentum=None),
        nn.BatchNorm2d(4, track_running_stats=False),
    )  # fmt: skip
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    outputs = []
    for seed in range(2):
        torch.manual_seed(seed)
        optimiser.zero_grad()
        with whole_batches():
            out = module(own_share(batch()) + seed)
            scale = torch.linspace(-1, 1, out[0].numel()).view(out[0].shape)
            (out * scale).square().mean().backward()
        average_gradients([optimiser])
        optimiser.step()
        outputs.append(whole_batch(out.detach()))
    tensors = {name: tensor.detach() for name, tensor in module.state_dict().items()}
    return {**tensors, "outputs": torch.stack(outputs)}


def pool() -> dict[str, Tensor]:
    """What a pool of three images gives back in five steps, and what it holds then."""
    images, given = ImagePool(3), []
    for seed in range(5):
        fakes = own_share(batch()) + seed
        given.append(whole_batch(images.query(fakes, torch.Generator().manual_seed(seed))))
    return {"given": torch.stack(given), "kept": torch.stack(images.images)}


def kernel() -> dict[str, Tensor]:
    """Products of all images of the batch, and the gradient of a function of them."""
    features = nn.Parameter(batch())
    found = _kernel(own_share(features))
    value = F.cosine_similarity(found.flatten(), torch.linspace(0, 1, 16), dim=0)
    value.backward()
    average_gradients([torch.optim.SGD([features])])
    assert features.grad is not None
    return {"found": found.detach(), "gradient": features.grad}


def messages() -> dict[str, Any]:
    """What ranks tell each other."""
    return {
        "decided": agreed(lambda: {"rank": rank()}),
        "any": [any_rank(False), any_rank(rank() == world_size() - 1)],
        "averaged": averaged({"a": 1.0, "b": 4.0 * (1 + rank())}),
        "share": share_of(4),
    }


def refusals() -> list[str | int]:
    """How ranks end where the first one, and where all of them, refuse something."""

    def refuse() -> None:
        raise ConfigError("no")

    endings: list[str | int] = []
    for action in (lambda: agreed(refuse), lambda: share_of(3)):
        try:
            action()
        except (SystemExit, ConfigError) as ending:
            code = ending.code if isinstance(ending, SystemExit) else type(ending).__name__
            endings.append(code or 0)
    return endings


CASES: dict[str, Callable[[], dict[str, Tensor]]] = {"norms": norms, "pool": pool, "kernel": kernel}
TRAINED = {
    "pix2pix": (TeacherOptions, train_teacher),
    "cyclegan": (TeacherOptions, train_teacher),
    "supernet": (SupernetOptions, train_supernet),
    "finetune": (FinetuneOptions, finetune),
}


def train(kind: str, options: Path) -> None:
    """Train as an options file says."""
    section, stage = TRAINED[kind]
    stage(load_options(section, options), torch.device("cpu"))  # type: ignore[operator,type-var]


def main(folder: Path) -> None:
    """Train what has options in the folder, or compute the cases where there are none."""
    with process_group(torch.device("cpu")):
        trainings = [kind for kind in TRAINED if (folder / f"{kind}.yaml").exists()]
        for kind in trainings:
            train(kind, folder / f"{kind}.yaml")
        if not trainings:
            found: dict[str, Any] = {name: case() for name, case in CASES.items()}
            found |= {"messages": messages(), "refusals": refusals()}
            torch.save(found, folder / f"{rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
