"""Published config strings: which layers of a ResNet generator each number sets, and the sets.

Source: Li et al., GAN Compression, CVPR 2020, and its released configurations.
"""

from __future__ import annotations

from collections.abc import Iterable

from gancompress.errors import ConfigError, SpaceError
from gancompress.models.resnet import ResnetWidths
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


def parse_config(text: str, *counts: int) -> tuple[int, ...]:
    """The numbers of a config string.

    Args:
        text: Such as `16_16_32_16_32_32_16_16`.
        counts: How many numbers it may have.

    Raises:
        SpaceError: Not positive numbers joined by '_', or another count of them.
    """
    parts = text.strip().split("_")
    if not all(part.isascii() and part.isdigit() and 0 < int(part) < 10**6 for part in parts):
        raise SpaceError(
            f"'{text}' is no config string: positive numbers joined by '_' are, such as "
            f"{'_'.join(['16'] * counts[0])}"
        )
    if len(parts) not in counts:
        forms = " or ".join(map(str, counts))
        raise SpaceError(f"config string '{text}' has {len(parts)} numbers; it must have {forms}")
    return tuple(map(int, parts))


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
