#!/usr/bin/env python3
"""Images per second of distillation on one process and on several, and what limits them.

    python benchmarks/data_parallel.py [--ranks 2] [--size 128] [--batch 4] [--rounds 5]

Every process has one thread, so that one process does not use the cores of the others. Of several
processes it measures the same batch divided among them, and as large a batch for each. Efficiency
is the rate over that of one process times their number. The time for gradients is that of
exchanging them, with the wait for the slowest process. Networks are those of training_step.py.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import torch
from training_step import make_task

from gancompress.data import Batch
from gancompress.distributed import (
    process_group,
    rank,
    share_of,
    under_torchrun,
    whole_batches,
    world_size,
)
from gancompress.training import distill


def measure(size: int, batch_size: int, rounds: int) -> dict[str, float]:
    """Median seconds of a step on this rank, and of its exchange of gradients."""
    task = make_task("sandwich", "fp32")
    exchange, seconds, waits = distill.average_gradients, [], []

    def timed(optimisers: list[torch.optim.Optimizer]) -> None:
        start = time.perf_counter()
        exchange(optimisers)
        waits.append(time.perf_counter() - start)

    distill.average_gradients = timed
    images = torch.Generator().manual_seed(rank())
    shape = (share_of(batch_size), 3, size, size)
    batch = Batch(*(torch.rand(shape, generator=images) * 2 - 1 for _ in range(3)))
    rng = torch.Generator().manual_seed(0)
    for _ in range(rounds + 1):
        start = time.perf_counter()
        with whole_batches():
            task.step(batch, rng, 0.0)
        seconds.append(time.perf_counter() - start)
    parameters = sum(p.numel() for p in [*task.net.parameters(), *task.terms.parameters()])
    return {
        "step": statistics.median(seconds[1:]),  # the first one warms up
        "exchange": statistics.median(waits[1:]),
        "parameters": parameters,
    }


def on_ranks(ranks: int, args: argparse.Namespace, batch: int) -> dict[str, float]:
    """What the first of several processes has measured."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", str(ranks), __file__),
        *("--size", str(args.size), "--batch", str(batch), "--rounds", str(args.rounds)),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Start the processes and print a table; or measure, as one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if under_torchrun():
        torch.set_num_threads(1)
        with process_group(torch.device("cpu")):
            found: Any = measure(args.size, args.batch, args.rounds)
            if rank() == 0:
                print(json.dumps({**found, "ranks": world_size()}))
        return
    alone = on_ranks(1, args, args.batch)
    base = args.batch / alone["step"]
    print(f"{alone['parameters'] / 1e6:.1f} M parameters of the student, {args.size}x{args.size}")
    print(f"1 process,   batch {args.batch:3d}: {base:6.2f} images/s")
    for batch in (args.batch, args.batch * args.ranks):
        several = on_ranks(args.ranks, args, batch)
        speed = batch / several["step"]
        print(
            f"{args.ranks} processes, batch {batch:3d}: {speed:6.2f} images/s, "
            f"efficiency {speed / base / args.ranks:.2f}, "
            f"gradients {several['exchange'] / several['step']:.1%} of a step"
        )


if __name__ == "__main__":
    main()
