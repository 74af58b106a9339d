"""The search stage: generations of trials, the fronts, the best under each budget."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from gancompress.checkpoint.models import run_splits
from gancompress.checkpoint.run import RunFolder, keep_splits
from gancompress.config import SearchOptions
from gancompress.elastic import Subnet
from gancompress.errors import ConfigError, Interrupted
from gancompress.search.conclusion import conclude
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
from gancompress.search.plan import (
    Plan,
    open_evaluator,
    plan_search,
    trained_by,
)
from gancompress.search.race import rivals_of
from gancompress.search.result import SearchResult, load_result
from gancompress.search.searchers import (
    SEARCHERS,
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
        _check_alike(evaluator.runtime)
        with _crew(options, evaluator) as crew:
            if crew.writes:
                keep_splits(run, run_splits(options.supernet, trained_by(options).data))
            search_run = _Run(options, plan, evaluator, crew)
            result = search_run.result()
            if crew.writes:
                split = run_splits(options.supernet, trained_by(options).data).describe("search")
                write_search_report(result, evaluator, run.report, split)
                run.finish(result.as_json())
        return result


def _check_alike(runtime: str) -> None:
    """Raise unless this rank evaluates as the first one does."""
    first = agreed(lambda: runtime)
    if runtime != first:
        raise ConfigError(
            f"this rank evaluates with {runtime}, the first one with {first}: scores would be mixed"
            "\n  Take --runtime eager."
        )


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
                *("mutate_prob", "trials", "screen_images"),
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

    def result(self) -> SearchResult:
        """All trials and what they say."""
        trials = self.trials()
        return conclude(self.options, self.plan, self.evaluator, self.searcher, trials)

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
        is_distance = self.evaluator.quality.is_distance
        racing = self.options.screen_images is not None if is_distance else self.options.racing
        whole = [trial for trial in trials if trial.complete and trial.values] if racing else []
        rivals = rivals_of(self.plan.everything, left, whole)
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
