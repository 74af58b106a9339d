"""LPIPS as a loss: the distance of `gancompress.metrics.Lpips`, with gradients."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from gancompress.config import DistillLossOptions, TeacherLossOptions
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
        module = lpips_module(net, path).to(device)
        self.scaling = module.get_submodule("scaling_layer")
        self.backbone = module.get_submodule("net")
        heads = [head.model[-1] for head in module.get_submodule("lins").children()]  # type: ignore[index]
        self.heads: list[nn.Conv2d] = [head for head in heads if isinstance(head, nn.Conv2d)]

    def features(self, images: Tensor) -> Features:
        """Activations of every compared layer, of length 1 at every place, float32.

        Args:
            images: (N, 3, H, W) in [-1, 1].
        """
        return [_normalised(layer.float()) for layer in self.backbone(self.scaling(images))]

    @torch.no_grad()
    def wanted(self, images: Tensor) -> Features:
        """The features of images that are to be matched, without gradients."""
        return self.features(images)

    def __call__(self, images: Tensor, wanted: Features) -> Tensor:
        """Mean distance of images (N, 3, H, W) in [-1, 1] to those that `wanted` was made of."""
        total = torch.zeros((), device=images.device)
        for ours, theirs, head in zip(self.features(images), wanted, self.heads, strict=True):
            weights = head.weight.float().flatten()
            total = total + torch.einsum("nchw,c->nhw", (ours - theirs) ** 2, weights).mean()
        return total


def perceptual_loss(
    loss: TeacherLossOptions | DistillLossOptions, device: torch.device
) -> PerceptualLoss | None:
    """The loss that the options ask for, or None where they give it no weight."""
    if not loss.lambda_lpips:
        return None
    return PerceptualLoss(loss.lpips.net, loss.lpips.weights, device)


def _normalised(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True) + TINY).sqrt()
