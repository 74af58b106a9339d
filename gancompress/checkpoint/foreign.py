"""Foreign checkpoints: the architecture is read from the tensors' names and shapes.

Known are those of pytorch-CycleGAN-and-pix2pix and of gan-compression.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from gancompress.checkpoint.files import check_finite, load_pickle
from gancompress.config import DiscriminatorOptions, GeneratorOptions
from gancompress.errors import CheckpointError
from gancompress.models import DISCRIMINATORS, GENERATORS

Tensors = dict[str, Tensor]
T = TypeVar("T")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def load_foreign(path: Path) -> Tensors:
    """Tensors of a `.pth` file: a bare state dict, with or without the `module.` prefix.

    Raises:
        CheckpointError: Not a readable file of named tensors.
    """
    content = load_pickle(path)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path} holds no state dict of named tensors")
    odd = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if odd:
        raise CheckpointError(
            f"{path}: '{odd[0]}' is not a tensor; a generator's state dict is needed"
        )
    tensors = {str(name).removeprefix("module."): value for name, value in content.items()}
    return check_finite(_with_counts(tensors), path)


def without_unused_statistics(tensors: Tensors) -> Tensors:
    """Leave out the statistics that old InstanceNorm layers stored and never used."""

    def unused(name: str) -> bool:
        layer, _, leaf = name.rpartition(".")
        return leaf in _STATISTICS and f"{layer}.weight" not in tensors

    return {name: tensor for name, tensor in tensors.items() if not unused(name)}


def _with_counts(tensors: Tensors) -> Tensors:
    """Batch norms of PyTorch before 0.4.1 did not count their batches."""
    layers = [n.removesuffix("running_mean") for n in tensors if n.endswith(".running_mean")]
    batch_norms = [layer for layer in layers if f"{layer}weight" in tensors]
    return {f"{layer}num_batches_tracked": torch.tensor(0) for layer in batch_norms} | tensors


def infer_generator(tensors: Tensors, path: Path) -> GeneratorOptions:
    """The generator section that builds these tensors' network, apart from its widths.

    Raises:
        CheckpointError: Of none of the known families, or of one that cannot build it.
    """
    found = _first(tensors, path, [family.infer for family in GENERATORS.values()])
    if found is None:
        some = ", ".join(list(tensors)[:3])
        raise CheckpointError(
            f"{path} is not a generator of a known family: {', '.join(GENERATORS)} "
            f"(tensors: {some}, ...)\n"
            "  For another network name a factory with teacher.module=package.module:factory."
        )
    return found


def infer_discriminator(tensors: Tensors, path: Path) -> tuple[DiscriminatorOptions, int]:
    """The discriminator section of these tensors, and the channels of the judged image.

    Raises:
        CheckpointError: Of none of the known families, or of one that cannot build it.
    """
    found = _first(tensors, path, [family.infer for family in DISCRIMINATORS.values()])
    if found is None:
        known = ", ".join(DISCRIMINATORS)
        raise CheckpointError(f"{path} is not a discriminator of a known family: {known}")
    return found


def _first(
    tensors: Tensors, path: Path, families: Iterable[Callable[[Tensors], T | None]]
) -> T | None:
    """What the first family that recognises the tensors makes of them."""
    for infer in dict.fromkeys(families):
        try:
            found = infer(tensors)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None
        if found is not None:
            return found
    return None
