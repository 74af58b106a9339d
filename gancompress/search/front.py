"""Fronts in (cost, loss), both lower is better: ranks, spread, hypervolume, when to stop.

Arrays `costs` and `losses` have shape (K,), one number for each trial. With several costs there
is one front for each, over the trials within that cost's limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]

MARGIN = 0.1  # of the front's range of losses, between its worst loss and the reference


def front_indices(costs: Floats, losses: Floats) -> Integers:
    """Trials that no other beats, ascending in cost and descending in loss.

    Of trials equal in both, the first. A loss that is not a number is never on the front.
    """
    order = np.lexsort((losses, costs))
    order = order[~np.isnan(losses[order])]
    before = np.minimum.accumulate(np.concatenate([[np.inf], losses[order][:-1]]))
    return order[losses[order] < before[: len(order)]]


def ranks(costs: Floats, losses: Floats) -> Integers:
    """Number of fronts to take away before a trial is on the front, (K,).

    Source: Deb et al., A fast and elitist multiobjective genetic algorithm, 2002; in two
    dimensions a front is one running minimum over the sorted trials.
    """
    points, inverse = np.unique(np.stack([costs, losses], axis=1), axis=0, return_inverse=True)
    rank = np.empty(len(points), np.int64)
    left = np.arange(len(points))  # ascending in cost, then in loss
    front = 0
    while len(left):
        values = points[left, 1]
        before = np.minimum.accumulate(np.concatenate([[np.inf], values[:-1]]))
        best = values < before
        if not best.any():  # infinite losses only
            best[:] = True
        rank[left[best]] = front
        left = left[~best]
        front += 1
    return rank[inverse]


def crowding(costs: Floats, losses: Floats) -> Floats:
    """Distance between a trial's neighbours on one front, (K,); infinite at its ends.

    The sum over both axes, each as a share of the front's range; an axis of infinite values does
    not count. Source: as `ranks`.
    """
    distance = np.zeros(len(costs))
    for values in (costs, losses):
        if not len(values) or not np.isfinite(values).all():
            continue
        order = np.argsort(values, kind="stable")
        inner, ends = order[1:-1], order[[0, -1]]
        extent = np.ptp(values)
        if extent > 0:
            distance[inner] += (values[order[2:]] - values[order[:-2]]) / extent
        distance[ends] = np.inf
    return distance


def best_first(costs: Floats, losses: Floats) -> Integers:
    """Trials front by front, within a front the least crowded first; ties in their order."""
    rank = ranks(costs, losses)
    spread = np.zeros(len(costs))
    for front in range(int(rank.max(initial=-1)) + 1):
        members = rank == front
        spread[members] = crowding(costs[members], losses[members])
    return np.lexsort((-spread, rank))


@dataclass(frozen=True)
class Frame:
    """The rectangle in which a hypervolume is measured.

    Attributes:
        low_cost: Cost whose place on the axis is 0.
        high_cost: The reference: its place is 1; dearer trials count nothing.
        low_loss: Loss whose place is 0.
        high_loss: The reference: its place is 1; worse trials count nothing.
        log: Whether the cost axis is logarithmic, so that a factor in cost counts the same
            everywhere.
    """

    low_cost: float
    high_cost: float
    low_loss: float
    high_loss: float
    log: bool = True

    @classmethod
    def around(cls, costs: Floats, losses: Floats, limit: float = np.inf, margin: float = MARGIN,
               log: bool = True) -> Frame:  # fmt: skip
        """From the cheapest trial to the limit or the dearest; losses of the front.

        The reference loss lies above the front's worst loss by a share `margin` of its range.
        """
        inside = costs <= limit
        costs, losses = costs[inside], losses[inside]
        front = losses[front_indices(costs, losses)]
        extent = float(np.ptp(front)) or abs(float(front[0])) or 1.0
        high = min(limit, float(costs.max()))
        return cls(
            float(costs.min()), high, float(front.min()), float(front.max()) + margin * extent, log
        )

    def cost_places(self, costs: Floats) -> Floats:
        """Costs on the axis: 0 at the lowest, 1 at the reference."""
        low, high = self.low_cost, self.high_cost
        if high <= low:
            return np.where(costs <= high, 0.0, 2.0)
        if self.log:
            return np.asarray(np.log(costs / low) / np.log(high / low), np.float64)
        return (costs - low) / (high - low)

    def loss_places(self, losses: Floats) -> Floats:
        """Losses on the axis: 0 at the lowest, 1 at the reference."""
        return (losses - self.low_loss) / (self.high_loss - self.low_loss)


def hypervolume(costs: Floats, losses: Floats, frame: Frame) -> float:
    """Share of the frame's unit square that the trials dominate; above 1 beyond its corner."""
    places, heights = frame.cost_places(costs), frame.loss_places(losses)
    inside = (places < 1) & (heights < 1)
    places, heights = places[inside], heights[inside]
    front = front_indices(places, heights)
    widths = np.diff(np.append(places[front], 1.0))
    return float((widths * (1 - heights[front])).sum())


def growth(costs: Floats, losses: Floats, ends: Sequence[int], frame: Frame) -> Floats:
    """Hypervolume after each generation, (len(ends),).

    Args:
        costs: In order of evaluation.
        losses: Likewise.
        ends: Number of trials at the end of each generation, ascending.
        frame: The same for all, or they could not be compared.
    """
    return np.array([hypervolume(costs[:end], losses[:end], frame) for end in ends])


def has_settled(volumes: Floats, generations: int, tolerance: float) -> bool:
    """Whether no front has moved in the last generations.

    Args:
        volumes: Hypervolume after each generation, (G,), or (G, F) for F fronts.
        generations: How many may pass without a gain.
        tolerance: Relative gain over all of them together that counts as none, such as 0.001.
    """
    if len(volumes) <= generations:
        return False
    before, now = volumes[-1 - generations], volumes[-1]
    return bool(np.all(now - before <= tolerance * now))
