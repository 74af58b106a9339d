"""Numbers and text as the page and the terminal show them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from html import escape

MISSING = "-"
COUNT_FROM = 10_000  # whole numbers from here on are written with a unit: 340.1 k
UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def escaped(text: str) -> str:
    """Text as HTML, safe in elements and attributes; undecodable file names become '?'."""
    return escape(text.encode("utf-8", "replace").decode("utf-8"))


def format_units(number: float) -> str:
    """A count with four digits and a unit: 49.55 G, 340.1 k, 87."""
    for scale, unit in UNITS:
        value = number / scale
        if value >= 0.99995:
            return f"{value:.{2 if value < 99.995 else 1}f} {unit}"
    return f"{number:g}"


def formatter(values: Iterable[float]) -> Callable[[float], str]:
    """A format for one column: as many decimals as give its largest value four digits."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=1.0) or 1.0
    decimals = max(0, 3 - math.floor(math.log10(largest)))
    return lambda value: f"{value:.{decimals}f}"


def counted(values: Iterable[float]) -> bool:
    """Whether values are counts (parameters) rather than measures (milliseconds, megabytes)."""
    numbers = [value for value in values if math.isfinite(value)]
    return max(numbers, default=0.0) >= COUNT_FROM and all(n == round(n) for n in numbers)


def ratio(base: float | None, value: float | None, better: str, worse: str) -> str:
    """How much less `value` is than `base`: "9.3x fewer"; nothing where it cannot be said."""
    if not base or not value or base == value:
        return ""
    factor = max(base / value, value / base)
    decimals = 2 if factor < 1.095 else 1 if factor < 99.95 else 0
    return f"{factor:.{decimals}f}x {better if value < base else worse}"
