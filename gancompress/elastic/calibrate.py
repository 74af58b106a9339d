"""Batch-norm statistics of an extracted subnet: those of the supernet belong to another width."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def calibrate(generator: nn.Module, batches: Iterable[Tensor]) -> bool:
    """Replace the running statistics of all batch norms by means over these batches.

    Every batch has the same weight (a cumulative mean, not a moving one). Instance norms without
    running statistics need nothing.

    Args:
        generator: An extracted subnet; changed in place, mode kept.
        batches: Inputs (N, C, H, W) in [-1, 1].

    Returns:
        Whether there was anything to calibrate.
    """
    norms = [
        m
        for m in generator.modules()
        if isinstance(m, nn.BatchNorm2d | nn.InstanceNorm2d) and m.track_running_stats
    ]
    if not norms:
        return False
    training = generator.training
    momenta = [norm.momentum for norm in norms]
    generator.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative mean
        norm.train()
    for batch in batches:
        generator(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    generator.train(training)
    return True
