#!/usr/bin/env python3
"""The published table of gan-compression, counted again from its config strings alone.

python scripts/published.py          # ours beside the printed figures, 150 columns wide
python scripts/published.py --json   # the same as one JSON object
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from itertools import groupby

import torch

from gancompress.cost.papers import PaperCounts, count_as_papers, in_form_of
from gancompress.models.published import PUBLISHED, Row, build_published, published_model

COUNTS = {"papers": "macs_paper", "+products": "macs_products", "+norms": "macs_norms"}
"""Ways in which the figures may have been counted: column and attribute of `PaperCounts`."""

HEADER = (
    *("method", "config string", "params", "ours", "", "MACs", "true", *COUNTS),
    *("differs", "FID", "mIoU", ""),
)
RIGHT = range(2, len(HEADER) - 1)
LEGEND = """
true       multiply-accumulates of convolutions and fully connected layers
papers     the same with transposed convolutions at their output positions
+products  and one for each element of products and LeakyReLUs (torchprofile from 0.0.4 on)
+norms     and one for each element of instance norms (torchprofile before 0.0.4)
*          has all printed digits; 'differs' is the nearest of the papers' three counts to the print
legacy     the inner width is that of the first block of each third only (another class at theirs)
script     the released script ships this config string; the printed figures are not its figures
"""


@dataclass(frozen=True)
class Line:
    """A generator of the table, with what it costs.

    Attributes:
        row: As printed.
        config: Its config string, the row's or the released script's.
        counts: Ours.
    """

    row: Row
    config: str
    counts: PaperCounts

    @property
    def from_script(self) -> bool:
        """Whether this is the released script's generator where that is another than the row's."""
        return self.config != self.row.config

    @property
    def same_params(self) -> bool:
        """Whether ours has all printed digits."""
        return in_form_of(self.counts.params, self.row.params) == self.row.params

    @property
    def macs(self) -> dict[str, int]:
        """The papers' three counts by name."""
        return {name: getattr(self.counts, field) for name, field in COUNTS.items()}

    @property
    def reproduced_by(self) -> list[str]:
        """The counts that have all printed digits."""
        printed = self.row.macs
        return [n for n, count in self.macs.items() if in_form_of(count, printed) == printed]

    @property
    def deviation(self) -> float:
        """Relative difference of the nearest of the papers' counts to the printed figure."""
        printed = float(self.row.macs.removesuffix("G")) * 1e9
        return min((count / printed - 1 for count in self.macs.values()), key=abs)


def count_table() -> list[Line]:
    """Every row, and the released script's generator after it where that is another."""
    lines = []
    for row in PUBLISHED:
        for config in (row.config, row.released) if row.released else (row.config,):
            with torch.device("meta"):
                module = build_published(row, config)
            lines.append(Line(row, config, count_as_papers(module, published_model(row).inputs)))
    return lines


def as_json(line: Line) -> dict[str, object]:
    """A line as JSON: the row as printed, then ours."""
    ours = {
        **{"config_counted": line.config, "from_script": line.from_script},
        **{"ours": asdict(line.counts), "same_params": line.same_params},
        **{"reproduced_by": line.reproduced_by, "macs_deviation": line.deviation},
    }
    return {**asdict(line.row), **ours}


def cells(line: Line) -> tuple[str, ...]:
    """A line as text for each column."""
    row, counts = line.row, line.counts
    stars = {name: "*" if name in line.reproduced_by else " " for name in COUNTS}
    decimals = 2 if counts.macs_norms > 1e11 else 3
    macs = [f"{count / 1e9:.{decimals}f}G{stars[name]}" for name, count in line.macs.items()]
    return (
        "  script" if line.from_script else row.method,
        line.config or "(original, ngf 64)",
        row.params,
        f"{counts.params:,}",
        "*" if line.same_params else " ",
        row.macs,
        f"{counts.macs / 1e9:.{decimals}f}G",
        *macs,
        f"{round(line.deviation, 4) + 0.0:+.2%}",
        "" if line.from_script or row.fid is None else f"{row.fid:.2f}",
        "" if line.from_script or row.miou is None else f"{row.miou:.2f}",
        "script" if line.from_script else "legacy" if row.legacy else "",
    )


def as_text(lines: list[Line]) -> str:
    """The table, a legend, and how much of it is reproduced."""
    table = [HEADER, *map(cells, lines)]
    widths = [max(len(row[i]) for row in table) for i in range(len(HEADER))]

    def aligned(row: tuple[str, ...]) -> str:
        padded = (
            c.rjust(w) if i in RIGHT else c.ljust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join(padded).rstrip()

    text = [aligned(HEADER)]
    for (model, data), group in groupby(lines, lambda line: (line.row.model, line.row.data)):
        members = list(group)
        _, channels, height, width = published_model(members[0].row).inputs
        text += ["", f"{model}, {data}: {channels} channels, {height}x{width}"]
        text += [aligned(cells(line)) for line in members]
    return "\n".join([*text, LEGEND, summary(lines)])


def summary(lines: list[Line]) -> str:
    """How many rows come out with all printed digits."""
    rows = [line for line in lines if not line.from_script]
    counts = {name: sum(name in line.reproduced_by for line in rows) for name in COUNTS}
    by = ", ".join(f"{number} by {name}" for name, number in counts.items())
    return (
        f"All printed digits: params in {sum(line.same_params for line in rows)} of {len(rows)} "
        f"rows, MACs in {sum(bool(line.reproduced_by) for line in rows)} ({by})."
    )


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    args = parser.parse_args()
    lines = count_table()
    if args.json:
        print(json.dumps({"rows": [as_json(line) for line in lines]}, indent=1))
    else:
        print(as_text(lines))


if __name__ == "__main__":
    main()
