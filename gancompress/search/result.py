"""What a search has found, and the file that holds it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from operator import index
from pathlib import Path
from typing import Any

from gancompress.checkpoint.run import RunFolder
from gancompress.config import read_json
from gancompress.elastic import Subnet
from gancompress.errors import ConfigError
from gancompress.hashes import check_listed
from gancompress.headers import MAX_SIDE
from gancompress.metrics.distances import Estimate
from gancompress.search.budgets import LATENCY, Budget
from gancompress.search.trials import Trial, number, numbers, pareto_front

COSTS = ("macs", "params", "size_mb")


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
            Budget(text.rpartition("=")[0], number(content["limit"])),
            Trial.from_json(content),
            number(content["cost"]),
            _estimate(content["estimate"]),
            index(content["estimate_images"]),
            Subnet.of_text(uniform["subnet"]),
            number(uniform["cost"]),
            _estimate(uniform["estimate"]),
        )


def _interval(estimate: Estimate) -> list[float | None]:
    """Value and ends; None for the ends of a set too small to have any."""
    ends = (estimate.low, estimate.high)
    return [estimate.value, *(None if math.isnan(end) else end for end in ends)]


def _estimate(content: list[float | None]) -> Estimate:
    value, low, high = (math.nan if end is None else number(end, infinite=True) for end in content)
    return Estimate(value, low, high)


@dataclass
class SearchResult:
    """What a search found.

    Attributes:
        metric: Name of the score.
        lower_is_better: Its direction.
        size: Side of the images in pixels.
        trials: All evaluated subnets, those that were given up among them.
        costs: Each cost of every trial, in their order: macs, params, size_mb, and the latency on
            every device.
        answers: The best under each budget, with intervals, beside uniform subnets.
        seconds: What evaluations took: forward, features, distance.
        predictor: What the searcher says of itself; empty for most.
        runtime: What the subnets ran in.
        precision: For a search in less than float32, Kendall's rank agreement with that, over how
            many subnets; else empty.
        num_failed: Subnets that could not be evaluated.
    """

    metric: str
    lower_is_better: bool
    size: int
    trials: list[Trial]
    costs: dict[str, list[float]]
    answers: list[Answer] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict, compare=False)
    predictor: dict[str, float] = field(default_factory=dict)
    runtime: str = "eager"
    precision: dict[str, float] = field(default_factory=dict)
    num_failed: int = 0

    @property
    def front(self) -> list[Trial]:
        """Trials that nothing beats in both MACs and score, ascending in MACs."""
        return pareto_front(self.trials)

    @property
    def chosen(self) -> dict[Budget, Trial]:
        """The best trial under each budget."""
        return {answer.budget: answer.trial for answer in self.answers}

    def front_against(self, cost: str) -> list[Trial]:
        """The front against any cost, ascending in it."""
        known = {t.subnet: c for t, c in zip(self.trials, self.costs[cost], strict=True)}
        return pareto_front(self.trials, lambda trial: known[trial.subnet])

    def as_json(self) -> dict[str, Any]:
        """Plain content for `done.json`."""
        return {
            "metric": self.metric,
            "lower_is_better": self.lower_is_better,
            "size": self.size,
            "num_trials": len(self.trials),
            "num_given_up": sum(not trial.complete for trial in self.trials),
            "num_failed": self.num_failed,
            "seconds": self.seconds,
            "predictor": self.predictor,
            "runtime": self.runtime,
            "precision": self.precision,
            "trials": [trial.as_json(details=False) for trial in self.trials],
            "costs": self.costs,
            "front": [trial.as_json(details=False) for trial in self.front],
            "chosen": {str(answer.budget): answer.as_json() for answer in self.answers},
        }


def load_result(run: Path) -> SearchResult:
    """The result of a finished search.

    Raises:
        ConfigError: The folder holds none, or one of another version.
    """
    path = RunFolder(run).done
    if not path.exists():
        raise ConfigError(f"{run} holds no finished search")
    check_listed(path)
    try:
        return _read(read_json(path))
    except (ConfigError, AttributeError, KeyError, TypeError, ValueError):
        raise ConfigError(
            f"{path} is not the result of a search of this version; delete it and search again: "
            "the trials are kept"
        ) from None


def _read(content: dict[str, Any]) -> SearchResult:
    """What `SearchResult.as_json` gave; anything else raises one of several types."""
    trials = [Trial.from_json(entry) for entry in content["trials"]]
    costs = {name: [number(cost) for cost in given] for name, given in content["costs"].items()}
    metric, runtime, size = content["metric"], content["runtime"], index(content["size"])
    precision = numbers(content["precision"])
    wrong = [name for name, given in costs.items() if len(given) != len(trials)]
    wrong += [name for name in costs if name not in COSTS and not name.startswith(f"{LATENCY}@")]
    wrong += [str(trial.subnet) for trial in trials if metric not in trial.scores]
    named = isinstance(metric, str) and isinstance(runtime, str)
    if wrong or not named or "macs" not in costs or not 1 <= size <= MAX_SIDE:
        raise ValueError("no result of a search")
    if precision and precision.keys() != {"kendall_tau", "subnets"}:
        raise ValueError("no precision")
    return SearchResult(
        metric,
        bool(content["lower_is_better"]),
        size,
        trials,
        costs,
        [Answer.from_json(text, entry) for text, entry in content["chosen"].items()],
        numbers(content["seconds"]),
        numbers(content["predictor"]),
        runtime,
        precision,
        index(content.get("num_failed", 0)),
    )
