"""Generators and discriminators, each written once; nothing here is elastic.

A teacher, a student, a supernet's generator and an extracted subnet are all the same class.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from gancompress.config import DiscriminatorOptions, GeneratorOptions
from gancompress.models.discriminators import (
    NLayerDiscriminator,
    PixelDiscriminator,
    stored_weight,
)
from gancompress.models.resnet import BlockStyle, ResnetBlock, ResnetGenerator, ResnetWidths
from gancompress.models.unet import UnetGenerator
from gancompress.tables import lookup


def _resnet(options: GeneratorOptions, n_blocks: int, separable: bool) -> nn.Module:
    style = BlockStyle(
        options.norm, options.padding, options.dropout, separable, options.upsampling
    )
    widths = ResnetWidths.of(options.ngf, n_blocks)
    return ResnetGenerator(options.input_nc, options.output_nc, widths, style)


def _unet(options: GeneratorOptions, num_downs: int) -> nn.Module:
    return UnetGenerator(
        options.input_nc,
        options.output_nc,
        num_downs,
        options.ngf,
        options.norm,
        options.dropout,
        options.upsampling,
    )


GENERATORS: dict[str, Callable[[GeneratorOptions], nn.Module]] = {
    "resnet_9blocks": partial(_resnet, n_blocks=9, separable=False),
    "resnet_6blocks": partial(_resnet, n_blocks=6, separable=False),
    "mobile_resnet_9blocks": partial(_resnet, n_blocks=9, separable=True),
    "mobile_resnet_6blocks": partial(_resnet, n_blocks=6, separable=True),
    "unet_64": partial(_unet, num_downs=6),
    "unet_128": partial(_unet, num_downs=7),
    "unet_256": partial(_unet, num_downs=8),
}
"""Generator families by name; each takes the generator section of an options file."""

STRIDES = {
    name: 2 ** (int(name.split("_")[1]).bit_length() - 1) if "unet" in name else 4
    for name in GENERATORS
}
"""What H and W of an image must be multiples of."""

DISCRIMINATORS: dict[str, Callable[[DiscriminatorOptions, int], nn.Module]] = {
    "n_layers": lambda o, input_nc: NLayerDiscriminator(
        input_nc, o.ndf, o.n_layers, o.norm, o.spectral_norm
    ),
    "pixel": lambda o, input_nc: PixelDiscriminator(input_nc, o.ndf, o.norm, o.spectral_norm),
}
"""Discriminators by name; each takes its section and the channels of the judged image."""


def build_generator(options: GeneratorOptions) -> nn.Module:
    """A generator with PyTorch's default initialisation; see `init_weights`."""
    return lookup(GENERATORS, options.name, "generator")(options)


def build_discriminator(options: DiscriminatorOptions, input_nc: int) -> nn.Module:
    """A discriminator for images of `input_nc` channels."""
    return lookup(DISCRIMINATORS, options.name, "discriminator")(options, input_nc)


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
    "STRIDES",
    "BlockStyle",
    "NLayerDiscriminator",
    "PixelDiscriminator",
    "ResnetBlock",
    "ResnetGenerator",
    "ResnetWidths",
    "UnetGenerator",
    "build_discriminator",
    "build_generator",
    "init_weights",
]
