"""MODEL of every command: a run folder of any stage, a file of ours, or somebody's checkpoint."""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gancompress.checkpoint.network import (
    WEIGHTS_NAMES,
    Network,
    as_supernet,
    describe_subnet,
    load_network,
    weights_file,
)
from gancompress.checkpoint.run import read_splits
from gancompress.config import DataOptions, build, read_json, read_yaml
from gancompress.data import Splits, load_split, make_splits, spread, to_float
from gancompress.elastic import calibrate as calibrate_norms
from gancompress.elastic import calibrated, stride_at
from gancompress.elastic.calibrate import norms_with_statistics
from gancompress.errors import ConfigError
from gancompress.hashes import check_listed, file_sha256

logger = logging.getLogger(__name__)
MAX_CALIBRATION = 64
CALIBRATION_BATCH = 16


def load_model(
    path: Path,
    subnet: str | None = None,
    factory: str | None = None,
    calibrate: bool = True,
    trusted: Collection[str] = (),
) -> Network:
    """A generator to translate with.

    Args:
        path: A run folder (teacher, supernet, search, finetune, or of a compression, which is
            that of its search), a safetensors or `.pth` file.
        subnet: Which subnet of a supernet or search; by default the largest of a supernet, and of
            a search the best under its smallest budget.
        factory: `package.module:factory` for the tensors of a network that is not ours.
        calibrate: Give a subnet batch statistics of its own; costs need none, and so no images.
        trusted: Factories that the file may ask for, see `load_network`.

    Raises:
        CheckpointError: The weights cannot be used.
        ConfigError: A subnet is named where there is no supernet, the run folder is damaged, or a
            search has chosen a subnet of other weights than its supernet has now.
        SpaceError: The subnet does not belong to the supernet.
    """
    if run_stage(path) == "search":
        if not subnet:
            subnet = smallest_chosen(path)
            refuse_retrained(path)
        path = supernet_of(path)
    network = load_network(path, factory, trusted=trusted)
    if "space" in network.header:
        net = as_supernet(network)
        chosen = net.space.parse(subnet) if subnet else net.space.largest()
        if calibrate:
            network.module = calibrated(net, chosen, calibration_images(path, net.generator))
        else:
            network.module = net.extract(chosen).eval()
        network.description = describe_subnet(network.description, net, chosen)
        network.stride = stride_at(network.stride, net.space.resolution(chosen))
        network.header = {**network.header, "subnet": str(chosen)}
    elif subnet is not None:
        raise ConfigError(f"{path} is not a supernet, so --subnet {subnet} has no effect")
    elif calibrate and run_stage(path) == "finetune":  # it has the statistics of a few images
        calibrate_norms(network.module, calibration_images(path, network.module))
    return network


def run_stage(path: Path) -> str | None:
    """The stage whose run folder this is, 'search' for a compression's, or None for anything else.

    Raises:
        ConfigError: Its config.yaml cannot be read.
    """
    stage = _read_config(path).get("stage")
    return stage if isinstance(stage, str) else None


def stage_folder(run: Path) -> Path:
    """The search's folder of a compression's run folder; any other path as it is."""
    search = run / "search"
    own = any((run / name).exists() for name in ("config.yaml", *WEIGHTS_NAMES))
    return search if not own and (search / "config.yaml").is_file() else run


def _read_config(run: Path) -> dict[str, Any]:
    """The options of a run folder; none for anything else."""
    file = stage_folder(run) / "config.yaml"
    if not file.is_file():
        return {}
    content = read_yaml(file)
    return content if isinstance(content, dict) else {}


def supernet_of(path: Path) -> Path:
    """The supernet's run folder of a search's or finetune's run folder (or of a supernet's)."""
    stage = run_stage(path)
    if stage == "supernet":
        return path
    if stage in ("search", "finetune"):
        supernet = _read_config(path).get("supernet")
        if not isinstance(supernet, str):
            raise ConfigError(f"{path / 'config.yaml'} does not name a supernet")
        return Path(supernet)
    raise ConfigError(f"{path} is not the run folder of a supernet or a search")


def run_data(path: Path) -> tuple[DataOptions, int] | None:
    """Data section and size of whole images of a run, where the folder says so."""
    stage = run_stage(path)
    if stage in ("search", "finetune"):
        return run_data(supernet_of(path))
    if stage not in ("teacher", "supernet"):
        return None
    content = _read_config(path).get("data")
    if not isinstance(content, dict):
        raise ConfigError(f"{path / 'config.yaml'} has no section data")
    data = build(DataOptions, content, str(path / "config.yaml"))
    return data, data.whole_size


def run_splits(run: Path, data: DataOptions) -> Splits:
    """The lists of images that a run was trained by.

    Where no folder holds them they are made of the data as it is now, and a warning says so if
    that may give the search images that the run was trained on.

    Args:
        run: A run folder of any stage.
        data: Its data section.

    Raises:
        DataError: The data cannot be used.
    """
    folders = [run]
    if run_stage(run) in ("search", "finetune"):
        folders.append(supernet_of(run))
    for folder in folders:
        known = read_splits(folder)
        if known is not None:
            return known.at(data.root)
    made = make_splits(data)
    if made.held_out_sides():
        _warn_of_new_lists(folders[-1])
    return made


@functools.cache  # once is enough, however many stages of a command ask
def _warn_of_new_lists(run: Path) -> None:
    logger.warning(
        "%s has no splits.json: the images held out for the search are chosen anew, and the run "
        "may have been trained on some of them",
        run,
    )


def calibration_images(run: Path, generator: nn.Module) -> Iterator[Tensor]:
    """Training inputs for a generator's statistics; nothing is read if it keeps none.

    Raises:
        ConfigError: There are statistics to calibrate, but the path is no run folder with data.
    """
    if not norms_with_statistics(generator):
        return
    found = run_data(run)
    if found is None:
        raise ConfigError(f"{run} is not a run folder, and batch norms need its training data")
    data, device = found[0], next(generator.parameters()).device
    yield from calibration_batches(data, device, run_splits(run, data))


def calibration_batches(
    data: DataOptions, device: torch.device, splits: Splits | None = None
) -> Iterator[Tensor]:
    """The same batches of training inputs for whoever calibrates: search, export, translation."""
    inputs = load_split(data, "train", data.whole_size, splits).inputs
    chosen = spread(len(inputs), MAX_CALIBRATION)
    for start in range(0, len(chosen), CALIBRATION_BATCH):
        yield to_float(inputs.take(chosen[start : start + CALIBRATION_BATCH])).to(device)


def smallest_chosen(path: Path) -> str:
    """Of the subnets that a finished search has chosen the one with the fewest MACs.

    Raises:
        ConfigError: The folder holds no finished search, or its done.json is damaged.
    """
    done = stage_folder(path) / "done.json"
    if not done.exists():
        raise ConfigError(f"{path} holds no finished search; name a subnet with --subnet")
    check_listed(done)
    try:
        chosen = read_json(done)["chosen"].values()
        return str(min(chosen, key=lambda trial: trial["macs"])["subnet"])
    except (ConfigError, ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{done} lists no chosen subnets; name one with --subnet") from None


def refuse_retrained(search: Path) -> None:
    """Raise where the supernet is another one than a finished search has scored.

    Args:
        search: The search's run folder, whose result can be read.

    Raises:
        ConfigError: The supernet has other weights now.
    """
    sources = read_json(stage_folder(search) / "done.json").get("made_from")
    scored = sources.get("weights") if isinstance(sources, dict) else None
    supernet = supernet_of(search)
    if scored is not None and scored != file_sha256(weights_file(supernet)):
        raise ConfigError(
            f"{search} has scored other weights than {supernet} has now\n"
            f"  Search again: gancompress search {search}"
        )


def describe(network: Network) -> dict[str, Any]:
    """Facts of a loaded generator for `--json` and dry runs."""
    parameters = sum(p.numel() for p in network.module.parameters())
    subnet = network.header.get("subnet")
    return {
        "source": network.source,
        "network": network.description,
        "subnet": subnet,
        "params": parameters,
    }
