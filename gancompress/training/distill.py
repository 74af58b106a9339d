"""One step of distillation: sampled networks, terms of the loss, adversary, average."""

from __future__ import annotations

import copy
import random
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.checkpoint.files import save_tensors
from gancompress.checkpoint.network import (
    Discriminator,
    continue_modules,
    kinds_header,
    save_discriminator,
    save_network,
)
from gancompress.checkpoint.run import RunFolder
from gancompress.config import DistillLossOptions, ScheduleOptions
from gancompress.data import Batch, Split
from gancompress.errors import ConfigError
from gancompress.losses.perceptual import PerceptualLoss, require_rgb_target
from gancompress.losses.terms import (
    TERMS,
    Goal,
    Need,
    Observers,
    Output,
    Setting,
    Tap,
    Terms,
    View,
    needs,
    term_weights,
)
from gancompress.training.adversary import Adversary
from gancompress.training.averaging import Ema
from gancompress.training.health import Samples, take_step
from gancompress.training.held_out import HeldOut
from gancompress.training.loop import Losses
from gancompress.training.networks import Student, activations
from gancompress.training.precision import autocast
from gancompress.training.sampling import Sampler
from gancompress.training.student import default_taps, split_tap


@dataclass(frozen=True)
class Recipe:
    """What a distillation is made of.

    Attributes:
        loss: Losses and their weights.
        sampler: Which networks one step trains.
        inplace: Weight of the largest subnet as a teacher.
        schedule: Learning rate, precision, averaging.
        num_samples: Rows of the sample sheet.
    """

    loss: DistillLossOptions
    sampler: Sampler
    inplace: float
    schedule: ScheduleOptions
    num_samples: int


class DistillTask:
    """Trains sampled networks to make the teacher's images.

    One step runs the teacher once (only as far as its last compared layer, and not at all where no
    term compares any), then for each sampled network one forward of it and of the discriminator,
    whose graph gives both the discriminator's gradient and the generator's.

    Args:
        student: The student and its teacher.
        judge: The discriminator; None where neither the adversarial loss nor a term needs it.
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
        loss, schedule = recipe.loss, recipe.schedule
        needed = needs(loss)
        self.autocast = partial(autocast, schedule.precision, device)
        self.observers = self._make_observers(needed)
        self.taps = self._find_taps() if "activations" in needed else ()
        setting = Setting(
            loss=loss,
            inplace=recipe.inplace,
            batch_size=schedule.batch_size,
            taps=self.taps,
            inherited=student.inherited,
            observers=self.observers,
        )
        self.terms = Terms(setting).to(device)
        self.adversary = None
        if judge is not None and loss.lambda_gan:
            self.adversary = Adversary(judge, loss, schedule, held_out.paired, device)
        if not self.terms.weights and self.adversary is None:
            raise ConfigError("loss: all weights are 0, so there is nothing to train")
        trained = [*self.net.parameters(), *self.terms.parameters()]
        betas = (schedule.beta1, 0.999)
        self.optim_g = torch.optim.Adam(trained, lr=schedule.lr, betas=betas, fused=True)
        self.optimisers: list[torch.optim.Optimizer] = [self.optim_g]
        if self.adversary is not None:
            self.optimisers.append(self.adversary.optim)
        self.ema = Ema(student.generator, schedule.ema)
        self.steps = 0
        self._evaluation = HeldOut(held_out, student, device)

    # -- one step -----------------------------------------------------------------------

    def step(self, batch: Batch, rng: torch.Generator, progress: float) -> Losses:
        """Train the networks that are sampled on one batch."""
        goal = self._goal(batch, rng)
        contexts = self.terms.prepare(goal)
        views = self.recipe.sampler(random.Random(rng.initial_seed()), progress)
        for optim in self.optimisers:
            optim.zero_grad(set_to_none=True)
        sums: Losses = {}
        largest: Tensor | None = None
        for view in views:
            output = self._output(goal.inputs, view, largest)
            losses = self.terms(output, contexts)
            total = self.terms.total(losses)
            losses = {f"G_{name}": value for name, value in losses.items()}
            if self.adversary is not None:
                game, played = self.adversary.play(goal.inputs, output.image, len(views))
                losses, total = {**losses, **played}, total + game
            total.backward()
            if largest is None and view.is_largest:
                largest = output.image.detach()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.detach() / len(views)
        if self.adversary is not None:
            assert batch.real_b is not None
            real = batch.real_b.to(self.device)
            sums["D"] = sums["D"] + self.adversary.see_real(goal.inputs, real)
        take_step(self.optimisers)
        self.ema.update(self.student.generator, self.steps)
        self.steps += 1
        return sums

    def _goal(self, batch: Batch, rng: torch.Generator) -> Goal:
        inputs = batch.real_a.to(self.device)
        target = batch.pseudo_b if batch.pseudo_b is not None else batch.real_b
        assert target is not None
        features: list[Tensor] = []
        if self.taps:
            layers = tuple(tap.teacher for tap in self.taps)
            with self.autocast():
                found = activations(self.teacher, inputs, layers)
            features = [found[layer] for layer in layers]
        return Goal(inputs, target.to(self.device), features, self.observers, rng)

    def _output(self, inputs: Tensor, view: View, largest: Tensor | None) -> Output:
        layers = [tap.student for tap in self.taps]
        with self.autocast():
            image, found = view(inputs, layers)
        features = [found.get(layer) for layer in layers]
        return Output(inputs, image.float(), features, self.observers, view, largest)

    # -- setting up ---------------------------------------------------------------------

    def _make_observers(self, needed: Collection[Need]) -> Observers:
        backbone = discriminator = None
        if "backbone" in needed:
            names = [
                name for name in term_weights(self.recipe.loss) if "backbone" in TERMS[name].needs
            ]
            for name in names:
                require_rgb_target(f"the loss term {name}", self.held_out.output)
            lpips = self.recipe.loss.lpips
            backbone = PerceptualLoss(lpips.net, lpips.weights, self.device)
        if "discriminator" in needed:
            assert self.judge is not None
            kept = copy.deepcopy(self.judge.module)  # the original goes on learning
            discriminator = kept.to(self.device).eval().requires_grad_(False)
        return Observers(backbone, discriminator, self.held_out.paired, self.autocast)

    def _find_taps(self) -> tuple[Tap, ...]:
        given = self.recipe.loss.taps
        if given is None:
            given = default_taps(self.student.generator, self.student.traced)
        if not given:
            raise ConfigError(
                "loss.taps is empty, but activations of its layers are to be compared; name some, "
                "or set the weights of what compares them to 0, such as loss.lambda_distill=0"
            )
        ours, theirs = zip(*map(split_tap, given), strict=True)
        widths = self.student.channels(ours)
        example = torch.zeros(self.student.example_shape, device=self.device)
        found = activations(self.teacher, example, theirs)
        channels = [found[layer].shape[1] for layer in theirs]
        return tuple(map(Tap, ours, theirs, widths, channels))

    def start_from(self, folder: Path) -> None:
        """Continue the weights, adapters and discriminator of another supernet's run.

        Raises:
            CheckpointError: Its generator has other shapes than this student.
        """
        continue_modules(
            folder,
            {
                "weights": self.student.generator,
                "adapters": self.terms if list(self.terms.parameters()) else None,
                "discriminator": self.adversary.discriminator if self.adversary else None,
            },
        )
        self.ema = Ema(self.student.generator, self.recipe.schedule.ema)

    # -- for the loop -------------------------------------------------------------------

    def evaluate(self) -> dict[str, float]:
        """Distances to the teacher, see `HeldOut`."""
        return self._evaluation.scores(self.ema.module)

    def samples(self) -> Samples:
        """A sheet of examples, see `HeldOut`."""
        return self._evaluation.samples(self.ema.module, self.recipe.num_samples)

    def state_dict(self) -> dict[str, Any]:
        """Networks, average, adapters and optimisers."""
        return {
            "generator": self.student.generator.state_dict(),
            "adapters": self.terms.state_dict(),
            "ema": self.ema.module.state_dict(),
            "optim_g": self.optim_g.state_dict(),
            "steps": self.steps,
            **(self.adversary.state_dict() if self.adversary else {}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.student.generator.load_state_dict(state["generator"])
        self.terms.load_state_dict(state["adapters"])
        self.ema.module.load_state_dict(state["ema"])
        self.optim_g.load_state_dict(state["optim_g"])
        self.steps = state["steps"]
        if self.adversary is not None:
            self.adversary.load_state_dict(state)

    def save(self, run: RunFolder, progress: dict[str, Any]) -> None:
        """Write the averaged generator, the adapters and the discriminator."""
        facts = {"image_size": self.held_out.inputs.size, "progress": progress}
        facts |= kinds_header(self.held_out.inputs.kind, self.held_out.output)
        header = {**self.student.header(), **facts}
        save_network(run.weights, self.ema.module, self.student.description, **header)
        save_tensors(run.path / "adapters.safetensors", self.terms.state_dict(), {})
        if self.judge is not None:
            save_discriminator(run.discriminator, self.judge, progress=progress)
