"""The averaged generator, which is what a training leaves."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Ema:
    """Exponential moving average of a module's weights; buffers are copied.

    Args:
        module: The module that is trained.
        decay: Share of the old average kept at each step; 0 follows the module exactly.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, steps: int) -> None:
        """Move towards the module; early on (`steps` done so far) faster, so no start is kept."""
        decay = min(self.decay, (1 + steps) / (10 + steps))
        averaged: list[torch.Tensor] = list(self.module.parameters())
        current: list[torch.Tensor] = list(module.parameters())
        torch._foreach_lerp_(averaged, current, 1 - decay)
        for old, new in zip(self.module.buffers(), module.buffers(), strict=True):
            old.copy_(new)
