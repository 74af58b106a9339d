"""Searches that race, under several costs, and by other scores: as one would run them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import make_paired
from test_searchers import Narrowest

from gancompress.elastic import Subnet
from gancompress.errors import ConfigError, GanCompressError
from gancompress.search import Evaluator, SearchResult, Trial
from gancompress.search.racing import Rival
from gancompress.search.searchers import SEARCHERS
from runs import (
    TINY_SPACE,
    Crash,
    at_call,
    crash,
    load_supernet,
    search,
    search_options,
    supernet_options,
    train_supernet,
    write_tiny,
)

CPU = torch.device("cpu")
MANY = ("num_trials=40", "searcher.name=random")


@pytest.fixture(scope="module")
def supernet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A supernet after one step, with 24 images for the search."""
    folder = tmp_path_factory.mktemp("racing")
    teacher = write_tiny(folder / "teacher.safetensors")
    root = make_paired(folder / "data", 48)
    quick = ("schedule.num_images=2", "schedule.num_images_decay=0", "loss.lambda_gan=0")
    train_supernet(supernet_options(root, folder / "supernet", teacher, *TINY_SPACE, *quick), CPU)
    return folder / "supernet"


@pytest.fixture(scope="module")
def raced(supernet: Path, tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    return search(search_options(tmp_path_factory.mktemp("raced"), supernet, *MANY), CPU)


@pytest.fixture(scope="module")
def patient(supernet: Path, tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    folder = tmp_path_factory.mktemp("patient")
    return search(search_options(folder, supernet, *MANY, "racing=false"), CPU)


def given_up(result: SearchResult) -> set[Subnet]:
    return {trial.subnet for trial in result.trials if not trial.complete}


def test_racing_gives_up_some_and_changes_no_answer(
    raced: SearchResult, patient: SearchResult
) -> None:
    assert given_up(raced)
    assert not given_up(patient)
    assert [trial.subnet for trial in raced.trials] == [trial.subnet for trial in patient.trials]
    assert raced.front == patient.front
    assert raced.answers == patient.answers
    whole = {trial.subnet: trial for trial in patient.trials}
    for trial in raced.trials:
        if not trial.complete:
            assert trial.num_images < 24
            assert trial.loss == pytest.approx(whole[trial.subnet].loss, rel=0.1)


def test_every_front_survives_racing(raced: SearchResult, patient: SearchResult) -> None:
    for cost in raced.costs:
        assert raced.front_against(cost) == patient.front_against(cost)


def test_what_was_given_up_is_measured_again_in_another_race(
    supernet: Path, tmp_path: Path, raced: SearchResult, patient: SearchResult
) -> None:
    assert search(search_options(tmp_path, supernet, *MANY), CPU) == raced
    assert search(search_options(tmp_path, supernet, *MANY, "racing=false"), CPU) == patient


def test_a_race_that_was_stopped_goes_on_to_the_same_answer(
    supernet: Path, tmp_path: Path, raced: SearchResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = search_options(tmp_path, supernet, *MANY)
    with monkeypatch.context() as patch:
        at_call(patch, Evaluator, "measure", 23, crash)
        with pytest.raises(Crash):
            search(options, CPU)
    assert search(options, CPU) == raced


def test_patience_ends_a_search_whose_fronts_stand_still(
    supernet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def equal(self: Evaluator, subnet: Subnet, rivals: Sequence[Rival] = ()) -> Trial:
        return Trial(subnet, self.net.macs(subnet, self.size), 0.5, {"teacher_mae": 0.5})

    monkeypatch.setattr(Evaluator, "measure", equal)
    sets = ("searcher.name=evolution", "num_trials=64", "searcher.generation=4", "patience=2")
    found = search(search_options(tmp_path, supernet, *sets), CPU)
    # the first generation has the cheapest subnet, and nothing beats it
    assert len(found.trials) == 3 * 4


@pytest.mark.parametrize("name", [*SEARCHERS, "narrowest"])
def test_a_budget_that_only_the_smallest_subnet_meets(
    supernet: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SEARCHERS, "narrowest", Narrowest)
    net, _ = load_supernet(supernet)
    least = net.macs(net.space.smallest(), 32)
    budgets = json.dumps([str(least), "params=1G"])
    sets = (f"searcher.name={name}", "patience=3", "searcher.generation=5", f"budgets={budgets}")
    found = search(search_options(tmp_path, supernet, *sets), CPU)
    assert [str(budget) for budget in found.chosen] == [f"macs={least}", "params=1000000000"]
    assert next(iter(found.chosen.values())).macs == least


def test_a_search_by_distance_to_real_images(supernet: Path, tmp_path: Path) -> None:
    sets = ("metric=kid[tiny]", "features={tiny: test_features:Tiny}", "num_trials=6")
    found = search(search_options(tmp_path, supernet, *sets), CPU)
    assert all(np.isfinite(trial.loss) for trial in found.trials)
    assert all(trial.complete for trial in found.trials)
    answer = found.answers[0]
    assert answer.estimate.low <= answer.estimate.value <= answer.estimate.high
    assert answer.estimate.value == pytest.approx(answer.trial.scores["kid[tiny]"], rel=1e-6)


def test_a_subnet_that_is_not_finite_is_named(
    supernet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "gancompress.search.evaluator.ready_subnet", lambda *_: lambda x: x * float("nan")
    )
    with pytest.raises(GanCompressError, match=r"the output of subnet \S+ is not finite"):
        search(search_options(tmp_path, supernet), CPU)


def test_a_minute_is_enough_to_stop(supernet: Path, tmp_path: Path) -> None:
    sets = ("searcher.name=random", "num_trials=60", "searcher.generation=4", "max_minutes=0.0001")
    assert len(search(search_options(tmp_path, supernet, *sets), CPU).trials) <= 4


def test_seeds_are_not_negative(supernet: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="seed"):
        search_options(tmp_path, supernet, "seed=-1")
