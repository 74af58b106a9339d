"""Where bfloat16 pays, and the averaged generator."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager

import torch
from torch import nn


def wants_bf16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16: `auto` says yes where the hardware multiplies in it."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Autocast to bfloat16 where `precision` asks for it and the device has it."""
    enabled = wants_bf16(precision, device)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=True)


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
