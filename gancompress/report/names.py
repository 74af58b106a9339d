"""Names in a plot: each beside its mark, where it covers least."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from gancompress.report.text import escaped

NARROW_PLOT = (290.0, 300.0)  # the plot's area on a phone, in pixels
LONGEST = 20  # characters of a name

Point = tuple[float, float]  # from the left and from the top of the plot's area, in [0, 1]
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


@dataclass(frozen=True)
class _Place:
    """Where a name could stand beside its mark: text anchor, shift, and box in pixels."""

    anchor: str
    dx: int
    dy: int
    box: Box


def share(fraction: float) -> str:
    """A part of the plot's width or height as SVG writes it."""
    return f"{100 * fraction:.2f}%"


def placed_names(marks: Mapping[str, Point], line: Sequence[Point], below: bool) -> list[str]:
    """SVG texts for named marks.

    Decided for a phone's width, where it is tightest: room only grows from there.

    Args:
        marks: Name to place.
        line: Corners of a line that names should not cover.
        below: Whether good scores lie at the bottom.
    """
    width, height = NARROW_PLOT
    dots = [(x * width, y * height) for x, y in (*marks.values(), *_along(line))]
    taken: list[Box] = []
    names = []
    for name, (x, y) in marks.items():
        text = name if len(name) <= LONGEST else name[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
        places = _places(x * width, y * height, 7.5 * len(text), below)
        best = min(places, key=lambda place: _covered(place.box, taken, dots))
        taken.append(best.box)
        names.append(
            f'<text x="{share(x)}" y="{share(y)}" dx="{best.dx}" dy="{best.dy}" '
            f'text-anchor="{best.anchor}">{escaped(text)}</text>'
        )
    return names


def _along(line: Sequence[Point]) -> list[Point]:
    """The corners of a line and points between them."""
    between = [
        (a + (c - a) * part / 8, b + (d - b) * part / 8)
        for (a, b), (c, d) in pairwise(line)
        for part in range(1, 8)
    ]
    return [*line, *between]


def _places(x: float, y: float, length: float, below: bool) -> list[_Place]:
    """Places around a mark, best first.

    The front bends around the corner of low costs and good scores, and nothing lies beyond it:
    names go there first, left of the mark and below it if lower is better, else above.
    """
    places = []
    for dy in (20, -11) if below else (-11, 20):
        for anchor, dx, left in (
            ("end", -6, -6 - length),
            ("start", 6, 6),
            ("middle", 0, -length / 2),
        ):
            box = (x + left, y + dy - 12, x + left + length, y + dy + 4)
            places.append(_Place(anchor, dx, dy, box))
    return places


def _covered(box: Box, taken: list[Box], dots: list[Point]) -> int:
    """How bad a box is: points under it, and far worse, names under it and leaving the plot."""
    left, top, right, bottom = box
    marks = sum(left < x < right and top < y < bottom for x, y in dots)
    names = sum(left < c and a < right and top < d and b < bottom for a, b, c, d in taken)
    width, height = NARROW_PLOT
    outside = left < -30 or right > width + 8 or top < 0 or bottom > height
    return marks + 100 * names + 100 * outside
