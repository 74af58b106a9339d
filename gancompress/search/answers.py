"""From trials to a result: the best subnet under each budget, and how far it can be believed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from gancompress.config import SearchOptions
from gancompress.elastic import SearchSpace, Subnet
from gancompress.metrics.distances import Estimate
from gancompress.search.budgets import Budget
from gancompress.search.evaluator import PARTS, Evaluator
from gancompress.search.plan import Plan, search_split
from gancompress.search.problem import Problem
from gancompress.search.result import Answer, SearchResult
from gancompress.search.searchers.regressor import kendall_tau
from gancompress.search.trials import Trial

RESCORED = 4  # trials with rough scores that are scored again under each budget
LEVELS = 64  # fractions of the full width that are tried for a uniform subnet
COMPARED = 16  # subnets that are evaluated in float32, too, where the search took less


def conclude(
    options: SearchOptions, plan: Plan, evaluator: Evaluator, trials: list[Trial]
) -> SearchResult:
    """The result of a search; of trials that failed it has the number."""
    failed = [trial for trial in trials if trial.failure]
    trials = [trial for trial in trials if not trial.failure]
    quality, costs = evaluator.quality, plan.everything.costs
    genomes = plan.net.space.genomes(trial.subnet for trial in trials)
    whole = _on_all_images(options, plan, evaluator)
    return SearchResult(
        quality.name,
        quality.lower_is_better,
        plan.size,
        trials,
        {name: [float(value) for value in costs[name](genomes)] for name in costs},
        answers(plan.problem, plan.budgets, trials, whole, whole is not evaluator),
        {name: sum(trial.seconds.get(name, 0.0) for trial in trials) for name in PARTS},
        plan.searcher.diagnose(plan.problem, trials),
        evaluator.runtime,
        rank_agreement(evaluator, trials),
        len(failed),
    )


def rank_agreement(evaluator: Evaluator, trials: Sequence[Trial]) -> dict[str, float]:
    """How another precision ranks subnets, against float32 on the same images."""
    first = [trial for trial in trials if trial.complete][:COMPARED]
    exact = evaluator.in_float32()
    if exact is evaluator or len(first) < 3:
        return {}
    expected = np.array([exact.measure(trial.subnet).loss for trial in first])
    tau = kendall_tau(np.array([trial.loss for trial in first]), expected)
    # where all scores are equal there is no order to agree with
    return {} if math.isnan(tau) else {"kendall_tau": tau, "subnets": len(first)}


def _on_all_images(options: SearchOptions, plan: Plan, own: Evaluator) -> Evaluator:
    """An evaluator over the whole search split, in float32."""
    exact = own.in_float32()
    split = search_split(options, plan.size)
    if len(split.inputs) == len(own.inputs):
        return exact
    whole = Evaluator.of_split(own.net, own.teacher, split, None, own.batch_size, own.device)
    return replace(
        whole, quality=exact.quality, calibration=own.calibration, compiled=exact.compiled
    )


def answers(
    problem: Problem,
    budgets: Sequence[Budget],
    trials: Sequence[Trial],
    evaluator: Evaluator,
    rough: bool = False,
) -> list[Answer]:
    """The best subnet under each budget, with its score on all images of an evaluator.

    Where the trials saw the same images in the same precision, their own losses decide. Rough ones,
    of fewer images or in bfloat16, do not: the best of many rough losses owes its place to luck as
    well. So the best `RESCORED` trials under a budget and its uniform subnet are scored again, a
    subnet once for all budgets. Ties go to the cheaper one. Either way a uniform subnet that the
    search has not met is the answer if it is better.

    A budget whose own subnets were not met by the search is answered by its cheapest subnet, or
    the uniform one.

    Args:
        problem: Space and costs.
        budgets: What is asked for.
        trials: What was evaluated.
        evaluator: Of the whole search split, in float32.
        rough: Whether the trials were scored otherwise than this evaluator does.
    """
    known = {trial.subnet: trial for trial in trials if trial.complete}
    genomes = problem.space.genomes(known)
    estimate, sign = cache(evaluator.estimate), evaluator.quality.sign

    def rank(pair: tuple[Subnet, float]) -> tuple[float, float, tuple[int, ...]]:
        subnet, cost = pair
        return sign * estimate(subnet).value, cost, subnet.values

    def answer(budget: Budget) -> Answer:
        costs = problem.values(genomes, budget.cost).tolist()
        fitting = [pair for pair in zip(known, costs, strict=True) if pair[1] <= budget.limit]
        fitting.sort(key=lambda pair: (known[pair[0]].loss, pair[1], pair[0].values))
        rated = fitting[: RESCORED if rough else 1] or [problem.cheapest[budget.cost]]
        uniform, uniform_cost = uniform_under(problem, budget)
        if rough or uniform not in known:
            rated.append((uniform, uniform_cost))
        subnet, cost = min(rated, key=rank)
        found = estimate(subnet)
        trial = known.get(subnet) or _trial_of(evaluator, subnet, found)
        count = len(evaluator.inputs)
        return Answer(budget, trial, cost, found, count, uniform, uniform_cost, estimate(uniform))

    return [answer(budget) for budget in budgets]


def _trial_of(evaluator: Evaluator, subnet: Subnet, estimate: Estimate) -> Trial:
    """A trial of a subnet that the search has not met."""
    quality, macs = evaluator.quality, evaluator.net.macs(subnet, evaluator.size)
    scores = {quality.name: estimate.value}
    return Trial(subnet, macs, quality.sign * estimate.value, scores, len(evaluator.inputs))


def uniform_under(problem: Problem, budget: Budget) -> tuple[Subnet, float]:
    """The dearest uniform subnet under a budget and its cost; the cheapest one if none fits."""
    genomes = problem.space.genomes(uniform_subnets(problem.space))
    costs = problem.values(genomes, budget.cost)
    inside = np.flatnonzero(costs <= budget.limit)
    if not len(inside):
        return problem.cheapest[budget.cost]
    best = inside[costs[inside].argmax()]
    return problem.space.subnets(genomes[[best]])[0], float(costs[best])


def uniform_subnets(space: SearchSpace) -> list[Subnet]:
    """Subnets whose dimensions all have the largest candidate within one fraction of the full."""
    found: dict[Subnet, None] = {}
    for level in range(1, LEVELS + 1):
        values = []
        for dimension in space.dimensions:
            room = dimension.full * level / LEVELS
            values.append(
                max((c for c in dimension.choices if c <= room), default=dimension.choices[0])
            )
        found[space.subnet(values)] = None
    return list(found)
