"""The SPADE generator of GauGAN: label maps to photos, with dense or separable modulations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gancompress.models.blocks import SeparableConv2d

UPS = ("up_0", "up_1", "up_2", "up_3")


@dataclass(frozen=True)
class SpadeWidths:
    """Channels of every layer.

    Attributes:
        trunk: From the first convolution to the input of `up_0`.
        inner: Between the two convolutions of `head_0`, `G_middle_0` and `G_middle_1`.
        ups: After each convolution of `up_0` to `up_3`.
        hidden: Of the label features in the modulations of each of the seven blocks.
    """

    trunk: int
    inner: tuple[int, int, int]
    ups: tuple[int, int, int, int]
    hidden: tuple[int, ...]

    @classmethod
    def of(cls, ngf: int) -> SpadeWidths:
        """Those of a full generator; the label features have the same width everywhere."""
        wide = 16 * ngf
        return cls(wide, (wide,) * 3, (8 * ngf, 4 * ngf, 2 * ngf, ngf), (2 * ngf,) * 7)

    @classmethod
    def of_config(cls, numbers: tuple[int, ...]) -> SpadeWidths:
        """Those of the eight numbers of a config string: trunk, then one for each block."""
        trunk, *blocks = numbers
        head, middle_0, middle_1, up_0, up_1, up_2, up_3 = blocks
        return cls(
            16 * trunk,
            (16 * head, 16 * middle_0, 16 * middle_1),
            (8 * up_0, 4 * up_1, 2 * up_2, up_3),
            tuple(2 * number for number in blocks),
        )


@dataclass(frozen=True)
class SpadeStyle:
    """What the blocks are made of.

    Attributes:
        label_nc: Channels of the label map (one-hot classes and the instances' edges).
        separable: Depth-wise separable convolutions for scale and shift.
        up_samplings: 6, or 5: then none between the two middle blocks.
    """

    label_nc: int
    separable: bool
    up_samplings: int = 6


class Modulation(nn.Module):
    """Batch norm whose scale and shift are computed from the label map at every position.

    Source: Park et al., Semantic Image Synthesis with Spatially-Adaptive Normalization, CVPR 2019,
    section 3.

    Args:
        channels: Of the normalised activations.
        hidden: Of the label features.
        style: Channels of the label map, kind of convolution.
    """

    def __init__(self, channels: int, hidden: int, style: SpadeStyle) -> None:
        super().__init__()
        self.param_free_norm = nn.BatchNorm2d(channels, affine=False)
        self.mlp_shared = nn.Sequential(nn.Conv2d(style.label_nc, hidden, 3, padding=1), nn.ReLU())
        self.mlp_gamma = self._convolution(hidden, channels, style)
        self.mlp_beta = self._convolution(hidden, channels, style)

    @staticmethod
    def _convolution(hidden: int, channels: int, style: SpadeStyle) -> nn.Module:
        if style.separable:
            return SeparableConv2d(hidden, channels, 3, 1, "instance")
        return nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Activations (N, C, H, W) and labels (N, label_nc, any, any) -> (N, C, H, W)."""
        features = self.mlp_shared(F.interpolate(labels, size=x.shape[2:], mode="nearest"))
        scaled = self.param_free_norm(x) * (1 + self.mlp_gamma(features))
        out: Tensor = scaled + self.mlp_beta(features)
        return out


class SpadeBlock(nn.Module):
    """Two modulated 3x3 convolutions and an identity, or a modulated 1x1 convolution for it.

    Args:
        channels: Of the input.
        inner: After the first convolution, and after the second where there is a shortcut.
        hidden: Of the label features.
        shortcut: Whether a 1x1 convolution stands in for the identity.
        style: Channels of the label map, kind of convolution.
    """

    def __init__(
        self, channels: int, inner: int, hidden: int, shortcut: bool, style: SpadeStyle
    ) -> None:
        super().__init__()
        self.conv_0 = nn.Conv2d(channels, inner, 3, padding=1)
        self.conv_1 = nn.Conv2d(inner, inner if shortcut else channels, 3, padding=1)
        self.norm_0 = Modulation(channels, hidden, style)
        self.norm_1 = Modulation(inner, hidden, style)
        self.shortcut = shortcut
        if shortcut:
            self.conv_s = nn.Conv2d(channels, inner, 1, bias=False)
            self.norm_s = Modulation(channels, hidden, style)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Activations (N, C, H, W) and labels (N, label_nc, any, any) -> (N, C_out, H, W)."""
        out = self.conv_0(F.leaky_relu(self.norm_0(x, labels), 0.2))
        out = self.conv_1(F.leaky_relu(self.norm_1(out, labels), 0.2))
        result: Tensor = out + (self.conv_s(self.norm_s(x, labels)) if self.shortcut else x)
        return result


class SpadeGenerator(nn.Module):
    """A coarse label map, seven modulated blocks with an up-sampling between each two, an image.

    Module names are those of SPADE and gan-compression (`up_0.norm_s.mlp_gamma.weight`); full,
    mobile and narrowed generators differ in `widths` and `style` alone.

    Args:
        widths: Channels of every layer.
        style: Channels of the label map, kind of convolution, number of up-samplings.
    """

    def __init__(self, widths: SpadeWidths, style: SpadeStyle) -> None:
        super().__init__()
        trunk, hidden = widths.trunk, widths.hidden
        self.stride = 2**style.up_samplings
        self.middle_up = style.up_samplings == 6
        self.fc = nn.Conv2d(style.label_nc, trunk, 3, padding=1)
        head, middle_0, middle_1 = widths.inner
        self.head_0 = SpadeBlock(trunk, head, hidden[0], False, style)
        self.G_middle_0 = SpadeBlock(trunk, middle_0, hidden[1], False, style)
        self.G_middle_1 = SpadeBlock(trunk, middle_1, hidden[2], False, style)
        before = trunk
        for name, after, features in zip(UPS, widths.ups, hidden[3:], strict=True):
            self.add_module(name, SpadeBlock(before, after, features, True, style))
            before = after
        self.conv_img = nn.Conv2d(before, 3, 3, padding=1)

    def forward(self, labels: Tensor) -> Tensor:
        """(N, label_nc, H, W) in [0, 1] -> (N, 3, H, W) in [-1, 1]; `stride` divides H and W."""
        height, width = labels.shape[2:]
        coarse = F.interpolate(labels, size=(height // self.stride, width // self.stride))
        x = self.head_0(self.fc(coarse), labels)
        x = self.G_middle_0(_doubled(x), labels)
        x = self.G_middle_1(_doubled(x) if self.middle_up else x, labels)
        for name in UPS:
            x = self.get_submodule(name)(_doubled(x), labels)
        return torch.tanh(self.conv_img(F.leaky_relu(x, 0.2)))


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
