"""Translate an image, a folder of images or a video, whichever is given."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from gancompress.data import RGB, ImageKind
from gancompress.data.image_kinds import GREY
from gancompress.data.images import MAX_PIXELS
from gancompress.data.translation import Generator
from gancompress.errors import ConfigError, DataError
from gancompress.extras import require
from gancompress.inference.batches import attempt_images, translate_images
from gancompress.inference.options import TranslateOptions, TranslateResult
from gancompress.inference.plan import (
    VIDEO_SUFFIXES,
    VIDEO_TARGETS,
    Job,
    plan_file,
    plan_folder,
)
from gancompress.inference.pool import in_order, progress, worker_pool
from gancompress.inference.resize import resize_shorter

__all__ = ["TranslateOptions", "TranslateResult", "translate_images", "translate_path"]

MAX_NAMED = 5


@dataclass(frozen=True)
class Item:
    """A file on its way: (C, H, W) uint8, or why it has none."""

    job: Job
    result: Tensor | DataError


def translate_path(
    generator: Generator, source: Path, target: Path, options: TranslateOptions
) -> TranslateResult:
    """Translate an image, every image below a folder, or a video.

    Outputs that exist are replaced, and only by whole files. Of an animated image the first
    frame is translated.

    Args:
        generator: As in `translate_images`.
        source: A folder, a video (by its suffix), or an image (whatever its suffix).
        target: For an image or a video: a file, or a folder, which is what a name without suffix
            is. For a folder: a folder.
        options: How to batch, resize and write.

    Raises:
        DataError: An input is missing or unreadable, an output is not finite or cannot be
            written. In a folder the other images are translated first; the error then names up
            to five that failed and counts them.
        ConfigError: The generator does not keep the size of its input.
    """
    start = time.perf_counter()
    if not source.exists():
        raise DataError(f"no file or folder {source}")
    num_images = num_frames = 0
    suffix = options.suffix or options.output.suffix
    if source.is_dir():
        jobs = plan_folder(source, target, suffix, options.input.read_suffixes)
        num_images = _translate_files(generator, jobs, options)
    elif source.suffix.lower() in VIDEO_SUFFIXES:
        if options.input != RGB or options.output not in (RGB, GREY):
            raise ConfigError(
                f"{source}: videos are RGB (grey may be written), and the generator makes "
                f"{options.output} images of {options.input} ones"
            )
        job = plan_file(source, target, ".mp4", VIDEO_TARGETS)
        require("av", "video")
        from gancompress.inference.video import translate_video

        num_frames = translate_video(generator, job, options)
    else:
        job = plan_file(source, target, suffix, options.output.suffixes)
        num_images = _translate_files(generator, [job], options)
    return TranslateResult(num_images, num_frames, time.perf_counter() - start)


def _translate_files(generator: Generator, jobs: list[Job], options: TranslateOptions) -> int:
    """Decode, translate and write; threads decode and write while the generator works."""
    failures = []
    with worker_pool() as pool:
        depth = options.batch_size + 1
        decoded = in_order(pool, partial(_decode, options=options), jobs, depth)
        fakes = _generated(generator, decoded, options)
        for item in progress(
            in_order(pool, partial(_write, kind=options.output), fakes, depth), len(jobs), "image"
        ):
            if isinstance(item.result, DataError):
                failures.append(item.result)
    if failures:
        raise _summary(failures, len(jobs))
    return len(jobs)


def _decode(job: Job, options: TranslateOptions) -> Item:
    kind, name = options.input, str(job.source)
    try:
        planes = resize_shorter(kind.read(job.source), options.size, name, kind)
        return Item(job, kind.to_tensor(planes))
    except DataError as error:
        return Item(job, error)


def _generated(
    generator: Generator, items: Iterable[Item], options: TranslateOptions
) -> Iterator[Item]:
    for window in _windows(items, options.batch_size):
        images = [item.result for item in window if isinstance(item.result, Tensor)]
        outcomes = iter(
            attempt_images(generator, images, options.stride, options.batch_size, options.device)
        )
        for item in window:
            if isinstance(item.result, DataError):
                yield item
                continue
            outcome = next(outcomes)
            if isinstance(outcome, str):
                yield Item(item.job, DataError(f"{item.job.source}: {outcome}"))
            else:
                yield Item(item.job, outcome)


def _windows(items: Iterable[Item], batch_size: int) -> Iterator[list[Item]]:
    """Stretches long enough to find images of equal size in, and small enough for memory."""
    length = batch_size if batch_size == 1 else 4 * batch_size
    window: list[Item] = []
    pixels = 0
    for item in items:
        window.append(item)
        if isinstance(item.result, Tensor):
            pixels += item.result[0].numel()
        if len(window) == length or pixels >= MAX_PIXELS:
            yield window
            window, pixels = [], 0
    if window:
        yield window


def _write(item: Item, kind: ImageKind) -> Item:
    """Write one output; what concerns this image is noted, what would stop them all is raised."""
    if isinstance(item.result, DataError):
        return item
    try:
        kind.save(item.result, item.job.target)
    except DataError as error:
        return Item(item.job, error)
    except OSError as error:
        raise DataError(f"{item.job.target}: cannot be written: {error.strerror}") from None
    return item


def _summary(failures: list[DataError], total: int) -> DataError:
    if total == 1:
        return failures[0]
    count = len(failures)
    rest = f"; the other {total - count} are written" if count < total else ""
    lines = [f"{count} of {total} images could not be translated{rest}"]
    lines += [f"  {str(failure).splitlines()[0]}" for failure in failures[:MAX_NAMED]]
    if count > MAX_NAMED:
        lines.append(f"  and {count - MAX_NAMED} more")
    return DataError("\n".join(lines))
