"""Kernel alignment: which images of a batch have like activations."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from gancompress.distributed import whole_batch
from gancompress.errors import ConfigError
from gancompress.losses.terms.interface import Goal, Need, Output, Setting, Term


class KernelAlignment(Term[list[Tensor]]):
    """sum_k 1 - KA(S_k, T_k), KA(X, Y) = <X X^T, Y Y^T> / (||X X^T|| ||Y Y^T||).

    X has one row for each image of the batch, its activations at a tap; products and norms are
    Frobenius'. Channels may differ, and no adapter is needed.

    Source: Jin et al., Teachers Do More Than Teach, CVPR 2021, with weights 0.1 to 1.3 and batches
    of up to 80.

    Raises:
        ConfigError: One image in a batch, for which the value is always 0.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"activations"})

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        if setting.batch_size < 2:
            raise ConfigError(
                "loss.terms.alignment compares the images of a batch with each other: "
                "set schedule.batch_size to 2 or more"
            )

    def prepare(self, goal: Goal) -> list[Tensor]:
        """The teacher's products of images, (B, B) for every tap."""
        return [_kernel(layer) for layer in goal.activations]

    def __call__(self, output: Output, context: list[Tensor]) -> Tensor:
        """In [0, number of taps]; 0 where images relate to each other as for the teacher."""
        pairs = [(_kernel(x).flatten(), y.flatten()) for _, x, y in output.compared(context)]
        return output.total([1 - F.cosine_similarity(x, y, dim=0) for x, y in pairs])


def _kernel(features: Tensor) -> Tensor:
    """(N, C, H, W) -> (B, B) for all B images of the batch, as means over C, H and W."""
    flat = whole_batch(features.float().flatten(1))
    return flat @ flat.T / flat.shape[1]
