"""From a teacher to exported subnets: every stage that has not ended yet, a table, a report."""

from __future__ import annotations

import logging
import platform
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from gancompress.checkpoint.files import write_atomic
from gancompress.checkpoint.models import calibration_batches, load_model, run_splits
from gancompress.checkpoint.network import (
    Network,
    build_network,
    load_network,
    load_supernet,
)
from gancompress.checkpoint.run import TEACHER_FILE, RunFolder
from gancompress.config import CompressOptions, dump_options
from gancompress.cost import measure_latency
from gancompress.data import ImageKind, Splits, data_kind, load_split, spread, to_float
from gancompress.distributed import choose_device, under_torchrun
from gancompress.elastic import NetworkCosts, Supernet
from gancompress.elastic.calibrate import norms_with_statistics
from gancompress.errors import ConfigError
from gancompress.export import FORMATS, export_network
from gancompress.metrics import all_scores
from gancompress.paths import inside
from gancompress.pipeline.export import NUM_PROOF_IMAGES, data_images
from gancompress.report import ImageRow, Report, Row, write_report
from gancompress.search import Evaluator, SearchResult, search
from gancompress.search.plan import bounded, plan_search, refuse_early
from gancompress.search.quality import load_quality
from gancompress.search.report import (
    answers_table,
    front_subnets,
    previews,
    report_fronts,
    report_trials,
)
from gancompress.training.stages import train_supernet, train_teacher, with_found_images
from gancompress.training.student import (
    load_teacher,
    make_student,
    refuse_layers_of_function,
)

logger = logging.getLogger(__name__)
NUM_ROWS = 12


@dataclass(frozen=True)
class Compression:
    """What a compression has led to.

    Attributes:
        result: Of the search.
        rows: The teacher, then the subnets from the widest budget to the narrowest.
        files: Exported files by what they hold.
        about: Which images the scores of the rows are of, in words.
        report: The page.
    """

    result: SearchResult
    rows: list[Row]
    files: dict[str, Path]
    about: str
    report: Path


@dataclass
class Finished:
    """Teacher and chosen subnets, scored on images that no stage has seen.

    Attributes:
        networks: The teacher, then the subnets from the widest budget to the narrowest, by label.
        outputs: Their images, (N, C, S, S) uint8.
        scores: Their metrics.
        evaluator: Inputs and truth.
        split: Which images these are.
        splits: The lists that they are from.
    """

    networks: dict[str, Network]
    outputs: dict[str, Tensor]
    scores: dict[str, dict[str, float]]
    evaluator: Evaluator
    split: str
    splits: Splits


def compress(
    options: CompressOptions, device: torch.device | str = "auto", trusted: Sequence[str] = ()
) -> Compression:
    """Run every stage that has not ended yet; then score and export the chosen subnets.

    Args:
        options: Of all stages.
        device: Where to compute; the GPU where there is one by default.
        trusted: Factories `package.module:factory` that files of the stages may ask for, besides
            `supernet.teacher.module`.

    Raises:
        ConfigError: The stages do not fit together.
        BudgetError: No subnet fits a budget; nothing has run then.
        DataError: The data cannot be used.
        Interrupted: A signal came; the same call goes on.
    """
    if under_torchrun():
        raise ConfigError(
            "compress is one process: run teacher, supernet and search under torchrun, and then "
            "compress, which takes finished stages as they are"
        )
    device = choose_device(device)
    module = options.supernet.teacher.module
    trusted = (*trusted, *([module] if module else []))
    preflight(options, device, trusted)
    _record(options)
    if options.teacher is not None:
        _announce("teacher", options.teacher.run)
        train_teacher(options.teacher, device)
    _announce("supernet", options.supernet.run)
    train_supernet(options.supernet, device, trusted)
    found = RunFolder(options.supernet.run).resolved(options.supernet)
    options = options.model_copy(update={"supernet": found})
    _announce("search", options.search.run)
    result = search(options.search, device, plan_search(options.search, device, trusted))
    logger.info("export and report: %s", options.run)
    finished = _finish(options, result, device, trusted)
    files = _export(options, finished)
    rows = _rows(finished, result, files)
    page = options.run / "report.html"
    shown = _previews(options, finished, result, trusted)
    write_report(replace(_report(options, finished, result, rows, files), previews=shown), page)
    about = (
        f"{len(finished.evaluator.inputs)} images of the {finished.split} split "
        f"({finished.splits.describe(finished.split)})"
    )
    return Compression(result, rows, files, about, page)


def _record(options: CompressOptions) -> None:
    """Put the options into the run folder, unless a stage there was started with others.

    Raises:
        ConfigError: One was, or another process is at work there.
    """
    with ExitStack() as claims:
        for stage in (options.teacher, options.supernet):
            if stage is not None:
                claims.enter_context(RunFolder(stage.run).claim(stage))
        write_atomic(options.run / "options.yaml", dump_options(options).encode())


def preflight(options: CompressOptions, device: torch.device, trusted: Sequence[str]) -> Supernet:
    """Build the untrained student and check what the search will ask of it, before anything runs.

    Raises:
        BudgetError: No subnet fits a budget.
        ConfigError: The metric is unknown, or the stages do not fit together.
    """
    size = options.search.size or options.supernet.data.whole_size
    if RunFolder(options.supernet.run).is_done:  # its folder is enough from here on
        net, network = load_supernet(options.supernet.run, trusted)
        _check_search(net, size, options, device, network.output)
        return net
    source = options.supernet.teacher
    if options.teacher is None or RunFolder(options.teacher.run).is_done:
        data = options.supernet.data
        teacher = load_teacher(source, trusted, data.input, data.target)
        refuse_layers_of_function(options.supernet, teacher)
        if teacher.is_function and size != data.whole_size:
            raise ConfigError(
                f"search.size={size}, but the teacher is a function that is asked about held-out "
                f"images of {data.whole_size}x{data.whole_size}: set data.eval_size={size}"
            )
    else:
        if source.weights != options.teacher.run:
            raise ConfigError(
                f"supernet.teacher.weights={source.weights} is not "
                f"teacher.run={options.teacher.run}"
            )
        generator = with_found_images(options.teacher).generator
        description = {"generator": generator.model_dump(mode="json")}
        teacher = build_network(description, str(options.teacher.run))
    net = make_student(options.supernet.student, teacher).net
    _check_search(net, size, options, device, teacher.output)
    return net


def _check_search(
    net: Supernet, size: int, options: CompressOptions, device: torch.device, output: ImageKind
) -> None:
    """Budgets first, as that takes no time; then whether the data has what the metric needs."""
    bounded(net, size, options.search)
    refuse_early(options.search, net, device)
    data = options.supernet.data
    quality = load_quality(options.search.metric, options.search.features, output=output)
    quality.check(data_kind(data.mode).is_paired, side=size)


def _announce(stage: str, run: Path) -> None:
    state = "already finished" if RunFolder(run).is_done else "running"
    logger.info("%s: %s (%s)", stage, run, state)


def _finish(
    options: CompressOptions, result: SearchResult, device: torch.device, trusted: Sequence[str]
) -> Finished:
    teacher = load_network(options.supernet.run / TEACHER_FILE, trusted=trusted)
    networks = {"teacher": teacher}
    smallest_budget = {str(trial.subnet): budget for budget, trial in result.chosen.items()}
    for subnet, budget in smallest_budget.items():  # one subnet may be the best under several
        label = f"subnet <= {budget.label}"
        networks[label] = load_model(options.supernet.run, subnet, trusted=trusted)
    splits = run_splits(options.supernet.run, options.supernet.data)
    split = "test" if splits.inputs("test", options.supernet.data.direction) else "search"
    images = load_split(options.supernet.data, split, result.size, splits)
    net, _ = load_supernet(options.supernet.run, trusted)
    count = options.search.max_test_images
    evaluator = Evaluator.of_split(net, teacher.module.to(device), images, count, 4, device)
    outputs = {
        label: evaluator.translate(network.module.to(device)) for label, network in networks.items()
    }
    scores = {label: all_scores(images, evaluator.references) for label, images in outputs.items()}
    for name in [name for name in scores["teacher"] if name.startswith("teacher_")]:
        del scores["teacher"][name]  # the teacher against itself
    return Finished(networks, outputs, scores, evaluator, split, splits)


def _export(options: CompressOptions, finished: Finished) -> dict[str, Path]:
    images = list(finished.evaluator.inputs[:32])
    if len(images) < NUM_PROOF_IMAGES:
        size = finished.evaluator.inputs.shape[-1]
        images += data_images(options.supernet.data, size, finished.splits)
    files: dict[str, Path] = {}
    for label, network in finished.networks.items():
        if label == "teacher":
            continue
        network.module.to("cpu")
        for kind in options.export:
            path = inside(options.run, f"export/{network.header['subnet']}{FORMATS[kind].suffix}")
            proof = export_network(network, kind, path, images)
            files[f"{label} ({kind}, differs by {proof.max_difference:.2g})"] = path
    return files


def _rows(finished: Finished, result: SearchResult, files: dict[str, Path]) -> list[Row]:
    x = to_float(finished.evaluator.inputs[:1])
    networks = {k: network for k, network in finished.networks.items() if not network.is_function}
    modules = {label: network.module.to("cpu") for label, network in networks.items()}
    latencies = measure_latency({k: lambda m=m: m(x) for k, m in modules.items()})  # type: ignore[misc]
    sizes = {label.partition(" (")[0]: path.stat().st_size / 1e6 for label, path in files.items()}
    rows = []
    for label, network in networks.items():  # nobody knows what a function costs
        costs = NetworkCosts(network.module, network.example_shape)
        rows.append(
            Row(
                label=label,
                config=str(network.header.get("subnet", "-")),
                params=costs.params,
                macs=costs.macs(result.size),
                macs_paper=costs.macs(result.size, paper=True),
                scores={f"{finished.split} {k}": v for k, v in finished.scores[label].items()},
                latency_ms=latencies[label].median_ms,
                size_mb=sizes.get(label),
            )
        )
    return rows


def _report(
    options: CompressOptions,
    finished: Finished,
    result: SearchResult,
    rows: list[Row],
    files: dict[str, Path],
) -> Report:
    inputs, truth = finished.evaluator.inputs, finished.evaluator.truth
    taken, made = finished.evaluator.kinds
    outputs = finished.outputs if truth is None else {**finished.outputs, "truth": truth}
    images = []
    for index in spread(len(inputs), NUM_ROWS):
        columns = {"input": taken.preview(inputs[index])}
        columns |= {label: made.preview(pixels[index]) for label, pixels in outputs.items()}
        images.append(ImageRow(f"{finished.split} {index}", columns))
    facts = {
        "data": f"{options.supernet.data.root} ({options.supernet.data.mode})",
        "images": f"{len(inputs)} of the {finished.split} split for the table; the search never "
        "saw them" if finished.split != "search" else f"{len(inputs)} of the search split",
        "splits": "; ".join(map(finished.splits.describe, ("train", "search", "test"))),
        "size": f"{result.size}x{result.size}",
        "search": f"{len(result.trials)} subnets evaluated, {result.metric} on the search split",
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}; latency in eager PyTorch, batch 1",
        "seed": str(options.search.seed),
    }  # fmt: skip
    name = options.supernet.data.root.name
    known = report_trials(result)
    return Report(
        title=f"{name}: compressed generators",
        facts=facts,
        metric=f"{result.metric} (search split)",
        lower_is_better=result.lower_is_better,
        rows=rows,
        trials=list(known.values()),
        front=[known[trial.subnet] for trial in result.front],
        images=images,
        files={label: str(path.relative_to(options.run)) for label, path in files.items()},
        tables=[answers_table(result)],
        fronts=report_fronts(result),
    )


def _previews(
    options: CompressOptions, finished: Finished, result: SearchResult, trusted: Sequence[str]
) -> dict[str, dict[str, Tensor]]:
    """What members of the fronts make of a few of the unseen images."""
    net, _ = load_supernet(options.supernet.run, trusted)
    device = finished.evaluator.device
    batches: list[Tensor] = []
    if norms_with_statistics(net.generator):
        batches = list(calibration_batches(options.supernet.data, device, finished.splits))
    evaluator = replace(finished.evaluator, net=net.to(device), calibration=batches)
    return previews(evaluator, front_subnets(result))
