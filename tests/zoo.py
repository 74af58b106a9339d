"""Generators of the literature, written by hand at small widths; what they use is what counts."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2)


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def normed(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.ReflectionPad2d(kernel // 2), nn.Conv2d(channels_in, channels_out, kernel, stride),
        nn.InstanceNorm2d(channels_out, affine=True), nn.ReLU(),
    )  # fmt: skip


def fast_style() -> nn.Module:
    """Johnson et al., ECCV 2016, with the resize-convolutions of its public versions."""
    return nn.Sequential(
        normed(3, 16, 9), normed(16, 32, 3, 2), Residual(normed(32, 32), normed(32, 32)),
        nn.Upsample(scale_factor=2), normed(32, 16), conv(16, 3, 9),
    )  # fmt: skip


class Blur(nn.Module):
    """A fixed low-pass filter for each channel; Zhang, ICML 2019."""

    def __init__(self, channels: int, up: bool = False) -> None:
        super().__init__()
        self.up = up
        row = torch.tensor([1.0, 3.0, 3.0, 1.0])
        kernel = row[:, None] * row[None] / 64 * (4 if up else 1)
        self.register_buffer("kernel", kernel[None, None].repeat(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.up:
            return F.conv_transpose2d(x, self.kernel, stride=2, padding=1, groups=x.shape[1])
        x = F.pad(x, (1, 1, 1, 1), mode="reflect")
        return F.conv2d(x, self.kernel, stride=2, groups=x.size(1))


def cut() -> nn.Module:
    """The generator of Park et al., ECCV 2020: a ResNet with blurs in place of strides."""
    return nn.Sequential(
        normed(3, 16, 7), normed(16, 32), Blur(32), Residual(normed(32, 32), normed(32, 32)),
        Blur(32, up=True), normed(32, 16), nn.ReflectionPad2d(3), nn.Conv2d(16, 3, 7), nn.Tanh(),
    )  # fmt: skip


class SelfAttention(nn.Module):
    """Zhang et al., ICML 2019."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 4
        self.query, self.key = conv(channels, inner, 1), conv(channels, inner, 1)
        self.value, self.gamma = conv(channels, channels, 1), nn.Parameter(torch.full((1,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.size()
        query = self.query(x).view(n, -1, h * w).permute(0, 2, 1)
        scores = torch.softmax(torch.bmm(query, self.key(x).view(n, -1, h * w)), dim=-1)
        out = torch.bmm(self.value(x).view(n, -1, h * w), scores.permute(0, 2, 1))
        return self.gamma * out.view(n, c, h, w) + x


def sagan() -> nn.Module:
    return nn.Sequential(
        normed(3, 16), normed(16, 32, stride=2), SelfAttention(32),
        nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.BatchNorm2d(16), nn.LeakyReLU(0.2), conv(16, 3),
    )  # fmt: skip


class LayerNorm2d(nn.Module):
    """Layer norm over the channels of every position."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(1, channels, 1, 1) + 0.5)
        self.bias = nn.Parameter(torch.randn(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        return (x - mean) / (variance + 1e-6).sqrt() * self.weight + self.bias


class SimpleGate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        one, other = x.chunk(2, dim=1)
        return one * other


class ChannelAttention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mix(F.adaptive_avg_pool2d(x, 1))


def naf_block(c: int) -> nn.Module:
    return nn.Sequential(
        Residual(
            LayerNorm2d(c), conv(c, 2 * c, 1), nn.Conv2d(2 * c, 2 * c, 3, 1, 1, groups=2 * c),
            SimpleGate(), ChannelAttention(c), conv(c, c, 1),
        ),
        Residual(LayerNorm2d(c), conv(c, 2 * c, 1), SimpleGate(), conv(c, c, 1)),
    )  # fmt: skip


def nafnet() -> nn.Module:
    """Chen et al., ECCV 2022: no activations, gates of halves, sub-pixel up-sampling."""
    return nn.Sequential(
        conv(3, 16), naf_block(16), nn.Conv2d(16, 32, 2, 2), naf_block(32),
        nn.Conv2d(32, 64, 1, bias=False), nn.PixelShuffle(2), naf_block(16), conv(16, 3),
    )  # fmt: skip


class DenseBlock(nn.Module):
    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.one, self.two = conv(channels, growth), conv(channels + growth, growth)
        self.last = conv(channels + 2 * growth, channels)

    def forward(self, x: Tensor) -> Tensor:
        one = F.leaky_relu(self.one(x), 0.2)
        two = F.leaky_relu(self.two(torch.cat((x, one), 1)), 0.2)
        return x + 0.2 * self.last(torch.cat((x, one, two), 1))


def rrdb() -> nn.Module:
    """Real-ESRGAN at scale 1, Wang et al., ICCVW 2021: unshuffle, dense blocks, nearest."""
    return nn.Sequential(
        nn.PixelUnshuffle(2), conv(12, 16), Residual(DenseBlock(16, 8), DenseBlock(16, 8)),
        nn.UpsamplingNearest2d(scale_factor=2), conv(16, 16), nn.LeakyReLU(0.2), conv(16, 3),
    )  # fmt: skip


def inverted_residual(c: int) -> nn.Module:
    """Of AnimeGANv2: layer norm as a group norm of one group, depth-wise convolutions."""
    return Residual(
        conv(c, 2 * c, 1), nn.GroupNorm(1, 2 * c), nn.LeakyReLU(0.2),
        nn.ReflectionPad2d(1), nn.Conv2d(2 * c, 2 * c, 3, groups=2 * c), nn.GroupNorm(1, 2 * c),
        nn.LeakyReLU(0.2, inplace=True), conv(2 * c, c, 1), nn.GroupNorm(1, c),
    )  # fmt: skip


class AnimeGanV2(nn.Module):
    """Chen et al., ISICA 2019, second version; its forward has an option and looks at sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(conv(3, 16, 7), nn.LeakyReLU(0.2), conv(16, 32, 3, 2))
        self.body = nn.Sequential(inverted_residual(32), inverted_residual(32))
        self.last = nn.Sequential(conv(32, 16), nn.GroupNorm(1, 16), conv(16, 3, 1), nn.Tanh())

    def forward(self, x: Tensor, align_corners: bool = True) -> Tensor:
        size = x.shape[-2:]
        out = self.body(self.down(x))
        if out.shape[-2:] != size:
            out = F.interpolate(out, size=size, mode="bilinear", align_corners=align_corners)
        return self.last(out)


class GroupNormAttention(nn.Module):
    """The attention of diffusion U-Nets; Ho et al., NeurIPS 2020."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.qkv = nn.GroupNorm(4, channels), conv(channels, 3 * channels, 1)
        self.last = conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, -1, h * w).chunk(3, dim=1)
        scores = (q.transpose(1, 2) @ k * c**-0.5).softmax(dim=-1)
        return x + self.last((v @ scores.transpose(1, 2)).reshape(n, c, h, w))


def norm_block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(nn.GroupNorm(4, channels_in), nn.SiLU(), conv(channels_in, channels_out))


class DiffusionUNet(nn.Module):
    """As joliGEN takes it for translation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.down = conv(3, 16), norm_block(16, 16), conv(16, 32, 3, 2)
        self.middle = nn.Sequential(norm_block(32, 32), GroupNormAttention(32), norm_block(32, 32))
        self.up, self.two = conv(32, 16), norm_block(32, 16)
        self.last = norm_block(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.one(self.stem(x))
        up = self.up(F.interpolate(self.middle(self.down(skip)), scale_factor=2.0))
        return self.last(self.two(torch.cat([up, skip], dim=1)))


class HeadedAttention(nn.Module):
    """Attention over channels in several heads; Restormer, Zamir et al., CVPR 2022."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv = heads, conv(channels, 3 * channels, 1)
        self.spread = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=3 * channels)
        self.last = conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        parts = self.spread(self.qkv(x)).chunk(3, dim=1)
        q, k, v = (part.view(n, self.heads, c // self.heads, h * w) for part in parts)
        scores = torch.softmax(q.transpose(-2, -1) @ k / (h * w), dim=-1)
        return self.last((v @ scores).reshape(n, c, h, w))


def restormer() -> nn.Module:
    c = 16
    return nn.Sequential(
        conv(3, c), Residual(LayerNorm2d(c), HeadedAttention(c, 2)),
        Residual(LayerNorm2d(c), conv(c, 4 * c, 1), nn.GLU(dim=1), nn.GELU(), conv(2 * c, c, 1)),
        conv(c, 3),
    )  # fmt: skip


class ChannelsLast(nn.Module):
    """A block of ConvNeXt, Liu et al., CVPR 2022: layer norm and linear layers on positions."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.spread, self.norm = nn.Conv2d(c, c, 7, padding=3, groups=c), nn.LayerNorm(c)
        self.grow, self.shrink = nn.Linear(c, 4 * c), nn.Linear(4 * c, c)
        self.gamma = nn.Parameter(torch.rand(c))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.spread(x).permute(0, 2, 3, 1))
        y = self.gamma * self.shrink(F.gelu(self.grow(y)))
        return x + y.permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 16, 4, 4), ChannelsLast(16), ChannelsLast(16),
                         nn.ConvTranspose2d(16, 16, 4, 4), nn.Hardswish(), conv(16, 3))  # fmt: skip


class Shuffle(nn.Module):
    """Channel shuffle; Zhang et al., CVPR 2018."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        mixed = x.view(n, self.groups, c // self.groups, h, w).transpose(1, 2)
        return mixed.reshape(n, c, h, w)


def shufflenet() -> nn.Module:
    return nn.Sequential(
        conv(3, 16), nn.Conv2d(16, 32, 1, groups=8), nn.BatchNorm2d(32), nn.ReLU6(), Shuffle(2),
        nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.ConvTranspose2d(32, 32, 3, 1, 1, groups=32),
        nn.Conv2d(32, 16, 1, groups=8), nn.ReLU(), conv(16, 3),
    )  # fmt: skip


class Inception(nn.Module):
    """Branches of several kernels, added; CAT, Jin et al., CVPR 2021."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(conv(c, c // 4, k), nn.BatchNorm2d(c // 4), nn.ReLU(), conv(c // 4, c, k))
            for k in (1, 3, 5)
        )

    def forward(self, x: Tensor) -> Tensor:
        for branch in self.branches:
            x = x + branch(x)
        return x


def cat() -> nn.Module:
    return nn.Sequential(normed(3, 16, 7), Inception(16), Inception(16), conv(16, 3, 7), nn.Tanh())


class AttentionGan(nn.Module):
    """Tang et al., TNNLS 2021: pictures weighted by masks, one of which is for the input."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(normed(3, 16, 7), Residual(normed(16, 16), normed(16, 16)))
        self.pictures, self.masks = conv(16, 6), conv(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(x)
        one, two = torch.tanh(self.pictures(features)).split(3, dim=1)
        masks = F.softmax(self.masks(features), dim=1)
        return one * masks[:, :1] + two * masks[:, 1:2] + x * masks[:, 2:]


class BatchNormUNet(nn.Module):
    """Three levels, padded to where they fit, as in many tutorials."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = conv(3, 8), conv(8, 16), conv(16, 32)
        self.norm = nn.BatchNorm2d(32)
        self.up, self.four = nn.ConvTranspose2d(32, 16, 2, 2), conv(32, 8)
        self.five = conv(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        one = F.relu(self.one(x))
        two = F.relu(self.two(F.max_pool2d(one, 2)))
        three = F.relu(self.norm(self.three(F.max_pool2d(two, 2))))
        up = self.up(three)
        rows, columns = two.size(2) - up.size(2), two.size(3) - up.size(3)
        up = F.pad(up, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2])
        four = F.interpolate(self.four(torch.cat([two, up], 1)), size=one.shape[2:])
        return self.five(torch.cat([one, four], 1))


ZOO: dict[str, tuple[Callable[[], nn.Module], float]] = {  # the share of its parameters that stays
    "fast style": (fast_style, 0.12),
    "CUT": (cut, 0.12),
    "SAGAN": (sagan, 0.12),
    "NAFNet": (nafnet, 0.14),  # norms and depth-wise kernels narrow in proportion
    "RRDB": (rrdb, 0.12),
    "AnimeGANv2": (AnimeGanV2, 0.14),  # as NAFNet
    "diffusion U-Net": (DiffusionUNet, 0.12),
    "Restormer": (restormer, 0.16),  # as NAFNet
    "ConvNeXt": (convnext, 0.18),  # its 7x7 kernels are depth-wise
    "ShuffleNet": (shufflenet, 0.3),  # nearly all of it is depth-wise or reads the image
    "CAT": (cat, 0.2),  # its first and last kernels, 7x7, narrow on one side only
    "AttentionGAN": (AttentionGan, 0.2),  # as CAT
    "U-Net": (BatchNormUNet, 0.12),
}
