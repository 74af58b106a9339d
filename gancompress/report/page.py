"""One HTML page with everything a run has reached: numbers, scatter plot, images, files.

The page is a single file. It asks for nothing else, from the network or from the disk, and holds
no script: the plot is SVG, the images are lossless and embedded, the tooltips are the browser's.
"""

from __future__ import annotations

import base64
import io
import math
import os
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from torch import Tensor

from gancompress.checkpoint.files import write_atomic
from gancompress.data.images import to_image
from gancompress.report.content import ImageRow, Report, Table
from gancompress.report.plot import plot_section
from gancompress.report.table import html_rows, html_table, scores_table
from gancompress.report.text import escaped, format_units

SMALL, LARGE = 128, 256  # images are shown between these sides, in CSS pixels
WEBP_LIMIT = 16383  # the format's longest side
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_report(report: Report, path: Path) -> None:
    """Write the page to `path`, whole or not at all."""
    write_atomic(path, render(report).encode("utf-8"))


def render(report: Report) -> str:
    """The page as one HTML document."""
    style = files("gancompress.report").joinpath("page.css").read_text(encoding="utf-8")
    title = escaped(report.title)
    parts = [
        f"<header>\n<h1>{title}</h1>\n{_facts(report.facts)}</header>",
        _section("Score against cost", plot_section(report)),
        _section("Teacher and subnets", scores_table(report)),
        *(_section(escaped(table.title), _plain_table(table)) for table in report.tables),
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


def _plain_table(table: Table) -> str:
    """Text cells as a table; nothing where it has no rows."""
    if not table.rows:
        return ""
    heads = [f'<th scope="col">{escaped(head)}</th>' for head in table.heads]
    lines = []
    for name, *cells in table.rows:
        body = "".join(f"<td>{escaped(cell)}</td>" for cell in cells)
        lines.append(f'<tr><th scope="row">{escaped(name)}</th>{body}</tr>')
    caption = f"<figcaption>{escaped(table.caption)}</figcaption>\n" if table.caption else ""
    grid = html_table("numbers", heads, html_rows(lines), table.title)
    return f"<figure>\n{grid}{caption}</figure>\n"


def _image_grid(report: Report) -> str:
    labels = list(dict.fromkeys(label for row in report.images for label in row.images))
    if not labels:
        return ""
    macs = {row.label: row.macs for row in report.rows}
    heads = []
    for label in labels:
        note = f"<small>{format_units(macs[label])} MACs</small>" if label in macs else ""
        heads.append(f'<th scope="col">{escaped(label)}{note}</th>')
    bodies = []
    for row in report.images:
        cells = "".join(_image_cell(row, label) for label in labels)
        # The name gets a line of its own: beside the images it would take a phone's width.
        name = f'<th scope="rowgroup" colspan="{len(labels)}"><span>{escaped(row.name)}</span></th>'
        bodies.append(f"<tbody>\n<tr>{name}</tr>\n<tr>{cells}</tr>\n</tbody>\n")
    table = html_table("pictures", heads, "".join(bodies), "Images")
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
    style = f'style="max-width: {wide}px"'
    if side < SMALL:
        style = f'class="small" style="width: {wide}px"'
    return (
        f'<td><img {style} src="{_data_url(pixels)}" alt="{escaped(f"{row.name}: {label}")}" '
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
        anchor = f'<a href="{escaped(link)}">{escaped(path)}</a>'
        items.append(f"<li><small>{escaped(label)}</small>{anchor}</li>\n")
    return f'<ul class="files">\n{"".join(items)}</ul>\n' if items else ""


def _facts(facts: dict[str, str]) -> str:
    lines = [
        f"<dt>{escaped(label)}</dt><dd>{_fact(label, text)}</dd>\n" for label, text in facts.items()
    ]
    return f'<dl class="facts">\n{"".join(lines)}</dl>\n' if lines else ""


def _fact(label: str, text: str) -> str:
    if label.lower() != "command":
        return escaped(text)
    # Word by word, so that a line never ends inside a flag.
    words = " ".join(f"<span>{escaped(word)}</span>" for word in text.split(" "))
    return f"<code>{words}</code>"


def _section(head: str, content: str) -> str:
    return f"<section>\n<h2>{head}</h2>\n{content}</section>" if content else ""
