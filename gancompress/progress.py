"""Progress of long work: a bar in a terminal, lines of the log anywhere else."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

logger = logging.getLogger(__name__)
LINES = 10


class Progress:
    """How far work has come, how fast it is, and what is left.

    Args:
        total: Items of the whole work.
        name: What is being done.
        unit: What one item is called.
        initial: Items that were done before.
        shown: Whether this process says so, as one of several ranks does.
        lines: Lines of the log from beginning to end, where there is no terminal; 0 for those that
            are asked for by `report` alone.
    """

    def __init__(
        self,
        total: int,
        name: str,
        unit: str,
        *,
        initial: int = 0,
        shown: bool = True,
        lines: int = LINES,
    ) -> None:
        self.total, self.name, self.unit, self.lines = total, name, unit, lines
        self.done = self.initial = initial
        self.bar = tqdm(
            total=total, initial=initial, unit=unit, desc=name, file=sys.stderr,
            disable=None if shown else True, mininterval=1,
        )  # fmt: skip
        self.logs = shown and self.bar.disable
        self.started = time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.close()

    def update(self, count: int = 1) -> None:
        """So many more items are done."""
        before, self.done = self.done, self.done + count
        self.bar.update(count)
        if self.lines and self._step(self.done) > self._step(before):
            self.report()

    def _step(self, done: int) -> int:
        return done * self.lines // max(self.total, 1)

    def report(self, facts: str = "") -> None:
        """Say where the work is, with further facts such as losses."""
        if not self.logs:
            self.bar.set_postfix_str(facts)
            return
        seconds = max(time.perf_counter() - self.started, 1e-9)
        speed = (self.done - self.initial) / seconds
        left = tqdm.format_interval((self.total - self.done) / speed) if speed else "?"
        text = (
            f"{self.name}: {self.done:,} of {self.total:,} {self.unit}, {speed:.3g}/s, {left} left"
        )
        logger.info("%s", ", ".join(filter(None, [text, facts])))
