"""Distance of activations of the teacher's discriminator."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from gancompress.losses.terms.interface import Goal, Need, Output, Term


class DiscriminatorFeatures(Term[list[Tensor]]):
    """sum_l mean |D_l(S) - D_l(T)| with D_l the inner layers of the discriminator.

    It is the discriminator that the teacher was trained with, and it stays as it is: the one that
    is trained against the student is a copy.

    Sources: Li et al., Revisiting Discriminator in GAN Compression, NeurIPS 2021 (there the
    root of the squared distance); the absolute one is Hu et al., Discriminator-Cooperated Feature
    Map Distillation, CVPR 2023.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"discriminator"})

    def prepare(self, goal: Goal) -> list[Tensor]:
        """The discriminator's activations of the target."""
        return goal.judged

    def __call__(self, output: Output, context: list[Tensor]) -> Tensor:
        """Sum over the layers; 0 for equal images."""
        pairs = zip(output.judged, context, strict=True)
        return torch.stack([F.l1_loss(ours, theirs) for ours, theirs in pairs]).sum()
