"""LPIPS as a loss: the distance of `gancompress.metrics.Lpips`, with gradients."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from gancompress.data import RGB, ImageKind
from gancompress.errors import ConfigError
from gancompress.metrics.perceptual import lpips_module

TINY = 1e-20  # below the square of any activation's length that counts; keeps gradients finite

Features = list[Tensor]


class PerceptualLoss:
    """Learned perceptual distance to images whose features are computed once.

    Equal to the `lpips` package's value but for the place of a constant that keeps the gradient
    finite where all activations are zero, as in black images.

    Source: Zhang et al., The unreasonable effectiveness of deep features as a perceptual metric,
    CVPR 2018.

    Args:
        net: Entry of `gancompress.metrics.perceptual.BACKBONES`.
        path: Weights of the backbone; found or downloaded by default.
        device: Where to compute.

    Raises:
        ConfigError: Unknown backbone.
        CheckpointError: The weights are missing, or not those of the backbone.
    """

    def __init__(self, net: str, path: Path | None, device: torch.device) -> None:
        # channels last is twice as fast on processors without AVX-512
        layout = torch.channels_last
        module = lpips_module(net, path).to(device, memory_format=layout)  # type: ignore[call-overload]
        self.scaling = module.get_submodule("scaling_layer")
        self.backbone = module.get_submodule("net")
        heads = [head.model[-1] for head in module.get_submodule("lins").children()]
        self.heads: list[nn.Conv2d] = [head for head in heads if isinstance(head, nn.Conv2d)]

    def activations(self, images: Tensor) -> Features:
        """Activations of every compared layer, (N, C, H, W) float32 each.

        Args:
            images: (N, 3, H, W) in [-1, 1].
        """
        return [layer.float() for layer in self.backbone(self.scaling(images))]

    @torch.no_grad()
    def wanted(self, images: Tensor) -> Features:
        """The features of images that are to be matched, without gradients."""
        return [normalised(layer) for layer in self.activations(images)]

    def __call__(self, images: Tensor, wanted: Features) -> Tensor:
        """Mean distance of images (N, 3, H, W) in [-1, 1] to those that `wanted` was made of."""
        return self.compare(self.activations(images), wanted)

    def compare(self, activations: Features, wanted: Features) -> Tensor:
        """The same, of images whose activations are at hand."""
        total = torch.zeros((), device=wanted[0].device)
        for ours, theirs, head in zip(activations, wanted, self.heads, strict=True):
            weights = head.weight.float().flatten()
            squares = (normalised(ours) - theirs) ** 2
            total = total + torch.einsum("nchw,c->nhw", squares, weights).mean()
        return total


def require_rgb_target(name: str, kind: ImageKind) -> None:
    """Refuse a loss by what has seen photos alone where it would judge other images.

    Raises:
        ConfigError: The images are not RGB.
    """
    if kind != RGB:
        raise ConfigError(f"{name} compares RGB images, and data.target is {kind}: set it to 0")


def normalised(features: Tensor) -> Tensor:
    """Activations (N, C, H, W) divided by their length at every place."""
    return features / (features.square().sum(1, keepdim=True) + TINY).sqrt()
