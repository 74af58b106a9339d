"""Fronts, ranks, crowding and hypervolume against their definitions, point by point."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from gancompress.search.front import (
    Floats,
    Frame,
    best_first,
    crowding,
    front_indices,
    growth,
    has_settled,
    hypervolume,
    ranks,
)

SQUARE = Frame(0.0, 1.0, 0.0, 1.0, log=False)


def points(seed: int, count: int = 60) -> tuple[Floats, Floats]:
    """On a coarse grid, so that there are equal costs, equal losses and equal points."""
    drawn = np.random.default_rng(seed).integers(0, 12, (2, count)) / 12
    return drawn[0], drawn[1]


def dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    no_worse = one[0] <= other[0] and one[1] <= other[1]
    return no_worse and one != other


def peeled(pairs: list[tuple[float, float]]) -> list[int]:
    """Ranks by their definition: take away what nothing left dominates, again and again."""
    rank = [-1] * len(pairs)
    for number in itertools.count():
        left = [i for i, r in enumerate(rank) if r < 0]
        if not left:
            return rank
        for i in left:
            if not any(dominates(pairs[j], pairs[i]) for j in left):
                rank[i] = -2
        rank = [number if r == -2 else r for r in rank]
    raise AssertionError


@pytest.mark.parametrize("seed", range(5))
def test_ranks_are_those_of_the_definition(seed: int) -> None:
    costs, losses = points(seed)
    pairs = list(zip(costs.tolist(), losses.tolist(), strict=True))
    assert ranks(costs, losses).tolist() == peeled(pairs)


@pytest.mark.parametrize("seed", range(5))
def test_front_holds_each_undominated_point_once(seed: int) -> None:
    costs, losses = points(seed)
    pairs = list(zip(costs.tolist(), losses.tolist(), strict=True))
    wanted = sorted({p for p in pairs if not any(dominates(q, p) for q in pairs)})
    found = front_indices(costs, losses)
    assert [pairs[i] for i in found] == wanted
    assert all(pairs.index(pairs[i]) == i for i in found)  # the first of equal ones


def test_failed_trials_are_on_no_front_and_rank_last() -> None:
    costs = np.array([1.0, 2.0, 3.0, 4.0])
    losses = np.array([np.inf, 5.0, np.nan, 4.0])
    assert front_indices(costs, losses).tolist() == [1, 3]
    assert front_indices(costs[:1], losses[:1]).tolist() == []
    assert ranks(costs[[0, 1, 3]], losses[[0, 1, 3]]).tolist() == [1, 0, 0]
    assert ranks(costs[:1], losses[:1]).tolist() == [0]


def test_crowding_is_the_sum_of_the_neighbours_distances() -> None:
    costs, losses = np.array([0.0, 1.0, 4.0, 10.0]), np.array([8.0, 5.0, 4.0, 0.0])
    shuffled = [2, 0, 3, 1]
    wanted = [np.inf, 4 / 10 + 4 / 8, 9 / 10 + 5 / 8, np.inf]
    found = crowding(costs[shuffled], losses[shuffled])
    np.testing.assert_allclose(found, np.array(wanted)[shuffled])
    assert crowding(np.empty(0), np.empty(0)).tolist() == []
    assert crowding(np.ones(1), np.ones(1)).tolist() == [np.inf]


@pytest.mark.parametrize("seed", range(3))
def test_best_first_goes_front_by_front_and_ends_first(seed: int) -> None:
    costs, losses = points(seed)
    order = best_first(costs, losses)
    assert sorted(order) == list(range(len(costs)))
    rank = ranks(costs, losses)[order]
    assert (np.diff(rank) >= 0).all()
    front = order[rank == 0]
    ends = {float(costs[front].min()), float(costs[front].max())}
    firsts = {float(costs[i]) for i in front[:2]}
    assert firsts == ends


@pytest.mark.parametrize("seed", range(5))
def test_hypervolume_is_the_share_of_cells_that_a_point_dominates(seed: int) -> None:
    """On a grid of twelfths the area is a count of cells."""
    costs, losses = points(seed, 10)
    cells = itertools.product(range(12), repeat=2)
    pairs = list(zip(costs.tolist(), losses.tolist(), strict=True))
    inside = sum(
        any(c <= (x + 0.5) / 12 and loss <= (y + 0.5) / 12 for c, loss in pairs) for x, y in cells
    )
    assert hypervolume(costs, losses, SQUARE) == pytest.approx(inside / 144)


def test_hypervolume_counts_a_factor_in_cost_alike_everywhere() -> None:
    frame = Frame(1e9, 16e9, 0.0, 1.0)
    losses = np.zeros(1)
    assert hypervolume(np.array([2e9]), losses, frame) == pytest.approx(0.75)
    assert hypervolume(np.array([4e9]), losses, frame) == pytest.approx(0.5)
    plain = Frame(1e9, 16e9, 0.0, 1.0, log=False)
    assert hypervolume(np.array([8.5e9]), losses, plain) == pytest.approx(0.5)


def test_points_beyond_the_reference_add_nothing() -> None:
    costs, losses = np.array([0.5, 0.2, 1.5]), np.array([0.5, 1.2, 0.0])
    assert hypervolume(costs, losses, SQUARE) == pytest.approx(0.25)
    assert hypervolume(costs[1:], losses[1:], SQUARE) == 0


def test_frame_lies_around_the_front_within_the_limit() -> None:
    costs, losses = np.array([1.0, 2.0, 4.0, 3.0, 9.0]), np.array([5.0, 3.0, 1.0, 8.0, 0.0])
    frame = Frame.around(costs, losses, limit=5.0, margin=0.1)
    assert (frame.low_cost, frame.high_cost, frame.low_loss) == (1.0, 4.0, 1.0)
    assert frame.high_loss == pytest.approx(5.4)
    alone = Frame.around(costs[:1], losses[:1])
    assert hypervolume(costs[:1], losses[:1], alone) == pytest.approx(1.0)


def test_search_settles_when_no_front_grows_any_more() -> None:
    costs, losses = np.array([1.0, 4.0, 2.0, 3.0, 3.5]), np.array([4.0, 1.0, 2.0, 3.0, 2.9])
    volumes = growth(costs, losses, [2, 3, 4, 5], Frame.around(costs, losses))
    assert (np.diff(volumes) >= 0).all()
    assert not has_settled(volumes[:2], 2, 0.001)  # too few generations
    assert not has_settled(volumes[:3], 2, 0.001)
    assert has_settled(volumes, 2, 0.001)
    moving = np.linspace(0.5, 1, len(volumes))
    assert not has_settled(np.stack([volumes, moving], axis=1), 2, 0.001)


def test_ranks_of_thousands_take_no_time() -> None:
    drawn = np.random.default_rng(0).random((2, 5000))
    rank = ranks(drawn[0], drawn[1])
    assert rank.max() < 4 * math.sqrt(5000)
    assert (rank == 0).sum() == len(front_indices(drawn[0], drawn[1]))
