#!/usr/bin/env python3
"""Frames per second of a bundle's models in headless Chromium: WebAssembly with threads.

    gancompress demo GENERATOR --images FOLDER --bundle BUNDLE
    python benchmarks/browser.py BUNDLE [--size 256 --size 128] [--threads 2] [--rounds 8]
    python benchmarks/browser.py BUNDLE --also FILE.onnx

--also adds other files, such as the same network exported with another `--rewrite`.

What is timed is what a visitor of the page waits for: from RGBA pixels in the page through the
worker and the network, and back to RGBA pixels. All models and sizes take turns; the first runs of
each are not counted. Needs Chromium, the package playwright, and scripts/vendor.sh.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import threading
from pathlib import Path
from typing import Any

from gancompress.cost import format_count
from gancompress.cost.onnx import onnx_costs
from gancompress.demo import DemoServer, read_manifest, site
from gancompress.demo.manifest import sha256

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
CALLS = 3  # of a model in a turn; their median counts
SCRIPT = """async ({models, sizes, threads, rounds, calls}) => {
  if (!crossOriginIsolated) throw new Error("the page has no threads");
  const {Engine} = await import("./engine.js");
  const engine = new Engine("wasm");
  engine.threads = threads;
  for (const model of models) await engine.load(model);
  const found = [];
  for (let round = -1; round < rounds; round++) {
    for (const model of models) for (const size of sizes) {
      const data = new Uint8ClampedArray(4 * size * size).map(() => 256 * Math.random());
      for (let call = 0; call < calls; call++) {
        const start = performance.now();
        await engine.run(model, {data, width: size, height: size});
        if (round >= 0) found.push([model.file, size, round, performance.now() - start]);
      }
    }
  }
  return found;
}"""


def measure(url: str, task: dict[str, Any]) -> list[tuple[str, int, int, float]]:
    """(file, size, round, milliseconds) of every call."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        sys.exit("needs Chromium")
    with sync_playwright() as run:
        browser = run.chromium.launch(executable_path=path, args=list(FLAGS))
        page = browser.new_page()
        # a file of the site whose page does nothing, so that only the benchmark computes
        page.goto(f"{url}runtime-licence.txt")
        found: list[tuple[str, int, int, float]] = page.evaluate(SCRIPT, task)
        print(f"Chromium {browser.version}, {task['threads']} threads")
        browser.close()
    return found


def main() -> None:
    """Print a line for each model and size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--also", type=Path, action="append", default=[], help="may be repeated")
    parser.add_argument("--size", type=int, action="append", help="may be repeated")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=8)
    args = parser.parse_args()
    manifest = read_manifest(args.bundle)
    contents = site(args.bundle)
    models = [json.loads(model.model_dump_json()) for model in manifest.models]
    for number, path in enumerate(args.also):
        content, file = path.read_bytes(), f"models/also-{number}.onnx"
        contents[file] = content
        macs = onnx_costs(path, (manifest.size, manifest.size)).macs
        models.append({"file": file, "sha256": sha256(content), "bytes": len(content),
                       "name": path.stem, "label": path.stem, "macs": macs})  # fmt: skip
    sizes = args.size or [manifest.size]
    task = {"models": models, "sizes": sizes, "threads": args.threads, "rounds": args.rounds}
    with DemoServer(contents, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        calls = measure(server.url, {**task, "calls": CALLS})
        server.shutdown()
    for model in models:
        for size in sizes:
            times = []
            for number in range(args.rounds):
                own = [t for f, s, r, t in calls if (f, s, r) == (model["file"], size, number)]
                times.append(statistics.median(own))
            middle, low, high = statistics.median(times), min(times), max(times)
            macs = format_count(model["macs"] * (size / manifest.size) ** 2)
            what = f"{model['name']:28} {size:4}  {macs:>8} MACs {model['bytes'] / 1e6:6.2f} MB"
            print(f"{what} {middle:7.1f} ms [{low:.1f}, {high:.1f}]  {1000 / middle:6.1f} fps")


if __name__ == "__main__":
    main()
