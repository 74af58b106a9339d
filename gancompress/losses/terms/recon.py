"""Distance of pixels."""

from __future__ import annotations

from torch import Tensor

from gancompress.losses import recon_loss
from gancompress.losses.terms.interface import Goal, Output, Setting, Term


class Reconstruction(Term[Tensor]):
    """Distance of pixels to the target and, for all but the largest subnet, to that one's image.

    (1 - share) d(S, T) + share d(S, L) with d the mean that `loss.recon` names and share
    `sampling.inplace`.

    Sources: Li et al., GAN Compression, CVPR 2020, section 3.1; the largest as a teacher is Yu &
    Huang, Universally Slimmable Networks, ICCV 2019.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.distance = recon_loss(setting.loss.recon)

    def prepare(self, goal: Goal) -> Tensor:
        """The target."""
        return goal.image

    def __call__(self, output: Output, context: Tensor) -> Tensor:
        """Mean over all values."""
        value, share = self.distance(output.image, context), self.setting.inplace
        if output.largest is None or not share:
            return value
        return (1 - share) * value + share * self.distance(output.image, output.largest)
