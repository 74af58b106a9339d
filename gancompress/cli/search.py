"""`gancompress search`."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

from gancompress.checkpoint.models import run_data, run_splits, run_stage, stage_folder
from gancompress.checkpoint.run import RunFolder
from gancompress.cli.context import Context, existing
from gancompress.config import SearchOptions, build, dump_options, load_options
from gancompress.cost import format_count
from gancompress.elastic import SearchSpace, Subnet
from gancompress.errors import ConfigError, DataError
from gancompress.metrics.features import is_factory
from gancompress.report import aligned_text
from gancompress.search import SearchResult, search
from gancompress.search.budgets import describe_cost
from gancompress.search.plan import plan_search
from gancompress.search.report import agreements, answers_table


def run_search(context: Context) -> None:
    """Find the front of subnets, and the best under each budget."""
    options = _options(context)
    plan = plan_search(options, context.device, context.args.module)
    space, size = plan.net.space, plan.size
    everything = plan.everything
    low, high = (everything.values(space.genomes([s]), "macs")[0] for s in _ends(space))
    if context.args.dry_run:
        context.say(dump_options(options))
        context.say(_describe_split(options))
    context.say(
        f"{space.distinct:,} subnets, {format_count(low)} to {format_count(high)} MACs at "
        f"{size}x{size}; budgets {', '.join(budget.label for budget in plan.budgets)}"
    )
    if context.args.dry_run:
        for name in plan.problem.costs:
            cheapest, dearest = plan.problem.span(name)
            context.say(
                f"  {describe_cost(name, cheapest)} to {describe_cost(name, dearest)} searched"
            )
        context.result(
            {
                "size": space.distinct,
                "macs": [int(low), int(high)],
                "budgets": {str(budget): budget.limit for budget in plan.budgets},
            }
        )
        return
    result = search(options, context.device, plan)
    show_result(context, result)
    context.say(f"report: {RunFolder(options.run).report}")
    if result.answers:
        context.suggest("export", options.run, "--subnet", str(result.answers[0].trial.subnet))
    context.result(
        {
            "run": str(options.run),
            "metric": result.metric,
            "num_trials": len(result.trials),
            "front": [{"subnet": str(t.subnet), "macs": t.macs, **t.scores} for t in result.front],
            "chosen": {str(answer.budget): answer.as_json() for answer in result.answers},
            "seconds": result.seconds,
            "predictor": result.predictor,
            "runtime": result.runtime,
            "precision": result.precision,
        }
    )


def _options(context: Context) -> SearchOptions:
    path = existing(context.args.run, "run folder or options file")
    texts = context.overrides()
    args = context.args
    texts += budget_overrides(args)
    if args.trials:
        texts.append(f"trials={json.dumps([str(path) for path in args.trials])}")
    if args.workers is not None:
        texts.append(f"workers={args.workers}")
    if args.runtime is not None:
        texts.append(f"runtime={args.runtime}")
    if path.is_file():
        return load_options(SearchOptions, path, texts)
    if run_stage(path) == "search":
        return _stored_options(stage_folder(path), texts)
    if run_stage(path) != "supernet":
        raise ConfigError(f"{path} is not the run folder of a supernet or a search")
    raw: dict[str, Any] = {"run": str(path.parent / "search"), "supernet": str(path)}
    return build(SearchOptions, raw, "search", texts)


def budget_overrides(args: argparse.Namespace) -> list[str]:
    """The flags of budgets and devices as overrides of a search's options."""
    budgets = [
        *args.macs,
        *(f"params={text}" for text in args.params),
        *(f"size_mb={text}" for text in args.size_mb),
        *(_latency_budget(text) for text in args.latency_ms),
    ]
    devices = [str(path) for path in args.device_table]
    lists = {"budgets": budgets, "devices": devices}
    return [f"{key}={json.dumps(values)}" for key, values in lists.items() if values]


def _stored_options(run: Path, texts: list[str]) -> SearchOptions:
    """The options in a search's run folder, with what the user says now.

    Raises:
        ConfigError: Its features come out of a function that only the folder names.
    """
    config = run / "config.yaml"
    options = load_options(SearchOptions, config, [f"run={json.dumps(str(run))}", *texts])
    said = load_options(SearchOptions, config, ["features={}", *texts]).features
    for name, source in options.features.items():
        if is_factory(name, source) and said.get(name) != source:
            value = shlex.quote(f"features={json.dumps(options.features)}")
            raise ConfigError(
                f"{config} asks for the function {source[:80]!a}, but no file decides which code "
                f"is run\n  If it is yours, name it: --set {value}"
            )
    return options


def _ends(space: SearchSpace) -> tuple[Subnet, Subnet]:
    return space.smallest(), space.largest()


def _latency_budget(text: str) -> str:
    """`40` or `40@phone` of `--latency-ms` as the text of a budget."""
    value, _, device = text.partition("@")
    return f"latency_ms@{device}={value}" if device else f"latency_ms={value}"


def _describe_split(options: SearchOptions) -> str:
    found = run_data(options.supernet)
    if found is None:
        return f"no splits: {options.supernet} is not a run folder"
    try:
        return run_splits(options.supernet, found[0]).describe("search")
    except DataError as error:  # a dry run works without the data
        return f"no splits: {error}"


def show_result(context: Context, result: SearchResult) -> None:
    """What was evaluated, and the best under each budget."""
    given_up = sum(not trial.complete for trial in result.trials)
    context.say(
        f"{len(result.trials)} subnets evaluated ({given_up} given up early), {len(result.front)} "
        f"on the front ({result.metric} on the search split, {result.size}x{result.size})"
    )
    parts = {name: result.seconds.get(name, 0.0) for name in ("forward", "features", "distance")}
    total = sum(parts.values())
    if total and result.trials:
        shares = ", ".join(f"{name} {100 * part / total:.1f} %" for name, part in parts.items())
        context.say(f"{total / len(result.trials):.3f} s a subnet in {result.runtime}: {shares}")
    for name, value in result.predictor.items():
        context.say(f"predictor: {name} {value:.3g}")
    for text in agreements(result).values():
        context.say(text)
    context.say(aligned_text(answers_table(result)))
