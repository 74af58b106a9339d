"""The answer under a budget is the best by scores that can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from landscapes import Floats, chain_macs, make_space

from gancompress.elastic import Subnet
from gancompress.metrics.distances import Estimate
from gancompress.search import Answer, Budget, Problem, Trial
from gancompress.search.answers import RESCORED, answers, rank_agreement, uniform_under

SPACE = make_space(3, 4)
PROBLEM = Problem(SPACE, {"macs": chain_macs})
GENOMES = SPACE.genomes_at(np.arange(SPACE.size))
COSTS = PROBLEM.values(GENOMES, "macs")
BUDGETS = [Budget("macs", float(np.quantile(COSTS, share))) for share in (1.0, 0.6, 0.3)]


@dataclass
class Scorer:
    """An evaluator whose scores are given, and which notes what it is asked."""

    truth: dict[Subnet, float]
    asked: list[Subnet] = field(default_factory=list)
    quality: Any = field(default_factory=lambda: SimpleNamespace(sign=1.0, name="teacher_mae"))
    inputs: tuple[int, ...] = (0,) * 9
    size: tuple[int, int] = (32, 32)
    net: Any = field(default_factory=lambda: SimpleNamespace(macs=lambda subnet, size: 7))

    def estimate(self, subnet: Subnet) -> Estimate:
        self.asked.append(subnet)
        return Estimate(self.truth[subnet], 0.0, 1.0)


def landscape(seed: int) -> Floats:
    return 0.1 + 0.1 * np.random.default_rng(seed).random(SPACE.size)


def judge(losses: Floats) -> Scorer:
    return Scorer(dict(zip(SPACE.subnets(GENOMES), losses.tolist(), strict=True)))


def trials_of(losses: Floats, chosen: Sequence[int] | None = None) -> list[Trial]:
    subnets = SPACE.subnets(GENOMES)
    indices = range(len(subnets)) if chosen is None else chosen
    return [Trial(subnets[i], int(COSTS[i]), float(losses[i]), {}) for i in indices]


def found(trials: list[Trial], made: Any, rough: bool) -> list[Answer]:
    return answers(PROBLEM, BUDGETS, trials, made, rough)


@pytest.mark.parametrize("seed", range(6))
def test_rough_scores_are_looked_at_again(seed: int) -> None:
    exact = landscape(seed)
    rough = exact + 0.02 * np.random.default_rng(100 + seed).standard_normal(SPACE.size)
    made = judge(exact)
    first = sorted(trials_of(rough), key=lambda trial: trial.loss)
    for answer in found(trials_of(rough), made, rough=True):
        inside = [trial.subnet for trial in first if trial.macs <= answer.budget.limit]
        rated = [*inside[:RESCORED], uniform_under(PROBLEM, answer.budget)[0]]
        assert answer.estimate.value == min(made.truth[subnet] for subnet in rated)
        assert answer.estimate.value <= answer.uniform_estimate.value
        assert answer.trial == next(t for t in first if t.subnet == answer.trial.subnet)
    assert len(made.asked) == len(set(made.asked)) <= len(BUDGETS) * (RESCORED + 1)


def test_the_losses_of_the_trials_decide_where_they_are_exact() -> None:
    exact = landscape(0)
    made = judge(exact)
    for answer in found(trials_of(exact), made, rough=False):
        assert answer.trial.loss == exact[answer.budget.limit >= COSTS].min()
    assert len(made.asked) <= 2 * len(BUDGETS)  # for the intervals of answers and uniform subnets


@pytest.mark.parametrize("rough", [True, False])
def test_a_better_uniform_subnet_is_the_answer(rough: bool) -> None:
    losses = landscape(1)
    uniform = [uniform_under(PROBLEM, budget)[0] for budget in BUDGETS]
    subnets = SPACE.subnets(GENOMES)
    for subnet in uniform:
        losses[subnets.index(subnet)] = 0.01
    others = [i for i, subnet in enumerate(subnets) if subnet not in uniform]
    made = judge(losses)
    for answer in found(trials_of(losses, others), made, rough):
        assert answer.trial.subnet in uniform
        assert (answer.trial.loss, answer.trial.macs) == (0.01, 7)
        assert answer.cost <= answer.budget.limit


def test_the_cheaper_one_of_two_equal_ones_is_the_answer() -> None:
    flat = np.full(SPACE.size, 0.5)
    for answer in found(trials_of(flat), judge(flat), rough=True):
        assert answer.cost == COSTS.min()


def test_trials_that_were_given_up_are_no_answer() -> None:
    losses = landscape(2)
    trials = [
        Trial(t.subnet, t.macs, 0.0, {}, complete=False) if i % 2 else t
        for i, t in enumerate(trials_of(losses))
    ]
    whole = {trial.subnet for trial in trials if trial.complete}
    for answer in found(trials, judge(losses), rough=False):
        assert answer.trial.subnet in whole | {answer.uniform}


def test_agreements_without_any_order_are_left_out() -> None:
    """Kendall's tau of equal scores is not a number, which JSON does not know."""
    trials = [Trial(t.subnet, t.macs, 0.5, {}) for t in trials_of(COSTS)[:4]]
    exact: Any = SimpleNamespace(measure=lambda subnet: trials[0])
    made: Any = SimpleNamespace(in_float32=lambda: exact)
    assert rank_agreement(made, trials) == {}
