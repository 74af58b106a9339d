"""Latency measured on this machine: warm-up, then all candidates in turn, medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Latency:
    """Milliseconds per call.

    Attributes:
        median_ms: Median over all rounds.
        spread_ms: Interquartile range.
    """

    median_ms: float
    spread_ms: float


@torch.inference_mode()
def measure_latency(
    candidates: dict[str, Callable[[], object]], rounds: int = 21, warmup: int = 3
) -> dict[str, Latency]:
    """Time callables against each other.

    They take turns (A B C A B C ...), so that a machine whose speed drifts slows all of them.

    Args:
        candidates: What to call, by name.
        rounds: Timed calls of each.
        warmup: Calls of each before that.
    """
    for call in candidates.values():
        for _ in range(warmup):
            call()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, call in candidates.items():
            start = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: _summarise(values) for name, values in times.items()}


def _summarise(values: list[float]) -> Latency:
    if len(values) < 4:
        return Latency(statistics.median(values), max(values) - min(values))
    quartiles = statistics.quantiles(values, n=4)
    return Latency(quartiles[1], quartiles[2] - quartiles[0])
