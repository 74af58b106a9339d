"""A term of the distillation loss of the tests alone, registered with one line.

Every test that loops over `TERMS` covers it like the built-in ones.
"""

from __future__ import annotations

from torch import Tensor

from gancompress.losses.terms import TERMS, Goal, Output, Term


class Brightness(Term[Tensor]):
    """mean |mean of S - mean of T|, a mean over channels and images."""

    def prepare(self, goal: Goal) -> Tensor:
        return goal.image.mean((2, 3))

    def __call__(self, output: Output, context: Tensor) -> Tensor:
        return (output.image.mean((2, 3)) - context).abs().mean()


TERMS["brightness"] = Brightness
