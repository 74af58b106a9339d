"""Important channels first: a subnet keeps the first ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gancompress.elastic.traced import Traced


@torch.no_grad()
def channel_importance(generator: nn.Module, traced: Traced) -> dict[str, Tensor]:
    """Score of every channel: the L1 norm of the weights that read it.

    A channel of the residual trunk is read by every block, so the trunk is scored all at once.

    Source: Cai et al., Once-for-All, ICLR 2020, section 3.3 (there for inner channels only).

    Returns:
        For each group, (size,) non-negative scores.
    """
    tensors = _tensors(generator)
    scores = {group.name: torch.zeros(group.size) for group in traced.groups}
    for operation, ins, _ in traced.operations:
        if operation.kind.endswith("depthwise") or operation.weight is None:
            continue
        weight = tensors[operation.weight].detach().abs().cpu()
        dim = 0 if operation.kind == "transposed" else 1
        totals = weight.sum(tuple(d for d in range(weight.ndim) if d != dim))
        for group, values in ins.split(totals):
            scores[group] += values
    return scores


@torch.no_grad()
def sort_channels(generator: nn.Module, traced: Traced, scores: dict[str, Tensor]) -> None:
    """Permute the channels of every group in place, highest score first.

    The generator computes the same images as before (up to the order of additions).

    Args:
        generator: Changed in place.
        traced: Its groups.
        scores: (size,) for each group.
    """
    orders = {
        name: torch.argsort(score, descending=True, stable=True) for name, score in scores.items()
    }
    tensors = _tensors(generator)
    for name, dims in traced.parameters.items():
        tensor = tensors[name]
        for dim, parts in enumerate(dims):
            if parts is not None:
                order = parts.order(orders).to(tensor.device)
                tensor.copy_(tensor.index_select(dim, order))


def _tensors(generator: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by all of their names; a kernel may be either."""
    return {
        **dict(generator.named_parameters(remove_duplicate=False)),
        **dict(generator.named_buffers(remove_duplicate=False)),
    }
