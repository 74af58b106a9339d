#!/usr/bin/env python3
"""Are subnets cut out of a supernet as good as the same networks trained alone?

    python benchmarks/students.py options/cartoon/supernet.yaml [--seeds 3] [--work FOLDER]
        [--set data.root=photos] [--variant uniform:sampling.schedule=uniform]

For every seed the supernet of the options file is trained, and the uniform networks of its
narrowest, middle and widest candidate widths each alone, on as many images in the same order, with
the same losses, schedule and start (random or inherited). All are scored against the teacher on
whole test images. A variant does all of it once more with other options, `NAME:KEY=VALUE,...`:
losses, sampling, start. What two variants have in common is trained once.

Runs lie in the work folder. An interrupted benchmark goes on with the same command, more seeds or
variants train only what is missing, and `students.md` there always has the table of the seeds that
are done. Numbers are means over seeds with 95 % intervals (Student's t), which say nothing where
there are two or three seeds and much where they are narrow all the same.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import scipy.stats
import torch

from gancompress.checkpoint.files import write_atomic
from gancompress.checkpoint.models import load_model
from gancompress.checkpoint.run import RunFolder
from gancompress.config import SamplingOptions, SupernetOptions, load_options
from gancompress.cost import format_count
from gancompress.data import load_split
from gancompress.distributed import choose_device
from gancompress.elastic import NetworkCosts, Supernet
from gancompress.errors import ConfigError, GanCompressError
from gancompress.metrics import PAIRED
from gancompress.metrics.perceptual import Lpips
from gancompress.search import Evaluator
from gancompress.training.stages import train_supernet
from gancompress.training.student import load_teacher

BASE = "base"
CUT, ALONE = "cut out of the supernet", "alone"
NAMES = ("narrow", "middle", "wide")
COSMETIC: Any = {"run": True, "seed": True, "log": True, "data": {"cache_gb"}}
BATCH = 4  # test images at a time; no score depends on it
DIGITS = {"psnr": 2}  # of other scores four


@dataclass(frozen=True)
class Variant:
    """One recipe.

    Attributes:
        name: As in the table.
        options: Of its supernet.
    """

    name: str
    options: SupernetOptions

    @cached_property
    def widths(self) -> dict[str, float]:
        """Narrow, middle and wide: the candidate width that all of the network has."""
        widths = sorted(set(self.options.student.widths))
        found = dict(zip(NAMES, (widths[0], widths[len(widths) // 2], widths[-1]), strict=True))
        if len(widths) == 2:
            del found["middle"]
        return found

    def alone(self, name: str) -> SupernetOptions:
        """Options that train one network alone; there is nothing to sample from."""
        student = self.options.student.model_copy(update={"widths": (self.widths[name],)})
        update = {"student": student, "sampling": SamplingOptions()}
        return self.options.model_copy(update=update)


def load_variants(path: Path, sets: list[str], texts: list[str]) -> list[Variant]:
    """The options file as it is with `sets`, then each variant of it.

    Raises:
        ConfigError: The options cannot be compared in this way, or two variants have one name.
    """
    parsed: list[tuple[str, list[str]]] = [(BASE, []), *map(parse_variant, texts)]
    names = [name for name, _ in parsed]
    if len(set(names)) < len(names):
        raise ConfigError(f"variants need names of their own, other than '{BASE}'")
    variants = [
        Variant(name, load_options(SupernetOptions, path, [*sets, *own])) for name, own in parsed
    ]
    for variant in variants:
        options = variant.options
        if options.student.config_set or len(set(options.student.widths)) < 2:
            raise ConfigError(
                f"{path}: student.widths must name two candidates or more, and student.config_set "
                "none: networks of one width are what is compared"
            )
        if options.start_from is not None:
            raise ConfigError(
                f"{path}: start_from={options.start_from} would give the supernet a lead; "
                "set start_from=null"
            )
    return variants


def parse_variant(text: str) -> tuple[str, list[str]]:
    """Name and `key=value` texts of `NAME:KEY=VALUE,KEY=VALUE`; values may have commas in them.

    Raises:
        ConfigError: It is not of this form.
    """
    name, _, rest = text.partition(":")
    sets = re.split(r",(?=[\w.]+=)", rest)
    if not name or not all("=" in each for each in sets):
        raise ConfigError(f"--variant takes NAME:KEY=VALUE,KEY=VALUE, not '{text}'")
    return name, sets


class Workplace:
    """Trains what is missing in a folder.

    Args:
        folder: Of all runs.
        device: Where to train.
        judge: Scores what was trained.
    """

    def __init__(self, folder: Path, device: torch.device, judge: Judge) -> None:
        self.folder = folder
        self.device = device
        self.judge = judge

    def run(self, kind: str, options: SupernetOptions, seed: int) -> Path:
        """The finished run folder of these options; one run serves all variants that agree."""
        content = options.model_dump_json(exclude=COSMETIC)
        digest = hashlib.sha256(content.encode()).hexdigest()[:8]
        path = self.folder / f"{kind}-{digest}-seed{seed}"
        if not RunFolder(path).is_done:
            print(f"{path} ...", file=sys.stderr, flush=True)
            options = options.model_copy(update={"run": path, "seed": seed})
            train_supernet(options, self.device, trusted(options))
        return path

    def rows(self, variant: Variant, seed: int) -> Iterator[Row]:
        """What the networks of one variant and seed score."""
        modules = trusted(variant.options)
        supernet = self.run("supernet", variant.options, seed)
        for name in variant.widths:
            alone = self.run(name, variant.alone(name), seed)
            subnet = str(load_model(alone, trusted=modules, calibrate=False).header["subnet"])
            for how, run in ((CUT, supernet), (ALONE, alone)):
                facts = self.judge.scores(run, subnet, modules)
                yield Row(variant.name, name, how, run, seed, subnet, facts)


@dataclass(frozen=True)
class Row:
    """One network of one seed.

    Attributes:
        variant: Name of the recipe.
        name: narrow, middle or wide.
        how: `CUT` or `ALONE`.
        run: Its run folder.
        seed: Of its training.
        subnet: Its widths.
        facts: Scores by name, `macs`, `seconds` of training an image, and the number of test
            `images` with their `side`.
    """

    variant: str
    name: str
    how: str
    run: Path
    seed: int
    subnet: str
    facts: dict[str, float]


class Judge:
    """Scores networks against the teacher on whole test images; what was scored is kept.

    Args:
        options: Whose teacher and test images count, whatever variants have.
        lpips: Distance besides PSNR and mean absolute error.
        count: Images, evenly spread over the test split; all by default.
        device: Where to compute.
    """

    def __init__(
        self, options: SupernetOptions, lpips: Lpips, count: int | None, device: torch.device
    ) -> None:
        self.options = options
        self.lpips = lpips
        self.count = count
        self.device = device

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the scores."""
        return (self.lpips.name, "psnr", "mae")

    @cached_property
    def evaluator(self) -> Evaluator:
        """The test images and what the teacher makes of them; its net is the teacher's."""
        network = load_teacher(self.options.teacher, trusted(self.options))
        size = self.options.data.whole_size
        split = load_split(self.options.data, "test", size)
        module = network.module.to(self.device).eval()
        net = Supernet(module, torch.empty(network.example_shape), widths=(1.0,))
        evaluator = Evaluator.of_split(net, module, split, self.count, BATCH, self.device)
        evaluator.prepare()
        return evaluator

    def scores(self, run: Path, subnet: str, modules: tuple[str, ...]) -> dict[str, float]:
        """Means over the test images of one subnet of a run."""
        file = run / "scores.json"
        how = f"{self.count} {self.lpips.digest} {self.options.data} {self.options.teacher}"
        known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        if known.get("how") != how:
            known = {"how": how, "subnets": {}}
        if subnet not in known["subnets"]:
            known["subnets"][subnet] = self._measured(run, subnet, modules)
            write_atomic(file, json.dumps(known, indent=1).encode())
        found: dict[str, float] = known["subnets"][subnet]
        return found

    def _measured(self, run: Path, text: str, modules: tuple[str, ...]) -> dict[str, float]:
        network = load_model(run, text, trusted=modules)
        made = self.evaluator.translate(network.module.to(self.device))
        wanted = self.evaluator.references["teacher"]
        scores = {name: PAIRED[name].per_image(made, wanted) for name in ("psnr", "mae")}
        scores[self.lpips.name] = self.lpips(made, wanted)
        means = {name: float(values.mean()) for name, values in scores.items()}
        side = self.evaluator.size[0]
        macs = NetworkCosts(network.module, network.example_shape).macs(side)
        facts = {"macs": macs, "seconds": seconds_per_image(run)}
        return {**means, **facts, "side": side, "images": len(made)}


def seconds_per_image(run: Path) -> float:
    """Of the training alone, from the run's log."""
    images, seconds = 0, 0.0
    for line in RunFolder(run).read_log():
        if "images_per_second" in line:
            seconds += (line["images"] - images) / line["images_per_second"]
            images = line["images"]
    return seconds / images


def trusted(options: SupernetOptions) -> tuple[str, ...]:
    """The factory that the user's options name; run folders may ask for it."""
    return (options.teacher.module,) if options.teacher.module else ()


# -- what is printed -------------------------------------------------------------------------


def interval(values: Sequence[float], digits: int = 4) -> str:
    """Mean and 95 % interval of independent values, by Student's t; the value where it is one."""
    mean = f"{statistics.mean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    quantile = float(scipy.stats.t.ppf(0.975, len(values) - 1))
    half = quantile * statistics.stdev(values) / len(values) ** 0.5
    low, high = (statistics.mean(values) + side * half for side in (-1, 1))
    return f"{mean} [{low:.{digits}f}, {high:.{digits}f}]"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def table(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Every network with its scores."""
    lines = []
    for variant, name, how in dict.fromkeys((row.variant, row.name, row.how) for row in rows):
        same = [row for row in rows if (row.variant, row.name, row.how) == (variant, name, how)]
        scores = [
            interval([row.facts[column] for row in same], DIGITS.get(column, 4))
            for column in columns
        ]
        macs = format_count(same[0].facts["macs"])
        seconds = interval([row.facts["seconds"] for row in same])
        lines.append([variant, name, same[0].subnet, macs, how, *scores, seconds])
    head = ("variant", "network", "widths", "MACs", "trained", *columns, "training s/image")
    return markdown(head, lines)


def comparisons(rows: Sequence[Row], column: str) -> str:
    """Differences of one score between networks of the same seed; below 0 the first is better."""
    known = {(row.variant, row.name, row.how, row.seed): row for row in rows}
    pairs: dict[tuple[str, str, str], list[float]] = {}

    def compare(row: Row, other: Row, text: str) -> None:
        if row.run != other.run or row.subnet != other.subnet:
            difference = row.facts[column] - other.facts[column]
            pairs.setdefault((row.variant, row.name, text), []).append(difference)

    for row in rows:
        if row.how == CUT:
            compare(row, known[row.variant, row.name, ALONE, row.seed], f"{CUT} against {ALONE}")
        base = known.get((BASE, row.name, row.how, row.seed))
        if base is not None:
            compare(row, base, f"against {BASE}, {row.how}")
    lines = [[*key, interval(found)] for key, found in pairs.items()]
    return markdown(("variant", "network", "comparison", f"difference of {column}"), lines)


def report(rows: Sequence[Row], judge: Judge, variants: Sequence[Variant]) -> str:
    """Both tables, and what was measured how."""
    seeds = len({row.seed for row in rows})
    images = ", ".join(
        f"{variant.name} {variant.options.schedule.total_images:,}" for variant in variants
    )
    number, side = (rows[0].facts[key] for key in ("images", "side"))
    about = (
        f"Training images of each run: {images}. Seeds: {seeds}. Scores against the teacher, means "
        f"of {number} test images, {side}x{side}."
    )
    column = judge.lpips.name
    return "\n\n".join([about, table(rows, judge.columns), comparisons(rows, column)])


def make_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("options", type=Path, help="options file of a supernet")
    parser.add_argument("--work", type=Path, default=Path("runs/students"), help="folder of runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--variant", action="append", default=[], metavar="NAME:KEY=VALUE,...", help="other options"
    )
    parser.add_argument("--lpips", default="alex", metavar="NET[=FILE]", help="of the scores")
    parser.add_argument("--images", type=int, help="of the test split; all by default")
    parser.add_argument("--device", default="auto")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is missing, print the tables; returns the exit code."""
    args = make_parser().parse_args(arguments)
    try:
        if args.seeds < 1:
            raise ConfigError(f"--seeds must be at least 1, not {args.seeds}")
        variants = load_variants(args.options, args.set, args.variant)
        device = choose_device(args.device)
        net, _, file = args.lpips.partition("=")
        lpips = Lpips(net, Path(file) if file else None, device)
        judge = Judge(variants[0].options, lpips, args.images, device)
        workplace = Workplace(args.work, device, judge)
        rows: list[Row] = []
        for seed in range(args.seeds):
            for variant in variants:
                rows += workplace.rows(variant, seed)
            text = report(rows, judge, variants)
            write_atomic(args.work / "students.md", f"{text}\n".encode())
    except GanCompressError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
