"""Search problems whose every answer is known: shapes that qualities of real supernets have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from gancompress.elastic import SearchSpace, Subnet, Width
from gancompress.elastic.space import Genomes
from gancompress.search.front import Floats, Frame, front_indices, hypervolume
from gancompress.search.problem import Problem
from gancompress.search.searchers import Evolution, Searcher, generation_rng

WIDTHS = (16, 24, 32, 48, 64, 96)
ROUNDS = 30  # of the published procedure for several budgets, before it is given up


def make_space(dimensions: int = 6, candidates: int = 4) -> SearchSpace:
    """`candidates` to the power of `dimensions` subnets."""
    choices = WIDTHS[:candidates]
    names = [f"group{i}" for i in range(dimensions)]
    return SearchSpace(tuple(Width((name,), choices[-1], choices) for name in names))


def chain_macs(genomes: Genomes) -> Floats:
    """Layer after layer, at resolutions that fall to a quarter and rise again."""
    channels = np.concatenate([np.full((len(genomes), 1), 3), genomes], axis=1)
    layers = channels.shape[1] - 1
    positions = 4.0 ** -np.minimum(np.arange(layers), 2) * 65536
    positions[-1] *= 4
    return (channels[:, :-1] * channels[:, 1:] * positions * 9).sum(axis=1)


@dataclass(frozen=True)
class Landscape:
    """Losses of all subnets.

    Attributes:
        space: The space.
        loss: From genomes to losses.
    """

    space: SearchSpace
    loss: Callable[[Genomes], Floats]


def make_landscape(name: str, seed: int, space: SearchSpace, noise: float = 0.0) -> Landscape:
    """One of `SHAPES` with coefficients of its own for every seed.

    Args:
        name: The shape.
        seed: Of sensitivities, which differ by a factor of about ten, and of the noise.
        space: The space.
        noise: Relative standard deviation of an error that every subnet has for itself.
    """
    shape = SHAPES[name]
    rng = np.random.default_rng([seed, sum(map(ord, name))])
    sensitivity = 10 ** rng.uniform(-1, 0, len(space))
    power = rng.uniform(0.5, 1.5, len(space))
    full = np.array([dimension.full for dimension in space.dimensions])

    def loss(genomes: Genomes) -> Floats:
        exact = shape(genomes / full, sensitivity, power)
        if not noise:
            return exact
        drawn = [np.random.default_rng([seed, *row]).standard_normal() for row in genomes.tolist()]
        return exact * (1 + noise * np.array(drawn))

    return Landscape(space, loss)


def _sum(share: Floats, sensitivity: Floats, power: Floats) -> Floats:
    """Every layer for itself, with diminishing returns."""
    return 1 + (sensitivity * share**-power).sum(axis=1)


def _bottleneck(share: Floats, sensitivity: Floats, power: Floats) -> Floats:
    """The narrowest layer, weighed by its sensitivity, counts most."""
    return 1 + ((sensitivity * share**-power) ** 4).sum(axis=1) ** 0.25


def _pairs(share: Floats, sensitivity: Floats, power: Floats) -> Floats:
    """Neighbours that are both narrow are worse than the sum; wide ones saturate."""
    lack = sensitivity * (1 - share**power)
    alone = lack.sum(axis=1) + 3 * (lack[:, :-1] * lack[:, 1:]).sum(axis=1)
    return 0.3 + np.tanh(alone / 2)


def _uneven(share: Floats, sensitivity: Floats, power: Floats) -> Floats:
    """As the sum, but some widths were trained less: wider is not always better."""
    bump = np.where((share > 0.4) & (share < 0.6), 0.25, 0.0) * (power > 1)
    return 1 + (sensitivity * (share**-power + bump)).sum(axis=1)


SHAPES = {"sum": _sum, "bottleneck": _bottleneck, "pairs": _pairs, "uneven": _uneven}


@dataclass(frozen=True)
class Found:
    """A trial."""

    subnet: Subnet
    loss: float


@dataclass
class History:
    """How a search went against the exhaustive front.

    Attributes:
        trials: In order of evaluation.
        shares: Hypervolume as a share of the exhaustive one, after each generation.
        ends: Number of trials at the end of each generation.
        proposed: Subnets that were proposed; one proposed twice is evaluated once.
    """

    trials: list[Found] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    proposed: int = 0

    def needed(self, share: float = 0.99) -> float:
        """Evaluations until the hypervolume reached this share, to a generation."""
        reached = [end for end, now in zip(self.ends, self.shares, strict=True) if now >= share]
        return reached[0] if reached else np.inf


class Table:
    """All subnets of a problem that fit, evaluated.

    The frame is that of the exhaustive front without a margin: its cheapest and its dearest
    subnet mark the corners, so that no area is had for nothing.
    """

    def __init__(
        self, problem: Problem, loss: Callable[[Genomes], Floats], cost: str = "macs"
    ) -> None:
        self.problem = problem
        self.cost = cost
        self.genomes = problem.space.genomes_at(problem.fitting)
        self.losses = loss(self.genomes)
        self.costs = problem.values(self.genomes, cost)
        self.by_subnet = dict(
            zip(problem.space.subnets(self.genomes), self.losses.tolist(), strict=True)
        )
        front = front_indices(self.costs, self.losses)
        self.frame = Frame.around(self.costs[front], self.losses[front], margin=0)
        self.volume = hypervolume(self.costs, self.losses, self.frame)

    def share(self, trials: Sequence[Found]) -> float:
        """Hypervolume of some trials, of the exhaustive front's."""
        genomes = self.problem.space.genomes(trial.subnet for trial in trials)
        losses = np.array([trial.loss for trial in trials])
        return (
            hypervolume(self.problem.values(genomes, self.cost), losses, self.frame) / self.volume
        )

    def search(self, searcher: Searcher, seed: int, limit: int, until: float = 2.0) -> History:
        """Up to `limit` evaluations, or until the share of the hypervolume is reached."""
        history = History()
        while len(history.trials) < limit:
            rng = generation_rng(seed, len(history.trials))
            proposals = searcher.propose(self.problem, history.trials, rng)
            if not proposals:
                break
            proposals = proposals[: limit - len(history.trials)]
            history.proposed += len(proposals)
            history.trials += [Found(subnet, self.by_subnet[subnet]) for subnet in proposals]
            history.ends.append(len(history.trials))
            history.shares.append(self.share(history.trials))
            if history.shares[-1] >= until:
                break
        return history

    def search_budgets(self, budgets: int, seed: int, limit: int, until: float = 2.0) -> History:
        """The published procedure, once for each of some budgets evenly spread, in turn.

        A generation of each at a time; what one run evaluated costs the others nothing.
        """
        name, space = self.cost, self.problem.space
        limits = np.geomspace(*self.problem.span(name), budgets + 1)[1:]
        problems = [Problem(space, self.problem.costs, {name: x}) for x in limits.tolist()]
        runs: list[list[Found]] = [[] for _ in problems]
        history, known = History(), set[Subnet]()
        for turn in range(budgets * ROUNDS):
            number = turn % budgets
            trials = runs[number]
            rng = generation_rng(seed * budgets + number, len(trials))
            proposals = Evolution(spread=False).propose(problems[number], trials, rng)
            made = [Found(subnet, self.by_subnet[subnet]) for subnet in proposals]
            trials += made
            history.proposed += len(made)
            history.trials += [trial for trial in made if trial.subnet not in known]
            known |= {trial.subnet for trial in made}
            history.ends.append(len(history.trials))
            history.shares.append(self.share(history.trials))
            if history.shares[-1] >= until or len(history.trials) >= limit:
                break
        return history
