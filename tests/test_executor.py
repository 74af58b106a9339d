"""Whoever evaluates, the trials are the same: one process, several, or all ranks of torchrun."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from helpers import make_paired

from gancompress.elastic import Subnet
from gancompress.errors import ConfigError
from gancompress.search import TrialLog, load_result
from gancompress.search.executor import Request, SerialExecutor, pool
from gancompress.search.racing import Rival
from gancompress.search.trials import Trial
from runs import (
    TINY,
    TINY_SPACE,
    search,
    search_options,
    supernet_options,
    train_supernet,
    write_options,
    write_tiny,
)

CPU = torch.device("cpu")
REQUESTS = [Request(Subnet((width, 2))) for width in (5, 3, 9, 1)]


def pretend(subnet: Subnet, rivals: Sequence[Rival]) -> Trial:
    """Narrow subnets take longer, so that processes finish out of order."""
    time.sleep(0.1 / subnet.values[0])
    return Trial(subnet, subnet.values[0], 1 / subnet.values[0], {})


def make_pretender(number: int) -> object:
    assert number == 7
    return pretend


def never() -> bool:
    return False


def test_one_process_goes_in_order_and_stops_between_trials() -> None:
    done: list[Trial] = []
    trials = SerialExecutor(pretend).evaluate(REQUESTS, done.append, never)
    assert trials == done
    assert [trial.subnet for trial in trials] == [request.subnet for request in REQUESTS]
    done.clear()
    assert SerialExecutor(pretend).evaluate(REQUESTS, done.append, lambda: len(done) == 2) is None
    assert len(done) == 2


@pytest.mark.slow
def test_a_pool_returns_trials_in_the_order_of_the_requests() -> None:
    done: list[Trial] = []
    with pool(2, make_pretender, 7) as executor:
        trials = executor.evaluate(REQUESTS, done.append, never)
    assert trials == SerialExecutor(pretend).evaluate(REQUESTS, lambda trial: None, never)
    assert sorted(t.macs for t in done) == [1, 3, 5, 9]


def linger(subnet: Subnet, rivals: Sequence[Rival]) -> Trial:
    """Takes long enough to be stopped."""
    time.sleep(1)
    return Trial(subnet, subnet.values[0], 0.5, {})


def make_lingerer(folder: str) -> object:
    """Leaves its process's number in the folder."""
    (Path(folder) / str(os.getpid())).touch()
    return linger


@pytest.mark.slow
def test_what_runs_when_a_pool_is_stopped_is_kept(tmp_path: Path) -> None:
    requests = [Request(Subnet((width,))) for width in range(1, 13)]
    done: list[Trial] = []
    with pool(2, make_lingerer, str(tmp_path)) as executor:
        assert executor.evaluate(requests, done.append, lambda: bool(done)) is None
        assert executor.processes.submit(os.getpid).result() > 0  # nothing is left in the queue
        # two that ran, and those which already lay in the processes' own queue
        assert 2 <= len(done) < len(requests)
        assert len({trial.subnet for trial in done}) == len(done)


def is_alive(process: int) -> bool:
    """Whether a process runs; one that has ended may not have been waited for yet."""
    status = Path(f"/proc/{process}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
def test_processes_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys\n"
        "from gancompress.elastic import Subnet\n"
        "from gancompress.search.executor import Request, pool\n"
        "from test_executor import make_lingerer\n"
        "if __name__ == '__main__':\n"
        "    requests = [Request(Subnet((1 + i,))) for i in range(1000)]\n"
        "    with pool(2, make_lingerer, sys.argv[1]) as executor:\n"
        "        executor.evaluate(requests, lambda trial: None, lambda: False)\n"
    )
    here = Path(__file__).resolve().parent
    paths = os.pathsep.join([str(here.parent), str(here)])
    folder = tmp_path / "processes"
    folder.mkdir()
    parent = subprocess.Popen(
        [sys.executable, str(script), str(folder)], env={**os.environ, "PYTHONPATH": paths}
    )
    deadline = time.monotonic() + 120
    while len(list(folder.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [int(path.name) for path in folder.iterdir()]
    assert len(workers) == 2
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, workers))


@pytest.fixture(scope="module")
def supernet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A supernet after one step, and its search's options file."""
    folder = tmp_path_factory.mktemp("executor")
    teacher = write_tiny(folder / "teacher.safetensors")
    root = make_paired(folder / "data", 8)
    quick = ("schedule.num_images=2", "schedule.num_images_decay=0", "loss.lambda_gan=0")
    train_supernet(supernet_options(root, folder / "supernet", teacher, *TINY_SPACE, *quick), CPU)
    return folder / "supernet"


@pytest.mark.slow
def test_several_processes_find_what_one_finds(supernet: Path, tmp_path: Path) -> None:
    alone = search(search_options(tmp_path / "alone", supernet), CPU)
    together = search(search_options(tmp_path / "together", supernet, "workers=2"), CPU)
    assert together == alone
    again = search(search_options(tmp_path / "together", supernet, "workers=1"), CPU)
    assert again == alone  # the number of workers is no other search


def torchrun(ranks: int, *arguments: str) -> subprocess.Popen[str]:
    """`gancompress` on several ranks, from the repository."""
    repository = Path(__file__).resolve().parent.parent
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repository)}
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(ranks), "-m", "gancompress", *arguments),
        ],
        env=environment,
        cwd=Path(__file__).resolve().parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_three_ranks_find_what_one_finds(supernet: Path, tmp_path: Path) -> None:
    alone = search(search_options(tmp_path / "alone", supernet), CPU)
    options = search_options(tmp_path / "ranks", supernet)
    path = write_options(tmp_path / "search.yaml", options)
    process = torchrun(3, "search", str(path), "--module", TINY)
    output, errors = process.communicate(timeout=1200)
    assert process.returncode == 0, errors
    assert output.count("subnets evaluated") == 1  # the first rank speaks
    found = load_result(tmp_path / "ranks")
    assert found.front == alone.front
    assert found.trials == alone.trials
    assert found.answers == alone.answers


@pytest.mark.slow
def test_ranks_end_together_when_the_time_is_up(supernet: Path, tmp_path: Path) -> None:
    options = search_options(tmp_path / "ranks", supernet, "max_minutes=1e-6", "workers=2")
    path = write_options(tmp_path / "search.yaml", options)
    process = torchrun(2, "search", str(path), "--module", TINY)
    _, errors = process.communicate(timeout=1200)
    assert process.returncode == 0, errors
    assert errors.count("workers=2 is ignored") == 1
    assert len(load_result(tmp_path / "ranks").trials) < 6  # not the whole generation


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on_to_the_same_answer(
    supernet: Path, tmp_path: Path
) -> None:
    whole = search(search_options(tmp_path / "whole", supernet), CPU)
    options = search_options(tmp_path / "killed", supernet)
    path = write_options(tmp_path / "search.yaml", options)
    repository = Path(__file__).resolve().parent.parent
    process = subprocess.Popen(
        [sys.executable, "-m", "gancompress", "search", str(path), "--module", TINY],
        env={**os.environ, "PYTHONPATH": str(repository)},
        cwd=Path(__file__).resolve().parent,
    )
    log = tmp_path / "killed" / "trials.jsonl"
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if log.exists() and log.read_text().count("\n") >= 3:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.002)
    process.wait()
    assert search(options, CPU) == whole


def test_two_logs_merge(supernet: Path, tmp_path: Path) -> None:
    whole = search(search_options(tmp_path / "whole", supernet), CPU)
    lines = (tmp_path / "whole" / "trials.jsonl").read_text().splitlines(keepends=True)
    for name, part in (("one", lines[::2]), ("other", lines[1::2])):
        (tmp_path / f"{name}.jsonl").write_text("".join(part))
    texts = [str(tmp_path / "one.jsonl"), str(tmp_path / "other.jsonl")]
    options = search_options(tmp_path / "merged", supernet, f"trials={json.dumps(texts)}")
    merged = search(options, CPU)
    assert merged.front == whole.front
    assert merged.answers == whole.answers
    assert not (tmp_path / "merged" / "trials.jsonl").exists()  # nothing was evaluated


def test_a_better_subnet_of_another_log_is_an_answer(supernet: Path, tmp_path: Path) -> None:
    sets = ("searcher.name=exhaustive", "num_trials=1000")
    every = search(search_options(tmp_path / "every", supernet, *sets), CPU)
    log = json.dumps([str(tmp_path / "every" / "trials.jsonl")])
    few = search_options(tmp_path / "few", supernet, "num_trials=3", f"trials={log}")
    assert search(few, CPU).answers == every.answers
    missing = search_options(tmp_path / "no", supernet, "trials=[/nowhere.jsonl]")
    with pytest.raises(ConfigError, match=r"no log of trials /nowhere\.jsonl"):
        search(missing, CPU)


def test_many_processes_append_without_losing_a_line(tmp_path: Path) -> None:
    log = tmp_path / "trials.jsonl"
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from gancompress.elastic import Subnet\n"
        "from gancompress.search import Trial, TrialLog\n"
        "log = TrialLog(Path(sys.argv[1]), 'key')\n"
        "for i in range(50):\n"
        "    log.append(Trial(Subnet((int(sys.argv[2]) * 50 + i + 1,)), 1, 0.5, {'x': 1 / 3}))\n"
    )
    repository = Path(__file__).resolve().parent.parent
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(log), str(number)],
            env={**os.environ, "PYTHONPATH": str(repository)},
        )
        for number in range(2)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    from gancompress.elastic import SearchSpace, Width

    space = SearchSpace((Width(("x",), 100, tuple(range(1, 101))),))
    assert len(TrialLog(log, "key").load(space)) == 100
