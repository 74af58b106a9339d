"""Semantic relations: which places of an image have like activations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from gancompress.losses.terms.interface import Goal, Need, Output, Term

PLACES = 256  # drawn at random for every step and tap, as published
TINY = 1e-6  # activations shorter than this stay shorter than 1


@dataclass(frozen=True)
class Relation:
    """How places relate for the teacher at one tap.

    Attributes:
        shape: (N, C, H, W) of its activations.
        places: Indices of those that are compared, (P,).
        logs: Logarithms of P, (N, P, P).
    """

    shape: torch.Size
    places: Tensor
    logs: Tensor


class RelationConsistency(Term[list[Relation]]):
    """sum_k JSD(P(S_k), P(T_k)): divergence of the similarities between places.

    P_ij is the softmax over j of the cosine between the activations at places i and j of one
    image, JSD the Jensen-Shannon divergence of its rows in nats, a mean over places and images.
    Channels may differ, and no adapter is needed.

    Source: Jung et al., Exploring Patch-wise Semantic Relation for Contrastive Learning in
    Image-to-Image Translation Tasks, CVPR 2022.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"activations"})

    def prepare(self, goal: Goal) -> list[Relation]:
        """Places of every tap, and how they relate for the teacher."""
        found = []
        for layer in goal.activations:
            order = torch.randperm(layer.shape[2] * layer.shape[3], generator=goal.rng)
            places = order[:PLACES].to(layer.device)
            found.append(Relation(layer.shape, places, _log_similarities(layer, places)))
        return found

    def __call__(self, output: Output, context: list[Relation]) -> Tensor:
        """In [0, log 2 times the number of taps]; 0 where places relate as for the teacher.

        Raises:
            ConfigError: Activations that are compared differ in height or width.
        """
        divergences = []
        for number, ours, wanted in output.compared(context):
            self.setting.taps[number].check(ours.shape, wanted.shape)
            logs = _log_similarities(ours, wanted.places)
            divergences.append(_divergence(logs, wanted.logs))
        return output.total(divergences)


def _log_similarities(features: Tensor, places: Tensor) -> Tensor:
    chosen = F.normalize(features.float().flatten(2)[:, :, places], dim=1, eps=TINY)
    return F.log_softmax(chosen.mT @ chosen, dim=2)


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """Of distributions in the last dimension, given as logarithms."""
    middle = torch.logaddexp(p, q) - math.log(2)
    both = p.exp() * (p - middle) + q.exp() * (q - middle)
    return 0.5 * both.sum(-1).mean()
