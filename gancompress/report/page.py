"""One HTML page with everything a run has reached: numbers, scatter plot, images, files.

The page is a single file. It asks for nothing else, from the network or from the disk, and holds
no script: the plots are SVG, the images are embedded, the tooltips are the browser's, and what
shows on a click is a link's target.
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from gancompress.checkpoint.files import write_atomic
from gancompress.report.content import Report, Table
from gancompress.report.panels import panel_style, plot_section
from gancompress.report.pictures import image_grid
from gancompress.report.table import html_rows, html_table, scores_table
from gancompress.report.text import escaped

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_report(report: Report, path: Path) -> None:
    """Write the page to `path`, whole or not at all."""
    write_atomic(path, render(report).encode("utf-8"))


def render(report: Report) -> str:
    """The page as one HTML document."""
    style = files("gancompress.report").joinpath("page.css").read_text(encoding="utf-8")
    style += panel_style(report)
    title = escaped(report.title)
    parts = [
        f"<header>\n<h1>{title}</h1>\n{_facts(report.facts)}</header>",
        _section("Score against cost", plot_section(report)),
        _section("Teacher and subnets", scores_table(report)),
        *(_section(escaped(table.title), _plain_table(table)) for table in report.tables),
        _section("Images", image_grid(report)),
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
