"""Batch-norm statistics of an extracted subnet: those of the supernet belong to another width."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from gancompress.elastic.space import Subnet
from gancompress.elastic.supernet import Supernet

Norm = nn.BatchNorm2d | nn.InstanceNorm2d | nn.SyncBatchNorm


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
    norms = norms_with_statistics(generator)
    if not norms:
        return False
    training = generator.training
    momenta = [norm.momentum for norm in norms]
    generator.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    for count, batch in enumerate(batches, start=1):
        for norm in norms:
            norm.momentum = 1 / count  # cumulative mean
        generator(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    generator.train(training)
    return True


def norms_with_statistics(generator: nn.Module) -> list[Norm]:
    """Norms that keep running statistics, which depend on the subnet's widths."""
    return [m for m in generator.modules() if isinstance(m, Norm) and m.track_running_stats]


def ready_subnet(
    net: Supernet, subnet: Subnet, batches: Iterable[Tensor]
) -> Callable[[Tensor], Tensor]:
    """A subnet to translate with: a view of the supernet, or calibrated if it has batch norms.

    Args:
        net: The supernet, in evaluation mode.
        subnet: Its widths.
        batches: Inputs for the calibration, read only where one is needed.
    """
    if not norms_with_statistics(net.generator):
        return lambda x: net(x, subnet)
    return calibrated(net, subnet, batches)


def calibrated(net: Supernet, subnet: Subnet, batches: Iterable[Tensor]) -> nn.Module:
    """The extracted subnet with statistics of its own where its norms keep any."""
    small = net.extract(subnet).eval()
    calibrate(small, batches)
    return small
