"""The search stage: generations of trials, the fronts, the best under each budget."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from gancompress.checkpoint.models import calibration_batches, run_splits
from gancompress.checkpoint.network import Network, load_network, load_supernet
from gancompress.checkpoint.run import RunFolder, keep_splits
from gancompress.config import SearchOptions, SupernetOptions, load_options
from gancompress.cost.table import load_device
from gancompress.data import Split, load_split
from gancompress.elastic import Subnet, Supernet
from gancompress.elastic.calibrate import norms_with_statistics
from gancompress.errors import CheckpointError, ConfigError, Interrupted
from gancompress.search.answers import answers
from gancompress.search.budgets import (
    Budget,
    default_budgets,
    limited,
    parse_budgets,
    search_costs,
)
from gancompress.search.crew import (
    Alone,
    Crew,
    Ranks,
    Task,
    Worker,
    agreed,
    pool,
    process_group,
    under_torchrun,
)
from gancompress.search.evaluator import Evaluator
from gancompress.search.front import Frame, growth, has_settled
from gancompress.search.problem import Problem
from gancompress.search.quality import Quality, load_quality
from gancompress.search.race import Rival, closest
from gancompress.search.result import SearchResult, load_result
from gancompress.search.searchers import (
    SEARCHERS,
    Guided,
    Searcher,
    SearcherOptions,
    generation_rng,
)
from gancompress.search.summary import write_search_report
from gancompress.search.trials import Trial, TrialLog
from gancompress.training.loop import graceful_stop

TRIALS_FILE = "trials.jsonl"
logger = logging.getLogger(__name__)
SETTLED = 1e-3  # relative gain in hypervolume that counts as none


@dataclass(frozen=True)
class Plan:
    """A search before anything has run.

    Attributes:
        net: The supernet.
        network: What its file says.
        size: Side of the images.
        everything: The space and all its costs.
        problem: The same as far as the largest budgets: costs that have none are left out.
        budgets: What is asked for.
        quality: What is optimised.
    """

    net: Supernet
    network: Network
    size: int
    everything: Problem
    problem: Problem
    budgets: list[Budget]
    quality: Quality


def plan_search(options: SearchOptions, device: torch.device) -> Plan:
    """Read the supernet and check budgets and metric; the budgets first, as that takes no time.

    Raises:
        BudgetError: No subnet fits a budget; names the smallest cost.
        ConfigError: A budget, the image size or the metric cannot be used.
        CheckpointError: The supernet's run or the metric's weights are missing.
    """
    net, network = load_supernet(options.supernet)
    size = options.size or int(network.header.get("image_size", 256))
    _check_size(size, network.stride)
    everything, problem, budgets = bounded(net, size, options)
    quality = load_quality(options.metric, options.features, device)
    return Plan(net, network, size, everything, problem, budgets, quality)


def bounded(
    net: Supernet, size: int, options: SearchOptions
) -> tuple[Problem, Problem, list[Budget]]:
    """All costs, what may be proposed under the budgets, and these; see `plan_search`."""
    devices = {}
    for path in options.devices:
        device = load_device(path)
        if device.name in devices:
            raise ConfigError(f"{path}: another table is named {device.name}, too")
        if device.doubt is not None:
            logger.warning("%s", device.doubt)
        devices[device.name] = device.predictor(net, size)
    everything = Problem(net.space, search_costs(net, size, devices))
    budgets = parse_budgets(options.budgets, everything.costs) or default_budgets(everything)
    return everything, limited(everything, budgets, size), budgets


def _check_size(size: int, stride: int) -> None:
    if size % stride:
        raise ConfigError(f"size={size} must be a multiple of the generators' stride {stride}")


def search(options: SearchOptions, device: torch.device, plan: Plan | None = None) -> SearchResult:
    """Search the fronts of a trained supernet, or go on with it.

    Under `torchrun` all ranks evaluate, and all return the same result.

    Args:
        options: Of the search.
        device: Where to evaluate.
        plan: What `plan_search` made of the same options, if that was asked before.

    Raises:
        BudgetError: No subnet fits a budget; nothing has run then.
        ConfigError: The image size, a budget or the metric cannot be used.
        CheckpointError: The supernet's run is missing or unfinished.
        Interrupted: A signal came; the same call goes on.
    """
    plan = plan or plan_search(options, device)
    run = RunFolder(options.run)
    with process_group():
        before = agreed(partial(_finished, options))
        if before is not None:
            return before
        return _search(options, plan, run, device)


def _finished(options: SearchOptions) -> SearchResult | None:
    """The result of the same search if it has ended before."""
    run = RunFolder(options.run)
    if not run.is_done or run.changes(options) or not _is_newer(run.done, options):
        return None
    return load_result(options.run)


def _search(
    options: SearchOptions, plan: Plan, run: RunFolder, device: torch.device
) -> SearchResult:
    with _claimed(run, options):  # trials carry a key of their own
        evaluator = open_evaluator(options, plan, device)
        with _crew(options, evaluator) as crew:
            if crew.writes:
                keep_splits(run, run_splits(options.supernet, _trained_by(options).data))
            search_run = _Run(options, plan, evaluator, crew)
            result = search_run.finish(search_run.trials())
            if crew.writes:
                split = run_splits(options.supernet, _trained_by(options).data).describe("search")
                write_search_report(result, evaluator, run.report, split)
                run.finish(result.as_json())
        return result


@contextmanager
def _claimed(run: RunFolder, options: SearchOptions) -> Iterator[None]:
    """The folder belongs to the process that writes."""
    if under_torchrun() and torch.distributed.get_rank() > 0:
        yield
        return
    with run.claim(options, same=False):
        yield


def _is_newer(done: Path, options: SearchOptions) -> bool:
    """Whether nothing that the search reads has changed since."""
    sources = (RunFolder(options.supernet).weights, *options.devices, *options.trials)
    return all(done.stat().st_mtime >= source.stat().st_mtime for source in sources)


def _trained_by(options: SearchOptions) -> SupernetOptions:
    return load_options(SupernetOptions, options.supernet / "config.yaml")


def search_split(options: SearchOptions, size: int) -> Split:
    """The images that the search sees: never those of the test split."""
    before = _trained_by(options)
    return load_split(before.data, "search", size, run_splits(options.supernet, before.data))


def open_evaluator(options: SearchOptions, plan: Plan, device: torch.device) -> Evaluator:
    """Everything that evaluations share.

    Raises:
        CheckpointError: The supernet is in training.
        ConfigError: The metric is unknown, or this data does not have what it needs.
    """
    before = _trained_by(options)
    progress = plan.network.header.get("progress", {})
    if progress.get("images", 0) < progress.get("of", 0):
        raise CheckpointError(
            f"{options.supernet} is in training: {progress['images']} of {progress['of']} images"
        )
    split = search_split(options, plan.size)
    teacher = load_network(options.supernet / "teacher.safetensors")
    _check_size(plan.size, teacher.stride)
    evaluator = Evaluator.of_split(
        plan.net.to(device).eval(),
        teacher.module.to(device).eval(),
        split,
        options.max_images,
        options.batch_size,
        device,
    )
    evaluator.quality = plan.quality
    evaluator.check()
    if norms_with_statistics(plan.net.generator):
        splits = run_splits(options.supernet, before.data)
        evaluator.calibration = list(calibration_batches(before.data, device, splits))
    return evaluator


def _make_worker(content: dict[str, Any]) -> Worker:
    """The worker of another process, from the search's options and device as plain content."""
    options = SearchOptions.model_validate(content["options"])
    device = torch.device(content["device"])
    return open_evaluator(options, plan_search(options, device), device).measure


@contextmanager
def _crew(options: SearchOptions, evaluator: Evaluator) -> Iterator[Crew]:
    if under_torchrun():
        yield Ranks(evaluator.measure)
    elif options.workers > 1:
        content = {"options": options.model_dump(mode="json"), "device": str(evaluator.device)}
        with pool(options.workers, _make_worker, content) as crew:
            yield crew
    else:
        yield Alone(evaluator.measure)


@dataclass
class _Run:
    """One search in progress."""

    options: SearchOptions
    plan: Plan
    evaluator: Evaluator
    crew: Crew

    def __post_init__(self) -> None:
        key = f"{self.evaluator.fingerprint()}:{self.plan.size}"
        path = self.options.run / TRIALS_FILE
        digest = hashlib.sha256(key.encode()).hexdigest()
        self.log = TrialLog(path, digest, self._race())
        self.known = self.crew.agree(lambda: self.log.load(self.plan.net.space))
        self.given = self.crew.agree(self._from_others)
        self.searcher = self._searcher()
        self.started = time.monotonic()

    def _race(self) -> str:
        """What decides which subnets meet, and so whether one is given up."""
        options, problem = self.options, self.plan.problem
        chosen = options.model_dump(
            mode="json",
            include={
                *("seed", "algorithm", "racing", "population", "parent_ratio", "mutation_ratio"),
                *("mutate_prob", "trials"),
            },
        )
        limits = {name: problem.limit(name) for name in problem.costs}
        text = json.dumps([chosen, limits, sorted(self.plan.everything.costs)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _from_others(self) -> list[Trial]:
        """Complete trials of other logs that fit; they count as if they had been evaluated here.

        Raises:
            ConfigError: A log is missing.
        """
        space = self.plan.net.space
        found: dict[Subnet, Trial] = {}
        for path in self.options.trials:
            found |= self.log.load_other(path, space)
        subnets = sorted(found, key=lambda subnet: subnet.widths)
        if not subnets:
            return []
        fits = self.plan.problem.fits(space.genomes(subnets))
        return [found[subnet] for subnet, inside in zip(subnets, fits, strict=True) if inside]

    def _searcher(self) -> Searcher:
        options = self.options
        chosen = SearcherOptions(
            options.population,
            options.parent_ratio,
            options.mutation_ratio,
            options.mutate_prob,
        )
        return SEARCHERS[options.algorithm](chosen)

    def trials(self) -> list[Trial]:
        """Generation by generation, until the number, the time, or a front that does not move.

        Logged trials are not run again, so a search that was stopped repeats its steps up to
        where it was and goes on.

        Raises:
            Interrupted: A signal came.
        """
        size = self.plan.net.space.size
        limit = size if self.options.algorithm == "exhaustive" else self.options.num_trials
        limit = min(limit, size)
        trials: list[Trial] = list(self.given)
        ends: list[int] = [len(trials)] if trials else []
        bar = tqdm(total=limit, desc="search", unit="subnet", file=sys.stderr, disable=None)
        with graceful_stop() as stop, bar:
            while generation := self.crew.agree(partial(self._next, trials, ends, limit)):
                made = self._evaluate(generation, trials, lambda: stop.requested, bar)
                if made is None:
                    done = len(trials) + sum(subnet in self.known for subnet in generation)
                    raise Interrupted(
                        f"stopped after {done} of {limit} trials; the same command goes on"
                    )
                trials += made
                ends.append(len(trials))
        return trials

    def _next(self, trials: list[Trial], ends: list[int], limit: int) -> list[Subnet]:
        """The next generation; empty at the end of the search."""
        if len(trials) >= limit or self._is_over(trials, ends):
            return []
        rng = generation_rng(self.options.seed, len(trials))
        return self.searcher.propose(self.plan.problem, trials, rng)[: limit - len(trials)]

    def _evaluate(
        self, generation: list[Subnet], trials: list[Trial], stop: Any, bar: Any
    ) -> list[Trial] | None:
        """A generation's trials, the known ones from the log.

        Rivals come from the generations before, so nothing depends on who is faster.
        """
        left = [subnet for subnet in generation if subnet not in self.known]
        rivals = self._rivals(left, trials)
        tasks = [Task(subnet, rivals[subnet]) for subnet in left]
        bar.update(len(generation) - len(left))

        def done(trial: Trial) -> None:
            self.known[trial.subnet] = trial
            if self.crew.writes:
                self.log.append(trial)
            bar.update()

        if self.crew.evaluate(tasks, done, stop) is None:
            return None
        return [self.known[subnet] for subnet in generation]

    def _rivals(
        self, generation: list[Subnet], trials: list[Trial]
    ) -> dict[Subnet, tuple[Rival, ...]]:
        """For each subnet the best complete trials that cost no more on any axis."""
        whole = [trial for trial in trials if trial.complete and trial.values]
        if not (self.options.racing and whole and generation):
            return dict.fromkeys(generation, ())
        problem = self.plan.everything
        theirs = problem.space.genomes(trial.subnet for trial in whole)
        ours = problem.space.genomes(generation)
        cheaper = np.ones((len(generation), len(whole)), bool)
        for name in problem.costs:  # all of them: each has a front that is shown
            cheaper &= problem.values(theirs, name)[None] <= problem.values(ours, name)[:, None]
        made = [Rival(trial.loss, np.array(trial.values)) for trial in whole]
        return {
            subnet: tuple(closest([(made[i].loss, made[i]) for i in np.flatnonzero(row)]))
            for subnet, row in zip(generation, cheaper, strict=True)
        }

    def _is_over(self, trials: list[Trial], ends: list[int]) -> bool:
        options = self.options
        minutes = (time.monotonic() - self.started) / 60
        if options.max_minutes is not None and minutes >= options.max_minutes:
            return True
        if options.patience is None or len(ends) <= options.patience:
            return False
        problem = self.plan.problem
        genomes = problem.space.genomes(trial.subnet for trial in trials)
        losses = np.array([t.loss if t.complete else np.inf for t in trials])
        volumes = []
        for name in problem.costs:
            costs = problem.values(genomes, name)
            inside = np.isfinite(losses) & (costs <= problem.limit(name))
            if not inside.any():
                return False  # this budget has no answer yet
            frame = Frame.around(costs[inside], losses[inside], problem.limit(name))
            volumes.append(growth(costs, losses, ends, frame))
        return has_settled(np.array(volumes).T, options.patience, SETTLED)

    def finish(self, trials: list[Trial]) -> SearchResult:
        """The fronts and the answers."""
        quality = self.evaluator.quality
        found = answers(self.plan.problem, self.plan.budgets, trials, self._on_all_images())
        names = ("forward", "features", "distance")
        seconds = {name: sum(t.seconds.get(name, 0.0) for t in trials) for name in names}
        space, costs = self.plan.net.space, self.plan.everything.costs
        genomes = space.genomes(trial.subnet for trial in trials)
        return SearchResult(
            quality.name,
            quality.lower_is_better,
            self.plan.size,
            trials,
            {name: [float(value) for value in costs[name](genomes)] for name in costs},
            found,
            seconds,
            self._predictor(trials),
        )

    def _predictor(self, trials: list[Trial]) -> dict[str, float]:
        """How far a guided search's predictor can be believed, where there are enough trials."""
        if not isinstance(self.searcher, Guided):
            return {}
        report = asdict(self.searcher.report(self.plan.problem, trials))
        return {} if math.isnan(report["kendall_tau"]) else report

    def _on_all_images(self) -> Evaluator:
        """An evaluator over the whole search split."""
        split = search_split(self.options, self.plan.size)
        if len(split.inputs) == len(self.evaluator.inputs):
            return self.evaluator
        own = self.evaluator
        whole = Evaluator.of_split(own.net, own.teacher, split, None, own.batch_size, own.device)
        whole.quality, whole.calibration = own.quality, own.calibration
        return whole
