"""Distances between images; both sides are uint8 as a file would hold them."""

from __future__ import annotations

import math

from torch import Tensor


def mean_absolute_error(images: Tensor, others: Tensor) -> float:
    """Mean |difference| on the scale where images are in [-1, 1]; (N, C, H, W) uint8 each."""
    return float((images.float() - others.float()).abs().mean() / 127.5)


def psnr(images: Tensor, others: Tensor) -> float:
    """Mean over images of the peak signal-to-noise ratio in dB, at most 100.

    Args:
        images: (N, C, H, W) uint8.
        others: The same shape.
    """
    errors = (images.float() - others.float()).square().flatten(1).mean(1).clamp_min(6.5e-6)
    return float((10 * (255**2 / errors).log() / math.log(10)).clamp(max=100).mean())
