#!/usr/bin/env python3
"""Seconds for one evaluated subnet: the published procedure against ours, on the same images.

    python benchmarks/search.py GENERATOR DATA --features mobilenet_v1_0.75=FILE [--subnets 4]

GENERATOR is a checkpoint whose family is searched, such as the published horse2zebra generator;
DATA its data set. For each random subnet both procedures translate the search split and compute
the Frechet distance to the real images of that split, in turn, in float32.

Published: batches of 32, features in batches of 32, covariances, scipy's matrix square root; MACs
by running the network. Ours: small batches, inner products of features, cached real features,
MACs in closed form. At last, how well the cheap distance to the teacher ranks subnets.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from gancompress.checkpoint.network import load_network
from gancompress.config import DataOptions, StudentOptions
from gancompress.data import load_split, to_float, to_uint8
from gancompress.elastic import Subnet
from gancompress.search.evaluator import Evaluator
from gancompress.search.quality import load_quality
from gancompress.search.searchers.regressor import kendall_tau
from gancompress.training.student import make_student

warnings.filterwarnings("ignore")
PUBLISHED_BATCH = 32
"""Of the released search scripts."""


def published(evaluator: Evaluator, subnet: Subnet, real: tuple[np.ndarray, np.ndarray]) -> float:
    """The released body of one evaluation, with this evaluator's feature network."""
    from scipy import linalg

    network = evaluator.quality.network
    assert network is not None
    with torch.inference_mode():
        with FlopCounterMode(display=False):
            evaluator.net(to_float(evaluator.inputs[:1]), subnet)
        fakes = []
        for chunk in evaluator.inputs.split(PUBLISHED_BATCH):
            fakes.append(to_uint8(evaluator.net(to_float(chunk), subnet)))
        found = []
        for chunk in torch.cat(fakes).split(PUBLISHED_BATCH):
            batch = torch.stack([network.prepared(image) for image in chunk])
            found.append(network.module(batch).flatten(1).double())
    features = torch.cat(found).numpy()
    mean, covariance = features.mean(0), np.cov(features, rowvar=False)
    root = linalg.sqrtm(covariance @ real[1])
    difference = mean - real[0]
    trace = np.trace(covariance) + np.trace(real[1]) - 2 * np.trace(root.real)
    return float(difference @ difference + trace)


def timed(call: Callable[[], float]) -> tuple[float, float]:
    """Result and seconds."""
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("generator", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--features", required=True, metavar="NAME=FILE")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--images", type=int, default=107)
    parser.add_argument("--subnets", type=int, default=4)
    parser.add_argument("--ranked", type=int, default=0, help="subnets for the rank agreement")
    args = parser.parse_args()
    name, _, source = args.features.partition("=")
    network = load_network(args.generator)
    net = make_student(StudentOptions(widths=(0.5, 0.75, 1.0), divisor=4), network).net
    data = DataOptions(root=args.data, mode="unpaired")
    split = load_split(data, "search", args.size)
    cpu = torch.device("cpu")
    evaluator = Evaluator.of_split(net.eval(), network.module, split, args.images, 2, cpu)
    evaluator.quality = load_quality(f"fid[{name}]", {name: source})
    assert evaluator.real is not None
    real = evaluator.real.features.numpy()
    moments = real.mean(0), np.cov(real, rowvar=False)
    print(
        f"{len(evaluator.inputs)} images at {args.size}x{args.size}, {len(real)} real, "
        f"{torch.get_num_threads()} threads; teacher outputs and real features computed once"
    )
    evaluator.references  # noqa: B018  # computed at the first use
    rng = random.Random(0)
    subnets = [net.space.sample(rng) for _ in range(args.subnets)]
    evaluator.measure(subnets[0])
    rows = []
    for subnet in subnets:
        expected, slow = timed(lambda s=subnet: published(evaluator, s, moments))
        start = time.perf_counter()
        trial = evaluator.measure(subnet)
        fast = time.perf_counter() - start
        rows.append((slow, fast, trial.seconds, abs(trial.loss - expected) / expected))
        print(
            f"{subnet}: published {slow:.2f} s, ours {fast:.2f} s ({slow / fast:.1f}x), "
            f"relative difference of the scores {rows[-1][3]:.1e}", flush=True,
        )  # fmt: skip
    total = [sum(row[2].values()) for row in rows]
    for part in ("forward", "features", "distance"):
        values = [row[2][part] for row in rows]
        share = sum(values) / sum(total)
        print(f"  {part}: {statistics.median(values):.3f} s, {100 * share:.1f} %")
    ratio = statistics.median(row[0] / row[1] for row in rows)
    print(f"evaluations a minute: {60 / statistics.median(row[1] for row in rows):.1f}")
    print(f"median ratio: {ratio:.1f}")
    if args.ranked:
        rank_agreement(evaluator, args.ranked, rng)


def rank_agreement(evaluator: Evaluator, count: int, rng: random.Random) -> None:
    """How the distance to the teacher orders subnets, against the distance to real images."""
    subnets = [evaluator.net.space.sample(rng) for _ in range(count)]
    trials = [evaluator.measure(subnet) for subnet in subnets]
    cheap = Tensor([trial.scores["teacher_mae"] for trial in trials]).numpy()
    dear = Tensor([trial.loss for trial in trials]).numpy()
    print(f"Kendall tau of teacher_mae and {evaluator.quality.name} over {count} random subnets: "
          f"{kendall_tau(cheap, dear):.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
