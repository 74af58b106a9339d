"""The scatter plot of score against MACs, as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from gancompress.report.content import Report, Trial
from gancompress.report.table import html_rows, html_table
from gancompress.report.text import UNITS, escaped, format_units, formatter

LOG_FROM = 8.0  # a range of MACs above this ratio gets a logarithmic axis
MAX_TICKS = 6  # as many as a phone's width holds
NARROW_PLOT = (290.0, 300.0)  # its area on a phone, in pixels, for placing names


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    log: bool

    def place(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high end."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values inside the axis, at most `MAX_TICKS` of them."""
        return self._log_ticks() if self.log else self._linear_ticks()

    def _linear_ticks(self) -> list[float]:
        power = 10.0 ** math.floor(math.log10((self.high - self.low) / MAX_TICKS))
        for step in (power, 2 * power, 5 * power, 10 * power):
            first, last = math.ceil(self.low / step), math.floor(self.high / step)
            if last - first < MAX_TICKS:
                break
        return [number * step for number in range(first, last + 1)]

    def _log_ticks(self) -> list[float]:
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for digits in ((1, 2, 5), (1, 3), (1,)):
            ticks = [digit * 10.0**power for power in powers for digit in digits]
            inside = [tick for tick in ticks if self.low <= tick <= self.high]
            if len(inside) <= MAX_TICKS:
                break
        return inside[:: math.ceil(len(inside) / MAX_TICKS)]


def _axis(values: Sequence[float], log: bool = False) -> _Axis:
    """An axis with some air around its values."""
    low, high = min(values), max(values)
    if log:
        air = (high / low) ** 0.06
        return _Axis(low / air, high * air, log=True)
    air = 0.12 * (high - low) or 0.1 * abs(high) or 1.0
    return _Axis(low - air, high + air, log=False)


@dataclass(frozen=True)
class _Plot:
    x: _Axis
    y: _Axis
    metric: str
    score: Callable[[float], str]

    def at(self, trial: Trial) -> tuple[float, float]:
        """Place in the plot's area, from its left and from its top, in [0, 1]."""
        return self.x.place(trial.macs), 1 - self.y.place(trial.score)

    def dot(self, trial: Trial, radius: float, name: str = "") -> str:
        """A circle with a tooltip."""
        x, y = self.at(trial)
        macs = f"{format_units(trial.macs)} MACs"
        about = f"{trial.config}\n{macs}\n{self.metric} {self.score(trial.score)}"
        tip = escaped(f"{name}\n{about}" if name else about)
        place = f'cx="{_share(x)}" cy="{_share(y)}" r="{radius:g}"'
        return f"<circle {place}><title>{tip}</title></circle>"


def _share(fraction: float) -> str:
    return f"{100 * fraction:.2f}%"


def plot_section(report: Report) -> str:
    """All trials, the front and the chosen rows; nothing where there are no points."""
    front = _drawable(report.front)
    on_front = set(front)
    others = dict.fromkeys(_drawable(report.trials))
    faint = [trial for trial in others if trial not in on_front]
    if not faint and not front:
        return ""
    chosen = _chosen(report)
    plot = _scaled([*faint, *front, *chosen.values()], report.metric)
    marks = [
        _axes(plot, f"{report.metric} ({report.direction})"),
        _group("trials", [plot.dot(trial, 3.5) for trial in faint]),
        _group("path", [_segment(plot.at(a), plot.at(b)) for a, b in pairwise(front)]),
        _group("front", [plot.dot(trial, 4.5) for trial in front]),
        _group("chosen", [plot.dot(trial, 6, name) for name, trial in chosen.items()]),
        _group("names", _names(plot, chosen, front, report.lower_is_better)),
    ]
    about = escaped(f"Scatter plot of {report.metric} against MACs, {report.direction}")
    drawing = f'<svg role="img" aria-label="{about}">\n{"".join(marks)}</svg>'
    caption = _legend(len(faint), len(front), len(chosen), _left_out(report))
    figure = f'<figure>\n<div class="plot">\n{drawing}\n</div>\n{caption}</figure>\n'
    return figure + _front_table(front, plot)


def _scaled(points: list[Trial], metric: str) -> _Plot:
    """A plot whose axes hold the points."""
    macs, scores = [point.macs for point in points], [point.score for point in points]
    log = max(macs) > LOG_FROM * min(macs)
    return _Plot(_axis(macs, log), _axis(scores), metric, formatter(scores))


def _drawable(trials: Iterable[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.macs > 0 and math.isfinite(trial.score)]


def _left_out(report: Report) -> int:
    every = {*report.trials, *report.front}
    return len(every) - len(_drawable(every))


def _chosen(report: Report) -> dict[str, Trial]:
    """Places of the rows: their own score, or else that of the trial with their config."""
    tried = {trial.config: trial.score for trial in (*report.trials, *report.front)}
    found = {}
    for row in report.rows:
        score = row.scores.get(report.metric, tried.get(row.config))
        if score is not None:
            found[row.label] = Trial(row.config, row.macs, score)
    return {name: trial for name, trial in found.items() if _drawable([trial])}


def _group(kind: str, marks: list[str]) -> str:
    return f'<g class="{kind}">\n' + "\n".join(marks) + "\n</g>\n" if marks else ""


def _segment(start: tuple[float, float], end: tuple[float, float]) -> str:
    (x1, y1), (x2, y2) = start, end
    return f'<line x1="{_share(x1)}" y1="{_share(y1)}" x2="{_share(x2)}" y2="{_share(y2)}" />'


def _axes(plot: _Plot, y_title: str) -> str:
    """Grid lines, tick labels and titles; labels lie outside the area."""
    lines, labels = [], []
    x_ticks, y_ticks = plot.x.ticks(), plot.y.ticks()
    for tick, text in zip(x_ticks, _macs_labels(x_ticks, plot.x.log), strict=True):
        at = plot.x.place(tick)
        lines.append(_segment((at, 0), (at, 1)))
        labels.append(f'<text x="{_share(at)}" y="100%" dy="20" text-anchor="middle">{text}</text>')
    decimals = _decimals(y_ticks)
    for tick in y_ticks:
        at = 1 - plot.y.place(tick)
        lines.append(_segment((0, at), (1, at)))
        place = f'x="0" dx="-8" y="{_share(at)}" dy="4.5"'
        labels.append(f'<text {place} text-anchor="end">{tick:.{decimals}f}</text>')
    scale = ", logarithmic" if plot.x.log else ""
    labels += [
        f'<text class="axis" x="0" y="0" dx="-40" dy="-16">{escaped(y_title)}</text>',
        '<text class="axis" x="50%" y="100%" dy="44" text-anchor="middle">'
        f"MACs per image{scale}</text>",
    ]
    return _group("grid", lines) + _group("labels", labels)


def _macs_labels(ticks: list[float], log: bool) -> list[str]:
    labels = []
    for tick in ticks:
        fits = ((scale, unit) for scale, unit in UNITS if tick >= 0.999 * scale)
        scale, unit = next(fits, (1.0, ""))
        decimals = 0 if log else _decimals([other / scale for other in ticks])
        labels.append(f"{tick / scale:.{decimals}f} {unit}".rstrip())
    return labels


def _decimals(ticks: list[float]) -> int:
    """Decimals that tell evenly spaced ticks apart."""
    step = min((b - a for a, b in pairwise(ticks)), default=1.0)
    return max(0, -math.floor(math.log10(step) + 1e-9))


Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class _Place:
    """Where a name could stand beside its mark: text anchor, shift, and box in pixels."""

    anchor: str
    dx: int
    dy: int
    box: Box


def _names(plot: _Plot, chosen: dict[str, Trial], front: list[Trial], below: bool) -> list[str]:
    """Each name beside its mark, where it covers least.

    Decided for a phone's width, where it is tightest: room only grows from there.
    """
    width, height = NARROW_PLOT
    spots = [plot.at(trial) for trial in chosen.values()] + _along([plot.at(t) for t in front])
    dots = [(x * width, y * height) for x, y in spots]
    taken: list[Box] = []
    names = []
    for name, trial in chosen.items():
        text = name if len(name) <= 20 else name[:19] + "\N{HORIZONTAL ELLIPSIS}"
        x, y = plot.at(trial)
        places = _places(x * width, y * height, 7.5 * len(text), below)
        best = min(places, key=lambda place: _covered(place.box, taken, dots))
        taken.append(best.box)
        names.append(
            f'<text x="{_share(x)}" y="{_share(y)}" dx="{best.dx}" dy="{best.dy}" '
            f'text-anchor="{best.anchor}">{escaped(text)}</text>'
        )
    return names


def _along(line: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The corners of a line and points between them."""
    between = [
        (a + (c - a) * part / 8, b + (d - b) * part / 8)
        for (a, b), (c, d) in pairwise(line)
        for part in range(1, 8)
    ]
    return line + between


def _places(x: float, y: float, length: float, below: bool) -> list[_Place]:
    """Places around a mark, best first.

    The front bends around the corner of few MACs and good scores, and nothing lies beyond it:
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


def _covered(box: Box, taken: list[Box], dots: list[tuple[float, float]]) -> int:
    """How bad a box is: points under it, and far worse, names under it and leaving the plot."""
    left, top, right, bottom = box
    marks = sum(left < x < right and top < y < bottom for x, y in dots)
    names = sum(left < c and a < right and top < d and b < bottom for a, b, c, d in taken)
    width, height = NARROW_PLOT
    outside = left < -30 or right > width + 8 or top < 0 or bottom > height
    return marks + 100 * names + 100 * outside


def _legend(trials: int, front: int, chosen: int, left_out: int) -> str:
    kinds = (
        ("trials", trials, "evaluated, not on the front"),
        ("front", front, "on the front: none is both smaller and better"),
        ("chosen", chosen, "in the table below"),
    )
    items = [
        f'<li><span class="key {kind}"></span>{count} {words}</li>\n'
        for kind, count, words in kinds
        if count
    ]
    note = f"<p>Not drawn, for want of a finite score: {left_out}.</p>\n" if left_out else ""
    return f'<figcaption>\n<ul class="legend">\n{"".join(items)}</ul>\n{note}</figcaption>\n'


def _front_table(front: list[Trial], plot: _Plot) -> str:
    """The front as text, for copying a config and where there are no tooltips."""
    if not front:
        return ""
    heads = [f'<th scope="col">{text}</th>' for text in ("config", "MACs", escaped(plot.metric))]
    lines = [
        f'<tr><th scope="row"><code>{escaped(trial.config)}</code></th>'
        f"<td>{format_units(trial.macs)}</td><td>{plot.score(trial.score)}</td></tr>"
        for trial in front
    ]
    table = html_table("numbers", heads, html_rows(lines), "The front")
    return f"<details>\n<summary>The front as a table</summary>\n{table}</details>\n"
