"""`gancompress evaluate`: every score that applies to a generator, as table, JSON and page."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from gancompress.checkpoint.files import write_atomic
from gancompress.checkpoint.models import run_data, run_splits, run_stage, supernet_of
from gancompress.cli.context import Context, existing, warn
from gancompress.cli.files import load_generator
from gancompress.config import DataOptions
from gancompress.data import Splits, load_split, make_splits, save_image, spread
from gancompress.data.listing import split_folder
from gancompress.errors import ConfigError, DataError, GanCompressError
from gancompress.evaluation import (
    EvaluatedImages,
    Instruments,
    Score,
    all_scores_of,
    evaluated_images,
)
from gancompress.inference.batches import Generator
from gancompress.metrics.distances import MIN_FOR_FID
from gancompress.metrics.features import FeatureNetwork, load_features
from gancompress.metrics.perceptual import Lpips
from gancompress.metrics.segmentation import Judge, load_judge
from gancompress.report import ImageRow, Report, Table, aligned_text, write_report
from gancompress.training.stages import TEACHER_FILE

NUM_ROWS = 24
SUBJECTS = {
    "output": "output",
    "teacher": "teacher",
    "input": "input, untranslated",
    "truth": "real photo",
}


def evaluate_flags(command: argparse.ArgumentParser) -> None:
    """The flags of this command."""
    command.add_argument("model", type=Path, help="run folder, checkpoint, or ONNX file")
    command.add_argument("data", type=Path, help="root of testA/ testB/, or of AB pairs in test/")
    command.add_argument("--subnet", help="config string; for a supernet or search")
    command.add_argument("--module", help="package.module:factory of a foreign network")
    command.add_argument("--split", default="test", choices=("train", "search", "test"))
    command.add_argument("--direction", choices=("AtoB", "BtoA"), help="AtoB by default")
    command.add_argument(
        "--features",
        action="append",
        metavar="NAME[=FILE]",
        help="network of distances between sets, such as mobilenet_v1_0.75=FILE; may be repeated; "
        "'none' for no such distances; inception by default",
    )
    command.add_argument(
        "--lpips",
        action="append",
        metavar="NET[=FILE]",
        help="alex, squeeze or vgg, with a file of its backbone; may be repeated; 'none' for none; "
        "alex by default",
    )
    command.add_argument("--segmenter", type=Path, help="run of `gancompress segmenter`, for mIoU")
    command.add_argument("--teacher", type=Path, help="any MODEL; a run's own teacher by default")
    command.add_argument("--size", type=int, help="side of the images; the model's own by default")
    command.add_argument("--max-images", type=int, help="evenly spread over the split")
    command.add_argument("--batch-size", type=int, default=1)
    command.add_argument("--workers", type=int, default=2, help="threads that decode images")
    command.add_argument("--output", type=Path, help="folder for scores, images and page")


@dataclass(frozen=True)
class _Plan:
    """What is evaluated, on what."""

    model: Path
    data: DataOptions
    splits: Splits
    split: Literal["train", "search", "test"]
    size: int
    output: Path
    generators: dict[str, Generator]


def run_evaluate(context: Context) -> None:
    """Translate a split, score it, and write table, JSON, images and page."""
    args = context.args
    if args.set:
        raise ConfigError(f"--set says nothing here: {args.set[0]}")
    plan = _plan(context)
    about = plan.splits.describe(plan.split)
    context.say(f"{plan.model}, {plan.size}x{plan.size}, {about}")
    if args.dry_run:
        context.result({"model": str(plan.model), "split": about, "size": plan.size})
        return
    instruments, left_out = _instruments(context, plan)
    split = load_split(plan.data, plan.split, plan.size, plan.splits)
    split.inputs.preload(args.workers)
    images = evaluated_images(
        split, plan.generators, args.batch_size, context.device, args.max_images
    )
    scores = all_scores_of(images, instruments)
    table = scores_table(scores, instruments.judge)
    context.say(aligned_text(table))
    context.say(table.caption)
    summary = _summary(plan, scores, left_out, instruments.judge)
    _write(plan, images, table, summary, left_out)
    context.say(f"{plan.output}: scores.json, report.html, images/")
    context.result(summary)


def _plan(context: Context) -> _Plan:
    args = context.args
    model = existing(args.model, "model")
    for flag in ("max_images", "batch_size", "workers", "size"):
        value = getattr(args, flag)
        if value is not None and value < 1:
            raise ConfigError(f"--{flag.replace('_', '-')} is at least 1, not {value}")
    loaded = load_generator(model, args.subnet, args.module, context.device)
    generators, stride = {"output": loaded.run}, loaded.stride
    teacher = args.teacher or _own_teacher(model)
    if teacher is not None:
        other = load_generator(existing(teacher, "teacher"), None, None, context.device)
        generators["teacher"], stride = other.run, max(stride, other.stride)
    data = _data_options(args, model)
    size = args.size or int(loaded.header.get("image_size", 256))
    if size % stride:
        raise ConfigError(f"--size {size} must be a multiple of the generator's stride {stride}")
    splits = _splits(model, data, args.split)
    return _Plan(model, data, splits, args.split, size, _output(args), generators)


def _own_teacher(model: Path) -> Path | None:
    """The teacher that a run's student was distilled from."""
    if run_stage(model) not in ("supernet", "search", "finetune"):
        return None
    path = supernet_of(model) / TEACHER_FILE
    return path if path.exists() else None


def _data_options(args: argparse.Namespace, model: Path) -> DataOptions:
    """DATA's mode is seen from its folders; a run's own data section gives the rest."""
    root: Path = args.data
    if not root.is_dir():
        raise DataError(f"no data folder {root}")
    known = run_data(model)
    if known is not None and known[0].root.resolve() == root.resolve():
        data = known[0].model_copy(update={"root": root})
    else:
        data = DataOptions(root=root, mode="unpaired")
        if not any(split_folder(data, name, "A") for name in (args.split, "train")):
            data = data.model_copy(update={"mode": "paired"})
        if known is not None:
            data = data.model_copy(update={"direction": known[0].direction})
    return data.model_copy(update={"direction": args.direction} if args.direction else {})


def _splits(model: Path, data: DataOptions, split: str) -> Splits:
    """The run's own lists of this data; those of the folders for any other model."""
    known = run_data(model)
    if known is not None and known[0].root.resolve() == data.root.resolve():
        return run_splits(model, known[0]).at(data.root)
    return make_splits(data, (split,))


def _output(args: argparse.Namespace) -> Path:
    if args.output is not None:
        return Path(args.output)
    subnet = f"-{args.subnet}" if args.subnet else ""
    if args.model.is_dir() and run_stage(args.model) is not None:
        return Path(args.model) / "evaluation" / f"{args.split}{subnet}"
    name = args.model.stem if args.model.is_file() else args.model.name
    return Path("runs") / "evaluation" / f"{name}-{args.data.name}-{args.split}{subnet}"


def _instruments(context: Context, plan: _Plan) -> tuple[Instruments, list[str]]:
    """The networks asked for; a default that cannot be had is left out, with the reason.

    A default that this data has no use for is not even looked for.
    """
    args = context.args
    left_out: list[str] = []
    features: list[FeatureNetwork] = []
    has_pairs = plan.data.mode == "paired"
    has_real = has_pairs or len(plan.splits.counts(plan.split)) > 1
    for name, source in _named(args.features, "inception" if has_real else None):
        try:
            features.append(load_features(name, source, context.device))
        except GanCompressError as error:
            _refuse_or_note(args.features, f"fid[{name}], kid[{name}]", error, left_out)
    lpips: list[Lpips] = []
    for name, source in _named(
        args.lpips, "alex" if has_pairs or "teacher" in plan.generators else None
    ):
        try:
            lpips.append(Lpips(name, Path(source) if source else None, context.device))
        except GanCompressError as error:
            _refuse_or_note(args.lpips, f"lpips[{name}]", error, left_out)
    judge = load_judge(args.segmenter, context.device) if args.segmenter else None
    return Instruments(features, lpips, judge, seed=args.seed or 0), left_out


def _named(texts: list[str] | None, default: str | None) -> list[tuple[str, str | None]]:
    """(name, file) of each NAME[=FILE]."""
    if texts is None:
        texts = [default] if default else []
    pairs = [text.partition("=") for text in texts if text != "none"]
    return [(name, source or None) for name, _, source in pairs]


def _refuse_or_note(
    asked: list[str] | None, what: str, error: GanCompressError, left_out: list[str]
) -> None:
    if asked is not None:
        raise error
    first = str(error).splitlines()[0]
    warn(f"{what} left out: {first}")
    left_out.append(f"{what}: {first}")


def scores_table(scores: dict[str, dict[str, Score]], judge: Judge | None = None) -> Table:
    """Scores with intervals, a row for each score and a column for each subject.

    Args:
        scores: By subject and name.
        judge: Whose accuracy on real photos stands below.
    """
    names = list(dict.fromkeys(name for found in scores.values() for name in found))
    rows = []
    for name in names:
        known = {subject: found[name] for subject, found in scores.items() if name in found}
        one = next(iter(known.values()))
        label = name if one.scale == 1 else f"{name} x{one.scale:g}"
        cells = [_cell(known[subject]) if subject in known else "-" for subject in scores]
        better = "lower" if one.lower_is_better else "higher"
        rows.append([label, *cells, better, str(one.num_images), one.against])
    heads = ["score", *(SUBJECTS[subject] for subject in scores), "better", "images", "against"]
    caption = (
        "In brackets: 95 % bootstrap interval over images. Below "
        f"{MIN_FOR_FID:,} images KID decides and FID is only reported: its bias depends on the "
        "generator."
    )
    if judge is not None:
        caption += f" {_judge_text(judge)}"
    return Table("Scores", heads, rows, caption)


def _judge_text(judge: Judge) -> str:
    real = judge.real
    if judge.accuracy_on_real is None or judge.miou_on_real is None:
        return f"How well the judge {judge.name} reads real photos was not measured."
    return (
        f"The judge {judge.name} reads real photos with {judge.accuracy_on_real:.1f} % of pixels "
        f"right and mIoU {judge.miou_on_real:.1f} ({real.get('num_images')} photos of its "
        f"{real.get('split')} split)."
    )


def _cell(score: Score) -> str:
    value, low, high = (
        score.scale * number
        for number in (score.estimate.value, score.estimate.low, score.estimate.high)
    )
    size = max(abs(value), abs(low), abs(high))
    decimals = 1 if size >= 100 else 2 if size >= 10 else 4
    text = f"{value:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"
    return text if score.decides else f"({text})"


def _summary(
    plan: _Plan, scores: dict[str, dict[str, Score]], left_out: list[str], judge: Judge | None
) -> dict[str, Any]:
    content: dict[str, Any] = {
        "model": str(plan.model),
        "data": str(plan.data.root),
        "direction": plan.data.direction,
        "split": plan.split,
        "split_list": plan.splits.describe(plan.split),
        "split_sha256": plan.splits.list_hash(plan.split),
        "size": plan.size,
        "scores": {name: score.as_json() for name, score in scores["output"].items()},
        "left_out": left_out,
        "output": str(plan.output),
        "report": str(plan.output / "report.html"),
    }
    for subject in ("teacher", "input", "truth"):
        if subject in scores:
            found = scores[subject].items()
            content[f"{subject}_scores"] = {name: score.as_json() for name, score in found}
    if judge is not None:
        content["judge"] = {"name": judge.name, **judge.real}
    return content


def _write(
    plan: _Plan,
    images: EvaluatedImages,
    table: Table,
    summary: dict[str, Any],
    left_out: list[str],
) -> None:
    """Scores, every image as PNG, and the page."""
    columns = {"input": images.inputs, **images.outputs}
    if images.truth is not None:
        columns["truth"] = images.truth
    for label, pixels in columns.items():
        for name, image in zip(images.names, pixels, strict=True):
            save_image(image, plan.output / "images" / label / f"{name}.png")
    facts = {
        "model": str(plan.model),
        "data": f"{plan.data.root} ({plan.data.mode}, {plan.data.direction})",
        "split": plan.splits.describe(plan.split),
        "images": f"{len(images.names)} at {plan.size}x{plan.size}, rounded to 8 bits",
        "machine": f"torch {torch.__version__}, {torch.get_num_threads()} threads",
    }
    facts |= {f"left out {number}": text for number, text in enumerate(left_out, 1)}
    shown = spread(len(images.names), NUM_ROWS)
    rows = [
        ImageRow(images.names[i], {label: pixels[i] for label, pixels in columns.items()})
        for i in shown
    ]
    report = Report(
        title=f"{plan.data.root.name}: {plan.split} split",
        facts=facts,
        metric="",
        lower_is_better=True,
        rows=[],
        trials=[],
        front=[],
        images=rows,
        files={"scores": "scores.json"},
        tables=[table],
    )
    write_report(report, plan.output / "report.html")
    write_atomic(plan.output / "scores.json", json.dumps(summary, indent=1).encode())
