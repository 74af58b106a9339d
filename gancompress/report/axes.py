"""Axes of a plot: where values lie, round ticks and what is written at them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from gancompress.report.text import UNITS

LOG_FROM = 8.0  # a range of costs above this ratio gets a logarithmic axis
MAX_TICKS = 6  # as many as a phone's width holds


@dataclass(frozen=True)
class Axis:
    """A range of values on a straight line, or of their logarithms."""

    low: float
    high: float
    log: bool

    def place(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high end."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values inside the axis, at most `MAX_TICKS` of them."""
        return self._log_ticks() if self.log else self._linear_ticks()

    def _linear_ticks(self) -> list[float]:
        power = 10.0 ** math.floor(math.log10((self.high - self.low) / MAX_TICKS))
        for step in (power, 2 * power, 5 * power, 10 * power):
            first, last = math.ceil(self.low / step), math.floor(self.high / step)
            if last - first < MAX_TICKS:
                break
        return [number * step for number in range(first, last + 1)]

    def _log_ticks(self) -> list[float]:
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for digits in ((1, 2, 5), (1, 3), (1,)):
            ticks = [digit * 10.0**power for power in powers for digit in digits]
            inside = [tick for tick in ticks if self.low <= tick <= self.high]
            if len(inside) <= MAX_TICKS:
                break
        return inside[:: math.ceil(len(inside) / MAX_TICKS)]


def score_axis(values: Sequence[float]) -> Axis:
    """A linear axis with some air around its values."""
    low, high = min(values), max(values)
    air = 0.12 * (high - low) or 0.1 * abs(high) or 1.0
    return Axis(low - air, high + air, log=False)


def cost_axis(values: Sequence[float]) -> Axis:
    """An axis with some air around positive values, logarithmic where they span a wide range."""
    low, high = min(values), max(values)
    if high <= LOG_FROM * low:
        return score_axis(values)
    air = (high / low) ** 0.06
    return Axis(low / air, high * air, log=True)


def count_labels(ticks: Sequence[float], log: bool) -> list[str]:
    """Counts with units: 200 k, 1 M."""
    labels = []
    for tick in ticks:
        fits = ((scale, unit) for scale, unit in UNITS if tick >= 0.999 * scale)
        scale, unit = next(fits, (1.0, ""))
        decimals = 0 if log else _decimals([other / scale for other in ticks])
        labels.append(f"{tick / scale:.{decimals}f} {unit}".rstrip())
    return labels


def measure_labels(ticks: Sequence[float], log: bool = False) -> list[str]:
    """Plain numbers: evenly spaced ones with the same decimals, others with those they need."""
    if log:
        return [f"{tick:g}" for tick in ticks]
    decimals = _decimals(ticks)
    return [f"{tick:.{decimals}f}" for tick in ticks]


def _decimals(ticks: Sequence[float]) -> int:
    """Decimals that tell evenly spaced ticks apart."""
    step = min((b - a for a, b in pairwise(ticks)), default=1.0)
    return max(0, -math.floor(math.log10(step) + 1e-9))
