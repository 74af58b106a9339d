"""The plots and, under them, a panel for each trial with images: its dot links to it.

There is no script: a panel shows while the page's address ends in its id.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import Tensor

from gancompress.report.content import Front, Report, ScoredSubnet
from gancompress.report.pictures import (
    SMALL,
    image_id,
    image_tag,
    shared_images,
    shared_tag,
    shown_size,
)
from gancompress.report.plot import plot
from gancompress.report.table import html_rows, html_table
from gancompress.report.text import escaped
from gancompress.report.words import Words, words

QUALITY = 90  # of previews that are larger than SMALL
PLOTS = "plots"  # id of what stands above the panels


def panel_ids(report: Report) -> dict[str, str]:
    """Config to id of every trial that has previews, by ascending MACs.

    An id is made of the config, so that a link to a subnet outlives a page that shows others.
    """
    found = [trial for trial in report.all_trials().values() if report.previews.get(trial.config)]
    configs = [trial.config for trial in sorted(found, key=lambda trial: trial.macs)]
    return {
        config: f"subnet-{config}" if re.fullmatch("[0-9A-Za-z_]+", config) else f"subnet-no-{i}"
        for i, config in enumerate(configs)
    }


def panel_style(report: Report) -> str:
    """Rules that mark the dots of the trial whose panel shows."""
    marked = [
        f'main:has(#{name}:target) .plot a[href="#{name}"] circle'
        for name in panel_ids(report).values()
    ]
    return (
        ",\n".join(marked) + " { stroke: var(--mark); stroke-width: 9; stroke-opacity: 1; }\n"
        if marked
        else ""
    )


def plot_section(report: Report) -> str:
    """A plot for each front, one at a time, and the panels; nothing where there are no points."""
    ids, text = panel_ids(report), words(report)
    plots = {front.cost: plot(report, front, text, ids) for front in report.all_fronts()}
    drawn = {cost: figure for cost, figure in plots.items() if figure}
    if not drawn:
        return ""
    content = _tabs(drawn) if len(drawn) > 1 else next(iter(drawn.values()))
    if not ids:
        return content
    trials = report.all_trials()
    shared = _Panels(report, text, ids, _repeated(report, ids))
    panels = [_panel(trials[config], shared) for config in ids]
    hint = (
        "Click a dot of the front, or reach it with the Tab key and press Enter: "
        "its costs and its images show here."
    )
    return (
        f'<div id="{PLOTS}">\n{content}</div>\n'
        f'<div class="panels">\n<p class="hint">{hint}</p>\n'
        f"{shared_images(shared.images, _quality)}{''.join(panels)}</div>\n"
    )


def _tabs(plots: dict[str, str]) -> str:
    """Buttons of which one is down, each before the plot that it shows."""
    parts = []
    for index, (cost, figure) in enumerate(plots.items()):
        down = " checked" if index == 0 else ""
        parts.append(
            f'<input type="radio" name="cost" id="cost-{index}"{down}>'
            f'<label for="cost-{index}">{escaped(cost)}</label>\n<div>\n{figure}</div>\n'
        )
    return f'<div class="tabs" role="group" aria-label="Cost">\n{"".join(parts)}</div>\n'


@dataclass(frozen=True)
class _Panels:
    """What every panel needs: the report, how numbers are written, ids, and shared images."""

    report: Report
    words: Words
    ids: dict[str, str]
    images: dict[str, Tensor]


def _panel(trial: ScoredSubnet, shared: _Panels) -> str:
    config = escaped(trial.config)
    return (
        f'<article class="panel" id="{shared.ids[trial.config]}" tabindex="-1" '
        f'aria-label="Subnet {config}">\n<header><h3><code>{config}</code></h3>'
        f'<a href="#{PLOTS}">Close</a></header>\n'
        f"{_costs(trial, shared)}{_previews(trial.config, shared)}</article>\n"
    )


def _costs(trial: ScoredSubnet, shared: _Panels) -> str:
    """Costs and score; beside a cost that has a front, the neighbours along it."""
    fronts = {front.cost: front for front in shared.report.all_fronts()}
    lines = []
    for name in shared.words.costs:
        if text := shared.words.cost(trial, name):
            before, after = _neighbours(trial, fronts.get(name), shared)
            cells = f"<td>{before}</td><td>{after}</td>"
            lines.append(f'<tr><th scope="row">{escaped(name)}</th><td>{text}</td>{cells}</tr>')
    score = f'<th scope="row">{escaped(shared.words.metric)}</th>'
    lines.append(f"<tr>{score}<td>{shared.words.estimate(trial)}</td><td></td><td></td></tr>")
    heads = ("cost", "this subnet", "previous on front", "next on front")
    return html_table(
        "numbers costs",
        [f'<th scope="col">{head}</th>' for head in heads],
        html_rows(lines),
        "Costs and score",
    )


def _neighbours(trial: ScoredSubnet, front: Front | None, shared: _Panels) -> tuple[str, str]:
    """Links to the trials before and after one along a front; empty where it has none."""
    members = [t for t in front.trials if t.config in shared.ids] if front else []
    configs = [member.config for member in members]
    if front is None or trial.config not in configs:
        return "", ""
    index = configs.index(trial.config)
    before = members[index - 1] if index else None
    after = members[index + 1] if index + 1 < len(members) else None
    return (
        _link(before, front.cost, shared, "&larr; {}"),
        _link(after, front.cost, shared, "{} &rarr;"),
    )


def _link(trial: ScoredSubnet | None, cost: str, shared: _Panels, arrow: str) -> str:
    if trial is None:
        return ""
    text = arrow.format(shared.words.cost(trial, cost))
    return f'<a href="#{shared.ids[trial.config]}" title="{escaped(trial.config)}">{text}</a>'


def _previews(config: str, shared: _Panels) -> str:
    images = shared.report.previews[config]
    widest = max(shown_size(pixels)[0] for pixels in images.values())
    cells = []
    for label, pixels in images.items():
        about, name = f"{config}: {label}", image_id(pixels)
        image = (
            shared_tag(pixels, label, name)
            if name in shared.images
            else image_tag(pixels, about, _quality(pixels))
        )
        cells.append(f"<figure>{image}<figcaption>{escaped(label)}</figcaption></figure>\n")
    lossy = any(_quality(pixels) is not None for pixels in images.values())
    caption = f"Images larger than {SMALL} pixels a side are embedded as WebP of quality {QUALITY}."
    return (
        f'<div class="previews" style="--widest: {widest}px">\n{"".join(cells)}</div>\n'
        f'<p class="note">{caption if lossy else "The pixels are embedded without loss."}</p>\n'
    )


def _repeated(report: Report, ids: dict[str, str]) -> dict[str, Tensor]:
    """Images by id that several panels show: the inputs, what the teacher makes of them."""
    first: dict[str, Tensor] = {}
    again: dict[str, Tensor] = {}
    for config in ids:
        for pixels in report.previews[config].values():
            (again if (name := image_id(pixels)) in first else first)[name] = pixels
    return again


def _quality(pixels: Tensor) -> int | None:
    return QUALITY if max(pixels.shape[-2:]) > SMALL else None
