"""Paired scores of every single image, computed from pixels in double precision.

SSIM and MS-SSIM follow the published definitions to the border: only windows that lie wholly inside
the image count, and nothing is padded.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from gancompress.errors import DataError

WINDOW = 11
SIGMA = 1.5
C1 = (0.01 * 255) ** 2
C2 = (0.03 * 255) ** 2
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MS_SSIM_MIN_SIDE = WINDOW << (len(SCALE_WEIGHTS) - 1)
MAX_PSNR = 100.0
_Score = Callable[[Tensor, Tensor], Tensor]
BATCH = 8  # images at a time; their double-precision maps are what needs memory


def check_pairs(images: Tensor, others: Tensor, min_side: int = 1) -> None:
    """Refuse what cannot be compared image by image.

    Args:
        images: Should be (N, C, H, W) uint8.
        others: Should have the same shape and type.
        min_side: Smallest height and width.

    Raises:
        DataError: No images, shapes that differ, other types, or a smaller side.
    """
    if images.shape != others.shape:
        raise DataError(
            "paired scores compare images of one shape, not "
            f"{tuple(images.shape)} with {tuple(others.shape)}: resize one side first"
        )
    if images.dim() != 4 or {images.dtype, others.dtype} != {torch.uint8} or not images.numel():
        raise DataError(
            "paired scores need images (N, C, H, W) of 8-bit integers, not "
            f"{tuple(images.shape)} {images.dtype} and {others.dtype}"
        )
    height, width = images.shape[2:]
    if min(height, width) < min_side:
        raise DataError(f"this score needs a side of at least {min_side}, not {width}x{height}")


def absolute_errors(images: Tensor, others: Tensor) -> Tensor:
    """Mean |difference| of every pair, on the scale where images are in [-1, 1].

    Args:
        images: (N, C, H, W) uint8.
        others: The same shape.

    Returns:
        (N,) float64 in [0, 2]; 0 is best.

    Raises:
        DataError: See `check_pairs`.
    """
    check_pairs(images, others)
    return (images.short() - others.short()).abs().flatten(1).double().mean(1) / 127.5


def psnrs(images: Tensor, others: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of every pair, over all channels together.

    Args:
        images: (N, C, H, W) uint8.
        others: The same shape.

    Returns:
        (N,) float64 in dB, at most 100, which equal images have.

    Raises:
        DataError: See `check_pairs`.
    """
    check_pairs(images, others)
    squares = (images.short() - others.short()).float().square()  # at most 255**2: exact
    errors = squares.flatten(1).double().mean(1)
    return (10 * (255**2 / errors).log10()).clamp(max=MAX_PSNR)


def ssims(images: Tensor, others: Tensor) -> Tensor:
    """Structural similarity of every pair, the mean over channels.

    Source: Wang, Bovik, Sheikh, Simoncelli, Image quality assessment, IEEE TIP 2004, eq. 13:
    Gaussian window of 11x11 with sigma 1.5, K1 0.01, K2 0.03, data range 255.

    Args:
        images: (N, C, H, W) uint8, sides of at least 11.
        others: The same shape.

    Returns:
        (N,) float64 in [-1, 1]; 1 is best.

    Raises:
        DataError: See `check_pairs`.
    """
    check_pairs(images, others, WINDOW)
    return _in_batches(images, others, lambda x, y: similarity(x, y)[0])


def ms_ssim_applies(height: int, width: int) -> bool:
    """Whether images are large enough for the five scales of `ms_ssims`."""
    return min(height, width) >= MS_SSIM_MIN_SIDE


def ms_ssims(images: Tensor, others: Tensor) -> Tensor:
    """Multi-scale structural similarity of every pair, the mean over channels.

    Source: Wang, Simoncelli, Bovik, Multi-scale structural similarity, Asilomar 2003, eq. 7 with
    the published weights of five scales; each is half the one before by 2x2 averages. A negative
    term counts as 0, since its power is not defined.

    Args:
        images: (N, C, H, W) uint8, sides of at least 176.
        others: The same shape.

    Returns:
        (N,) float64 in [0, 1]; 1 is best.

    Raises:
        DataError: Smaller images, or see `check_pairs`.
    """
    check_pairs(images, others)
    height, width = images.shape[2:]
    if not ms_ssim_applies(height, width):
        raise DataError(
            f"MS-SSIM needs images of at least {MS_SSIM_MIN_SIDE}x{MS_SSIM_MIN_SIDE} for its five "
            f"scales, not {width}x{height}: use SSIM for these"
        )
    return _in_batches(images, others, _multi_scale)


def _in_batches(images: Tensor, others: Tensor, score: _Score) -> Tensor:
    """(N,) means over the channels of what `score` makes of (n, C, H, W) float64."""
    parts = zip(images.split(BATCH), others.split(BATCH), strict=True)
    return torch.cat([score(x.double(), y.double()).mean(1) for x, y in parts])


def _multi_scale(x: Tensor, y: Tensor) -> Tensor:
    """(N, C) products over scales; brightness is compared on the coarsest alone."""
    product = torch.ones(x.shape[:2], dtype=x.dtype, device=x.device)
    for weight in SCALE_WEIGHTS[:-1]:
        product = product * similarity(x, y)[1].clamp_min(0) ** weight
        x, y = functional.avg_pool2d(x, 2), functional.avg_pool2d(y, 2)
    return product * similarity(x, y)[0].clamp_min(0) ** SCALE_WEIGHTS[-1]


def similarity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM and its factor of contrast and structure, both (N, C) means over the image.

    Args:
        x: (N, C, H, W) of any floating type on the scale 0 to 255, sides of at least `WINDOW`.
        y: The same shape.
    """
    mean_x, mean_y = _smooth(x), _smooth(y)
    variances = _smooth(x * x + y * y) - mean_x**2 - mean_y**2
    covariance = _smooth(x * y) - mean_x * mean_y
    structure = (2 * covariance + C2) / (variances + C2)
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return (luminance * structure).mean((2, 3)), structure.mean((2, 3))


def _smooth(x: Tensor) -> Tensor:
    """Gaussian mean at every place where the window fits: (N, C, H - 10, W - 10)."""
    # matrix products: a third of the time of convolutions in double precision on a CPU
    return _window_matrix(x, 2) @ x @ _window_matrix(x, 3).T


def _window_matrix(x: Tensor, dim: int) -> Tensor:
    """(L - 10, L) with the window of `x`'s dimension of length L, one place further in each row."""
    length = x.shape[dim]
    places = length - WINDOW + 1
    window = [math.exp(-0.5 * ((i - WINDOW // 2) / SIGMA) ** 2) for i in range(WINDOW)]
    row = [value / sum(window) for value in window] + [0.0] * places
    flat = torch.tensor(row, dtype=x.dtype, device=x.device).repeat(places)
    return flat[: places * length].view(places, length)
