"""A search before anything has run: its space, costs, budgets and score, and its evaluator."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from gancompress.checkpoint.models import calibration_batches, run_splits
from gancompress.checkpoint.network import Network, load_network, load_supernet
from gancompress.config import SearchOptions, SupernetOptions, load_options
from gancompress.cost.table import load_device
from gancompress.data import Split, load_split
from gancompress.elastic import Supernet, nothing_elastic
from gancompress.elastic.calibrate import norms_with_statistics
from gancompress.errors import CheckpointError, ConfigError
from gancompress.metrics.distances import RealSet
from gancompress.search.budgets import (
    Budget,
    default_budgets,
    limited,
    parse_budgets,
    search_costs,
)
from gancompress.search.compiled import (
    Workload,
    choose_runtime,
    compile_subnets,
    obstacle,
)
from gancompress.search.evaluator import Evaluator
from gancompress.search.log import require_log
from gancompress.search.problem import Problem
from gancompress.search.quality import Quality, load_quality
from gancompress.search.searchers import Searcher

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """A search before anything has run.

    Attributes:
        net: The supernet.
        network: What its file says.
        size: Side of the images.
        everything: The space and all its costs.
        problem: The same as far as the largest budgets: costs that have none are left out.
        budgets: What is asked for.
        quality: What is optimised.
        searcher: Who proposes.
        trusted: Factories that files of the supernet's run may ask for, see `load_network`.
    """

    net: Supernet
    network: Network
    size: int
    everything: Problem
    problem: Problem
    budgets: list[Budget]
    quality: Quality
    searcher: Searcher
    trusted: tuple[str, ...] = ()


def plan_search(options: SearchOptions, device: torch.device, trusted: Sequence[str] = ()) -> Plan:
    """Read the supernet and check budgets and metric; the budgets first, as that takes no time.

    Args:
        options: Of the search.
        device: Where to evaluate.
        trusted: Factories that files of the supernet's run may ask for, see `load_network`.

    Raises:
        BudgetError: No subnet fits a budget; names the smallest cost.
        ConfigError: A budget, the image size, the metric, the runtime, the searcher or a log of
            trials cannot be used.
        CheckpointError: The supernet's run or the metric's weights are missing.
        SpaceError: The supernet has one subnet only.
    """
    net, network = load_supernet(options.supernet, trusted)
    if not net.space.dimensions:
        raise nothing_elastic(net.traced)
    size = options.size or int(network.header.get("image_size", 256))
    _check_size(size, network.stride)
    everything, problem, budgets = bounded(net, size, options)
    searcher = refuse_early(options, net, device)
    quality = load_quality(options.metric, options.features, device, network.output)
    return Plan(net, network, size, everything, problem, budgets, quality, searcher, tuple(trusted))


def refuse_early(options: SearchOptions, net: Supernet, device: torch.device) -> Searcher:
    """The searcher; raises for what can be known without any data.

    Raises:
        ConfigError: A log of trials is missing, the searcher does not take this space, or the
            runtime cannot do this here.
    """
    for path in options.trials:
        require_log(path)
    searcher = options.searcher
    assert isinstance(searcher, Searcher)  # see `SearcherOptions`
    searcher.check(net.space)
    choose_runtime(options.runtime, options.precision, obstacle(net, device))
    return searcher


def bounded(
    net: Supernet, size: int, options: SearchOptions
) -> tuple[Problem, Problem, list[Budget]]:
    """All costs, what may be proposed under the budgets, and these; see `plan_search`."""
    devices = {}
    for path in options.devices:
        device = load_device(path)
        if device.name in devices:
            raise ConfigError(f"{path}: duplicate device name {device.name}")
        if device.doubt is not None:
            logger.warning("%s", device.doubt)
        devices[device.name] = device.predictor(net, size)
    everything = Problem(net.space, search_costs(net, size, devices))
    budgets = parse_budgets(options.budgets, everything.costs) or default_budgets(everything)
    return everything, limited(everything, budgets, size), budgets


def _check_size(size: int, stride: int) -> None:
    if size % stride:
        raise ConfigError(f"size={size} must be a multiple of the generators' stride {stride}")


def trained_by(options: SearchOptions) -> SupernetOptions:
    """What the supernet was trained with."""
    return load_options(SupernetOptions, options.supernet / "config.yaml")


def search_split(options: SearchOptions, size: int) -> Split:
    """The images that the search sees: never those of the test split."""
    before = trained_by(options)
    return load_split(before.data, "search", size, run_splits(options.supernet, before.data))


def open_evaluator(options: SearchOptions, plan: Plan, device: torch.device) -> Evaluator:
    """Everything that evaluations share.

    Raises:
        CheckpointError: The supernet is in training.
        ConfigError: The metric is unknown, or this data does not have what it needs; the runtime
            cannot do this.
        ExportError: The runtime that was asked for does not take the supernet.
    """
    before = trained_by(options)
    progress = plan.network.header.get("progress", {})
    if progress.get("images", 0) < progress.get("of", 0):
        raise CheckpointError(
            f"{options.supernet} is in training: {progress['images']} of {progress['of']} images"
        )
    split = search_split(options, plan.size)
    teacher = load_network(options.supernet / "teacher.safetensors", trusted=plan.trusted)
    _check_size(plan.size, teacher.stride)
    evaluator = Evaluator.of_split(
        plan.net.to(device).eval(),
        teacher.module.to(device).eval(),
        split,
        options.max_images,
        options.batch_size,
        device,
    )
    calibration: list[Tensor] = []
    if norms_with_statistics(plan.net.generator):
        splits = run_splits(options.supernet, before.data)
        calibration = list(calibration_batches(before.data, device, splits))
    evaluator = replace(evaluator, quality=plan.quality, calibration=calibration)
    return _compiled(evaluator, options, plan)


def _compiled(evaluator: Evaluator, options: SearchOptions, plan: Plan) -> Evaluator:
    """The evaluator in the runtime that the options ask for."""
    size, count, device = evaluator.size, len(evaluator.inputs), evaluator.device
    work = Workload(plan.net, plan.network.stride, size, count, device)
    return evaluator.compiled_as(compile_subnets(work, options.runtime, options.precision))


def save_evaluator(
    path: Path, evaluator: Evaluator, options: SearchOptions, trusted: Sequence[str]
) -> None:
    """Write what the evaluators of other processes need of one that is prepared.

    Beside the options these are the images, what they are compared with, and the batches that
    norms are calibrated with: so the data is read and the teacher is run once.
    """
    tensors = {"inputs": evaluator.inputs}
    tensors |= {f"reference {name}": images for name, images in evaluator.references.items()}
    tensors |= {f"calibration {i:06}": batch for i, batch in enumerate(evaluator.calibration)}
    if evaluator.real is not None:
        tensors["real"] = evaluator.real.features
    header = {
        "options": options.model_dump(mode="json"),
        "device": str(evaluator.device),
        "trusted": list(trusted),
    }
    plain = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    save_file(plain, path, {"gancompress": json.dumps(header)})


def load_evaluator(path: Path) -> Evaluator:
    """An evaluator that measures as the one that `save_evaluator` was given; it has no teacher."""
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["gancompress"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    options = SearchOptions.model_validate(header["options"])
    device = torch.device(header["device"])
    plan = plan_search(options, device, header["trusted"])

    def named(start: str) -> dict[str, Tensor]:
        return {n.removeprefix(start): tensors[n] for n in sorted(tensors) if n.startswith(start)}

    references = named("reference ")
    evaluator = Evaluator(
        plan.net.to(device).eval(),
        _not_needed,
        tensors["inputs"],
        references.get("truth"),
        options.batch_size,
        device,
        [batch.to(device) for batch in named("calibration ").values()],
        plan.quality,
        known_real=RealSet(tensors["real"]) if "real" in tensors else None,
        kinds=(plan.network.input, plan.network.output),
        _references=references,
    )
    return _compiled(evaluator, options, plan)


def _not_needed(_: Tensor) -> Tensor:
    raise AssertionError("the teacher's images are in the file")
