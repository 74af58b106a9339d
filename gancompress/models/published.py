"""Generators that gan-compression published, built from their config strings, and its table.

Source: Li et al., GAN Compression, CVPR 2020, and the table and scripts of its release.
"""

from __future__ import annotations

from torch import nn

from gancompress.errors import SpaceError
from gancompress.models.configs import parse_config, resnet_widths
from gancompress.models.resnet import BlockStyle, ResnetGenerator

STYLE = BlockStyle(norm="instance", padding="reflect", dropout=0.0, separable=True)
"""Blocks of the published students; the dropout layer keeps its place in the module names."""


def build_config(text: str, ngf: int | None = None, legacy: bool = False) -> nn.Module:
    """The untrained mobile ResNet generator with nine blocks of a config string.

    Args:
        text: 8 numbers, or 6 where one is for the inner width of all blocks.
        ngf: Width of the supernet that it is a subnet of: no number may be larger.
        legacy: See `resnet_widths`.

    Raises:
        SpaceError: No config string, or wider than the supernet.
    """
    numbers = parse_config(text, 8, 6)
    if ngf is not None and max(numbers) > ngf:
        raise SpaceError(f"config string '{text}' goes up to width {max(numbers)}, above ngf {ngf}")
    return ResnetGenerator(3, 3, resnet_widths(numbers, legacy), STYLE)
