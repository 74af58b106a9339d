"""Progress of long work where there is no terminal."""

from __future__ import annotations

import pytest

from gancompress.progress import Progress


def lines_of(caplog: pytest.LogCaptureFixture, progress: Progress, *counts: int) -> list[str]:
    caplog.clear()
    with caplog.at_level("INFO", "gancompress"), progress:
        for count in counts:
            progress.update(count)
    return [record.getMessage() for record in caplog.records]


def test_there_are_a_few_lines_however_many_items(caplog: pytest.LogCaptureFixture) -> None:
    lines = lines_of(caplog, Progress(1000, "search", "subnets", lines=4), *[1] * 1000)
    starts = [line.partition("s, ")[0] for line in lines]
    assert starts == [f"search: {n} of 1,000 subnet" for n in ("250", "500", "750", "1,000")]
    assert all(line.endswith(" left") for line in lines)


def test_items_done_before_count_but_not_for_the_speed(caplog: pytest.LogCaptureFixture) -> None:
    (line,) = lines_of(caplog, Progress(10, "x", "images", initial=9, lines=2), 1)
    assert line.startswith("x: 10 of 10 images, ")


def test_other_ranks_are_silent(caplog: pytest.LogCaptureFixture) -> None:
    assert not lines_of(caplog, Progress(10, "x", "images", shown=False), *[1] * 10)


def test_facts_are_part_of_a_line(caplog: pytest.LogCaptureFixture) -> None:
    progress = Progress(10, "x", "images", lines=0)
    with caplog.at_level("INFO", "gancompress"):
        progress.report("loss 0.5")
    assert caplog.messages[-1].endswith(", ? left, loss 0.5")
