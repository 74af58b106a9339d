"""The page of `gancompress demo` in headless Chromium: how tests open and use it."""

from __future__ import annotations

import base64
import io
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundles import WEB
from helpers import write_image
from PIL import Image

from gancompress.checkpoint.network import build_network, save_network
from gancompress.cli.main import main
from gancompress.demo import BundleOptions, DemoServer, find_source, make_bundle, site
from gancompress.demo.manifest import Kind, Manifest, read_manifest
from gancompress.demo.server import RUNTIME
from runs import REPOSITORY

FRONT = REPOSITORY / "pretrained" / "draw2emoji" / "front"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
]
PATIENCE = 90_000  # ms
Pixels = np.ndarray[Any, Any]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    if CHROMIUM is None:
        pytest.skip("needs Chromium (Debian's package chromium)")
    if not all((WEB / "vendor" / name).is_file() for name in RUNTIME):
        pytest.skip("needs the page's runtime: scripts/vendor.sh installs it")
    with playwright.sync_playwright() as run:
        started = run.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@dataclass
class Site:
    """A bundle and where it is served."""

    bundle: Path
    url: str
    manifest: Manifest = field(init=False)

    def __post_init__(self) -> None:
        self.manifest = read_manifest(self.bundle)


def serve(bundle: Path) -> Iterator[Site]:
    with DemoServer(site(bundle), "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Site(bundle, server.url)
        server.shutdown()


def untrained(folder: Path, kind: Kind, size: int, channels: tuple[int, int] = (3, 3)) -> Path:
    """A bundle with the inputs in `images` and a generator that was not trained.

    Its pictures have colour and contrast all the same.
    """
    torch.manual_seed(4)
    options = {
        "generator": {
            "name": "resnet_6blocks",
            "input_nc": channels[0],
            "output_nc": channels[1],
            "ngf": 4,
            "norm": "instance",
        }
    }
    network = build_network(options, "tiny")
    for parameter in network.module.parameters():
        if parameter.ndim == 4:
            torch.nn.init.kaiming_normal_(parameter)
    weights = folder / "tiny.safetensors"
    save_network(weights, network.module, network.description, image_size=size)
    source = find_source(weights)
    make_bundle(source, BundleOptions(kind, folder / "images"), folder / "bundle", lambda _: None)
    return folder / "bundle"


@dataclass
class Visit:
    """A page that somebody has opened."""

    page: Any
    site: Site
    requests: list[str]
    complaints: list[str]

    def pictures(self) -> int:
        return int(self.page.get_attribute("#main", "data-pictures") or 0)

    def wait(self, is_so: Callable[[], bool], what: str) -> None:
        for _ in range(PATIENCE // 50):
            if is_so():
                return
            self.page.wait_for_timeout(50)
        pytest.fail(f"never: {what}; engine: {self.page.inner_text('#engine')}")

    def settle(self) -> None:
        """Until all is computed that was asked for."""
        last = -1
        while last != self.pictures() or self.page.locator("#main[data-running]").count():
            last = self.pictures()
            self.page.wait_for_timeout(400)

    def pixels(self, canvas: str = "right") -> Pixels:
        """(H, W, 4) of a canvas at its own size."""
        script = "id => document.getElementById(id).toDataURL('image/png').split(',')[1]"
        content = base64.b64decode(self.page.evaluate(script, canvas))
        return np.array(Image.open(io.BytesIO(content)).convert("RGBA"))

    def saved(self, button: str) -> Pixels:
        """(H, W, 3) of the file that a button gives."""
        with self.page.expect_download() as waited:
            self.page.click(button)
        return np.array(Image.open(waited.value.path()).convert("RGB"))

    def stroke(self, *points: tuple[float, float]) -> None:
        """Draw through points given in shares of the pad's side."""
        self.page.locator("#pad").scroll_into_view_if_needed()
        box = self.page.locator("#pad").bounding_box()
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*place, steps=8)
        self.page.mouse.up()

    def drop(self, name: str, content: bytes) -> None:
        script = """([name, bytes]) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], name));
          return data;
        }"""
        data = self.page.evaluate_handle(script, [name, list(content)])
        self.page.dispatch_event("#main", "drop", {"dataTransfer": data})


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visit]]:
    """Opens a site; at the end nothing may have left it, and nothing may have gone wrong."""
    contexts, visits = [], []

    def opened(
        site: Site,
        script: str = "",
        ready: bool = True,
        prepare: Callable[[Any], None] = lambda _: None,
        **options: Any,
    ) -> Visit:
        context = browser.new_context(**options)
        prepare(context)
        page = context.new_page()
        contexts.append(context)
        requests: list[str] = []
        complaints: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda text: complaints.append(text.text) if text.type == "error" else None,
        )
        if script:
            page.add_init_script(script)
        visits.append(Visit(page, site, requests, complaints))
        page.goto(site.url)
        if ready:
            page.wait_for_selector("#main[data-pictures]", timeout=PATIENCE)
            visits[-1].settle()
        return visits[-1]

    yield opened
    for each in visits:
        origins = {"/".join(url.split("/", 3)[:3]) for url in each.requests if url[:4] == "http"}
        assert origins == {origin(each.site.url)}
        assert each.complaints == []
    for context in contexts:
        context.close()


def origin(url: str) -> str:
    return "/".join(url.split("/", 3)[:3])


def translated(site: Site, index: int, pixels: Pixels, folder: Path) -> Pixels:
    """What the command line makes of the same pixels with the same file."""
    write_image(folder / "input.png", pixels)
    model = str(site.bundle / site.manifest.models[index].file)
    arguments = ["--size", str(site.manifest.size)]
    source, target = str(folder / "input.png"), str(folder / "output.png")
    assert main(["translate", model, source, target, *arguments]) == 0
    return np.array(Image.open(target).convert("RGB"))


def levels(one: Pixels, other: Pixels) -> int:
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def png(pixels: Pixels, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()
