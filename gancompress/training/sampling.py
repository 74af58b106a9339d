"""What one step trains: a function of random numbers and of the training's progress alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gancompress.config import SamplingOptions
from gancompress.elastic import Dimension, SearchSpace, Subnet, Supernet
from gancompress.errors import ConfigError
from gancompress.losses.terms import View
from gancompress.tables import lookup
from gancompress.training.networks import SubnetView

Sampler = Callable[[random.Random, float], Sequence[View]]
"""Networks of one step, in the order in which they are trained, from random numbers and the share
of the training that is over, in [0, 1)."""


def _sandwich(space: SearchSpace, options: SamplingOptions, rng: random.Random) -> list[Subnet]:
    """The largest, `num_random` random ones and the smallest.

    Source: Yu & Huang, Universally Slimmable Networks, ICCV 2019.
    """
    middle = [space.sample(rng) for _ in range(options.num_random)]
    return [space.largest(), *middle, space.smallest()]


def _uniform(space: SearchSpace, options: SamplingOptions, rng: random.Random) -> list[Subnet]:
    """`num_random` random ones, at least one."""
    return [space.sample(rng) for _ in range(max(1, options.num_random))]


SCHEDULES: dict[str, Callable[[SearchSpace, SamplingOptions, random.Random], list[Subnet]]] = {
    "sandwich": _sandwich,
    "uniform": _uniform,
}
"""Schedules by name: which subnets of a space one step trains."""


@dataclass(frozen=True)
class SubnetSampler:
    """Subnets of a supernet, by the schedule that the options name, from what is free so far.

    Attributes:
        net: The supernet.
        options: The schedule and its numbers.

    Raises:
        ConfigError: A phase frees a kind of dimension that the space does not have.
    """

    net: Supernet
    options: SamplingOptions

    def __post_init__(self) -> None:
        elastic = {d.kind for d in self.net.space.dimensions if len(d.choices) > 1}
        for kind in self.options.phases.keys() - elastic:
            raise ConfigError(
                f"sampling.phases.{kind}: the search space has nothing of this kind to choose from"
            )

    def __call__(self, rng: random.Random, progress: float) -> list[View]:
        """See `Sampler`; a space of one subnet gives that one, whatever the schedule."""
        space = free_space(self.net.space, self.options, progress)
        if space.size == 1:
            return [SubnetView(self.net, space.largest())]
        schedule = lookup(SCHEDULES, self.options.schedule, "sampling schedule")
        return [SubnetView(self.net, subnet) for subnet in schedule(space, self.options, rng)]


def free_space(space: SearchSpace, options: SamplingOptions, progress: float) -> SearchSpace:
    """The candidates that `phases` allows so far, the largest ones of each dimension.

    Source: progressive shrinking, Cai et al., Once-for-All, ICLR 2020, section 3.3.

    Args:
        space: All candidates.
        options: With the shares of the training at which further candidates become free.
        progress: Share of the training that is over, in [0, 1).
    """

    def freed(dimension: Dimension) -> Dimension:
        shares = options.phases.get(dimension.kind, ())
        smaller = len(dimension.choices) - 1
        reached = sum(progress >= share for share in shares)
        free = -(-smaller * reached // len(shares)) if shares else smaller
        return replace(dimension, choices=dimension.choices[smaller - free :])

    return replace(space, dimensions=tuple(map(freed, space.dimensions)))
