"""Counts as people write them: 2.6G, 400M, 356867."""

from __future__ import annotations

import math
import re

from gancompress.errors import ConfigError

SUFFIXES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def parse_count(text: str, flag: str) -> int:
    """A number with an optional K, M, G or T.

    Args:
        text: Such as 2.6G.
        flag: What errors call it.

    Raises:
        ConfigError: Not a positive number.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e[0-9]+)?)\s*([KMGT]?)\s*", text, re.IGNORECASE)
    value = float(match[1]) * SUFFIXES[match[2].upper()] if match else math.nan
    if not value > 0:
        raise ConfigError(f"{flag} takes a positive count such as 2.6G or 400M, not '{text}'")
    return round(value)


def format_count(count: float) -> str:
    """Four significant digits and a suffix: 49.55G."""
    for suffix in ("T", "G", "M", "K"):
        if count >= SUFFIXES[suffix]:
            return f"{count / SUFFIXES[suffix]:.4g}{suffix}"
    return f"{count:.4g}"
