"""Config strings: the widths of a narrowed generator as numbers joined by '_'."""

from __future__ import annotations

from collections.abc import Mapping

from gancompress.errors import ConfigError, SpaceError
from gancompress.models.family import ConfigSet
from gancompress.tables import lookup


def config_set(sets: Mapping[str, ConfigSet], name: str, ngf: int) -> ConfigSet:
    """Candidates of one of a family's published sets.

    Raises:
        ConfigError: No such set, or it needs a wider generator.
    """
    if not sets:
        raise ConfigError(f"config set {name}: this family of generators has no config sets")
    choices = lookup(sets, name, "config set")
    widest = max(max(c) for c in choices)
    if widest > ngf:
        raise ConfigError(f"config set {name} goes up to width {widest}, the student has ngf {ngf}")
    return choices


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
            f"'{text}' is not a config string: expected positive integers joined by '_', such as "
            f"{'_'.join(['16'] * counts[0])}"
        )
    if len(parts) not in counts:
        forms = " or ".join(map(str, counts))
        raise SpaceError(f"config string '{text}' has {len(parts)} numbers; it must have {forms}")
    return tuple(map(int, parts))
