"""A generator family and a discriminator of the tests alone, each registered with one line.

Every test that loops over the tables covers them like the built-in ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gancompress.config import DiscriminatorOptions, GeneratorOptions
from gancompress.models import DISCRIMINATORS, GENERATORS, DiscriminatorFamily, Family
from gancompress.models.blocks import needs_bias, norm_factory
from gancompress.models.family import LayerTie, Tensors, infer_norm, kernel


class ToyOptions(GeneratorOptions):
    """A section with a key of its own."""

    depth: int = 2


class ToyGenerator(nn.Module):
    """Down, `depth` convolutions at half the size, up."""

    def __init__(self, options: GeneratorOptions) -> None:
        super().__init__()
        assert isinstance(options, ToyOptions)
        input_nc, output_nc = options.channels
        ngf, norm, bias = options.ngf, norm_factory(options.norm), needs_bias(options.norm)
        down = nn.Conv2d(input_nc, ngf, 4, 2, 1, bias=bias)
        self.down = nn.Sequential(down, norm(ngf), nn.ReLU())
        inner = [nn.Conv2d(ngf, ngf, 3, padding=1, bias=bias) for _ in range(options.depth)]
        self.inner = nn.Sequential(*(nn.Sequential(conv, norm(ngf), nn.ReLU()) for conv in inner))
        self.up = nn.ConvTranspose2d(ngf, output_nc, 4, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        return torch.tanh(self.up(self.inner(self.down(image))))


def _infer_generator(tensors: Tensors) -> GeneratorOptions | None:
    if "down.0.weight" not in tensors:
        return None
    down, up = kernel(tensors, "down.0.weight"), kernel(tensors, "up.weight")
    return ToyOptions(
        name="toy",
        input_nc=down.shape[1],
        output_nc=up.shape[1],
        ngf=down.shape[0],
        norm=infer_norm(tensors, "down.1", "down.0"),
        depth=sum(name.startswith("inner.") and name.endswith(".0.weight") for name in tensors),
    )


def _ties(groups: Sequence[str]) -> list[LayerTie]:
    return [((groups[0],), 1), (tuple(groups[1:]), 1)]


class ToyDiscriminator(nn.Module):
    """One score for each 4x4 square."""

    def __init__(self, options: DiscriminatorOptions, input_nc: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(input_nc, options.ndf, 4, 4, bias=needs_bias(options.norm))
        self.norm = norm_factory(options.norm)(options.ndf)
        self.inner = nn.ReLU()
        self.last = nn.Conv2d(options.ndf, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.last(self.inner(self.norm(self.first(x))))
        return scores


def _infer_discriminator(tensors: Tensors) -> tuple[DiscriminatorOptions, int] | None:
    if "first.weight" not in tensors:
        return None
    first, norm = kernel(tensors, "first.weight"), infer_norm(tensors, "norm", "first")
    return DiscriminatorOptions(name="toy", ndf=first.shape[0], norm=norm), first.shape[1]


GENERATORS["toy"] = Family(
    module=ToyGenerator,
    build=ToyGenerator,
    takes=frozenset({"norm"}),
    stride=2,
    infer=_infer_generator,
    options=ToyOptions,
    ties=_ties,
    taps=lambda layers: ("inner.0.0",),
)
DISCRIMINATORS["toy"] = DiscriminatorFamily(
    module=ToyDiscriminator,
    build=ToyDiscriminator,
    takes=frozenset({"norm"}),
    infer=_infer_discriminator,
    layers=lambda discriminator: ["inner"],
)
