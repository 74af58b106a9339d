"""Threads that decode ahead of the generator and write behind it, with bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
R = TypeVar("R")


def worker_pool() -> ThreadPoolExecutor:
    """A small pool: decoders and encoders release the interpreter lock."""
    return ThreadPoolExecutor(min(4, os.cpu_count() or 1))


def in_order(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], depth: int
) -> Iterator[R]:
    """Results of `function` in the order of `items`, computed at most `depth` ahead.

    `items` is drawn in the calling thread, so stages can be chained: what feeds one stage may be
    a loop that runs a generator on the results of another.

    Args:
        pool: Where calls run; several stages may share it, as no call waits for another.
        function: What is done with every item.
        items: Any iterable; never held as a whole.
        depth: Results that may wait unread.
    """
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > depth:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def progress(items: Iterable[T], total: int, unit: str) -> Iterator[T]:
    """The items, with a bar on standard error if they take more than a few seconds.

    Args:
        items: Any iterable.
        total: How many there are, or 0 where that is not known.
        unit: What one item is called.
    """
    yield from tqdm(items, total=total or None, unit=unit, delay=3, disable=None)
