"""The discriminator of a distillation, which learns from the same forward as the student."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gancompress.checkpoint.network import Discriminator
from gancompress.config import DistillLossOptions, ScheduleOptions
from gancompress.losses import (
    discriminator_fake_loss,
    discriminator_real_loss,
    generator_gan_loss,
    judged,
)
from gancompress.training.precision import autocast


class Adversary:
    """A discriminator, its optimiser, and both players' losses.

    Args:
        judge: The discriminator; trained in place.
        loss: GAN mode and weight.
        schedule: Learning rate and precision.
        paired: Whether it sees input and image together.
        device: Where to train.
    """

    def __init__(
        self,
        judge: Discriminator,
        loss: DistillLossOptions,
        schedule: ScheduleOptions,
        paired: bool,
        device: torch.device,
    ) -> None:
        self.loss = loss
        self.schedule = schedule
        self.paired = paired
        self.device = device
        self.discriminator = judge.module.to(device).train()
        self.optim = torch.optim.Adam(
            self.discriminator.parameters(),
            lr=schedule.lr,
            betas=(schedule.beta1, 0.999),
            fused=True,
        )

    def play(self, inputs: Tensor, out: Tensor, count: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Judge generated images.

        The gradient of the discriminator's loss is added to its parameters at once.

        Args:
            inputs: What was translated, (N, 3, H, W).
            out: The student's images with their graph, (N, 3, H, W).
            count: Subnets of the step, whose mean the discriminator's loss is.

        Returns:
            A scalar whose gradient with respect to `out` is that of lambda_gan times the
            generator's loss, and both players' losses by name.
        """
        mode = self.loss.gan_mode
        image = out.detach().requires_grad_()
        scores = self._scores(inputs, image)
        loss_g = generator_gan_loss(mode, scores)
        loss_d = 0.5 * discriminator_fake_loss(mode, scores)
        weighted = self.loss.lambda_gan * loss_g
        (gradient,) = torch.autograd.grad(weighted, image, retain_graph=True)
        (loss_d / count).backward(inputs=list(self.discriminator.parameters()))
        return (out * gradient).sum(), {"G_gan": loss_g, "D": loss_d}

    def see_real(self, inputs: Tensor, real: Tensor) -> Tensor:
        """Judge images of the target domain; adds the gradient and returns the loss, detached."""
        scores = self._scores(inputs, real)
        value = 0.5 * discriminator_real_loss(self.loss.gan_mode, scores)
        value.backward()
        return value.detach()

    def _scores(self, inputs: Tensor, image: Tensor) -> Tensor:
        with autocast(self.schedule.precision, self.device):
            scores: Tensor = self.discriminator(judged(inputs, image, self.paired))
        return scores.float()

    def state_dict(self) -> dict[str, Any]:
        """Network and optimiser."""
        return {
            "discriminator": self.discriminator.state_dict(),
            "optim_d": self.optim.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state, which may hold more."""
        self.discriminator.load_state_dict(state["discriminator"])
        self.optim.load_state_dict(state["optim_d"])
