"""How much a subnet would move a front: expected hypervolume improvement at a known cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from gancompress.search.front import MARGIN, front_indices
from gancompress.search.problem import Floats


@dataclass(frozen=True, eq=False)
class StepFront:
    """A front as a step function: the best loss at or below each cost.

    Attributes:
        places: Where each step begins on the cost axis, (S,), ascending; the first is 0.
        levels: Best loss from there on, (S,), descending; the first is the reference loss.
        end: Where the axis ends: subnets beyond gain nothing.
    """

    places: Floats
    levels: Floats
    end: float = 1.0

    @classmethod
    def of(cls, places: Floats, losses: Floats) -> StepFront:
        """From trials; the reference lies a tenth of the front's range above it.

        Args:
            places: On the cost axis, 0 at the cheapest and 1 at the limit, (K,).
            losses: (K,), at least one of them finite.
        """
        worst = float(losses[np.isfinite(losses)].max())
        inside = places <= 1
        places, losses = places[inside], losses[inside]
        front = front_indices(places, losses)
        if not len(front):
            return cls(np.zeros(1), np.array([worst]))
        extent = float(np.ptp(losses[front])) or abs(float(losses[front[0]])) or 1.0
        reference = float(losses[front[0]]) + MARGIN * extent
        return cls(
            np.concatenate([[0.0], places[front]]), np.concatenate([[reference], losses[front]])
        )

    def added(self, place: float, loss: float) -> StepFront:
        """With one more trial."""
        if place > self.end:
            return self
        places = np.append(self.places, place)
        levels = np.append(self.levels, min(loss, self.levels[0]))
        order = np.lexsort((levels, places))
        places, levels = places[order], np.minimum.accumulate(levels[order])
        keep = np.concatenate([[True], np.diff(levels) < 0])
        keep[0] = True
        return StepFront(places[keep], levels[keep], self.end)

    def expected_gain(self, places: Floats, mean: Floats, std: Floats) -> Floats:
        """Expected growth of the dominated area, (M,).

        The cost is known, so the area is a sum over the steps to the right of it: width times
        expected improvement on the step's level. Sources: Jones et al., Efficient Global
        Optimization of Expensive Black-Box Functions, 1998, eq. 15; Emmerich et al., 2006.

        Args:
            places: On the cost axis, (M,).
            mean: Of the predicted losses, (M,).
            std: Likewise.
        """
        ends = np.append(self.places[1:], self.end)
        widths = np.maximum(ends - np.maximum(self.places, places[:, None]), 0)
        better = (self.levels - mean[:, None]) / std[:, None]
        density = np.exp(-(better**2) / 2) / np.sqrt(2 * np.pi)
        share = torch.special.ndtr(torch.from_numpy(better)).numpy()
        return np.asarray((widths * std[:, None] * (better * share + density)).sum(axis=1))
