"""Foreign checkpoints: the architecture is read from the tensors' names and shapes.

Known are those of pytorch-CycleGAN-and-pix2pix and of gan-compression.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from gancompress.checkpoint.files import check_finite, load_pickle
from gancompress.config import DiscriminatorOptions, GeneratorOptions
from gancompress.errors import CheckpointError
from gancompress.models import GENERATORS
from gancompress.models.family import infer_norm, kernel

Tensors = dict[str, Tensor]
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
            f"{path}: '{odd[0]}' is no tensor; a generator's state dict is needed"
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
        CheckpointError: Of none of the known families.
    """
    for infer in dict.fromkeys(family.infer for family in GENERATORS.values()):
        try:
            options = infer(tensors)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None
        if options is not None:
            return options
    some = ", ".join(list(tensors)[:3])
    raise CheckpointError(
        f"{path} is not a generator of a known family: {', '.join(GENERATORS)} "
        f"(tensors: {some}, ...)\n"
        "  For another network name a factory with teacher.module=package.module:factory."
    )


def infer_discriminator(tensors: Tensors, path: Path) -> tuple[DiscriminatorOptions, int]:
    """The discriminator section of these tensors, and the channels of the judged image.

    Raises:
        CheckpointError: Neither an n-layer nor a pixel PatchGAN.
    """
    if "net.0.weight" in tensors:
        first = kernel(tensors, "net.0.weight")
        norm = infer_norm(tensors, "net.3", "net.2")
        options = DiscriminatorOptions(name="pixel", ndf=first.shape[0], norm=norm)
        return options, int(first.shape[1])
    convs = [
        n for n, t in tensors.items() if re.fullmatch(r"model\.\d+\.weight", n) and t.ndim == 4
    ]
    if "model.0.weight" not in tensors or len(convs) < 3:
        raise CheckpointError(f"{path} is no PatchGAN discriminator (n-layer or pixel)")
    first = kernel(tensors, "model.0.weight")
    options = DiscriminatorOptions(
        name="n_layers",
        ndf=first.shape[0],
        n_layers=len(convs) - 2,
        norm=infer_norm(tensors, "model.3", "model.2"),
    )
    return options, int(first.shape[1])
