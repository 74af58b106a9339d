"""The loop of a search: generation after generation of trials, and what the logs hold besides."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from gancompress.config import SearchOptions
from gancompress.distributed import agreed, rank
from gancompress.elastic import Subnet
from gancompress.errors import GanCompressError, Interrupted
from gancompress.progress import Progress
from gancompress.search.evaluator import Evaluator
from gancompress.search.executor import Executor, Request
from gancompress.search.front import Frame, growth, has_settled
from gancompress.search.log import TRIALS_FILE, TrialLog
from gancompress.search.origin import measured_with
from gancompress.search.plan import Plan
from gancompress.search.racing import rivals_of
from gancompress.search.searchers import generation_rng
from gancompress.search.trials import Trial
from gancompress.training.loop import graceful_stop

logger = logging.getLogger(__name__)

SETTLED = 1e-3  # relative gain in hypervolume that counts as none
FEW_FAILED = 3  # trials that may fail before their share counts
SHARE_FAILED = 0.2


def require_scores(trials: Sequence[Trial], few: int) -> None:
    """Raise if too many trials failed: that is no matter of single subnets.

    Args:
        trials: So far.
        few: How many may fail in any case.
    """
    failed = [trial for trial in trials if trial.failure]
    if len(failed) > max(few, SHARE_FAILED * len(trials)):
        raise GanCompressError(
            f"{len(failed)} of {len(trials)} subnets failed; the first one, {failed[0].subnet}: "
            f"{failed[0].failure}\n"
            "  The others are kept; rerun this command once the cause is mended."
        )


@dataclass
class SearchLoop:
    """One search in progress.

    What it proposes depends on its options and on the trials it has made, never on what else a
    log holds: so it repeats its steps after a kill, and beside any other log. What is known is not
    evaluated again, and nothing that is known is missing from what it returns.

    Attributes:
        options: Of the search.
        plan: Space, costs and budgets.
        evaluator: Of this process.
        executor: Who evaluates.
    """

    options: SearchOptions
    plan: Plan
    evaluator: Evaluator
    executor: Executor

    def __post_init__(self) -> None:
        path = self.options.run / TRIALS_FILE
        self.log = TrialLog(path, measured_with(self.evaluator), self._race())
        self.known = agreed(self._read_logs)
        self.started = time.monotonic()

    def _race(self) -> str:
        """What decides which subnets meet, and so whether one is given up."""
        options, plan = self.options, self.plan
        chosen = options.model_dump(mode="json", include={"seed", "searcher", "racing"})
        limits = {name: plan.problem.limit(name) for name in plan.problem.costs}
        tables = [hashlib.sha256(path.read_bytes()).hexdigest() for path in options.devices]
        text = json.dumps([chosen, limits, sorted(plan.everything.costs), tables])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _read_logs(self) -> dict[Subnet, Trial]:
        """All trials of the own log and the complete ones of others.

        Raises:
            ConfigError: A log is missing.
        """
        space = self.plan.net.space
        known = self.log.load(space)
        for path in self.options.trials:
            for subnet, trial in self.log.load_other(path, space).items():
                if subnet not in known or not known[subnet].complete:
                    known[subnet] = trial
        return known

    def run(self) -> list[Trial]:
        """Trials of this search in their order, then the others that are known.

        Raises:
            Interrupted: A signal came.
            GanCompressError: More than a few of them failed.
        """
        made = self._made()
        require_scores(made, 0)
        return made + self._others({trial.subnet for trial in made})

    def _others(self, made: set[Subnet]) -> list[Trial]:
        """Complete trials that only the logs know, if they fit a budget; in order of widths."""
        rest = [trial for trial in self.known.values() if trial.complete]
        rest = [trial for trial in rest if trial.subnet not in made]
        rest.sort(key=lambda trial: trial.subnet.values)
        genomes = self.plan.net.space.genomes(trial.subnet for trial in rest)
        fits = self.plan.problem.fits(genomes)
        return [trial for trial, inside in zip(rest, fits, strict=True) if inside]

    def _made(self) -> list[Trial]:
        """Generation by generation, until the number, the time, or a front that does not move.

        Known trials are not run again, so a search that was stopped repeats its steps up to
        where it was and goes on.
        """
        size = self.plan.net.space.distinct
        limit = size if self.plan.searcher.lists_all else self.options.num_trials
        limit = min(limit, size)
        trials: list[Trial] = []
        ends: list[int] = []
        bar = Progress(limit, "search", "subnets", shown=rank() == 0)
        with graceful_stop() as stop, bar:
            while generation := agreed(partial(self._next, trials, ends, limit)):
                whole = self._evaluate(generation, trials, lambda: stop.requested, bar)
                trials += [self.known[subnet] for subnet in generation if subnet in self.known]
                ends.append(len(trials))
                if not whole and not agreed(partial(self._time_is_up, trials)):
                    raise Interrupted(
                        f"stopped after {len(trials)} of {limit} trials; "
                        "rerun this command to resume"
                    )
        return trials

    def _next(self, trials: list[Trial], ends: list[int], limit: int) -> list[Subnet]:
        """The next generation; empty at the end of the search."""
        if len(trials) >= limit or self._is_over(trials, ends):
            return []
        rng = generation_rng(self.options.seed, len(trials))
        return self.plan.searcher.propose(self.plan.problem, trials, rng)[: limit - len(trials)]

    def _evaluate(
        self, generation: list[Subnet], trials: list[Trial], stop: Callable[[], bool], bar: Progress
    ) -> bool:
        """Make a generation known; whether all of it is, before the time was up or a signal came.

        Rivals come from the generations before, so nothing depends on who is faster.
        """
        left = [subnet for subnet in generation if subnet not in self.known]
        racing = self.options.racing and not self.evaluator.quality.is_distance
        whole = [trial for trial in trials if trial.complete and trial.values] if racing else []
        rivals = rivals_of(self.plan.everything, left, whole)
        requests = [Request(subnet, rivals[subnet]) for subnet in left]
        bar.update(len(generation) - len(left))
        found = [*trials, *(self.known[subnet] for subnet in generation if subnet in self.known)]

        def done(trial: Trial) -> None:
            self.known[trial.subnet] = trial
            found.append(trial)
            if rank() == 0:
                self.log.append(trial)
                if trial.failure:
                    logger.warning("subnet %s failed: %s", trial.subnet, trial.failure)
            bar.update()
            require_scores(found, FEW_FAILED)

        def is_over() -> bool:  # one clock decides, or ranks would end differently
            return stop() or (rank() == 0 and self._time_is_up(found))

        return self.executor.evaluate(requests, done, is_over) is not None

    def _time_is_up(self, trials: list[Trial]) -> bool:
        """Whether this call took its minutes; one trial is always made."""
        limit = self.options.max_minutes
        return limit is not None and bool(trials) and time.monotonic() - self.started >= 60 * limit

    def _is_over(self, trials: list[Trial], ends: list[int]) -> bool:
        """Whether the time is up or no front has moved for some generations."""
        options = self.options
        if self._time_is_up(trials):
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
