"""Entry point: parses, dispatches, and turns errors into one message and an exit code."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from gancompress import __version__
from gancompress.cli.compress import run_compress
from gancompress.cli.context import (
    Context,
    check_modules,
    choose_device,
    code_flag,
    common_flags,
    module_flag,
    warn,
)
from gancompress.cli.demo import demo_flags, run_demo
from gancompress.cli.evaluate import evaluate_flags, run_evaluate
from gancompress.cli.files import export_flags, run_export, run_translate
from gancompress.cli.latency import latency_flags, run_latency
from gancompress.cli.profile import profile_flags, run_profile
from gancompress.cli.search import run_search, search_flags
from gancompress.cli.segmenter import run_segmenter, segmenter_flags
from gancompress.cli.train import run_finetune, run_supernet, run_teacher
from gancompress.errors import GanCompressError

COMMANDS = {
    "compress": run_compress,
    "teacher": run_teacher,
    "supernet": run_supernet,
    "search": run_search,
    "finetune": run_finetune,
    "export": run_export,
    "translate": run_translate,
    "profile": run_profile,
    "latency": run_latency,
    "evaluate": run_evaluate,
    "segmenter": run_segmenter,
    "demo": run_demo,
}


def make_parser() -> argparse.ArgumentParser:
    """All commands and their flags."""
    parser = argparse.ArgumentParser(
        prog="gancompress", description="Make conditional GANs small enough to use."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, parents=[common_flags()])

    for name, text in (
        ("compress", "every stage that has not been done yet, then the report"),
        ("teacher", "train a pix2pix or CycleGAN teacher"),
        ("supernet", "distil the once-for-all student from a teacher"),
    ):
        command = add(name, text)
        command.add_argument("options", type=Path, help="an options file (YAML)")
        if name != "teacher":
            module_flag(command)
    command = add("search", "the front of subnets, and the best under each budget")
    command.add_argument("run", type=Path, help="a supernet's run folder, or an options file")
    search_flags(command)
    module_flag(command)
    command = add("finetune", "train one extracted subnet further")
    command.add_argument("run", type=Path, help="run folder of the supernet or search")
    command.add_argument("--subnet", required=True, help="config string")
    module_flag(command)
    segmenter_flags(add("segmenter", "train the judge of mIoU on the real pairs of a data set"))
    command = add("export", "a file, and a proof that it computes the same images")
    command.add_argument("model", type=Path, help="run folder or checkpoint")
    _model_flags(command)
    export_flags(command)
    command = add("translate", "translate an image, a folder or a video")
    command.add_argument("model", type=Path, help="run folder, checkpoint, or ONNX file")
    command.add_argument("input", type=Path)
    command.add_argument("output", type=Path)
    _model_flags(command)
    command.add_argument("--batch-size", type=int, default=1)
    command.add_argument("--size", type=int, help="resize the shorter side to this first")
    command.add_argument("--format", default="png", help="of outputs in a folder")
    code_flag(command)
    profile_flags(add("profile", "params, MACs, memory and latency of a generator"))
    latency_flags(add("latency", "measure once what operations take on this machine"))
    demo_flags(add("demo", "a page where one draws and sees, computed by the browser"))
    evaluate_flags(add("evaluate", "FID, KID, LPIPS, PSNR, SSIM, mIoU: whichever apply"))
    return parser


def _model_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument("--subnet", help="config string; for a supernet or search")
    module_flag(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    args = make_parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    warnings.filterwarnings("ignore", category=UserWarning, module="torch")
    try:
        check_modules(args)
        context = Context(args, choose_device(args.device))
        with torch.random.fork_rng(devices=[]), _terminations_interrupt():
            COMMANDS[args.command](context)
    except GanCompressError as error:
        warn(f"{type(error).__name__}: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        warn("interrupted; the same command goes on")
        return 75
    except BrokenPipeError:
        return 141
    except OSError as error:  # a full disk, no permission, a file where a folder should be
        if error.errno is None:
            raise
        warn(f"{type(error).__name__}: {error}")
        return GanCompressError.exit_code
    return 0


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
