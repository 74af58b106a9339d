"""A few real steps of every stage on a few images: what would fail later fails at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import torch

from gancompress.checkpoint.run import RunFolder, planned_splits
from gancompress.config import CompressOptions, LogOptions, SupernetOptions, TeacherOptions
from gancompress.distributed import choose_device
from gancompress.search.plan import open_evaluator, plan_search
from gancompress.training.functions import function_kind
from gancompress.training.stages import PAIRS, train_supernet, train_teacher

NUM_STEPS = 3
NUM_IMAGES = 2
NEVER = 10**12  # images

T = TypeVar("T", TeacherOptions, SupernetOptions)


def rehearse(
    options: CompressOptions, device: torch.device | str = "auto", trusted: Sequence[str] = ()
) -> dict[str, float]:
    """Run every stage that has not ended for a few steps, in a folder of its own.

    Args:
        options: Of all stages; their folders are only read.
        device: Where to compute.
        trusted: As for `compress`.

    Returns:
        Seconds that each of these stages will take here, by its name. The rate is that of the first
        steps, which are slower than the others; scores, samples and answers are left out.

    Raises:
        GanCompressError: Whatever a stage refuses.
    """
    device, seconds = choose_device(device), {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        teacher, supernet = options.teacher, options.supernet
        if teacher is not None and not RunFolder(teacher.run).is_done:
            short = _shortened(teacher, folder / "teacher")
            train_teacher(short, device)
            seconds["teacher"] = teacher.schedule.total_images / _rate(short.run)
            source = supernet.teacher.model_copy(update={"weights": short.run})
            supernet = supernet.model_copy(update={"teacher": source})
        if not RunFolder(supernet.run).is_done:
            source = supernet.teacher
            if function_kind(source) is not None:  # what it answers here is not asked for again
                pairs = source.pairs or supernet.run.parent / PAIRS
                source = source.model_copy(update={"pairs": pairs})
            supernet = _shortened(supernet, folder / "supernet")
            supernet = supernet.model_copy(update={"teacher": source})
            train_supernet(supernet, device, trusted)
            total = options.supernet.schedule.total_images
            seconds["supernet"] = total / _rate(supernet.run)
        if not RunFolder(options.search.run).is_done:
            seconds["search"] = _search_seconds(options, supernet.run, device, trusted)
    return seconds


def _shortened(options: T, run: Path) -> T:
    size = options.schedule.batch_size
    steps = {"num_images": NUM_STEPS * size, "num_images_decay": 0}
    log = LogOptions(
        log_every=NEVER, sample_every=NEVER, checkpoint_every=NEVER, num_samples=NUM_IMAGES
    )
    update = {
        "run": run,
        "data": options.data.model_copy(update={"max_images": max(NUM_IMAGES, size)}),
        "schedule": options.schedule.model_copy(update=steps),
        "log": log,
    }
    return options.model_copy(update=update)


def _rate(run: Path) -> float:
    """Images per second of a short training."""
    rates = [line["images_per_second"] for line in RunFolder(run).read_log() if "epoch" in line]
    return max(float(rates[-1]), 1e-3)


def _search_seconds(
    options: CompressOptions, supernet: Path, device: torch.device, trusted: Sequence[str]
) -> float:
    """Time of one subnet on the images of the search, times the number of subnets."""
    search = options.search.model_copy(update={"supernet": supernet})
    plan = plan_search(search, device, trusted)
    evaluator = open_evaluator(search, plan, device)
    evaluator.prepare()
    start = time.perf_counter()
    evaluator.measure(plan.net.space.smallest())
    each = (time.perf_counter() - start) / len(evaluator.inputs)
    full = options.supernet
    splits = planned_splits(RunFolder(full.run), full.data, full.teacher.path)
    count = len(splits.inputs("search", full.data.direction))
    trials = min(options.search.num_trials, plan.net.space.size)
    return each * min(count, options.search.max_images or count) * trials
