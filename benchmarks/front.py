#!/usr/bin/env python3
"""The whole front of a real supernet: every subnet that fits a budget, against a search for it.

    python benchmarks/front.py SUPERNET DATA [--images 30] [--table FILE]

A third candidate of every width is left out and the budget leaves about two fifths of the space,
as in the published space channels-32 (3^8 = 6,561 subnets, of which 2,568 fit 2.67 G MACs as papers
count). All that fit are evaluated once, by their distance to the teacher; the table keeps that.
Then searchers look for the front in the table: how many evaluations they need for 99 % of the
exhaustive front's hypervolume (logarithmic MACs, the reference at the front's own corners), and
how much they have after given numbers, over several seeds. The published procedure answers one
budget; for the front it is run for `--budgets` budgets in turn, and what it evaluated before costs
nothing: so it proposes more subnets than are evaluated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from landscapes import Table

from gancompress.checkpoint.network import load_network, load_supernet
from gancompress.config import DataOptions
from gancompress.data import load_split
from gancompress.elastic import Supernet
from gancompress.elastic.space import Genomes
from gancompress.search.compiled import Workload, compile_subnets
from gancompress.search.evaluator import Evaluator
from gancompress.search.front import Floats
from gancompress.search.problem import Problem
from gancompress.search.searchers import SEARCHERS

SHARE = 0.99
FITTING = 2568 / 6561
"""Share of the published space that fits its budget."""
NUMBERS = (50, 100, 200, 400)
LIMIT = 800  # evaluations after which a searcher ends
CPU = torch.device("cpu")


def narrowed(net: Supernet) -> Supernet:
    """The supernet with three candidates for each width: the narrowest, the middle, the widest."""
    dimensions = []
    for dimension in net.space.dimensions:
        choices = dimension.choices
        kept = tuple(sorted({choices[0], choices[len(choices) // 2], choices[-1]}))
        dimensions.append(replace(dimension, choices=kept))
    net.space = replace(net.space, dimensions=tuple(dimensions))
    return net


def evaluate(problem: Problem, evaluator: Evaluator, path: Path) -> dict[str, float]:
    """Losses of all subnets that fit, by their text; what the file has is not evaluated again."""
    known: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    subnets = problem.space.subnets(problem.space.genomes_at(problem.fitting))
    left = [subnet for subnet in subnets if str(subnet) not in known]
    start = time.perf_counter()
    for subnet in tqdm(left, disable=None):
        known[str(subnet)] = evaluator.measure(subnet).loss
        if len(known) % 500 == 0:
            path.write_text(json.dumps(known))
    path.write_text(json.dumps(known))
    if left:
        seconds = time.perf_counter() - start
        print(f"{len(left):,} evaluated in {seconds:.0f} s, {seconds / len(left):.3f} s each, "
              f"in {evaluator.runtime}", flush=True)  # fmt: skip
    return known


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("supernet", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--mode", default="paired")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budgets", type=int, default=8, help="of the published procedure")
    parser.add_argument("--table", type=Path, default=Path("front_table.json"))
    args = parser.parse_args()
    net, network = load_supernet(args.supernet)
    net = narrowed(net.eval())

    def macs(genomes: Genomes) -> Floats:
        return net.costs.macs(genomes, args.size).astype(np.float64)

    every = macs(net.space.genomes_at(np.arange(net.space.size)))
    limit = float(np.quantile(every, FITTING))
    problem = Problem(net.space, {"macs": macs}, {"macs": limit})
    split = load_split(DataOptions(root=args.data, mode=args.mode), "search", args.size)
    teacher = load_network(args.teacher).module
    evaluator = Evaluator.of_split(net, teacher, split, args.images, 4, CPU)
    work = Workload(net, network.stride, evaluator.size, len(evaluator.inputs), CPU)
    evaluator = evaluator.compiled_as(compile_subnets(work, "auto", "float32"))
    print(f"{len(problem.fitting):,} of {net.space.size:,} subnets fit {limit:.3g} MACs; "
          f"{len(evaluator.inputs)} images at {args.size}x{args.size}", flush=True)  # fmt: skip
    losses = evaluate(problem, evaluator, args.table)

    def loss(genomes: Genomes) -> Floats:
        return np.array([losses[str(subnet)] for subnet in net.space.subnets(genomes)])

    table = Table(problem, loss)
    print(f"evaluations for {SHARE:.0%} of the hypervolume, median (of {args.seeds} seeds, all); "
          f"share after {', '.join(map(str, NUMBERS))}: the least; "
          "subnets evaluated of those proposed")  # fmt: skip
    for name in ("random", "published", "evolution", "guided"):
        report(name, table, args.seeds, args.budgets)


def report(name: str, table: Table, seeds: int, budgets: int) -> None:
    """One searcher's line."""
    if name == "published":
        histories = [table.search_budgets(budgets, seed, LIMIT) for seed in range(seeds)]
    else:
        searcher = SEARCHERS[name](generation=20) if name == "random" else SEARCHERS[name]()
        histories = [table.search(searcher, seed, LIMIT) for seed in range(seeds)]
    needed = [history.needed(SHARE) for history in histories]
    shares = []
    for number in NUMBERS:
        reached = [
            max((s for e, s in zip(c.ends, c.shares, strict=True) if e <= number), default=0.0)
            for c in histories
        ]
        shares.append(f"{min(reached):.4f}")
    evaluated, proposed = (
        round(statistics.median(counts))
        for counts in ([len(c.trials) for c in histories], [c.proposed for c in histories])
    )
    print(f"{name:10s} {statistics.median(needed):5.0f} {needed}  {' '.join(shares)}  "
          f"{evaluated} of {proposed}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
