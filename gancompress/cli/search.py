"""`gancompress search`."""

from __future__ import annotations

import json
from typing import Any

from gancompress.checkpoint.models import run_data, run_splits, run_stage
from gancompress.checkpoint.network import load_supernet
from gancompress.cli.context import Context, existing
from gancompress.config import SearchOptions, build, dump_options, load_options
from gancompress.cost import format_count
from gancompress.errors import ConfigError, DataError
from gancompress.search import SearchResult, search
from gancompress.search.stage import check_budgets


def run_search(context: Context) -> None:
    """Find the front of subnets, and the best under each budget."""
    options = _options(context)
    if context.args.dry_run:
        net, network = load_supernet(options.supernet)
        size = options.size or int(network.header.get("image_size", 256))
        budgets = check_budgets(net, size, options.budgets)
        low, high = (net.macs(s, size) for s in (net.space.smallest(), net.space.largest()))
        context.say(dump_options(options))
        context.say(_describe_split(options))
        context.say(
            f"{net.space.size:,} subnets, {format_count(low)} to {format_count(high)} MACs at "
            f"{size}x{size}; budgets {', '.join(map(format_count, budgets))}"
        )
        context.result({"size": net.space.size, "macs": [low, high], "budgets": budgets})
        return
    result = search(options, context.device)
    show_result(context, result)
    context.result(
        {
            "run": str(options.run),
            "metric": result.metric,
            "num_trials": len(result.trials),
            "front": [{"subnet": str(t.subnet), "macs": t.macs, **t.scores} for t in result.front],
            "chosen": {
                str(budget): {"subnet": str(t.subnet), "macs": t.macs, **t.scores}
                for budget, t in result.chosen.items()
            },
        }
    )


def _options(context: Context) -> SearchOptions:
    path = existing(context.args.run, "run folder or options file")
    texts = context.overrides()
    if context.args.macs:
        texts.append(f"budgets={json.dumps(context.args.macs)}")
    if path.is_file():
        return load_options(SearchOptions, path, texts)
    if run_stage(path) == "search":
        return load_options(SearchOptions, path / "config.yaml", texts)
    if run_stage(path) != "supernet":
        raise ConfigError(f"{path} is no run folder of a supernet or a search")
    raw: dict[str, Any] = {"run": str(path.parent / "search"), "supernet": str(path)}
    return build(SearchOptions, raw, "search", texts)


def _describe_split(options: SearchOptions) -> str:
    found = run_data(options.supernet)
    if found is None:
        return f"no splits: {options.supernet} is no run folder"
    try:
        return run_splits(options.supernet, found[0]).describe("search")
    except DataError as error:  # a dry run works without the data
        return f"no splits: {error}"


def show_result(context: Context, result: SearchResult) -> None:
    """The front's ends and the best under each budget, as lines."""
    context.say(
        f"{len(result.trials)} subnets evaluated, {len(result.front)} on the front "
        f"({result.metric} on the search split, {result.size}x{result.size})"
    )
    for budget, trial in result.chosen.items():
        context.say(
            f"  under {format_count(budget)}: {trial.subnet}  {format_count(trial.macs)} MACs  "
            f"{result.metric} {trial.scores[result.metric]:.4g}"
        )
