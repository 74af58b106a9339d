"""Sheets of sample images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def sheet(columns: Sequence[Tensor], gap: int = 2) -> Tensor:
    """Columns of images side by side, one row for each item.

    Args:
        columns: Tensors (N, 3, H, W) uint8 with the same N; see `ImageKind.preview`.
        gap: White pixels between images.

    Returns:
        (3, N * (H + gap), C * (W + gap)) uint8.
    """
    padded = [
        torch.nn.functional.pad(images.cpu(), (0, gap, 0, gap), value=255) for images in columns
    ]
    rows = [torch.cat([images[i] for images in padded], dim=2) for i in range(len(padded[0]))]
    return torch.cat(rows, dim=1)
