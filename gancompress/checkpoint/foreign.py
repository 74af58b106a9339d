"""Foreign checkpoints: the architecture is read from the tensors' names and shapes.

Known are those of pytorch-CycleGAN-and-pix2pix and of gan-compression.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from gancompress.checkpoint.files import check_finite, load_pickle
from gancompress.config import DiscriminatorOptions, GeneratorOptions
from gancompress.errors import CheckpointError

Tensors = dict[str, Tensor]
Norm = Literal["instance", "batch", "none"]
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
        CheckpointError: Neither a ResNet nor a U-Net generator.
    """
    if any(".conv_block." in name for name in tensors) and "model.1.weight" in tensors:
        return _infer_resnet(tensors, path)
    if "model.model.0.weight" in tensors:
        return _infer_unet(tensors, path)
    some = ", ".join(list(tensors)[:3])
    raise CheckpointError(
        f"{path} is neither a ResNet nor a U-Net generator of pytorch-CycleGAN-and-pix2pix or "
        f"gan-compression (tensors: {some}, ...)\n"
        "  For another network name a factory with teacher.module=package.module:factory."
    )


def _infer_resnet(tensors: Tensors, path: Path) -> GeneratorOptions:
    blocks = sorted({int(m[1]) for n in tensors if (m := re.match(r"model\.(\d+)\.conv_block", n))})
    pattern = re.compile(r"model\.10\.conv_block\.(\d+)\.(?:conv\.0\.)?weight$")
    convs = sorted(int(m[1]) for n, t in tensors.items() if (m := pattern.match(n)) and t.ndim == 4)
    separable = any(".conv.2.weight" in name for name in tensors)
    kind = f"{'mobile_' if separable else ''}resnet_{len(blocks)}blocks"
    styles = {(1, 5): ("reflect", None), (1, 6): ("reflect", 0.0), (0, 3): ("zero", None)}
    styles[(0, 4)] = ("zero", 0.0)
    if len(convs) != 2 or (convs[0], convs[1]) not in styles:
        raise CheckpointError(
            f"{path}: a ResNet generator with another layout than the reference's"
        )
    padding, dropout = styles[(convs[0], convs[1])]
    if len(blocks) not in (6, 9):
        raise CheckpointError(
            f"{path}: a ResNet generator of {len(blocks)} blocks; 6 or 9 are known"
        )
    stem = _kernel(tensors, "model.1.weight", path)
    nearest = f"model.{blocks[-1] + 12}.weight" in tensors
    head = _kernel(tensors, f"model.{blocks[-1] + (12 if nearest else 8)}.weight", path)
    return GeneratorOptions(
        name=kind,
        input_nc=stem.shape[1],
        output_nc=head.shape[0],
        ngf=stem.shape[0],
        norm=_infer_norm(tensors, "model.2", "model.1"),
        padding=padding,  # type: ignore[arg-type]
        upsampling="nearest" if nearest else "transposed",
        dropout=dropout,
    )


def _infer_unet(tensors: Tensors, path: Path) -> GeneratorOptions:
    depths = [name.count(".model.") for name in tensors]
    num_downs = max(depths)
    if num_downs not in (6, 7, 8):
        raise CheckpointError(f"{path}: a U-Net of {num_downs} levels; 6, 7 or 8 are known")
    first = _kernel(tensors, "model.model.0.weight", path)
    nearest = "model.model.5.weight" in tensors
    last = _kernel(tensors, f"model.model.{5 if nearest else 3}.weight", path)
    return GeneratorOptions(
        name=f"unet_{2**num_downs}",
        input_nc=first.shape[1],
        output_nc=last.shape[0 if nearest else 1],
        ngf=first.shape[0],
        norm=_infer_norm(tensors, "model.model.1.model.2", "model.model.1.model.1"),
        upsampling="nearest" if nearest else "transposed",
    )


def _kernel(tensors: Tensors, name: str, path: Path) -> Tensor:
    """The weight of a convolution.

    Raises:
        CheckpointError: It is missing or has another shape.
    """
    tensor = tensors.get(name)
    if tensor is None or tensor.ndim != 4 or not tensor.numel():
        raise CheckpointError(f"{path}: {name} is missing, or no weight of a convolution")
    return tensor


def _infer_norm(tensors: Tensors, norm_layer: str, conv_layer: str) -> Norm:
    if f"{norm_layer}.running_mean" in tensors:
        return "batch"
    return "instance" if f"{conv_layer}.bias" in tensors else "none"


def infer_discriminator(tensors: Tensors, path: Path) -> tuple[DiscriminatorOptions, int]:
    """The discriminator section of these tensors, and the channels of the judged image.

    Raises:
        CheckpointError: Neither an n-layer nor a pixel PatchGAN.
    """
    if "net.0.weight" in tensors:
        first = _kernel(tensors, "net.0.weight", path)
        norm = _infer_norm(tensors, "net.3", "net.2")
        options = DiscriminatorOptions(name="pixel", ndf=first.shape[0], norm=norm)
        return options, int(first.shape[1])
    convs = [
        n for n, t in tensors.items() if re.fullmatch(r"model\.\d+\.weight", n) and t.ndim == 4
    ]
    if "model.0.weight" not in tensors or len(convs) < 3:
        raise CheckpointError(f"{path} is no PatchGAN discriminator (n-layer or pixel)")
    first = _kernel(tensors, "model.0.weight", path)
    options = DiscriminatorOptions(
        name="n_layers",
        ndf=first.shape[0],
        n_layers=len(convs) - 2,
        norm=_infer_norm(tensors, "model.3", "model.2"),
    )
    return options, int(first.shape[1])
