"""The search stage: who evaluates, where it is kept, and whether it was done before."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from gancompress.checkpoint.models import run_splits
from gancompress.checkpoint.run import RunFolder, keep_splits
from gancompress.config import SearchOptions
from gancompress.distributed import (
    agreed,
    choose_device,
    on_first_rank,
    process_group,
    rank,
    under_torchrun,
)
from gancompress.errors import ConfigError
from gancompress.search.answers import conclude
from gancompress.search.evaluator import Evaluator
from gancompress.search.executor import (
    Executor,
    RankExecutor,
    SerialExecutor,
    Worker,
    pool,
)
from gancompress.search.loop import SearchLoop
from gancompress.search.plan import (
    Plan,
    load_evaluator,
    open_evaluator,
    plan_search,
    save_evaluator,
    trained_by,
)
from gancompress.search.report import write_search_report
from gancompress.search.result import SearchResult, load_result

logger = logging.getLogger(__name__)


def search(
    options: SearchOptions,
    device: torch.device | str = "auto",
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
    device = choose_device(device)
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
    claim = on_first_rank(lambda: run.claim(options, same=False))
    with claim, _executor(options, evaluator, plan.trusted) as executor:
        splits = run_splits(options.supernet, trained_by(options).data)
        if rank() == 0:
            keep_splits(run, splits)
        trials = SearchLoop(options, plan, evaluator, executor).run()
        result = conclude(options, plan, evaluator, trials)
        if rank() == 0:
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


def _make_worker(path: Path) -> Worker:
    """The worker of another process."""
    return load_evaluator(path).measure


@contextmanager
def _executor(
    options: SearchOptions, evaluator: Evaluator, trusted: tuple[str, ...] = ()
) -> Iterator[Executor]:
    """Who evaluates; the evaluator is prepared."""
    if under_torchrun():
        if options.workers > 1 and rank() == 0:
            logger.warning("workers=%d is ignored: every rank is one process", options.workers)
        yield RankExecutor(evaluator.measure)
    elif options.workers > 1:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "evaluator.safetensors"
            save_evaluator(path, evaluator, options, trusted)
            with pool(options.workers, _make_worker, path) as several:
                yield several
    else:
        yield SerialExecutor(evaluator.measure)
