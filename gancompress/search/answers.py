"""The answers of a search: the best subnet under each budget, and whether the search paid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gancompress.elastic import SearchSpace, Subnet
from gancompress.metrics.distances import Estimate
from gancompress.search.budgets import Budget
from gancompress.search.evaluator import Evaluator
from gancompress.search.problem import Problem
from gancompress.search.trials import Trial

LEVELS = 64  # fractions of the full width that are tried for a uniform subnet


@dataclass(frozen=True)
class Answer:
    """What a search says about one budget.

    Attributes:
        budget: The bound.
        trial: The best subnet under it.
        cost: What that subnet costs, in the budget's unit.
        estimate: Its score on all search images, with a 95 % interval.
        num_images: How many these are.
        uniform: The dearest subnet under the budget whose layers all have about the same
            fraction of their width: what one would take without a search.
        uniform_cost: What that one costs.
        uniform_estimate: Its score on the same images.
    """

    budget: Budget
    trial: Trial
    cost: float
    estimate: Estimate
    num_images: int
    uniform: Subnet
    uniform_cost: float
    uniform_estimate: Estimate

    def as_json(self) -> dict[str, Any]:
        """Plain content."""
        return {
            **self.trial.as_json(details=False),
            "cost": self.cost,
            "limit": self.budget.limit,
            "estimate": _interval(self.estimate),
            "estimate_images": self.num_images,
            "uniform": {
                "subnet": str(self.uniform),
                "cost": self.uniform_cost,
                "estimate": _interval(self.uniform_estimate),
            },
        }

    @classmethod
    def from_json(cls, text: str, content: dict[str, Any]) -> Answer:
        """What `as_json` gave for the budget of this text."""
        uniform = content["uniform"]
        return cls(
            Budget(text.rpartition("=")[0], content["limit"]),
            Trial.from_json(content),
            content["cost"],
            _estimate(content["estimate"]),
            content["estimate_images"],
            Subnet(tuple(int(width) for width in uniform["subnet"].split("_"))),
            uniform["cost"],
            _estimate(uniform["estimate"]),
        )


def _interval(estimate: Estimate) -> list[float | None]:
    """Value and ends; None for the ends of a set too small to have any."""
    ends = (estimate.low, estimate.high)
    return [estimate.value, *(None if math.isnan(end) else end for end in ends)]


def _estimate(content: list[float | None]) -> Estimate:
    value, low, high = (math.nan if number is None else number for number in content)
    return Estimate(value, low, high)


def answers(
    problem: Problem, budgets: Sequence[Budget], trials: Sequence[Trial], evaluator: Evaluator
) -> list[Answer]:
    """The best trial under each budget, scored again on all images of an evaluator.

    A budget whose own subnets were not met by the search is answered by its cheapest subnet.

    Args:
        problem: Space and costs.
        budgets: What is asked for.
        trials: What was evaluated.
        evaluator: Of the whole search split.
    """
    space = problem.space
    genomes = space.genomes(trial.subnet for trial in trials)
    estimates: dict[Subnet, Estimate] = {}

    def estimate(subnet: Subnet) -> Estimate:
        if subnet not in estimates:
            estimates[subnet] = evaluator.estimate(subnet)
        return estimates[subnet]

    found = []
    for budget in budgets:
        costs = problem.values(genomes, budget.cost).tolist()
        trial, cost = _best_under(problem, budget, list(zip(trials, costs, strict=True)), evaluator)
        uniform, uniform_cost = uniform_under(problem, budget)
        found.append(
            Answer(
                budget,
                trial,
                cost,
                estimate(trial.subnet),
                len(evaluator.inputs),
                uniform,
                uniform_cost,
                estimate(uniform),
            )
        )
    return found


def _best_under(
    problem: Problem, budget: Budget, trials: Sequence[tuple[Trial, float]], evaluator: Evaluator
) -> tuple[Trial, float]:
    """The best complete trial under a budget, with its cost; ties go to the cheaper one."""
    fitting = [(t, cost) for t, cost in trials if t.complete and cost <= budget.limit]
    if not fitting:
        subnet, cost = problem.cheapest[budget.cost]
        return evaluator.measure(subnet), cost
    return min(fitting, key=lambda pair: (pair[0].loss, pair[1], pair[0].subnet.widths))


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
    """Subnets whose layers all have the widest candidate within one fraction of their width."""
    found: dict[Subnet, None] = {}
    for level in range(1, LEVELS + 1):
        widths = []
        for dimension in space.dimensions:
            room = dimension.full * level / LEVELS
            widths.append(
                max((c for c in dimension.choices if c <= room), default=dimension.choices[0])
            )
        found[Subnet(tuple(widths))] = None
    return list(found)
