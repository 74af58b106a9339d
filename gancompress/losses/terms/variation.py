"""Total variation of the output alone."""

from __future__ import annotations

from torch import Tensor

from gancompress.losses.terms.interface import Goal, Output, Term


class TotalVariation(Term[None]):
    """Sum of |difference| of all neighbours in rows and columns, as a mean over images.

    Sources: Rudin et al., Nonlinear total variation, Physica D 1992, here without the root; as a
    term of the distillation Ren et al., Online Multi-Granularity Distillation, ICCV 2021, with
    weight 0.00001.
    """

    def prepare(self, goal: Goal) -> None:
        """Nothing: the goal does not matter."""

    def __call__(self, output: Output, context: None) -> Tensor:
        """A sum over an image, so it grows with its size; 0 for images of one colour."""
        image = output.image
        return (image.diff(dim=2).abs().sum() + image.diff(dim=3).abs().sum()) / len(image)
