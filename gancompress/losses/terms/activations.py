"""Matched activations of student and teacher, through adapters."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from gancompress.losses import feature_distillation
from gancompress.losses.terms.interface import Goal, Need, Output, Setting, Term, View
from gancompress.models import init_weights


class MatchedActivations(Term[list[Tensor]]):
    """Mean squared distance of activations, sum_k ||f_k(S_k) - T_k||^2 / size of T_k.

    Every f_k is a 1x1 convolution from the student's channels to the teacher's, as wide as the
    subnet. It starts as the identity where the student starts as the teacher, else at random.

    Source: Li et al., GAN Compression, CVPR 2020, eq. 3.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"activations"})

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.convs = [nn.Conv2d(tap.width, tap.channels, 1) for tap in setting.taps]
        modules = init_weights(nn.ModuleList(self.convs))
        if setting.inherited:
            for conv in self.convs:
                nn.init.dirac_(conv.weight)
        self.trained = {"convs": modules}

    def adapt(self, index: int, features: Tensor, view: View) -> Tensor:
        """The student's activations at a tap, (N, C_s, H, W) -> (N, C_t, H, W)."""
        conv = self.convs[index]
        weight = view.narrow(conv.weight, self.setting.taps[index].student)
        return F.conv2d(features, weight, conv.bias)

    def prepare(self, goal: Goal) -> list[Tensor]:
        """The teacher's activations."""
        return goal.activations

    def __call__(self, output: Output, context: list[Tensor]) -> Tensor:
        """Sum over the taps.

        Raises:
            ConfigError: Activations that are compared differ in height or width.
        """
        distances = []
        with self.setting.observers.autocast():
            for i, ours, theirs in output.compared(context):
                self.setting.taps[i].check(ours.shape, theirs.shape)
                adapted = self.adapt(i, ours, output.view)
                distances.append(feature_distillation(adapted, theirs, lambda x: x))
        return output.total(distances)
