"""Generators and discriminators, each written once; nothing here is elastic.

A teacher, a student, a supernet's generator and an extracted subnet are all the same class.
"""

from __future__ import annotations

import re

from torch import nn

from gancompress.config import DiscriminatorOptions, GeneratorOptions
from gancompress.models.discriminators import (
    N_LAYERS,
    PIXEL,
    NLayerDiscriminator,
    PixelDiscriminator,
    stored_weight,
)
from gancompress.models.family import DiscriminatorFamily, Family, leaky_relus
from gancompress.models.resnet import (
    BlockStyle,
    ResnetBlock,
    ResnetGenerator,
    ResnetWidths,
    resnet,
)
from gancompress.models.subpixel import SubpixelGenerator, subpixel_resnet
from gancompress.models.unet import UnetGenerator, unet

MAX_BLOCKS = 64
NUM_DOWNS = range(5, 11)  # of U-Nets, for images of 32 to 1024 pixels


class _Families(dict[str, Family]):
    """The listed families, and those that differ from them in depth alone."""

    def __missing__(self, name: str) -> Family:
        match = re.fullmatch(r"(mobile_)?resnet_([1-9]\d?)blocks", name)
        if match and int(match[2]) <= MAX_BLOCKS:
            return resnet(int(match[2]), separable=bool(match[1]))
        for num_downs in NUM_DOWNS:
            if name == f"unet_{2**num_downs}":
                return unet(num_downs)
        raise KeyError(name)


GENERATORS: dict[str, Family] = _Families(
    {
        "resnet_9blocks": resnet(9),
        "resnet_6blocks": resnet(6),
        "mobile_resnet_9blocks": resnet(9, separable=True),
        "mobile_resnet_6blocks": resnet(6, separable=True),
        "subpixel_resnet_9blocks": subpixel_resnet(9),
        "subpixel_resnet_6blocks": subpixel_resnet(6),
        "unet_64": unet(6),
        "unet_128": unet(7),
        "unet_256": unet(8),
    }
)
"""Generator families by name; ResNets may have 1 to 64 blocks, U-Nets be for 32 to 1024 pixels."""

DISCRIMINATORS: dict[str, DiscriminatorFamily] = {"n_layers": N_LAYERS, "pixel": PIXEL}
"""Discriminator families by name."""


def build_generator(options: GeneratorOptions) -> nn.Module:
    """A generator with PyTorch's default initialisation; see `init_weights`."""
    return GENERATORS[options.name].build(options)


def family_of(generator: nn.Module) -> Family | None:
    """The record of a generator's class, whichever of its sizes it has; None for anybody else's."""
    return next((f for f in GENERATORS.values() if type(generator) is f.module), None)


def build_discriminator(options: DiscriminatorOptions, input_nc: int) -> nn.Module:
    """A discriminator for images of `input_nc` channels."""
    return DISCRIMINATORS[options.name].build(options, input_nc)


def compared_layers(discriminator: nn.Module) -> list[str]:
    """Names of the inner layers of a discriminator whose activations a loss compares."""
    layers = {family.module: family.layers for family in DISCRIMINATORS.values()}
    return layers.get(type(discriminator), leaky_relus)(discriminator)


def init_weights(module: nn.Module, gain: float = 0.02) -> nn.Module:
    """Initialise as pix2pix does: N(0, gain) for convolutions, N(1, gain) for batch norm scales."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(stored_weight(layer), 0.0, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, gain)
            nn.init.zeros_(layer.bias)
    return module


__all__ = [
    "DISCRIMINATORS",
    "GENERATORS",
    "BlockStyle",
    "DiscriminatorFamily",
    "Family",
    "NLayerDiscriminator",
    "PixelDiscriminator",
    "ResnetBlock",
    "ResnetGenerator",
    "ResnetWidths",
    "SubpixelGenerator",
    "UnetGenerator",
    "build_discriminator",
    "build_generator",
    "compared_layers",
    "family_of",
    "init_weights",
]
