"""Trials: evaluated subnets, and the front of them."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from operator import index
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
        complete: False where it was given up because another subnet is better for certain, or
            failed.
        failure: Why there is no score; the loss is infinite then.
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
    failure: str = ""

    def as_json(self, details: bool = True) -> dict[str, Any]:
        """Plain content; `details` are what the log needs and a summary does not."""
        content = {**asdict(self), "subnet": str(self.subnet)}
        if not details:
            del content["values"], content["seconds"]
        if not self.failure:
            del content["failure"]
        return content

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Trial:
        """What `as_json` gave.

        Raises:
            KeyError, TypeError, ValueError: It is something else.
        """
        macs, complete = index(content["macs"]), content.get("complete", True)
        if not 1 <= macs < 1 << 62 or not isinstance(complete, bool):
            raise ValueError("no trial")
        if content.get("failure"):
            raise ValueError("no score")
        return cls(
            Subnet.of_text(content["subnet"]),
            macs,
            number(content["loss"], infinite=True),
            numbers(content["scores"]),
            index(content.get("num_images", 0)),
            complete,
            tuple(number(value, infinite=True) for value in content.get("values", ())),
            numbers(content.get("seconds", {})),
        )


def number(value: Any, infinite: bool = False) -> float:
    """A number out of a file; never NaN.

    Args:
        value: What the file holds.
        infinite: Whether it may be infinite, as the PSNR of equal images is.

    Raises:
        TypeError, ValueError: It is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("no number")
    if not (abs(value) <= sys.float_info.max or (infinite and math.isinf(value))):
        raise ValueError("a number is not finite")
    return float(value)


def numbers(values: Any) -> dict[str, float]:
    """Named numbers out of a file.

    Raises:
        AttributeError, TypeError, ValueError: It is something else.
    """
    return {name: number(value, infinite=True) for name, value in values.items()}


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
