"""The page of `gancompress demo` in headless Chromium: what a visitor does, and what is seen."""

from __future__ import annotations

import functools
import http.server
import io
import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import drawing
from helpers import picture, write_image
from pages import (
    FRONT,
    PATIENCE,
    Site,
    Visit,
    levels,
    png,
    serve,
    translated,
    untrained,
)
from PIL import Image

from gancompress.cli.main import main
from gancompress.demo.manifest import read_manifest
from gancompress.errors import ConfigError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def front(browser: Any) -> Iterator[Site]:
    """The front that ships."""
    yield from serve(FRONT)


@pytest.fixture(scope="module")
def sketches(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A generator that takes black lines on white, at 64x64."""
    folder = tmp_path_factory.mktemp("sketches")
    for number in range(3):
        write_image(folder / "images" / f"{number}.png", drawing(number, 64))
    yield from serve(untrained(folder, "sketch", 64))


@pytest.fixture(scope="module", params=[(1, 3), (3, 1)], ids=["from grey", "to grey"])
def greys(
    browser: Any, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Site]:
    """A generator from grey photos to coloured ones, or back, at 64x64."""
    folder = tmp_path_factory.mktemp("greys")
    for number in range(3):
        write_image(folder / "images" / f"{number}.png", picture(number, 64))
    yield from serve(untrained(folder, "photo", 64, request.param))


@pytest.fixture(scope="module")
def photos(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A generator of photos, at 64x64."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(3):
        write_image(folder / "images" / f"{number}.png", picture(number, 64))
    yield from serve(untrained(folder, "photo", 64))


def is_undisturbed(page: Any) -> bool:
    """Whether no error is shown; a busy machine may be told that it is slow."""
    return page.is_hidden("#message") or "too slow" in page.inner_text("#message-text")


def test_grey_pictures_equal_translate(
    visit: Callable[..., Visit], greys: Site, tmp_path: Path
) -> None:
    seen = visit(greys)
    seen.page.locator("#examples button").first.click()
    seen.settle()
    pixels = np.array(Image.open(greys.bundle / greys.manifest.examples[0].file).convert("RGB"))
    made = seen.pixels()[..., :3]
    assert levels(made, translated(greys, 0, pixels, tmp_path)) <= 2
    assert made.std() > 20
    assert bool((made == made[..., :1]).all()) == (greys.manifest.made == "grey")


# -- drawing ----------------------------------------------------------------------------------


def test_strokes_change_the_picture_which_equals_translate_on_the_same_pixels(
    visit: Callable[..., Visit], front: Site, tmp_path: Path
) -> None:
    seen = visit(front)
    assert seen.page.evaluate("crossOriginIsolated")
    seen.wait(lambda: "threads" in seen.page.inner_text("#note-speed"), "a measured speed")
    seen.page.click("#clear")
    seen.settle()
    assert seen.page.is_visible("#hint")
    before = seen.pictures()
    seen.stroke((0.2, 0.5), (0.5, 0.2), (0.8, 0.5), (0.5, 0.8), (0.2, 0.5))
    seen.wait(lambda: seen.pictures() > before, "a picture of the stroke")
    seen.settle()
    first = seen.pixels()
    seen.stroke((0.4, 0.5), (0.6, 0.5))
    seen.settle()
    assert levels(first, seen.pixels()) > 20
    assert not seen.page.is_visible("#hint")
    drawn = seen.saved("#save-input")
    assert drawn.shape == (front.manifest.pad.grid, front.manifest.pad.grid, 3)
    assert set(np.unique(drawn)) == {0, 255}
    index = int(seen.page.input_value("#slider"))
    found = seen.pixels()[..., :3]
    assert levels(found, translated(front, index, drawn, tmp_path)) <= 2


def test_every_example_and_model_equals_translate(
    visit: Callable[..., Visit], front: Site, tmp_path: Path
) -> None:
    seen = visit(front)
    examples = front.manifest.examples
    assert len(examples) >= 5
    assert seen.page.locator("#examples button").count() == len(examples)
    made = []
    for index, model in enumerate(front.manifest.models):
        example = examples[index % len(examples)]
        seen.page.locator("#examples button").nth(index % len(examples)).click()
        seen.page.keyboard.press(str(index + 1))
        seen.wait(
            lambda name=model.name: seen.page.get_attribute("#right", "data-model") == name,
            model.name,
        )
        seen.settle()
        pixels = np.array(Image.open(front.bundle / example.file).convert("RGB"))
        made.append(seen.pixels()[..., :3])
        assert levels(made[-1], translated(front, index, pixels, tmp_path)) <= 2
        assert made[-1].std() > 20


def test_undo_redo_clear_and_eraser(visit: Callable[..., Visit], front: Site) -> None:
    seen = visit(front)
    page = seen.page
    page.click("#clear")
    seen.stroke((0.2, 0.3), (0.8, 0.3))
    one = seen.saved("#save-input")
    seen.stroke((0.2, 0.6), (0.8, 0.6))
    two = seen.saved("#save-input")
    assert (two < 128).sum() > 1.5 * (one < 128).sum()
    page.click("#undo")
    assert np.array_equal(seen.saved("#save-input"), one)
    page.keyboard.press("Control+Shift+z")
    assert np.array_equal(seen.saved("#save-input"), two)
    page.keyboard.press("Control+z")
    assert np.array_equal(seen.saved("#save-input"), one)
    page.click("#redo")
    page.click("#eraser")
    assert page.get_attribute("#eraser", "aria-checked") == "true"
    seen.stroke((0.2, 0.6), (0.8, 0.6))
    assert np.array_equal(seen.saved("#save-input"), one)
    page.click("#pen")
    page.click("#clear")
    seen.settle()
    assert page.is_disabled("#save-input")
    assert not seen.pixels()[..., 3].any()
    for _ in range(5):
        page.click("#undo")
    assert page.get_attribute("#pen", "aria-checked") == "true"


def test_one_can_draw_with_the_keyboard_alone(visit: Callable[..., Visit], front: Site) -> None:
    seen = visit(front)
    page = seen.page
    page.click("#clear")
    for _ in range(10):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.id") == "pad":
            break
    else:
        pytest.fail("the pad cannot be reached with the keyboard")
    page.keyboard.press("Space")
    assert page.is_visible("#cursor")
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft"):
        for _ in range(6):
            page.keyboard.press(key)
    page.keyboard.press("Space")
    drawn = seen.saved("#save-input")
    rows, columns = np.nonzero(drawn[..., 0] < 128)
    assert len(rows) > 40
    assert columns.min() >= drawn.shape[1] // 2 - 1


def test_sketches_have_a_pen_and_nothing_to_paint_with(
    visit: Callable[..., Visit], sketches: Site
) -> None:
    page = visit(sketches).page
    assert page.is_visible("#pen")
    assert page.is_visible("#eraser")
    for name in ("brush", "bucket", "dropper", "sizes", "swatches", "any"):
        assert page.is_hidden(f"#{name}"), name


# -- models -----------------------------------------------------------------------------------


def test_slider_moves_along_the_front_and_the_picture_with_it(
    visit: Callable[..., Visit], front: Site
) -> None:
    seen = visit(front)
    page, models = seen.page, front.manifest.models
    page.wait_for_selector("#main[data-prefetched]", timeout=PATIENCE)  # times are forgotten then
    page.focus("#slider")
    page.keyboard.press("Home")
    facts = []
    made = []
    for index, model in enumerate(models):
        assert page.input_value("#slider") == str(index)
        seen.wait(
            lambda name=model.name: page.get_attribute("#right", "data-model") == name, model.name
        )
        seen.wait(lambda: page.inner_text("#fact-speed").endswith("fps"), "a measured speed")
        seen.settle()
        facts.append((page.inner_text("#fact-macs"), page.inner_text("#fact-size")))
        made.append(seen.pixels())
        page.keyboard.press("ArrowRight")
    assert len(set(facts)) == len(models)
    assert facts[-1][0] == "2.72G"
    assert page.inner_text("#fact-name") == "Teacher"
    assert all(levels(one, other) > 5 for one, other in itertools.pairwise(made))
    assert page.locator("#stops li").all_inner_texts()[0].endswith("fps")


def test_split_handle_compares_any_two(visit: Callable[..., Visit], front: Site) -> None:
    seen = visit(front)
    page, models = seen.page, front.manifest.models
    assert page.is_hidden("#handle")
    page.select_option("#other", "0")
    assert page.is_checked("#compare")
    seen.wait(
        lambda: page.get_attribute("#left", "data-model") == models[0].name, "the other picture"
    )
    seen.settle()
    assert levels(seen.pixels("left"), seen.pixels("right")) > 5
    box = page.locator("#frame").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    assert page.get_attribute("#handle", "aria-valuenow") == "25"
    page.keyboard.press("PageUp")
    assert page.get_attribute("#handle", "aria-valuenow") == "35"
    page.keyboard.press("End")
    shot = np.array(Image.open(io.BytesIO(page.locator("#frame").screenshot())).convert("RGB"))
    page.keyboard.press("Home")
    other = np.array(Image.open(io.BytesIO(page.locator("#frame").screenshot())).convert("RGB"))
    assert levels(shot, other) > 5
    page.click("label.switch")
    assert page.is_hidden("#left")


def test_a_model_that_cannot_follow_is_said_to_be_too_slow(
    visit: Callable[..., Visit], front: Site
) -> None:
    hundredfold = (
        "const own = performance.now.bind(performance); performance.now = () => 100 * own();"
    )
    seen = visit(front, hundredfold)
    page = seen.page
    seen.wait(lambda: page.is_visible("#message"), "a word about the speed")
    assert "too slow to follow a pen" in page.inner_text("#message-text")
    before = int(page.input_value("#slider"))
    page.click("#faster")
    assert int(page.input_value("#slider")) < before


def test_loading_is_said_and_a_failure_can_be_tried_again(
    visit: Callable[..., Visit], front: Site
) -> None:
    model = front.manifest.models[0]
    seen = visit(front, ready=False)
    page = seen.page
    held: list[Any] = []
    page.context.route(f"**/{model.file}?*", lambda route: held.append(route))
    page.wait_for_selector("#main[data-pictures]", timeout=PATIENCE)
    page.keyboard.press("1")
    page.wait_for_selector("#veil:not([hidden])", timeout=PATIENCE)
    assert "Loading" in page.inner_text("#veil-text")
    seen.wait(lambda: bool(held), "the request")
    for route in held:
        route.fulfill(status=503)
    seen.wait(lambda: page.is_visible("#retry"), "an offer to try again")
    assert "503" in page.inner_text("#message-text")
    page.context.unroute(f"**/{model.file}?*")
    page.click("#retry")
    seen.wait(lambda: page.get_attribute("#right", "data-model") == model.name, "the picture")
    seen.complaints[:] = [text for text in seen.complaints if "503" not in text]


def test_a_gpu_that_fails_leaves_the_page_as_it_was(
    visit: Callable[..., Visit], front: Site
) -> None:
    fake = "Object.defineProperty(navigator, 'gpu', {value: {requestAdapter: async () => ({})}});"
    seen = visit(front, fake)
    seen.page.wait_for_selector("#main[data-prefetched]", timeout=PATIENCE)
    assert "WebAssembly" in seen.page.inner_text("#backend")
    assert any("ort.webgpu" in url for url in seen.requests)
    before = seen.pictures()
    seen.stroke((0.1, 0.1), (0.9, 0.9))
    seen.wait(lambda: seen.pictures() > before, "a picture")
    assert is_undisturbed(seen.page)


RUNTIME_IN_DISGUISE = """
import * as ort from "./%s?real";
export * from "./%s?real";
export const env = ort.env;
export const Tensor = ort.Tensor;
export const InferenceSession = {
  async create(bytes) {
    const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
    const run = async (feeds) => {
      await new Promise((resolve) => setTimeout(resolve, %d));
      return session.run(feeds);
    };
    return { run, inputNames: session.inputNames, outputNames: session.outputNames };
  },
};
"""


def disguise(context: Any, name: str, delay_ms: int) -> None:
    """Have the page take the WebAssembly runtime, made slower, for another one."""
    real = "ort.wasm.min.js"
    body = RUNTIME_IN_DISGUISE % (real, real, delay_ms)
    headers = {"Content-Type": "text/javascript", "Cross-Origin-Resource-Policy": "same-origin"}
    headers["Cross-Origin-Embedder-Policy"] = "require-corp"
    context.route(f"**/vendor/{name}", lambda route: route.fulfill(body=body, headers=headers))


def test_a_faster_gpu_takes_over_while_one_draws(visit: Callable[..., Visit], front: Site) -> None:
    fake = "Object.defineProperty(navigator, 'gpu', {value: {requestAdapter: async () => ({})}});"

    def slower(context: Any) -> None:
        disguise(context, "ort.wasm.min.js", 300)
        disguise(context, "ort.webgpu.min.js", 0)

    seen = visit(front, fake, ready=False, prepare=slower)
    page = seen.page
    page.wait_for_selector("#main[data-pictures]", timeout=PATIENCE)
    for number in range(40):
        seen.stroke((0.1, 0.1 + number / 50), (0.9, 0.1 + number / 50))
        if "WebGPU" in page.inner_text("#backend"):
            break
        page.wait_for_timeout(100)
    assert page.inner_text("#backend") == "WebGPU."
    before = seen.pictures()
    seen.stroke((0.1, 0.9), (0.9, 0.1))
    seen.wait(lambda: seen.pictures() > before, "a picture by the GPU")
    assert is_undisturbed(page)


def test_a_model_that_fails_to_load_keeps_no_other_one_waiting(
    visit: Callable[..., Visit], front: Site
) -> None:
    models = front.manifest.models
    last = len(models) - 1
    seen = visit(front, ready=False)
    page = seen.page
    held: list[Any] = []
    is_over = False

    def hold(route: Any) -> None:
        if is_over:
            route.fulfill(status=500)
        else:
            held.append(route)

    page.context.route(f"**/{models[last].file}?*", hold)
    page.wait_for_selector("#main[data-pictures]", timeout=PATIENCE)
    page.keyboard.press(str(last + 1))
    seen.wait(lambda: bool(held) and page.is_visible("#veil"), "the request, and that it is said")
    page.keyboard.press("1")
    seen.wait(
        lambda: page.get_attribute("#right", "data-model") == models[0].name, "the small model"
    )
    assert page.is_hidden("#veil")
    is_over = True
    for route in held:
        route.fulfill(status=404)
    seen.settle()
    assert is_undisturbed(page)
    page.select_option("#other", str(last))
    seen.wait(lambda: page.is_visible("#message"), "a word about the comparison")
    assert "cannot be compared" in page.inner_text("#message-text")
    assert not page.is_checked("#compare")
    before = seen.pictures()
    seen.stroke((0.1, 0.1), (0.9, 0.9))
    seen.wait(lambda: seen.pictures() > before, "a picture all the same")
    seen.complaints[:] = [text for text in seen.complaints if "Failed to load" not in text]


def test_trying_again_goes_on_while_something_runs(
    visit: Callable[..., Visit], front: Site
) -> None:
    models = front.manifest.models
    seen = visit(front, ready=False)
    page = seen.page
    page.context.route(f"**/{models[0].file}?*", lambda route: route.fulfill(status=503))
    page.wait_for_selector("#main[data-pictures]", timeout=PATIENCE)
    page.keyboard.press("1")
    seen.wait(lambda: page.is_visible("#retry"), "an offer to try again")
    page.evaluate("() => { for (let i = 0; i < 3; i++) document.getElementById('retry').click(); }")
    page.keyboard.press("2")
    seen.wait(lambda: page.get_attribute("#right", "data-model") == models[1].name, "a picture")
    before = seen.pictures()
    seen.stroke((0.1, 0.1), (0.9, 0.9))
    seen.wait(lambda: seen.pictures() > before, "another picture")
    assert is_undisturbed(page)
    seen.complaints[:] = [text for text in seen.complaints if "Failed to load" not in text]


def test_a_worker_that_cannot_start_is_said(visit: Callable[..., Visit], front: Site) -> None:
    def blocked(context: Any) -> None:
        context.route("**/worker.js", lambda route: route.abort())

    seen = visit(front, ready=False, prepare=blocked)
    seen.wait(lambda: seen.page.is_visible("#retry"), "a message")
    seen.page.context.unroute("**/worker.js")
    seen.page.click("#retry")
    seen.page.wait_for_selector("#main[data-pictures]", timeout=PATIENCE)
    seen.complaints.clear()


def test_a_palm_or_second_finger_does_not_disturb_a_stroke(
    visit: Callable[..., Visit], front: Site
) -> None:
    seen = visit(front)
    seen.page.click("#clear")
    script = """() => {
      const pad = document.getElementById("pad"), box = pad.getBoundingClientRect();
      pad.setPointerCapture = () => {};
      const send = (type, id, x, y, more) => pad.dispatchEvent(new PointerEvent(type, {
        pointerId: id, isPrimary: true, button: 0, bubbles: true, cancelable: true,
        clientX: box.left + x * box.width, clientY: box.top + y * box.height, ...more }));
      send("pointerdown", 5, 0.1, 0.2, { pointerType: "pen" });
      send("pointermove", 5, 0.4, 0.2, { pointerType: "pen" });
      send("pointerdown", 6, 0.5, 0.9, { pointerType: "touch" });
      send("pointermove", 6, 0.6, 0.9, { pointerType: "touch" });
      send("pointerup", 6, 0.6, 0.9, { pointerType: "touch" });
      send("pointermove", 5, 0.9, 0.2, { pointerType: "pen" });
      send("pointerup", 5, 0.9, 0.2, { pointerType: "pen" });
    }"""
    seen.page.evaluate(script)
    drawn = seen.saved("#save-input")[..., 0] < 128
    side = drawn.shape[0]
    assert drawn[: side // 2].sum() > 0.75 * side
    assert not drawn[side // 2 :].any()


def test_without_site_data_the_page_works(visit: Callable[..., Visit], front: Site) -> None:
    refusing = (
        "Object.defineProperty(window, 'sessionStorage', "
        "{get() { throw new DOMException('no', 'SecurityError'); }});"
    )
    assert visit(front, refusing).pictures() > 0


# -- photos -----------------------------------------------------------------------------------


def test_dropped_pictures_are_translated_and_broken_files_refused(
    visit: Callable[..., Visit], photos: Site, tmp_path: Path
) -> None:
    seen = visit(photos)
    page = seen.page
    assert page.is_visible("#photo")
    assert page.is_hidden("#drawing")
    pixels = picture(7, 64)
    seen.drop("photo.png", png(pixels))
    seen.wait(lambda: np.array_equal(seen.pixels("source")[..., :3], pixels), "the picture")
    seen.settle()
    found = seen.pixels()[..., :3]
    assert levels(found, translated(photos, 0, pixels, tmp_path)) <= 2
    for name, content in (("broken.png", png(pixels)[:200]), ("notes.txt", b"no picture")):
        seen.drop(name, content)
        seen.wait(lambda: page.is_visible("#message"), "a message")
        assert page.inner_text("#message-text") == (
            f"{name} cannot be read as a picture. What was there stays."
        )
        page.click("#dismiss")
    seen.settle()
    assert np.array_equal(seen.pixels()[..., :3], found)
    seen.drop("wide.jpg", png(np.tile(picture(3, 200), (1, 2, 1))[:, :300], "JPEG"))
    seen.wait(lambda: seen.pixels().shape == (64, 96, 4), "a picture of its own shape")
    page.set_input_files("#file", photos.bundle / photos.manifest.examples[0].file)
    seen.wait(lambda: seen.pixels().shape == (64, 64, 4), "the chosen picture")


def test_webcam_is_translated_as_it_comes(visit: Callable[..., Visit], photos: Site) -> None:
    seen = visit(photos)
    page, before = seen.page, seen.pictures()
    page.click("#webcam")
    seen.wait(lambda: seen.pictures() > before + 10, "pictures of the webcam")
    assert page.inner_text("#engine") == "Live"
    page.click("#webcam")
    seen.settle()
    assert page.inner_text("#engine") == "Ready"
    assert page.get_attribute("#webcam", "aria-pressed") == "false"


def test_a_refused_webcam_is_said(visit: Callable[..., Visit], photos: Site) -> None:
    refusing = (
        "MediaDevices.prototype.getUserMedia = async () => "
        "{ throw new DOMException('no', 'NotAllowedError'); };"
    )
    seen = visit(photos, refusing)
    seen.page.click("#webcam")
    seen.wait(lambda: seen.page.is_visible("#message"), "a message")
    assert "not allowed" in seen.page.inner_text("#message-text")


# -- where it runs ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(360, 740), (390, 844), (820, 1180), (1280, 800)])
def test_both_pictures_fit_every_screen(
    visit: Callable[..., Visit], sketches: Site, size: tuple[int, int]
) -> None:
    width, height = size
    seen = visit(sketches, viewport={"width": width, "height": height}, has_touch=width < 500)
    page = seen.page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [page.locator(name).bounding_box() for name in ("#pad", "#frame")]
    assert all(box["y"] + box["height"] <= height for box in boxes), boxes
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)
    assert all(abs(box["width"] - box["height"]) <= 2.5 and box["width"] > 250 for box in boxes)
    for button in page.locator("button:visible").all():
        assert button.bounding_box()["height"] >= 32


def test_static_folder_works_on_a_host_without_headers(
    visit: Callable[..., Visit], front: Site, tmp_path: Path
) -> None:
    """In a folder of the host; a service worker isolates the page, so it keeps its threads."""
    folder = tmp_path / "host" / "sub" / "page"
    assert main(["demo", str(FRONT), "--static", str(folder)]) == 0

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "host"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        elsewhere = Site(FRONT, f"http://127.0.0.1:{server.server_port}/sub/page/")
        seen = visit(elsewhere)
        assert seen.page.evaluate("crossOriginIsolated")
        assert seen.page.is_hidden("#isolation")
        assert levels(seen.pixels()[..., :3], np.full((128, 128, 3), 255, np.uint8)) > 50
        seen.page.goto("about:blank")
        server.shutdown()


def test_a_page_without_isolation_says_so(visit: Callable[..., Visit], front: Site) -> None:
    alone = "".join(
        f"Object.defineProperty(self, '{name}', {{value: false}});"
        for name in ("crossOriginIsolated", "isSecureContext")
    )
    seen = visit(front, alone)
    assert "one thread" in seen.page.inner_text("#isolation")
    assert "one thread" in seen.page.inner_text("#note-speed")


def test_a_damaged_bundle_is_not_served(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a bundle of models"):
        read_manifest(tmp_path)
