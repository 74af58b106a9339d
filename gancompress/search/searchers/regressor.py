"""Gaussian process regression, exact and small: what trials say about subnets not yet tried."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gancompress.search.problem import Floats

STEPS = 60  # of the hyper-parameters' ascent
JITTER = 1e-8
SMALLEST_NOISE = 1e-6  # relative to the variance of the targets
LINEAR, MATERN, NOISE = 0, 1, 2  # places of the log variances; log length scales follow


@dataclass(frozen=True, eq=False)
class GaussianProcess:
    """A linear trend plus a smooth remainder, with one length scale for each feature.

    k(x, x') = a (1 + x.x') + b Matern52(|(x - x') / l|) + noise. Length scales and variances
    maximise the marginal likelihood under log-normal priors; the prior of the length scales grows
    with the root of the number of features, so few trials in many dimensions are no obstacle.

    Sources: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, ch. 4 and 5;
    the prior: Hvarfner et al., Vanilla Bayesian Optimization Performs Great in High Dimensions,
    2024.

    Attributes:
        features: Of the trials, (N, F), about 0 to 1.
        theta: Logarithms of a, b, noise variance and length scales, (3 + F,).
        offset: Mean of the targets.
        scale: Their standard deviation.
        weights: Inverse covariance times standardised targets, (N,).
        inverse: Inverse covariance of the standardised targets, (N, N).
    """

    features: Floats
    theta: Floats
    offset: float
    scale: float
    weights: Floats
    inverse: Floats

    @classmethod
    def fit(
        cls, features: Floats, targets: Floats, tune_on: npt.NDArray[np.int64]
    ) -> GaussianProcess:
        """Hyper-parameters from some of the trials, then conditioned on all of them.

        Args:
            features: (N, F).
            targets: (N,), finite.
            tune_on: Rows that the hyper-parameters are fitted to: the time grows with their
                number cubed, about 0.5 s for 300 of them on one thread.
        """
        offset, scale = float(targets.mean()), float(targets.std()) or 1.0
        standard = (targets - offset) / scale
        theta = tune(features[tune_on], standard[tune_on])
        covariance, _ = _covariances(features, features, theta)
        covariance += _noise(theta) * np.eye(len(targets))
        inverse = np.asarray(np.linalg.inv(covariance), np.float64)
        return cls(features, theta, offset, scale, inverse @ standard, inverse)

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the noiseless target, both (M,)."""
        cross, _ = _covariances(features, self.features, self.theta)
        prior = np.exp(self.theta[LINEAR]) * (1 + (features**2).sum(axis=1))
        prior += np.exp(self.theta[MATERN])
        variance = prior - np.einsum("mn,mn->m", cross @ self.inverse, cross)
        return (
            self.offset + self.scale * (cross @ self.weights),
            self.scale * np.sqrt(np.maximum(variance, JITTER)),
        )

    def covariance(self, features: Floats) -> Floats:
        """Joint posterior covariance of the noiseless targets, (M, M)."""
        cross, _ = _covariances(features, self.features, self.theta)
        prior, _ = _covariances(features, features, self.theta)
        return self.scale**2 * (prior - cross @ self.inverse @ cross.T)

    @property
    def noise(self) -> float:
        """Variance of the measurement noise."""
        return float(self.scale**2 * _noise(self.theta))


def tune(features: Floats, targets: Floats) -> Floats:
    """Log hyper-parameters that maximise the posterior density, by sign-based ascent (iRprop-).

    Rounded to thousandths: the rounding of linear algebra, which differs from machine to machine,
    is not carried on into proposals.

    Args:
        features: (N, F).
        targets: Standardised, (N,).
    """
    number = features.shape[1]
    centre = np.concatenate([[-1.0, 0.0, -4.0], np.full(number, 0.5 * np.log(max(1, number)))])
    width = np.concatenate([[2.0, 1.0, 2.0], np.full(number, 1.0)])
    theta, step = centre.copy(), np.full(len(centre), 0.2)
    best, best_value = theta, -np.inf
    before = np.zeros(len(centre))
    for _ in range(STEPS):
        value, gradient = _likelihood(features, targets, theta)
        value -= float((((theta - centre) / width) ** 2).sum() / 2)
        gradient -= (theta - centre) / width**2
        if value > best_value:
            best, best_value = theta, value
        turned = gradient * before
        step = np.clip(np.where(turned > 0, 1.2 * step, np.where(turned < 0, 0.5 * step, step)),
                       1e-3, 0.5)  # fmt: skip
        before = np.where(turned < 0, 0.0, gradient)
        theta = np.clip(theta + np.sign(before) * step, centre - 8, centre + 8)
        if step.max() < 5e-3:
            break
    return np.round(best, 3)


def _likelihood(features: Floats, targets: Floats, theta: Floats) -> tuple[float, Floats]:
    """Log marginal likelihood and its gradient. Source: Rasmussen and Williams, eq. 5.8, 5.9."""
    smooth_part, slope = _matern(features, features, theta)
    linear_part = _linear(features, features, theta)
    covariance = smooth_part + linear_part + _noise(theta) * np.eye(len(targets))
    inverse = np.linalg.inv(covariance)
    weights = inverse @ targets
    _, log_determinant = np.linalg.slogdet(covariance)
    value = -0.5 * float(targets @ weights + log_determinant)
    outer = np.outer(weights, weights) - inverse
    sloped = outer * slope
    scaled = features / np.exp(theta[NOISE + 1 :])
    squares = 2 * (sloped.sum(axis=1) @ scaled**2 - ((sloped @ scaled) * scaled).sum(axis=0))
    variances = [(outer * linear_part).sum(), (outer * smooth_part).sum()]
    noise = np.exp(theta[NOISE]) * np.trace(outer)
    return value, 0.5 * np.concatenate([variances, [noise], squares])


def _covariances(one: Floats, other: Floats, theta: Floats) -> tuple[Floats, Floats]:
    smooth, slope = _matern(one, other, theta)
    return smooth + _linear(one, other, theta), slope


def _linear(one: Floats, other: Floats, theta: Floats) -> Floats:
    return np.asarray(np.exp(theta[LINEAR]) * (1 + one @ other.T), np.float64)


def _matern(one: Floats, other: Floats, theta: Floats) -> tuple[Floats, Floats]:
    """Matern 5/2, and the factor of a squared scaled difference in its log-length derivative."""
    scales = np.exp(theta[NOISE + 1 :])
    one, other = one / scales, other / scales
    squared = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
    distance = np.sqrt(5 * np.maximum(squared, 0))
    decay = np.exp(theta[MATERN] - distance)
    return decay * (1 + distance + distance**2 / 3), decay * (1 + distance) * (5 / 3)


def _noise(theta: Floats) -> float:
    return float(np.exp(theta[NOISE])) + SMALLEST_NOISE


def kendall_tau(one: Floats, other: Floats) -> float:
    """Rank agreement in [-1, 1], tau-b: ties count for neither. Not a number without any order."""
    signs = [np.sign(values[:, None] - values) for values in (one, other)]
    pairs = np.sqrt(float((signs[0] ** 2).sum()) * float((signs[1] ** 2).sum()))
    return float((signs[0] * signs[1]).sum() / pairs) if pairs else float("nan")
