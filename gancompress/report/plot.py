"""Scatter plots of score against cost, as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

from gancompress.report.axes import Axis, cost_axis, count_labels, measure_labels, score_axis
from gancompress.report.content import MACS, Front, Report, ScoredSubnet
from gancompress.report.names import Point, placed_names, share
from gancompress.report.table import html_rows, html_table
from gancompress.report.text import escaped
from gancompress.report.words import Words


@dataclass(frozen=True)
class _Plot:
    cost: str
    x: Axis
    y: Axis
    words: Words
    links: dict[str, str]

    def at(self, trial: ScoredSubnet) -> Point:
        """Place in the plot's area."""
        return self.x.place(trial.cost(self.cost) or 0.0), 1 - self.y.place(trial.score)

    def dot(self, trial: ScoredSubnet, radius: float, name: str = "") -> str:
        """A circle with a tooltip; a link where the trial has a panel."""
        x, y = self.at(trial)
        lines = [name, *self.words.about(trial)] if name else self.words.about(trial)
        place = f'cx="{share(x)}" cy="{share(y)}" r="{radius:g}"'
        tip = escaped("\n".join(lines))
        circle = f"<circle {place}><title>{tip}</title></circle>"
        if trial.config not in self.links:
            return circle
        # A named mark lies on the dot of its trial: one stop of the Tab key is enough for both.
        order = ' tabindex="-1"' if name else ""
        about = escaped(", ".join(lines))
        return f'<a href="#{self.links[trial.config]}" aria-label="{about}"{order}>{circle}</a>'


@dataclass(frozen=True)
class _Marks:
    """What one plot shows; all of it can be drawn."""

    front: list[ScoredSubnet]
    others: list[ScoredSubnet]
    partial: list[ScoredSubnet]
    chosen: dict[str, ScoredSubnet]
    left_out: int

    def points(self) -> list[ScoredSubnet]:
        return [*self.front, *self.others, *self.partial, *self.chosen.values()]


def plot(report: Report, front: Front, words: Words, links: dict[str, str]) -> str:
    """All trials, one front and the chosen rows; nothing where there are no points.

    Args:
        report: What the page shows.
        front: One of its fronts, which also says what the plot's cost is.
        words: How numbers are written.
        links: Config to id of the panel of a trial.
    """
    marks = _marks(report, front)
    if not (marks.front or marks.others or marks.partial):
        return ""
    points = marks.points()
    x = cost_axis([point.cost(front.cost) or 0.0 for point in points])
    view = _Plot(front.cost, x, score_axis([point.score for point in points]), words, links)
    line = [view.at(trial) for trial in marks.front]
    places = {name: view.at(trial) for name, trial in marks.chosen.items()}
    groups = [
        _axes(view, f"{report.metric} ({report.direction})"),
        _group("partial", [view.dot(trial, 3) for trial in marks.partial]),
        _group("trials", [view.dot(trial, 3.5) for trial in marks.others]),
        _group("path", [_segment(a, b) for a, b in pairwise(line)]),
        _group("front", [view.dot(trial, 4.5) for trial in marks.front]),
        _group("chosen", [view.dot(trial, 6, name) for name, trial in marks.chosen.items()]),
        _group("names", placed_names(places, line, report.lower_is_better)),
    ]
    about = escaped(f"Scatter plot of {report.metric} against {front.cost}, {report.direction}")
    # The parts of an image are out of reach for a screen reader; those of a group are not.
    role = "group" if any(point.config in links for point in points) else "img"
    drawing = f'<svg role="{role}" aria-label="{about}">\n{"".join(groups)}</svg>'
    figure = f'<figure>\n<div class="plot">\n{drawing}\n</div>\n{_legend(marks, view)}</figure>\n'
    return figure + _front_table(marks.front, view)


def _marks(report: Report, front: Front) -> _Marks:
    members = {trial.config for trial in front.trials}
    every = {trial.config: trial for trial in front.trials} | {
        config: trial for config, trial in report.all_trials().items() if config not in members
    }
    drawable = _drawable(every.values(), front.cost)
    others = [trial for trial in drawable if trial.config not in members]
    named = {
        name: trial for name, trial in _chosen(report).items() if _drawable([trial], front.cost)
    }
    return _Marks(
        front=[trial for trial in drawable if trial.config in members],
        others=[trial for trial in others if trial.complete],
        partial=[trial for trial in others if not trial.complete],
        chosen=named,
        left_out=len(every) - len(drawable),
    )


def _drawable(trials: Iterable[ScoredSubnet], cost: str) -> list[ScoredSubnet]:
    """Trials with a finite score and a positive, finite cost."""
    return [
        trial
        for trial in trials
        if math.isfinite(trial.score) and 0 < (trial.cost(cost) or 0.0) < math.inf
    ]


def _chosen(report: Report) -> dict[str, ScoredSubnet]:
    """The rows as trials: their own score, or else that of the trial with their config."""
    tried = report.all_trials()
    found = {}
    for row in report.rows:
        trial = tried.get(row.config, ScoredSubnet(row.config, row.macs, math.nan))
        score = row.scores.get(report.metric)
        known = trial if score is None else replace(trial, score=score, complete=True)
        found[row.label] = replace(known, macs=row.macs)
    return found


def _group(kind: str, marks: list[str]) -> str:
    return f'<g class="{kind}">\n' + "\n".join(marks) + "\n</g>\n" if marks else ""


def _segment(start: Point, end: Point) -> str:
    (x1, y1), (x2, y2) = start, end
    return f'<line x1="{share(x1)}" y1="{share(y1)}" x2="{share(x2)}" y2="{share(y2)}" />'


def _axes(view: _Plot, y_title: str) -> str:
    """Grid lines, tick labels and titles; labels lie outside the area."""
    lines, labels = [], []
    x_ticks, y_ticks = view.x.ticks(), view.y.ticks()
    written = count_labels if view.cost in view.words.counts else measure_labels
    for tick, text in zip(x_ticks, written(x_ticks, view.x.log), strict=True):
        at = view.x.place(tick)
        lines.append(_segment((at, 0), (at, 1)))
        labels.append(f'<text x="{share(at)}" y="100%" dy="20" text-anchor="middle">{text}</text>')
    for tick, text in zip(y_ticks, measure_labels(y_ticks), strict=True):
        at = 1 - view.y.place(tick)
        lines.append(_segment((0, at), (1, at)))
        place = f'x="0" dx="-8" y="{share(at)}" dy="4.5"'
        labels.append(f'<text {place} text-anchor="end">{text}</text>')
    x_title = "MACs per image" if view.cost == MACS else view.cost
    scale = ", logarithmic" if view.x.log else ""
    labels += [
        f'<text class="axis" x="0" y="0" dx="-40" dy="-16">{escaped(y_title)}</text>',
        '<text class="axis" x="50%" y="100%" dy="44" text-anchor="middle">'
        f"{escaped(x_title)}{scale}</text>",
    ]
    return _group("grid", lines) + _group("labels", labels)


def _legend(marks: _Marks, view: _Plot) -> str:
    cheaper = "smaller" if view.cost == MACS else "cheaper"
    kinds = (
        ("trials", marks.others, "evaluated, not on the front"),
        ("partial", marks.partial, "given up early: the score is an estimate"),
        ("front", marks.front, f"on the front: none is both {cheaper} and better"),
        ("chosen", marks.chosen, "in the table below"),
    )
    items = [
        f'<li><span class="key {kind}"></span>{len(members)} {text}</li>\n'
        for kind, members, text in kinds
        if members
    ]
    wanted = "a finite score" if view.cost == MACS else f"a finite score or {view.cost}"
    note = f"Omitted (missing {wanted}): {marks.left_out}."
    left_out = f"<p>{escaped(note)}</p>\n" if marks.left_out else ""
    return f'<figcaption>\n<ul class="legend">\n{"".join(items)}</ul>\n{left_out}</figcaption>\n'


def _front_table(front: list[ScoredSubnet], view: _Plot) -> str:
    """The front as text, for copying a config and where there are no tooltips."""
    if not front:
        return ""
    words = view.words
    costs = [name for name in words.costs if any(words.cost(trial, name) for trial in front)]
    heads = [f'<th scope="col">{escaped(text)}</th>' for text in ("config", *costs, words.metric)]
    lines = []
    for trial in front:
        config = f"<code>{escaped(trial.config)}</code>"
        if trial.config in view.links:
            config = f'<a href="#{view.links[trial.config]}">{config}</a>'
        cells = [words.cost(trial, name) or "&ndash;" for name in costs]
        body = "".join(f"<td>{cell}</td>" for cell in (*cells, words.estimate(trial)))
        lines.append(f'<tr><th scope="row">{config}</th>{body}</tr>')
    table = html_table("numbers", heads, html_rows(lines), "The front")
    return f"<details>\n<summary>The front as a table</summary>\n{table}</details>\n"
