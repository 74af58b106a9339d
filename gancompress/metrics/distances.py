"""Distances between two sets of images by their features: Frechet (FID) and kernel (KID).

Both need nothing but inner products of features, so everything happens in matrices of
images x images: exact, and fast while there are fewer images than features. Intervals come from
the bootstrap over images of both sets; the inner products are computed once for all resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gancompress.errors import DataError

MIN_FOR_FID = 2_000
"""Below this many images on either side the kernel distance decides, the Frechet distance is
reported: its bias depends on the generator and exceeds the differences that matter."""

CONFIDENCE = 0.95
NORMAL_QUANTILE = 1.96  # of the same confidence
MIN_FOR_QUANTILES = 40  # fewer draws say little about the tails, but enough about the spread
MIN_FOR_SET_INTERVAL = 5  # resamples of a smaller set are mostly the same few images


@dataclass(frozen=True)
class Estimate:
    """A number and how sure it is.

    Attributes:
        value: The estimate on all images.
        low: Lower end of the 95 % interval; NaN where there are too few images for one.
        high: Upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class RealSet:
    """Features of real images, with everything that does not depend on what they are compared to.

    Attributes:
        features: (M, D) float64.
    """

    features: Tensor

    @cached_property
    def _mean(self) -> Tensor:
        return self.features.mean(0)

    @cached_property
    def _factor(self) -> Tensor:
        return _factor(self.features)

    @cached_property
    def _spread(self) -> float:
        return float(self._factor.square().sum())

    @cached_property
    def _within(self) -> float:
        return float(_mean_off_diagonal(_polynomial(self.features, self.features)))

    def frechet(self, images: Tensor) -> float:
        """See `frechet_distance`."""
        _check(images, self.features)
        x = _factor(images)
        between = (images.mean(0) - self._mean).square().sum()
        trace = nuclear_norm(x @ self._factor.T)
        return float(between + x.square().sum()) + self._spread - 2 * trace

    def kernel(self, images: Tensor) -> float:
        """See `kernel_distance`."""
        _check(images, self.features)
        within = _mean_off_diagonal(_polynomial(images, images))
        between = _polynomial(images, self.features).mean()
        return float(within - 2 * between) + self._within


def frechet_distance(images: Tensor, real: Tensor) -> float:
    """Frechet distance of two Gaussians that are fitted to two sets of features.

    |m1 - m2|^2 + Tr(C1) + Tr(C2) - 2 Tr((C1 C2)^(1/2)). The last trace is the sum of the singular
    values of X1 X2^T for centred features X with unit scaling, so where a set has fewer images
    than features no covariance is formed.

    Source: Heusel et al., GANs Trained by a Two Time-Scale Update Rule, NeurIPS 2017, eq. 6.

    Args:
        images: Features (N, D) float64, N at least 2.
        real: Features (M, D) float64, M at least 2.

    Raises:
        DataError: Fewer than two images, or features of another width.
    """
    return RealSet(real).frechet(images)


def kernel_distance(images: Tensor, real: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy under the kernel (x.y / D + 1)^3, all pairs.

    Source: Binkowski et al., Demystifying MMD GANs, ICLR 2018, section 4. The papers print it times
    1000. It can be below 0 where two sets are alike.

    Args:
        images: Features (N, D) float64, N at least 2.
        real: Features (M, D) float64, M at least 2.

    Raises:
        DataError: Fewer than two images, or features of another width.
    """
    return RealSet(real).kernel(images)


def frechet_estimate(images: Tensor, real: Tensor, resamples: int = 200, seed: int = 0) -> Estimate:
    """Frechet distance with a bootstrap interval.

    Resampled sets have fewer distinct images and lie farther apart, so only the spread around
    their own mean is used. The interval says how much other images would change the number, not
    how far it lies above that of infinitely many images. Below `MIN_FOR_SET_INTERVAL` images on
    a side there is no interval.

    Args:
        images: Features (N, D) float64.
        real: Features (M, D) float64.
        resamples: Bootstrap samples; fewer are drawn where one takes long (large sets).
        seed: Of the resampling.
    """
    value = frechet_distance(images, real)
    if not _enough(images, real):
        return _alone(value)
    rng = torch.Generator().manual_seed(seed)
    products = _Products.of(images, real)
    # one resample costs about min(N, M)^3; the work of all stays that of 200 with 300 images
    smaller = min(len(images), len(real))
    resamples = max(20, min(resamples, round(resamples * (300 / smaller) ** 3)))
    draws = [
        products.frechet(_draw(len(images), rng), _draw(len(real), rng)) for _ in range(resamples)
    ]
    return _around(value, torch.tensor(draws, dtype=torch.float64), recentre=True)


def kernel_estimate(images: Tensor, real: Tensor, resamples: int = 1000, seed: int = 0) -> Estimate:
    """Kernel distance with a bootstrap interval.

    An image that is drawn twice is not compared with itself, so resamples have no bias. Below
    `MIN_FOR_SET_INTERVAL` images on a side there is no interval.

    Args:
        images: Features (N, D) float64.
        real: Features (M, D) float64.
        resamples: Bootstrap samples.
        seed: Of the resampling.
    """
    value = kernel_distance(images, real)
    if not _enough(images, real):
        return _alone(value)
    rng = torch.Generator().manual_seed(seed)
    w, v = (_counts(len(side), resamples, rng) for side in (images, real))
    kxx, kyy, kxy = (
        _polynomial(images, images),
        _polynomial(real, real),
        _polynomial(images, real),
    )
    draws = (
        _within(w, kxx) + _within(v, kyy) - 2 * ((w @ kxy) * v).sum(1) / (len(images) * len(real))
    )
    return _around(value, draws, recentre=False)


def mean_estimate(values: Tensor, resamples: int = 1000, seed: int = 0) -> Estimate:
    """Mean of one number for each image, with a bootstrap interval; none for a single image.

    Args:
        values: (N,) float64.
        resamples: Bootstrap samples.
        seed: Of the resampling.
    """
    values = values.double()
    if len(values) < 2:
        return _alone(float(values.mean()))
    rng = torch.Generator().manual_seed(seed)
    draws = _counts(len(values), resamples, rng) @ values / len(values)
    return _around(float(values.mean()), draws, recentre=False)


def bootstrap_estimate(
    statistic: Callable[[Tensor], float], count: int, resamples: int = 200, seed: int = 0
) -> Estimate:
    """Any statistic of a set of images, with a bootstrap interval; none for a single image.

    Args:
        statistic: From how often each image counts, (N,) float64, to a number.
        count: N.
        resamples: Bootstrap samples.
        seed: Of the resampling.
    """
    value = statistic(torch.ones(count, dtype=torch.float64))
    if count < 2:
        return _alone(value)
    rng = torch.Generator().manual_seed(seed)
    draws = [statistic(weights) for weights in _counts(count, resamples, rng)]
    return _around(value, torch.tensor(draws, dtype=torch.float64), recentre=False)


def nuclear_norm(product: Tensor) -> float:
    """Sum of the singular values of a matrix, by the eigenvalues of its smaller Gram matrix."""
    gram = product @ product.T if len(product) <= product.shape[1] else product.T @ product
    return float(torch.linalg.eigvalsh(gram).clamp_min(0).sqrt().sum())


def _check(images: Tensor, real: Tensor) -> None:
    if images.shape[1] != real.shape[1]:
        raise DataError(
            f"features of {images.shape[1]} and of {real.shape[1]} numbers do not compare"
        )
    if min(len(images), len(real)) < 2:
        raise DataError(
            f"a distance between sets needs two images of each; there are {len(images)} and "
            f"{len(real)}"
        )


def _factor(features: Tensor) -> Tensor:
    """A matrix F with F^T F = covariance: a row for each image, or feature if these are fewer."""
    centred = (features - features.mean(0)) / math.sqrt(len(features) - 1)
    if len(features) <= features.shape[1]:
        return centred
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    factor: Tensor = values.clamp_min(0).sqrt()[:, None] * vectors.T
    return factor


def _polynomial(x: Tensor, y: Tensor) -> Tensor:
    """The kernel of all pairs, (N, M)."""
    kernel: Tensor = (x @ y.T / x.shape[1] + 1).pow(3)
    return kernel


def _mean_off_diagonal(kernel: Tensor) -> Tensor:
    count = len(kernel)
    return (kernel.sum() - kernel.trace()) / (count * (count - 1))


def _within(counts: Tensor, kernel: Tensor) -> Tensor:
    """Mean kernel over pairs of different images, for each resample; counts (B, N).

    NaN where one image alone was drawn, which happens in very small sets.
    """
    total = ((counts @ kernel) * counts).sum(1) - counts.square() @ kernel.diagonal()
    pairs = counts.sum(1).square() - counts.square().sum(1)
    return torch.where(pairs > 0, total / pairs, torch.nan)


def _counts(images: int, resamples: int, rng: torch.Generator) -> Tensor:
    """How often each image is drawn in each resample, (B, N) float64."""
    drawn = torch.randint(images, (resamples, images), generator=rng)
    counts = torch.zeros(resamples, images, dtype=torch.float64)
    return counts.scatter_add_(1, drawn, torch.ones_like(counts))


def _draw(images: int, rng: torch.Generator) -> Tensor:
    return torch.randint(images, (images,), generator=rng)


def _enough(images: Tensor, real: Tensor) -> bool:
    return min(len(images), len(real)) >= MIN_FOR_SET_INTERVAL


def _alone(value: float) -> Estimate:
    return Estimate(value, math.nan, math.nan)


def _around(value: float, draws: Tensor, recentre: bool) -> Estimate:
    draws = draws[~draws.isnan()]
    if len(draws) < MIN_FOR_QUANTILES:
        reach = NORMAL_QUANTILE * float(draws.std())
        return Estimate(value, value - reach, value + reach)
    tail = (1 - CONFIDENCE) / 2
    low, high = torch.quantile(draws, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    shift = value - float(draws.mean()) if recentre else 0.0
    return Estimate(value, low + shift, high + shift)


@dataclass(frozen=True)
class _Products:
    """Inner products of all features after one common shift; resamples only pick from them."""

    xx: Tensor
    yy: Tensor
    xy: Tensor

    @classmethod
    def of(cls, images: Tensor, real: Tensor) -> _Products:
        middle = real.mean(0)
        x, y = images - middle, real - middle
        return cls(x @ x.T, y @ y.T, x @ y.T)

    def frechet(self, rows: Tensor, columns: Tensor) -> float:
        """Frechet distance of resampled sets."""
        n, m = len(rows), len(columns)
        xx, yy = self.xx[rows][:, rows], self.yy[columns][:, columns]
        xy = self.xy[rows][:, columns]
        means = xx.mean() + yy.mean() - 2 * xy.mean()
        spread_x = (xx.trace() - n * xx.mean()) / (n - 1)
        spread_y = (yy.trace() - m * yy.mean()) / (m - 1)
        centred = xy - xy.mean(0) - xy.mean(1, keepdim=True) + xy.mean()
        trace = nuclear_norm(centred) / ((n - 1) * (m - 1)) ** 0.5
        return float((means + spread_x + spread_y).item() - 2 * trace)
