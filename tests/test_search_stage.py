"""The search: budgets, repeatability, resuming, reuse of trials."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import make_paired, make_unpaired
from torch import Tensor, nn

from gancompress.checkpoint.files import load_tensors, save_tensors
from gancompress.checkpoint.network import Network
from gancompress.checkpoint.run import RunFolder
from gancompress.config import (
    GeneratorOptions,
    SearchOptions,
    SupernetOptions,
    load_options,
)
from gancompress.cost import format_count
from gancompress.data import load_split, to_float
from gancompress.elastic import Subnet, Supernet
from gancompress.errors import (
    BudgetError,
    CheckpointError,
    ConfigError,
    DataError,
    GanCompressError,
    Interrupted,
)
from gancompress.metrics import all_scores
from gancompress.models import build_generator, init_weights
from gancompress.search import (
    Budget,
    Evaluator,
    SearchResult,
    Trial,
    TrialLog,
    load_result,
    stage,
)
from gancompress.search.racing import Rival
from gancompress.search.searchers import Guided
from runs import (
    TINY_SPACE,
    Crash,
    at_call,
    crash,
    finetune,
    finetune_options,
    load_model,
    load_network,
    load_supernet,
    search,
    search_options,
    supernet_options,
    train_supernet,
    write_teacher,
    write_tiny,
)

CPU = torch.device("cpu")
NUM_TRIALS = 14
QUICK = ("schedule.num_images=2", "schedule.num_images_decay=0", "loss.lambda_gan=0")


@pytest.fixture(scope="module")
def supernet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A supernet after one step."""
    folder = tmp_path_factory.mktemp("search")
    teacher = write_tiny(folder / "teacher.safetensors")
    root = make_paired(folder / "data", 8)
    sets = (*TINY_SPACE, *QUICK)
    train_supernet(supernet_options(root, folder / "supernet", teacher, *sets), CPU)
    return folder / "supernet"


@pytest.fixture(scope="module")
def macs(supernet: Path) -> Callable[[float], int]:
    """Budget in MACs at a share of the way from the smallest to the largest subnet."""
    net, _ = load_supernet(supernet)
    low, high = (net.macs(subnet, 32) for subnet in (net.space.smallest(), net.space.largest()))
    return lambda share: round(low + share * (high - low))


@pytest.fixture(scope="module")
def whole(supernet: Path, tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    """What a search finds that nothing has interrupted."""
    return search(search_options(tmp_path_factory.mktemp("whole"), supernet), CPU)


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


def quoted(*budgets: int) -> str:
    return f"budgets={json.dumps([str(budget) for budget in budgets])}"


# -- subnets that fail ----------------------------------------------------------------------


def failing(
    monkeypatch: pytest.MonkeyPatch, fails: Callable[[Subnet], bool], error: Exception
) -> None:
    measure = Evaluator.measure

    def spoilt(self: Evaluator, subnet: Subnet, rivals: Sequence[Rival] = ()) -> Trial:
        if fails(subnet):
            raise error
        return measure(self, subnet, rivals)

    monkeypatch.setattr(Evaluator, "measure", spoilt)


@pytest.mark.parametrize("error", [DataError("its output is not finite"), RuntimeError("oom")])
def test_a_subnet_that_fails_is_left_out(
    supernet: Path,
    tmp_path: Path,
    whole: SearchResult,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    bad = whole.trials[1].subnet
    with monkeypatch.context() as patch:
        failing(patch, lambda subnet: subnet == bad, error)
        result = search(search_options(tmp_path, supernet), CPU)
    assert result.num_failed == 1
    assert bad not in {trial.subnet for trial in result.trials}
    assert f"subnet {bad} failed: " in caplog.text
    assert load_result(tmp_path) == result
    assert "1 more failed" in (tmp_path / "report.html").read_text()
    lines = (tmp_path / "trials.jsonl").read_text().splitlines()
    logged = [json.loads(line)["trial"] for line in lines]
    assert [line["subnet"] for line in logged if "failure" in line] == [str(bad)]


def test_a_search_whose_subnets_all_fail_says_why(
    supernet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: SearchResult
) -> None:
    with monkeypatch.context() as patch:
        failing(patch, lambda subnet: True, RuntimeError("no such operator"))
        with pytest.raises(GanCompressError, match=r"^4 of 4 subnets failed.*no such operator"):
            search(search_options(tmp_path, supernet), CPU)
    assert search(search_options(tmp_path, supernet), CPU) == whole  # they are tried again


# -- budgets --------------------------------------------------------------------------------


def test_infeasible_budget_is_refused_before_anything_runs(
    supernet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Evaluator, "of_split", crash)
    monkeypatch.setattr("gancompress.search.plan.load_split", crash)
    net, _ = load_supernet(supernet)
    smallest = net.space.smallest()
    before = time.process_time()
    with pytest.raises(BudgetError) as caught:
        search(search_options(tmp_path / "run", supernet, "budgets=[1G, 1K]"), CPU)
    assert time.process_time() - before < 1
    message = str(caught.value)
    assert "no subnet fits --macs 1K at 32x32" in message
    assert f"({smallest}) needs {format_count(net.macs(smallest, 32))}" in message
    assert not (tmp_path / "run").exists()


def test_nothing_found_is_above_its_budget(
    supernet: Path, tmp_path: Path, macs: Callable[[float], int]
) -> None:
    budgets = [macs(share) for share in (0.6, 0.25, 0.0)]
    result = search(search_options(tmp_path, supernet, quoted(*budgets)), CPU)
    assert [budget.limit for budget in result.chosen] == budgets
    assert all(trial.macs <= budgets[0] for trial in result.trials)
    for budget, trial in result.chosen.items():
        assert trial.macs <= budget.limit
        assert trial.loss == min(t.loss for t in result.trials if t.macs <= budget.limit)
        module = load_model(supernet, str(trial.subnet)).module
        extracted = Supernet(module, torch.empty(1, 3, 32, 32), widths=(1.0,), divisor=1)
        assert extracted.macs(extracted.space.full(), 32) == trial.macs


def test_trials_are_distinct_subnets_of_the_space(whole: SearchResult, supernet: Path) -> None:
    net, _ = load_supernet(supernet)
    assert len(whole.trials) == NUM_TRIALS
    assert len({trial.subnet for trial in whole.trials}) == NUM_TRIALS
    assert all(trial.subnet in net.space for trial in whole.trials)
    assert all(trial.macs == net.macs(trial.subnet, 32) for trial in whole.trials)


def test_budgets_default_to_thirds_between_smallest_and_largest(
    whole: SearchResult, supernet: Path
) -> None:
    net, _ = load_supernet(supernet)
    largest, smallest = (net.macs(s, 32) for s in (net.space.largest(), net.space.smallest()))
    wanted = [largest, smallest ** (1 / 3) * largest ** (2 / 3)]
    wanted.append(smallest ** (2 / 3) * largest ** (1 / 3))
    assert [budget.limit for budget in whole.chosen] == pytest.approx(wanted, abs=1)


# -- repeating and resuming -----------------------------------------------------------------


def test_same_seed_gives_the_same_trials(
    whole: SearchResult, supernet: Path, tmp_path: Path
) -> None:
    assert search(search_options(tmp_path / "same", supernet), CPU) == whole
    orders = []
    for seed in (1, 2):
        sets = ("searcher.name=random", f"seed={seed}")
        found = search(search_options(tmp_path / str(seed), supernet, *sets), CPU)
        orders.append([trial.subnet for trial in found.trials])
    assert orders[0] != orders[1]


@pytest.mark.parametrize(
    ("owner", "name", "number", "logged"),
    [
        (Evaluator, "measure", 1, 0),
        (Evaluator, "measure", 9, 8),
        (TrialLog, "append", 5, 4),
        (TrialLog, "append", NUM_TRIALS, NUM_TRIALS - 1),
    ],
)
def test_crashed_search_goes_on_without_repeating_a_trial(
    whole: SearchResult,
    supernet: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    evaluated: list[Subnet],
    owner: type,
    name: str,
    number: int,
    logged: int,
) -> None:
    options = search_options(tmp_path, supernet)
    with monkeypatch.context() as patch:
        at_call(patch, owner, name, number, crash)
        with pytest.raises(Crash):
            search(options, CPU)
    evaluated.clear()
    assert search(options, CPU) == whole
    assert evaluated == [trial.subnet for trial in whole.trials[logged:]]


def test_stopped_search_goes_on(
    whole: SearchResult,
    supernet: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    evaluated: list[Subnet],
) -> None:
    options = search_options(tmp_path, supernet)
    with monkeypatch.context() as patch:
        stop = lambda: signal.raise_signal(signal.SIGTERM)  # noqa: E731
        at_call(patch, Evaluator, "measure", 5, stop)
        with pytest.raises(Interrupted, match="stopped after 5 of 14 trials"):
            search(options, CPU)
    evaluated.clear()
    assert search(options, CPU) == whole
    assert len(evaluated) == NUM_TRIALS - 5


@pytest.mark.parametrize(
    ("spoil", "lost"),
    [
        (lambda lines: [*lines, '{"subnet": "4_4_4'], 0),
        (lambda lines: [*lines[:-1], lines[-1][:20]], 1),
        (lambda lines: [*lines[:3], lines[3][5:] + "\n", *lines[4:]], 1),
        (lambda lines: [*lines[:2], "\n", "null\n", "[1, 2]\n", "7\n", "{}\n", *lines[2:]], 0),
    ],
    ids=["half a line more", "half the last line", "damaged line", "lines that are no trials"],
)
def test_damaged_log_loses_the_damaged_lines_alone(
    whole: SearchResult,
    supernet: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    evaluated: list[Subnet],
    spoil: Callable[[list[str]], list[str]],
    lost: int,
) -> None:
    options = search_options(tmp_path, supernet)
    with monkeypatch.context() as patch:
        at_call(patch, Evaluator, "measure", 9, crash)
        with pytest.raises(Crash):
            search(options, CPU)
    log = tmp_path / "trials.jsonl"
    log.write_text("".join(spoil(log.read_text().splitlines(keepends=True))))
    evaluated.clear()
    assert search(options, CPU) == whole
    assert len(evaluated) == NUM_TRIALS - 8 + lost


def test_finished_search_is_read_not_run(
    whole: SearchResult, supernet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = search_options(tmp_path, supernet)
    search(options, CPU)
    monkeypatch.setattr(Evaluator, "of_split", crash)
    assert search(options, CPU) == whole
    assert load_result(tmp_path) == whole
    old = json.loads((tmp_path / "done.json").read_text())
    del old["made_from"]  # as searches wrote it before
    RunFolder(tmp_path).finish(old)
    assert search(options, CPU) == whole
    stored = load_options(SearchOptions, tmp_path / "config.yaml").searcher
    assert stored == Guided(name="guided", generation=6)


def test_file_that_is_replaced_during_a_search_makes_it_run_again(
    supernet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "other.jsonl"
    log.touch()
    options = search_options(tmp_path / "run", supernet, f"trials=[{log}]", "num_trials=2")
    with monkeypatch.context() as patch:
        at_call(patch, Evaluator, "measure", 1, lambda: log.write_text("\n"))
        search(options, CPU)
    monkeypatch.setattr(stage, "open_evaluator", lambda *_: crash())
    with pytest.raises(Crash):
        search(options, CPU)


def test_interrupted_search_with_other_options_leaves_no_old_result(
    supernet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(search_options(tmp_path, supernet), CPU)
    longer = search_options(tmp_path, supernet, f"num_trials={NUM_TRIALS + 6}")
    with monkeypatch.context() as patch:
        at_call(patch, Evaluator, "measure", 2, crash)
        with pytest.raises(Crash):
            search(longer, CPU)
    assert len(search(longer, CPU).trials) == NUM_TRIALS + 6


# -- what is reused -------------------------------------------------------------------------


def test_more_budgets_reuse_the_trials(
    supernet: Path, tmp_path: Path, macs: Callable[[float], int], evaluated: list[Subnet]
) -> None:
    wide, narrow = macs(0.7), macs(0.2)
    first = search(search_options(tmp_path, supernet, quoted(wide)), CPU)
    evaluated.clear()
    second = search(search_options(tmp_path, supernet, quoted(narrow, wide)), CPU)
    assert not evaluated
    assert second.trials == first.trials
    assert [budget.limit for budget in second.chosen] == [wide, narrow]
    assert second.chosen[Budget("macs", wide)] == first.chosen[Budget("macs", wide)]
    assert second.chosen[Budget("macs", narrow)].macs <= narrow


@pytest.mark.parametrize("change", ["metric=truth_mae", "size=16", "max_images=2"])
def test_trials_measured_otherwise_are_not_reused(
    supernet: Path, tmp_path: Path, evaluated: list[Subnet], change: str
) -> None:
    search(search_options(tmp_path, supernet), CPU)
    evaluated.clear()
    search(search_options(tmp_path, supernet, change), CPU)
    assert len(evaluated) == NUM_TRIALS


def test_trials_of_other_weights_are_not_reused(
    whole: SearchResult, supernet: Path, tmp_path: Path, evaluated: list[Subnet]
) -> None:
    changed = tmp_path / "supernet"
    shutil.copytree(supernet, changed)
    options = search_options(tmp_path / "run", changed)
    assert search(options, CPU) == whole
    tensors, header = load_tensors(changed / "weights.safetensors")
    header.pop("format")
    tensors["layers.0.weight"] *= -1
    save_tensors(changed / "weights.safetensors", tensors, header)
    os.utime(changed / "weights.safetensors", (0, 0))  # times of modification decide nothing
    with pytest.raises(ConfigError, match="has scored other weights than"):
        load_model(tmp_path / "run")
    evaluated.clear()
    result = search(options, CPU)
    assert len(evaluated) == NUM_TRIALS
    assert [t.loss for t in result.trials] != [t.loss for t in whole.trials]


# -- exhaustive -----------------------------------------------------------------------------


def pretended(self: Evaluator, subnet: Subnet, rivals: Sequence[Rival] = ()) -> Trial:
    """A score that no ordering by width gives, with ties."""
    loss = (sum(7 * w % 11 for w in subnet.values) % 13) / 13
    return Trial(subnet, self.net.macs(subnet, self.size), loss, {"teacher_mae": loss})


def beats(one: Trial, other: Trial) -> bool:
    return (
        one.macs <= other.macs
        and one.loss <= other.loss
        and (one.macs, one.loss) != (other.macs, other.loss)
    )


def test_exhaustive_search_is_brute_force(
    supernet: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    macs: Callable[[float], int],
) -> None:
    monkeypatch.setattr(Evaluator, "measure", pretended)
    sets = ("searcher.name=exhaustive", quoted(macs(0.5), macs(0.1)))
    result = search(search_options(tmp_path, supernet, *sets), CPU)
    net, _ = load_supernet(supernet)
    assert {t.subnet for t in result.trials} == {
        subnet for subnet in net.space if net.macs(subnet, 32) <= macs(0.5)
    }
    best = [t for t in result.trials if not any(beats(other, t) for other in result.trials)]
    assert {(t.macs, t.loss) for t in result.front} == {(t.macs, t.loss) for t in best}
    assert [t.macs for t in result.front] == sorted(t.macs for t in result.front)
    for budget, trial in result.chosen.items():
        assert trial.loss == min(t.loss for t in result.trials if t.macs <= budget.limit)


def test_evolution_ends_when_the_space_is_used_up(
    supernet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Evaluator, "measure", pretended)
    net, _ = load_supernet(supernet)
    budget = net.macs(net.space.smallest(), 32)
    options = search_options(tmp_path, supernet, quoted(budget), "num_trials=1000")
    assert [t.subnet for t in search(options, CPU).trials] == [net.space.smallest()]


# -- what is measured -----------------------------------------------------------------------


@pytest.mark.parametrize("make", [make_paired, make_unpaired])
def test_search_images_are_not_trained_on(
    tmp_path: Path, supernet: Path, make: Callable[..., Path]
) -> None:
    root = make(tmp_path / "data", 8)
    shutil.rmtree(tmp_path / "data" / "search", ignore_errors=True)
    data = supernet_options(root, tmp_path / "run", None).data
    train, held_out = (load_split(data, split, 32) for split in ("train", "search"))
    for one, other in ((train.inputs, held_out.inputs), (train.targets, held_out.targets)):
        assert one is not None
        assert other is not None
        assert not set(one.files) & set(other.files)
        assert len(one) + len(other) == 8


class Counting(nn.Module):
    """Counts the images that go through a module."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.images = module, 0

    def forward(self, x: Tensor) -> Tensor:
        self.images += len(x)
        out: Tensor = self.module(x)
        return out


def test_teacher_runs_once_for_every_image(
    supernet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting: list[Counting] = []

    def load(path: Path, trusted: tuple[str, ...]) -> Network:
        network = load_network(path, trusted=trusted)
        network.module = Counting(network.module)
        counting.append(network.module)
        return network

    monkeypatch.setattr("gancompress.search.plan.load_network", load)
    options = search_options(tmp_path, supernet)
    search(options, CPU)
    assert [teacher.images for teacher in counting] == [4]
    search(options, CPU)
    assert len(counting) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("metric=teacher_mea", "unknown metric 'teacher_mea'; did you mean 'teacher_mae'"),
        ("supernet=nowhere", "no weights nowhere"),
        ("size=31", "size=31 must be a multiple of the generators' stride 2"),
    ],
)
def test_mistake_is_named(supernet: Path, tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises((ConfigError, CheckpointError), match=message):
        search(search_options(tmp_path / "run", supernet, change), CPU)
    assert not (tmp_path / "run").exists()


def test_metric_against_the_truth_needs_pairs(
    supernet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_split = Evaluator.of_split

    def without_truth(*args: Any) -> Evaluator:
        return replace(of_split(*args), truth=None)

    monkeypatch.setattr(Evaluator, "of_split", without_truth)
    with pytest.raises(ConfigError, match="metric truth_psnr needs paired data"):
        search(search_options(tmp_path, supernet, "metric=truth_psnr"), CPU)


def test_supernet_in_training_is_refused(supernet: Path, tmp_path: Path) -> None:
    unfinished = tmp_path / "supernet"
    shutil.copytree(supernet, unfinished)
    tensors, header = load_tensors(unfinished / "weights.safetensors")
    header.pop("format")
    header["progress"] = {"images": 4, "of": 12}
    save_tensors(unfinished / "weights.safetensors", tensors, header)
    with pytest.raises(CheckpointError, match="in training: 4 of 12 images"):
        search(search_options(tmp_path / "run", unfinished), CPU)


def test_folder_without_a_search_has_no_result(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no finished search"):
        load_result(tmp_path)


def test_higher_is_better_metrics_are_maximised(supernet: Path, tmp_path: Path) -> None:
    options: SearchOptions = search_options(tmp_path, supernet, "metric=teacher_psnr")
    result = search(options, CPU)
    best = max(trial.scores["teacher_psnr"] for trial in result.trials)
    assert result.front[-1].scores["teacher_psnr"] == best
    assert all(trial.loss == -trial.scores["teacher_psnr"] for trial in result.trials)


@pytest.fixture(scope="module")
def unet_evaluator() -> Evaluator:
    """A U-Net with batch norms whose own statistics fit no subnet."""
    section = GeneratorOptions(input_nc=3, output_nc=3, name="unet_64", ngf=8, norm="batch")
    torch.manual_seed(1)
    teacher = init_weights(build_generator(section), gain=0.2).eval()
    net = Supernet(copy.deepcopy(teacher), torch.empty(1, 3, 64, 64), (0.5, 1.0), 4).eval()
    inputs = torch.randint(0, 256, (6, 3, 64, 64), dtype=torch.uint8)
    calibration = [to_float(inputs[:4]), to_float(inputs[4:])]
    return Evaluator(net, teacher, inputs, None, 2, CPU, calibration)


def test_batch_norms_are_calibrated_for_every_subnet(unet_evaluator: Evaluator) -> None:
    net = unet_evaluator.net
    before = {name: tensor.clone() for name, tensor in net.generator.state_dict().items()}
    small, large = net.space.smallest(), net.space.largest()
    first, other, again = (unet_evaluator.scores(subnet) for subnet in (small, large, small))
    assert first == again
    assert first != other
    after = net.generator.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


UNET = ("data.load_size=64", "data.crop_size=64")


@pytest.fixture(scope="module")
def unet_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A supernet with batch norms."""
    folder = tmp_path_factory.mktemp("unet")
    teacher = write_teacher(folder / "teacher.safetensors", "unet_64", norm="batch")
    root = make_paired(folder / "data", 4, size=64)
    sets = (*UNET, *QUICK, "loss.lambda_distill=0")
    train_supernet(supernet_options(root, folder / "net", teacher, *sets), CPU)
    return folder / "net"


def test_scores_of_batch_norm_subnets_are_those_of_the_loaded_ones(
    unet_run: Path, tmp_path: Path
) -> None:
    """What is exported has the statistics that the search has judged."""
    net, _ = load_supernet(unet_run)
    data = load_options(SupernetOptions, unet_run / "config.yaml").data
    reference = load_network(unet_run / "teacher.safetensors").module
    judge = Evaluator.of_split(net, reference, load_split(data, "search", 64), None, 1, CPU)
    for trial in search(search_options(tmp_path, unet_run, "num_trials=3"), CPU).trials:
        images = judge.translate(load_model(unet_run, str(trial.subnet)).module)
        found = all_scores(images, judge.references)
        expected = {name: found[name] for name in trial.scores}
        assert trial.scores == pytest.approx(expected, rel=1e-3)


def test_finetuned_subnet_with_batch_norms_loads_with_statistics_of_many_images(
    unet_run: Path, tmp_path: Path
) -> None:
    net, _ = load_supernet(unet_run)
    subnet = str(net.space.smallest())
    sets = (*QUICK, "loss.lambda_distill=0")
    finetune(finetune_options(tmp_path, unet_run, subnet, *sets), CPU)
    module = load_model(tmp_path).module
    with torch.no_grad():
        image = module(torch.zeros(1, 3, 64, 64))
    assert image.isfinite().all()
    assert sum(p.numel() for p in module.parameters()) == net.num_parameters(net.space.smallest())
    found, kept = module.state_dict(), load_network(tmp_path).module.state_dict()
    differing = {name for name in found if not torch.equal(found[name], kept[name])}
    assert differing == {name for name in found if ".running_" in name or "_tracked" in name}
