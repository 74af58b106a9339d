"""Relations of the rows, columns and patches of an output."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gancompress.losses.terms.interface import Goal, Output, Term

GRID = 8  # patches along a side: 32x32 pixels of an image of 256x256, as published
FLOOR = 1e-3  # root mean square, an eighth of a grey level; nearer parts count as this far apart
Relations = tuple[Tensor, Tensor]


class OutputRelations(Term[list[Relations]]):
    """Distances and angles between the parts of an image, for rows, columns and patches alike.

    sum over the three of h(d(S), d(T)) + 2 h(a(S), a(T)): d_ij = |x_i - x_j| over its mean of all
    pairs, a_ijk the cosine at x_i between x_j and x_k, h the smooth L1 distance as a mean. Only
    parts of one image are compared. Angles take side^3 numbers an image: 67 MB at 256x256.

    Sources: You et al., Content Relationship Distillation, arXiv 2212.11091, 2022, with weight 25;
    Park et al., Relational Knowledge Distillation, CVPR 2019.
    """

    def prepare(self, goal: Goal) -> list[Relations]:
        """The target's distances and angles."""
        return [relations(parts) for parts in _parts(goal.image)]

    def __call__(self, output: Output, context: list[Relations]) -> Tensor:
        """At least 0, which equal images have, and all whose parts relate in the same way."""
        total = output.image.new_zeros(())
        for parts, (distances, angles) in zip(_parts(output.image), context, strict=True):
            ours, turned = relations(parts)
            total = total + F.smooth_l1_loss(ours, distances) + 2 * F.smooth_l1_loss(turned, angles)
        return total


def relations(parts: Tensor) -> Relations:
    """Distances (N, P, P) over their mean and cosines of angles (N, P, P, P) of parts (N, P, D)."""
    centred = parts - parts.mean(1, keepdim=True)  # changes no difference, and rounds less
    products = centred @ centred.mT / parts.shape[2]
    squares = products.diagonal(dim1=1, dim2=2)
    apart = squares[:, :, None] + squares[:, None, :] - 2 * products
    distances = apart.clamp_min(FLOOR**2).sqrt()
    count = parts.shape[1]
    others = 1 - torch.eye(count, device=parts.device, dtype=parts.dtype)
    mean = (distances * others).sum((1, 2), keepdim=True) / (count * (count - 1))
    # (x_j - x_i) (x_k - x_i) = x_j x_k - x_i x_j - x_i x_k + x_i x_i
    corners = (
        products[:, None] - products[..., None] - products[:, :, None] + squares[..., None, None]
    )
    return distances * others / mean, corners / (distances[..., None] * distances[:, :, None])


def _parts(images: Tensor) -> list[Tensor]:
    """Rows, columns and patches of (N, C, H, W), (N, P, D) each."""
    height, width = (max(length // GRID, 1) for length in images.shape[2:])
    rows, columns = images.transpose(1, 2).flatten(2), images.permute(0, 3, 1, 2).flatten(2)
    return [rows, columns, F.unfold(images, (height, width), stride=(height, width)).mT]
