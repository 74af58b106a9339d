"""The terms of the distillation loss, each in a file of its own.

| name | compares | weight |
|---|---|---|
| `recon` | pixels | `loss.lambda_recon` |
| `lpips` | images, by LPIPS | `loss.lambda_lpips` |
| `distill` | activations, through adapters | `loss.lambda_distill` |
| the others | see their files | `loss.terms.NAME`, 0 by default |

The adversarial loss is apart: its discriminator learns too, see `gancompress.training.adversary`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.config import DistillLossOptions
from gancompress.losses.terms.activations import MatchedActivations
from gancompress.losses.terms.alignment import KernelAlignment
from gancompress.losses.terms.consistency import RelationConsistency
from gancompress.losses.terms.discriminator import DiscriminatorFeatures
from gancompress.losses.terms.features import FeatureDistance
from gancompress.losses.terms.gram import Gram
from gancompress.losses.terms.interface import (
    Goal,
    Need,
    Observers,
    Output,
    Setting,
    Tap,
    Term,
    View,
)
from gancompress.losses.terms.lpips import Lpips
from gancompress.losses.terms.recon import Reconstruction
from gancompress.losses.terms.relations import OutputRelations
from gancompress.losses.terms.ssim import Ssim
from gancompress.losses.terms.variation import TotalVariation

TERMS: dict[str, type[Term[Any]]] = {
    "recon": Reconstruction,
    "lpips": Lpips,
    "distill": MatchedActivations,
    "ssim": Ssim,
    "gram": Gram,
    "features": FeatureDistance,
    "variation": TotalVariation,
    "alignment": KernelAlignment,
    "relations": OutputRelations,
    "consistency": RelationConsistency,
    "discriminator": DiscriminatorFeatures,
}
"""Terms by name, in the order in which they are added up."""


def term_weights(loss: DistillLossOptions) -> dict[str, float]:
    """The terms that have a weight above 0, in the order of `TERMS`."""
    weights = {name: getattr(loss, f"lambda_{name}", loss.terms.get(name, 0.0)) for name in TERMS}
    return {name: weight for name, weight in weights.items() if weight}


def needs(loss: DistillLossOptions) -> frozenset[Need]:
    """What has to be computed for the terms of these options besides images."""
    return frozenset().union(*(TERMS[name].needs for name in term_weights(loss)))


class Terms(nn.Module):
    """The terms of a distillation; their adapters are its parameters.

    Args:
        setting: What they are built from.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.weights = term_weights(setting.loss)
        self.table = {name: TERMS[name](setting) for name in self.weights}
        for term in self.table.values():
            for name, module in term.trained.items():
                self.add_module(name, module)

    @torch.no_grad()
    def prepare(self, goal: Goal) -> dict[str, Any]:
        """What every term keeps of the goal of a step."""
        return {name: term.prepare(goal) for name, term in self.table.items()}

    def forward(self, output: Output, contexts: Mapping[str, Any]) -> dict[str, Tensor]:
        """The value of every term, without its weight."""
        return {name: term(output, contexts[name]) for name, term in self.table.items()}

    def total(self, values: Mapping[str, Tensor]) -> Tensor:
        """The sum of all values by their weights."""
        weighted = [weight * values[name] for name, weight in self.weights.items()]
        return torch.stack(weighted).sum() if weighted else torch.zeros(())


__all__ = [
    "TERMS",
    "Goal",
    "Need",
    "Observers",
    "Output",
    "Setting",
    "Tap",
    "Term",
    "Terms",
    "View",
    "needs",
    "term_weights",
]
