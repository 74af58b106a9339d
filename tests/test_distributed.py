"""Ranks of `torchrun`: together they compute what one process does, and they end together."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import make_paired, make_unpaired
from ranks import CASES, TRAINED, train
from torch import Tensor

from gancompress.checkpoint.files import load_pickle, load_tensors
from gancompress.config import Section
from gancompress.errors import ConfigError
from gancompress.training.loop import Trainer
from gancompress.training.stages import train_teacher
from runs import (
    Crash,
    at_call,
    crash,
    finetune_options,
    log_lines,
    supernet_options,
    teacher_options,
    write_options,
)

TESTS = Path(__file__).resolve().parent
RANKS = 2
# biases before instance norms have no gradient but rounding errors, which Adam makes large
PLAIN = ("generator.norm=none", "discriminator.norm=none", "loss.pool_size=3")
BATCH_NORMS = ("generator.norm=batch", "discriminator.norm=batch", "generator.dropout=0.3")
LOSSES = ("loss.terms={alignment: 1, consistency: 1, variation: 0.001}", "sampling.num_random=2")


def torchrun(*arguments: str | Path, cwd: Path = TESTS) -> subprocess.Popen[str]:
    """Python on two ranks."""
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(RANKS), *map(str, arguments)),
        ],
        env=environment, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


# -- what ranks exchange ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Results of `ranks.py`, of each rank."""
    folder = tmp_path_factory.mktemp("ranks")
    running = torchrun(TESTS / "ranks.py", folder)
    _, errors = running.communicate(timeout=1200)
    assert running.returncode == 0, errors
    return [load_pickle(folder / f"{rank}.pt") for rank in range(RANKS)]


@pytest.mark.parametrize("name", CASES)
def test_ranks_compute_what_one_process_does(found: list[dict[str, Any]], name: str) -> None:
    wanted = CASES[name]()
    for ours in found:
        assert ours[name].keys() == wanted.keys()
        for key, tensor in wanted.items():
            torch.testing.assert_close(ours[name][key], tensor, atol=2e-6, rtol=1e-5)
            assert torch.equal(ours[name][key], found[0][name][key]), key


def test_first_rank_decides_and_any_rank_stops(found: list[dict[str, Any]]) -> None:
    for ours in found:
        assert ours["messages"] == {
            "decided": {"rank": 0}, "any": [False, True], "averaged": {"a": 1.0, "b": 6.0},
            "share": 2,
        }  # fmt: skip


def test_what_is_refused_ends_all_ranks_and_one_says_why(found: list[dict[str, Any]]) -> None:
    assert [ours["refusals"] for ours in found] == [["ConfigError", "ConfigError"], [2, 2]]


# -- training ---------------------------------------------------------------------------------


def options_of(kind: str, folder: Path, run: Path) -> Section:
    """Options of one training; a supernet starts from the pix2pix teacher of one process."""
    if kind == "pix2pix":
        return teacher_options(folder / "paired", run, *BATCH_NORMS)
    if kind == "cyclegan":
        return teacher_options(folder / "unpaired", run, *PLAIN)
    if kind == "supernet":
        return supernet_options(folder / "paired", run, folder / "one" / "pix2pix", *LOSSES)
    return finetune_options(run, folder / "one" / "supernet", "4_8_4_4_8_4_4_8", *LOSSES[:1])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """one/ and two/: the same trainings by one process and by two ranks."""
    folder = tmp_path_factory.mktemp("trained")
    make_paired(folder / "paired", 8)
    make_unpaired(folder / "unpaired", 7, 9)
    for kind in TRAINED:
        train(kind, write_options(folder / "one" / f"{kind}.yaml",
                                  options_of(kind, folder, folder / "one" / kind)))  # fmt: skip
        write_options(
            folder / "two" / f"{kind}.yaml", options_of(kind, folder, folder / "two" / kind)
        )
    running = torchrun(TESTS / "ranks.py", folder / "two")
    _, errors = running.communicate(timeout=1200)
    assert running.returncode == 0, errors
    return folder


def weights(run: Path) -> dict[str, Tensor]:
    """All tensors that a training has left."""
    files = sorted(run.glob("*.safetensors"))
    return {f"{file.name} {k}": t for file in files for k, t in load_tensors(file)[0].items()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", TRAINED)
def test_two_ranks_train_what_one_process_does(trained: Path, kind: str) -> None:
    ours, wanted = (weights(trained / number / kind) for number in ("two", "one"))
    assert ours.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(ours[name], tensor, atol=1e-5, rtol=1e-4, msg=name)
    lines, others = (log_lines(trained / number / kind) for number in ("two", "one"))
    assert len(lines) == len(others)
    for line, other in zip(lines, others, strict=True):
        assert line.pop("alarms", None) == other.pop("alarms", None)
        assert line == pytest.approx(other, rel=1e-3, abs=1e-5)


def test_batch_that_ranks_cannot_share_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gancompress.distributed.world_size", lambda: 3)
    monkeypatch.setattr("gancompress.training.loop.on_first_rank", lambda make: make())
    options = teacher_options(make_paired(tmp_path / "data", 4), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"schedule\.batch_size=2 .*multiple of their number, 3"):
        train_teacher(options, torch.device("cpu"))


# -- ends ---------------------------------------------------------------------------------------


def wait_for(condition: Callable[[], object], running: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 1200
    while not condition():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def workers(running: subprocess.Popen[str]) -> list[int]:
    """Processes of the ranks, in their order."""
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    ranks = {}
    for child in children:
        found = re.search(rb"\0RANK=(\d+)\0", Path(f"/proc/{child}/environ").read_bytes())
        if found:
            ranks[int(found[1])] = int(child)
    return [ranks[rank] for rank in sorted(ranks)]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_signal_to_one_rank_ends_all_and_another_number_of_ranks_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    run = tmp_path / "run"
    data = make_paired(tmp_path / "data", 8)
    sets = (*PLAIN, "schedule.num_images=400", "log.checkpoint_every=4", "log.sample_every=999")
    options = teacher_options(data, run, *sets)
    path = write_options(tmp_path / "teacher.yaml", options)
    running = torchrun("-m", "gancompress", "teacher", path)
    wait_for((run / "state.pt").exists, running)
    ranks = workers(running)
    assert len(ranks) == RANKS
    os.kill(ranks[1], number)
    _, errors = running.communicate(timeout=1200)
    assert running.returncode != 0
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)
    images = load_pickle(run / "state.pt")["images"]
    assert 4 <= images < 404
    assert images % (2 if number == signal.SIGTERM else 4) == 0
    message = "stopped at image" if number == signal.SIGTERM else "another process has ended"
    assert errors.count(message) == 1
    with monkeypatch.context() as patch:
        at_call(patch, Trainer, "_advance", 4, crash)
        with pytest.raises(Crash):
            train_teacher(options, torch.device("cpu"))
    assert images < load_pickle(run / "state.pt")["images"] <= images + 6
