#!/usr/bin/env python3
"""Seconds for one evaluated subnet: the published procedure against ours, on the same images.

    python benchmarks/search.py GENERATOR DATA --features mobilenet_v1_0.75=FILE
    python benchmarks/search.py GENERATOR DATA --features wide=wide_features:WideFeatures
    python benchmarks/search.py GENERATOR DATA --features ... --config-set channels-32

GENERATOR is a checkpoint whose family is searched, such as the published horse2zebra generator;
DATA its data set. For each random subnet both procedures translate the search split and compute
the Frechet distance to the real images of that split, in turn, in float32; with --precision
bfloat16, ours in that, and --ranked N also says how it orders N random subnets against float32.
With --config-set the subnets are those of a published space under a budget, with random weights:
for timings.

Published: eager, batches of 32, features in batches of 32, covariances, scipy's matrix square root;
MACs by running the network. Ours: what `gancompress search` does: ONNX Runtime with one image for
each thread, inner products of features, cached real features, MACs in closed form.

`wide` is a network of Inception's size with random weights: only its seconds mean anything.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from gancompress.checkpoint.network import Network, load_network
from gancompress.config import DataOptions, StudentOptions
from gancompress.cost import parse_count
from gancompress.data import load_split, to_float, to_uint8
from gancompress.elastic import Subnet, Supernet
from gancompress.runtimes.openvino import PRECISIONS
from gancompress.search.compiled import Workload, compile_subnets
from gancompress.search.evaluator import Evaluator
from gancompress.search.quality import load_quality
from gancompress.search.searchers.regressor import kendall_tau
from gancompress.training.student import make_student

sys.path.insert(0, str(Path(__file__).resolve().parent))  # factories of feature networks
warnings.filterwarnings("ignore")
PUBLISHED_BATCH = 32
"""Of the released search scripts."""
PARTS = ("forward", "features", "distance")
CPU = torch.device("cpu")


@dataclass
class Timed:
    """A score and where its seconds went."""

    loss: float
    seconds: dict[str, float]

    @property
    def total(self) -> float:
        """Seconds of all parts."""
        return sum(self.seconds.values())


@torch.inference_mode()
def published(evaluator: Evaluator, subnet: Subnet, real: tuple[np.ndarray, np.ndarray]) -> Timed:
    """The released body of one evaluation, with this evaluator's feature network."""
    from scipy import linalg

    network = evaluator.quality.network
    assert network is not None
    marks = [time.perf_counter()]
    with FlopCounterMode(display=False):
        evaluator.net(to_float(evaluator.inputs[:1]), subnet)
    fakes = []
    for chunk in evaluator.inputs.split(PUBLISHED_BATCH):
        fakes.append(to_uint8(evaluator.net(to_float(chunk), subnet)))
    marks.append(time.perf_counter())
    found = []
    for chunk in torch.cat(fakes).split(PUBLISHED_BATCH):
        batch = torch.stack([network.prepared(image) for image in chunk])
        found.append(network.module(batch).flatten(1).double())
    features = torch.cat(found).numpy()
    marks.append(time.perf_counter())
    mean, covariance = features.mean(0), np.cov(features, rowvar=False)
    root = linalg.sqrtm(covariance @ real[1])
    difference = mean - real[0]
    trace = np.trace(covariance) + np.trace(real[1]) - 2 * np.trace(root.real)
    marks.append(time.perf_counter())
    seconds = dict(zip(PARTS, np.diff(marks).tolist(), strict=True))
    return Timed(float(difference @ difference + trace), seconds)


def ours(evaluator: Evaluator, subnet: Subnet) -> Timed:
    """What a search does."""
    start = time.perf_counter()
    trial = evaluator.measure(subnet)
    seconds = dict(trial.seconds)
    seconds["forward"] += time.perf_counter() - start - sum(seconds.values())
    return Timed(trial.loss, seconds)


def load_space(args: argparse.Namespace, network: Network) -> tuple[Supernet, int, list[Subnet]]:
    """The supernet, its stride, and subnets to evaluate."""
    options = StudentOptions(widths=(0.5, 0.75, 1.0), divisor=4)
    if args.config_set:
        name, ngf = "mobile_resnet_9blocks", int(args.config_set.split("-")[1])
        options = StudentOptions(name=name, ngf=ngf, config_set=args.config_set, inherit=False)
    torch.manual_seed(0)
    student = make_student(options, network)
    net, rng = student.net.eval(), random.Random(0)
    if not args.config_set:
        return net, student.stride, [net.space.sample(rng) for _ in range(args.subnets)]
    limit = parse_count(args.paper_macs, "--paper-macs")
    every = net.space.genomes_at(np.arange(net.space.size))
    fitting = np.flatnonzero(net.costs.macs(every, args.size, paper=True) <= limit)
    print(
        f"{len(fitting):,} of {net.space.size:,} subnets fit {args.paper_macs} MACs as papers count"
    )
    drawn = rng.sample(fitting.tolist(), args.subnets)
    return net, student.stride, net.space.subnets(every[drawn])


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("generator", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--features", required=True, metavar="NAME=FILE_OR_FACTORY")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--images", type=int, default=107)
    parser.add_argument("--subnets", type=int, default=3)
    parser.add_argument("--config-set", metavar="NAME", help="a published space, random weights")
    parser.add_argument("--paper-macs", default="2.67G", help="budget in a published space")
    parser.add_argument("--runtime", help="of ours; auto, for bfloat16 openvino")
    parser.add_argument("--precision", choices=list(PRECISIONS), default="float32", help="of ours")
    parser.add_argument("--ranked", type=int, default=0, help="subnets for the rank agreement")
    args = parser.parse_args()
    name, _, source = args.features.partition("=")
    network = load_network(args.generator)
    net, stride, subnets = load_space(args, network)
    split = load_split(DataOptions(root=args.data, mode="unpaired"), "search", args.size)
    evaluator = Evaluator.of_split(net, network.module, split, args.images, 2, CPU)
    evaluator = replace(evaluator, quality=load_quality(f"fid[{name}]", {name: source}))
    evaluator.references  # noqa: B018  # computed at the first use
    work = Workload(net, stride, evaluator.size, len(evaluator.inputs), CPU)
    runtime = args.runtime or ("auto" if args.precision == "float32" else "openvino")
    compiled = compile_subnets(work, runtime, args.precision)
    evaluator = evaluator.compiled_as(compiled)
    assert evaluator.real is not None
    real = evaluator.real.features.numpy()
    moments = real.mean(0), np.cov(real, rowvar=False)
    print(
        f"{len(evaluator.inputs)} images at {args.size}x{args.size}, {real.shape} real features, "
        f"{torch.get_num_threads()} threads, {evaluator.runtime}; teacher outputs and real "
        "features computed once", flush=True,
    )  # fmt: skip
    evaluator.measure(subnets[0])
    slow, fast = [], []
    for subnet in subnets:
        slow.append(published(evaluator, subnet, moments))
        fast.append(ours(evaluator, subnet))
        difference = abs(fast[-1].loss - slow[-1].loss) / slow[-1].loss
        print(
            f"{subnet}: published {slow[-1].total:.2f} s, ours {fast[-1].total:.2f} s "
            f"({slow[-1].total / fast[-1].total:.1f}x), scores {slow[-1].loss:.6g}, relative "
            f"difference {difference:.1e}", flush=True,
        )  # fmt: skip
    show("published", slow)
    show("ours", fast)
    ratios = [one.total / other.total for one, other in zip(slow, fast, strict=True)]
    print(f"median ratio: {statistics.median(ratios):.1f}")
    if args.ranked:
        rank_agreement(evaluator, args.ranked)


def show(name: str, rows: list[Timed]) -> None:
    """Medians and shares."""
    middle = statistics.median(row.total for row in rows)
    whole = sum(row.total for row in rows)
    parts = []
    for part in PARTS:
        values = [row.seconds[part] for row in rows]
        parts.append(
            f"{part} {statistics.median(values):.2f} s ({100 * sum(values) / whole:.1f} %)"
        )
    print(f"{name}: {middle:.2f} s, {60 / middle:.1f} a minute: {', '.join(parts)}")


def rank_agreement(evaluator: Evaluator, count: int) -> None:
    """How another precision orders subnets, against float32."""
    exact = evaluator.in_float32()
    if exact is evaluator:
        return
    rng = random.Random(1)
    subnets = [evaluator.net.space.sample(rng) for _ in range(count)]
    trials = [evaluator.measure(subnet) for subnet in subnets]
    dear = np.array([trial.loss for trial in trials])
    whole = np.array([exact.measure(subnet).loss for subnet in subnets])
    print(f"Kendall tau of {evaluator.runtime} and {exact.runtime} over the same subnets: "
          f"{kendall_tau(dear, whole):.2f}; largest relative difference of scores "
          f"{np.max(np.abs(dear - whole) / np.abs(whole)):.1e}")  # fmt: skip


if __name__ == "__main__":
    main()
