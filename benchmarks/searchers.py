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
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from landscapes import SHAPES, Found, Table, chain_macs, make_landscape, make_space

from gancompress.elastic import SearchSpace, Width
from gancompress.search.log import whole_lines
from gancompress.search.problem import Problem
from gancompress.search.searchers import SEARCHERS, Guided
from gancompress.search.trials import Trial

SHARE = 0.99


def needed(table: Table, name: str, seed: int) -> float:
    """Evaluations until the share is reached, to a generation."""
    searcher = SEARCHERS[name](generation=20) if name == "random" else SEARCHERS[name]()
    return table.search(searcher, seed, len(table.losses), SHARE).needed(SHARE)


def histories(table: Table, name: str, args: argparse.Namespace) -> Iterator[float]:
    """One number for each seed."""
    for seed in range(args.seeds):
        if name == "published":
            history = table.search_budgets(args.budgets, seed, len(table.losses), SHARE)
            yield history.needed(SHARE)
        else:
            yield needed(table, name, seed)


def read_trials(path: Path) -> tuple[SearchSpace, list[Found]]:
    """The space that a log's subnets span, and its complete trials.

    Where weights, images or scores have changed in between, those of the most lines.
    """
    lines = whole_lines(path.read_text())
    if not lines:
        raise SystemExit(f"{path} holds no trials")
    (key, _), *_ = Counter(key for key, _ in lines).most_common(1)
    every = [Trial.from_json(content) for other, content in lines if other == key]
    trials = {trial.subnet: Found(trial.subnet, trial.loss) for trial in every if trial.complete}
    columns = zip(*(subnet.values for subnet in trials), strict=True)
    choices = [tuple(sorted(set(column))) for column in columns]
    space = SearchSpace(tuple(Width((f"g{i}",), c[-1], c) for i, c in enumerate(choices)))
    return space, list(trials.values())


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budgets", type=int, default=8)
    parser.add_argument("--noise", type=float, default=0.0, help="of every subnet, relative")
    parser.add_argument("--trials", type=Path, nargs="*", default=())
    args = parser.parse_args()
    names = ("random", "published", "evolution", "guided")
    print("quality    " + "".join(f"{name:>11s}" for name in names) + "   of 4,096; s a proposal")
    space = make_space()
    for shape in SHAPES:
        loss = make_landscape(shape, 0, space, args.noise).loss
        table = Table(Problem(space, {"macs": chain_macs}), loss)
        medians = [statistics.median(histories(table, name, args)) for name in names]
        start = time.perf_counter()
        history = table.search(Guided(), 0, 200)
        seconds = (time.perf_counter() - start) / len(history.ends)
        print(f"{shape:11s}" + "".join(f"{m:11.0f}" for m in medians) + f"   {seconds:.2f}")
    for path in args.trials:
        space, trials = read_trials(path)
        # a log does not say what other subnets cost: the predictor goes without MACs here
        problem = Problem(space, {"widths": lambda genomes: genomes.sum(axis=1).astype(float)})
        found = Guided().diagnose(problem, trials)
        print(f"{path}: {len(trials)} trials, "
              + ", ".join(f"{name} {value:.2f}" for name, value in found.items()))  # fmt: skip


if __name__ == "__main__":
    main()
