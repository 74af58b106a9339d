"""Which networks a run offers to the page: its front, or what comes nearest to one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gancompress.checkpoint.answers import answers_of
from gancompress.checkpoint.files import load_tensors
from gancompress.checkpoint.models import refuse_retrained, run_data, run_splits, run_stage
from gancompress.checkpoint.network import Network, as_supernet, load_network
from gancompress.checkpoint.resolve import Model
from gancompress.checkpoint.run import TEACHER_FILE, RunFolder
from gancompress.config import DataOptions
from gancompress.data import ImageKind, Splits
from gancompress.demo.manifest import Role, Score
from gancompress.errors import ConfigError
from gancompress.search.answers import uniform_subnets
from gancompress.search.result import SearchResult, load_result
from gancompress.search.trials import Trial

NUM_SUBNETS = 4
DEFAULT_SIZE = 256


@dataclass(frozen=True)
class Offer:
    """One network that the page may run.

    Attributes:
        name: Config string, or what it is called.
        role: As in `Model`.
        load: The network, on the CPU.
        score: What a search says of it.
    """

    name: str
    role: Role
    load: Callable[[], Network]
    score: Score | None = None


@dataclass(frozen=True)
class Source:
    """What a bundle is made from.

    Attributes:
        path: As the user named it, or the stage inside that it stands for.
        offers: As the user named them, or ascending in costs; the teacher last.
        data: Data section and image size of the training, where a run says so.
        size: Side in pixels of the images that the networks were made for.
        splits: Its lists of images.
        kinds: What images the networks take and make.
        files: What the result depends on.
    """

    path: Path
    offers: tuple[Offer, ...]
    data: tuple[DataOptions, int] | None
    size: int
    splits: Splits | None
    kinds: tuple[ImageKind, ImageKind]
    files: tuple[Path, ...]


def find_source(
    path: Path,
    subnets: Sequence[str] = (),
    factory: str | None = None,
    trusted: Sequence[str] = (),
) -> Source:
    """The networks of a run folder of any stage, of a compression, or of a checkpoint.

    Args:
        path: Any MODEL that PyTorch runs.
        subnets: Config strings of the subnets to offer; by default some along the front of a
            search, or uniform ones of a supernet.
        factory: `package.module:factory` for the tensors of a network that is not ours.
        trusted: Factories that its files may ask for, see `load_network`.

    Raises:
        SpaceError: A subnet does not belong to the supernet.
        CheckpointError: The weights cannot be used.
        ConfigError: The run folder is damaged, its search has not ended, or it is an exported file.
    """
    path = _stage_of_compression(path)
    stage = run_stage(path)
    if stage == "search":
        return _of_search(path, subnets, trusted)
    model = Model(path, None, factory, trusted)
    network = model.stored()
    if "space" in network.header:
        return _of_supernet(path, network, subnets, trusted)
    if subnets:
        raise ConfigError(f"{path} is not a supernet, so --subnet {subnets[0]} has no effect")
    name = str(network.header.get("subnet", stage or path.stem))
    role: Role = "subnet" if "subnet" in network.header else "generator"
    if stage == "teacher":
        role = "teacher"
    return _source(path, [Offer(name, role, model.network)], network, [Path(network.source)])


def _stage_of_compression(path: Path) -> Path:
    """The furthest stage that has ended in a compression's run folder; other paths as they are.

    Raises:
        ConfigError: None has.
    """
    stages = [path / name for name in ("search", "supernet", "teacher")]
    begun = [folder for folder in stages if RunFolder(folder).config.is_file()]
    if RunFolder(path).config.exists() or not begun:
        return path
    for folder in begun:
        if RunFolder(folder).is_done:
            return folder
    raise ConfigError(f"{path}: no stage of this compression has ended yet")


def _of_search(path: Path, subnets: Sequence[str], trusted: Sequence[str]) -> Source:
    result = load_result(path)
    net, network, supernet = Model(path, None, None, trusted).supernet()
    refuse_retrained(path)
    known = {trial.subnet: trial for trial in result.trials if trial.complete}
    named = list(dict.fromkeys(net.space.parse(text) for text in subnets))
    chosen = named or [trial.subnet for trial in _along_front(result.front)]
    offers = [
        Offer(
            str(s),
            "subnet",
            Model(path, str(s), None, trusted).network,
            _score(known.get(s), result),
        )
        for s in chosen
    ]
    teacher, files = _teacher(supernet, trusted)
    files = [RunFolder(path).done, Path(network.source), *files]
    return _source(path, [*offers, *teacher], network, files)


def _score(trial: Trial | None, result: SearchResult) -> Score | None:
    if trial is None:
        return None
    value = trial.scores.get(result.metric, trial.loss if result.lower_is_better else -trial.loss)
    return Score(name=result.metric, value=value, lower_is_better=result.lower_is_better)


def _along_front(front: Sequence[Trial]) -> list[Trial]:
    """The ends of the front, and between them those nearest to equal steps in log MACs."""
    if len(front) <= NUM_SUBNETS:
        return list(front)
    low, high = front[0].macs, front[-1].macs
    chosen = {}
    for step in range(NUM_SUBNETS):
        macs = low * (high / low) ** (step / (NUM_SUBNETS - 1))
        best = min(front, key=lambda trial: abs(math.log(trial.macs / macs)))
        chosen[best.subnet] = best
    return list(chosen.values())


def _of_supernet(
    path: Path, network: Network, subnets: Sequence[str], trusted: Sequence[str]
) -> Source:
    net = as_supernet(network)
    uniform = sorted(uniform_subnets(net.space), key=net.num_parameters)
    steps = min(NUM_SUBNETS, len(uniform))
    picked = [uniform[i * (len(uniform) - 1) // max(steps - 1, 1)] for i in range(steps)]
    chosen = list(dict.fromkeys(net.space.parse(text) for text in subnets)) or picked
    offers = [Offer(str(s), "subnet", Model(path, str(s), None, trusted).network) for s in chosen]
    teacher, files = _teacher(path, trusted)
    return _source(path, [*offers, *teacher], network, [Path(network.source), *files])


def _teacher(supernet: Path, trusted: Sequence[str]) -> tuple[list[Offer], list[Path]]:
    """The teacher that a supernet's run folder keeps, where it does."""
    file = supernet / TEACHER_FILE
    if not file.is_file():
        return [], []
    described = load_tensors(file)[1].get("network")
    if isinstance(described, dict) and answers_of(described) is not None:
        return [], []  # no browser can run a function
    return [Offer("teacher", "teacher", partial(load_network, file, trusted=trusted))], [file]


def _source(path: Path, offers: Sequence[Offer], network: Network, files: Sequence[Path]) -> Source:
    data = run_data(path) if path.is_dir() else None
    size = data[1] if data is not None else int(network.header.get("image_size", DEFAULT_SIZE))
    splits = run_splits(path, data[0]) if data is not None else None
    kinds = (network.input, network.output)
    return Source(path, tuple(offers), data, size, splits, kinds, tuple(files))
