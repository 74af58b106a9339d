"""`gancompress compress`: every stage that has not ended yet, the table, and the report."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta

from gancompress.checkpoint.run import RunFolder
from gancompress.cli.context import Context
from gancompress.cli.search import budget_overrides, show_result
from gancompress.cli.train import describe_splits
from gancompress.config import CompressOptions, dump_options, load_compression
from gancompress.cost import format_count
from gancompress.errors import ConfigError
from gancompress.pipeline.compression import compress, preflight
from gancompress.pipeline.derive import derive_compression
from gancompress.pipeline.rehearsal import rehearse
from gancompress.report import Row, text_table


def run_compress(context: Context) -> None:
    """From a teacher to exported subnets and the report; finished stages are not run again."""
    options = _options(context)
    if context.args.dry_run:
        _dry_run(context, options)
        return
    if context.args.source.is_dir() and not RunFolder(options.supernet.run).config.exists():
        preflight(options, context.device, context.args.module)  # budgets first: it takes no time
        context.say(f"{options.run}: rehearsing every stage on a few images")
        _say_seconds(context, rehearse(options, context.device, context.args.module))
    done = compress(options, context.device, context.args.module)
    show_result(context, done.result)
    context.say(f"\nscores on {done.about}")
    context.say(text_table(done.rows))
    for label, path in done.files.items():
        context.say(f"{label}: {path}")
    context.say(f"report: {done.report}")
    context.suggest("demo", options.search.run)
    context.result(
        {
            "rows": [_facts(row) for row in done.rows],
            "files": {label: str(path) for label, path in done.files.items()},
            "report": str(done.report),
        }
    )


def _options(context: Context) -> CompressOptions:
    args = context.args
    texts = [*(f"search.{text}" for text in budget_overrides(args)), *context.overrides()]
    if args.direction is not None:
        texts.append(f"data.direction={args.direction}")
    if args.source.is_dir():
        if args.epochs is not None and args.epochs < 1:
            raise ConfigError(f"--epochs must be at least 1, not {args.epochs}")
        if args.run is not None:
            texts.append(f"run={json.dumps(str(args.run))}")
        preset = args.preset or "standard"
        return derive_compression(
            args.source, args.teacher, preset, args.epochs, texts, args.module
        )
    for flag in ("teacher", "preset", "epochs", "run"):
        if getattr(args, flag) is not None:
            raise ConfigError(f"--{flag} needs a data folder; {args.source} is an options file")
    return load_compression(args.source, texts)


def _dry_run(context: Context, options: CompressOptions) -> None:
    net = preflight(options, context.device, context.args.module)
    size = options.search.size or options.supernet.data.whole_size
    low, high = (net.macs(s, size) for s in (net.space.smallest(), net.space.largest()))
    context.say(dump_options(options))
    context.say("\n".join(describe_splits(options.teacher or options.supernet)))
    context.say(
        f"{net.space.distinct:,} subnets, {format_count(low)} to {format_count(high)} MACs at "
        f"{size}x{size}"
    )
    root, seconds = options.supernet.data.root, {}
    if root.is_dir():
        seconds = rehearse(options, context.device, context.args.module)
    else:
        context.say(f"no stage was timed: there is no data folder {root} yet")
    _say_seconds(context, seconds)
    context.result({**options.model_dump(mode="json"), "seconds": seconds})


def _say_seconds(context: Context, seconds: dict[str, float]) -> None:
    for stage, needed in seconds.items():
        context.say(f"{stage}: about {timedelta(seconds=round(needed))} on this machine")


def _facts(row: Row) -> dict[str, object]:
    facts = asdict(row)
    return {"subnet": facts.pop("config"), **facts.pop("scores"), **facts}
