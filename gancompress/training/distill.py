"""Distillation into the once-for-all student, and of a single extracted subnet (finetune)."""

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
from gancompress.data import Batch, Split, spread, to_float, translate_batches
from gancompress.elastic import SearchSpace, Subnet, Supernet, ready_subnet
from gancompress.errors import ConfigError
from gancompress.losses.perceptual import PerceptualLoss
from gancompress.losses.terms import Goal, Need, Observers, Output, Setting, Tap, Terms, needs
from gancompress.metrics import metric
from gancompress.training.adversary import Adversary
from gancompress.training.loop import Losses
from gancompress.training.precision import Ema, autocast
from gancompress.training.sampling import sample_subnets
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


class DistillTask:
    """Trains sampled subnets to make the teacher's images.

    One step runs the teacher once (only as far as its last compared layer, and not at all where no
    term compares any), then for each sampled subnet one forward of the subnet and of the
    discriminator, whose graph gives both the discriminator's gradient and the generator's.

    Args:
        student: The supernet and its teacher.
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
        self.terms = Terms(
            Setting(
                loss=loss,
                inplace=recipe.sampling.inplace,
                batch_size=schedule.batch_size,
                net=self.net,
                taps=self.taps,
                inherited=student.inherited,
                observers=self.observers,
            )
        ).to(device)
        self.adversary = None
        if judge is not None and loss.lambda_gan:
            self.adversary = Adversary(judge, loss, schedule, held_out.paired, device)
        if not self.terms.weights and self.adversary is None:
            raise ConfigError("loss: all weights are 0, so there is nothing to train")
        trained = [*self.net.parameters(), *self.terms.parameters()]
        betas = (schedule.beta1, 0.999)
        self.optim_g = torch.optim.Adam(trained, lr=schedule.lr, betas=betas, fused=True)
        self.ema = Ema(self.net.generator, schedule.ema)
        self.steps = 0
        self._teacher_images: Tensor | None = None

    # -- one step -----------------------------------------------------------------------

    def step(self, batch: Batch, rng: torch.Generator) -> Losses:
        """Train the subnets that the schedule samples on one batch."""
        goal = self._goal(batch, rng)
        contexts = self.terms.prepare(goal)
        numbers = random.Random(rng.initial_seed())
        subnets = sample_subnets(self.net.space, self.recipe.sampling, numbers)
        for optim in self._optimisers():
            optim.zero_grad(set_to_none=True)
        sums: Losses = {}
        largest: Tensor | None = None
        for subnet in subnets:
            output = self._output(goal.inputs, subnet, largest)
            losses = self.terms(output, contexts)
            total = self.terms.total(losses)
            losses = {f"G_{name}": value for name, value in losses.items()}
            if self.adversary is not None:
                game, played = self.adversary.play(goal.inputs, output.image, len(subnets))
                losses, total = {**losses, **played}, total + game
            total.backward()
            largest = output.image.detach() if largest is None else largest
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.detach() / len(subnets)
        if self.adversary is not None:
            assert batch.real_b is not None
            real = batch.real_b.to(self.device)
            sums["D"] = sums["D"] + self.adversary.see_real(goal.inputs, real)
        for optim in self._optimisers():
            optim.step()
        self.ema.update(self.net.generator, self.steps)
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

    def _output(self, inputs: Tensor, subnet: Subnet, largest: Tensor | None) -> Output:
        layers = [tap.student for tap in self.taps]
        with self.autocast():
            image, found = self.net.with_features(inputs, subnet, layers)
        features = [found[layer] for layer in layers]
        return Output(inputs, image.float(), features, self.observers, subnet, largest)

    def _optimisers(self) -> list[torch.optim.Optimizer]:
        return [self.optim_g, *([self.adversary.optim] if self.adversary else [])]

    # -- setting up ---------------------------------------------------------------------

    def _make_observers(self, needed: Collection[Need]) -> Observers:
        backbone = discriminator = None
        if "backbone" in needed:
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
            given = default_taps(self.net.generator, self.net.traced)
        if not given:
            raise ConfigError(
                "loss.taps is empty, but activations of its layers are to be compared; name some, "
                "or set the weights of what compares them to 0, such as loss.lambda_distill=0"
            )
        pairs = [split_tap(tap) for tap in given]
        example = torch.zeros(self.net.example_shape, device=self.device)
        found = activations(self.teacher, example, tuple(teacher for _, teacher in pairs))
        for layer, _ in pairs:
            if layer not in self.net.traced.outputs:
                raise ConfigError(f"loss.taps: layer '{layer}' of the student has no elastic width")
        return tuple(Tap(ours, theirs, found[theirs].shape[1]) for ours, theirs in pairs)

    def start_from(self, folder: Path) -> None:
        """Continue the weights, adapters and discriminator of another supernet's run.

        Raises:
            CheckpointError: Its generator has other shapes than this student.
        """
        continue_modules(
            folder,
            {
                "weights": self.net.generator,
                "adapters": self.terms if list(self.terms.parameters()) else None,
                "discriminator": self.adversary.discriminator if self.adversary else None,
            },
        )
        self.ema = Ema(self.net.generator, self.recipe.schedule.ema)

    # -- for the loop -------------------------------------------------------------------

    def set_learning_rate(self, lr: float) -> None:
        """Both optimisers use the same rate."""
        for optim in self._optimisers():
            for group in optim.param_groups:
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
            results[name] = translate_batches(
                generator, inputs, self.device, batch_size=1, require_finite=False
            )
        return results

    def _teacher_outputs(self, inputs: Tensor) -> Tensor:
        if self._teacher_images is None:
            self._teacher_images = translate_batches(
                self.teacher, inputs, self.device, batch_size=1
            )
        return self._teacher_images

    def _held_out_inputs(self) -> Tensor:
        inputs = self.held_out.inputs
        return inputs.take(spread(len(inputs), MAX_EVALUATED))

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
        return {
            "generator": self.net.generator.state_dict(),
            "adapters": self.terms.state_dict(),
            "ema": self.ema.module.state_dict(),
            "optim_g": self.optim_g.state_dict(),
            "steps": self.steps,
            **(self.adversary.state_dict() if self.adversary else {}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.net.generator.load_state_dict(state["generator"])
        self.terms.load_state_dict(state["adapters"])
        self.ema.module.load_state_dict(state["ema"])
        self.optim_g.load_state_dict(state["optim_g"])
        self.steps = state["steps"]
        if self.adversary is not None:
            self.adversary.load_state_dict(state)

    def header(self) -> Json:
        """What the weights file says besides its network."""
        return {"space": describe_space(self.net.space)}

    def save(self, run: RunFolder, progress: dict[str, Any]) -> None:
        """Write the averaged generator, the adapters and the discriminator."""
        header = {**self.header(), "image_size": self.held_out.inputs.size, "progress": progress}
        save_network(run.weights, self.ema.module, self.student.description, **header)
        save_tensors(run.path / "adapters.safetensors", self.terms.state_dict(), {})
        if self.judge is not None:
            save_discriminator(run.discriminator, self.judge, progress=progress)
