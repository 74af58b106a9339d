"""A ResNet generator that ends in a sub-pixel convolution: separable blocks, no norms.

A narrow separable ResNet of the reference's design spends more than half of its arithmetic on its
7x7 convolutions and its last up-sampling, all at full size. Here no convolution answers at full
size, so that the residual blocks get most of it; features of the first convolution are added again
before the last one; and without norms a subnet needs no calibration.

Source: Shi et al., Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel
Convolutional Neural Network, CVPR 2016.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial

from torch import Tensor, nn

from gancompress.config import GeneratorOptions
from gancompress.errors import CheckpointError
from gancompress.models.family import Family, LayerTie, Tensors, kernel
from gancompress.models.resnet import thirds

FACTOR = 2
"""How many times smaller than the image the largest planes are."""
BLOCKS = (6, 9)
"""Numbers of residual blocks that the families have."""


def separable(channels_in: int, channels_out: int) -> list[nn.Module]:
    """Depth-wise 3x3 and point-wise 1x1."""
    depthwise = nn.Conv2d(channels_in, channels_in, 3, groups=channels_in)
    return [nn.ReflectionPad2d(1), depthwise, nn.Conv2d(channels_in, channels_out, 1)]


class SubpixelBlock(nn.Module):
    """Two separable convolutions and an identity.

    Args:
        channels: Width of input, output and between the two.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = separable(channels, channels), separable(channels, channels)
        self.layers = nn.Sequential(*first, nn.ReLU(), *second)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        out: Tensor = x + self.layers(x)
        return out


class SubpixelGenerator(nn.Module):
    """Convolution at half of the size, residual blocks at a quarter, convolution at half.

    Args:
        input_nc: Channels of the input image.
        output_nc: Channels of the output image.
        ngf: Width at half of the size; the blocks are four times as wide.
        n_blocks: Number of residual blocks.
    """

    def __init__(self, input_nc: int, output_nc: int, ngf: int, n_blocks: int) -> None:
        super().__init__()
        trunk = 4 * ngf
        first = nn.Conv2d(input_nc, ngf, 3 * FACTOR, stride=FACTOR)
        self.encoder = nn.Sequential(nn.ReflectionPad2d(FACTOR), first, nn.ReLU())
        self.trunk = nn.Sequential(
            nn.Conv2d(ngf, trunk, 3, stride=2, padding=1),
            nn.ReLU(),
            *(SubpixelBlock(trunk) for _ in range(n_blocks)),
            nn.Upsample(scale_factor=2),
            *separable(trunk, ngf),
            nn.ReLU(),
        )
        last = nn.Conv2d(ngf, FACTOR**2 * output_nc, 3)
        self.decoder = nn.Sequential(
            nn.ReflectionPad2d(1), last, nn.PixelShuffle(FACTOR), nn.Tanh()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, input_nc, H, W) in [-1, 1] -> (N, output_nc, H, W) in [-1, 1]; 4 divides H and W."""
        features = self.encoder(x)
        out: Tensor = self.decoder(features + self.trunk(features))
        return out


def subpixel_ties(groups: Iterable[str]) -> list[LayerTie]:
    """Five numbers: both ends, trunk, and three thirds of the blocks' inner widths.

    Units are the layers' multiples of ngf: 1, 4, 4, 4, 4.

    Args:
        groups: Names of the generator's channel groups in order of execution.
    """
    names = list(groups)
    inner = [name for name in names if ".layers." in name]
    ends, trunk = (name for name in names if name not in inner)
    return [((ends,), 1), ((trunk,), 4), *((third, 4) for third in thirds(inner))]


def _infer(tensors: Tensors) -> GeneratorOptions | None:
    if "encoder.1.weight" not in tensors or "trunk.2.layers.1.weight" not in tensors:
        return None
    blocks = {int(m[1]) for n in tensors if (m := re.match(r"trunk\.(\d+)\.layers\.", n))}
    first, last = kernel(tensors, "encoder.1.weight"), kernel(tensors, "decoder.1.weight")
    if len(blocks) not in BLOCKS:
        known = " or ".join(map(str, BLOCKS))
        raise CheckpointError(f"a sub-pixel generator of {len(blocks)} blocks; {known} are known")
    return GeneratorOptions(
        name=f"subpixel_resnet_{len(blocks)}blocks",
        input_nc=first.shape[1],
        output_nc=last.shape[0] // FACTOR**2,
        ngf=first.shape[0],
    )


def _build(options: GeneratorOptions, n_blocks: int) -> nn.Module:
    return SubpixelGenerator(*options.channels, options.ngf, n_blocks)


def subpixel_resnet(n_blocks: int) -> Family:
    """The family of so many residual blocks."""
    return Family(
        module=SubpixelGenerator,
        build=partial(_build, n_blocks=n_blocks),
        takes=frozenset(),
        stride=4,
        infer=_infer,
        ties=subpixel_ties,
    )
