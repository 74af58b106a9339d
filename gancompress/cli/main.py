"""Entry point: parses, dispatches, and turns errors into one message and an exit code."""

from __future__ import annotations

import argparse
import logging
import re
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gancompress.cli.context import Context, check_modules, check_numbers, speaks, warn
from gancompress.cli.parser import COMMANDS, load, make_parser
from gancompress.errors import GanCompressError

_SMALLER = "  Take fewer workers, a smaller batch or smaller images; what was saved is kept."
_OUT_OF_MEMORY = re.compile("out of memory|not enough memory|can't allocate memory", re.IGNORECASE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    args = make_parser().parse_args(arguments)
    level = logging.WARNING if speaks() else logging.ERROR  # one warning, however many ranks
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    if speaks():
        logging.getLogger("gancompress").setLevel(logging.INFO)  # stages and their progress
    warnings.filterwarnings("ignore", category=UserWarning, module="torch")
    try:
        with _terminations_interrupt():
            _run(args)
    except GanCompressError as error:
        warn(f"{type(error).__name__}: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        warn("interrupted; rerun this command to resume")
        return 75
    except BrokenPipeError:
        return 141
    except MemoryError as error:
        warn(f"MemoryError: {error or 'there is too little memory'}\n{_SMALLER}")
        return GanCompressError.exit_code
    except RuntimeError as error:  # PyTorch has no type of its own for it on the CPU
        if not _OUT_OF_MEMORY.search(str(error)):
            raise
        warn(f"MemoryError: {str(error).splitlines()[0]}\n{_SMALLER}")
        return GanCompressError.exit_code
    except OSError as error:  # a full disk, no permission, a file where a folder should be
        if error.errno is None:
            raise
        warn(f"{type(error).__name__}: {error}")
        return GanCompressError.exit_code
    return 0


def _run(args: argparse.Namespace) -> None:
    check_modules(args)
    check_numbers(args)
    import torch  # after everything that refuses flags

    from gancompress.distributed import choose_device

    context = Context(args, choose_device(args.device))
    with torch.random.fork_rng(devices=[]):
        load(f"cli.{COMMANDS[args.command]}")(context)


@contextmanager
def _terminations_interrupt() -> Iterator[None]:
    """SIGINT and SIGTERM raise KeyboardInterrupt, also where no loop waits for the end of a step.

    SIGINT too: a shell starts background jobs with it ignored.
    """
    watched = (signal.SIGINT, signal.SIGTERM)
    try:
        previous = {number: signal.signal(number, signal.default_int_handler) for number in watched}
    except ValueError:  # not in the main thread: signals stay with their owner
        yield
        return
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
