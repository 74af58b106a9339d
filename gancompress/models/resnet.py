"""The ResNet generator of CycleGAN and pix2pix, with dense or depth-wise separable blocks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from gancompress.errors import ConfigError
from gancompress.models.blocks import (
    PADDINGS,
    SeparableConv2d,
    needs_bias,
    norm_factory,
    upsampling_layers,
)
from gancompress.tables import lookup


@dataclass(frozen=True)
class BlockStyle:
    """What the residual blocks and the up-samplings are made of.

    Attributes:
        norm: Entry of `NORMS`.
        padding: Entry of `PADDINGS`.
        dropout: Probability of the dropout layer between the two convolutions; None leaves the
            layer out, 0.0 keeps its place in the module names (as gan-compression does).
        separable: Depth-wise separable instead of dense convolutions.
        upsampling: See `upsampling_layers`.
    """

    norm: str
    padding: str
    dropout: float | None
    separable: bool
    upsampling: str = "transposed"


@dataclass(frozen=True)
class ResnetWidths:
    """Channels of every layer.

    Attributes:
        stem: After the first convolution.
        down: After the first down-sampling.
        trunk: After the second down-sampling, and of all blocks' inputs and outputs.
        inner: Between the two convolutions of each block.
        up: After the first up-sampling.
        head: After the second up-sampling.
    """

    stem: int
    down: int
    trunk: int
    inner: tuple[int, ...]
    up: int
    head: int

    @classmethod
    def of(cls, ngf: int, n_blocks: int) -> ResnetWidths:
        """Those of a full generator: doubled at each down-sampling, the trunk's in every block."""
        return cls(ngf, 2 * ngf, 4 * ngf, (4 * ngf,) * n_blocks, 2 * ngf, ngf)


class ResnetBlock(nn.Module):
    """Two 3x3 convolutions and an identity.

    Args:
        channels: Width of the trunk.
        inner: Width between the two convolutions.
        style: Norm, padding, dropout and kind of convolution.
    """

    def __init__(self, channels: int, inner: int, style: BlockStyle) -> None:
        super().__init__()
        layers = [*self._convolution(channels, inner, style), nn.ReLU()]
        if style.dropout is not None:
            layers.append(nn.Dropout(style.dropout))
        layers += self._convolution(inner, channels, style)
        self.conv_block = nn.Sequential(*layers)

    @staticmethod
    def _convolution(channels_in: int, channels_out: int, style: BlockStyle) -> list[nn.Module]:
        pad = lookup(PADDINGS, style.padding, "padding")(1)
        own_padding = 1 if pad is None else 0
        conv: nn.Module
        if style.separable:
            conv = SeparableConv2d(channels_in, channels_out, 3, own_padding, style.norm)
        else:
            bias = needs_bias(style.norm)
            conv = nn.Conv2d(channels_in, channels_out, 3, padding=own_padding, bias=bias)
        norm = norm_factory(style.norm)(channels_out)
        return [conv, norm] if pad is None else [pad, conv, norm]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        out: Tensor = x + self.conv_block(x)
        return out


class ResnetGenerator(nn.Module):
    """Stem, two down-samplings, residual blocks, two up-samplings, head.

    Module names are those of pytorch-CycleGAN-and-pix2pix (`model.10.conv_block.1.weight`).

    Args:
        input_nc: Channels of the input image.
        output_nc: Channels of the output image.
        widths: Channels of every layer.
        style: Norm, padding, dropout and kind of convolution of the blocks.
    """

    def __init__(
        self, input_nc: int, output_nc: int, widths: ResnetWidths, style: BlockStyle
    ) -> None:
        super().__init__()
        if not widths.inner:
            raise ConfigError("a ResNet generator has at least one block, not 0")
        norm, bias = norm_factory(style.norm), needs_bias(style.norm)
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(input_nc, widths.stem, 7, bias=bias),
            norm(widths.stem),
            nn.ReLU(),
        ]
        for before, after in ((widths.stem, widths.down), (widths.down, widths.trunk)):
            down = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=bias)
            layers += [down, norm(after), nn.ReLU()]
        layers += [ResnetBlock(widths.trunk, inner, style) for inner in widths.inner]
        for before, after in ((widths.trunk, widths.up), (widths.up, widths.head)):
            layers += upsampling_layers(style.upsampling, before, after, 3, bias)
            layers += [norm(after), nn.ReLU()]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(widths.head, output_nc, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, input_nc, H, W) in [-1, 1] -> (N, output_nc, H, W) in [-1, 1]; 4 divides H and W."""
        out: Tensor = self.model(x)
        return out
