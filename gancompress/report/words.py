"""What the page says of a trial: its costs and its score, with units."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from gancompress.report.content import MACS, Report, ScoredSubnet
from gancompress.report.text import counted, format_units, formatter

NumberFormat = Callable[[float], str]


@dataclass(frozen=True)
class Words:
    """How numbers of trials are written, the same in all plots, tables and panels.

    Attributes:
        metric: Name of the score.
        score: Its format.
        costs: Cost name to format, MACs first.
        counts: Names of the costs that are counts rather than measures.
    """

    metric: str
    score: NumberFormat
    costs: dict[str, NumberFormat]
    counts: frozenset[str]

    def cost(self, trial: ScoredSubnet, name: str) -> str:
        """A cost of a trial without its unit; nothing if nobody knows it."""
        value = trial.cost(name)
        return "" if value is None or not math.isfinite(value) else self.costs[name](value)

    def estimate(self, trial: ScoredSubnet) -> str:
        """The score of a trial; marked where it is an estimate."""
        score = self.score(trial.score)
        return score if trial.complete else f"about {score} (given up early)"

    def about(self, trial: ScoredSubnet) -> list[str]:
        """Config, costs and score of a trial, a line each."""
        texts = ((self.cost(trial, name), name) for name in self.costs)
        costs = [f"{text} {name}" for text, name in texts if text]
        return [trial.config, *costs, f"{self.metric} {self.estimate(trial)}"]


def words(report: Report) -> Words:
    """Formats that suit all trials and rows of a report."""
    trials = report.all_trials().values()
    values: dict[str, list[float]] = {}
    for trial in trials:
        for name, value in trial.costs.items():
            values.setdefault(name, []).append(value)
    counts = frozenset({MACS, *(name for name, numbers in values.items() if counted(numbers))})
    styles = {
        name: format_units if name in counts else formatter(numbers)
        for name, numbers in values.items()
    }
    scores = [trial.score for trial in trials]
    scores += [row.scores[report.metric] for row in report.rows if report.metric in row.scores]
    return Words(report.metric, formatter(scores), {MACS: format_units} | styles, counts)
