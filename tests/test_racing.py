"""Racing gives up what is surely worse, and hardly ever anything else."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from landscapes import chain_macs, make_space

from gancompress.search.problem import Problem
from gancompress.search.racing import MAX_RIVALS, Rival, checkpoints, expected_loss, rivals_of
from gancompress.search.trials import Trial

Floats = npt.NDArray[np.float64]


def losses(seed: int, count: int = 120) -> Floats:
    return 0.2 + 0.05 * np.random.default_rng(seed).standard_normal(count)


def rival(values: Floats) -> Rival:
    return Rival(float(values.mean()), values)


def test_checkpoints_are_shares_of_the_images_and_none_of_a_few() -> None:
    assert checkpoints(120) == (30, 60)
    assert checkpoints(40) == (10, 20)
    assert checkpoints(20) == (10,)
    assert checkpoints(12) == ()


def test_a_worse_subnet_is_given_up_with_an_estimate_of_its_loss() -> None:
    theirs = losses(0)
    noise = 0.01 * np.random.default_rng(9).standard_normal(120)
    ours = theirs + 0.03 + noise
    found = expected_loss(ours[:30], [rival(theirs)])
    assert found == pytest.approx(float(ours.mean()), abs=0.005)
    # these 30 images are easier than the others; their mean alone would flatter the subnet
    assert theirs[:30].mean() < theirs.mean() - 0.005
    assert abs(found - ours.mean()) < abs(ours[:30].mean() - ours.mean())


def test_a_better_or_equal_subnet_goes_on() -> None:
    theirs = losses(1)
    assert expected_loss(theirs[:30] - 0.01, [rival(theirs)]) is None
    assert expected_loss(theirs[:30], [rival(theirs)]) is None
    assert expected_loss(theirs[:30], []) is None


def test_any_rival_suffices() -> None:
    theirs = losses(2)
    better = theirs - 0.05
    noisy = theirs[:30] + 0.001 * np.random.default_rng(8).standard_normal(30)
    assert expected_loss(noisy, [rival(theirs), rival(better)]) is not None


def test_equal_subnets_are_hardly_ever_given_up() -> None:
    # one comparison in about 2,000 with 15 images; of these 3,000, about 1.5
    wrong = 0
    for seed in range(3000):
        pair = np.random.default_rng(seed).standard_normal((2, 15))
        wrong += expected_loss(pair[0], [rival(pair[1])]) is not None
    assert wrong <= 7


def test_rivals_are_the_best_that_cost_no_more() -> None:
    problem = Problem(make_space(2, 6), {"macs": chain_macs})
    subnets = problem.space.subnets(problem.space.genomes_at(np.arange(36)))
    costs = dict(zip(subnets, chain_macs(problem.space.genomes(subnets)).tolist(), strict=True))
    losses = np.random.default_rng(0).permutation(36).tolist()
    trials = [Trial(s, 1, loss, {}, values=(0.0,)) for s, loss in zip(subnets, losses, strict=True)]
    for subnet, rivals in rivals_of(problem, subnets, trials).items():
        cheaper = sorted(t.loss for t in trials if costs[t.subnet] <= costs[subnet])
        assert [one.loss for one in rivals] == cheaper[:MAX_RIVALS]
