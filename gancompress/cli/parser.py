"""The commands and their flags; nothing here imports PyTorch, which takes seconds."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from gancompress import __version__

COMMANDS = {
    "compress": "compress:run_compress",
    "teacher": "train:run_teacher",
    "supernet": "train:run_supernet",
    "search": "search:run_search",
    "finetune": "train:run_finetune",
    "export": "files:run_export",
    "translate": "files:run_translate",
    "profile": "profile:run_profile",
    "latency": "latency:run_latency",
    "evaluate": "evaluate:run_evaluate",
    "segmenter": "segmenter:run_segmenter",
    "demo": "demo:run_demo",
    "verify": "verify:run_verify",
}
"""The function of every command, in a module of `gancompress.cli`."""

WEIGHTS = {"--weights": "export.graphs:WEIGHTS"}


def load(name: str) -> Any:
    """What `module:name` of this package stands for; its module is imported now."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(f"gancompress.{module}"), attribute)


class CommandParser(argparse.ArgumentParser):
    """The parser of a command, whose help lists the names that some flags take.

    Args:
        names: Flag -> the table of its names, as `load` takes it; imported for the help alone.
        options: Of `ArgumentParser`.
    """

    def __init__(self, names: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.names = names or {}

    def format_help(self) -> str:
        """See `ArgumentParser`."""
        lists = [f"{flag}: {', '.join(load(table))}." for flag, table in self.names.items()]
        self.epilog = " ".join(lists)
        return super().format_help()


def make_parser() -> argparse.ArgumentParser:
    """All commands and their flags."""
    parser = argparse.ArgumentParser(
        prog="gancompress", description="Make conditional GANs small enough to use."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=CommandParser
    )

    def add(name: str, text: str, names: Mapping[str, str] | None = None) -> CommandParser:
        return commands.add_parser(
            name, help=text, description=text, parents=[_common_flags()], names=names
        )

    text = "every stage that has not ended yet, then the report"
    _compress_flags(add("compress", text, {"--preset": "pipeline.derive:PRESETS"}))
    for name, text in (
        ("teacher", "train a pix2pix or CycleGAN teacher"),
        ("supernet", "distil the once-for-all student from a teacher"),
    ):
        command = add(name, text)
        command.add_argument("options", type=Path, help="an options file (YAML)")
        if name != "teacher":
            _module_flag(command)
    command = add("search", "the front of subnets, and the best under each budget")
    command.add_argument("run", type=Path, help="a supernet's run folder, or an options file")
    _search_flags(command)
    _module_flag(command)
    command = add("finetune", "train one extracted subnet further")
    command.add_argument("model", type=Path, help="run folder of the supernet or search")
    command.add_argument("--subnet", required=True, help="config string")
    _module_flag(command)
    text = "train the judge of mIoU on the real pairs of a data set"
    _segmenter_flags(add("segmenter", text, {"--arch": "metrics.segmentation:SEGMENTERS"}))
    names = {"--to": "export:FORMATS", **WEIGHTS, "--rewrite": "export.rewrites:CHOICES"}
    command = add("export", "a file, and a proof that it computes the same images", names)
    command.add_argument("model", type=Path, help="run folder or checkpoint")
    _model_flags(command)
    _export_flags(command)
    command = add("translate", "translate an image, a folder or a video")
    command.add_argument("model", type=Path, help="run folder, checkpoint, or ONNX file")
    command.add_argument("input", type=Path)
    command.add_argument("output", type=Path)
    _model_flags(command)
    command.add_argument("--batch-size", type=int, default=1)
    command.add_argument("--size", type=int, help="resize the shorter side to this first")
    command.add_argument("--format", help="of outputs in a folder: png, or npy for bands")
    _code_flag(command)
    _profile_flags(add("profile", "params, MACs, memory and latency of a generator"))
    _latency_flags(add("latency", "measure once what operations take on this machine"))
    _demo_flags(add("demo", "a page where one draws and sees, computed by the browser", WEIGHTS))
    _evaluate_flags(add("evaluate", "FID, KID, LPIPS, PSNR, SSIM, mIoU: whichever apply"))
    command = add("verify", "whether the files of a folder are those that were written")
    command.add_argument("folder", type=Path, help="of a run, a bundle, or of several")
    return parser


def _compress_flags(command: argparse.ArgumentParser) -> None:
    """The flags of this command."""
    command.add_argument("source", type=Path, help="a data folder, or an options file (YAML)")
    command.add_argument(
        "--teacher",
        help="a run, anyone's checkpoint, or any function from image to image: an ONNX file, a "
        "folder of finished pairs, package.module:function, 'tool {input} {output}', or an "
        "address; by default one is trained",
    )
    command.add_argument(
        "--direction", choices=("AtoB", "BtoA"), help="the teacher's by default, or AtoB"
    )
    command.add_argument("--preset", metavar="NAME", help="how much work; see below, standard")
    command.add_argument("--epochs", type=int, help="passes over the data in place of the preset's")
    command.add_argument("--run", type=Path, help="folder of all stages; runs/DATA by default")
    _budget_flags(command)
    _module_flag(command)


def _model_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument("--subnet", help="config string; for a supernet or search")
    _module_flag(command)


def _search_flags(command: argparse.ArgumentParser) -> None:
    """The flags of this command beside the run."""
    _budget_flags(command)
    command.add_argument("--workers", type=int, help="processes that evaluate")
    command.add_argument(
        "--runtime", help="that evaluates: auto (default), eager, onnxruntime or openvino"
    )
    command.add_argument(
        "--trials",
        type=Path,
        action="append",
        default=[],
        help="trials.jsonl of another machine or run, to be used besides; may be repeated",
    )


def _budget_flags(command: argparse.ArgumentParser) -> None:
    for flag, example in (
        ("--macs", "multiply-accumulates, such as 2.6G"),
        ("--params", "parameters, such as 0.4M"),
        ("--size-mb", "megabytes of the float32 weights"),
        ("--latency-ms", "milliseconds on the devices, such as 40, or 40@NAME for one of them"),
    ):
        command.add_argument(
            flag, action="append", default=[], help=f"budget in {example}; may be repeated"
        )
    command.add_argument(
        "--device-table",
        type=Path,
        action="append",
        default=[],
        help="file of `gancompress latency`; may be repeated",
    )


def _segmenter_flags(command: argparse.ArgumentParser) -> None:
    """Add the flags of this command."""
    command.add_argument("data", type=Path, help="folder of pairs, or options file")
    command.add_argument(
        "--direction", choices=("AtoB", "BtoA"), help="of the generator: from labels to photos"
    )
    command.add_argument("--arch", help="see below; the first by default")
    command.add_argument("--run", type=Path, help="folder to write; runs/DATA/segmenter by default")
    command.add_argument("--num-images", type=int, help="photos to train on, repeats counted")
    command.add_argument(
        "--size", type=int, help="side at which photos are read; by default theirs"
    )
    command.add_argument("--classes", type=int, help="label colours, where counting finds others")
    command.add_argument("--weights", type=Path, help="file of backbone weights to start from")


def _export_flags(command: argparse.ArgumentParser) -> None:
    """The flags of `gancompress export` that say how to write."""
    command.add_argument("--to", default="onnx", metavar="FORMAT", help="see below; default onnx")
    command.add_argument("--output", type=Path, help="file to write")
    command.add_argument("--images", type=Path, help="real inputs for the proof")
    command.add_argument(
        "--uint8", action="store_true", help="images (N, H, W, 3) uint8 in and out of a graph"
    )
    command.add_argument(
        "--weights",
        default="float32",
        metavar="KIND",
        help="how to store a graph's weights, computing stays in float32; see below",
    )
    command.add_argument(
        "--rewrite",
        default="measured",
        metavar="CHOICE",
        help="which faster forms of a graph to keep; see below",
    )


def _profile_flags(command: argparse.ArgumentParser) -> None:
    """The flags of `gancompress profile`."""
    command.add_argument("model", nargs="?", type=Path, help="run, checkpoint, exported file")
    command.add_argument("--subnet", help="config string; for a supernet or search")
    _module_flag(command)
    command.add_argument("--generator", help="a generator family by name, untrained")
    command.add_argument("--config-str", help="widths such as 16_16_32_16_32_32_16_16, untrained")
    command.add_argument("--ngf", type=int, help="of --generator, 64 by default")
    command.add_argument("--norm", help="of --generator: instance, batch or none")
    command.add_argument("--legacy", action="store_true", help="--config-str in the older meaning")
    command.add_argument("--size", help="of the image: 256 or 256x512 (height x width)")
    command.add_argument("--threads", type=int, help="PyTorch's choice by default")
    command.add_argument("--rounds", type=int, default=21, help="timed images")
    command.add_argument("--no-latency", action="store_true", help="count only, measure nothing")
    command.add_argument("--against", type=Path, help="another MODEL to measure in turn")
    _code_flag(command)


def _latency_flags(command: argparse.ArgumentParser) -> None:
    """The flags of `gancompress latency`."""
    command.add_argument("model", type=Path, help="run folder of a supernet or search")
    command.add_argument("--device-name", required=True, help="what to call this machine")
    command.add_argument("--size", type=int, help="side of the images; the run's by default")
    command.add_argument("--threads", type=int, help="of the runtime; PyTorch's choice by default")
    command.add_argument("--runtime", default="onnxruntime", help="onnxruntime or eager")
    command.add_argument("--rounds", type=int, default=15, help="timed images of each subnet")
    command.add_argument("--output", type=Path, help="file; RUN/devices/NAME.json by default")
    _module_flag(command)


def _demo_flags(command: argparse.ArgumentParser) -> None:
    """The flags of this command."""
    command.add_argument("run", type=Path, help="run folder, checkpoint, or a folder of --bundle")
    command.add_argument("--host", default="127.0.0.1", help="address to listen at")
    command.add_argument("--port", type=int, default=8000, help="0 for any that is free")
    command.add_argument("--input", choices=("sketch", "photo"), help="by default as inputs look")
    command.add_argument("--images", type=Path, help="folder of inputs for examples and the proof")
    command.add_argument(
        "--example", action="append", default=[], metavar="NAME",
        help="input to show as an example; may be repeated",
    )  # fmt: skip
    command.add_argument(
        "--subnet", action="append", default=[], help="subnet to offer; may be repeated"
    )
    command.add_argument(
        "--weights",
        default="float32",
        metavar="KIND",
        help="how to store weights, computing stays in float32; see below",
    )
    _module_flag(command)
    command.add_argument("--open", action="store_true", help="show the page in your browser")
    target = command.add_mutually_exclusive_group()
    target.add_argument(
        "--static", type=Path, metavar="FOLDER", help="write the page as files for any web host"
    )
    target.add_argument(
        "--bundle", type=Path, metavar="FOLDER", help="write only models and examples"
    )


def _evaluate_flags(command: argparse.ArgumentParser) -> None:
    """The flags of this command."""
    command.add_argument("model", type=Path, help="run folder, checkpoint, or ONNX file")
    command.add_argument("data", type=Path, help="root of testA/ testB/, or of AB pairs in test/")
    command.add_argument(
        "--mode",
        help="whether files of one name in testA/ and "
        "testB/ are pairs; the run's by default, unpaired for any other model",
    )
    command.add_argument("--subnet", help="config string; for a supernet or search")
    _module_flag(command)
    command.add_argument("--split", default="test", choices=("train", "search", "test"))
    command.add_argument("--direction", choices=("AtoB", "BtoA"), help="AtoB by default")
    command.add_argument(
        "--features",
        action="append",
        metavar="NAME[=FILE]",
        help="network of distances between sets, such as mobilenet_v1_0.75=FILE; may be repeated; "
        "'none' for no such distances; inception by default where it is on this machine, and "
        "downloaded where it is named",
    )
    command.add_argument(
        "--lpips",
        action="append",
        metavar="NET[=FILE]",
        help="alex, squeeze or vgg, with a file of its backbone; may be repeated; 'none' for none; "
        "alex by default where it is on this machine, and downloaded where it is named",
    )
    command.add_argument("--segmenter", type=Path, help="run of `gancompress segmenter`, for mIoU")
    command.add_argument("--teacher", type=Path, help="any MODEL; a run's own teacher by default")
    command.add_argument("--size", type=int, help="side of the images; the model's own by default")
    command.add_argument("--max-images", type=int, help="evenly spread over the split")
    command.add_argument("--batch-size", type=int, default=1)
    command.add_argument("--workers", type=int, default=2, help="threads that decode images")
    command.add_argument("--output", type=Path, help="folder for scores, images and page")
    _code_flag(command)


def _common_flags() -> CommandParser:
    """The flags that every command takes."""
    parser = CommandParser(add_help=False)
    group = parser.add_argument_group("common")
    group.add_argument("--json", action="store_true", help="one JSON object on standard output")
    group.add_argument("--seed", type=int, help="seed of everything random")
    group.add_argument("--device", default="auto", help="cpu, cuda, cuda:1; auto by default")
    group.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="replace an option"
    )
    group.add_argument("--dry-run", action="store_true", help="print what would be done, and stop")
    return parser


def _module_flag(command: argparse.ArgumentParser) -> None:
    """The only way in which a command comes to import anybody's code."""
    command.add_argument(
        "--module",
        action="append",
        default=[],
        metavar="PACKAGE.MODULE:FUNCTION",
        help="your function that makes a network which is not one of ours; a file that asks for "
        "it is not obeyed without this; may be repeated, the first is for tensors that ask for "
        "nothing",
    )


def _code_flag(command: argparse.ArgumentParser) -> None:
    """For commands that take an exported file."""
    command.add_argument(
        "--allow-code",
        action="store_true",
        help="open a .pt2 file, which may run any code while it is read: only for files of your "
        "own or from somebody you trust",
    )
