"""Which subnets the steps of a training are made of: schedules, and phases of what is free."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import make_paired
from torch import Tensor, nn

from gancompress.config import SamplingOptions
from gancompress.elastic import Depth, KernelSize, SearchSpace, Subnet, Supernet, Width
from gancompress.errors import ConfigError
from gancompress.training.loop import Trainer
from gancompress.training.networks import SubnetView
from gancompress.training.sampling import SCHEDULES, SubnetSampler, free_space
from runs import (
    Crash,
    at_call,
    crash,
    fingerprints,
    log_lines,
    supernet_options,
    tiny_generator,
    train_supernet,
)

CPU = torch.device("cpu")
NET = Supernet(tiny_generator(), torch.empty(1, 3, 16, 16), widths=(0.5, 1.0), divisor=2)


def sampled(schedule: Any, seed: int, count: int = 3, net: Supernet = NET) -> list[Subnet]:
    sampler = SubnetSampler(net, SamplingOptions(schedule=schedule, num_random=count))
    views = sampler(random.Random(seed), 0.5)
    assert all(isinstance(view, SubnetView) and view.net is net for view in views)
    return [view.subnet for view in views if isinstance(view, SubnetView)]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_subnets_of_a_step_depend_on_its_random_numbers_alone(schedule: str) -> None:
    drawn = [sampled(schedule, seed) for seed in range(30)]
    state = random.getstate()
    random.seed(99)
    again = [sampled(schedule, seed) for seed in range(30)]
    random.setstate(state)
    assert drawn == again
    assert len({tuple(subnets) for subnets in drawn}) > 1


@pytest.mark.parametrize("count", [0, 1, 4])
def test_sandwich_is_the_largest_random_ones_and_the_smallest(count: int) -> None:
    first, *middle, last = sampled("sandwich", 0, count)
    assert (first, last) == (NET.space.largest(), NET.space.smallest())
    rng = random.Random(0)
    assert middle == [NET.space.sample(rng) for _ in range(count)]


def test_uniform_schedule_reaches_every_subnet() -> None:
    drawn = [sampled("uniform", seed, 2) for seed in range(30 * NET.space.size)]
    assert {len(subnets) for subnets in drawn} == {2}
    counts = Counter(subnet for subnets in drawn for subnet in subnets)
    assert len(counts) == NET.space.size
    assert min(counts.values()) > 30


def test_uniform_schedule_trains_one_subnet_at_least() -> None:
    assert len(sampled("uniform", 0, 0)) == 1


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_space_of_one_subnet_is_trained_as_it_is(schedule: str) -> None:
    alone = Supernet(tiny_generator(), torch.empty(1, 3, 16, 16), widths=(1.0,), divisor=1)
    assert sampled(schedule, 0, net=alone) == [alone.space.largest()]


SPACE = SearchSpace(
    (
        Width(("a",), 64, (8, 16, 32, 64)),
        Width(("b",), 64, (16, 64), uses=(((2, 2),),)),
        Depth(("x", "y", "z"), 3, (1, 2, 3)),
        KernelSize(("a",), 7, (3, 5, 7)),
    )
)
PHASES = {"kernel": 0.1, "depth": (0.25, 0.4), "width": (0.5, 0.75)}


@pytest.mark.parametrize(
    ("progress", "widths", "others", "depths", "kernels"),
    [
        (0.0, (64,), (64,), (3,), (7,)),
        (0.0999, (64,), (64,), (3,), (7,)),
        (0.1, (64,), (64,), (3,), (3, 5, 7)),
        (0.25, (64,), (64,), (2, 3), (3, 5, 7)),
        (0.4, (64,), (64,), (1, 2, 3), (3, 5, 7)),
        (0.5, (16, 32, 64), (16, 64), (1, 2, 3), (3, 5, 7)),
        (0.75, (8, 16, 32, 64), (16, 64), (1, 2, 3), (3, 5, 7)),
    ],
)
def test_phases_free_one_kind_after_another_from_the_largest_candidates_down(
    progress: float,
    widths: tuple[int, ...],
    others: tuple[int, ...],
    depths: tuple[int, ...],
    kernels: tuple[int, ...],
) -> None:
    options = SamplingOptions.model_validate({"phases": PHASES})
    free = free_space(SPACE, options, progress)
    assert [d.choices for d in free.dimensions] == [widths, others, depths, kernels]
    assert all(subnet in SPACE for subnet in free)
    assert free_space(SPACE, SamplingOptions(), progress) == SPACE


def test_first_phase_trains_the_largest_network_alone_and_the_last_one_all() -> None:
    options = SamplingOptions.model_validate({"num_random": 2, "phases": {"width": 0.7}})
    sampler, largest = SubnetSampler(NET, options), NET.space.largest()
    (view,) = sampler(random.Random(0), 0.69)
    assert isinstance(view, SubnetView)
    assert view.subnet == largest
    first, *_, last = sampler(random.Random(0), 0.7)
    assert isinstance(last, SubnetView)
    assert (first.is_largest, last.is_largest) == (True, False)
    assert last.subnet == NET.space.smallest()


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ({"widths": 0.5}, "unknown kind of dimension 'widths'"),
        ({"width": [0.5, 0.5]}, r"sampling.phases.width: shares ascend, not \[0.5, 0.5\]"),
    ],
)
def test_phases_that_mean_nothing_are_refused(phases: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SamplingOptions.model_validate({"phases": phases})


def test_phase_of_a_kind_that_the_space_lacks_is_refused() -> None:
    options = SamplingOptions.model_validate({"phases": {"depth": 0.5}})
    with pytest.raises(ConfigError, match=r"sampling\.phases\.depth: the search space has nothing"):
        SubnetSampler(NET, options)


class Blocks(nn.Module):
    """A 7x7 convolution, two residual blocks, another 7x7: all kinds of dimensions, next to nothing
    to compute.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 7, padding=3)
        self.one, self.two = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
        self.head = nn.Conv2d(4, 3, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = x + torch.relu(self.one(x))
        x = x + torch.relu(self.two(x))
        return torch.tanh(self.head(x))


def tiny_blocks() -> nn.Module:
    """The factory of `Blocks`, always with the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8)
        return Blocks()


def test_training_resumes_bit_for_bit_in_every_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = (
        *("teacher.module=test_sampling:tiny_blocks", "student.widths=[0.5, 1.0]"),
        *("student.divisor=1", "student.depths=[0.5, 1.0]", "student.kernels=[3, 7]"),
        *("student.resolutions=[0.5, 1.0]", "data.load_size=40", "log.checkpoint_every=2"),
        "sampling.phases={kernel: 0.2, depth: 0.4, width: 0.6, resolution: 0.8}",
        *("schedule.num_images=10", "schedule.num_images_decay=0"),
        *("loss.lambda_gan=0", "loss.lambda_distill=0"),
    )
    root, drawn = make_paired(tmp_path / "data", 8), list[list[Subnet]]()
    original = SubnetSampler.__call__

    def note(sampler: SubnetSampler, rng: random.Random, progress: float) -> Any:
        views = original(sampler, rng, progress)
        drawn.append([view.subnet for view in views if isinstance(view, SubnetView)])
        return views

    monkeypatch.setattr(SubnetSampler, "__call__", note)
    train_supernet(supernet_options(root, tmp_path / "whole", None, *sets), CPU)
    whole = drawn.copy()
    assert [str(subnets[-1]) for subnets in whole] == [
        *("4_d2_k7_k7_r100", "4_d2_k3_k3_r100", "4_d1_k3_k3_r100"),
        *("2_d1_k3_k3_r100", "2_d1_k3_k3_r50"),
    ]
    assert [len(subnets) for subnets in whole] == [1, 3, 3, 3, 3]
    drawn.clear()
    options = supernet_options(root, tmp_path / "pieces", None, *sets)
    for _ in whole[1:]:
        with monkeypatch.context() as patch:
            at_call(patch, Trainer, "_advance", 2, crash)
            with pytest.raises(Crash):
                train_supernet(options, CPU)
    train_supernet(options, CPU)
    assert drawn == whole
    assert fingerprints(tmp_path / "pieces") == fingerprints(tmp_path / "whole")
    assert log_lines(tmp_path / "pieces") == log_lines(tmp_path / "whole")
