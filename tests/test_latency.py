"""Timing on a machine made up for the purpose: what can be ranked is, what cannot is refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from gancompress.cost import Comparison, Timings, measure_latency, time_calls
from gancompress.cost.latency import CONFIDENCE, MIN_ROUNDS, median_interval
from gancompress.runtimes.threads import pinned_threads

NUM_SEEDS = 300


@dataclass
class Machine:
    """A clock that goes on by as much as each call takes.

    Attributes:
        rng: Source of noise.
        noise: Standard deviation of the logarithm of every duration.
        burst: Probability that a call takes three times as long.
        drift: By how much the machine slows down in a second.
    """

    rng: random.Random
    noise: float = 0.1
    burst: float = 0.0
    drift: float = 0.0
    now: float = 0.0
    calls: list[str] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def call(self, name: str, seconds: float) -> Callable[[], None]:
        def run() -> None:
            slow = 3.0 if self.rng.random() < self.burst else 1.0
            factor = self.rng.lognormvariate(0.0, self.noise) * slow * (1 + self.drift * self.now)
            self.now += seconds * factor
            self.calls.append(name)

        return run

    def compare(self, own: float, other: float, rounds: int = 21) -> Comparison:
        """Time two models whose true durations are these, in seconds."""
        calls = {"own": self.call("own", own), "other": self.call("other", other)}
        return time_calls(calls, rounds, clock=self.clock).compare("own", "other")


NOISES = {
    "quiet": {"noise": 0.02},
    "noisy": {"noise": 0.3},
    "bursts": {"noise": 0.05, "burst": 0.1},
    "drift": {"noise": 0.05, "drift": 2.0},
}
every_noise = pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)


# ------------------------------------------------------------------------------- rankings


@every_noise
def test_equal_models_are_not_ranked(noise: dict[str, float]) -> None:
    machines = [Machine(random.Random(seed), **noise) for seed in range(NUM_SEEDS)]
    refused = sum(not machine.compare(0.05, 0.05).is_ranked for machine in machines)
    assert refused >= 0.95 * NUM_SEEDS


@every_noise
def test_model_twice_as_fast_is_ranked_first(noise: dict[str, float]) -> None:
    machines = [Machine(random.Random(seed), **noise) for seed in range(NUM_SEEDS)]
    found = [machine.compare(0.04, 0.08) for machine in machines]
    assert sum(c.is_ranked for c in found) >= 0.9 * NUM_SEEDS
    assert all(c.low > 1 for c in found if c.is_ranked)
    back = Machine(random.Random(0), **noise).compare(0.08, 0.04)
    assert back.high < 1


@every_noise
def test_interval_holds_the_true_ratio(noise: dict[str, float]) -> None:
    found = [Machine(random.Random(seed), **noise).compare(0.05, 0.06) for seed in range(NUM_SEEDS)]
    assert sum(c.low <= 1.2 <= c.high for c in found) >= 0.97 * NUM_SEEDS


def test_small_difference_is_seen_where_the_noise_is_smaller() -> None:
    assert all(Machine(random.Random(s), noise=0.01).compare(1, 1.05).is_ranked for s in range(50))
    found = [Machine(random.Random(s), noise=0.3).compare(1, 1.05).is_ranked for s in range(50)]
    assert sum(found) < 10


def test_too_few_rounds_rank_nothing() -> None:
    few = Machine(random.Random(0), noise=0.0).compare(1.0, 100.0, MIN_ROUNDS - 1)
    assert (few.low, few.high, few.is_ranked) == (0.0, float("inf"), False)
    assert Machine(random.Random(0), noise=0.0).compare(1.0, 100.0, MIN_ROUNDS).is_ranked


def test_times_of_one_round_are_compared_with_each_other() -> None:
    slowing = tuple(float(2**n) for n in range(12))
    timings = Timings({"a": slowing, "b": tuple(1.5 * t for t in slowing)})
    assert timings.compare("a", "b") == Comparison(1.5, 1.5, 1.5)
    assert timings.compare("b", "a").high == pytest.approx(1 / 1.5)
    assert not timings.compare("a", "a").is_ranked


@pytest.mark.parametrize(
    ("comparison", "text"),
    [
        (Comparison(2.0, 1.9, 2.1), "2x faster (99% interval 1.9 to 2.1)"),
        (Comparison(0.5, 0.4, 0.6), "2x slower (speed-up 0.5, 99% interval 0.4 to 0.6)"),
        (
            Comparison(1.2, 0.9, 1.4),
            "within noise, cannot be told apart (99% interval 0.9 to 1.4)",
        ),
        (Comparison(1.0, 1.0, 1.0), "within noise, cannot be told apart (99% interval 1 to 1)"),
    ],
)
def test_comparison_says_what_is_sure(comparison: Comparison, text: str) -> None:
    assert str(comparison) == text


@pytest.mark.parametrize(
    ("number", "confidence", "rank"),  # ranks as in printed tables of the sign test
    [(6, 0.95, 1), (10, 0.95, 2), (20, 0.95, 6), (25, 0.95, 8), (8, 0.99, 1), (21, 0.99, 5)],
)
def test_interval_of_the_median_is_the_sign_tests(
    number: int, confidence: float, rank: int
) -> None:
    values = [float(v) for v in np.random.default_rng(0).permutation(number)]
    assert median_interval(values, confidence) == (rank - 1, number - rank)


@pytest.mark.parametrize(("number", "confidence"), [(5, 0.95), (MIN_ROUNDS - 1, CONFIDENCE)])
def test_few_values_have_no_interval(number: int, confidence: float) -> None:
    assert median_interval([1.0] * number, confidence) == (0.0, float("inf"))


# --------------------------------------------------------------------------------- timing


def test_candidates_take_turns_in_both_orders_after_a_warm_up() -> None:
    machine = Machine(random.Random(0), noise=0.0)
    calls = {"a": machine.call("a", 1.0), "b": machine.call("b", 2.0)}
    timings = time_calls(calls, rounds=4, warmup=2, clock=machine.clock)
    assert "".join(machine.calls) == "aabb" + "ab" + "ba" + "ab" + "ba"
    assert timings.rounds_ms == {
        "a": pytest.approx((1000.0,) * 4),
        "b": pytest.approx((2000.0,) * 4),
    }


def test_slow_first_calls_are_not_timed() -> None:
    machine = Machine(random.Random(0), noise=0.0)
    durations = iter([9.0, 9.0, 9.0, 1.0, 1.0])

    def call() -> None:
        machine.now += next(durations)

    assert time_calls({"a": call}, rounds=2, clock=machine.clock).latency("a").median_ms == 1000


def test_latency_is_median_and_interquartile_range() -> None:
    times = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 700.0)
    latency = Timings({"a": times}).latency("a")
    assert (latency.median_ms, latency.spread_ms) == (4.0, 4.0)
    short = Timings({"a": (1.0, 4.0)}).latency("a")
    assert (short.median_ms, short.spread_ms) == (2.5, 3.0)


def test_measured_calls_run_without_gradients() -> None:
    modes = []
    found = measure_latency({"a": lambda: modes.append(torch.is_inference_mode_enabled())}, 3, 1)
    assert modes == [True] * 4
    assert found["a"].median_ms >= 0


def test_threads_are_pinned_and_given_back() -> None:
    before = torch.get_num_threads()
    with pinned_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    with pytest.raises(KeyError), pinned_threads(before + 2):
        raise KeyError
    assert torch.get_num_threads() == before
