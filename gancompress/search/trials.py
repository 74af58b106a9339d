"""Trials: evaluated subnets, and the front of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from gancompress.elastic import Subnet
from gancompress.search.front import front_indices


@dataclass(frozen=True)
class Trial:
    """One evaluated subnet.

    Attributes:
        subnet: Which one.
        macs: Multiply-accumulates at the search's image size.
        loss: The metric, negated where higher is better: always lower is better. That of a trial
            which was given up is an estimate.
        scores: The metric, and what costs nothing beside it.
        num_images: Images it was evaluated on.
        complete: False where it was given up because another subnet is better for certain.
        values: Losses of single images in the evaluator's order; none for a distance between sets.
        seconds: Where the time went: forward, features, distance.
    """

    subnet: Subnet
    macs: int
    loss: float
    scores: dict[str, float]
    num_images: int = 0
    complete: bool = True
    values: tuple[float, ...] = field(default=(), compare=False)
    seconds: dict[str, float] = field(default_factory=dict, compare=False)

    def as_json(self, details: bool = True) -> dict[str, Any]:
        """Plain content; `details` are what the log needs and a summary does not."""
        content = {**asdict(self), "subnet": str(self.subnet)}
        if not details:
            del content["values"], content["seconds"]
        return content

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Trial:
        """What `as_json` gave.

        Raises:
            KeyError, TypeError, ValueError: It is something else.
        """
        known = {name: content[name] for name in ("macs", "loss", "scores")}
        more = {name: content[name] for name in ("num_images", "complete") if name in content}
        return cls(
            Subnet.of_text(content["subnet"]),
            **known,
            **more,
            values=tuple(content.get("values", ())),
            seconds=dict(content.get("seconds", {})),
        )


CostOf = Callable[[Trial], float]


def macs_of(trial: Trial) -> float:
    """The cost that every trial carries with it."""
    return float(trial.macs)


def pareto_front(trials: Iterable[Trial], cost: CostOf = macs_of) -> list[Trial]:
    """Complete trials that no other beats in both cost and loss, ascending in cost."""
    whole = sorted(
        (trial for trial in trials if trial.complete), key=lambda trial: trial.subnet.values
    )
    if not whole:
        return []
    costs = np.array([cost(trial) for trial in whole])
    losses = np.array([trial.loss for trial in whole])
    return [whole[index] for index in front_indices(costs, losses)]
