"""LPIPS, the learned perceptual distance."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from gancompress.losses.perceptual import Features, normalised
from gancompress.losses.terms.interface import Goal, Need, Output, Term


class Lpips(Term[Features]):
    """LPIPS of `loss.lpips.net`, see `gancompress.losses.perceptual.PerceptualLoss`."""

    needs: ClassVar[frozenset[Need]] = frozenset({"backbone"})

    def prepare(self, goal: Goal) -> Features:
        """The target's activations, of length 1 at every place."""
        with self.setting.observers.autocast():
            return [normalised(layer) for layer in goal.features]

    def __call__(self, output: Output, context: Features) -> Tensor:
        """Mean distance; 0 for equal images."""
        backbone = self.setting.observers.backbone
        assert backbone is not None
        with self.setting.observers.autocast():
            return backbone.compare(output.features, context)
