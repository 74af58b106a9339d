"""Where bfloat16 pays."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


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
