"""Teachers: pix2pix for paired data, CycleGAN for unpaired data."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.checkpoint.network import (
    Discriminator,
    continue_modules,
    kinds_header,
    save_discriminator,
    save_network,
)
from gancompress.checkpoint.run import RunFolder
from gancompress.config import GeneratorOptions, TeacherOptions
from gancompress.data import Batch, ImageKind, Split, spread, translate_batches
from gancompress.losses import discriminator_gan_loss, generator_gan_loss, recon_loss
from gancompress.losses.perceptual import PerceptualLoss, require_rgb_target
from gancompress.losses.pool import ImagePool
from gancompress.metrics import all_scores
from gancompress.models import build_discriminator, build_generator, init_weights
from gancompress.training.averaging import Ema
from gancompress.training.health import Samples, take_step
from gancompress.training.loop import Losses
from gancompress.training.precision import autocast
from gancompress.training.sheets import sheet

MAX_EVALUATED = 64


class TeacherTask(ABC):
    """What both teachers share: networks by name, two optimisers, the averaged generator.

    Args:
        options: The teacher's options.
        held_out: Images for evaluation and samples, whole.
        networks: Modules by name; the first is the generator that is kept.
        device: Where to train.
    """

    def __init__(
        self,
        options: TeacherOptions,
        held_out: Split,
        networks: dict[str, nn.Module],
        device: torch.device,
    ) -> None:
        self.options = options
        self.held_out = held_out
        self.device = device
        self.networks = {name: init_weights(net).to(device) for name, net in networks.items()}
        self.generators = [net for name, net in self.networks.items() if name.startswith("G")]
        self.discriminators = [net for name, net in self.networks.items() if name.startswith("D")]
        self.optim_g = self._adam(self.generators)
        self.optim_d = self._adam(self.discriminators)
        self.optimisers = [self.optim_g, self.optim_d]
        self.ema = Ema(self.generators[0], options.schedule.ema)
        self.steps = 0

    def _adam(self, modules: Iterable[nn.Module]) -> torch.optim.Optimizer:
        parameters = itertools.chain(*(module.parameters() for module in modules))
        schedule = self.options.schedule
        return torch.optim.Adam(
            parameters, lr=schedule.lr, betas=(schedule.beta1, 0.999), fused=True
        )

    @contextmanager
    def _judges_frozen(self) -> Iterator[None]:
        """The discriminators pass gradients to images and collect none themselves."""
        for net in self.discriminators:
            net.requires_grad_(False)
        yield
        for net in self.discriminators:
            net.requires_grad_(True)

    def _update_generators(self, loss: Tensor) -> None:
        self.optim_g.zero_grad(set_to_none=True)
        loss.backward()
        take_step([self.optim_g])
        self.ema.update(self.generators[0], self.steps)
        self.steps += 1

    def _update_discriminators(self, loss: Tensor) -> None:
        self.optim_d.zero_grad(set_to_none=True)
        loss.backward()
        take_step([self.optim_d])

    def _autocast(self) -> Any:
        return autocast(self.options.schedule.precision, self.device)

    def _translate(self, images: Tensor) -> Tensor:
        with self._autocast():
            return translate_batches(
                self.ema.module, images, self.device, batch_size=1, require_finite=False
            )

    def evaluate(self) -> dict[str, float]:
        """Paired data: distance of held-out outputs to the truth; unpaired: nothing to compare."""
        if not self.held_out.paired or self.held_out.targets is None:
            return {}
        chosen = spread(len(self.held_out), MAX_EVALUATED)
        fakes = self._translate(self.held_out.inputs.take(chosen))
        truth = self.held_out.targets.take(chosen)
        scores = all_scores(fakes, {"truth": truth})
        return {name.removeprefix("truth_"): score for name, score in scores.items()}

    def samples(self) -> Samples:
        """Rows of input, output and, for paired data, truth."""
        held_out = self.held_out
        chosen = spread(len(held_out.inputs), self.options.log.num_samples)
        inputs = held_out.inputs.take(chosen)
        shown = [self._translate(inputs)]
        if held_out.paired and held_out.targets is not None:
            shown.append(held_out.targets.take(chosen))
        rows = [held_out.inputs.kind.preview(inputs), *map(held_out.output.preview, shown)]
        return Samples(sheet(rows), *rows)

    def start_from(self, folder: Path) -> None:
        """Continue the networks that another teacher's run has left.

        Raises:
            CheckpointError: There are none, or they have other shapes.
        """
        files = {"G": "weights", "D": "discriminator", "G_back": "weights_back"}
        continue_modules(folder, {file: self.networks.get(name) for name, file in files.items()})
        self.ema = Ema(self.generators[0], self.options.schedule.ema)

    def state_dict(self) -> dict[str, Any]:
        """Networks, average and optimisers."""
        return {
            "networks": {name: net.state_dict() for name, net in self.networks.items()},
            "ema": self.ema.module.state_dict(),
            "optim_g": self.optim_g.state_dict(),
            "optim_d": self.optim_d.state_dict(),
            "steps": self.steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        for name, net in self.networks.items():
            net.load_state_dict(state["networks"][name])
        self.ema.module.load_state_dict(state["ema"])
        self.optim_g.load_state_dict(state["optim_g"])
        self.optim_d.load_state_dict(state["optim_d"])
        self.steps = state["steps"]

    def save(self, run: RunFolder, progress: dict[str, Any]) -> None:
        """Write the averaged generator, and the discriminator that judges its outputs."""
        kinds = (self.held_out.inputs.kind, self.held_out.output)
        self._save_generator(run.weights, self.ema.module, self.options.generator, kinds, progress)
        judge = Discriminator(
            self.discriminators[0], self.options.discriminator, self.judged_channels
        )
        save_discriminator(run.discriminator, judge, progress=progress)

    def _save_generator(
        self,
        path: Path,
        module: nn.Module,
        options: GeneratorOptions,
        kinds: tuple[ImageKind, ImageKind],
        progress: dict[str, Any],
    ) -> None:
        description = {"generator": options.model_dump(mode="json")}
        facts = {**kinds_header(*kinds), "image_size": self.held_out.inputs.size}
        save_network(path, module, description, **facts, progress=progress)

    @property
    @abstractmethod
    def judged_channels(self) -> int:
        """Channels of what the discriminator sees."""

    @abstractmethod
    def step(self, batch: Batch, rng: torch.Generator, progress: float) -> Losses:
        """Update the networks with one batch."""


class Pix2PixTask(TeacherTask):
    """Conditional GAN on pairs: the discriminator sees input and output together.

    Source: Isola et al., Image-to-Image Translation with Conditional Adversarial Networks,
    CVPR 2017.
    """

    def __init__(self, options: TeacherOptions, held_out: Split, device: torch.device) -> None:
        channels = sum(options.generator.channels)
        networks = {
            "G": build_generator(options.generator),
            "D": build_discriminator(options.discriminator, channels),
        }
        super().__init__(options, held_out, networks, device)
        self.recon = recon_loss(options.loss.recon)
        self.perceptual = None
        if options.loss.lambda_lpips:
            require_rgb_target("loss.lambda_lpips", held_out.output)
            lpips = options.loss.lpips
            self.perceptual = PerceptualLoss(lpips.net, lpips.weights, device)

    @property
    def judged_channels(self) -> int:
        """Input and output channels together."""
        return sum(self.options.generator.channels)

    def step(self, batch: Batch, rng: torch.Generator, progress: float) -> Losses:
        """One update of the discriminator, then one of the generator."""
        assert batch.real_b is not None
        loss, (generator, discriminator) = self.options.loss, self.networks.values()
        real_a, real_b = batch.real_a.to(self.device), batch.real_b.to(self.device)
        with self._autocast():
            fake_b = generator(real_a)
            real_scores = discriminator(torch.cat([real_a, real_b], 1)).float()
            fake_scores = discriminator(torch.cat([real_a, fake_b.detach()], 1)).float()
        loss_d = discriminator_gan_loss(loss.gan_mode, real_scores, fake_scores)
        self._update_discriminators(loss_d)
        with self._judges_frozen(), self._autocast():
            scores = discriminator(torch.cat([real_a, fake_b], 1)).float()
        loss_gan = generator_gan_loss(loss.gan_mode, scores)
        losses = {"G_gan": loss_gan, "G_recon": self.recon(fake_b.float(), real_b)}
        total = loss.lambda_gan * losses["G_gan"] + loss.lambda_recon * losses["G_recon"]
        if self.perceptual is not None:
            with self._autocast():
                losses["G_lpips"] = self.perceptual(fake_b, self.perceptual.wanted(real_b))
            total = total + loss.lambda_lpips * losses["G_lpips"]
        self._update_generators(total)
        return {**losses, "D": loss_d}


class CycleGanTask(TeacherTask):
    """Two generators and two discriminators on unpaired images.

    G translates a to b and R back; D judges b, E judges a (names in the run folder: `weights` is
    G and `discriminator` is D).

    Source: Zhu et al., Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial
    Networks, ICCV 2017.
    """

    def __init__(self, options: TeacherOptions, held_out: Split, device: torch.device) -> None:
        input_nc, output_nc = options.generator.channels
        networks = {
            "G": build_generator(options.generator),
            "G_back": build_generator(_opposite(options.generator)),
            "D": build_discriminator(options.discriminator, output_nc),
            "D_back": build_discriminator(options.discriminator, input_nc),
        }
        super().__init__(options, held_out, networks, device)
        self.recon = recon_loss(options.loss.recon)
        self.pools = {side: ImagePool(options.loss.pool_size) for side in ("a", "b")}

    @property
    def judged_channels(self) -> int:
        """Output channels: unpaired images are judged by themselves."""
        return self.options.generator.channels[1]

    def step(self, batch: Batch, rng: torch.Generator, progress: float) -> Losses:
        """One update of both generators, then one of both discriminators."""
        assert batch.real_b is not None
        forth, back, judge_b, judge_a = self.networks.values()
        real_a, real_b = batch.real_a.to(self.device), batch.real_b.to(self.device)
        with self._judges_frozen(), self._autocast():
            fake_b, fake_a = forth(real_a), back(real_b)
            losses = {
                **self._adversarial("G_gan_b", judge_b, fake_b),
                **self._adversarial("G_gan_a", judge_a, fake_a),
                "G_cycle_a": self.recon(back(fake_b).float(), real_a),
                "G_cycle_b": self.recon(forth(fake_a).float(), real_b),
                **self._identity(real_a, real_b),
            }
        self._update_generators(self._weigh(losses))
        losses["D_b"] = self._judge(judge_b, real_b, self.pools["b"].query(fake_b.detach(), rng))
        losses["D_a"] = self._judge(judge_a, real_a, self.pools["a"].query(fake_a.detach(), rng))
        self._update_discriminators(losses["D_b"] + losses["D_a"])
        return losses

    def _adversarial(self, name: str, judge: nn.Module, fake: Tensor) -> Losses:
        return {name: generator_gan_loss(self.options.loss.gan_mode, judge(fake).float())}

    def _identity(self, real_a: Tensor, real_b: Tensor) -> Losses:
        nets, loss = self.networks, self.options.loss
        if not loss.lambda_identity or self.held_out.inputs.kind != self.held_out.output:
            return {}
        return {
            "G_identity_a": self.recon(nets["G_back"](real_a).float(), real_a),
            "G_identity_b": self.recon(nets["G"](real_b).float(), real_b),
        }

    def _weigh(self, losses: Losses) -> Tensor:
        loss = self.options.loss
        weights = {
            "G_gan_b": loss.lambda_gan,
            "G_gan_a": loss.lambda_gan,
            "G_cycle_a": loss.lambda_cycle_a,
            "G_cycle_b": loss.lambda_cycle_b,
            "G_identity_a": loss.lambda_cycle_a * loss.lambda_identity,
            "G_identity_b": loss.lambda_cycle_b * loss.lambda_identity,
        }
        terms = [weights[name] * value for name, value in losses.items()]
        return torch.stack(terms).sum()

    def _judge(self, judge: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        with self._autocast():
            real_scores, fake_scores = judge(real).float(), judge(fake).float()
        return discriminator_gan_loss(self.options.loss.gan_mode, real_scores, fake_scores)

    def state_dict(self) -> dict[str, Any]:
        """Networks, average, optimisers and image pools."""
        pools = {side: pool.state_dict() for side, pool in self.pools.items()}
        return {**super().state_dict(), "pools": pools}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        super().load_state_dict(state)
        for side, pool in self.pools.items():
            pool.load_state_dict(state["pools"][side])

    def save(self, run: RunFolder, progress: dict[str, Any]) -> None:
        """Also write the generator of the opposite direction."""
        super().save(run, progress)
        path, kinds = run.path / "weights_back.safetensors", self.held_out
        self._save_generator(
            path,
            self.networks["G_back"],
            _opposite(self.options.generator),
            (kinds.output, kinds.inputs.kind),
            progress,
        )


def _opposite(options: GeneratorOptions) -> GeneratorOptions:
    return options.model_copy(update={"input_nc": options.output_nc, "output_nc": options.input_nc})
