"""`gancompress compress`: every stage that has not been done yet, the table, and the report."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from gancompress.checkpoint.models import calibration_batches, load_model, run_splits
from gancompress.checkpoint.network import (
    Network,
    build_network,
    load_network,
    load_supernet,
)
from gancompress.checkpoint.run import RunFolder
from gancompress.cli.context import Context
from gancompress.cli.files import NUM_PROOF_IMAGES, data_images
from gancompress.cli.search import show_result
from gancompress.cli.train import describe_splits
from gancompress.config import (
    CompressOptions,
    SearchOptions,
    Section,
    SupernetOptions,
    TeacherOptions,
    dump_options,
    load_options,
)
from gancompress.cost import format_count, measure_latency
from gancompress.data import Split, Splits, data_kind, load_split, spread, to_float
from gancompress.distributed import under_torchrun
from gancompress.elastic import NetworkCosts, Supernet
from gancompress.elastic.calibrate import norms_with_statistics
from gancompress.errors import ConfigError
from gancompress.export import FORMATS, export_network
from gancompress.metrics import all_scores
from gancompress.paths import inside
from gancompress.report import ImageRow, Report, Row, text_table, write_report
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
from gancompress.training.stages import TEACHER_FILE, train_supernet, train_teacher
from gancompress.training.student import load_teacher, make_student

NUM_ROWS = 12
S = TypeVar("S", bound=Section)


@dataclass
class Stages:
    """The resolved options of all stages.

    Attributes:
        run: The folder of the compression.
        teacher: None where the supernet starts from finished weights.
        supernet: Of the distillation.
        search: Of the search.
        export: Formats to write.
        trusted: Factories that the user has named, in the options or by flags: the folders of the
            stages may ask for them.
    """

    run: Path
    teacher: TeacherOptions | None
    supernet: SupernetOptions
    search: SearchOptions
    export: tuple[str, ...]
    trusted: tuple[str, ...]


@dataclass
class Finished:
    """Teacher and chosen subnets, scored on images that no stage has seen.

    Attributes:
        networks: The teacher, then the subnets from the widest budget to the narrowest, by label.
        outputs: Their images, (N, 3, S, S) uint8.
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


def run_compress(context: Context) -> None:
    """From a teacher to exported subnets and the report; done stages are not run again."""
    if under_torchrun():
        raise ConfigError(
            "compress is one process: run teacher, supernet and search under torchrun, and then "
            "compress, which takes finished stages as they are"
        )
    stages = load_stages(context)
    if context.args.dry_run:
        net = preflight(stages, context.device)
        sections = [s for s in (stages.teacher, stages.supernet, stages.search) if s is not None]
        context.say("---\n".join(dump_options(section) for section in sections))
        context.say("\n".join(describe_splits(stages.teacher or stages.supernet)))
        size = stages.search.size or stages.supernet.data.whole_size
        low, high = (net.macs(s, size) for s in (net.space.smallest(), net.space.largest()))
        context.say(
            f"{net.space.size:,} subnets, {format_count(low)} to {format_count(high)} MACs at "
            f"{size}x{size}"
        )
        context.result({s.__class__.__name__: s.model_dump(mode="json") for s in sections})
        return
    preflight(stages, context.device)
    if stages.teacher is not None:
        _announce(context, "teacher", stages.teacher.run)
        train_teacher(stages.teacher, context.device)
    _announce(context, "supernet", stages.supernet.run)
    train_supernet(stages.supernet, context.device, stages.trusted)
    _announce(context, "search", stages.search.run)
    plan = plan_search(stages.search, context.device, stages.trusted)
    result = search(stages.search, context.device, plan)
    show_result(context, result)
    context.say("export and report")
    finished = _finish(stages, result, context.device)
    files = _export(stages, finished)
    rows = _rows(finished, result, files)
    report = stages.run / "report.html"
    write_report(_report(stages, finished, result, rows, files), report)
    context.say(
        f"\nscores on {len(finished.evaluator.inputs)} images of the {finished.split} split "
        f"({finished.splits.describe(finished.split)})"
    )
    context.say(text_table(rows))
    for label, path in files.items():
        context.say(f"{label}: {path}")
    context.say(f"report: {report}")
    context.result(_summary(rows, files, report))


def load_stages(context: Context) -> Stages:
    """The options of every stage; `--set supernet.schedule.lr=...` goes to that stage's file.

    Raises:
        ConfigError: An options file is missing or wrong, or an export format is unknown.
    """
    path: Path = context.args.options
    stage_texts: dict[str, list[str]] = {"teacher": [], "supernet": [], "search": []}
    own = []
    for text in context.args.set:
        stage, _, rest = text.partition(".")
        if stage in stage_texts:
            stage_texts[stage].append(rest)
        else:
            own.append(text)
    if context.args.seed is not None:
        for texts in stage_texts.values():
            texts.append(f"seed={context.args.seed}")
    options = load_options(CompressOptions, path, own)
    unknown = [kind for kind in options.export if kind not in FORMATS]
    if unknown:
        raise ConfigError(
            f"{path}: unknown export format '{unknown[0]}'; choose from {list(FORMATS)}"
        )

    def load(kind: type[S], file: Path, name: str) -> S:
        return load_options(kind, path.parent / file, stage_texts[name])

    teacher = load(TeacherOptions, options.teacher, "teacher") if options.teacher else None
    supernet = load(SupernetOptions, options.supernet, "supernet")
    found = load(SearchOptions, options.search, "search")
    if found.supernet != supernet.run:
        raise ConfigError(
            f"{path}: search.supernet={found.supernet} is not supernet.run={supernet.run}"
        )
    module = supernet.teacher.module
    trusted = (*context.args.module, *([module] if module else []))
    return Stages(options.run, teacher, supernet, found, options.export, trusted)


def preflight(stages: Stages, device: torch.device) -> Supernet:
    """Build the untrained student and check what the search will ask of it, before anything runs.

    Raises:
        BudgetError: No subnet fits a budget.
        ConfigError: The metric is unknown, or the stages do not fit together.
    """
    size = stages.search.size or stages.supernet.data.whole_size
    if RunFolder(stages.supernet.run).is_done:  # its folder is enough from here on
        net, _ = load_supernet(stages.supernet.run, stages.trusted)
        _check_search(net, size, stages, device)
        return net
    source = stages.supernet.teacher
    if stages.teacher is None or RunFolder(stages.teacher.run).is_done:
        teacher = load_teacher(source, stages.trusted)
    else:
        if source.weights != stages.teacher.run:
            raise ConfigError(
                f"supernet.teacher.weights={source.weights} is not teacher.run={stages.teacher.run}"
            )
        description = {"generator": stages.teacher.generator.model_dump(mode="json")}
        teacher = build_network(description, str(stages.teacher.run))
    net = make_student(stages.supernet.student, teacher).net
    _check_search(net, size, stages, device)
    return net


def _check_search(net: Supernet, size: int, stages: Stages, device: torch.device) -> None:
    """Budgets first, as that takes no time; then whether the data has what the metric needs."""
    bounded(net, size, stages.search)
    refuse_early(stages.search, net, device)
    data = stages.supernet.data
    quality = load_quality(stages.search.metric, stages.search.features)
    quality.check(data_kind(data.mode).is_paired, side=size)


def _announce(context: Context, stage: str, run: Path) -> None:
    state = "done before" if RunFolder(run).is_done else "running"
    context.say(f"{stage}: {run} ({state})")


def _finish(stages: Stages, result: SearchResult, device: torch.device) -> Finished:
    teacher = load_network(stages.supernet.run / TEACHER_FILE, trusted=stages.trusted)
    networks = {"teacher": teacher}
    smallest_budget = {str(trial.subnet): budget for budget, trial in result.chosen.items()}
    for subnet, budget in smallest_budget.items():  # one subnet may be the best under several
        label = f"subnet <= {budget.label}"
        networks[label] = load_model(stages.supernet.run, subnet, trusted=stages.trusted)
    splits = run_splits(stages.supernet.run, stages.supernet.data)
    split = "test" if splits.inputs("test", stages.supernet.data.direction) else "search"
    images = load_split(stages.supernet.data, split, result.size, splits)
    evaluator = _evaluator(images, teacher, stages.search.max_test_images, device)
    outputs = {
        label: evaluator.translate(network.module.to(device)) for label, network in networks.items()
    }
    scores = {label: all_scores(images, evaluator.references) for label, images in outputs.items()}
    for name in [name for name in scores["teacher"] if name.startswith("teacher_")]:
        del scores["teacher"][name]  # the teacher against itself
    return Finished(networks, outputs, scores, evaluator, split, splits)


def _evaluator(
    split: Split, teacher: Network, count: int | None, device: torch.device
) -> Evaluator:
    """Scores on a split, or on `count` of its images, with the teacher's outputs as reference."""
    net = Supernet(teacher.module, torch.empty(teacher.example_shape), widths=(1.0,))
    return Evaluator.of_split(net, teacher.module.to(device), split, count, 4, device)


def _export(stages: Stages, finished: Finished) -> dict[str, Path]:
    images = list(finished.evaluator.inputs[:32])
    if len(images) < NUM_PROOF_IMAGES:
        size = finished.evaluator.inputs.shape[-1]
        images += data_images(stages.supernet.data, size, finished.splits)
    files: dict[str, Path] = {}
    for label, network in finished.networks.items():
        if label == "teacher":
            continue
        network.module.to("cpu")
        for kind in stages.export:
            path = inside(stages.run, f"export/{network.header['subnet']}{FORMATS[kind].suffix}")
            proof = export_network(network, kind, path, images)
            files[f"{label} ({kind}, differs by {proof.max_difference:.2g})"] = path
    return files


def _rows(finished: Finished, result: SearchResult, files: dict[str, Path]) -> list[Row]:
    x = to_float(finished.evaluator.inputs[:1])
    modules = {label: network.module.to("cpu") for label, network in finished.networks.items()}
    latencies = measure_latency({k: lambda m=m: m(x) for k, m in modules.items()})  # type: ignore[misc]
    sizes = {label.partition(" (")[0]: path.stat().st_size / 1e6 for label, path in files.items()}
    rows = []
    for label, network in finished.networks.items():
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
    stages: Stages,
    finished: Finished,
    result: SearchResult,
    rows: list[Row],
    files: dict[str, Path],
) -> Report:
    inputs, truth = finished.evaluator.inputs, finished.evaluator.truth
    images = []
    for index in spread(len(inputs), NUM_ROWS):
        columns = {"input": inputs[index]}
        columns |= {label: outputs[index] for label, outputs in finished.outputs.items()}
        if truth is not None:
            columns["truth"] = truth[index]
        images.append(ImageRow(f"{finished.split} {index}", columns))
    facts = {
        "data": f"{stages.supernet.data.root} ({stages.supernet.data.mode})",
        "images": f"{len(inputs)} of the {finished.split} split for the table; the search never "
        "saw them" if finished.split != "search" else f"{len(inputs)} of the search split",
        "splits": "; ".join(map(finished.splits.describe, ("train", "search", "test"))),
        "size": f"{result.size}x{result.size}",
        "search": f"{len(result.trials)} subnets evaluated, {result.metric} on the search split",
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}; latency in eager PyTorch, batch 1",
        "seed": str(stages.search.seed),
    }  # fmt: skip
    name = stages.supernet.data.root.name
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
        files={label: str(path.relative_to(stages.run)) for label, path in files.items()},
        tables=[answers_table(result)],
        fronts=report_fronts(result),
        previews=_previews(stages, finished, result),
    )


def _previews(
    stages: Stages, finished: Finished, result: SearchResult
) -> dict[str, dict[str, Tensor]]:
    """What members of the fronts make of a few of the unseen images."""
    net, _ = load_supernet(stages.supernet.run, stages.trusted)
    device = finished.evaluator.device
    batches: list[Tensor] = []
    if norms_with_statistics(net.generator):
        batches = list(calibration_batches(stages.supernet.data, device, finished.splits))
    evaluator = replace(finished.evaluator, net=net.to(device), calibration=batches)
    return previews(evaluator, front_subnets(result))


def _summary(rows: list[Row], files: dict[str, Path], report: Path) -> dict[str, Any]:
    return {
        "rows": [
            {
                "label": row.label,
                "subnet": row.config,
                "params": row.params,
                "macs": row.macs,
                "macs_paper": row.macs_paper,
                "latency_ms": row.latency_ms,
                "size_mb": row.size_mb,
                **row.scores,
            }
            for row in rows
        ],
        "files": {label: str(path) for label, path in files.items()},
        "report": str(report),
    }
