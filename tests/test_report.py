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
from gancompress.report import (
    Front,
    ImageRow,
    Report,
    Row,
    ScoredSubnet,
    render,
    text_table,
    write_report,
)

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
    front = [ScoredSubnet("16_8", 5_327_956_989, 43.2), ScoredSubnet("32_16", 9_000_000_000, 40.5)]
    trials = [
        *front,
        ScoredSubnet("24_8", 7_000_000_000, 47.0),
        ScoredSubnet("32_8", 8_000_000_000, 46.25),
    ]
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
    trials = [ScoredSubnet("a", 1_000_000_000, 2.0), ScoredSubnet("b", round(factor * 1e9), 1.0)]
    html = render(replace(report, rows=[], trials=trials, front=trials))
    assert ("logarithmic" in html) is expected


@pytest.mark.parametrize("macs", [[1, 1_000_000_000_000], [999, 1001], [7, 7], [10**6, 10**9]])
@pytest.mark.parametrize("scores", [[0.0, 0.0], [-1.0, 1e6], [0.8123, 0.8124], [1e-9, 2e-9]])
def test_axes_have_one_to_six_ticks_for_any_range(
    report: Report, macs: list[int], scores: list[float]
) -> None:
    trials = [ScoredSubnet(f"{m}_{s}", m, s) for m, s in zip(macs, scores, strict=True)]
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
    broken = [ScoredSubnet("8_8", 10, float("nan")), ScoredSubnet("8_9", 10, float("inf"))]
    html = render(replace(report, trials=[*report.trials, *broken]))
    assert len(Page(html).all("circle")) == 5
    assert "Omitted (missing a finite score): 2" in html


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
            trials=[ScoredSubnet(EVIL, 5, 1.0)],
            front=[ScoredSubnet(EVIL, 6, 0.5)],
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


PHONE, LAPTOP = "ms on phone", "ms on laptop"
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@pytest.fixture
def devices(report: Report) -> Report:
    """Four trials with costs on two devices; the front on the phone is another one."""
    costs = {"16_8": (90.0, 0.5), "32_16": (70.0, 1.0), "24_8": (31.25, 2.0), "32_8": (80.0, 9.0)}

    def with_costs(trial: ScoredSubnet) -> ScoredSubnet:
        phone, laptop = costs[trial.config]
        return replace(trial, costs={PHONE: phone, LAPTOP: laptop, "params": 340_123.0})

    trials = {trial.config: with_costs(trial) for trial in report.trials}
    fronts = [
        Front(PHONE, [trials["24_8"], trials["32_16"]]),
        Front(LAPTOP, [trials["16_8"], trials["32_16"]]),
    ]
    seen = {"input": picture(50)}
    previews = {
        config: seen | {"this subnet": picture(60 + index)}
        for index, config in enumerate(("24_8", "32_16", "16_8"))
    }
    return replace(
        report,
        trials=list(trials.values()),
        front=[trials["16_8"], trials["32_16"]],
        fronts=fronts,
        previews=previews,
    )


def panels(html: str) -> dict[str, str]:
    """Id to content of every panel, in order."""
    return dict(re.findall(r'<article class="panel" id="([^"]*)"(.*?)</article>', html, re.S))


def plots(html: str) -> list[str]:
    return re.findall(r'<svg role="(?:group|img)" aria-label="Scatter.*?</svg>', html, re.S)


def test_each_previewed_trial_has_one_panel_and_a_link_from_its_dot_in_every_plot(
    devices: Report,
) -> None:
    html = render(devices)
    Page(html)
    assert list(panels(html)) == ["subnet-16_8", "subnet-24_8", "subnet-32_16"]  # by MACs
    assert len(plots(html)) == 3
    for drawing in plots(html):
        linked = re.findall(r'<a href="#([^"]*)"[^>]*><circle [^>]*><title>([^<]*)<', drawing)
        assert {name for name, _ in linked} == set(panels(html))
        for name, tip in linked:
            assert name.removeprefix("subnet-") in tip.split("\n")
        # The only trial without previews is a dot that leads nowhere.
        assert len(re.findall(r"^<circle .*32_8$", drawing, re.M)) == 1


def test_every_link_inside_the_page_has_one_target(devices: Report) -> None:
    page = Page(render(devices))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    inside = [href[1:] for _, a in page.elements if (href := a.get("href") or "").startswith("#")]
    assert set(inside) <= set(ids)
    assert {label["for"] for label in page.all("label")} <= set(ids)


def test_tooltips_have_every_cost_with_its_unit(devices: Report) -> None:
    tips = Page(render(devices)).inside("title")
    lines = "24_8\n7.00 G MACs\n31.25 ms on phone\n2.000 ms on laptop\n340.1 k params\nFID 47.00"
    assert tips.count(lines) == 3  # once in each plot


def test_panel_has_config_costs_score_and_images(devices: Report) -> None:
    panel = panels(render(devices))["subnet-24_8"]
    assert "<h3><code>24_8</code></h3>" in panel
    cells = re.findall(r'<th scope="row">([^<]*)</th><td>([^<]*)</td>', panel)
    assert cells == [
        ("MACs", "7.00 G"),
        (PHONE, "31.25"),
        (LAPTOP, "2.000"),
        ("params", "340.1 k"),
        ("FID", "47.00"),
    ]
    (image,) = re.findall(r'<img [^>]*src="([^"]*)" alt="24_8: this subnet"', panel)
    assert torch.equal(decode(image), devices.previews["24_8"]["this subnet"])
    assert re.findall("<figcaption>([^<]*)<", panel) == ["input", "this subnet"]
    assert '<a href="#plots">Close</a>' in panel


def test_panel_links_to_its_neighbours_along_each_front(devices: Report) -> None:
    shown = panels(render(devices))
    neighbours = {
        name: re.findall(r'<a href="#(subnet[^"]*)" title="[^"]*">([^<]*)</a>', panel)
        for name, panel in shown.items()
    }
    assert neighbours == {
        "subnet-16_8": [("subnet-32_16", "9.00 G &rarr;"), ("subnet-32_16", "1.000 &rarr;")],
        "subnet-24_8": [("subnet-32_16", "70.00 &rarr;")],
        "subnet-32_16": [
            ("subnet-16_8", "&larr; 5.33 G"),
            ("subnet-24_8", "&larr; 31.25"),
            ("subnet-16_8", "&larr; 0.500"),
        ],
    }


def test_neighbours_without_images_are_passed_over(devices: Report) -> None:
    first, last = devices.front
    middle = replace(devices.trials[3], score=42.0)  # 32_8, which has no panel
    html = render(replace(devices, front=[first, middle, last], fronts=[]))
    assert 'title="32_16">9.00 G &rarr;</a>' in panels(html)["subnet-16_8"]


def test_one_plot_shows_at_a_time_and_each_has_its_button(devices: Report) -> None:
    html = render(devices)
    page = Page(html)
    assert page.inside("label") == ["MACs", PHONE, LAPTOP]
    radios = page.all("input")
    assert {radio["type"] for radio in radios} == {"radio"}
    assert len({radio["name"] for radio in radios}) == 1
    assert ["checked" in radio for radio in radios] == [True, False, False]
    assert [radio["id"] for radio in radios] == [label["for"] for label in page.all("label")]


def test_plot_of_a_device_places_trials_by_its_cost_and_joins_its_front(devices: Report) -> None:
    phone = plots(render(devices))[1]
    assert f'text-anchor="middle">{PHONE}</text>' in phone
    assert phone[phone.index('class="path"') :].split("</g>")[0].count("<line ") == 1
    front = phone[phone.index('class="front"') :].split("</g>")[0]
    assert [config for config in ("24_8", "32_16", "16_8") if f"<title>{config}\n" in front] == [
        "24_8",
        "32_16",
    ]
    places = {
        tip.split("\n")[0]: float(x)
        for x, tip in re.findall(r'<circle cx="([\d.]+)%[^>]*><title>([^<]*)<', phone)
    }
    by_cost = sorted(devices.trials, key=lambda trial: trial.costs[PHONE])
    xs = [places[trial.config] for trial in by_cost]
    assert xs == sorted(xs)
    # A linear axis: equal distances for equal milliseconds.
    a, b, c, _ = xs
    assert (c - b) / (b - a) == pytest.approx((80 - 70) / (70 - 31.25), abs=2e-3)


@pytest.mark.parametrize(
    ("costs", "title", "ticks"),
    [
        ([0.5, 9.0], "ms on x, logarithmic", ["0.5", "1", "2", "5", "10"]),
        ([10.0, 31.25], "ms on x", ["10", "15", "20", "25", "30"]),
        ([1.2, 1.4], "ms on x", ["1.20", "1.25", "1.30", "1.35", "1.40"]),
        ([340_123, 1_300_000], "ms on x", ["400 k", "600 k", "800 k", "1.0 M", "1.2 M", "1.4 M"]),
        (
            [20_000, 9_000_000],
            "ms on x, logarithmic",
            ["30 k", "100 k", "300 k", "1 M", "3 M", "10 M"],
        ),
    ],
)
def test_axis_of_a_cost_has_round_ticks_in_its_unit(
    report: Report, costs: list[float], title: str, ticks: list[str]
) -> None:
    trials = [
        ScoredSubnet(f"{i}", 10**9, 2.0 - i, {"ms on x": cost}) for i, cost in enumerate(costs)
    ]
    html = render(
        replace(report, rows=[], trials=trials, front=trials[:1], fronts=[Front("ms on x", trials)])
    )
    drawing = plots(html)[1]
    middle = re.findall(r'text-anchor="middle">([^<]*)</text>', drawing)
    assert middle == [*ticks, title]


def test_trials_without_the_cost_of_a_plot_are_counted_not_drawn(devices: Report) -> None:
    bad = [
        ScoredSubnet("1", 10**9, 44.0),
        ScoredSubnet("2", 10**9, 44.0, {PHONE: float("nan"), LAPTOP: 1.0}),
    ]
    html = render(replace(devices, trials=[*devices.trials, *bad]))
    assert f"missing a finite score or {PHONE}): 2" in html
    assert f"missing a finite score or {LAPTOP}): 1" in html
    assert [drawing.count("<title>1\n") for drawing in plots(html)] == [1, 0, 0]


def test_a_front_that_nothing_can_be_drawn_of_has_no_plot(devices: Report) -> None:
    page = Page(render(replace(devices, fronts=[Front("ms on nothing", [])])))
    assert not page.all("input")


def test_trials_given_up_early_are_drawn_apart_and_marked_as_estimates(report: Report) -> None:
    last = replace(report.trials[-1], complete=False)
    html = render(replace(report, trials=[*report.trials[:-1], last]))
    (drawing,) = plots(html)
    partial = drawing[drawing.index('class="partial"') :].split("</g>")[0]
    assert re.findall("<title>([^<]*)<", partial) == [
        "32_8\n8.00 G MACs\nFID about 46.25 (given up early)"
    ]
    assert "1 given up early: the score is an estimate" in html
    assert "1 evaluated, not on the front" in html
    assert "given up early" not in render(report)


def test_same_pixels_are_embedded_once(devices: Report) -> None:
    html = render(devices)
    page = Page(html)
    (shared,) = page.all("image")
    assert torch.equal(decode(shared["href"]), devices.previews["16_8"]["input"])
    assert [use["href"] for use in page.all("use")] == [f"#{shared['id']}"] * 3
    assert sum('aria-label="input"' in panel for panel in panels(html).values()) == 3
    alone = render(replace(devices, previews={"16_8": devices.previews["16_8"]}))
    assert "<use" not in alone
    assert 'alt="16_8: input"' in alone


@pytest.mark.parametrize(("side", "lossless"), [(64, True), (128, True), (129, False)])
def test_only_previews_above_128_pixels_lose_anything_and_the_page_says_so(
    devices: Report, side: int, lossless: bool
) -> None:
    ramp = torch.linspace(0, 255, side).round().to(torch.uint8)
    pixels = torch.stack(
        (ramp.expand(side, side), ramp.expand(side, side).T, picture(3, side, side)[0])
    )
    html = render(replace(devices, images=[], previews={"16_8": {"out": pixels}}))
    (image,) = Page(html).all("img")
    decoded = decode(image["src"])
    assert decoded.shape == pixels.shape
    assert torch.equal(decoded, pixels) is lossless
    assert ("WebP of quality 90" in html) is not lossless
    assert ("embedded without loss" in html) is lossless


def test_panels_and_plots_need_no_script_and_keep_the_policy(devices: Report) -> None:
    html = render(devices)
    page = Page(html)
    assert not page.all("script")
    assert not [name for _, a in page.elements for name in a if name.startswith("on")]
    assert [m["content"] for m in page.all("meta") if "http-equiv" in m] == [POLICY]
    assert not re.search(r"""url\(|@import|src=(?!"data:)|https?://""", html)
    used = {href for _, a in page.elements if (href := a.get("href"))}
    assert all(href.startswith(("#", "./", "data:")) for href in used)


def test_markup_in_configs_costs_and_labels_of_panels_stays_text(report: Report) -> None:
    trials = [
        ScoredSubnet(f"{EVIL}{i}", 5 + i, 1.0 - i, {EVIL: 2.0 + i}, complete=i < 2)
        for i in range(3)
    ]
    html = render(
        replace(
            report,
            metric=EVIL,
            trials=trials,
            front=trials[:2],
            fronts=[Front(EVIL, trials[:2])],
            previews={trial.config: {EVIL: picture(1), "x": picture(2)} for trial in trials},
        )
    )
    page = Page(html)
    assert not page.all("script")
    assert "<script" not in html
    assert page.inside("label") == ["MACs", EVIL]
    assert list(panels(html)) == ["subnet-no-0", "subnet-no-1", "subnet-no-2"]
    assert {a["aria-label"] for a in page.all("article")} == {f"Subnet {EVIL}{i}" for i in range(3)}
    style = page.inside("style")[0]
    assert "alert" not in style
    assert style.count(":target) .plot a[href=") == 3


def test_pages_without_previews_and_fronts_have_neither_panels_nor_buttons(report: Report) -> None:
    page = Page(render(report))
    for tag in ("article", "input", "label", "use", "image"):
        assert not page.all(tag)
    assert not [a for _, a in page.elements if "id" in a]
    assert page.all("svg")[0]["role"] == "img"
    assert "previous on front" not in "".join(page.inside("th"))


def test_previews_of_unknown_configs_are_not_shown(report: Report) -> None:
    odd = replace(report, previews={"8_8": {"x": picture(0)}, "16_8": {}})
    assert render(odd) == render(report)


def test_trials_are_hashed_without_their_costs() -> None:
    a = ScoredSubnet("16_8", 5, 1.0, {PHONE: 2.0})
    assert len({a, ScoredSubnet("16_8", 5, 1.0, {PHONE: 2.0}), ScoredSubnet("16_8", 5, 1.0)}) == 2


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
