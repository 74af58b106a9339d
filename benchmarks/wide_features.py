"""A feature network of Inception's size for timings: random weights, so features mean nothing."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor, nn


class WideFeatures(nn.Module):
    """torchvision's InceptionV3 up to its 2048 pooled features.

    Attributes:
        size: Side of its images.
    """

    size = 299

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.network = torchvision.models.inception_v3(
                weights=None, init_weights=False, aux_logits=False, transform_input=False
            )
            for layer in self.network.modules():
                if isinstance(layer, nn.Conv2d):  # so that features are neither tiny nor huge
                    nn.init.kaiming_normal_(layer.weight)
        self.network.fc = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 299, 299) in [0, 255] -> (N, 2048)."""
        out: Tensor = self.network((x - 128) / 128)
        return out
