"""Published config strings: which layers of a ResNet generator each number sets, and the sets.

Source: Li et al., GAN Compression, CVPR 2020, and its released configurations.
"""

from __future__ import annotations

from collections.abc import Iterable

from gancompress.errors import ConfigError
from gancompress.tables import lookup

LayerTie = tuple[tuple[str, ...], int]
"""Names of channel groups that share one number, and how many channels a unit of it is."""

SHORT_FORM = {6: (0, 1, 2, 3, 3, 3, 4, 5)}
"""The 6-number form has one width for all residual blocks."""

_WIDE = (16, 24, 32, 40, 48, 56, 64)
CONFIG_SETS: dict[str, tuple[tuple[int, ...], ...]] = {
    "channels-32": ((16, 24, 32),) * 8,
    "channels-48": ((32, 48),) * 2 + ((32, 40, 48),) * 4 + ((16, 24, 32, 48),) * 2,
    "channels-64-cycleGAN": ((16, 24, 32, 48, 64),) * 8,
    "channels-64-pix2pix": (_WIDE,) * 8,
}
"""Candidate widths of the eight numbers, by published name."""


def config_set(name: str, ngf: int) -> tuple[tuple[int, ...], ...]:
    """Candidates of a published set.

    Raises:
        ConfigError: No such set, or it needs a wider generator.
    """
    choices = lookup(CONFIG_SETS, name, "config set")
    widest = max(max(c) for c in choices)
    if widest > ngf:
        raise ConfigError(f"config set {name} goes up to width {widest}, the student has ngf {ngf}")
    return choices


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
    third = -(-len(inner) // 3)
    thirds = [inner[i : i + third] for i in range(0, len(inner), third)]
    ties: list[LayerTie] = [((stem,), 1), ((down1,), 2), ((down2,), 4)]
    ties += [(tuple(names), 4) for names in thirds]
    ties += [((name,), unit) for name, unit in zip(ups, (2, 1), strict=True)]
    return ties
