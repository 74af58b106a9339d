"""Latency measured on this machine: candidates take turns, and noise is told from a difference."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

CONFIDENCE = 0.99
MIN_ROUNDS = 8  # the least for an interval of this confidence: 1 - 2 / 2**8
Clock = Callable[[], float]
"""Seconds since some moment."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds per call.

    Attributes:
        median_ms: Median over all rounds.
        spread_ms: Interquartile range.
    """

    median_ms: float
    spread_ms: float


@dataclass(frozen=True)
class Comparison:
    """How many times faster one candidate is than another, and how sure that is.

    Attributes:
        speed_up: Median over the rounds of the other's time divided by the candidate's.
        low: Lower end of the interval of that median.
        high: Upper end.
        confidence: Least probability that the interval holds the true median.
    """

    speed_up: float
    low: float
    high: float
    confidence: float = CONFIDENCE

    @property
    def is_ranked(self) -> bool:
        """Whether the interval excludes 1, so that one of the two is faster."""
        return not self.low <= 1.0 <= self.high

    def __str__(self) -> str:
        interval = f"{self.confidence:.0%} interval {self.low:.3g} to {self.high:.3g}"
        if not self.is_ranked:
            return f"within noise, cannot be told apart ({interval})"
        if self.speed_up > 1:
            return f"{self.speed_up:.3g}x faster ({interval})"
        return f"{1 / self.speed_up:.3g}x slower (speed-up {self.speed_up:.3g}, {interval})"


@dataclass(frozen=True)
class Timings:
    """Times of candidates that took turns.

    Attributes:
        rounds_ms: For each candidate one time per round; the n-th times of all belong together.
    """

    rounds_ms: Mapping[str, tuple[float, ...]]

    def latency(self, name: str) -> Latency:
        """Median and spread of one candidate."""
        return _summarise(list(self.rounds_ms[name]))

    def compare(self, name: str, other: str) -> Comparison:
        """Whether `name` is faster than `other`.

        Times of one round are divided by each other, so a machine whose speed drifts moves both.
        The interval of the median ratio is the sign test's (see `median_interval`), which asks
        nothing of the noise but that the rounds are alike and independent of each other.
        """
        pairs = zip(self.rounds_ms[other], self.rounds_ms[name], strict=True)
        ratios = [theirs / own for theirs, own in pairs]
        low, high = median_interval(ratios, CONFIDENCE)
        return Comparison(statistics.median(ratios), low, high)


@torch.inference_mode()
def time_calls(
    candidates: Mapping[str, Callable[[], object]],
    rounds: int = 21,
    warmup: int = 3,
    clock: Clock = time.perf_counter,
) -> Timings:
    """Time callables against each other.

    They take turns, and every other round in the opposite order, so that neither a drifting
    machine nor what the one leaves in the caches favours another.

    Args:
        candidates: What to call, by name.
        rounds: Timed calls of each; at least `MIN_ROUNDS` are needed to rank anything.
        warmup: Calls of each before that.
        clock: Where the time comes from.
    """
    for call in candidates.values():
        for _ in range(warmup):
            call()
    names = list(candidates)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            start = clock()
            candidates[name]()
            times[name].append(1e3 * (clock() - start))
    return Timings({name: tuple(values) for name, values in times.items()})


def measure_latency(
    candidates: Mapping[str, Callable[[], object]], rounds: int = 21, warmup: int = 3
) -> dict[str, Latency]:
    """Median and spread of every candidate; see `time_calls`."""
    timings = time_calls(candidates, rounds, warmup)
    return {name: timings.latency(name) for name in candidates}


def median_interval(values: list[float], confidence: float) -> tuple[float, float]:
    """Interval that holds the median of what the values were drawn from.

    Source: the sign test; the k-th smallest and k-th largest of n values enclose the median with
    probability 1 - 2 P(B < k), where B is binomial with n trials of 1/2.

    Args:
        values: Independent draws from one distribution, of any shape.
        confidence: Least probability, in (0, 1).

    Returns:
        Its ends; (0, infinity) where there are too few values for any.
    """
    ordered, number = sorted(values), len(values)
    below, rank = 0.0, 0
    while 2 * (below + math.comb(number, rank) / 2**number) <= 1 - confidence:
        below += math.comb(number, rank) / 2**number
        rank += 1
    if rank == 0:
        return 0.0, math.inf
    return ordered[rank - 1], ordered[number - rank]


def _summarise(values: list[float]) -> Latency:
    if len(values) < 4:
        return Latency(statistics.median(values), max(values) - min(values))
    quartiles = statistics.quantiles(values, n=4)
    return Latency(quartiles[1], quartiles[2] - quartiles[0])
