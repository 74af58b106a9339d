#!/usr/bin/env python3
"""Images per second of one distillation step: the published step against ours.

    python benchmarks/training_step.py [--size 128] [--batch 4] [--rounds 5]

The published step trains one random subnet: the teacher runs completely and in float32, the
discriminator runs three times (on the detached output, on the real image, and again on the output
for the generator's gradient), Adam is not fused. Ours runs the teacher once and only as far as its
last matched layer, takes both players' gradients from one discriminator graph, and uses bfloat16
where the hardware multiplies in it. Both train the same student (ResNet-9 teacher, separable
ResNet-9 student, ngf 64, PatchGAN ndf 64) and take turns, so that a drifting machine slows both.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from gancompress.checkpoint.network import Network, new_discriminator
from gancompress.config import (
    DiscriminatorOptions,
    DistillLossOptions,
    GeneratorOptions,
    SamplingOptions,
    ScheduleOptions,
    StudentOptions,
)
from gancompress.data import Batch, ImageSet, Split
from gancompress.losses import discriminator_gan_loss, feature_distillation, generator_gan_loss
from gancompress.losses.terms.activations import MatchedActivations
from gancompress.models import build_generator, init_weights
from gancompress.training.distill import DistillTask, Recipe
from gancompress.training.networks import activations
from gancompress.training.sampling import SubnetSampler
from gancompress.training.student import make_student


def make_task(schedule: str, precision: str) -> DistillTask:
    """A distillation of the published fast pipeline's networks with random weights."""
    torch.manual_seed(0)
    options = GeneratorOptions(input_nc=3, output_nc=3, name="resnet_9blocks", ngf=64)
    teacher = init_weights(build_generator(options)).eval()
    network = Network(teacher, {"generator": options.model_dump()}, 4, "benchmark")
    student = make_student(
        StudentOptions(
            name="mobile_resnet_9blocks", ngf=64, config_set="channels-64-cycleGAN", inherit=False
        ),
        network,
    )
    sampling = SamplingOptions(schedule=schedule)  # type: ignore[arg-type]
    recipe = Recipe(
        DistillLossOptions(gan_mode="lsgan", lambda_recon=10, lambda_distill=0.01),
        SubnetSampler(student.net, sampling),
        sampling.inplace,
        ScheduleOptions(num_images=1, precision=precision),  # type: ignore[arg-type]
        1,
    )
    nothing = Split(ImageSet([Path("none")], 1), None, paired=False)
    judge = new_discriminator(DiscriminatorOptions(ndf=64), 3)
    return DistillTask(student, judge, nothing, recipe, torch.device("cpu"))


def published_step(task: DistillTask, optims: list[torch.optim.Adam], batch: Batch) -> None:
    """One step as published: see the top of this file."""
    assert task.adversary is not None
    assert batch.real_b is not None
    view = task.recipe.sampler(random.Random(0), 0.0)[0]
    layers = tuple(tap.student for tap in task.taps)
    wanted = activations(task.teacher, batch.real_a, (*layers, "model.27"))
    target = wanted["model.27"]
    out, features = view(batch.real_a, layers)
    for optim in optims:
        optim.zero_grad()
    judge = task.adversary.discriminator
    discriminator_gan_loss("lsgan", judge(batch.real_b), judge(out.detach())).backward()
    loss = generator_gan_loss("lsgan", judge(out)) + 10 * F.l1_loss(out, target)
    matched = task.terms.table["distill"]
    assert isinstance(matched, MatchedActivations)
    for i, name in enumerate(layers):

        def adapter(x: Tensor, i: int = i) -> Tensor:
            return matched.adapt(i, x, view)

        loss = loss + 0.01 * feature_distillation(features[name], wanted[name], adapter)
    loss.backward()
    for optim in optims:
        optim.step()


def main() -> None:
    """Time the three steps in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    shape = (args.batch, 3, args.size, args.size)
    batch = Batch(*(torch.rand(shape) * 2 - 1 for _ in range(3)))
    plain = make_task("uniform", "fp32")
    trained = [*plain.net.parameters(), *plain.terms.parameters()]
    assert plain.adversary is not None
    optims = [
        torch.optim.Adam(trained, 2e-4, (0.5, 0.999)),
        torch.optim.Adam(plain.adversary.discriminator.parameters(), 2e-4, (0.5, 0.999)),
    ]
    ours = {name: make_task(name, "auto") for name in ("uniform", "sandwich")}
    rng = torch.Generator().manual_seed(0)
    steps: dict[str, Callable[[], object]] = {
        "published, 1 subnet": lambda: published_step(plain, optims, batch),
        "ours, 1 subnet": lambda: ours["uniform"].step(batch, rng, 0.0),
        "ours, sandwich of 3": lambda: ours["sandwich"].step(batch, rng, 0.0),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_number in range(args.rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if round_number:  # the first one warms up
                times[name].append(time.perf_counter() - start)
    base = statistics.median(times["published, 1 subnet"])
    for name, seconds in times.items():
        median = statistics.median(seconds)
        subnets = 3 if "sandwich" in name else 1
        print(
            f"{name:22s} {args.batch / median:6.2f} images/s  {base / median:5.2f}x  "
            f"{subnets * args.batch / median:6.2f} subnet images/s  {subnets * base / median:5.2f}x"
        )


if __name__ == "__main__":
    main()
