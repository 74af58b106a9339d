"""The one training loop: learning rate, checkpoints, resuming, signals, log, samples."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor

from gancompress.checkpoint.run import RunFolder
from gancompress.config import LogOptions, ScheduleOptions, Section
from gancompress.data import Batch, BatchStream, mix, save_image
from gancompress.distributed import (
    agreed,
    any_rank,
    averaged,
    on_first_rank,
    process_group,
    rank,
    share_of,
    shared,
    under_torchrun,
    whole_batches,
    world_size,
)
from gancompress.errors import CheckpointError, DataError, GanCompressError, Interrupted
from gancompress.progress import Progress
from gancompress.training.health import Health, Samples, StepSkipped

Losses = dict[str, Tensor]
logger = logging.getLogger(__name__)

MAX_SKIPPED = 10
"""Steps in a row whose gradients may be not finite."""
CHECKPOINT_SECONDS = 600
"""The state is saved this often at least."""
STOPPING = {
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    if hasattr(signal, name)
}
"""Signals that end a training with its state saved."""
READ_AGAIN = (0.2, 1.0)
"""Seconds until a batch that could not be read is read again."""


class Task(Protocol):
    """What a stage gives the loop.

    Attributes:
        optimisers: All of them; the loop sets their learning rate.
    """

    optimisers: list[torch.optim.Optimizer]

    def step(self, batch: Batch, rng: torch.Generator, progress: float) -> Losses:
        """Update the weights with one batch; return scalar losses by name.

        Args:
            batch: Images.
            rng: Source of everything random in this step.
            progress: Share of the training that is over, in [0, 1).

        Raises:
            StepSkipped: A gradient is not finite; the weights that it trains are as they were.
        """

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""

    def evaluate(self) -> dict[str, float]:
        """Scores on held-out images."""

    def samples(self) -> Samples:
        """Example images."""

    def save(self, run: RunFolder, progress: dict[str, Any]) -> None:
        """Write the stage's weights into the run folder."""


@dataclass
class Trainer:
    """Runs a task until its schedule ends.

    Step number k sees the batch, the random numbers and the learning rate that (seed, k) give, so
    a run that was killed continues from its last state to the very same weights.

    Of several ranks each has an equal share of every batch, the first one its first images; the
    task averages gradients over the ranks, and batch norms, dropout and image pools work as they
    would for the whole batch. So all ranks have the same weights, which are those of one process
    but for the order of additions. The first rank reads and writes the folder and evaluates, while
    the others wait. A signal to any rank ends all of them after the same step, with its state
    saved; where a rank dies the others end, and the last saved state is kept. Any number of ranks
    that divides the batch size can continue a run.

    Attributes:
        task: What is trained.
        stream: Batches by position.
        run: Where state, weights, log and samples go.
        schedule: Images, batch size, learning rate.
        log: Intervals.
        seed: Seed of everything random in a step.
    """

    task: Task
    stream: BatchStream
    run: RunFolder
    schedule: ScheduleOptions
    log: LogOptions
    seed: int
    images: int = 0
    _sums: dict[str, float] = field(default_factory=dict)
    _steps: int = 0
    _skipped: int = 0  # of these steps
    _in_a_row: int = 0
    _saved: int = 0
    _saved_at: float = field(default_factory=time.monotonic)
    _facts: str = ""  # losses to be reported
    _since: float = field(default_factory=time.perf_counter)

    def fit(self) -> dict[str, Any]:
        """Train to the end of the schedule; returns the final scores.

        Raises:
            Interrupted: A signal came; the state is saved.
            GanCompressError: A loss is no longer finite, or the images at the end are no result;
                the last good state is kept.
            DataError: A batch cannot be read; the state is saved.
        """
        self.health = Health(str(self.run.path))
        self._restore()
        total, first = self.schedule.total_images, rank() == 0
        name = f"{self.run.path.parent.name}/{self.run.path.name}"
        bar = Progress(total, name, "images", initial=self.images, shown=first, lines=0)
        with graceful_stop() as stop, bar:
            while self.images < total:
                self._advance()
                bar.update(self.schedule.batch_size)
                if self._facts:
                    bar.report(self._facts)
                    self._facts = ""
                if any_rank(stop.requested):
                    self._checkpoint()
                    raise shared(
                        Interrupted(
                            f"stopped at image {self.images} of {total}; "
                            "rerun this command to resume"
                        )
                    )
        summary = {"images": self.images, **agreed(self._evaluate)}
        self._checkpoint()
        self._require_result()
        if first:
            self.run.finish(summary)
        return summary

    def _advance(self) -> None:
        batch_size = self.schedule.batch_size
        lr = learning_rate(self.schedule, self.images)
        for group in (g for optimiser in self.task.optimisers for g in optimiser.param_groups):
            group["lr"] = lr
        step_seed = mix(self.seed, self.images, 3)
        torch.manual_seed(step_seed)  # dropout draws from the global generator
        rng = torch.Generator().manual_seed(step_seed)
        progress = self.images / self.schedule.total_images
        batch = self._read(share_of(batch_size))
        try:
            with whole_batches():
                losses = self.task.step(batch, rng, progress)
            self._in_a_row = 0
        except StepSkipped:
            losses = {}
            self._skip()
        self.images += batch_size
        self._steps += 1
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.detach().float()  # type: ignore[assignment]
        if self._passed(self.log.log_every):
            self._write_log()
        if self.images < self.schedule.total_images:
            if self._passed(self.log.sample_every):
                agreed(self._evaluate)
            late = any_rank(time.monotonic() - self._saved_at > CHECKPOINT_SECONDS)
            if late or self._passed(self.log.checkpoint_every):
                self._checkpoint()

    def _read(self, share: int) -> Batch:
        """This rank's images; a disk that is away for a moment is waited for."""
        position = self.images + rank() * share
        for seconds in READ_AGAIN:
            with suppress(OSError, DataError):
                return self.stream.batch(position, share)
            time.sleep(seconds)
        try:
            return self.stream.batch(position, share)
        except (OSError, DataError):
            if world_size() == 1:  # the others would wait for this one
                self._checkpoint()
            raise

    def _skip(self) -> None:
        self._skipped += 1
        self._in_a_row += 1
        if self._in_a_row == MAX_SKIPPED:
            self._refuse([f"a gradient of {MAX_SKIPPED} steps in a row"])

    def _passed(self, every: int) -> bool:
        before = self.images - self.schedule.batch_size
        return self.images // every > before // every

    def _write_log(self) -> None:
        counted = max(1, self._steps - self._skipped)
        means = averaged({n: float(total) / counted for n, total in self._sums.items()})
        self._refuse([name for name, mean in means.items() if not math.isfinite(mean)])
        self.health.see_losses(means, self.images)
        if self._skipped:
            means["skipped"] = self._skipped
            logger.warning(
                "%s, image %d: %d of %d steps skipped, as a gradient was not finite",
                self.run.path, self.images, self._skipped, self._steps,
            )  # fmt: skip
        now = time.perf_counter()
        speed = self._steps * self.schedule.batch_size / max(now - self._since, 1e-9)
        epoch = self.images / max(1, len(self.stream.split))
        lr = learning_rate(self.schedule, self.images)
        entry = {"images": self.images, "epoch": round(epoch, 3), "lr": lr, **means}
        if rank() == 0:
            self.run.append_log({**entry, "images_per_second": round(speed, 2)})
        self._facts = ", ".join(f"{name} {mean:.3g}" for name, mean in means.items())
        self._sums, self._steps, self._skipped, self._since = {}, 0, 0, now

    def _refuse(self, bad: list[str]) -> None:
        if bad:
            raise shared(
                GanCompressError(
                    f"{self.run.path}: {', '.join(bad[:3])} is not finite at image {self.images}."
                    f"\n  {self._way_on()}"
                )
            )

    def _require_result(self) -> None:
        if fatal := self.health.fatal:
            raise shared(
                GanCompressError(
                    f"{self.run.path}: this training has no result: {'; '.join(fatal)}.\n"
                    f"  {self._way_on()}"
                )
            )

    def _way_on(self) -> str:
        afresh = "start afresh with --set run=FOLDER and a lower schedule.lr"
        if not 0 < self._saved < self.schedule.total_images:
            return f"No good state was saved: {afresh}, or schedule.precision=fp32."
        return (
            f"The state of image {self._saved} is kept: rerun with --set "
            f"schedule.lr={self.schedule.lr / 4:g} or schedule.precision=fp32 to go on from it, "
            f"or {afresh}."
        )

    def _evaluate(self) -> dict[str, float]:
        start = time.perf_counter()
        scores = self.task.evaluate()
        samples = self.task.samples()
        save_image(samples.sheet, self.run.samples / f"{self.images:08d}.png")
        entry: dict[str, Any] = {"images": self.images, **scores}
        found = self.health.see_images(samples, scores, self.images)
        if found or not scores:
            entry["alarms"] = found
        if entry not in self.run.read_log():  # it may die before its end
            self.run.append_log(entry)
        self._since += time.perf_counter() - start  # the rate in the log is that of the training
        return scores

    def _checkpoint(self) -> None:
        if self._steps:
            self._write_log()  # refuses losses that are not finite
        state = self.task.state_dict()
        self._refuse(not_finite(state))  # a gradient can overflow where the loss did not
        self._saved_at = time.monotonic()
        if rank() > 0 or self.health.is_spoiled:
            return
        self.run.save_state({"images": self.images, "task": state})
        self._saved = self.images
        total = self.schedule.total_images
        self.task.save(self.run, {"images": self.images, "of": total})

    def _restore(self) -> None:
        state = agreed(self.run.load_state)
        if state is not None:
            self.images = state["images"]
            try:
                self.task.load_state_dict(state["task"])
            except Exception as error:  # whatever the parts of a task make of a strange state
                raise CheckpointError(
                    f"{self.run.state} does not fit this training: {error}\n"
                    "  Delete it to start again, or restore it from a copy."
                ) from None
            self._saved = self.images
        if rank() == 0:
            self.run.rewind_log(self.images if state else -1)
            self.health.restore(self.run.read_log())


@contextmanager
def claimed(
    run: RunFolder, options: Section, schedule: ScheduleOptions, device: torch.device
) -> Iterator[dict[str, Any] | None]:
    """All ranks joined and the folder owned by the first one; gives the scores of a finished run.

    Whatever else a stage reads (data, teacher, supernet, weights to start from) every host needs.

    Raises:
        ConfigError: Another process is at work, the options are other than those of the folder, or
            the ranks cannot share a batch.
    """
    with process_group(device), on_first_rank(lambda: run.claim(options)):
        share_of(schedule.batch_size)  # refused before anything is computed
        yield agreed(lambda: run.summary() if run.is_done else None)


def not_finite(state: Any, name: str = "") -> list[str]:
    """Names of the tensors in nested dicts and lists that hold NaN or infinity."""
    if isinstance(state, Tensor):
        return [] if bool(torch.isfinite(state).all()) else [name]
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(state, Mapping):
        items = state.items()
    elif isinstance(state, list | tuple):
        items = enumerate(state)
    return [bad for key, inner in items for bad in not_finite(inner, f"{name}.{key}".lstrip("."))]


def learning_rate(schedule: ScheduleOptions, images: int) -> float:
    """Constant for `num_images`, then linear to zero over `num_images_decay`."""
    if images < schedule.num_images or not schedule.num_images_decay:
        return schedule.lr
    left = 1 - (images - schedule.num_images) / schedule.num_images_decay
    return schedule.lr * max(left, 0.0)


@dataclass
class StopRequest:
    """Set by the first signal of `STOPPING`; the second one ends the process at once."""

    requested: bool = False


@contextmanager
def graceful_stop() -> Iterator[StopRequest]:
    """Turn the first signal into a request, and restore the handlers afterwards.

    SIGHUP stays ignored where it is, as `nohup` has it; SIGINT, which a shell has ignored in its
    background jobs, does not.
    """
    request = StopRequest()
    hangup = getattr(signal, "SIGHUP", None)
    kept = {hangup} if hangup and signal.getsignal(hangup) is signal.SIG_IGN else set()
    watched = STOPPING - kept

    def note(number: int, frame: FrameType | None) -> None:
        request.requested = True
        if not under_torchrun():  # which sends signals that its processes have had already
            signal.signal(number, signal.SIG_DFL)

    try:
        previous = {number: signal.signal(number, note) for number in watched}
    except ValueError:  # not in the main thread: signals stay with their owner
        yield request
        return
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
