"""`gancompress demo`."""

from __future__ import annotations

import os
import sys
import tempfile
import webbrowser
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from gancompress.cli.context import Context, existing, warn
from gancompress.cli.files import refuse_options
from gancompress.cost import format_count
from gancompress.demo import (
    BundleOptions,
    DemoServer,
    Manifest,
    Source,
    find_source,
    kept_bundle,
    make_bundle,
    publish,
    read_manifest,
    site,
)
from gancompress.demo.manifest import NAME
from gancompress.demo.server import is_local
from gancompress.errors import ConfigError
from gancompress.export.graphs import WEIGHTS
from gancompress.tables import lookup


def run_demo(context: Context) -> None:
    """Serve the page on which the browser itself translates, or write it as files."""
    refuse_options(context)
    args = context.args
    path = existing(args.run, "model")
    given = _bundle_options(context)
    if (path / NAME).is_file():
        if given != BundleOptions() or args.subnet or args.bundle or args.module:
            raise ConfigError(f"{path} is a finished bundle; only its run can make another one")
        source = None
    else:
        factory = next(iter(args.module), None)
        source = find_source(path, args.subnet, factory, args.module)
    if args.dry_run:
        _dry_run(context, path, source)
    elif args.bundle and source:
        manifest = make_bundle(source, given, args.bundle, warn)
        context.say(f"{args.bundle}: {_describe(manifest)}")
        context.result({"bundle": str(args.bundle), **_facts(manifest)})
    else:
        with ExitStack() as stack:
            _show(context, _bundle(path, source, given, stack))


def _bundle_options(context: Context) -> BundleOptions:
    args = context.args
    lookup(dict.fromkeys(WEIGHTS), args.weights, "choice of --weights")
    if args.images is not None:
        existing(args.images, "folder of --images")
    return BundleOptions(args.input, args.images, tuple(args.example), args.weights)


def _bundle(path: Path, source: Source | None, options: BundleOptions, stack: ExitStack) -> Path:
    """The folder of a bundle: the path itself, one kept in a run, or one for this command alone."""
    if source is None:
        return path
    if source.path.is_dir():
        return kept_bundle(source, options, warn)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    make_bundle(source, options, folder, warn)
    return folder


def _show(context: Context, bundle: Path) -> None:
    args = context.args
    contents, manifest = site(bundle), read_manifest(bundle)
    if args.static:
        # some hosts leave out files whose names begin with an underscore unless told not to
        publish(args.static, {**contents, ".nojekyll": b""})
        context.say(f"{args.static}: {_describe(manifest)}; any web host can serve this folder")
        context.result({"static": str(args.static), **_facts(manifest)})
        return
    with DemoServer(contents, args.host, args.port) as server:
        context.say(f"{server.url}  ({_describe(manifest)}; Ctrl-C stops)")
        if not is_local(args.host):
            warn(
                f"--host {args.host}: other machines reach the page over plain http, where "
                "browsers give it one thread and no webcam"
            )
        context.result({"url": server.url, "bundle": str(bundle), **_facts(manifest)})
        if args.open and _has_screen():
            webbrowser.open(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            context.say("stopped")


def _has_screen() -> bool:
    """Whether a browser would open a window, and not take the terminal."""
    is_desktop = sys.platform in ("darwin", "win32")
    return is_desktop or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _dry_run(context: Context, path: Path, source: Source | None) -> None:
    if source is None:
        manifest = read_manifest(path)
        context.say(f"would show {path}: {_describe(manifest)}")
        context.result({"bundle": str(path), **_facts(manifest)})
        return
    names = [offer.name for offer in source.offers]
    context.say(f"would export {', '.join(names)} of {source.path}, and show them")
    context.result({"run": str(source.path), "models": [{"name": name} for name in names]})


def _describe(manifest: Manifest) -> str:
    models = manifest.models
    size = sum(model.bytes for model in models) / 1e6
    return (
        f"{manifest.title}, {len(models)} models of {format_count(models[0].macs)} to "
        f"{format_count(models[-1].macs)} MACs, {size:.1f} MB"
    )


def _facts(manifest: Manifest) -> dict[str, Any]:
    return manifest.model_dump(mode="json", include={"title", "input", "size", "models"})
