#!/usr/bin/env python3
"""How many subnets a second of processor time the closed-form costs take, beside a trace of each.

    python benchmarks/costs.py

ResNet-9 at ngf 64 and 256x256 with the eight numbers of the published configs, the same generator
with every group of its own, the U-Net of pix2pix, and the ResNet-9 with eight widths, all depths,
kernels and three resolutions: more than 10^19 subnets.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from gancompress.config import GeneratorOptions
from gancompress.elastic import Supernet, Tie, make_space, trace
from gancompress.models import build_generator
from gancompress.models.resnet import SHORT_FORM, resnet_ties

SIZE = 256
TIED, OWN, ALL = "8 numbers", "own widths", "all kinds"


def make_supernet(name: str, form: str) -> Supernet:
    """A generator of ngf 64, with widths of 1/4 to 1 unless its form is all kinds."""
    generator = build_generator(GeneratorOptions(input_nc=3, output_nc=3, name=name, ngf=64))
    example = torch.empty(1, 3, SIZE, SIZE)
    if form == OWN:
        return Supernet(generator, example)
    if form == ALL:
        widths, depths = ([n / count for n in range(1, count + 1)] for count in (8, 9))
        return Supernet(
            generator, example, widths, depths=depths, kernels=(1, 3, 5, 7),
            resolutions=(0.5, 0.75, 1.0),
        )  # fmt: skip
    groups = trace(generator, tuple(example.shape)).groups
    ties = [Tie(*tie) for tie in resnet_ties(group.name for group in groups)]
    space = make_space(groups, (0.25, 0.375, 0.5, 0.75, 1.0), 8, ties, SHORT_FORM)
    return Supernet(generator, example, space=space)


def seconds(call: Callable[[], object], rounds: int) -> float:
    """Median processor time of a call after one that warms up."""
    times = []
    for _ in range(rounds + 1):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return statistics.median(times[1:])


def main() -> None:
    """Print subnets a second for each way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subnets", type=int, default=390_625)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    resnet = "resnet_9blocks"
    for name, form in ((resnet, TIED), (resnet, OWN), ("unet_256", OWN), (resnet, ALL)):
        net = make_supernet(name, form)
        genomes = net.space.sample_genomes(args.subnets, np.random.default_rng(0))
        subnets = net.space.subnets(genomes[:1000])
        small = net.extract(subnets[0]).to("meta")
        image = torch.empty(1, 3, SIZE, SIZE, device="meta")

        def traced(small: torch.nn.Module = small, image: torch.Tensor = image) -> None:
            with FlopCounterMode(display=False):
                small(image)

        ways: dict[str, tuple[int, Callable[[], object]]] = {
            "macs": (args.subnets, lambda net=net, g=genomes: net.costs.macs(g, SIZE)),
            "params": (args.subnets, lambda net=net, g=genomes: net.costs.params(g)),
            "one by one": (1000, lambda net=net, s=subnets: [net.macs(x, SIZE) for x in s]),
            "one trace": (1, traced),
        }
        for way, (count, call) in ways.items():
            rate = count / seconds(call, args.rounds)
            print(f"{name:14s} {form:10s} D={len(net.space):2d} {way:10s} {rate:14,.0f} subnets/s")


if __name__ == "__main__":
    main()
