"""From times of operations in some networks to the entries of a latency table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from gancompress.cost.table import Entry, Floats

Ints: TypeAlias = npt.NDArray[np.int64]

MAX_KNOTS = 16
FAITH = 0.02  # weight of the smooth guess at a knot, where one observation has weight 1
LEAST_MS = 1e-4  # below the resolution of any clock: relative errors of less mean nothing


@dataclass(frozen=True)
class Observations:
    """Times of one kind of operation, one for each time that it was seen.

    Attributes:
        inputs: Input channels, (N,).
        outputs: Output channels, (N,).
        ms: Milliseconds, (N,).
    """

    inputs: Ints
    outputs: Ints
    ms: Floats


def fit_entry(key: str, seen: Observations) -> Entry:
    """Times at knots, such that interpolating between them gives what was seen.

    The knots are the channel numbers that were seen (spread ones, where they are many). Least
    squares of relative errors, with a weak pull to a smooth guess, a + b x + c y + d x y, which
    alone decides where a pair of channel numbers was never seen.

    Args:
        key: Of the operation.
        seen: At least one observation.
    """
    seen = _medians(seen)
    rows, columns = _knots(seen.inputs), _knots(seen.outputs)
    hats = _hats(rows, seen.inputs)[:, :, None] * _hats(columns, seen.outputs)[:, None, :]
    hats = hats.reshape(len(seen.ms), -1)
    guess = _smooth(seen, rows, columns)
    weights = 1 / np.maximum(seen.ms, LEAST_MS)
    pull = np.sqrt(FAITH) / np.maximum(guess, LEAST_MS)
    matrix = np.concatenate([hats * weights[:, None], np.diag(pull)])
    target = np.concatenate([seen.ms * weights, guess * pull])
    values = np.maximum(np.linalg.lstsq(matrix, target, rcond=None)[0], 0.0)
    table = values.reshape(len(rows), len(columns))
    return Entry(key, tuple(rows.tolist()), tuple(columns.tolist()), _as_tuples(table))


def _medians(seen: Observations) -> Observations:
    """Every observation as the median of those with the same channels: outliers lose their say."""
    pairs = np.stack([seen.inputs, seen.outputs], axis=1)
    _, groups = np.unique(pairs, axis=0, return_inverse=True)
    groups = groups.ravel()
    medians = np.array([np.median(seen.ms[groups == n]) for n in range(groups.max() + 1)])
    return Observations(seen.inputs, seen.outputs, medians[groups])


def _knots(values: Ints) -> Ints:
    distinct = np.unique(values)
    if len(distinct) <= MAX_KNOTS:
        return distinct
    places = np.linspace(0, len(distinct) - 1, MAX_KNOTS).round().astype(np.int64)
    return distinct[places]


def _hats(knots: Ints, values: Ints) -> Floats:
    """Weight of each knot in the linear interpolation at each value, (N, knots)."""
    unit = np.eye(len(knots))
    return np.stack([np.interp(values, knots, row) for row in unit], axis=1)


def _smooth(seen: Observations, rows: Ints, columns: Ints) -> Floats:
    """The smooth guess at all knots, (knots,); nowhere below a tenth of the least that was seen."""
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    scale = np.array([rows.max(), columns.max()], np.float64)
    weights = 1 / np.maximum(seen.ms, LEAST_MS)
    own = _terms(np.stack([seen.inputs, seen.outputs], axis=1) / scale)
    found = np.linalg.lstsq(own * weights[:, None], seen.ms * weights, rcond=None)[0]
    least = max(0.1 * float(seen.ms.min()), LEAST_MS)
    guess: Floats = np.maximum(_terms(grid / scale) @ found, least)
    return guess


def _terms(points: Floats) -> Floats:
    x, y = points.T
    return np.stack([np.ones_like(x), x, y, x * y], axis=1)


def _as_tuples(table: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(f"{value:.6g}") for value in row) for row in table)


def fit_total(sums: Floats, totals: Floats) -> tuple[float, float]:
    """Constant and scale from sums of operations to whole networks, by relative least squares.

    Args:
        sums: Sum over the operations of each network in milliseconds, (K,), positive.
        totals: Measured end to end, (K,), positive.

    Returns:
        (constant in milliseconds, scale > 0). The constant is negative where the runtime's
        profiler slowed down what it watched, and 0 where that would leave too little of a network.
    """
    matrix = np.stack([1 / totals, sums / totals], axis=1)
    constant, scale = np.linalg.lstsq(matrix, np.ones(len(totals)), rcond=None)[0].tolist()
    if len(totals) < 3 or scale <= 0 or constant < -scale * sums.min() / 2:
        ratio = sums / totals
        return 0.0, float(ratio.sum() / (ratio**2).sum())
    return constant, scale
