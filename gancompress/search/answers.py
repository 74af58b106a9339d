"""The answers of a search: the best subnet under each budget, and whether the search paid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gancompress.elastic import SearchSpace, Subnet
from gancompress.metrics.distances import Estimate
from gancompress.search.budgets import Budget
from gancompress.search.evaluator import Evaluator
from gancompress.search.problem import Problem
from gancompress.search.trials import Trial

CONTENDERS = 4  # trials with rough scores that are scored again under each budget
LEVELS = 64  # fractions of the full width that are tried for a uniform subnet


@dataclass(frozen=True)
class Answer:
    """What a search says about one budget.

    Attributes:
        budget: The bound.
        trial: The best subnet under it, with its score in the search.
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
    problem: Problem,
    budgets: Sequence[Budget],
    trials: Sequence[Trial],
    evaluator: Evaluator,
    rough: bool = False,
) -> list[Answer]:
    """The best subnet under each budget, with its score on all images of an evaluator.

    Where the trials saw the same images in the same precision, their own losses decide. Rough ones,
    of fewer images or in bfloat16, do not: the best of many rough losses owes its place to luck as
    well. So the best `CONTENDERS` trials under a budget and its uniform subnet are scored again, a
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
    judge = _Judge(problem, [trial for trial in trials if trial.complete], evaluator, rough)
    return [judge.answer(budget) for budget in budgets]


@dataclass(frozen=True)
class _Judge:
    """Scores subnets again, each one once.

    Attributes:
        problem: See `answers`.
        trials: Complete ones.
        evaluator: See `answers`.
        rough: See `answers`.
        estimates: What has been scored again.
    """

    problem: Problem
    trials: Sequence[Trial]
    evaluator: Evaluator
    rough: bool
    estimates: dict[Subnet, Estimate] = field(default_factory=dict)

    def answer(self, budget: Budget) -> Answer:
        """See `answers`."""
        rated = self._first(budget)
        uniform, uniform_cost = uniform_under(self.problem, budget)
        if self.rough or all(trial.subnet != uniform for trial in self.trials):
            rated.append((uniform, uniform_cost))
        subnet, cost = min(rated, key=self._place)
        return Answer(
            budget,
            self._trial(subnet),
            cost,
            self._estimate(subnet),
            len(self.evaluator.inputs),
            uniform,
            uniform_cost,
            self._estimate(uniform),
        )

    def _first(self, budget: Budget) -> list[tuple[Subnet, float]]:
        """The best trials under a budget with their costs, or its cheapest subnet."""
        genomes = self.problem.space.genomes(trial.subnet for trial in self.trials)
        costs = self.problem.values(genomes, budget.cost).tolist()
        pairs = zip(self.trials, costs, strict=True)
        fitting = [(trial, cost) for trial, cost in pairs if cost <= budget.limit]
        fitting.sort(key=lambda pair: (pair[0].loss, pair[1], pair[0].subnet.widths))
        first = fitting[: CONTENDERS if self.rough else 1]
        return [(trial.subnet, cost) for trial, cost in first] or [
            self.problem.cheapest[budget.cost]
        ]

    def _place(self, pair: tuple[Subnet, float]) -> tuple[float, float, tuple[int, ...]]:
        subnet, cost = pair
        value = self.evaluator.quality.sign * self._estimate(subnet).value
        return value, cost, subnet.widths

    def _estimate(self, subnet: Subnet) -> Estimate:
        if subnet not in self.estimates:
            self.estimates[subnet] = self.evaluator.estimate(subnet)
        return self.estimates[subnet]

    def _trial(self, subnet: Subnet) -> Trial:
        """Its trial in the search, or what its estimate makes of one."""
        for trial in self.trials:
            if trial.subnet == subnet:
                return trial
        quality, value = self.evaluator.quality, self._estimate(subnet).value
        macs = self.evaluator.net.macs(subnet, self.evaluator.size)
        scores = {quality.name: value}
        return Trial(subnet, macs, quality.sign * value, scores, len(self.evaluator.inputs))


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
