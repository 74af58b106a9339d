"""The table of teacher and subnets, as HTML and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gancompress.report.content import Report, Row, Table
from gancompress.report.text import MISSING, escaped, format_units, formatter, ratio


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


def aligned_text(table: Table) -> str:
    """Any table as aligned plain text, its first column to the left and the others to the right."""
    if not table.rows:
        return ""
    columns = zip(table.heads, *table.rows, strict=True)
    blocks = [
        _text_block(head, cells, left=index == 0) for index, (head, *cells) in enumerate(columns)
    ]
    return "\n".join("  ".join(line).rstrip() for line in zip(*blocks, strict=True))


def _text_block(head: str, cells: list[str], left: bool = False) -> list[str]:
    """A head and its cells, padded to one width."""
    width = max(len(text) for text in (head, *cells))
    return [f"{text:{'<' if left else '>'}{width}}" for text in (head, *cells)]


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
    ratios = [ratio(values[0], value, "fewer", "more") for value in values]
    return _Column(head, [format_units(value) for value in values], ratios)


def _measures(
    head: str, values: Sequence[float | None], better: str = "", worse: str = ""
) -> _Column:
    """Values of one unit, some perhaps missing; ratios to the first if there are words for them."""
    style = formatter(value for value in values if value is not None)
    cells = [MISSING if value is None else style(value) for value in values]
    ratios = [ratio(values[0], value, better, worse) for value in values] if better else []
    return _Column(head, cells, ratios)


def scores_table(report: Report) -> str:
    """The rows as an HTML table with ratios to the first; nothing where there are none."""
    if not report.rows:
        return ""
    columns = _columns(report.rows)
    heads = ['<th scope="col">model</th>']
    for column in columns:
        note = f"<small>{report.direction}</small>" if column.head == report.metric else ""
        heads.append(f'<th scope="col">{escaped(column.head)}{note}</th>')
    lines = []
    for index, row in enumerate(report.rows):
        config = (
            "" if row.config == MISSING else f"<small><code>{escaped(row.config)}</code></small>"
        )
        cells = "".join(_cell(column, index) for column in columns)
        lines.append(f'<tr><th scope="row">{escaped(row.label)}{config}</th>{cells}</tr>')
    caption = (
        "<figcaption>MACs are multiply-accumulates for one image. The papers count a stride-2 "
        "transposed convolution at its output size, four times too much; that count is here "
        f"to compare with theirs. Ratios compare with {escaped(report.rows[0].label)}."
        "</figcaption>\n"
    )
    table = html_table("numbers", heads, html_rows(lines), "Teacher and subnets")
    return f"<figure>\n{table}{caption}</figure>\n"


def _cell(column: _Column, index: int) -> str:
    text = column.cells[index]
    ratio = column.ratios[index] if column.ratios else ""
    note = f"<small>{ratio}</small>" if ratio else ""
    return f"<td>{'&ndash;' if text == MISSING else escaped(text)}{note}</td>"


def html_table(kind: str, heads: list[str], body: str, label: str) -> str:
    """A table that scrolls in a box of its own, which the keyboard can reach."""
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escaped(label)}">\n'
        f'<table class="{kind}">\n<thead><tr>{"".join(heads)}</tr></thead>\n'
        f"{body}</table>\n</div>\n"
    )


def html_rows(lines: list[str]) -> str:
    """Table rows as a body."""
    return "<tbody>\n" + "\n".join(lines) + "\n</tbody>\n"
