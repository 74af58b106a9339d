"""Painting on the page of `gancompress demo`: tools, layers, and what is saved, in Chromium."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from bundles import coloured
from helpers import picture, write_image
from pages import Pixels, Site, Visit, levels, png, serve, untrained
from PIL import Image
from scipy import ndimage

from gancompress.demo.manifest import read_manifest

pytestmark = pytest.mark.slow

BLACK, WHITE = (0, 0, 0), (255, 255, 255)
LEFT, RIGHT = (0.3, 0.5), (0.7, 0.5)  # in the two boxes of a drawing


@pytest.fixture(scope="module")
def paintings(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A generator that takes coloured drawings, at 128x128."""
    folder = tmp_path_factory.mktemp("paintings")
    for number in range(3):
        write_image(folder / "images" / f"{number}.png", coloured(number, 128))
    yield from serve(untrained(folder, "sketch", 128))


@pytest.fixture
def blank(visit: Callable[..., Visit], paintings: Site) -> Visit:
    """The page with an empty pad."""
    seen = visit(paintings)
    seen.page.click("#clear")
    return seen


def tap(seen: Visit, x: float, y: float) -> None:
    """Click at a point given in shares of the pad's side."""
    seen.stroke((x, y))


def drawn(seen: Visit) -> Pixels:
    """(128, 128, 3): what the network gets."""
    return seen.saved("#save-input")


def is_colour(pixels: Pixels, colour: tuple[int, int, int]) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = (pixels == colour).all(-1)
    return found


def rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def choose(seen: Visit, colour: str) -> None:
    """Take any colour, as its picker gives it."""
    seen.page.fill("#any-colour", colour)


def box(seen: Visit, gap: float = 0) -> None:
    """An outline from 0.25 to 0.75, open at the top by `gap` pixels of the grid."""
    half = gap / 256
    seen.page.click("#pen")
    corners = [(0.25, 0.25), (0.25, 0.75), (0.75, 0.75), (0.75, 0.25)]
    seen.stroke((0.5 - half, 0.25), *corners, (0.5 + half, 0.25))


# -- the bucket ---------------------------------------------------------------------------------


def test_bucket_fills_exactly_the_region_that_lines_enclose(blank: Visit) -> None:
    box(blank)
    lines = is_colour(drawn(blank), BLACK)
    choose(blank, "#f2383f")
    assert blank.page.get_attribute("#bucket", "aria-checked") == "true"
    tap(blank, 0.5, 0.5)
    found = drawn(blank)
    regions, count = ndimage.label(~lines)
    assert count == 2
    assert np.array_equal(is_colour(found, (0xF2, 0x38, 0x3F)), regions == regions[64, 64])
    assert np.array_equal(is_colour(found, BLACK), lines)


@pytest.mark.parametrize("gap", [2, 3])
def test_small_gaps_in_an_outline_hold_the_paint(blank: Visit, gap: int) -> None:
    box(blank, gap + 1)
    lines = is_colour(drawn(blank), BLACK)
    _, count = ndimage.label(~lines)
    assert count == 1, "there should be a gap"
    choose(blank, "#00aa55")
    tap(blank, 0.3, 0.7)
    filled = is_colour(drawn(blank), (0, 0xAA, 0x55))
    # the whole inside, and at most the gap itself beside it
    closed = lines.copy()
    rows, columns = np.nonzero(lines)
    closed[rows.min(), columns.min() : columns.max() + 1] = True
    inside = ndimage.binary_fill_holes(closed) & ~closed
    assert filled[inside].all()
    assert (filled & ~inside).sum() <= 2 * gap


def test_wide_openings_let_the_paint_out(blank: Visit) -> None:
    box(blank, 16)
    choose(blank, "#00aa55")
    tap(blank, 0.5, 0.5)
    found = drawn(blank)
    assert np.array_equal(is_colour(found, (0, 0xAA, 0x55)), ~is_colour(found, BLACK))


def test_regions_smaller_than_a_gap_are_filled(blank: Visit) -> None:
    """A triangle of a few pixels."""
    blank.page.click("#pen")
    blank.stroke((0.5, 0.5), (0.53, 0.53), (0.47, 0.53), (0.5, 0.5))
    lines = is_colour(drawn(blank), BLACK)
    inside = ndimage.binary_fill_holes(lines) & ~lines
    assert 0 < inside.sum() < 16
    row, column = (int(axis[0]) for axis in np.nonzero(inside))
    choose(blank, "#3f86f0")
    tap(blank, (column + 0.5) / 128, (row + 0.5) / 128)
    regions, _ = ndimage.label(~lines)
    expected = regions == regions[row, column]
    assert np.array_equal(is_colour(drawn(blank), (0x3F, 0x86, 0xF0)), expected)


@pytest.mark.parametrize("spot", [(0.5, 0.25), (0.26, 0.5)])
def test_bucket_on_a_line_fills_beside_it(blank: Visit, spot: tuple[float, float]) -> None:
    box(blank)
    lines = is_colour(drawn(blank), BLACK)
    tap_colour = "#9bd045"
    choose(blank, tap_colour)
    tap(blank, *spot)
    found = drawn(blank)
    assert np.array_equal(is_colour(found, BLACK), lines)
    assert is_colour(found, rgb(tap_colour)).sum() > 1000


def test_a_narrow_passage_is_filled_with_the_rooms_at_its_ends(blank: Visit) -> None:
    """Two rooms with a corridor that is four pixels wide between them."""
    blank.page.click("#pen")
    for sign in (-1, 1):
        wall = 0.5 + sign * 0.02
        blank.stroke((0.2, 0.5 + sign * 0.2), (0.4, 0.5 + sign * 0.2), (0.45, wall), (0.55, wall))
        blank.stroke((0.55, wall), (0.6, 0.5 + sign * 0.2), (0.8, 0.5 + sign * 0.2))
    blank.stroke((0.2, 0.3), (0.2, 0.7))
    blank.stroke((0.8, 0.3), (0.8, 0.7))
    regions, _ = ndimage.label(~is_colour(drawn(blank), BLACK))
    choose(blank, "#8b5fc7")
    tap(blank, 0.3, 0.5)
    filled = is_colour(drawn(blank), rgb("#8b5fc7"))
    room = regions == regions[64, 38]
    assert not filled[~room].any()
    assert filled[:, :64].sum() == room[:, :64].sum()


def test_on_the_screen_a_filling_reaches_its_lines_and_goes_no_farther(blank: Visit) -> None:
    blank.page.click("#pen")
    around = np.linspace(0, 2 * np.pi, 60)
    blank.stroke(*((0.5 + 0.3 * np.cos(a), 0.5 + 0.3 * np.sin(a)) for a in around))
    choose(blank, "#ff0000")
    tap(blank, 0.5, 0.5)
    colours, lines = blank.pixels("paint"), blank.pixels("pad")
    side = len(colours)
    rows, columns = (np.indices((side, side)) + 0.5) / side - 0.5
    distance = np.hypot(rows, columns)
    pixel = 1 / 128
    assert np.abs(distance[lines[..., 3] > 128] - 0.3).max() < pixel
    clear = lines[..., 3] == 0
    red = is_colour(colours[..., :3], (255, 0, 0))
    assert red[clear & (distance < 0.3)].all()
    assert is_colour(colours[..., :3], WHITE)[clear & (distance > 0.3)].all()


# -- layers -------------------------------------------------------------------------------------


def test_paint_goes_under_the_lines_and_the_eraser_takes_both(blank: Visit) -> None:
    page = blank.page
    box(blank)
    lines = is_colour(drawn(blank), BLACK)
    choose(blank, "#f2383f")
    page.click("#brush")
    blank.stroke((0.1, 0.6), (0.9, 0.6))
    found = drawn(blank)
    assert np.array_equal(is_colour(found, BLACK), lines)
    assert is_colour(found, (0xF2, 0x38, 0x3F)).sum() > 500
    page.click("#eraser")
    blank.stroke((0.1, 0.6), (0.9, 0.6))
    erased = drawn(blank)
    assert not is_colour(erased, (0xF2, 0x38, 0x3F)).any()
    assert 0 < is_colour(erased, BLACK).sum() < lines.sum()
    assert lines[is_colour(erased, BLACK)].all()


def test_black_paint_is_no_line(blank: Visit) -> None:
    choose(blank, "#000000")
    blank.page.click("#brush")
    blank.stroke((0.3, 0.5), (0.7, 0.5))
    found = drawn(blank)
    assert not is_colour(found, BLACK).any()
    assert found.min() <= 1


@pytest.mark.parametrize("number", [0, 1, 2])
def test_examples_load_as_lines_over_colours(
    visit: Callable[..., Visit], paintings: Site, number: int
) -> None:
    seen = visit(paintings)
    example = paintings.manifest.examples[number]
    pixels = np.array(Image.open(paintings.bundle / example.file).convert("RGB"))
    seen.page.locator("#examples button").nth(number).click()
    seen.wait(lambda: np.array_equal(drawn(seen), pixels), "the example")
    lines = is_colour(pixels, BLACK)
    choose(seen, "#123456")
    tap(seen, *LEFT)
    painted = drawn(seen)
    regions, _ = ndimage.label(~lines)
    left = regions == regions[64, 38]
    assert np.array_equal(is_colour(painted, (0x12, 0x34, 0x56)), left)
    assert np.array_equal(painted[~left], pixels[~left])
    seen.page.click("#brush")
    seen.stroke((0.1, 0.5), (0.9, 0.5))
    assert np.array_equal(is_colour(drawn(seen), BLACK), lines)


# -- undo ---------------------------------------------------------------------------------------


def test_fillings_and_strokes_are_undone_and_done_again_one_by_one(blank: Visit) -> None:
    page = blank.page
    box(blank)
    states, shown = [drawn(blank)], [blank.pixels("paint")]
    for colour, spot in (("#f2383f", (0.5, 0.5)), ("#3f86f0", (0.1, 0.1)), ("#9bd045", (0.5, 0.6))):
        choose(blank, colour)
        tap(blank, *spot)
        states.append(drawn(blank))
        shown.append(blank.pixels("paint"))
    page.click("#brush")
    blank.stroke((0.2, 0.4), (0.8, 0.4))
    states.append(drawn(blank))
    assert len({state.tobytes() for state in states}) == len(states)
    for number in reversed(range(len(states) - 1)):
        page.click("#undo")
        assert np.array_equal(drawn(blank), states[number])
        assert np.array_equal(blank.pixels("paint"), shown[number])
    for state in states[1:]:
        page.keyboard.press("Control+Shift+z")
        assert np.array_equal(drawn(blank), state)


def test_filling_with_the_same_colour_is_nothing_to_undo(blank: Visit) -> None:
    page = blank.page
    choose(blank, "#f2383f")
    for _ in range(3):
        tap(blank, 0.5, 0.5)
    page.click("#undo")
    assert page.is_visible("#hint")


# -- colours and sizes --------------------------------------------------------------------------


def test_dropper_takes_a_colour_from_the_drawing_and_from_examples(
    visit: Callable[..., Visit], paintings: Site
) -> None:
    seen = visit(paintings)
    page = seen.page
    before = drawn(seen)
    page.click("#dropper")
    tap(seen, *LEFT)
    assert rgb(page.input_value("#any-colour")) == tuple(before[64, 38])
    assert page.get_attribute("#bucket", "aria-checked") == "true"
    tap(seen, *RIGHT)
    changed = drawn(seen)
    assert np.array_equal(changed[64, 90], before[64, 38])
    example = np.array(Image.open(paintings.bundle / paintings.manifest.examples[1].file))
    image = page.locator("#examples img").nth(1)
    page.click("#dropper")
    side = image.bounding_box()["width"]
    image.click(position={"x": 0.7 * side, "y": 0.5 * side})
    assert rgb(page.input_value("#any-colour")) == tuple(example[64, 90])
    assert np.array_equal(drawn(seen), changed), "the example was loaded"


def test_swatches_and_the_picker_choose_what_is_painted(blank: Visit) -> None:
    page, palette = blank.page, read_manifest(blank.site.bundle).pad.colours
    swatches = page.locator("#swatches button")
    assert swatches.count() == len(palette) == 16
    swatches.nth(2).click()
    tap(blank, 0.5, 0.5)
    assert is_colour(drawn(blank), rgb(palette[2])).all()
    choose(blank, "#123456")
    assert page.locator("#swatches [aria-checked=true]").count() == 0
    tap(blank, 0.5, 0.5)
    assert is_colour(drawn(blank), (0x12, 0x34, 0x56)).all()
    choose(blank, palette[5])
    assert swatches.nth(5).get_attribute("aria-checked") == "true"


@pytest.mark.parametrize("tool", ["pen", "brush", "eraser"])
def test_three_sizes_are_seen_before_and_after(blank: Visit, tool: str) -> None:
    page = blank.page
    choose(blank, "#3f86f0")
    if tool == "eraser":
        tap(blank, 0.5, 0.5)
    page.click(f"#{tool}")
    paper = drawn(blank)[0, 0] if tool == "eraser" else WHITE
    heights, rings = [], []
    for number in range(3):
        page.locator("#sizes button").nth(number).click()
        row = 0.2 + 0.3 * number
        blank.stroke((0.3, row), (0.7, row))
        rings.append(page.locator("#cursor").bounding_box()["width"])
        column = drawn(blank)[:, 64]
        start, end = round((row - 0.14) * 128), round((row + 0.14) * 128)
        heights.append(int((column[start:end] != paper).any(-1).sum()))
    fine, medium, thick = heights
    assert 1 <= fine < medium < thick
    if tool == "pen":
        assert heights == [1, 2, 4]
    assert rings == sorted(rings)
    assert rings[0] < rings[2]
    dots = [each.bounding_box()["width"] for each in page.locator("#sizes i").all()]
    assert dots == sorted(set(dots))


def test_every_tool_works_with_the_keyboard(blank: Visit) -> None:
    page = blank.page
    page.focus("#pad")
    page.keyboard.press("f")
    page.keyboard.press("Space")
    first = rgb(blank.site.manifest.pad.colours[0])
    assert is_colour(drawn(blank), first).all()
    page.focus("#pad")
    page.keyboard.press("p")
    page.keyboard.press("]")
    page.keyboard.press("Space")
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    assert is_colour(drawn(blank), BLACK).sum() > 20
    page.focus("#pad")
    page.keyboard.press("e")
    page.keyboard.press("Space")
    page.keyboard.press("Space")
    assert is_colour(drawn(blank), WHITE).sum() > 20
    page.focus("#pen")
    names = []
    for _ in range(5):
        names.append(page.evaluate("document.activeElement.id"))
        assert page.get_attribute(f"#{names[-1]}", "aria-checked") == "true" or len(names) == 1
        page.keyboard.press("ArrowRight")
    assert names == ["pen", "brush", "bucket", "dropper", "eraser"]
    page.focus("#swatches button")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.getAttribute('aria-checked')") == "true"
    page.keyboard.press("Tab")
    for control in page.locator("button:visible, input:visible, select:visible").all():
        name = control.get_attribute("aria-label") or control.inner_text()
        assert name.strip(), control


# -- files --------------------------------------------------------------------------------------


def test_saved_pictures_are_large_and_named_after_the_model(
    visit: Callable[..., Visit], paintings: Site
) -> None:
    seen = visit(paintings)
    made = Image.fromarray(seen.pixels()[..., :3]).resize((512, 512), Image.Resampling.BICUBIC)
    with seen.page.expect_download() as waited:
        seen.page.click("#save")
    assert waited.value.suggested_filename == "tiny-tiny.png"
    alone = np.array(Image.open(waited.value.path()).convert("RGB"))
    assert alone.shape == (512, 512, 3)
    assert levels(alone, np.array(made)) <= 1
    both = seen.saved("#save-both")
    assert both.shape == (512, 1024, 3)
    assert np.array_equal(both[:, 512:], alone)
    assert levels(both[256:257, 150:151], drawn(seen)[64:65, 37:38]) <= 1


@pytest.mark.parametrize("kind", ["photo", "drawing"])
def test_a_dropped_photo_is_told_from_a_drawing_and_taken_all_the_same(
    visit: Callable[..., Visit], paintings: Site, kind: str
) -> None:
    seen = visit(paintings)
    grain = np.random.default_rng(0).integers(0, 9, (256, 256, 3), dtype=np.uint8)
    pixels = coloured(9, 256) if kind == "drawing" else picture(9, 256) // 2 + grain
    before = drawn(seen)
    seen.drop(f"{kind}.png", png(pixels))
    seen.wait(lambda: not np.array_equal(drawn(seen), before), "the picture")
    assert seen.page.is_visible("#message") == (kind == "photo")
    if kind == "photo":
        assert "expects a drawing" in seen.page.inner_text("#message-text")
        seen.page.click("#dismiss")
    before, count = drawn(seen), seen.pictures()
    choose(seen, "#9bd045")
    tap(seen, 0.5, 0.1)
    assert not np.array_equal(drawn(seen), before)
    seen.wait(lambda: seen.pictures() > count, "a picture")


# -- where it runs ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(360, 740), (390, 844), (1280, 800)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_painting_fits_a_phone_and_a_desk(
    visit: Callable[..., Visit], paintings: Site, size: tuple[int, int], scheme: str
) -> None:
    width, height = size
    viewport = {"width": width, "height": height}
    seen = visit(paintings, viewport=viewport, has_touch=width < 500, color_scheme=scheme)
    page = seen.page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [page.locator(name).bounding_box() for name in ("#pad", "#frame")]
    assert all(box["width"] >= 250 and box["x"] + box["width"] <= width for box in boxes)
    assert boxes[0]["y"] + boxes[0]["height"] <= height
    if height > 740:
        assert boxes[1]["y"] + boxes[1]["height"] <= height
    for control in page.locator("#drawing button:visible, #any, #result button:visible").all():
        area = control.bounding_box()
        assert min(area["width"], area["height"]) >= 40, control.get_attribute("id")
