#!/usr/bin/env python3
"""Evaluations that each searcher needs for the front, beside the published evolution's settings.

    python benchmarks/searchers.py
    python benchmarks/searchers.py --trials runs/*/search/trials.jsonl

Synthetic qualities over 4,096 subnets (see tests/landscapes.py): how many evaluations until the
trials dominate 99 % of what the exhaustive front dominates, on a logarithmic axis of MACs, the
reference at the front's own corners; median over the seeds. The published procedure answers one
budget; for the front it is run for `--budgets` budgets in turn, a generation each, and subnets
that it evaluated before cost nothing. With --trials: the predictor's rank agreement on held-out
trials of real searches.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from landscapes import SHAPES, Found, Table, chain_macs, make_landscape, make_space

from gancompress.elastic import Subnet
from gancompress.elastic.space import Dimension, SearchSpace
from gancompress.search.problem import Problem
from gancompress.search.searchers import (
    SEARCHERS,
    Evolution,
    Guided,
    SearcherOptions,
    generation_rng,
)

SHARE = 0.99
STALLED = 30  # rounds without a new subnet after which the published procedure is given up


def needed(table: Table, name: str, seed: int) -> float:
    """Evaluations until the share is reached, to a generation."""
    options = SearcherOptions(generation=20) if name == "random" else SearcherOptions()
    return table.search(SEARCHERS[name](options), seed, len(table.losses), SHARE).needed(SHARE)


def needed_by_budgets(table: Table, seed: int, budgets: int) -> float:
    """The same for the published procedure, once for each of some budgets evenly spread."""
    low, high = table.problem.span("macs")
    limits = np.geomspace(low, high, budgets + 1)[1:]
    problems = [Problem(table.problem.space, {"macs": chain_macs}, {"macs": x}) for x in limits]
    runs: list[list[Found]] = [[] for _ in problems]
    all_trials: dict[Subnet, Found] = {}
    for _ in range(STALLED):
        for number, (problem, trials) in enumerate(zip(problems, runs, strict=True)):
            rng = generation_rng(seed * budgets + number, len(trials))
            proposals = Evolution().propose(problem, trials, rng)
            trials += [Found(subnet, table.by_subnet[subnet]) for subnet in proposals]
            all_trials |= {trial.subnet: trial for trial in trials}
            if table.share(list(all_trials.values())) >= SHARE:
                return len(all_trials)
    return float("inf")


def courses(table: Table, name: str, args: argparse.Namespace) -> Iterator[float]:
    """One number for each seed."""
    for seed in range(args.seeds):
        if name == "published":
            yield needed_by_budgets(table, seed, args.budgets)
        else:
            yield needed(table, name, seed)


def read_trials(path: Path) -> tuple[SearchSpace, list[Found]]:
    """The space that a log's subnets span, and the trials."""
    entries = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    trials = {
        entry["subnet"]: Found(Subnet(tuple(map(int, entry["subnet"].split("_")))), entry["loss"])
        for entry in entries
    }
    columns = zip(*(trial.subnet.widths for trial in trials.values()), strict=True)
    choices = [tuple(sorted(set(column))) for column in columns]
    space = SearchSpace(tuple(Dimension((f"g{i}",), c[-1], c) for i, c in enumerate(choices)))
    return space, list(trials.values())


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budgets", type=int, default=8)
    parser.add_argument("--noise", type=float, default=0.0, help="of every subnet, relative")
    parser.add_argument("--trials", type=Path, nargs="*", default=())
    args = parser.parse_args()
    names = ("random", "published", "evolution", "nsga2", "guided")
    print("quality    " + "".join(f"{name:>11s}" for name in names) + "   of 4,096; s a proposal")
    space = make_space()
    for shape in SHAPES:
        loss = make_landscape(shape, 0, space, args.noise).loss
        table = Table(Problem(space, {"macs": chain_macs}), loss)
        medians = [statistics.median(courses(table, name, args)) for name in names]
        start = time.perf_counter()
        course = table.search(SEARCHERS["guided"](SearcherOptions()), 0, 200)
        seconds = (time.perf_counter() - start) / len(course.ends)
        print(f"{shape:11s}" + "".join(f"{m:11.0f}" for m in medians) + f"   {seconds:.2f}")
    for path in args.trials:
        space, trials = read_trials(path)
        # a log does not say what other subnets cost: the predictor goes without MACs here
        problem = Problem(space, {"widths": lambda genomes: genomes.sum(axis=1).astype(float)})
        report = Guided().report(problem, trials)
        print(f"{path}: {len(trials)} trials, Kendall tau {report.kendall_tau:.2f} held out, "
              f"{report.inside:.0%} within two deviations")  # fmt: skip


if __name__ == "__main__":
    main()
