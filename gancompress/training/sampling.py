"""Which subnets one step trains: a function of the options and of random numbers alone."""

from __future__ import annotations

import random
from collections.abc import Callable

from gancompress.config import SamplingOptions
from gancompress.elastic import SearchSpace, Subnet
from gancompress.tables import lookup


def _sandwich(space: SearchSpace, options: SamplingOptions, rng: random.Random) -> list[Subnet]:
    """The largest, `num_random` random ones and the smallest.

    Source: Yu & Huang, Universally Slimmable Networks, ICCV 2019.
    """
    middle = [space.sample(rng) for _ in range(options.num_random)]
    return [space.largest(), *middle, space.smallest()]


def _uniform(space: SearchSpace, options: SamplingOptions, rng: random.Random) -> list[Subnet]:
    """One random subnet."""
    return [space.sample(rng)]


SCHEDULES: dict[str, Callable[[SearchSpace, SamplingOptions, random.Random], list[Subnet]]] = {
    "sandwich": _sandwich,
    "uniform": _uniform,
}
"""Schedules by name."""


def sample_subnets(
    space: SearchSpace, options: SamplingOptions, rng: random.Random
) -> list[Subnet]:
    """The subnets of one step in the order in which they are trained.

    A space of one subnet gives that one, whatever the schedule.
    """
    if space.size == 1:
        return [space.largest()]
    return lookup(SCHEDULES, options.schedule, "sampling schedule")(space, options, rng)
