"""Distillation into the once-for-all student, and of a single extracted subnet (finetune)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gancompress.checkpoint.files import Json, save_tensors
from gancompress.checkpoint.network import (
    Discriminator,
    continue_modules,
    describe_space,
    save_discriminator,
    save_network,
)
from gancompress.checkpoint.run import RunFolder
from gancompress.config import DistillLossOptions, SamplingOptions, ScheduleOptions
from gancompress.data import Batch, Split, spread, stack, to_float, to_uint8
from gancompress.elastic import SearchSpace, Subnet, Supernet, ready_subnet
from gancompress.errors import ConfigError
from gancompress.losses import (
    discriminator_fake_loss,
    discriminator_real_loss,
    feature_distillation,
    generator_gan_loss,
    recon_loss,
)
from gancompress.losses.perceptual import Features, perceptual_loss
from gancompress.metrics import metric
from gancompress.models import init_weights
from gancompress.training.loop import Losses
from gancompress.training.precision import Ema, autocast
from gancompress.training.sheets import sheet
from gancompress.training.student import Student, activations, default_taps, split_tap

MAX_EVALUATED = 32


@dataclass(frozen=True)
class Recipe:
    """What a distillation is made of.

    Attributes:
        loss: Losses and their weights.
        sampling: Which subnets one step trains.
        schedule: Learning rate, precision, averaging.
        num_samples: Rows of the sample sheet.
    """

    loss: DistillLossOptions
    sampling: SamplingOptions
    schedule: ScheduleOptions
    num_samples: int


class Adapters(nn.Module):
    """1x1 convolutions from the student's activations to the teacher's, as wide as the subnet.

    Source: Li et al., GAN Compression, CVPR 2020, eq. 3.

    Args:
        net: The student.
        pairs: (student layer, channels of the teacher's activations there).
        identity: Start as the identity (the student starts as the teacher) instead of at random.
    """

    def __init__(self, net: Supernet, pairs: Sequence[tuple[str, int]], identity: bool) -> None:
        super().__init__()
        self.layers = [layer for layer, _ in pairs]
        self.parts = []
        convs = []
        for layer, channels in pairs:
            parts = net.traced.outputs.get(layer)
            if parts is None:
                raise ConfigError(f"loss.taps: layer '{layer}' of the student has no elastic width")
            self.parts.append(parts)
            width = sum(p if isinstance(p, int) else net.full_width(p) for p in parts)
            convs.append(nn.Conv2d(width, channels, 1))
        self.convs = nn.ModuleList(convs)
        init_weights(self)
        if identity:
            for conv in convs:
                nn.init.dirac_(conv.weight)

    def adapt(self, index: int, features: Tensor, net: Supernet, subnet: Subnet) -> Tensor:
        """Activations of one layer (N, C_s, H, W) -> (N, C_t, H, W)."""
        conv = self.convs[index]
        assert isinstance(conv, nn.Conv2d)
        weight = net.narrow(conv.weight, 1, self.parts[index], subnet)
        return F.conv2d(features, weight, conv.bias)


@dataclass(frozen=True)
class _Goal:
    """What the subnets of one step are to make.

    Attributes:
        target: Images, (N, 3, H, W) in [-1, 1].
        activations: The teacher's, by layer.
        features: The target's, for the perceptual loss.
        largest: Output of the largest subnet, once there is one.
    """

    target: Tensor
    activations: dict[str, Tensor]
    features: Features
    largest: Tensor | None


class DistillTask:
    """Trains sampled subnets to make the teacher's images.

    One step runs the teacher once (only as far as its last matched layer), then for each sampled
    subnet one forward of the subnet and of the discriminator, whose graph gives both the
    discriminator's gradient and the generator's.

    Args:
        student: The supernet and its teacher.
        judge: Judges outputs; None trains without adversarial loss.
        held_out: Images for evaluation, whole.
        recipe: Losses, sampling, schedule.
        device: Where to train.
    """

    def __init__(
        self,
        student: Student,
        judge: Discriminator | None,
        held_out: Split,
        recipe: Recipe,
        device: torch.device,
    ) -> None:
        self.student = student
        self.recipe = recipe
        self.held_out = held_out
        self.device = device
        self.net = student.net.to(device).train()
        for layer in self.net.modules():  # who imitates needs no noise
            if isinstance(layer, nn.Dropout | nn.Dropout2d):
                layer.p = 0.0
        self.teacher = student.teacher.to(device).eval().requires_grad_(False)
        self.judge = judge
        self.discriminator = judge.module.to(device).train() if judge else None
        self.recon = recon_loss(recipe.loss.recon)
        self.perceptual = perceptual_loss(recipe.loss, device)
        self.taps = self._resolve_taps()
        self.adapters = self._make_adapters().to(device)
        schedule = recipe.schedule
        betas = (schedule.beta1, 0.999)
        trained = [*self.net.parameters(), *self.adapters.parameters()]
        self.optim_g = torch.optim.Adam(trained, lr=schedule.lr, betas=betas, fused=True)
        self.optim_d = None
        if self.discriminator is not None:
            judged = self.discriminator.parameters()
            self.optim_d = torch.optim.Adam(judged, lr=schedule.lr, betas=betas, fused=True)
        self.ema = Ema(self.net.generator, schedule.ema)
        self.steps = 0
        self._teacher_images: Tensor | None = None

    # -- one step -----------------------------------------------------------------------

    def step(self, batch: Batch, rng: torch.Generator) -> Losses:
        """Train the subnets that the schedule samples on one batch."""
        real_a = batch.real_a.to(self.device)
        target = self._target(batch).to(self.device)
        wanted = self._teacher_features(real_a)
        seen: Features = []
        if self.perceptual is not None:
            with self._autocast():
                seen = self.perceptual.wanted(target)
        subnets = self._sample(random.Random(rng.initial_seed()))
        self._zero_grad()
        sums: Losses = {}
        largest: Tensor | None = None
        for subnet in subnets:
            goal = _Goal(target, wanted, seen, largest)
            out, losses = self._one_subnet(real_a, goal, subnet)
            largest = out if largest is None else largest
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.detach() / len(subnets)
        if self.discriminator is not None:
            sums["D"] = sums["D"] + self._judge_real(batch, real_a)
        self._update()
        return sums

    def _one_subnet(
        self,
        real_a: Tensor,
        goal: _Goal,
        subnet: Subnet,
    ) -> tuple[Tensor, Losses]:
        loss = self.recipe.loss
        with self._autocast():
            layers = [student for student, _ in self.taps]
            out, features = self.net.with_features(real_a, subnet, layers)
            out = out.float()
            matched = self._match(features, goal.activations, subnet)
        losses = {"G_recon": self._reconstruction(out, goal)}
        total = loss.lambda_recon * losses["G_recon"]
        if self.perceptual is not None:
            with self._autocast():
                losses["G_lpips"] = self.perceptual(out, goal.features)
            total = total + loss.lambda_lpips * losses["G_lpips"]
        if matched is not None:
            losses["G_distill"] = matched
            total = total + loss.lambda_distill * matched
        if self.discriminator is not None:
            losses["G_gan"], losses["D"], gradient = self._adversarial(real_a, out)
            total = total + (out * gradient).sum()
        total.backward()
        return out.detach(), losses

    def _reconstruction(self, out: Tensor, goal: _Goal) -> Tensor:
        share = self.recipe.sampling.inplace if goal.largest is not None else 0.0
        value = self.recon(out, goal.target)
        if share:
            assert goal.largest is not None
            value = (1 - share) * value + share * self.recon(out, goal.largest)
        return value

    def _match(
        self, features: dict[str, Tensor], wanted: dict[str, Tensor], subnet: Subnet
    ) -> Tensor | None:
        distances = []
        for i, (student, teacher) in enumerate(self.taps):
            distances.append(
                feature_distillation(
                    features[student],
                    wanted[teacher],
                    lambda x, i=i: self.adapters.adapt(i, x, self.net, subnet),  # type: ignore[misc]
                )
            )
        return torch.stack(distances).sum() if distances else None

    def _adversarial(self, real_a: Tensor, out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Both players' losses from one forward of the discriminator.

        The discriminator's gradient is added to its parameters; the generator's is returned with
        respect to the image, and continues from there with the other losses.
        """
        assert self.discriminator is not None
        mode = self.recipe.loss.gan_mode
        image = out.detach().requires_grad_()
        with self._autocast():
            scores = self.discriminator(self._judged(real_a, image)).float()
        loss_g = generator_gan_loss(mode, scores)
        loss_d = 0.5 * discriminator_fake_loss(mode, scores)
        weighted = self.recipe.loss.lambda_gan * loss_g
        (gradient,) = torch.autograd.grad(weighted, image, retain_graph=True)
        parameters = list(self.discriminator.parameters())
        (loss_d / self._subnets_per_step()).backward(inputs=parameters)
        return loss_g, loss_d, gradient

    def _judge_real(self, batch: Batch, real_a: Tensor) -> Tensor:
        assert self.discriminator is not None
        assert batch.real_b is not None
        with self._autocast():
            judged = self._judged(real_a, batch.real_b.to(self.device))
            scores = self.discriminator(judged).float()
        value = 0.5 * discriminator_real_loss(self.recipe.loss.gan_mode, scores)
        value.backward()
        return value.detach()

    def _judged(self, real_a: Tensor, image: Tensor) -> Tensor:
        return torch.cat([real_a, image], 1) if self.held_out.paired else image

    def _target(self, batch: Batch) -> Tensor:
        target = batch.pseudo_b if batch.pseudo_b is not None else batch.real_b
        assert target is not None
        return target

    def _teacher_features(self, real_a: Tensor) -> dict[str, Tensor]:
        if not self.taps:
            return {}
        with self._autocast():
            return activations(self.teacher, real_a, tuple(teacher for _, teacher in self.taps))

    def _sample(self, rng: random.Random) -> list[Subnet]:
        space, sampling = self.net.space, self.recipe.sampling
        if space.size == 1:
            return [space.largest()]
        if sampling.schedule == "uniform":
            return [space.sample(rng)]
        middle = [space.sample(rng) for _ in range(sampling.num_random)]
        return [space.largest(), *middle, space.smallest()]

    def _subnets_per_step(self) -> int:
        if self.net.space.size == 1 or self.recipe.sampling.schedule == "uniform":
            return 1
        return 2 + self.recipe.sampling.num_random

    def _autocast(self) -> Any:
        return autocast(self.recipe.schedule.precision, self.device)

    def _zero_grad(self) -> None:
        self.optim_g.zero_grad(set_to_none=True)
        if self.optim_d is not None:
            self.optim_d.zero_grad(set_to_none=True)

    def _update(self) -> None:
        self.optim_g.step()
        if self.optim_d is not None:
            self.optim_d.step()
        self.ema.update(self.net.generator, self.steps)
        self.steps += 1

    # -- setting up ---------------------------------------------------------------------

    def _resolve_taps(self) -> list[tuple[str, str]]:
        if not self.recipe.loss.lambda_distill:
            return []
        given = self.recipe.loss.taps
        if given is None:
            given = default_taps(self.net.generator, self.net.traced)
        return [split_tap(tap) for tap in given]

    def _make_adapters(self) -> Adapters:
        shape = self.net.example_shape
        layers = tuple(teacher for _, teacher in self.taps)
        found = {}
        if layers:
            found = activations(self.teacher, torch.zeros(shape, device=self.device), layers)
        pairs = [(student, found[teacher].shape[1]) for student, teacher in self.taps]
        return Adapters(self.net, pairs, self.student.inherited)

    def start_from(self, folder: Path) -> None:
        """Continue the weights, adapters and discriminator of another supernet's run.

        Raises:
            CheckpointError: Its generator has other shapes than this student.
        """
        continue_modules(
            folder,
            {
                "weights": self.net.generator,
                "adapters": self.adapters,
                "discriminator": self.discriminator,
            },
        )
        self.ema = Ema(self.net.generator, self.recipe.schedule.ema)

    # -- for the loop -------------------------------------------------------------------

    def set_learning_rate(self, lr: float) -> None:
        """Both optimisers use the same rate."""
        groups = list(self.optim_g.param_groups)
        groups += self.optim_d.param_groups if self.optim_d is not None else []
        for group in groups:
            group["lr"] = lr

    def _shown_subnets(self) -> dict[str, Subnet]:
        space = self.net.space
        if space.size == 1:
            return {"subnet": space.largest()}
        middle = Subnet(tuple(d.choices[(len(d.choices) - 1) // 2] for d in space.dimensions))
        return {"largest": space.largest(), "middle": middle, "smallest": space.smallest()}

    @torch.no_grad()
    def _translate(self, inputs: Tensor) -> dict[str, Tensor]:
        space: SearchSpace = self.net.space
        net = Supernet(self.ema.module, torch.empty(self.net.example_shape), space=space).eval()
        results = {}
        for name, subnet in self._shown_subnets().items():
            generator = ready_subnet(net, subnet, [to_float(inputs).to(self.device)])
            images = [to_uint8(generator(to_float(x[None]).to(self.device)).cpu()) for x in inputs]
            results[name] = torch.cat(images)
        return results

    @torch.no_grad()
    def _teacher_outputs(self, inputs: Tensor) -> Tensor:
        if self._teacher_images is None:
            images = [
                to_uint8(self.teacher(to_float(x[None]).to(self.device)).cpu()) for x in inputs
            ]
            self._teacher_images = torch.cat(images)
        return self._teacher_images

    def _held_out_inputs(self) -> Tensor:
        inputs = self.held_out.inputs
        return stack(inputs, spread(len(inputs), MAX_EVALUATED))

    def evaluate(self) -> dict[str, float]:
        """Distance to the teacher of the largest, a middle and the smallest subnet."""
        inputs = self._held_out_inputs()
        wanted = self._teacher_outputs(inputs)
        outputs = self._translate(inputs)
        distance = metric("teacher_mae")
        return {f"mae_{name}": distance(out, wanted) for name, out in outputs.items()}

    def samples(self) -> Tensor:
        """Rows of input, teacher, and subnets from the largest to the smallest."""
        inputs = self._held_out_inputs()
        rows = spread(len(inputs), self.recipe.num_samples)
        wanted = self._teacher_outputs(inputs)[rows]
        return sheet([inputs[rows], wanted, *self._translate(inputs[rows]).values()])

    def state_dict(self) -> dict[str, Any]:
        """Networks, average, adapters and optimisers."""
        state = {
            "generator": self.net.generator.state_dict(),
            "adapters": self.adapters.state_dict(),
            "ema": self.ema.module.state_dict(),
            "optim_g": self.optim_g.state_dict(),
            "steps": self.steps,
        }
        if self.discriminator is not None and self.optim_d is not None:
            state["discriminator"] = self.discriminator.state_dict()
            state["optim_d"] = self.optim_d.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.net.generator.load_state_dict(state["generator"])
        self.adapters.load_state_dict(state["adapters"])
        self.ema.module.load_state_dict(state["ema"])
        self.optim_g.load_state_dict(state["optim_g"])
        self.steps = state["steps"]
        if self.discriminator is not None and self.optim_d is not None:
            self.discriminator.load_state_dict(state["discriminator"])
            self.optim_d.load_state_dict(state["optim_d"])

    def header(self) -> Json:
        """What the weights file says besides its network."""
        return {"space": describe_space(self.net.space)}

    def save(self, run: RunFolder, progress: dict[str, Any]) -> None:
        """Write the averaged generator, the adapters and the discriminator."""
        header = {**self.header(), "image_size": self.held_out.inputs.size, "progress": progress}
        save_network(run.weights, self.ema.module, self.student.description, **header)
        save_tensors(run.path / "adapters.safetensors", self.adapters.state_dict(), {})
        if self.judge is not None:
            save_discriminator(run.discriminator, self.judge, progress=progress)
