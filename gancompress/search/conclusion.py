"""What the trials of a search say: fronts, answers, and how far its helpers can be believed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gancompress.config import SearchOptions
from gancompress.search.answers import answers
from gancompress.search.evaluator import Evaluator
from gancompress.search.plan import Plan, search_split
from gancompress.search.result import SearchResult
from gancompress.search.searchers.regressor import kendall_tau
from gancompress.search.trials import Trial

PARTS = ("forward", "features", "distance")
COMPARED = 16  # subnets that are evaluated in float32, too, where the search took less


def conclude(
    options: SearchOptions,
    plan: Plan,
    evaluator: Evaluator,
    trials: list[Trial],
) -> SearchResult:
    """The result of a search."""
    quality = evaluator.quality
    costs = plan.everything.costs
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
        _precision(evaluator, trials),
    )


def _precision(evaluator: Evaluator, trials: Sequence[Trial]) -> dict[str, float]:
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
    whole.quality, whole.calibration = exact.quality, own.calibration
    whole.compiled = exact.compiled
    return whole
