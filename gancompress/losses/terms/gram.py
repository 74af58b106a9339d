"""Style: Gram matrices of a backbone's activations."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from gancompress.losses.terms.interface import Goal, Need, Output, Term


class Gram(Term[list[Tensor]]):
    """sum_l mean |G_l(S) - G_l(T)| with G = F F^T / (C H W), F the activations (C, H W).

    The backbone is `loss.lpips.net`, at every layer that LPIPS compares; the published one is
    VGG16 at its first four blocks.

    Sources: Johnson et al., Perceptual Losses, ECCV 2016 (there squared); as a term of the
    distillation Ren et al., Online Multi-Granularity Distillation, ICCV 2021, with weight 10,000.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"backbone"})

    def prepare(self, goal: Goal) -> list[Tensor]:
        """The target's Gram matrices."""
        return [gram(layer) for layer in goal.features]

    def __call__(self, output: Output, context: list[Tensor]) -> Tensor:
        """Sum over the layers; 0 for equal images."""
        pairs = zip(output.features, context, strict=True)
        return torch.stack([F.l1_loss(gram(ours), theirs) for ours, theirs in pairs]).sum()


def gram(features: Tensor) -> Tensor:
    """Products of all pairs of channels, (N, C, H, W) -> (N, C, C), as means over C, H and W."""
    flat = features.flatten(2)
    return flat @ flat.mT / (flat.shape[1] * flat.shape[2])
