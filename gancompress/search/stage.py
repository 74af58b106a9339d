"""The search stage: who evaluates, where it is kept, and whether it was done before."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from gancompress.checkpoint.models import run_splits
from gancompress.checkpoint.run import TEACHER_FILE, RunFolder, keep_splits
from gancompress.config import SearchOptions, read_json
from gancompress.data.hashing import file_digests
from gancompress.distributed import (
    agreed,
    choose_device,
    on_first_rank,
    process_group,
    rank,
    under_torchrun,
)
from gancompress.errors import ConfigError, DataError
from gancompress.hashes import file_sha256
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
    if not run.is_done or run.changes(options) or not _is_current(run, made_from(options)):
        return None
    return load_result(options.run)


def _search(
    options: SearchOptions, plan: Plan, run: RunFolder, device: torch.device
) -> SearchResult:
    # whatever refuses does so before the folder's options and result are replaced
    # before anything is read: what is replaced during the search was not searched
    sources = made_from(options) if rank() == 0 else {}
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
            run.finish({**result.as_json(), "made_from": sources})
    return result


def _check_alike(runtime: str) -> None:
    """Raise unless this rank evaluates as the first one does."""
    first = agreed(lambda: runtime)
    if runtime != first:
        raise ConfigError(
            f"this rank evaluates with {runtime}, the first one with {first}: scores would be mixed"
            "\n  Take --runtime eager."
        )


def made_from(options: SearchOptions) -> dict[str, str]:
    """SHA-256 of everything that a search reads; of files that are not there nothing."""
    files = {
        "weights": RunFolder(options.supernet).weights,
        "teacher": options.supernet / TEACHER_FILE,
        **{f"table {path}": path for path in options.devices},
        **{f"trials {path}": path for path in options.trials},
        **{f"features {name}": Path(source) for name, source in options.features.items()},
    }
    found = {name: file_sha256(path) for name, path in files.items() if path.is_file()}
    data = trained_by(options).data
    with suppress(DataError):  # what is gone has not become another
        lists = run_splits(options.supernet, data).lists.get("search", {})
        for side, images in lists.items():
            digests = file_digests([data.root / image.name for image in images])
            found[f"images {side}"] = hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()
    return found


def _is_current(run: RunFolder, sources: dict[str, str]) -> bool:
    """Whether a result is of these sources, so far as they are there and it says."""
    try:
        before = read_json(run.done).get("made_from", sources)
        return all(before.get(name) == digest for name, digest in sources.items())
    except (ConfigError, AttributeError):
        return False  # damaged


def _make_worker(path: Path) -> Worker:
    """The worker of another process."""
    return load_evaluator(path).attempt


@contextmanager
def _executor(
    options: SearchOptions, evaluator: Evaluator, trusted: tuple[str, ...] = ()
) -> Iterator[Executor]:
    """Who evaluates; the evaluator is prepared."""
    if under_torchrun():
        if options.workers > 1 and rank() == 0:
            logger.warning("workers=%d is ignored: every rank is one process", options.workers)
        yield RankExecutor(evaluator.attempt)
    elif options.workers > 1:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "evaluator.safetensors"
            save_evaluator(path, evaluator, options, trusted)
            with pool(options.workers, _make_worker, path) as several:
                yield several
    else:
        yield SerialExecutor(evaluator.attempt)
