"""Structural similarity."""

from __future__ import annotations

from torch import Tensor

from gancompress.errors import ConfigError
from gancompress.losses.terms.interface import Goal, Output, Term
from gancompress.metrics.pixels import WINDOW, similarity


class Ssim(Term[Tensor]):
    """1 - SSIM(S, T), of images on the scale 0 to 255, as the metric `ssim` has it.

    Sources: Wang et al., Image quality assessment, IEEE TIP 2004, eq. 13; as a term of the
    distillation Ren et al., Online Multi-Granularity Distillation, ICCV 2021, with weight 10.
    """

    def prepare(self, goal: Goal) -> Tensor:
        """The target in [0, 255].

        Raises:
            ConfigError: Images smaller than the window.
        """
        if min(goal.image.shape[2:]) < WINDOW:
            raise ConfigError(f"loss.terms.ssim needs data.crop_size of at least {WINDOW}")
        return _scaled(goal.image)

    def __call__(self, output: Output, context: Tensor) -> Tensor:
        """In [0, 2]; 0 for equal images."""
        return 1 - similarity(_scaled(output.image), context)[0].mean()


def _scaled(images: Tensor) -> Tensor:
    return (images + 1) * 127.5
