"""What one step trains: a function of random numbers and of the training's progress alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gancompress.config import SamplingOptions
from gancompress.elastic import SearchSpace, Subnet, Supernet
from gancompress.losses.terms import View
from gancompress.tables import lookup
from gancompress.training.networks import SubnetView

Sampler = Callable[[random.Random, float], Sequence[View]]
"""Networks of one step, in the order in which they are trained, from random numbers and the share
of the training that is over, in [0, 1)."""


def _sandwich(
    space: SearchSpace, options: SamplingOptions, rng: random.Random, progress: float
) -> list[Subnet]:
    """The largest, `num_random` random ones and the smallest.

    Source: Yu & Huang, Universally Slimmable Networks, ICCV 2019.
    """
    middle = [space.sample(rng) for _ in range(options.num_random)]
    return [space.largest(), *middle, space.smallest()]


def _uniform(
    space: SearchSpace, options: SamplingOptions, rng: random.Random, progress: float
) -> list[Subnet]:
    """One random subnet."""
    return [space.sample(rng)]


SCHEDULES: dict[
    str, Callable[[SearchSpace, SamplingOptions, random.Random, float], list[Subnet]]
] = {
    "sandwich": _sandwich,
    "uniform": _uniform,
}
"""Schedules by name."""


@dataclass(frozen=True)
class SubnetSampler:
    """Subnets of a supernet, by the schedule that the options name.

    Attributes:
        net: The supernet.
        options: The schedule and its numbers.
    """

    net: Supernet
    options: SamplingOptions

    def __call__(self, rng: random.Random, progress: float) -> list[View]:
        """See `Sampler`; a space of one subnet gives that one, whatever the schedule."""
        space = self.net.space
        if space.size == 1:
            return [SubnetView(self.net, space.largest())]
        schedule = lookup(SCHEDULES, self.options.schedule, "sampling schedule")
        subnets = schedule(space, self.options, rng, progress)
        return [SubnetView(self.net, subnet) for subnet in subnets]
