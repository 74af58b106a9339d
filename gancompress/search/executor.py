"""Who evaluates: this process, several processes, or all ranks of `torchrun`.

All of them return the same trials in the same order, so nothing but the time depends on them.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait as wait_for_any
from typing import Any, Protocol

import torch

from gancompress.distributed import exchanged, rank, world_size
from gancompress.elastic import Subnet
from gancompress.errors import ConfigError
from gancompress.search.racing import Rival
from gancompress.search.trials import Trial

Stop = Callable[[], bool]
Done = Callable[[Trial], None]
WAIT_S = 0.5  # between two looks at whether to stop


class Worker(Protocol):
    """Evaluates one subnet."""

    def __call__(self, subnet: Subnet, rivals: Sequence[Rival]) -> Trial:
        """Its trial."""


@dataclass(frozen=True)
class Request:
    """A subnet and those it has to keep up with."""

    subnet: Subnet
    rivals: tuple[Rival, ...] = ()


class Executor(Protocol):
    """Evaluates generations."""

    def evaluate(self, requests: Sequence[Request], done: Done, stop: Stop) -> list[Trial] | None:
        """Trials in the order of the requests; `done` gets each as soon as it is there.

        Returns:
            The trials, or None where `stop` said so before all were evaluated.
        """


@dataclass(frozen=True)
class SerialExecutor:
    """This process, one subnet after the other.

    Attributes:
        worker: Evaluates.
    """

    worker: Worker

    def evaluate(self, requests: Sequence[Request], done: Done, stop: Stop) -> list[Trial] | None:
        """See `Executor`."""
        trials = []
        for request in requests:
            if stop():
                return None
            trials.append(self.worker(request.subnet, request.rivals))
            done(trials[-1])
        return trials


_worker: list[Worker] = []  # of a process of a pool: made once, used for all its requests


def _follow_parent() -> None:
    """End this process with the one that made it: nobody else would, if that one is killed."""
    parent = parent_process()
    assert parent is not None
    wait_for_any([parent.sentinel])
    os._exit(1)


def _start(make: Callable[[Any], Worker], argument: Any, threads: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent decides when to stop
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    torch.set_num_threads(threads)
    _worker.append(make(argument))


def _work(request: Request) -> Trial:
    return _worker[0](request.subnet, request.rivals)


@dataclass(frozen=True)
class ProcessExecutor:
    """Several processes of this machine, each with an evaluator of its own.

    Attributes:
        processes: With a worker in each.
    """

    processes: ProcessPoolExecutor

    def evaluate(self, requests: Sequence[Request], done: Done, stop: Stop) -> list[Trial] | None:
        """See `Executor`."""
        futures: dict[Future[Trial], int] = {
            self.processes.submit(_work, request): index for index, request in enumerate(requests)
        }
        trials: dict[int, Trial] = {}
        left = set(futures)
        while left:
            ready, left = wait(left, WAIT_S, FIRST_COMPLETED)
            for future in ready:
                try:
                    trials[futures[future]] = future.result()
                except BrokenProcessPool:
                    raise ConfigError(
                        "a worker process died, possibly out of memory; finished trials are kept\n"
                        "  Use fewer workers: --workers N."
                    ) from None
                done(trials[futures[future]])
            if left and stop():  # what runs already is worth its time: it ends, and is kept
                left = {future for future in left if not future.cancel()}
        if len(trials) < len(requests):
            return None
        return [trials[index] for index in range(len(requests))]


@contextmanager
def pool(count: int, make: Callable[[Any], Worker], argument: Any) -> Iterator[ProcessExecutor]:
    """A pool of processes while the block runs.

    Args:
        count: Number of processes; the machine's threads are divided among them.
        make: Makes a process's evaluator; a function of a module.
        argument: For `make`.
    """
    threads = max(1, torch.get_num_threads() // count)
    processes = ProcessPoolExecutor(
        count, get_context("spawn"), initializer=_start, initargs=(make, argument, threads)
    )
    try:
        yield ProcessExecutor(processes)
    finally:
        processes.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class RankExecutor:
    """All ranks of `torchrun`, on any number of machines.

    The first rank reads the log, proposes and writes; in each round every rank evaluates one
    subnet, and all get all results. So nothing depends on a clock, a processor or a file system of
    any other rank.

    Attributes:
        worker: Evaluates on this rank.
    """

    worker: Worker

    def evaluate(self, requests: Sequence[Request], done: Done, stop: Stop) -> list[Trial] | None:
        """See `Executor`; a signal to any rank stops all of them together."""
        trials: list[Trial] = []
        for start in range(0, len(requests), world_size()):
            mine = start + rank()
            own = None
            if mine < len(requests):
                own = self.worker(requests[mine].subnet, requests[mine].rivals)
            gathered = exchanged((own, stop()))
            for trial, _ in gathered:
                if trial is not None:
                    trials.append(trial)
                    done(trial)
            if any(stopped for _, stopped in gathered) and len(trials) < len(requests):
                return None
        return trials
