"""Asking a function: several calls at once, tries again, limits, and what it is known by."""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from PIL import ImageOps
from torch import Tensor

from gancompress.checkpoint.files import Json
from gancompress.config import TeacherSource
from gancompress.data import ImageKind, ImageSet
from gancompress.data.hashing import pixel_digest
from gancompress.data.image_kinds import Planes
from gancompress.distributed import agreed, rank
from gancompress.errors import ConfigError, DataError, GanCompressError
from gancompress.progress import Progress
from gancompress.training.functions import CallError, Function, Question
from gancompress.training.pairs import probe_images
from gancompress.training.store import PairStore

logger = logging.getLogger(__name__)
MAX_IN_A_ROW = 5  # images without an answer, before the function is left alone
LONGEST_WAIT_S = 60.0
PROBE = "probe"


class Answer(NamedTuple):
    """What came of asking about one image; `error` is None where there is an output."""

    output: Tensor | None
    error: str | None
    attempts: int
    seconds: float


@dataclass
class FunctionTeacher:
    """A function as a teacher, see `Teacher`.

    Attributes:
        function: The function.
        source: The section `teacher` of the options.
    """

    function: Function
    source: TeacherSource
    calls: int = 0
    _identities: dict[int, dict[str, str]] = field(default_factory=dict)
    _said: set[tuple[int, int]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _next: float = 0.0

    @property
    def label(self) -> str:
        """See `Teacher`."""
        words = re.findall(r"[A-Za-z0-9_]+", Path(self.function.text).name)
        return "-".join(words)[:40] or "function"

    @property
    def taken(self) -> ImageKind:
        """See `Teacher`."""
        return self.function.taken

    @property
    def channels(self) -> int:
        """See `Teacher`."""
        return self.function.made.channels

    def identity(self, size: int) -> dict[str, str]:
        """The hash of its file or source, its version, and what it answers to two fixed images.

        A function whose calls may cost is asked about these only when there is more to ask, see
        `answers`.
        """
        known = {**self.function.identity(), "sizes": self.source.other_size}
        known |= {"input": str(self.taken), "output": str(self.function.made)}
        if self.source.version:
            known["version"] = self.source.version
        if self.function.probe != "always":
            return known
        if size not in self._identities:
            self._identities[size] = {**known, **self._probed(size)}
        return self._identities[size]

    def _probed(self, size: int) -> dict[str, str]:
        probes = probe_images(self.taken, size)
        digests = [_outcome(self._probe(pixels)) for pixels in probes]
        if _outcome(self._probe(probes[0])) != digests[0]:
            self._say_inconsistent()
            return {}
        return {"probe": hashlib.sha256("".join(digests).encode()).hexdigest()}

    def answers(
        self, store: PairStore, images: ImageSet, indices: Sequence[int]
    ) -> Iterator[tuple[int, Tensor | None, Json]]:
        """Index, output and facts of every image; the first rank asks, and tells the others."""
        self.function.expect(images.files)
        asked = self._asked(store, images, indices)
        with Progress(len(indices), "answers", "images", shown=rank() == 0) as bar:
            while (item := agreed(lambda: next(asked, None))) is not None:
                index, answer = item
                facts: Json = {"name": images.files[index].name, "seconds": answer.seconds}
                facts["attempts"] = answer.attempts
                if answer.error is not None:
                    facts["error"] = answer.error
                yield index, answer.output, facts
                bar.update()

    def _asked(
        self, store: PairStore, images: ImageSet, indices: Sequence[int]
    ) -> Iterator[tuple[int, Answer]]:
        if indices and self.function.probe == "before calls":
            self._check_probe(store, images.size)
        waiting, in_a_row, failed = iter(indices), 0, frozenset(store.failed)
        running: dict[Future[Answer], int] = {}
        stop: GanCompressError | None = None
        with ThreadPoolExecutor(self.source.calls.workers) as pool, self._stopping():
            while True:
                while stop is None and len(running) < self.source.calls.workers:
                    if (index := next(waiting, None)) is None:
                        break
                    question = Question(images[index], images.files[index])
                    running[pool.submit(self.ask, question)] = index
                if not running:
                    break
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    index = running.pop(done)
                    try:
                        answer = done.result()
                    except GanCompressError as error:  # no more calls; those under way end
                        stop = error
                        continue
                    yield index, answer
                    if answer.error is None:
                        in_a_row = 0
                    elif pixel_digest(images[index]) not in failed:
                        in_a_row += 1
                    if in_a_row >= MAX_IN_A_ROW and self.function.probe != "never":
                        stop = stop or self._gives_up(answer)
        if stop is not None:
            raise stop

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """Where this ends early, as by Ctrl-C, calls are ended and none is tried again."""
        self._stopped.clear()
        try:
            yield
        except BaseException:
            self._stopped.set()
            self.function.stop()
            raise

    def _gives_up(self, answer: Answer) -> DataError:
        return DataError(
            f"{self.function.text} failed for {MAX_IN_A_ROW} images in a row, the last time with: "
            f"{answer.error}\n  What it has answered is kept; the same command goes on."
        )

    def ask(self, question: Question) -> Answer:
        """One image, with as many tries as the options allow.

        Raises:
            DataError: The limit on calls is reached.
        """
        options, began = self.source.calls, time.perf_counter()
        for attempt in range(1, options.attempts + 1):
            self._take_turn()
            try:
                output = self._fitted(self.function.call(question), question.pixels)
                return Answer(output, None, attempt, round(time.perf_counter() - began, 4))
            except CallError as error:
                reason = str(error)
                if not error.again or attempt == options.attempts:
                    break
                pause = max(options.backoff_s * 2 ** (attempt - 1), error.after_s)
                pause = min(pause, LONGEST_WAIT_S)
                if error.after_s:
                    logger.info("%s: %s: waiting %g s", self.function.text, reason, pause)
                if self._stopped.wait(pause):
                    break
        return Answer(None, reason, attempt, round(time.perf_counter() - began, 4))

    def _take_turn(self) -> None:
        """Count a call, and wait until the rate allows it."""
        options = self.source.calls
        with self._lock:
            if options.max_calls is not None and self.calls >= options.max_calls:
                raise DataError(
                    f"teacher.calls.max_calls={options.max_calls} are used up\n"
                    "  What was answered is kept; the same command goes on."
                )
            self.calls += 1
            now = time.monotonic()
            turn = max(self._next, now)
            if options.per_second is not None:
                self._next = turn + 1 / options.per_second
        self._stopped.wait(turn - now)

    def _fitted(self, planes: Planes, pixels: Tensor) -> Tensor:
        """An answer at the size of the image, (C, S, S) uint8."""
        made, wanted = self.function.made, (pixels.shape[2], pixels.shape[1])
        found = planes[0].size
        if found != wanted:
            policy = self.source.other_size
            if policy == "refuse":
                raise CallError(
                    f"an answer of {found[0]}x{found[1]} pixels to {wanted[0]}x{wanted[1]}", False
                )
            if found not in self._said:
                self._said.add(found)
                logger.info(
                    "%s answers with %dx%d pixels to %dx%d: %s (teacher.other_size=%s)",
                    self.function.text, *found, *wanted,
                    "cropped and resized" if policy == "crop" else "resized", policy,
                )  # fmt: skip
            if policy == "crop":
                side = min(found)
                planes = [ImageOps.fit(plane, (side, side), made.resampling) for plane in planes]
            planes = made.resize(planes, wanted)
        try:
            output = made.to_tensor(planes)
        except ValueError as error:
            raise CallError(str(error), again=False) from None
        if output.shape[0] != made.channels:
            raise CallError(f"{output.shape[0]} channels, and not those of {made}", again=False)
        return output

    def _probe(self, pixels: Tensor) -> Answer:
        return self.ask(Question(pixels, Path(PROBE)))

    def _say_inconsistent(self) -> None:
        logger.warning(
            "%s answers the same image differently each time: its first answers are kept, and a "
            "change of the function cannot be noticed; raise teacher.version after one",
            self.function.text,
        )

    def _check_probe(self, store: PairStore, size: int) -> None:
        """Compare answers with those of the earlier start, or keep the first ones.

        A function may fail for these images, which are none that it is made for; it cannot be
        compared then.

        Raises:
            ConfigError: It is another function now.
            DataError: It has answered at an earlier start, and fails now.
        """
        probes = probe_images(self.taken, size)
        for number, pixels in enumerate(probes):
            digest, answer = pixel_digest(pixels), self._probe(pixels)
            is_new = bool(store.missing([digest]))
            if is_new:
                facts = {"error": answer.error} if answer.error else {}
                store.add(digest, answer.output, name=f"{PROBE} {number}", **facts)
            elif answer.output is None:
                raise DataError(f"{self.function.text} cannot be asked: {answer.error}")
            is_same = is_new or pixel_digest(store.take([digest]).take([0])[0]) == _outcome(answer)
            if is_same and (number or not is_new):  # a new function is asked one of them twice
                continue
            if _outcome(self._probe(pixels)) != _outcome(answer):
                self._say_inconsistent()
                return
            if not is_same:
                raise ConfigError(
                    f"{self.function.text} answers otherwise than when {store.folder} was made\n"
                    "  Set teacher.version to a new name, and all images are asked for again."
                )


def _outcome(answer: Answer) -> str:
    """What an answer is known by: its hash, or why there is none."""
    return str(answer.error) if answer.output is None else pixel_digest(answer.output)
