"""The search stage: trials until the number is reached, the front, the best under each budget."""

from __future__ import annotations

import hashlib
import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from gancompress.checkpoint.models import calibration_batches, run_splits
from gancompress.checkpoint.network import Network, load_network, load_supernet
from gancompress.checkpoint.run import RunFolder, keep_splits
from gancompress.config import SearchOptions, SupernetOptions, load_options
from gancompress.cost import format_count, parse_count
from gancompress.data import load_split
from gancompress.elastic import Subnet, Supernet
from gancompress.elastic.calibrate import norms_with_statistics
from gancompress.errors import BudgetError, CheckpointError, ConfigError, Interrupted
from gancompress.metrics import metric
from gancompress.search.algorithms import Chooser, Evolution, Exhaustive
from gancompress.search.evaluator import Evaluator
from gancompress.search.trials import Trial, TrialLog, best_under, pareto_front
from gancompress.training.loop import StopRequest, graceful_stop

DEFAULT_BUDGETS = (1.0, 2 / 3, 1 / 3)  # exponents between smallest and largest subnet
TRIALS_FILE = "trials.jsonl"


@dataclass
class SearchResult:
    """What a search found.

    Attributes:
        metric: Name of the score.
        size: Side of the images in pixels.
        trials: All evaluated subnets.
        front: Those that nothing beats in both MACs and score, ascending in MACs.
        chosen: Budget in MACs -> the best trial under it.
    """

    metric: str
    size: int
    trials: list[Trial]
    front: list[Trial]
    chosen: dict[int, Trial]


def search(options: SearchOptions, device: torch.device) -> SearchResult:
    """Search the front of a trained supernet, or go on with it.

    Raises:
        BudgetError: No subnet fits a budget; nothing has run then.
        ConfigError: The image size or the metric cannot be used.
        CheckpointError: The supernet's run is missing or unfinished.
        Interrupted: A signal came; the same call goes on.
    """
    metric(options.metric)
    net, network = load_supernet(options.supernet)
    size = options.size or int(network.header.get("image_size", 256))
    _check_size(size, network.stride)
    budgets = check_budgets(net, size, options.budgets)
    run = RunFolder(options.run)
    if run.is_done and not run.changes(options) and _is_newer(run.done, options.supernet):
        return load_result(options.run)
    with run.claim(options, same=False):  # trials carry a key of their own
        log, known = _open_log(options, net, network, size, device)
        trials = _run_trials(options, log, known, max(budgets))
        result = _summarise(options.metric, size, trials, budgets)
        run.finish(_as_json(result))
        return result


def _check_size(size: int, stride: int) -> None:
    if size % stride:
        raise ConfigError(f"size={size} must be a multiple of the generators' stride {stride}")


def _is_newer(done: Path, supernet: Path) -> bool:
    return done.stat().st_mtime >= RunFolder(supernet).weights.stat().st_mtime


def check_budgets(net: Supernet, size: int, texts: tuple[str, ...]) -> list[int]:
    """Budgets in MACs, descending; three defaults where none is named.

    Raises:
        BudgetError: A budget is below the smallest subnet.
    """
    if not texts:
        low = net.macs(net.space.smallest(), size)
        ratio = net.macs(net.space.largest(), size) / low
        return sorted({round(low * ratio**exponent) for exponent in DEFAULT_BUDGETS}, reverse=True)
    smallest_subnet = net.space.smallest()
    needed = net.macs(smallest_subnet, size)
    budgets = []
    for text in texts:
        budget = parse_count(text, "--macs")
        if budget < needed:
            raise BudgetError(
                f"no subnet fits --macs {text} at {size}x{size}: the smallest ({smallest_subnet}) "
                f"needs {format_count(needed)}.\n"
                "  Raise the budget, or add smaller widths to student.widths and train again."
            )
        budgets.append(budget)
    return sorted(set(budgets), reverse=True)


@dataclass
class _OpenLog:
    log: TrialLog
    evaluator: Evaluator
    size: int
    name: str


def _open_log(
    options: SearchOptions, net: Supernet, network: Network, size: int, device: torch.device
) -> tuple[_OpenLog, dict[Subnet, Trial]]:
    before = load_options(SupernetOptions, options.supernet / "config.yaml")
    progress = network.header.get("progress", {})
    if progress.get("images", 0) < progress.get("of", 0):
        raise CheckpointError(
            f"{options.supernet} is in training: {progress['images']} of {progress['of']} images"
        )
    splits = run_splits(options.supernet, before.data)
    keep_splits(RunFolder(options.run), splits)
    split = load_split(before.data, "search", size, splits)
    teacher = load_network(options.supernet / "teacher.safetensors")
    _check_size(size, teacher.stride)
    run_teacher = teacher.module.to(device).eval()
    evaluator = Evaluator.of_split(
        net.to(device).eval(), run_teacher, split, options.max_images, options.batch_size, device
    )
    if norms_with_statistics(net.generator):
        evaluator.calibration = list(calibration_batches(before.data, device, splits))
    key = f"{evaluator.fingerprint()}:{options.metric}:{size}"
    log = TrialLog(options.run / TRIALS_FILE, hashlib.sha256(key.encode()).hexdigest())
    opened = _OpenLog(log, evaluator, size, options.metric)
    return opened, log.load(net.space)


def _chooser(options: SearchOptions, net: Supernet, size: int, budget: int) -> Chooser:
    def fits(subnet: Subnet) -> bool:
        return net.macs(subnet, size) <= budget

    if options.algorithm == "exhaustive":
        if net.space.size > 100_000:
            raise ConfigError(f"{net.space.size:,} subnets are too many for algorithm: exhaustive")
        return Exhaustive(net.space, fits)
    return Evolution(
        net.space,
        fits,
        options.population,
        options.parent_ratio,
        options.mutation_ratio,
        options.mutate_prob,
    )


def _run_trials(
    options: SearchOptions, opened: _OpenLog, known: dict[Subnet, Trial], budget: int
) -> list[Trial]:
    """Evaluate proposals until the number of trials is reached; logged ones are not run again."""
    net = opened.evaluator.net
    chooser = _chooser(options, net, opened.size, budget)
    rng = random.Random(options.seed)
    limit = options.num_trials if options.algorithm == "evolution" else net.space.size
    trials: list[Trial] = []
    bar = tqdm(total=limit, desc="search", unit="subnet", file=sys.stderr, disable=None)
    with graceful_stop() as stop, bar:
        while len(trials) < limit:
            generation = chooser.propose(trials, rng)[: limit - len(trials)]
            if not generation:
                break
            for subnet in generation:
                trials.append(_trial(opened, known, subnet))
                bar.update()
                _stop_if_asked(stop, trials, limit)
    return trials


def _stop_if_asked(stop: StopRequest, trials: list[Trial], limit: int) -> None:
    if stop.requested:
        raise Interrupted(
            f"stopped after {len(trials)} of {limit} trials; the same command goes on"
        )


def _trial(opened: _OpenLog, known: dict[Subnet, Trial], subnet: Subnet) -> Trial:
    if subnet in known:
        return known[subnet]
    entry = metric(opened.name)
    scores = opened.evaluator.scores(subnet)
    if opened.name not in scores:
        raise ConfigError(f"metric {opened.name} needs paired data; choose a teacher_... metric")
    loss = scores[opened.name] if entry.lower_is_better else -scores[opened.name]
    trial = Trial(subnet, opened.evaluator.net.macs(subnet, opened.size), loss, scores)
    opened.log.append(trial)
    return trial


def _summarise(name: str, size: int, trials: list[Trial], budgets: list[int]) -> SearchResult:
    chosen = {budget: best_under(trials, budget) for budget in budgets}
    return SearchResult(name, size, trials, pareto_front(trials), chosen)


def _as_json(result: SearchResult) -> dict[str, Any]:
    return {
        "metric": result.metric,
        "size": result.size,
        "num_trials": len(result.trials),
        "trials": [_trial_json(trial) for trial in result.trials],
        "front": [_trial_json(trial) for trial in result.front],
        "chosen": {str(budget): _trial_json(trial) for budget, trial in result.chosen.items()},
    }


def _trial_json(trial: Trial) -> dict[str, Any]:
    return {
        "subnet": str(trial.subnet),
        "macs": trial.macs,
        "loss": trial.loss,
        "scores": trial.scores,
    }


def load_result(run: Path) -> SearchResult:
    """The result of a finished search.

    Raises:
        ConfigError: The folder holds none.
    """
    path = RunFolder(run).done
    if not path.exists():
        raise ConfigError(f"{run} holds no finished search")
    content = json.loads(path.read_text())

    def trial(entry: dict[str, Any]) -> Trial:
        widths = tuple(int(w) for w in entry["subnet"].split("_"))
        return Trial(Subnet(widths), entry["macs"], entry["loss"], entry["scores"])

    return SearchResult(
        content["metric"],
        content["size"],
        [trial(entry) for entry in content["trials"]],
        [trial(entry) for entry in content["front"]],
        {int(budget): trial(entry) for budget, entry in content["chosen"].items()},
    )
