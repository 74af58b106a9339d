"""Losses of teachers and students: pure functions of tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gancompress.tables import lookup

ReconLoss = Callable[[Tensor, Tensor], Tensor]
Adapter = Callable[[Tensor], Tensor]

RECON_LOSSES: dict[str, ReconLoss] = {
    "l1": F.l1_loss,
    "l2": F.mse_loss,
    "smooth_l1": F.smooth_l1_loss,
}


@dataclass(frozen=True)
class GanLoss:
    """What both players minimise, functions of scores of any shape.

    Attributes:
        generator: Of scores of generated images.
        real: The discriminator's, of scores of real images.
        fake: The discriminator's, of scores of generated images.
    """

    generator: Callable[[Tensor], Tensor]
    real: Callable[[Tensor], Tensor]
    fake: Callable[[Tensor], Tensor]


def _towards(distance: ReconLoss) -> GanLoss:
    """Distances of scores from 1 for what shall pass as real, and from 0 for the rest."""

    def to(target: float) -> Callable[[Tensor], Tensor]:
        return lambda scores: distance(scores, torch.full_like(scores, target))

    return GanLoss(to(1.0), to(1.0), to(0.0))


GAN_LOSSES: dict[str, GanLoss] = {
    "lsgan": _towards(F.mse_loss),
    "vanilla": _towards(F.binary_cross_entropy_with_logits),
    "hinge": GanLoss(
        lambda scores: -scores.mean(),
        lambda scores: F.relu(1 - scores).mean(),
        lambda scores: F.relu(1 + scores).mean(),
    ),
}
"""By the name in `loss.gan_mode`.

Sources: lsgan Mao et al. 2017; vanilla Goodfellow et al. 2014 (non-saturating); hinge Lim & Ye
2017.
"""


def recon_loss(name: str) -> ReconLoss:
    """Distance between two images (N, C, H, W); a mean over all values."""
    return lookup(RECON_LOSSES, name, "reconstruction loss")


def generator_gan_loss(mode: str, fake_scores: Tensor) -> Tensor:
    """What the generator minimises so that the discriminator takes its images for real.

    Args:
        mode: An entry of `GAN_LOSSES`.
        fake_scores: Discriminator's scores of generated images, any shape.
    """
    return _gan_loss(mode).generator(fake_scores)


def discriminator_real_loss(mode: str, real_scores: Tensor) -> Tensor:
    """What the discriminator minimises on real images; scores of any shape."""
    return _gan_loss(mode).real(real_scores)


def discriminator_fake_loss(mode: str, fake_scores: Tensor) -> Tensor:
    """What the discriminator minimises on generated images; scores of any shape."""
    return _gan_loss(mode).fake(fake_scores)


def discriminator_gan_loss(mode: str, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Half the sum of the losses on real and on generated images.

    Args:
        mode: An entry of `GAN_LOSSES`.
        real_scores: Scores of real images, any shape.
        fake_scores: Scores of generated images, any shape.
    """
    real = discriminator_real_loss(mode, real_scores)
    return 0.5 * (real + discriminator_fake_loss(mode, fake_scores))


def _gan_loss(mode: str) -> GanLoss:
    return lookup(GAN_LOSSES, mode, "GAN mode")


def judged(inputs: Tensor, image: Tensor, paired: bool) -> Tensor:
    """What a discriminator sees of an image (N, C, H, W): together with its input if paired."""
    return torch.cat([inputs, image], 1) if paired else image


def feature_distillation(student: Tensor, teacher: Tensor, adapter: Adapter) -> Tensor:
    """Mean squared distance between adapted student features and teacher features.

    Source: Li et al., GAN Compression, CVPR 2020, eq. 3.

    Args:
        student: Activations of the sampled subnet, (N, C_s, H, W).
        teacher: Activations of the teacher at the same layer, (N, C_t, H, W), detached.
        adapter: 1x1 convolution from C_s to C_t channels.
    """
    return F.mse_loss(adapter(student).float(), teacher.float())
