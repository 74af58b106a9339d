"""Foreign checkpoints: the architecture is read from the tensors' names and shapes.

Known are those of pytorch-CycleGAN-and-pix2pix and of gan-compression.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from gancompress.checkpoint.files import check_finite, load_pickle
from gancompress.config import DiscriminatorOptions, GeneratorOptions
from gancompress.errors import CheckpointError
from gancompress.models import DISCRIMINATORS, GENERATORS

Tensors = dict[str, Tensor]
T = TypeVar("T")
logger = logging.getLogger(__name__)
MAX_DEPTH = 4
_WRAPPERS = ("module.", "_orig_mod.", "ema_model.", "averaged_model.")
_LEAVES = {"weight", "bias", "running_mean", "weight_orig", "weight_g"}
_AVERAGES = ("params_ema", "g_ema", "generator_ema", "netg_ema", "ema_generator", "model_ema",
             "ema", "ema_model", "averaged")  # fmt: skip
_ROLES = (*_AVERAGES, "generator", "netg", "g", "net_g", "gen", "g_a", "netg_a", "netg_a2b", "g_ab",
          "gen_a2b", "g_b", "netg_b", "netg_b2a", "g_ba", "gen_b2a")  # fmt: skip
_JUDGES = ("discriminator", "netd", "d", "net_d", "dis", "d_a", "netd_a", "d_b", "netd_b")
_ANY = ("params", "model", "state_dict", "net", "network", "module")
_NAMES = {"generator": (*_ROLES, *_ANY), "discriminator": (*_JUDGES, *_ANY)}
"""What people call networks, the surest name first: averages before the weights in training."""
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def load_foreign(path: Path, wanted: str = "generator", alone: bool = True) -> Tensors:
    """Tensors of a `.pth` file: a bare state dict, or the one that is wanted of a whole training.

    What wrappers put in front of the names is left out. Of several state dicts those of an average
    are taken first, and the log says which one was.

    Args:
        path: The file.
        wanted: generator or discriminator, where it holds both.
        alone: Whether a state dict is that of one network, whatever its parts are called.

    Raises:
        CheckpointError: Not a readable file of named tensors, or of several networks none of which
            is the wanted one by its name.
    """
    found = dict(_state_dicts(load_pickle(path), (), alone))
    if not found:
        raise CheckpointError(f"{path} holds no state dict of named tensors")
    chosen = _chosen(found, wanted, path)
    return check_finite(_with_counts(unwrapped(found[chosen])), path)


def unwrapped(tensors: Mapping[str, Tensor]) -> Tensors:
    """Without what DataParallel, torch.compile and averages put in front of every name."""
    names = list(tensors)
    while names and all(name.startswith(_WRAPPERS) for name in names):
        names = [name.partition(".")[2] for name in names]
    if len(set(names)) < len(names):  # wrapped in different ways
        names = list(tensors)
    return dict(zip(names, tensors.values(), strict=True))


def _state_dicts(
    content: Any, place: tuple[str, ...], alone: bool
) -> Iterator[tuple[str, Tensors]]:
    """All state dicts in nested containers, by their place."""
    if not isinstance(content, Mapping) or len(place) > MAX_DEPTH:
        return
    tensors = {n: t for n, t in content.items() if isinstance(n, str) and isinstance(t, Tensor)}
    if any(name.rpartition(".")[2] in _LEAVES for name in tensors):
        yield from [("/".join(place), tensors)] if alone else _parts(tensors, place)
    for name, inner in content.items():
        if isinstance(name, str):
            yield from _state_dicts(inner, (*place, name), alone)


def _parts(tensors: Tensors, place: tuple[str, ...]) -> Iterator[tuple[str, Tensors]]:
    """A state dict, or those of the networks of a training that all are in it."""
    parts: dict[str, Tensors] = {}
    for name, tensor in unwrapped(tensors).items():
        first, _, rest = name.partition(".")
        parts.setdefault(first, {})[rest or name] = tensor
    roles = {first for first in parts if first.lower() in _ROLES}
    if roles and (roles == parts.keys() or any(first.lower() in _JUDGES for first in parts)):
        for first, inner in parts.items():
            yield "/".join((*place, first)), inner
    else:
        yield "/".join(place), tensors


def _rank(place: str, wanted: str) -> int:
    """How surely a state dict of this place is the wanted one; the lowest is the surest."""
    names = [name.lower().removesuffix("_state_dict") for name in place.split("/")]
    ranks = [_NAMES[wanted].index(name) for name in names if name in _NAMES[wanted]]
    return min(ranks, default=len(_NAMES[wanted]))


def _chosen(found: Mapping[str, Tensors], wanted: str, path: Path) -> str:
    if len(found) == 1:
        return next(iter(found))
    ranked = sorted(found, key=lambda place: _rank(place, wanted))
    ranks = [_rank(place, wanted) for place in ranked]
    if ranks[0] == len(_NAMES[wanted]) or ranks[0] == ranks[1]:
        places = ", ".join(map(repr, ranked[:5]))
        raise CheckpointError(
            f"{path} holds {len(found)} state dicts, and which one is the {wanted} is not clear: "
            f"{places}\n  Save that one alone: torch.save(checkpoint[NAME], 'generator.pth')."
        )
    logger.info("%s: %s is taken, of %s", path, ranked[0], ", ".join(ranked))
    return ranked[0]


def without_unused_statistics(tensors: Tensors) -> Tensors:
    """Leave out the statistics that old InstanceNorm layers stored and never used."""

    def unused(name: str) -> bool:
        layer, _, leaf = name.rpartition(".")
        return leaf in _STATISTICS and f"{layer}.weight" not in tensors

    return {name: tensor for name, tensor in tensors.items() if not unused(name)}


def _with_counts(tensors: Tensors) -> Tensors:
    """Batch norms of PyTorch before 0.4.1 did not count their batches."""
    layers = [n.removesuffix("running_mean") for n in tensors if n.endswith(".running_mean")]
    batch_norms = [layer for layer in layers if f"{layer}weight" in tensors]
    return {f"{layer}num_batches_tracked": torch.tensor(0) for layer in batch_norms} | tensors


def infer_generator(tensors: Tensors, path: Path) -> GeneratorOptions:
    """The generator section that builds these tensors' network, apart from its widths.

    Raises:
        CheckpointError: Of none of the known families, or of one that cannot build it.
    """
    found = _first(tensors, path, [family.infer for family in GENERATORS.values()])
    if found is None:
        some = ", ".join(list(tensors)[:3])
        raise CheckpointError(
            f"{path} is not a generator of a known family: {', '.join(GENERATORS)} "
            f"(tensors: {some}, ...)\n"
            "  For another network name a factory with teacher.module=package.module:factory."
        )
    return found


def infer_discriminator(tensors: Tensors, path: Path) -> tuple[DiscriminatorOptions, int]:
    """The discriminator section of these tensors, and the channels of the judged image.

    Raises:
        CheckpointError: Of none of the known families, or of one that cannot build it.
    """
    found = _first(tensors, path, [family.infer for family in DISCRIMINATORS.values()])
    if found is None:
        known = ", ".join(DISCRIMINATORS)
        raise CheckpointError(f"{path} is not a discriminator of a known family: {known}")
    return found


def _first(
    tensors: Tensors, path: Path, families: Iterable[Callable[[Tensors], T | None]]
) -> T | None:
    """What the first family that recognises the tensors makes of them."""
    for infer in dict.fromkeys(families):
        try:
            found = infer(tensors)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None
        if found is not None:
            return found
    return None
