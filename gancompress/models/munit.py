"""The generator of MUNIT: content and style codes to images, with dense or separable blocks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gancompress.models.blocks import SeparableConv2d

STYLE_DIM = 8
MLP_DIM = 256


@dataclass(frozen=True)
class MunitWidths:
    """Channels of every layer.

    Attributes:
        style: After the style encoder's first convolution; two doublings follow.
        stem: After the content encoder's first convolution.
        down: After the first down-sampling.
        trunk: After the second down-sampling, and of all residual blocks' inputs and outputs.
        encoder: Between the two convolutions of each residual block of the content encoder.
        decoder: The same in the decoder.
        up: After the first up-sampling.
        head: After the second up-sampling.
    """

    style: int
    stem: int
    down: int
    trunk: int
    encoder: tuple[int, ...]
    decoder: tuple[int, ...]
    up: int
    head: int

    @classmethod
    def of(cls, ngf: int, n_blocks: int = 4) -> MunitWidths:
        """Those of a full generator with `n_blocks` residual blocks on either side."""
        inner = (4 * ngf,) * n_blocks
        return cls(ngf, ngf, 2 * ngf, 4 * ngf, inner, inner, 2 * ngf, ngf)

    @classmethod
    def of_config(cls, numbers: tuple[int, ...]) -> MunitWidths:
        """Those of the ten numbers of a config string; four set two residual blocks each."""
        style, stem, down, trunk, *pairs, up, head = numbers
        inner = tuple(4 * number for number in pairs for _ in range(2))
        return cls(style, stem, 2 * down, 4 * trunk, inner[:4], inner[4:], 2 * up, head)


@dataclass(frozen=True)
class BlockKind:
    """What follows a convolution, and of which kind it is.

    Attributes:
        norm: `instance`, `layer`, `adaptive` or `none`.
        activation: Whether a ReLU comes last.
        separable: Depth-wise separable instead of dense.
    """

    norm: str = "none"
    activation: bool = True
    separable: bool = False


class ImageNorm(nn.Module):
    """Layer norm over all values of an image, with a scale and a shift for each channel.

    Args:
        channels: Of the activations.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape, mean 0 and deviation 1 before scale and shift."""
        mean, std = x.mean((1, 2, 3), keepdim=True), x.std((1, 2, 3), keepdim=True)
        out: Tensor = (x - mean) / (std + 1e-5)
        return out * self.gamma[:, None, None] + self.beta[:, None, None]


class ConvBlock(nn.Module):
    """Reflection padding, convolution, norm, ReLU.

    Args:
        channels_in: Input channels.
        channels_out: Output channels.
        kernel: Side of the kernel.
        stride: 1, or 2 with a kernel of 4.
        kind: Norm, activation, kind of convolution.
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int, kind: BlockKind
    ) -> None:
        super().__init__()
        self.pad = nn.ReflectionPad2d((kernel - 1) // 2)
        self.conv: nn.Module
        if kind.separable:
            self.conv = SeparableConv2d(channels_in, channels_out, kernel, 0, "instance")
        else:
            self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride)
        norms = {"instance": nn.InstanceNorm2d, "layer": ImageNorm}
        self.norm = norms[kind.norm](channels_out) if kind.norm in norms else nn.Identity()
        self.channels = channels_out
        self.adaptive, self.activation = kind.norm == "adaptive", kind.activation

    def forward(self, x: Tensor, modulation: Tensor | None = None) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, H', W').

        Args:
            x: Activations.
            modulation: Shifts and scales (N, 2 C_out) where the norm is adaptive.
        """
        x = self.norm(self.conv(self.pad(x)))
        if self.adaptive and modulation is not None:
            shift_scale = modulation[:, :, None, None].chunk(2, 1)
            x = F.instance_norm(x) * shift_scale[1] + shift_scale[0]
        return F.relu(x) if self.activation else x


class ResBlock(nn.Module):
    """Two 3x3 convolutions and an identity.

    Args:
        channels: Width of the trunk.
        inner: Width between the two convolutions.
        norm: Of both convolutions; see `BlockKind`.
        separable: Depth-wise separable convolutions.
    """

    def __init__(self, channels: int, inner: int, norm: str, separable: bool) -> None:
        super().__init__()
        first, second = BlockKind(norm, True, separable), BlockKind(norm, False, separable)
        self.model = nn.Sequential(
            ConvBlock(channels, inner, 3, 1, first), ConvBlock(inner, channels, 3, 1, second)
        )
        self.modulations = 2 * (inner + channels) if norm == "adaptive" else 0
        self.split = (2 * inner, 2 * channels)

    def forward(self, x: Tensor, modulation: Tensor | None = None) -> Tensor:
        """(N, C, H, W) -> the same shape; `modulation` (N, 2 (inner + C)) if adaptive."""
        if modulation is None:
            plain: Tensor = x + self.model(x)
            return plain
        parts = modulation.split(self.split, 1)
        out: Tensor = x + self.model[1](self.model[0](x, parts[0]), parts[1])
        return out


class ResBlocks(nn.Module):
    """Residual blocks one after another.

    Args:
        channels: Width of the trunk.
        inner: Width inside of each block.
        norm: See `BlockKind`.
        separable: Depth-wise separable convolutions.
    """

    def __init__(self, channels: int, inner: tuple[int, ...], norm: str, separable: bool) -> None:
        super().__init__()
        blocks = [ResBlock(channels, width, norm, separable) for width in inner]
        self.model = nn.Sequential(*blocks)
        self.split = [block.modulations for block in blocks]

    def forward(self, x: Tensor, modulation: Tensor | None = None) -> Tensor:
        """(N, C, H, W) -> the same shape; `modulation` (N, sum of all blocks') if adaptive."""
        if modulation is None:
            return self.model(x)  # type: ignore[no-any-return]
        parts = modulation.split(self.split, 1)
        for index, block in enumerate(self.model):
            x = block(x, parts[index])
        return x


class StyleEncoder(nn.Module):
    """An image's style code.

    Args:
        input_nc: Channels of the image.
        width: After the first convolution.
    """

    def __init__(self, input_nc: int, width: int) -> None:
        super().__init__()
        kind = BlockKind()
        widths = (width, 2 * width, 4 * width, 4 * width, 4 * width)
        layers: list[nn.Module] = [ConvBlock(input_nc, width, 7, 1, kind)]
        layers += [ConvBlock(before, after, 4, 2, kind) for before, after in pairwise(widths)]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Conv2d(4 * width, STYLE_DIM, 1)]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, input_nc, H, W) -> (N, STYLE_DIM, 1, 1), unbounded."""
        out: Tensor = self.model(x)
        return out


class ContentEncoder(nn.Module):
    """An image's content code.

    Args:
        input_nc: Channels of the image.
        widths: Channels of every layer.
        separable: Depth-wise separable residual blocks.
    """

    def __init__(self, input_nc: int, widths: MunitWidths, separable: bool) -> None:
        super().__init__()
        kind = BlockKind("instance")
        self.model = nn.Sequential(
            ConvBlock(input_nc, widths.stem, 7, 1, kind),
            ConvBlock(widths.stem, widths.down, 4, 2, kind),
            ConvBlock(widths.down, widths.trunk, 4, 2, kind),
            ResBlocks(widths.trunk, widths.encoder, "instance", separable),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, input_nc, H, W) -> (N, trunk, H / 4, W / 4)."""
        out: Tensor = self.model(x)
        return out


class Decoder(nn.Module):
    """An image from a content code and the modulations that a style code gives.

    Args:
        output_nc: Channels of the image.
        widths: Channels of every layer.
        separable: Depth-wise separable residual blocks and up-samplings.
    """

    def __init__(self, output_nc: int, widths: MunitWidths, separable: bool) -> None:
        super().__init__()
        kind, last = BlockKind("layer", True, separable), BlockKind("none", False)
        self.model = nn.Sequential(
            ResBlocks(widths.trunk, widths.decoder, "adaptive", separable),
            nn.Upsample(scale_factor=2),
            ConvBlock(widths.trunk, widths.up, 5, 1, kind),
            nn.Upsample(scale_factor=2),
            ConvBlock(widths.up, widths.head, 5, 1, kind),
            ConvBlock(widths.head, output_nc, 7, 1, last),
        )
        self.modulations = 2 * (sum(widths.decoder) + len(widths.decoder) * widths.trunk)

    def forward(self, content: Tensor, modulation: Tensor) -> Tensor:
        """(N, trunk, H, W) and (N, modulations) -> (N, output_nc, 4 H, 4 W) in [-1, 1]."""
        x = self.model[0](content, modulation)
        for layer in list(self.model)[1:]:
            x = layer(x)
        return torch.tanh(x)


class LinearBlock(nn.Module):
    """A fully connected layer under the name that MUNIT gives it.

    Args:
        features_in: Of the input.
        features_out: Of the output.
        activation: Whether a ReLU follows.
    """

    def __init__(self, features_in: int, features_out: int, activation: bool) -> None:
        super().__init__()
        self.fc = nn.Linear(features_in, features_out)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(N, features_in) -> (N, features_out)."""
        out: Tensor = self.fc(x)
        return F.relu(out) if self.activation else out


class Mlp(nn.Module):
    """From a style code to the modulations of the decoder.

    Args:
        modulations: How many there are.
    """

    def __init__(self, modulations: int) -> None:
        super().__init__()
        self.model = nn.Sequential(
            LinearBlock(STYLE_DIM, MLP_DIM, True),
            LinearBlock(MLP_DIM, MLP_DIM, True),
            LinearBlock(MLP_DIM, modulations, False),
        )

    def forward(self, style: Tensor) -> Tensor:
        """(N, STYLE_DIM, 1, 1) -> (N, modulations), unbounded."""
        out: Tensor = self.model(style.flatten(1))
        return out


class MunitGenerator(nn.Module):
    """Encodes content and style of an image and decodes them, or the content with another style.

    Module names are those of MUNIT and gan-compression; full, mobile and narrowed generators differ
    in `widths` and `separable` alone.

    Source: Huang et al., Multimodal Unsupervised Image-to-Image Translation, ECCV 2018, section 5.

    Args:
        widths: Channels of every layer.
        separable: Depth-wise separable residual blocks and up-samplings.
        channels: Of the images.
    """

    def __init__(self, widths: MunitWidths, separable: bool, channels: int = 3) -> None:
        super().__init__()
        self.enc_style = StyleEncoder(channels, widths.style)
        self.enc_content = ContentEncoder(channels, widths, separable)
        self.dec = Decoder(channels, widths, separable)
        self.mlp = Mlp(self.dec.modulations)

    def forward(self, x: Tensor, style: Tensor | None = None) -> Tensor:
        """Images encoded and decoded, in their own style or in another one.

        Args:
            x: (N, channels, H, W) in [-1, 1]; 4 divides H and W.
            style: (N, STYLE_DIM, 1, 1), which saves the style encoder.

        Returns:
            (N, channels, H, W) in [-1, 1].
        """
        style = self.enc_style(x) if style is None else style
        out: Tensor = self.dec(self.enc_content(x), self.mlp(style))
        return out
