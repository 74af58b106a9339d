"""LPIPS of every pair of images, through the `lpips` package and its learned heads, version 0.1."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gancompress.checkpoint.foreign import load_foreign
from gancompress.errors import CheckpointError, DataError
from gancompress.extras import require
from gancompress.metrics.pixels import check_pairs
from gancompress.metrics.weights import find_weights
from gancompress.tables import lookup

if TYPE_CHECKING:
    from torch import nn

BATCH = 8  # pairs at a time


@dataclass(frozen=True)
class Backbone:
    """A network whose activations are compared.

    Attributes:
        weights: Entry of `gancompress.metrics.weights.WEIGHTS`.
        min_side: Smallest height and width that leave something of the deepest activation.
    """

    weights: str
    min_side: int


BACKBONES: dict[str, Backbone] = {
    "alex": Backbone("alexnet", 31),
    "squeeze": Backbone("squeezenet1_1", 17),
    "vgg": Backbone("vgg16", 16),
}


class Lpips:
    """Learned perceptual distance of images; 0 for equal ones, rarely above 1.

    Source: Zhang et al., The unreasonable effectiveness of deep features as a perceptual metric,
    CVPR 2018. The number means little without the backbone, so it is in the score's name.

    Attributes:
        name: What scores are named after, such as `lpips[alex]`.
        digest: Hash of the backbone's weights.
        module: From two sets of images (N, 3, H, W) in [-1, 1] to (N, 1, 1, 1).
        compiled: The module in another runtime, which takes its place.
    """

    def __init__(
        self, net: str = "alex", path: Path | None = None, device: torch.device | None = None
    ) -> None:
        """Build the network; draws nothing from torch's random state.

        Args:
            net: Entry of `BACKBONES`.
            path: torchvision's weights of the backbone, whole or `features` alone, instead of
                those that are found or downloaded.
            device: Where to compute.

        Raises:
            ConfigError: Unknown backbone.
            CheckpointError: The weights are missing, or not those of the backbone.
        """
        backbone = lookup(BACKBONES, net, "LPIPS backbone")
        found = find_weights(backbone.weights, path)
        self.name = f"lpips[{net}]"
        self.digest = hashlib.sha256(found.read_bytes()).hexdigest()
        self._min_side = backbone.min_side
        self._device = device or torch.device("cpu")
        self.module = _build(net, found).to(self._device)
        self.compiled: Callable[[Tensor, Tensor], Tensor] | None = None

    @torch.inference_mode()
    def __call__(self, images: Tensor, others: Tensor) -> Tensor:
        """Distance of every pair.

        Args:
            images: (N, 3, H, W) uint8.
            others: The same shape.

        Returns:
            (N,) float64 on the CPU; 0 is best.

        Raises:
            DataError: No RGB images, or see `check_pairs`.
        """
        check_pairs(images, others, self._min_side)
        if images.shape[1] != 3:
            raise DataError(f"{self.name} compares RGB images, not {images.shape[1]} channels")
        parts = zip(images.split(BATCH), others.split(BATCH), strict=True)
        run = self.compiled or self.module
        scores = [run(self._scaled(x), self._scaled(y)).flatten() for x, y in parts]
        return torch.cat(scores).double().cpu()

    def _scaled(self, images: Tensor) -> Tensor:
        return images.to(self._device).float() / 127.5 - 1


def lpips_module(net: str, path: Path | None = None) -> nn.Module:
    """The package's module with the backbone's weights from a file, frozen.

    Args:
        net: Entry of `BACKBONES`.
        path: The file; found or downloaded by default.

    Raises:
        ConfigError: Unknown backbone.
        CheckpointError: The weights are missing, or not those of the backbone.
    """
    return _build(net, find_weights(lookup(BACKBONES, net, "LPIPS backbone").weights, path))


def _build(net: str, path: Path) -> nn.Module:
    lpips = require("lpips", "metrics")  # seconds: it imports scipy and all of torchvision

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        # without random weights the package would download some, by a way that has a deprecated
        # name in torchvision
        warnings.filterwarnings("ignore", category=UserWarning, module=r"torchvision\.models")
        module: nn.Module = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    _load_backbone(module.get_submodule("net"), load_foreign(path), path)
    return module.eval().requires_grad_(False)


def _load_backbone(backbone: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Fill the backbone, whose `slice2.3.bias` is torchvision's `features.3.bias`."""
    names = {name.partition(".")[2]: name for name in backbone.state_dict()}
    given = {
        name.removeprefix("features."): tensor
        for name, tensor in tensors.items()
        if not name.startswith("classifier.")
    }
    strange = sorted(names.keys() ^ given.keys())
    if strange:
        problem = "is missing" if strange[0] in names else "has no place there"
        raise CheckpointError(
            f"{path} holds no weights of this LPIPS backbone: features.{strange[0]} {problem}"
        )
    try:
        backbone.load_state_dict({names[name]: tensor for name, tensor in given.items()})
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"{path} does not fit this LPIPS backbone: {reason}") from None
