"""Frechet and kernel distances equal clean-fid's, and their intervals say how sure they are."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from gancompress.errors import DataError
from gancompress.metrics.distances import (
    _Products,
    bootstrap_estimate,
    frechet_distance,
    frechet_estimate,
    kernel_distance,
    kernel_estimate,
    mean_estimate,
    nuclear_norm,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # clean-fid's imports
    from cleanfid import fid as cleanfid


def features(count: int, width: int = 24, seed: int = 0, shift: float = 0.0) -> Tensor:
    """Correlated, skewed features, (count, width) float64."""
    rng = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=torch.Generator().manual_seed(99)).double()
    return (torch.randn(count, width, generator=rng).double() @ mix).relu() + shift


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("n", "m"), [(10, 15), (10, 200), (200, 15), (150, 200)])
def test_frechet_distance_is_clean_fids(n: int, m: int) -> None:
    x, y = features(n, seed=1), features(m, seed=2, shift=0.3)
    moments = [f(side) for side in (x.numpy(), y.numpy()) for f in (mean_of, covariance_of)]
    expected = cleanfid.frechet_distance(*moments)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-5)


def mean_of(values: np.ndarray) -> np.ndarray:
    return values.mean(0)


def covariance_of(values: np.ndarray) -> np.ndarray:
    return np.cov(values, rowvar=False)


@pytest.mark.parametrize("count", [20, 300])
def test_kernel_distance_is_clean_fids_on_one_subset_of_all(count: int) -> None:
    x, y = features(count, seed=1), features(count, seed=2, shift=0.1)
    expected = cleanfid.kernel_distance(x.numpy(), y.numpy(), num_subsets=1)
    assert kernel_distance(x, y) == pytest.approx(expected, rel=1e-9)


def test_kernel_distance_by_its_definition_for_sets_of_unequal_size() -> None:
    x, y = features(4, 3, seed=1).numpy(), features(6, 3, seed=2).numpy()

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / 3 + 1) ** 3)

    within_x = np.mean([kernel(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    within_y = np.mean([kernel(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
    between = np.mean([kernel(a, b) for a in x for b in y])
    expected = within_x + within_y - 2 * between
    value = kernel_distance(torch.from_numpy(x), torch.from_numpy(y))
    assert value == pytest.approx(expected, rel=1e-12)


def test_frechet_distance_of_gaussians_tends_to_its_closed_form() -> None:
    rng = torch.Generator().manual_seed(0)
    deviations = torch.tensor([1.0, 2.0, 0.5]).double()
    x = torch.randn(200_000, 3, generator=rng).double()
    y = torch.randn(200_000, 3, generator=rng).double() * deviations + 1
    expected = 3 + float((1 - deviations).square().sum())
    assert frechet_distance(x, y) == pytest.approx(expected, rel=0.02)


def test_order_does_not_matter() -> None:
    x, y = features(40, seed=1), features(50, seed=2)
    other_x, other_y = x.flip(0), y[torch.randperm(50)]
    assert frechet_distance(other_x, other_y) == pytest.approx(frechet_distance(x, y), rel=1e-9)
    assert kernel_distance(other_x, other_y) == pytest.approx(kernel_distance(x, y), rel=1e-9)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6)])
def test_nuclear_norm_is_the_sum_of_singular_values(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, dtype=torch.float64)
    assert nuclear_norm(matrix) == pytest.approx(float(torch.linalg.svdvals(matrix).sum()))


def test_a_resample_equals_the_distance_of_the_resampled_sets() -> None:
    x, y = features(12, seed=1), features(9, seed=2)
    rows, columns = torch.randint(12, (12,)), torch.randint(9, (9,))
    expected = frechet_distance(x[rows], y[columns])
    assert _Products.of(x, y).frechet(rows, columns) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("estimate", [frechet_estimate, kernel_estimate])
def test_intervals_hold_the_value_and_shrink_with_more_images(estimate) -> None:
    widths = []
    for count in (30, 120, 480):
        found = estimate(features(count, seed=1, shift=0.5), features(count, seed=2))
        assert found.low < found.value < found.high
        widths.append(found.high - found.low)
    assert widths[0] > 1.4 * widths[1] > 1.4 * 1.4 * widths[2]


def test_kernel_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    truth = kernel_distance(features(6000, seed=1, shift=0.2), features(6000, seed=2))
    hits = 0
    for seed in range(40):
        x, y = features(80, seed=1000 + seed, shift=0.2), features(80, seed=2000 + seed)
        found = kernel_estimate(x, y, resamples=200, seed=seed)
        hits += found.low <= truth <= found.high
    assert hits >= 34  # 38 are expected; 34 or fewer would come in 2 % of cases


def test_the_mean_of_kernel_resamples_is_not_above_the_value() -> None:
    # a naive bootstrap compares an image with itself and is far too high
    x, y = features(25, seed=1), features(25, seed=2)
    found = kernel_estimate(x, y, resamples=2000)
    spread = found.high - found.low
    assert abs((found.low + found.high) / 2 - found.value) < 0.25 * spread


def test_mean_estimate_agrees_with_the_standard_error() -> None:
    values = torch.randn(400, dtype=torch.float64)
    found = mean_estimate(values)
    error = float(values.std()) / 400**0.5
    assert found.value == pytest.approx(float(values.mean()))
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_bootstrap_of_a_mean_is_the_mean_estimate() -> None:
    values = torch.arange(30, dtype=torch.float64)

    def mean(weights: Tensor) -> float:
        return float((weights * values).sum() / weights.sum())

    ours, theirs = bootstrap_estimate(mean, 30, 1000), mean_estimate(values, 1000)
    for name in ("value", "low", "high"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name))


def test_the_same_seed_gives_the_same_interval() -> None:
    x, y = features(20, seed=1), features(20, seed=2)
    assert kernel_estimate(x, y, seed=3) == kernel_estimate(x, y, seed=3)
    assert frechet_estimate(x, y, seed=3) != frechet_estimate(x, y, seed=4)


@pytest.mark.parametrize("estimate", [frechet_estimate, kernel_estimate])
def test_sets_below_five_images_have_a_value_and_no_interval(estimate) -> None:
    x, y = features(4, seed=1), features(9, seed=2)
    distance = frechet_distance if estimate is frechet_estimate else kernel_distance
    for one, other in ((x, y), (y, x)):
        found = estimate(one, other)
        assert found.value == pytest.approx(distance(one, other))
        assert math.isnan(found.low)
        assert math.isnan(found.high)
    found = estimate(features(5, seed=1), y)
    assert found.low < found.value < found.high


def test_one_image_has_a_mean_and_no_interval() -> None:
    weights_sum = bootstrap_estimate(lambda weights: float(weights.sum()), 1)
    for found, value in ((mean_estimate(torch.tensor([3.0])), 3), (weights_sum, 1)):
        assert found.value == value
        assert math.isnan(found.low)
        assert math.isnan(found.high)


def test_few_draws_give_a_normal_interval_around_the_value() -> None:
    x, y = features(30, seed=1, shift=0.5), features(30, seed=2)
    value = frechet_distance(x, y)
    rng = torch.Generator().manual_seed(4)
    draws = [
        frechet_distance(*(side[torch.randint(30, (30,), generator=rng)] for side in (x, y)))
        for _ in range(25)
    ]
    found = frechet_estimate(x, y, resamples=25, seed=4)
    reach = 1.96 * float(np.std(draws, ddof=1))
    assert found.low == pytest.approx(value - reach)
    assert found.high == pytest.approx(value + reach)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_one_image_or_other_features_are_refused(distance) -> None:
    with pytest.raises(DataError, match="two images"):
        distance(features(1), features(5))
    with pytest.raises(DataError, match="do not compare"):
        distance(features(5, 8), features(5, 9))
