"""What a search has found, as the parts of a report."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from gancompress.data import spread
from gancompress.elastic import Subnet
from gancompress.metrics.distances import Estimate
from gancompress.report import Front, Report, ScoredSubnet, Table, write_report
from gancompress.search.budgets import describe_cost
from gancompress.search.evaluator import Evaluator
from gancompress.search.result import Answer, SearchResult

NUM_PREVIEWS = 4  # a row of the page
_NAMES = {"params": "params", "size_mb": "MB"}


def cost_name(cost: str) -> str:
    """A cost as reports call it: `MB`, `ms on phone`."""
    kind, _, device = cost.partition("@")
    return f"ms on {device}" if device else _NAMES[kind]


def report_trials(result: SearchResult) -> dict[Subnet, ScoredSubnet]:
    """Every trial as a report knows it, by subnet."""
    others = [name for name in result.costs if name != "macs"]
    found = {}
    for index, trial in enumerate(result.trials):
        found[trial.subnet] = ScoredSubnet(
            str(trial.subnet),
            trial.macs,
            trial.scores[result.metric],
            {cost_name(name): result.costs[name][index] for name in others},
            trial.complete,
        )
    return found


def report_fronts(result: SearchResult) -> list[Front]:
    """The fronts against the latency on each device; MACs have the report's own."""
    known = report_trials(result)
    return [
        Front(cost_name(name), [known[trial.subnet] for trial in result.front_against(name)])
        for name in result.costs
        if name.startswith("latency_ms@")
    ]


def previews(evaluator: Evaluator, subnets: Iterable[Subnet]) -> dict[str, dict[str, Tensor]]:
    """What subnets make of a few inputs, beside the teacher.

    Returns:
        Config string to label to (3, H, W) uint8.
    """
    chosen = spread(len(evaluator.inputs), NUM_PREVIEWS)
    truth = None if evaluator.truth is None else evaluator.truth[chosen]
    few = replace(evaluator, inputs=evaluator.inputs[chosen], truth=truth, _references={})
    teacher = evaluator.references["teacher"][chosen]
    found: dict[str, dict[str, Tensor]] = {}
    taken, made = evaluator.kinds
    for subnet in subnets:
        columns = {
            "input": taken.preview(few.inputs),
            "teacher": made.preview(teacher),
            "subnet": made.preview(few.outputs(subnet)),
        }
        found[str(subnet)] = {
            f"{label} {number}": image
            for label, images in columns.items()
            for number, image in enumerate(images, 1)
        }
    return found


def front_subnets(result: SearchResult) -> list[Subnet]:
    """Members of any front, without repetitions."""
    fronts = [result.front, *(result.front_against(name) for name in result.costs)]
    return list(dict.fromkeys(trial.subnet for front in fronts for trial in front))


def answers_table(result: SearchResult) -> Table:
    """The best subnet under each budget, beside a uniform one of the same cost."""
    heads = ["budget", "subnet", "cost", result.metric, "uniform subnet", "cost", result.metric]
    images = result.answers[0].num_images if result.answers else 0
    better = "lower" if result.lower_is_better else "higher"
    caption = (
        f"{result.metric} on all {images} images of the search split ({better} is better), with a "
        "95 % bootstrap interval over images. The uniform subnet is the dearest under the budget "
        "whose layers all keep about the same fraction of their width: what one would take "
        "without a search."
    )
    rows = [_answer_cells(answer) for answer in result.answers]
    return Table("Best under each budget", heads, rows, caption)


def _answer_cells(answer: Answer) -> list[str]:
    cost = answer.budget.cost
    return [
        describe_cost(cost, answer.budget.limit),
        str(answer.trial.subnet),
        describe_cost(cost, answer.cost),
        _interval(answer.estimate),
        str(answer.uniform),
        describe_cost(cost, answer.uniform_cost),
        _interval(answer.uniform_estimate),
    ]


def _interval(estimate: Estimate) -> str:
    if math.isnan(estimate.low):
        return f"{estimate.value:.4g}"
    return f"{estimate.value:.4g} [{estimate.low:.4g}, {estimate.high:.4g}]"


def agreements(result: SearchResult) -> dict[str, str]:
    """How far what is cheaper than the score can be believed, in words."""
    found = {}
    if low := result.precision:
        found["precision"] = (
            f"{result.runtime} ranks {low['subnets']:.0f} subnets as float32 does with a Kendall "
            f"tau of {low['kendall_tau']:.2f}"
        )
    return found


def write_search_report(result: SearchResult, evaluator: Evaluator, path: Path, split: str) -> None:
    """The page of a search alone.

    Args:
        result: What was found.
        evaluator: Its images.
        path: The HTML file.
        split: Which images these are, in words.
    """
    known = report_trials(result)
    given_up = sum(not trial.complete for trial in result.trials)
    facts = {
        "images": f"{len(evaluator.inputs)} at {result.size}x{result.size}; {split}",
        "search": f"{len(result.trials)} subnets evaluated, {given_up} of them given up early"
        + (f"; {result.num_failed} more failed" if result.num_failed else ""),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}",
        "subnets run in": result.runtime,
    }
    facts |= agreements(result)
    report = Report(
        title="The front of subnets",
        facts=facts,
        metric=result.metric,
        lower_is_better=result.lower_is_better,
        rows=[],
        trials=list(known.values()),
        front=[known[trial.subnet] for trial in result.front],
        images=[],
        files={"trials": "trials.jsonl"},
        tables=[answers_table(result)],
        fronts=report_fronts(result),
        previews=previews(evaluator, front_subnets(result)),
    )
    write_report(report, path)
