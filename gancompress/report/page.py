"""One HTML page with everything a run has reached: numbers, scatter plot, images, files.

The page is a single file. It asks for nothing else, from the network or from the disk, and holds
no script: the plot is SVG, the images are lossless and embedded, the tooltips are the browser's.
"""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

from torch import Tensor

from gancompress.checkpoint.files import write_atomic
from gancompress.data.images import to_image

MISSING = "-"
UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
LOG_FROM = 8.0  # a range of MACs above this ratio gets a logarithmic axis
MAX_TICKS = 6  # as many as a phone's width holds
SMALL, LARGE = 128, 256  # images are shown between these sides, in CSS pixels
WEBP_LIMIT = 16383  # the format's longest side
NARROW_PLOT = (290.0, 300.0)  # its area on a phone, in pixels, for placing names
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Row:
    """The teacher or one chosen subnet.

    Attributes:
        label: Its name in table, plot and image grid: "teacher", "subnet S".
        config: Its config string, or "-".
        params: Number of parameters.
        macs: Multiply-accumulates for one image.
        macs_paper: The same as the papers count them.
        scores: Metric name to value; may be empty.
        latency_ms: Milliseconds for one image, if measured.
        size_mb: Megabytes of the exported file, if there is one.
    """

    label: str
    config: str
    params: int
    macs: int
    macs_paper: int
    scores: dict[str, float]
    latency_ms: float | None
    size_mb: float | None


@dataclass(frozen=True)
class Trial:
    """One evaluated subnet: its config string, true MACs and score."""

    config: str
    macs: int
    score: float


@dataclass(frozen=True)
class ImageRow:
    """One input and what was made of it.

    Attributes:
        name: Name of the input.
        images: Column label to (3, H, W) uint8, in the order of the columns. A label that is
            also a `Row.label` gets that row's MACs in its head.
    """

    name: str
    images: dict[str, Tensor]


@dataclass(frozen=True)
class Report:
    """What the page shows; an empty list leaves its section out.

    Attributes:
        title: Head of the page.
        facts: What was measured, on what, and how: label to text.
        metric: Name of the score that the search optimises.
        lower_is_better: Whether the search minimises it.
        rows: Teacher first; ratios are against the first row.
        trials: Every evaluated subnet.
        front: The Pareto set, by ascending MACs.
        images: Rows of the image grid.
        files: Label to path, relative to the page.
    """

    title: str
    facts: dict[str, str]
    metric: str
    lower_is_better: bool
    rows: list[Row]
    trials: list[Trial]
    front: list[Trial]
    images: list[ImageRow]
    files: dict[str, str]

    @property
    def direction(self) -> str:
        """In words, which scores are good."""
        return "lower is better" if self.lower_is_better else "higher is better"


def write_report(report: Report, path: Path) -> None:
    """Write the page to `path`, whole or not at all."""
    write_atomic(path, render(report).encode("utf-8"))


def render(report: Report) -> str:
    """The page as one HTML document."""
    style = files("gancompress.report").joinpath("page.css").read_text(encoding="utf-8")
    title = _text(report.title)
    parts = [
        f"<header>\n<h1>{title}</h1>\n{_facts(report.facts)}</header>",
        _section("Score against cost", _plot(report)),
        _section("Teacher and subnets", _table(report)),
        _section("Images", _image_grid(report)),
        _section("Exported files", _file_list(report.files)),
    ]
    # The empty icon keeps a browser from asking the server for one.
    head = (
        '<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<title>{title}</title>\n<link rel="icon" href="data:,">\n<style>\n{style}</style>\n'
    )
    body = "\n".join(part for part in parts if part)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}</head>\n'
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def text_table(rows: list[Row]) -> str:
    """The rows as aligned plain text; ratios are against the first row."""
    if not rows:
        return ""
    skipped = ("MACs (papers)", "size MB")
    blocks = [
        _text_block("model", [row.label for row in rows], left=True),
        _text_block("config", [row.config for row in rows], left=True),
    ]
    for column in _columns(rows):
        if column.head not in skipped:
            blocks.append(_text_block(column.head, column.cells))
            if any(column.ratios):
                blocks.append(_text_block("", column.ratios, left=True))
    return "\n".join("  ".join(line).rstrip() for line in zip(*blocks, strict=True))


def _text_block(head: str, cells: list[str], left: bool = False) -> list[str]:
    """A head and its cells, padded to one width."""
    width = max(len(text) for text in (head, *cells))
    return [f"{text:{'<' if left else '>'}{width}}" for text in (head, *cells)]


# Text and numbers


def _text(text: str) -> str:
    """Text as HTML, safe in elements and attributes; undecodable file names become '?'."""
    return escape(text.encode("utf-8", "replace").decode("utf-8"))


def _count(number: float) -> str:
    """A count with four digits and a unit: 49.55 G, 340.1 k, 87."""
    for scale, unit in UNITS:
        value = number / scale
        if value >= 0.99995:
            return f"{value:.{2 if value < 99.995 else 1}f} {unit}"
    return f"{number:g}"


def _formatter(values: Iterable[float]) -> Callable[[float], str]:
    """A format for one column: as many decimals as give its largest value four digits."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=1.0) or 1.0
    decimals = max(0, 3 - math.floor(math.log10(largest)))
    return lambda value: f"{value:.{decimals}f}"


def _ratio(base: float | None, value: float | None, better: str, worse: str) -> str:
    """How much less `value` is than `base`: "9.3x fewer"; nothing where it cannot be said."""
    if not base or not value or base == value:
        return ""
    factor = max(base / value, value / base)
    decimals = 2 if factor < 1.095 else 1 if factor < 99.95 else 0
    return f"{factor:.{decimals}f}x {better if value < base else worse}"


# Table


@dataclass(frozen=True)
class _Column:
    head: str
    cells: list[str]
    ratios: list[str] = field(default_factory=list)


def _columns(rows: Sequence[Row]) -> list[_Column]:
    """Columns of numbers; one without any value is left out."""
    columns = [
        _counts("params", [row.params for row in rows]),
        _counts("MACs", [row.macs for row in rows]),
        _counts("MACs (papers)", [row.macs_paper for row in rows]),
    ]
    for name in dict.fromkeys(name for row in rows for name in row.scores):
        columns.append(_measures(name, [row.scores.get(name) for row in rows]))
    columns.append(_measures("latency ms", [row.latency_ms for row in rows], "faster", "slower"))
    columns.append(_measures("size MB", [row.size_mb for row in rows], "smaller", "larger"))
    return [column for column in columns if any(cell != MISSING for cell in column.cells)]


def _counts(head: str, values: Sequence[int]) -> _Column:
    ratios = [_ratio(values[0], value, "fewer", "more") for value in values]
    return _Column(head, [_count(value) for value in values], ratios)


def _measures(
    head: str, values: Sequence[float | None], better: str = "", worse: str = ""
) -> _Column:
    """Values of one unit, some perhaps missing; ratios to the first if there are words for them."""
    style = _formatter(value for value in values if value is not None)
    cells = [MISSING if value is None else style(value) for value in values]
    ratios = [_ratio(values[0], value, better, worse) for value in values] if better else []
    return _Column(head, cells, ratios)


def _table(report: Report) -> str:
    if not report.rows:
        return ""
    columns = _columns(report.rows)
    heads = ['<th scope="col">model</th>']
    for column in columns:
        note = f"<small>{report.direction}</small>" if column.head == report.metric else ""
        heads.append(f'<th scope="col">{_text(column.head)}{note}</th>')
    lines = []
    for index, row in enumerate(report.rows):
        config = "" if row.config == MISSING else f"<small><code>{_text(row.config)}</code></small>"
        cells = "".join(_cell(column, index) for column in columns)
        lines.append(f'<tr><th scope="row">{_text(row.label)}{config}</th>{cells}</tr>')
    caption = (
        "<figcaption>MACs are multiply-accumulates for one image. The papers count a stride-2 "
        "transposed convolution at its output size, four times too much; that count is here "
        f"to compare with theirs. Ratios compare with {_text(report.rows[0].label)}.</figcaption>\n"
    )
    table = _html_table("numbers", heads, _rows(lines), "Teacher and subnets")
    return f"<figure>\n{table}{caption}</figure>\n"


def _cell(column: _Column, index: int) -> str:
    text = column.cells[index]
    ratio = column.ratios[index] if column.ratios else ""
    note = f"<small>{ratio}</small>" if ratio else ""
    return f"<td>{'&ndash;' if text == MISSING else _text(text)}{note}</td>"


def _html_table(kind: str, heads: list[str], body: str, label: str) -> str:
    """A table that scrolls in a box of its own, which the keyboard can reach."""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{_text(label)}">\n'
        f'<table class="{kind}">\n<thead><tr>{"".join(heads)}</tr></thead>\n'
        f"{body}</table>\n</div>\n"
    )


def _rows(lines: list[str]) -> str:
    return "<tbody>\n" + "\n".join(lines) + "\n</tbody>\n"


# Plot


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
        about = (
            f"{trial.config}\n{_count(trial.macs)} MACs\n{self.metric} {self.score(trial.score)}"
        )
        tip = _text(f"{name}\n{about}" if name else about)
        place = f'cx="{_share(x)}" cy="{_share(y)}" r="{radius:g}"'
        return f"<circle {place}><title>{tip}</title></circle>"


def _share(fraction: float) -> str:
    return f"{100 * fraction:.2f}%"


def _plot(report: Report) -> str:
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
    about = _text(f"Scatter plot of {report.metric} against MACs, {report.direction}")
    drawing = f'<svg role="img" aria-label="{about}">\n{"".join(marks)}</svg>'
    caption = _legend(len(faint), len(front), len(chosen), _left_out(report))
    figure = f'<figure>\n<div class="plot">\n{drawing}\n</div>\n{caption}</figure>\n'
    return figure + _front_table(front, plot)


def _scaled(points: list[Trial], metric: str) -> _Plot:
    """A plot whose axes hold the points."""
    macs, scores = [point.macs for point in points], [point.score for point in points]
    log = max(macs) > LOG_FROM * min(macs)
    return _Plot(_axis(macs, log), _axis(scores), metric, _formatter(scores))


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
        f'<text class="axis" x="0" y="0" dx="-40" dy="-16">{_text(y_title)}</text>',
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
            f'text-anchor="{best.anchor}">{_text(text)}</text>'
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
    heads = [f'<th scope="col">{text}</th>' for text in ("config", "MACs", _text(plot.metric))]
    lines = [
        f'<tr><th scope="row"><code>{_text(trial.config)}</code></th>'
        f"<td>{_count(trial.macs)}</td><td>{plot.score(trial.score)}</td></tr>"
        for trial in front
    ]
    table = _html_table("numbers", heads, _rows(lines), "The front")
    return f"<details>\n<summary>The front as a table</summary>\n{table}</details>\n"


# Images and files


def _image_grid(report: Report) -> str:
    labels = list(dict.fromkeys(label for row in report.images for label in row.images))
    if not labels:
        return ""
    macs = {row.label: row.macs for row in report.rows}
    heads = []
    for label in labels:
        note = f"<small>{_count(macs[label])} MACs</small>" if label in macs else ""
        heads.append(f'<th scope="col">{_text(label)}{note}</th>')
    bodies = []
    for row in report.images:
        cells = "".join(_image_cell(row, label) for label in labels)
        # The name gets a line of its own: beside the images it would take a phone's width.
        name = f'<th scope="rowgroup" colspan="{len(labels)}"><span>{_text(row.name)}</span></th>'
        bodies.append(f"<tbody>\n<tr>{name}</tr>\n<tr>{cells}</tr>\n</tbody>\n")
    table = _html_table("pictures", heads, "".join(bodies), "Images")
    caption = "<figcaption>The pixels are embedded without loss.</figcaption>\n"
    return f"<figure>\n{table}{caption}</figure>\n"


def _image_cell(row: ImageRow, label: str) -> str:
    if label not in row.images:
        return "<td>&ndash;</td>"
    pixels = row.images[label]
    height, width = pixels.shape[-2:]
    side = max(height, width)
    # Whole multiples keep every pixel of a small image the same size; a large one shrinks to fit.
    scale = math.ceil(SMALL / side) if side < SMALL else min(1.0, LARGE / side)
    wide, high = max(1, round(width * scale)), max(1, round(height * scale))
    look = 'class="small"' if side < SMALL else f'style="max-width: {wide}px"'
    return (
        f'<td><img {look} src="{_data_url(pixels)}" alt="{_text(f"{row.name}: {label}")}" '
        f'width="{wide}" height="{high}"></td>'
    )


def _data_url(pixels: Tensor) -> str:
    """A lossless image as a URL that holds it."""
    buffer = io.BytesIO()
    if max(pixels.shape) > WEBP_LIMIT:
        kind = "png"
        to_image(pixels).save(buffer, "PNG")
    else:
        kind = "webp"
        to_image(pixels).save(buffer, "WEBP", lossless=True)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _file_list(paths: dict[str, str]) -> str:
    items = []
    for label, path in paths.items():
        # The leading "./" keeps any name a path: never a scheme, never another host.
        link = "./" + quote(os.fsencode(path))
        items.append(
            f'<li><small>{_text(label)}</small><a href="{_text(link)}">{_text(path)}</a></li>\n'
        )
    return f'<ul class="files">\n{"".join(items)}</ul>\n' if items else ""


# Frame


def _facts(facts: dict[str, str]) -> str:
    lines = [
        f"<dt>{_text(label)}</dt><dd>{_fact(label, text)}</dd>\n" for label, text in facts.items()
    ]
    return f'<dl class="facts">\n{"".join(lines)}</dl>\n' if lines else ""


def _fact(label: str, text: str) -> str:
    if label.lower() != "command":
        return _text(text)
    # Word by word, so that a line never ends inside a flag.
    words = " ".join(f"<span>{_text(word)}</span>" for word in text.split(" "))
    return f"<code>{words}</code>"


def _section(head: str, content: str) -> str:
    return f"<section>\n<h2>{head}</h2>\n{content}</section>" if content else ""
