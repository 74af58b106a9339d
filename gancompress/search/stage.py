"""The search stage: who evaluates, where it is kept, and whether it was done before."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gancompress.checkpoint.models import run_splits
from gancompress.checkpoint.run import RunFolder, keep_splits
from gancompress.config import SearchOptions
from gancompress.distributed import agreed, on_first_rank, process_group, under_torchrun
from gancompress.errors import ConfigError
from gancompress.search.conclusion import conclude
from gancompress.search.course import Course
from gancompress.search.crew import (
    Alone,
    Crew,
    Ranks,
    Worker,
    pool,
)
from gancompress.search.evaluator import Evaluator
from gancompress.search.plan import Plan, open_evaluator, plan_search, trained_by
from gancompress.search.result import SearchResult, load_result
from gancompress.search.summary import write_search_report

logger = logging.getLogger(__name__)


def search(
    options: SearchOptions,
    device: torch.device,
    plan: Plan | None = None,
    trusted: Sequence[str] = (),
) -> SearchResult:
    """Search the fronts of a trained supernet, or go on with it.

    Under `torchrun` all ranks evaluate, and all return the same result. Options that are refused
    leave the folder as it was.

    Args:
        options: Of the search.
        device: Where to evaluate.
        plan: What `plan_search` made of the same options, if that was asked before.
        trusted: As for `plan_search`; the plan has its own.

    Raises:
        BudgetError: No subnet fits a budget; nothing has run then.
        ConfigError: The image size, a budget or the metric cannot be used.
        CheckpointError: The supernet's run is missing or unfinished.
        Interrupted: A signal came; the same call goes on.
    """
    plan = plan or plan_search(options, device, trusted)
    run = RunFolder(options.run)
    with process_group(device):
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
    # whatever refuses does so before the folder's options and result are replaced
    evaluator = open_evaluator(options, plan, device)
    _check_alike(evaluator.runtime)
    evaluator.prepare()
    claimed = on_first_rank(lambda: run.claim(options, same=False))
    with claimed, _crew(options, evaluator, plan.trusted) as crew:
        splits = run_splits(options.supernet, trained_by(options).data)
        if crew.writes:
            keep_splits(run, splits)
        course = Course(options, plan, evaluator, crew)
        result = conclude(options, plan, evaluator, course.run())
        if crew.writes:
            write_search_report(result, evaluator, run.report, splits.describe("search"))
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


def _is_newer(done: Path, options: SearchOptions) -> bool:
    """Whether nothing that the search reads has changed since."""
    sources = (RunFolder(options.supernet).weights, *options.devices, *options.trials)
    return all(done.stat().st_mtime >= source.stat().st_mtime for source in sources)


def _make_worker(content: dict[str, Any]) -> Worker:
    """The worker of another process, from the search's options and device as plain content."""
    options = SearchOptions.model_validate(content["options"])
    device = torch.device(content["device"])
    plan = plan_search(options, device, content["trusted"])
    return open_evaluator(options, plan, device).measure


@contextmanager
def _crew(
    options: SearchOptions, evaluator: Evaluator, trusted: tuple[str, ...] = ()
) -> Iterator[Crew]:
    if under_torchrun():
        crew = Ranks(evaluator.measure)
        if options.workers > 1 and crew.writes:
            logger.warning("workers=%d is ignored: every rank is one process", options.workers)
        yield crew
    elif options.workers > 1:
        content = {
            "options": options.model_dump(mode="json"),
            "device": str(evaluator.device),
            "trusted": trusted,
        }
        with pool(options.workers, _make_worker, content) as several:
            yield several
    else:
        yield Alone(evaluator.measure)
