"""Distance of a backbone's activations."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from gancompress.losses.terms.interface import Goal, Need, Output, Term

LAYER = 1  # of those that LPIPS compares: relu2_2 of VGG16, as published


class FeatureDistance(Term[Tensor]):
    """mean |F(S) - F(T)| with F the second layer that LPIPS compares of `loss.lpips.net`.

    Source: Ren et al., Online Multi-Granularity Distillation, ICCV 2021, there with VGG16 and
    with weight 10.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"backbone"})

    def prepare(self, goal: Goal) -> Tensor:
        """The target's activations."""
        return goal.features[LAYER]

    def __call__(self, output: Output, context: Tensor) -> Tensor:
        """Mean over all values; 0 for equal images."""
        return F.l1_loss(output.features[LAYER], context)
