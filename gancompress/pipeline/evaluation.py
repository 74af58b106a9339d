"""Every score that applies to a generator on a split, as values, JSON, images and page."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gancompress.checkpoint.files import write_atomic
from gancompress.checkpoint.models import run_stage, supernet_of
from gancompress.checkpoint.resolve import Model
from gancompress.checkpoint.run import TEACHER_FILE
from gancompress.data import IMAGE_KINDS, RGB, Generator, ImageKind, Split, load_split, spread
from gancompress.distributed import choose_device
from gancompress.errors import ConfigError, GanCompressError
from gancompress.evaluation import (
    MIN_FOR_DISTANCES,
    ChosenData,
    EvaluatedImages,
    Instruments,
    Score,
    SplitName,
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
from gancompress.pipeline.scores import SUBJECTS, scores_table
from gancompress.report import ImageRow, Report, Table, write_report

logger = logging.getLogger(__name__)
NUM_ROWS = 24
DEFAULT_FEATURES = "inception"
DEFAULT_LPIPS = "alex"
MAX_STRAYS = 0.6
"""Share of the inputs' pixels that may show none of the judge's label colours. JPEG borders make up
to 0.34 of a label image of facades, 0.15 of all; of its photos it is at least 0.997."""
NUM_CHECKED = 8


@dataclass(frozen=True)
class EvaluateOptions:
    """What a generator is scored on, and by what.

    Attributes:
        data: Root of `testA/` and `testB/`, or of AB pairs in `test/`.
        split: Which of its images.
        direction: AtoB or BtoA; that of the model's run by default, and AtoB for any other.
        mode: The kind of data; that of the run by default, and the first that it can be.
        features: `NAME[=FILE]` of networks for distances between sets; inception by default where
            it is on this machine, `none` for no such distances.
        lpips: `NET[=FILE]` likewise; alex by default where it is on this machine.
        segmenter: Run of `gancompress segmenter`, for mIoU.
        teacher: What outputs are compared with; a run's own teacher by default.
        size: Side of the images in pixels; the model's own by default.
        max_images: Evenly spread over the split; all by default.
        batch_size: Images that are translated at once.
        workers: Threads that decode images.
        seed: Of the bootstrap intervals.
        output: Folder for scores, images and page.
    """

    data: Path | str
    split: SplitName = "test"
    direction: str | None = None
    mode: str | None = None
    features: Sequence[str] | None = None
    lpips: Sequence[str] | None = None
    segmenter: Path | None = None
    teacher: Model | Path | None = None
    size: int | None = None
    max_images: int | None = None
    batch_size: int = 1
    workers: int = 2
    seed: int = 0
    output: Path | None = None

    @property
    def root(self) -> Path:
        """The folder of `data`."""
        return Path(self.data)

    def __post_init__(self) -> None:
        for name in ("max_images", "batch_size", "workers", "size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"--{name.replace('_', '-')} must be at least 1, not {value}")


@dataclass(frozen=True)
class Evaluation:
    """What was found.

    Attributes:
        scores: By subject (`output`, `teacher`, `input`, `truth`) and name.
        table: The same for people; None where no score applies.
        left_out: Scores that do not apply or could not be had, each with its reason.
        output: The folder of `scores.json`, `report.html` and `images/`.
        summary: What `scores.json` holds.
    """

    scores: dict[str, dict[str, Score]]
    table: Table | None
    left_out: list[str]
    output: Path
    summary: dict[str, Any]


@dataclass(frozen=True)
class EvaluationPlan:
    """What is evaluated, on what."""

    model: LoadedGenerator
    teacher: LoadedGenerator | None
    data: ChosenData
    size: int
    output: Path
    options: EvaluateOptions

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


def evaluate(
    model: Model | Path | str, options: EvaluateOptions, device: torch.device | str = "auto"
) -> Evaluation:
    """Translate a split, score it, and write scores, images and page.

    Args:
        model: A run, checkpoint or exported file; a `Model` names a subnet or factories besides.
        options: See there.
        device: Where to compute; the GPU where there is one by default.

    Raises:
        ConfigError: There is no such model, or an option does not fit it or the data.
        CheckpointError: Weights cannot be used.
        DataError: The images cannot be used.
    """
    return run_plan(plan_evaluation(model, options, device))


def plan_evaluation(
    model: Model | Path | str, options: EvaluateOptions, device: torch.device | str = "auto"
) -> EvaluationPlan:
    """The model loaded and the images listed; see `evaluate`."""
    model = model if isinstance(model, Model) else Model(Path(model))
    device = choose_device(device)
    loaded, other = load(model, device), None
    stride, named = loaded.stride, options.teacher or _own_teacher(model.path)
    if named is not None:
        if isinstance(named, Path):
            named = Model(named, None, None, model.trusted, model.allow_code)
        other = load(named, device)
        stride = math.lcm(stride, other.stride)
        if (other.input, other.output) != (loaded.input, loaded.output):
            raise ConfigError(
                f"{named.path} makes {other.output} images of {other.input} ones, and {model.path} "
                f"{loaded.output} images of {loaded.input} ones: they cannot be compared"
            )
    split = options.split
    kinds = (loaded.input, loaded.output)
    data = choose_data(options.root, split, model.path, options.direction, options.mode, kinds)
    if options.segmenter and not data.is_paired:
        raise ConfigError(
            "--segmenter reads labels from the inputs of paired data, and this data is unpaired: "
            "leave it out, or say --mode paired if files of one name are pairs"
        )
    if split != "test" and not data.from_run:
        logger.warning(
            "%s: the images are those of the folders, not of the lists of a run; the model may "
            "have been trained on any of them",
            split,
        )
    size = options.size or int(loaded.header.get("image_size", 256))
    if size % stride:
        raise ConfigError(f"--size {size} must be a multiple of the generator's stride {stride}")
    output = options.output or _output(model, options, data.options.direction)
    return EvaluationPlan(loaded, other, data, size, output, options)


def run_plan(plan: EvaluationPlan) -> Evaluation:
    """Scores of what was planned; see `evaluate`."""
    options, data, device = plan.options, plan.data, plan.model.device
    instruments, left_out = _instruments(plan)
    split = load_split(data.options, data.split, plan.size, data.splits)
    split.inputs.preload(options.workers)
    if instruments.judge is not None:
        _refuse_photos(split, instruments.judge)
    images = evaluated_images(
        split, plan.generators, options.batch_size, device, options.max_images
    )
    scores = all_scores_of(images, instruments)
    table = scores_table(scores, instruments.judge) if scores else None
    summary = _summary(plan, scores, left_out, instruments.judge)
    _write(plan, images, [table] if table else [], summary)
    return Evaluation(scores, table, left_out, plan.output, summary)


def _own_teacher(model: Path) -> Path | None:
    """The teacher that a run's student was distilled from."""
    if run_stage(model) not in ("supernet", "search", "finetune"):
        return None
    path = supernet_of(model) / TEACHER_FILE
    return path if path.exists() else None


def _output(model: Model, options: EvaluateOptions, direction: str) -> Path:
    path = model.path
    back = "-BtoA" if direction == "BtoA" else ""
    what = f"{options.split}{f'-{model.subnet}' if model.subnet else ''}{back}"
    if path.is_dir() and run_stage(path) is not None:
        return inside(path, f"evaluation/{what}")
    name = path.stem if path.is_file() else path.name
    if name.startswith("latest_net_"):  # every training has one; its folder has the name
        name = f"{path.resolve().parent.name}-{name}"
    return Path("runs") / "evaluation" / f"{name}-{options.root.name}-{what}"


def _refuse_photos(split: Split, judge: Judge) -> None:
    """A judge compares with the inputs, so these must be label images."""
    few = split.inputs.take(spread(len(split.inputs), NUM_CHECKED))
    strays = judge.palette.stray_share(few)
    if strays > MAX_STRAYS:
        raise ConfigError(
            f"--segmenter: {strays:.0%} of the inputs' pixels have none of the judge's label "
            "colours\n  These inputs are not label images: check --direction."
        )


def _instruments(plan: EvaluationPlan) -> tuple[Instruments, list[str]]:
    """The networks asked for; a default that cannot be had is left out, with the reason.

    A default that this data has no use for is not even looked for.
    """
    options, device = plan.options, plan.model.device
    left_out: list[str] = []
    features: list[FeatureNetwork] = []
    useless = _why_no_distances(plan, options.max_images)
    for name, source in _named("--features", options.features, DEFAULT_FEATURES):
        what = ", ".join(f"{kind}[{name}]" for kind in sorted(DISTANCES))
        if useless:
            left_out.append(f"{what}: {useless}")
            continue
        try:
            _require_rgb(what, plan.model.output)
            _find_default(options.features, name)
            features.append(load_features(name, source, device))
        except GanCompressError as error:
            _refuse_or_note(options.features, what, error, left_out)
    lpips: list[Lpips] = []
    compared = plan.data.is_paired or "teacher" in plan.generators
    for name, source in _named("--lpips", options.lpips, DEFAULT_LPIPS if compared else None):
        if not compared:
            left_out.append(f"lpips[{name}]: the data has no pairs, and there is no --teacher")
            continue
        try:
            _require_rgb(f"lpips[{name}]", plan.model.output)
            _find_default(options.lpips, BACKBONES[DEFAULT_LPIPS].weights)
            lpips.append(Lpips(name, Path(source) if source else None, device))
        except GanCompressError as error:
            _refuse_or_note(options.lpips, f"lpips[{name}]", error, left_out)
    for kind in (plan.model.input, plan.model.output) if options.segmenter else ():
        _require_rgb("--segmenter", kind)
    judge = load_judge(options.segmenter, device) if options.segmenter else None
    return Instruments(features, lpips, judge, seed=options.seed), left_out


def _require_rgb(what: str, kind: ImageKind) -> None:
    """Refuse scores by networks that have seen RGB images alone.

    Raises:
        ConfigError: These are others.
    """
    if kind != RGB:
        raise ConfigError(f"{what}: of RGB images, and these are {kind}")


def _find_default(asked: Sequence[str] | None, weights: str) -> None:
    """Have nothing downloaded that the user has not asked for by its name.

    Raises:
        CheckpointError: A default's weights are not on this machine.
    """
    if asked is None:
        find_weights(weights, fetch=False)


def _why_no_distances(plan: EvaluationPlan, max_images: int | None) -> str | None:
    """Why sets of images cannot be compared, if so."""
    inputs, real = plan.data.set_sizes(max_images)
    if not real:
        return f"there are no real images of the target domain in the {plan.data.split} split"
    if min(inputs, real) < MIN_FOR_DISTANCES:
        return f"sets of {inputs} and {real} images are too few: {MIN_FOR_DISTANCES} of each"
    return None


def _named(
    flag: str, texts: Sequence[str] | None, default: str | None
) -> list[tuple[str, str | None]]:
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
    asked: Sequence[str] | None, what: str, error: GanCompressError, left_out: list[str]
) -> None:
    if asked is not None:
        raise error
    first = str(error).splitlines()[0]
    logger.warning("%s left out: %s", what, first)
    left_out.append(f"{what}: {first}")


def _summary(
    plan: EvaluationPlan,
    scores: dict[str, dict[str, Score]],
    left_out: list[str],
    judge: Judge | None,
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
    plan: EvaluationPlan, images: EvaluatedImages, tables: list[Table], summary: dict[str, Any]
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
