"""What logs of trials are worth: nothing known is lost, and what is left out is said."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import make_paired
from torch import Tensor, nn

from gancompress.cost.steps import plan_of
from gancompress.cost.table import Device, Entry
from gancompress.elastic import Subnet
from gancompress.errors import ConfigError, DataError
from gancompress.search import Evaluator, SearchResult, Trial, TrialLog, load_result, stage
from gancompress.search.origin import differences, measured_with
from gancompress.search.plan import search_split
from gancompress.search.quality import load_quality
from gancompress.search.racing import Rival
from runs import (
    TINY_SPACE,
    Crash,
    at_call,
    crash,
    load_network,
    load_supernet,
    plan_search,
    search,
    search_options,
    supernet_options,
    train_supernet,
    write_tiny,
)

CPU = torch.device("cpu")
RANDOM = ("searcher.name=random", "num_trials=20")


@pytest.fixture(scope="module")
def supernet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A supernet after one step, with 24 images for the search."""
    folder = tmp_path_factory.mktemp("logs")
    teacher = write_tiny(folder / "teacher.safetensors")
    root = make_paired(folder / "data", 48)
    quick = ("schedule.num_images=2", "schedule.num_images_decay=0", "loss.lambda_gan=0")
    train_supernet(supernet_options(root, folder / "supernet", teacher, *TINY_SPACE, *quick), CPU)
    return folder / "supernet"


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[Subnet]:
    """Subnets that have been evaluated, in order."""
    subnets: list[Subnet] = []
    measure = Evaluator.measure

    def note(self: Evaluator, subnet: Subnet, rivals: Sequence[Rival] = ()) -> Trial:
        subnets.append(subnet)
        return measure(self, subnet, rivals)

    monkeypatch.setattr(Evaluator, "measure", note)
    return subnets


def complete(result: SearchResult) -> dict[Subnet, float]:
    return {trial.subnet: trial.loss for trial in result.trials if trial.complete}


def use(path: Path) -> str:
    return f"trials={json.dumps([str(path / 'trials.jsonl')])}"


# -- nothing known is lost ------------------------------------------------------------------


def test_another_log_adds_to_the_own_one(
    supernet: Path, tmp_path: Path, evaluated: list[Subnet]
) -> None:
    other = search(search_options(tmp_path / "a", supernet, *RANDOM, "seed=1"), CPU)
    own = search(search_options(tmp_path / "b", supernet, *RANDOM), CPU)
    evaluated.clear()
    merged = search(search_options(tmp_path / "b", supernet, *RANDOM, use(tmp_path / "a")), CPU)
    assert not evaluated
    assert complete(merged) == complete(own) | complete(other)
    assert [t.subnet for t in merged.trials[:20]] == [t.subnet for t in own.trials]
    for answer, *others in zip(merged.answers, own.answers, other.answers, strict=True):
        assert answer.trial.loss <= min(found.trial.loss for found in others)


def test_trials_of_other_logs_are_not_among_those_to_be_made(
    supernet: Path, tmp_path: Path, evaluated: list[Subnet]
) -> None:
    other = search(search_options(tmp_path / "a", supernet, *RANDOM, "seed=1"), CPU)
    alone = search(search_options(tmp_path / "b", supernet, *RANDOM, "racing=false"), CPU)
    evaluated.clear()
    options = search_options(tmp_path / "c", supernet, *RANDOM, "racing=false", use(tmp_path / "a"))
    found = search(options, CPU)
    assert [trial.subnet for trial in found.trials[:20]] == [t.subnet for t in alone.trials]
    assert not set(evaluated) & complete(other).keys()


def test_fewer_trials_or_another_budget_lose_nothing(supernet: Path, tmp_path: Path) -> None:
    whole = search(search_options(tmp_path, supernet, *RANDOM), CPU)
    fewer = search(search_options(tmp_path, supernet, "searcher.name=random", "num_trials=3"), CPU)
    assert complete(fewer) == complete(whole)
    assert fewer.answers == whole.answers
    middle = sorted(trial.macs for trial in whole.trials)[10]
    sets = (*RANDOM, "seed=5", f"budgets=['{middle}']")
    tighter = search(search_options(tmp_path, supernet, *sets), CPU)
    assert all(trial.macs <= middle for trial in tighter.trials)
    fitting = [trial.loss for trial in whole.trials if trial.complete and trial.macs <= middle]
    assert tighter.answers[0].trial.loss <= min(fitting)


def test_a_merged_search_that_was_killed_goes_on_to_the_same_answer(
    supernet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(search_options(tmp_path / "a", supernet, *RANDOM, "seed=1"), CPU)
    sets = ("searcher.name=guided", "num_trials=20", use(tmp_path / "a"))
    whole = search(search_options(tmp_path / "whole", supernet, *sets), CPU)
    options = search_options(tmp_path / "killed", supernet, *sets)
    with monkeypatch.context() as patch:
        at_call(patch, Evaluator, "measure", 7, crash)
        with pytest.raises(Crash):
            search(options, CPU)
    assert search(options, CPU) == whole


# -- what is left out -----------------------------------------------------------------------


def test_it_is_said_what_of_another_log_is_left_out(
    supernet: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    a = tmp_path / "a"
    search(search_options(a, supernet, *RANDOM, "seed=1", "racing=false"), CPU)
    search(search_options(a, supernet, *RANDOM[:1], "num_trials=3", "metric=truth_mae"), CPU)
    caplog.clear()
    search(search_options(tmp_path / "b", supernet, *RANDOM, use(a)), CPU)
    assert f"3 of 23 trials of {a / 'trials.jsonl'} were measured with other metric" in (
        caplog.text
    )
    caplog.clear()
    search(search_options(tmp_path / "c", supernet, *RANDOM, "max_images=9", use(a)), CPU)
    assert "23 of 23 trials" in caplog.text
    assert "other images, metric and are left out: it adds nothing" in caplog.text
    (tmp_path / "trials.jsonl").write_text('{"subnet": "4_4_4", "loss": 1}\n')
    caplog.clear()
    search(search_options(tmp_path / "d", supernet, *RANDOM, use(tmp_path)), CPU)
    assert "holds no trials" in caplog.text


def evaluator(supernet: Path, tmp_path: Path) -> Evaluator:
    net, _ = load_supernet(supernet)
    split = search_split(search_options(tmp_path, supernet), 32)
    teacher = load_network(supernet / "teacher.safetensors").module.eval()
    return Evaluator.of_split(net.eval(), teacher, split, None, 4, CPU)


def darker(made: Evaluator) -> Evaluator:
    return replace(made, inputs=made.inputs // 2)


def without_truth(made: Evaluator) -> Evaluator:
    return replace(made, truth=None)


def other_teacher(made: Evaluator) -> Evaluator:
    assert isinstance(made.teacher, nn.Module)
    next(iter(made.teacher.parameters())).data.mul_(0.9)
    return made


def other_metric(made: Evaluator) -> Evaluator:
    return replace(made, quality=load_quality("truth_mae"))


def calibrated(made: Evaluator) -> Evaluator:
    return replace(made, calibration=[torch.zeros(1, 3, 32, 32)])


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (darker, "images"),
        (without_truth, "images"),
        (calibrated, "images"),
        (other_teacher, "teacher"),
        (other_metric, "metric"),
    ],
)
def test_a_key_tells_apart_what_scores_depend_on(
    supernet: Path, tmp_path: Path, change: Callable[[Evaluator], Evaluator], part: str
) -> None:
    before = measured_with(evaluator(supernet, tmp_path))
    assert measured_with(evaluator(supernet, tmp_path)) == before
    after = measured_with(change(evaluator(supernet, tmp_path)))
    assert differences(before, after) == [part]


def test_a_key_depends_on_nothing_that_is_computed(
    supernet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another processor's pixels differ by a grey level here and there."""
    made = evaluator(supernet, tmp_path)
    before = measured_with(made)
    monkeypatch.setattr(Evaluator, "translate", crash)
    monkeypatch.setattr("gancompress.search.evaluator.real_features", crash)
    assert measured_with(evaluator(supernet, tmp_path)) == before
    distance = load_quality("kid[tiny]", {"tiny": "test_features:Tiny"})
    assert differences(before, measured_with(replace(made, quality=distance))) == [
        "images",
        "metric",
    ]


def test_versions_are_named_in_the_difference() -> None:
    ours, theirs = "code=4; runtime=onnxruntime 1.20.0", "code=4; runtime=onnxruntime 1.19.2"
    assert differences(ours, theirs) == ["runtime (onnxruntime 1.19.2, here onnxruntime 1.20.0)"]
    assert differences(ours, "code=5; runtime=eager") == ["code"]
    assert differences(ours, "3f" * 32) == ["code"]


def test_the_benchmark_of_searchers_reads_logs(tmp_path: Path) -> None:
    """Complete trials under the key of the most lines."""
    path = Path(__file__).resolve().parent.parent / "benchmarks" / "searchers.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_searchers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    log = tmp_path / "trials.jsonl"
    TrialLog(log, "old").append(Trial(Subnet((3, 3)), 9, 0.1, {}))
    for widths, whole in (((2, 4), True), ((4, 8), True), ((8, 8), False)):
        TrialLog(log, "new").append(Trial(Subnet(widths), 9, 1 / widths[0], {}, complete=whole))
    space, found = module.read_trials(log)
    assert {trial.subnet.values: trial.loss for trial in found} == {(2, 4): 0.5, (4, 8): 0.25}
    assert [dimension.choices for dimension in space.dimensions] == [(2, 4), (4, 8)]


# -- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["trials=[/nowhere.jsonl]"], r"no log of trials /nowhere\.jsonl"),
        (["runtime=onnxruntime", "precision=bfloat16"], "precision=bfloat16 needs"),
        (["metric=kid[tiny]"], "unknown features 'tiny'"),
        (["searcher.mutate_prob=0.1"], r"searcher\.mutate_prob has no effect on random"),
    ],
)
def test_a_refused_option_leaves_the_result_alone(
    supernet: Path, tmp_path: Path, sets: list[str], message: str, evaluated: list[Subnet]
) -> None:
    options = search_options(tmp_path, supernet, *RANDOM)
    found = search(options, CPU)
    files = {path: path.read_bytes() for path in sorted(tmp_path.iterdir())}
    evaluated.clear()
    with pytest.raises(ConfigError, match=message):
        search(search_options(tmp_path, supernet, *RANDOM, *sets), CPU)
    assert {path: path.read_bytes() for path in sorted(tmp_path.iterdir())} == files
    assert search(options, CPU) == found
    assert not evaluated


def test_a_real_image_that_cannot_be_used_leaves_the_result_alone(
    supernet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = search(search_options(tmp_path, supernet, *RANDOM), CPU)

    def refuse(*_: object) -> Tensor:
        raise DataError("one flat colour")

    monkeypatch.setattr("gancompress.search.evaluator.real_features", refuse)
    sets = ("metric=kid[tiny]", "features={tiny: test_features:Tiny}")
    with pytest.raises(DataError, match="one flat colour"):
        search(search_options(tmp_path, supernet, *sets), CPU)
    assert load_result(tmp_path) == found


def test_a_plan_refuses_what_a_dry_run_can_know(supernet: Path, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    for sets, message in (
        (["trials=[/nowhere.jsonl]"], "no log of trials"),
        ([f"trials=['{tmp_path / 'log'}']"], r"is a folder, not a log of trials\n.*trials\.jsonl"),
        (["runtime=eager", "precision=bfloat16"], "precision=bfloat16 needs --runtime openvino"),
        (["searcher.name=nsga2"], r"unknown searcher 'nsga2'\n  Choose from evolution, exhaustive"),
    ):
        with pytest.raises(ConfigError, match=message):
            plan_search(search_options(tmp_path / "run", supernet, *sets), CPU)


# -- what decides a race --------------------------------------------------------------------


def write_device(path: Path, supernet: Path, factor: float) -> Path:
    """A table in which every operation takes `factor` milliseconds a channel of its output."""
    net, _ = load_supernet(supernet)
    keys = dict.fromkeys(step.key for step in plan_of(net, (32, 32)).steps)
    entries = tuple(
        Entry(key, (1, 512), (1, 512), ((0.01, factor), (0.01, 2 * factor))) for key in keys
    )
    Device("phone", "onnxruntime", "synthetic", 1, {}, (32, 32), entries).save(path)
    return path


def test_what_was_given_up_is_measured_again_under_another_table(
    supernet: Path, tmp_path: Path, evaluated: list[Subnet]
) -> None:
    table = write_device(tmp_path / "phone.json", supernet, 1.0)
    options = search_options(tmp_path / "run", supernet, *RANDOM, f"devices=['{table}']")
    first = search(options, CPU)
    given_up = [trial.subnet for trial in first.trials if not trial.complete]
    assert given_up
    evaluated.clear()
    write_device(table, supernet, 1.0)
    assert search(options, CPU) == first
    assert not evaluated
    write_device(table, supernet, 3.0)
    search(options, CPU)
    assert set(evaluated) == set(given_up)


# -- the clock ------------------------------------------------------------------------------


@pytest.fixture
def minute_each(monkeypatch: pytest.MonkeyPatch, evaluated: list[Subnet]) -> None:
    """Every evaluation takes a minute."""
    clock = SimpleNamespace(monotonic=lambda: 60.0 * len(evaluated))
    monkeypatch.setattr("gancompress.search.loop.time", clock)


def test_the_time_may_be_up_within_a_generation(
    supernet: Path, tmp_path: Path, evaluated: list[Subnet], minute_each: None
) -> None:
    whole = search(search_options(tmp_path / "whole", supernet, *RANDOM), CPU)
    evaluated.clear()
    found = search(search_options(tmp_path / "run", supernet, *RANDOM, "max_minutes=9"), CPU)
    assert len(evaluated) == 9  # generations are of 6
    assert found.trials == whole.trials[:9]
    evaluated.clear()
    more = search(search_options(tmp_path / "run", supernet, *RANDOM, "max_minutes=9.5"), CPU)
    assert len(evaluated) == 10  # the time of one call
    assert more.trials == whole.trials[:19]


def test_the_clock_of_another_rank_ends_no_generation(
    supernet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minute_each: None
) -> None:
    monkeypatch.setattr("gancompress.search.loop.rank", lambda: 1)
    found = search(search_options(tmp_path, supernet, *RANDOM, "max_minutes=9"), CPU)
    assert len(found.trials) == 12


def test_workers_beside_ranks_are_ignored_with_a_word(
    supernet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    made = evaluator(supernet, tmp_path)
    monkeypatch.setattr(stage, "under_torchrun", lambda: True)
    with stage._executor(search_options(tmp_path, supernet, "workers=3"), made):
        assert "workers=3 is ignored" in caplog.text
