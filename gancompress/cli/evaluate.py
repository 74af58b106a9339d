"""`gancompress evaluate`: every score that applies to a generator, as table, JSON and page."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gancompress.checkpoint.files import write_atomic
from gancompress.checkpoint.models import run_stage, supernet_of
from gancompress.checkpoint.resolve import Model
from gancompress.cli.context import (
    Context,
    model_of,
    warn,
)
from gancompress.cli.scores import SUBJECTS, scores_table
from gancompress.data import IMAGE_KINDS, RGB, Generator, ImageKind, Split, load_split, spread
from gancompress.errors import ConfigError, GanCompressError
from gancompress.evaluation import (
    MIN_FOR_DISTANCES,
    ChosenData,
    EvaluatedImages,
    Instruments,
    Score,
    all_scores_of,
    choose_data,
    evaluated_images,
)
from gancompress.inference import LoadedGenerator
from gancompress.inference.loading import load
from gancompress.metrics import DISTANCES
from gancompress.metrics.features import FeatureNetwork, load_features
from gancompress.metrics.perceptual import BACKBONES, Lpips
from gancompress.metrics.segmentation import Judge, load_judge
from gancompress.metrics.weights import find_weights
from gancompress.paths import inside
from gancompress.report import ImageRow, Report, Table, aligned_text, write_report
from gancompress.training.stages import TEACHER_FILE

NUM_ROWS = 24
DEFAULT_FEATURES = "inception"
DEFAULT_LPIPS = "alex"
MAX_STRAYS = 0.6
"""Share of the inputs' pixels that may show none of the judge's label colours. JPEG borders make up
to 0.34 of a label image of facades, 0.15 of all; of its photos it is at least 0.997."""
NUM_CHECKED = 8


@dataclass(frozen=True)
class _Plan:
    """What is evaluated, on what."""

    model: LoadedGenerator
    teacher: LoadedGenerator | None
    data: ChosenData
    size: int
    output: Path

    @property
    def generators(self) -> dict[str, Generator]:
        """By the subject of their scores."""
        teacher = {} if self.teacher is None else {"teacher": self.teacher.run}
        return {"output": self.model.run, **teacher}

    @property
    def subnets(self) -> dict[str, str | None]:
        """What is known of the networks behind the paths."""
        found = {"model": self.model.name, "subnet": self.model.subnet}
        if self.teacher is not None:
            found |= {"teacher": self.teacher.name, "teacher_subnet": self.teacher.subnet}
        return found

    @property
    def about(self) -> str:
        """The split in words."""
        return self.data.splits.describe(self.data.split)


def run_evaluate(context: Context) -> None:
    """Translate a split, score it, and write table, JSON, images and page."""
    args = context.args
    if args.set:
        raise ConfigError(f"--set says nothing here: {args.set[0]}")
    plan = _plan(context)
    subnet = f", subnet {plan.model.subnet}" if plan.model.subnet else ""
    context.say(f"{plan.model.name}{subnet}, {plan.size}x{plan.size}, {plan.about}")
    if args.dry_run:
        context.result({**plan.subnets, "split": plan.about, "size": plan.size})
        return
    instruments, left_out = _instruments(context, plan)
    data = plan.data
    split = load_split(data.options, data.split, plan.size, data.splits)
    split.inputs.preload(args.workers)
    if instruments.judge is not None:
        _refuse_photos(split, instruments.judge)
    images = evaluated_images(
        split, plan.generators, args.batch_size, context.device, args.max_images
    )
    scores = all_scores_of(images, instruments)
    tables = [scores_table(scores, instruments.judge)] if scores else []
    for table in tables:
        context.say(aligned_text(table))
        context.say(table.caption)
    if not scores:
        why = "; ".join(left_out) or "--features none leaves none that applies to this data"
        context.say(f"no scores: {why}")
    summary = _summary(plan, scores, left_out, instruments.judge)
    _write(plan, images, tables, summary)
    context.say(f"{plan.output}: scores.json, report.html, images/")
    context.result(summary)


def _plan(context: Context) -> _Plan:
    args = context.args
    for flag in ("max_images", "batch_size", "workers", "size"):
        value = getattr(args, flag)
        if value is not None and value < 1:
            raise ConfigError(f"--{flag.replace('_', '-')} is at least 1, not {value}")
    model, teacher = load(model_of(args), context.device), None
    stride, path = model.stride, args.teacher or _own_teacher(args.model)
    if path is not None:
        named = Model(path, None, None, args.module, args.allow_code)
        teacher = load(named, context.device)
        stride = max(stride, teacher.stride)
        if (teacher.input, teacher.output) != (model.input, model.output):
            raise ConfigError(
                f"{path} makes {teacher.output} images of {teacher.input} ones, and {args.model} "
                f"{model.output} images of {model.input} ones: they cannot be compared"
            )
    kinds = (model.input, model.output)
    data = choose_data(args.data, args.split, args.model, args.direction, args.mode, kinds)
    if args.segmenter and not data.is_paired:
        raise ConfigError(
            "--segmenter reads labels from the inputs of paired data, and this data is unpaired: "
            "leave it out, or say --mode paired if files of one name are pairs"
        )
    if args.split != "test" and not data.from_run:
        warn(
            f"{args.split}: the images are those of the folders, not of the lists of a run; the "
            "model may have been trained on any of them"
        )
    size = args.size or int(model.header.get("image_size", 256))
    if size % stride:
        raise ConfigError(f"--size {size} must be a multiple of the generator's stride {stride}")
    return _Plan(model, teacher, data, size, _output(args, data.options.direction))


def _own_teacher(model: Path) -> Path | None:
    """The teacher that a run's student was distilled from."""
    if run_stage(model) not in ("supernet", "search", "finetune"):
        return None
    path = supernet_of(model) / TEACHER_FILE
    return path if path.exists() else None


def _output(args: argparse.Namespace, direction: str) -> Path:
    if args.output is not None:
        return Path(args.output)
    model: Path = args.model
    back = "-BtoA" if direction == "BtoA" else ""
    what = f"{args.split}{f'-{args.subnet}' if args.subnet else ''}{back}"
    if model.is_dir() and run_stage(model) is not None:
        return inside(model, f"evaluation/{what}")
    name = model.stem if model.is_file() else model.name
    if name.startswith("latest_net_"):  # every training has one; its folder has the name
        name = f"{model.resolve().parent.name}-{name}"
    return Path("runs") / "evaluation" / f"{name}-{args.data.name}-{what}"


def _refuse_photos(split: Split, judge: Judge) -> None:
    """A judge compares with the inputs, so these must be label images."""
    few = split.inputs.take(spread(len(split.inputs), NUM_CHECKED))
    strays = judge.palette.stray_share(few)
    if strays > MAX_STRAYS:
        raise ConfigError(
            f"--segmenter: {strays:.0%} of the inputs' pixels have none of the judge's label "
            "colours\n  These inputs are no label images: check --direction."
        )


def _instruments(context: Context, plan: _Plan) -> tuple[Instruments, list[str]]:
    """The networks asked for; a default that cannot be had is left out, with the reason.

    A default that this data has no use for is not even looked for.
    """
    args = context.args
    left_out: list[str] = []
    features: list[FeatureNetwork] = []
    useless = _why_no_distances(plan, args.max_images)
    for name, source in _named("--features", args.features, DEFAULT_FEATURES):
        what = ", ".join(f"{kind}[{name}]" for kind in sorted(DISTANCES))
        if useless:
            left_out.append(f"{what}: {useless}")
            continue
        try:
            _require_rgb(what, plan.model.output)
            _find_default(args.features, name)
            features.append(load_features(name, source, context.device))
        except GanCompressError as error:
            _refuse_or_note(args.features, what, error, left_out)
    lpips: list[Lpips] = []
    compared = plan.data.is_paired or "teacher" in plan.generators
    for name, source in _named("--lpips", args.lpips, DEFAULT_LPIPS if compared else None):
        if not compared:
            left_out.append(f"lpips[{name}]: the data has no pairs, and there is no --teacher")
            continue
        try:
            _require_rgb(f"lpips[{name}]", plan.model.output)
            _find_default(args.lpips, BACKBONES[DEFAULT_LPIPS].weights)
            lpips.append(Lpips(name, Path(source) if source else None, context.device))
        except GanCompressError as error:
            _refuse_or_note(args.lpips, f"lpips[{name}]", error, left_out)
    for kind in (plan.model.input, plan.model.output) if args.segmenter else ():
        _require_rgb("--segmenter", kind)
    judge = load_judge(args.segmenter, context.device) if args.segmenter else None
    return Instruments(features, lpips, judge, seed=args.seed or 0), left_out


def _require_rgb(what: str, kind: ImageKind) -> None:
    """Refuse scores by networks that have seen RGB images alone.

    Raises:
        ConfigError: These are others.
    """
    if kind != RGB:
        raise ConfigError(f"{what}: of RGB images, and these are {kind}")


def _find_default(asked: list[str] | None, weights: str) -> None:
    """Have nothing downloaded that the user has not asked for by its name.

    Raises:
        CheckpointError: A default's weights are not on this machine.
    """
    if asked is None:
        find_weights(weights, fetch=False)


def _why_no_distances(plan: _Plan, max_images: int | None) -> str | None:
    """Why sets of images cannot be compared, if so."""
    inputs, real = plan.data.set_sizes(max_images)
    if not real:
        return f"there are no real images of the target domain in the {plan.data.split} split"
    if min(inputs, real) < MIN_FOR_DISTANCES:
        return f"sets of {inputs} and {real} images are too few: {MIN_FOR_DISTANCES} of each"
    return None


def _named(flag: str, texts: list[str] | None, default: str | None) -> list[tuple[str, str | None]]:
    """(name, file) of each NAME[=FILE]."""
    if texts is None:
        texts = [default] if default else []
    pairs = [text.partition("=") for text in texts if text != "none"]
    times = Counter(name for name, _, _ in pairs)
    for name in times:
        if times[name] > 1:
            raise ConfigError(f"{flag} {name} is given twice: scores need names of their own")
    return [(name, source or None) for name, _, source in pairs]


def _refuse_or_note(
    asked: list[str] | None, what: str, error: GanCompressError, left_out: list[str]
) -> None:
    if asked is not None:
        raise error
    first = str(error).splitlines()[0]
    warn(f"{what} left out: {first}")
    left_out.append(f"{what}: {first}")


def _summary(
    plan: _Plan, scores: dict[str, dict[str, Score]], left_out: list[str], judge: Judge | None
) -> dict[str, Any]:
    content: dict[str, Any] = {
        **plan.subnets,
        "data": str(plan.data.options.root),
        "direction": plan.data.options.direction,
        "split": plan.data.split,
        "split_list": plan.about,
        "split_sha256": plan.data.splits.list_hash(plan.data.split),
        "size": plan.size,
        "scores": {name: score.as_json() for name, score in scores.get("output", {}).items()},
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
    plan: _Plan, images: EvaluatedImages, tables: list[Table], summary: dict[str, Any]
) -> None:
    """Scores, every image as PNG, and the page."""
    _clear(plan.output)
    options = plan.data.options
    for label, (kind, pixels) in images.columns().items():
        for name, image in zip(images.names, pixels, strict=True):
            kind.save(image, plan.output / "images" / label / f"{name}{kind.suffix}")
    facts = {name: text for name, text in plan.subnets.items() if text}
    facts |= {
        "data": f"{options.root} ({options.mode}, {options.direction})",
        "split": plan.about,
        "images": f"{len(images.names)} at {plan.size}x{plan.size}, rounded to 8 bits",
        "machine": f"torch {torch.__version__}, {torch.get_num_threads()} threads",
    }
    facts |= {f"left out {number}": text for number, text in enumerate(summary["left_out"], 1)}
    shown = spread(len(images.names), NUM_ROWS)
    columns = images.shown().items()
    rows = [ImageRow(images.names[i], {label: made[i] for label, made in columns}) for i in shown]
    report = Report(
        title=f"{options.root.name}: {plan.data.split} split",
        facts=facts,
        metric="",
        lower_is_better=True,
        rows=[],
        trials=[],
        front=[],
        images=rows,
        files={"scores": "scores.json"},
        tables=tables,
    )
    write_report(report, plan.output / "report.html")
    write_atomic(plan.output / "scores.json", json.dumps(summary, indent=1).encode())


def _clear(output: Path) -> None:
    """Remove the images of an earlier evaluation into this folder, and nothing else."""
    folders = [inside(output, f"images/{subject}") for subject in SUBJECTS]
    if (output / "scores.json").is_file():
        for folder in folders:
            for suffix in (kind.suffix for kind in IMAGE_KINDS.values()):
                for path in folder.glob(f"*{suffix}"):
                    path.unlink()
