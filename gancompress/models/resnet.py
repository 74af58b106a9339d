"""The ResNet generator of CycleGAN and pix2pix, with dense or depth-wise separable blocks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from gancompress.config import GeneratorOptions
from gancompress.errors import CheckpointError, ConfigError
from gancompress.models.blocks import (
    PADDINGS,
    SeparableConv2d,
    needs_bias,
    norm_factory,
    upsampling_layers,
)
from gancompress.models.family import ConfigSet, Family, LayerTie, Tensors, infer_norm, kernel
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


SHORT_FORM = {6: (0, 1, 2, 3, 3, 3, 4, 5)}
"""The 6-number form has one width for all residual blocks."""

_WIDE = (16, 24, 32, 40, 48, 56, 64)
CONFIG_SETS: dict[str, ConfigSet] = {
    "channels-32": ((16, 24, 32),) * 8,
    "channels-48": ((32, 48),) * 2 + ((32, 40, 48),) * 4 + ((16, 24, 32, 48),) * 2,
    "channels-64-cycleGAN": ((16, 24, 32, 48, 64),) * 8,
    "channels-64-pix2pix": (_WIDE,) * 8,
}
"""Candidate widths of the eight numbers, by published name.

Source: the released configurations of Li et al., GAN Compression, CVPR 2020.
"""


def resnet_ties(groups: Iterable[str]) -> list[LayerTie]:
    """The eight numbers of a config string over the channel groups of a ResNet generator.

    Stem, two down-samplings, three thirds of the residual blocks' inner widths, two up-samplings;
    units are the layers' multiples of ngf: 1, 2, 4, 4, 4, 4, 2, 1.

    Args:
        groups: Names of the generator's channel groups in order of execution.
    """
    names = list(groups)
    inner = [name for name in names if ".conv_block." in name]
    outer = [name for name in names if name not in inner]
    stem, down1, down2, *ups = outer
    ties: list[LayerTie] = [((stem,), 1), ((down1,), 2), ((down2,), 4)]
    ties += [(third, 4) for third in thirds(inner)]
    ties += [((name,), unit) for name, unit in zip(ups, (2, 1), strict=True)]
    return ties


def thirds(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Names in three runs, the last of which may be shorter."""
    length = -(-len(names) // 3)
    return [tuple(names[i : i + length]) for i in range(0, len(names), length)]


def resnet_widths(numbers: tuple[int, ...], legacy: bool = False) -> ResnetWidths:
    """Widths of the nine-block ResNet generator of a config string.

    Args:
        numbers: 8, or 6 where one number is for the inner width of all blocks.
        legacy: The inner width is that of the first block of each third only; the others are as
            wide inside as the trunk. One published generator is of that kind.
    """
    positions = SHORT_FORM.get(len(numbers), range(len(numbers)))
    stem, down, trunk, *thirds, up, head = (numbers[i] for i in positions)
    inner = [4 * w for first in thirds for w in (first, *[trunk if legacy else first] * 2)]
    return ResnetWidths(stem, 2 * down, 4 * trunk, tuple(inner), 2 * up, head)


def _taps(layers: Sequence[str]) -> tuple[str, ...]:
    """After the second down-sampling and after each third of the blocks, as in the paper."""
    blocks = sorted({g.split(".")[1] for g in layers if ".conv_block" in g}, key=int)
    third = -(-len(blocks) // 3)
    ends = [blocks[min(i + third, len(blocks)) - 1] for i in range(0, len(blocks), third)]
    return ("model.9", *(f"model.{end}" for end in ends))


def _infer(tensors: Tensors) -> GeneratorOptions | None:
    if "model.1.weight" not in tensors or not any(".conv_block." in name for name in tensors):
        return None
    blocks = sorted({int(m[1]) for n in tensors if (m := re.match(r"model\.(\d+)\.conv_block", n))})
    pattern = re.compile(r"model\.10\.conv_block\.(\d+)\.(?:conv\.0\.)?weight$")
    convs = sorted(int(m[1]) for n, t in tensors.items() if (m := pattern.match(n)) and t.ndim == 4)
    separable = any(".conv.2.weight" in name for name in tensors)
    styles = {(1, 5): ("reflect", None), (1, 6): ("reflect", 0.0), (0, 3): ("zero", None)}
    styles[(0, 4)] = ("zero", 0.0)
    if len(convs) != 2 or (convs[0], convs[1]) not in styles:
        raise CheckpointError("a ResNet generator with another layout than the reference's")
    padding, dropout = styles[(convs[0], convs[1])]
    stem = kernel(tensors, "model.1.weight")
    nearest = f"model.{blocks[-1] + 12}.weight" in tensors
    head = kernel(tensors, f"model.{blocks[-1] + (12 if nearest else 8)}.weight")
    _refuse_other_upsampling(tensors, blocks[-1], nearest)
    return GeneratorOptions(
        name=f"{'mobile_' if separable else ''}resnet_{len(blocks)}blocks",
        input_nc=stem.shape[1],
        output_nc=head.shape[0],
        ngf=stem.shape[0],
        norm=infer_norm(tensors, "model.2", "model.1"),
        padding=padding,  # type: ignore[arg-type]
        upsampling="nearest" if nearest else "transposed",
        dropout=dropout,
    )


def _refuse_other_upsampling(tensors: Tensors, last_block: int, nearest: bool) -> None:
    """Raise where other layers than the reference's make the image larger after the blocks."""
    if nearest:
        return
    halved = tensors.get(f"model.{last_block + 1}.weight")
    trunk = kernel(tensors, "model.7.weight").shape[0]
    if halved is None or halved.shape[0] != trunk:
        raise CheckpointError(
            "a ResNet generator whose up-sampling is not the reference's\n"
            "  Name a factory of your network with teacher.module=package.module:factory."
        )


def _build(options: GeneratorOptions, n_blocks: int, separable: bool) -> nn.Module:
    style = BlockStyle(
        options.norm, options.padding, options.dropout, separable, options.upsampling
    )
    widths = ResnetWidths.of(options.ngf, n_blocks)
    return ResnetGenerator(*options.channels, widths, style)


def resnet(n_blocks: int, separable: bool = False) -> Family:
    """The family of so many residual blocks, with dense or depth-wise separable convolutions."""
    return Family(
        module=ResnetGenerator,
        build=partial(_build, n_blocks=n_blocks, separable=separable),
        takes=frozenset({"norm", "padding", "upsampling", "dropout"}),
        stride=4,
        infer=_infer,
        student={"dropout": 0.0 if separable else None},  # the published module names
        ties=resnet_ties,
        forms=SHORT_FORM,
        config_sets=CONFIG_SETS,
        taps=_taps,
    )
