"""Racing stops an evaluation early, as soon as another subnet is better for certain.

Source: Maron, Moore, Hoeffding races, NIPS 1994; here with a paired test on the same images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gancompress.elastic import Subnet
from gancompress.search.problem import Problem
from gancompress.search.trials import Trial

CHECKED_AFTER = (0.25, 0.5)  # shares of the images
MIN_IMAGES = 8
SIGMAS = 4.0
MAX_RIVALS = 16


@dataclass(frozen=True)
class Rival:
    """A completely evaluated subnet that costs no more.

    Attributes:
        loss: On all images.
        values: Losses of single images, (N,) float64; numpy, so that processes copy it.
    """

    loss: float
    values: npt.NDArray[np.float64]


def checkpoints(num_images: int) -> tuple[int, ...]:
    """Numbers of images after which `expected_loss` is asked; none for a few images."""
    counts = {round(share * num_images) for share in CHECKED_AFTER}
    return tuple(sorted(count for count in counts if MIN_IMAGES <= count < num_images))


def expected_loss(values: npt.NDArray[np.float64], rivals: Sequence[Rival]) -> float | None:
    """The loss of a subnet that is surely worse than a cheaper one, or None to go on.

    It is given up where its mean loss exceeds a rival's on the same images by more than `SIGMAS`
    standard errors of the paired difference. At 4 standard errors an equal subnet is given up
    about once in 2,000 comparisons with 15 images, and less often with more. The returned estimate
    is the rival's loss on all images plus that difference, so it can be compared with others.

    Args:
        values: Losses of the images so far, (n,) float64, the first of the rivals' images.
        rivals: Those to compare with.
    """
    count = len(values)
    for rival in rivals:
        difference = values - rival.values[:count]
        error = float(difference.std(ddof=1)) / count**0.5
        if float(difference.mean()) > SIGMAS * error > 0:
            return rival.loss + float(difference.mean())
    return None


def rivals_of(
    problem: Problem, generation: Sequence[Subnet], trials: Sequence[Trial]
) -> dict[Subnet, tuple[Rival, ...]]:
    """For each subnet of a generation the `MAX_RIVALS` best trials that cost no more on any axis.

    Args:
        problem: The space with all costs that a front is shown of.
        generation: What is to be evaluated.
        trials: Complete ones with losses of single images.
    """
    if not (trials and generation):
        return dict.fromkeys(generation, ())
    theirs = problem.space.genomes(trial.subnet for trial in trials)
    ours = problem.space.genomes(generation)
    cheaper = np.ones((len(generation), len(trials)), bool)
    for name in problem.costs:
        cheaper &= problem.values(theirs, name)[None] <= problem.values(ours, name)[:, None]
    made = [Rival(trial.loss, np.array(trial.values)) for trial in trials]
    order = np.argsort([rival.loss for rival in made], kind="stable")
    return {
        subnet: tuple(made[i] for i in order[row[order]][:MAX_RIVALS])
        for subnet, row in zip(generation, cheaper, strict=True)
    }
