"""The report page stands alone, shows everything it is given, and lets nothing in as markup."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from gancompress.data.images import to_tensor
from gancompress.report import ImageRow, Report, Row, Trial, render, text_table, write_report

VOID = {"meta", "link", "img", "br", "hr", "input"}
EVIL = "<script>alert('1')</script>\"&"
Attributes = dict[str, str | None]


class Page(HTMLParser):
    """Elements, text and whether every tag was closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, Attributes]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[Attributes]:
        return [attributes for name, attributes in self.elements if name == tag]

    def inside(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


def picture(seed: int, height: int = 32, width: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def decode(url: str | None) -> Tensor:
    assert url is not None
    kind, content = url.split(";base64,")
    assert kind in ("data:image/webp", "data:image/png")
    return to_tensor(Image.open(io.BytesIO(base64.b64decode(content))))


TEACHER = Row("teacher", "-", 11_378_179, 49_550_000_000, 56_800_000_000, {}, 212.31, 45.6)
SUBNET = Row("subnet S", "16_8", 340_123, 5_327_956_989, 6_000_000_000, {"FID": 43.2}, 51.78, None)


@pytest.fixture
def report() -> Report:
    front = [Trial("16_8", 5_327_956_989, 43.2), Trial("32_16", 9_000_000_000, 40.5)]
    trials = [*front, Trial("24_8", 7_000_000_000, 47.0), Trial("32_8", 8_000_000_000, 46.25)]
    images = [
        ImageRow(name, {"input": picture(2 * i), "subnet S": picture(2 * i + 1)})
        for i, name in enumerate(("cat.png", "dog.png"))
    ]
    facts = {"images": "300, 32x32", "command": "gancompress search runs/x --macs 2.6G"}
    exported = {"ONNX": "export/subnet s.onnx"}
    rows = [TEACHER, SUBNET]
    return Report("A task", facts, "FID", True, rows, trials, front, images, exported)


def test_page_is_balanced_and_has_what_browsers_need(report: Report) -> None:
    html = render(report)
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>\n")
    assert page.all("html") == [{"lang": "en"}]
    assert {"charset": "utf-8"} in page.all("meta")
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))
    assert page.inside("title")[0] == "A task"
    assert page.inside("h1") == ["A task"]
    assert "prefers-color-scheme: dark" in html


def test_page_asks_for_nothing_outside_itself(report: Report) -> None:
    html = render(report)
    assert "http://" not in html
    assert "https://" not in html
    assert not re.search(r"""url\(|@import|src=(?!"data:)""", html)
    page = Page(html)
    assert not page.all("script")
    assert [link["href"] for link in page.all("link")] == ["data:,"]
    assert [link["href"] for link in page.all("a")] == ["./export/subnet%20s.onnx"]


def test_page_shows_every_fact_config_and_file(report: Report) -> None:
    html = render(report)
    text = re.sub(r"<[^>]*>", "", html)
    assert "300, 32x32" in text
    assert "gancompress search runs/x --macs 2.6G" in text
    assert "export/subnet s.onnx" in text
    assert all(trial.config in text for trial in report.trials)


def test_every_point_has_a_tooltip_with_config_macs_and_score(report: Report) -> None:
    page = Page(render(report))
    tips = page.inside("title")[1:]
    assert len(tips) == len(page.all("circle")) == 2 + 2 + 1  # trials, front, chosen
    assert "24_8\n7.00 G MACs\nFID 47.00" in tips
    assert "subnet S\n16_8\n5.33 G MACs\nFID 43.20" in tips


def test_plot_marks_lie_inside_and_better_scores_of_fewer_macs_lie_at_the_corner(
    report: Report,
) -> None:
    circles = Page(render(report)).all("circle")
    places = [(float(c["cx"][:-1]), float(c["cy"][:-1])) for c in circles]  # type: ignore[index]
    assert all(0 < x < 100 and 0 < y < 100 for x, y in places)
    small, large = places[2], places[3]
    assert small[0] < large[0]
    assert small[1] < large[1]  # the lower FID is further down
    assert places[4] == small  # the chosen subnet stands where its trial does


@pytest.mark.parametrize(("factor", "expected"), [(7.9, False), (8.1, True)])
def test_macs_axis_is_logarithmic_above_a_range_of_eight(
    report: Report, factor: float, expected: bool
) -> None:
    trials = [Trial("a", 1_000_000_000, 2.0), Trial("b", round(factor * 1e9), 1.0)]
    html = render(replace(report, rows=[], trials=trials, front=trials))
    assert ("logarithmic" in html) is expected


@pytest.mark.parametrize("macs", [[1, 1_000_000_000_000], [999, 1001], [7, 7], [10**6, 10**9]])
@pytest.mark.parametrize("scores", [[0.0, 0.0], [-1.0, 1e6], [0.8123, 0.8124], [1e-9, 2e-9]])
def test_axes_have_one_to_six_ticks_for_any_range(
    report: Report, macs: list[int], scores: list[float]
) -> None:
    trials = [Trial(f"{m}_{s}", m, s) for m, s in zip(macs, scores, strict=True)]
    labels = re.findall(
        r'<text x="[^"]*"[^>]*text-anchor="(\w+)">([^<]*)</text>',
        render(replace(report, rows=[], trials=trials, front=[])),
    )
    for anchor in ("middle", "end"):
        ticks = [text for kind, text in labels if kind == anchor]
        assert 1 <= len(ticks) <= 6
        assert len(set(ticks)) == len(ticks)


def test_direction_is_written_on_plot_and_table(report: Report) -> None:
    assert render(report).count("lower is better") >= 2
    html = render(replace(report, lower_is_better=False))
    assert "FID (higher is better)" in html
    assert "lower is better" not in html


def test_points_without_a_finite_score_are_counted_not_drawn(report: Report) -> None:
    broken = [Trial("8_8", 10, float("nan")), Trial("8_9", 10, float("inf"))]
    html = render(replace(report, trials=[*report.trials, *broken]))
    assert len(Page(html).all("circle")) == 5
    assert "for want of a finite score: 2" in html


def test_embedded_images_equal_the_tensors(report: Report) -> None:
    images = Page(render(report)).all("img")
    expected = [pixels for row in report.images for pixels in row.images.values()]
    assert len(images) == len(expected)
    for image, pixels in zip(images, expected, strict=True):
        assert torch.equal(decode(image["src"]), pixels)
    assert images[1]["alt"] == "cat.png: subnet S"


@pytest.mark.parametrize(
    ("height", "width", "shown"),
    [
        (32, 32, (128, 128)),
        (50, 100, (100, 200)),
        (127, 127, (254, 254)),
        (128, 128, (128, 128)),
        (200, 150, (200, 150)),
        (300, 600, (128, 256)),
        (2, 16400, (1, 256)),
    ],
)
def test_images_are_shown_between_128_and_256_pixels(
    report: Report, height: int, width: int, shown: tuple[int, int]
) -> None:
    pixels = picture(0, height, width)
    html = render(replace(report, images=[ImageRow("x", {"input": pixels})]))
    (image,) = Page(html).all("img")
    assert (image["height"], image["width"]) == (str(shown[0]), str(shown[1]))
    assert (image.get("class") == "small") is (max(height, width) < 128)
    assert torch.equal(decode(image["src"]), pixels)


def test_image_heads_carry_macs_and_absent_images_leave_a_gap(report: Report) -> None:
    images = [*report.images, ImageRow("owl.png", {"truth": picture(9)})]
    html = render(replace(report, images=images))
    assert "subnet S<small>5.33 G MACs</small>" in html
    grid = html[html.index('class="pictures"') :]
    assert grid.count("<td>&ndash;</td>") == 2 + 2  # truth twice, then input and subnet S


def test_tables_name_their_rows_and_columns(report: Report) -> None:
    heads = Page(render(report)).all("th")
    assert all(head.get("scope") in ("col", "row", "rowgroup") for head in heads)


def test_ratios_compare_with_the_teacher(report: Report) -> None:
    html = render(report)
    table = html[html.index("<h2>Teacher") : html.index("<h2>Images")]
    notes = Page(table[: table.index("</section>")].split("</h2>")[1]).inside("small")
    assert notes == ["lower is better", "33.5x fewer", "9.3x fewer", "9.5x fewer", "4.1x faster"]


def test_ratios_say_more_and_slower_and_nothing_when_equal() -> None:
    bigger = replace(SUBNET, params=11_378_179, macs=51_000_000_000, latency_ms=424.62)
    line = text_table([TEACHER, bigger]).splitlines()[2]
    assert "11.38 M  51.00 G  1.03x more" in line
    assert line.endswith("424.6  2.0x slower")


def test_markup_in_any_text_stays_text(report: Report) -> None:
    evil_row = replace(SUBNET, label=EVIL, config=EVIL, scores={EVIL: 1.0})
    html = render(
        Report(
            title=EVIL,
            facts={EVIL: EVIL, "command": EVIL},
            metric=EVIL,
            lower_is_better=True,
            rows=[evil_row],
            trials=[Trial(EVIL, 5, 1.0)],
            front=[Trial(EVIL, 6, 0.5)],
            images=[ImageRow(EVIL, {EVIL: picture(0)})],
            files={EVIL: f"javascript:{EVIL}"},
        )
    )
    page = Page(html)
    assert not page.all("script")
    assert "<script" not in html
    assert page.all("img")[0]["alt"] == f"{EVIL}: {EVIL}"
    assert (page.all("a")[0]["href"] or "").startswith("./javascript%3A")
    assert page.inside("h1") == [EVIL]


def test_links_never_leave_the_folder_for_another_host(report: Report) -> None:
    page = Page(render(replace(report, files={"x": "//host/a", "y": "a#b?c"})))
    assert [link["href"] for link in page.all("a")] == [".///host/a", "./a%23b%3Fc"]


def test_undecodable_file_names_do_not_stop_the_page(report: Report, tmp_path: Path) -> None:
    name = b"\xff.png".decode("utf-8", "surrogateescape")
    odd = replace(report, images=[ImageRow(name, {"input": picture(0)})], files={"x": name})
    write_report(odd, tmp_path / "report.html")
    assert 'href="./%FF.png">?.png<' in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_empty_lists_leave_their_sections_out(report: Report) -> None:
    def heads(**changes: object) -> list[str]:
        return Page(render(replace(report, **changes))).inside("h2")  # type: ignore[arg-type]

    plot, table, images, exported = heads()
    assert heads(front=[]) == [plot, table, images, exported]
    assert heads(trials=[]) == [plot, table, images, exported]
    assert heads(front=[], trials=[]) == [table, images, exported]
    assert heads(rows=[]) == [plot, images, exported]
    assert heads(images=[]) == [plot, table, exported]
    assert heads(images=[ImageRow("x", {})]) == [plot, table, exported]
    assert heads(front=[], trials=[], rows=[], images=[], files={}, facts={}) == []


def test_front_is_joined_in_order_and_listed(report: Report) -> None:
    html = render(report)
    path = html[html.index('<g class="path">') :]
    assert path[: path.index("</g>")].count("<line ") == len(report.front) - 1
    listed = html[html.index("<details>") : html.index("</details>")]
    assert listed.index("16_8") < listed.index("32_16")
    assert "24_8" not in listed


def test_writing_replaces_the_page_and_leaves_no_other_file(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "run" / "report.html"
    write_report(report, path)
    write_report(replace(report, title="Later"), path)
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
    assert path.read_bytes().decode("utf-8") == render(replace(report, title="Later"))


def test_same_report_gives_the_same_page(report: Report) -> None:
    assert render(report) == render(report)


def test_text_table_is_aligned() -> None:
    head, teacher, subnet = text_table([TEACHER, SUBNET]).splitlines()
    for line, label, macs, latency in (
        (teacher, "teacher", "49.55 G", "212.3"),
        (subnet, "subnet S", "5.33 G", "51.8"),
    ):
        assert line.startswith(label)
        assert line.index(macs) + len(macs) == head.index("MACs") + len("MACs")
        assert line.index(latency) + len(latency) == head.index("latency ms") + len("latency ms")
    assert subnet.index("16_8") == teacher.index("-") == head.index("config")
    assert "9.3x fewer" in subnet
    assert subnet.endswith("4.1x faster")
    assert "fewer" not in teacher


def test_text_table_leaves_out_what_nobody_measured() -> None:
    bare = [replace(row, scores={}, latency_ms=None) for row in (TEACHER, SUBNET)]
    table = text_table(bare)
    assert "latency" not in table
    assert all(line == line.rstrip() for line in table.splitlines())
    assert text_table([]) == ""


@pytest.mark.parametrize(
    ("params", "text"),
    [(87, "87"), (999, "999"), (99_996, "100.0 k"), (999_960, "1.00 M"), (340_123, "340.1 k")],
)
def test_counts_have_four_digits_and_a_unit(params: int, text: str) -> None:
    row = Row("x", "-", params, 1, 1, {}, None, None)
    assert text_table([row]).splitlines()[1].split(maxsplit=2)[2].startswith(f"{text}  ")
