"""Features of real images, kept on disk under a key of the files' content."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gancompress.checkpoint.files import load_tensors, save_tensors
from gancompress.data import ImageSet, refuse_constant
from gancompress.data.hashing import file_digests
from gancompress.errors import CheckpointError
from gancompress.metrics.features import FeatureNetwork
from gancompress.metrics.weights import cache_folder

CHUNK = 64
logger = logging.getLogger(__name__)


def real_features(network: FeatureNetwork, images: ImageSet, folder: Path | None = None) -> Tensor:
    """Features of a set of files, computed once for a content, a network and a preprocessing.

    File names, order and modification times play no part. A damaged cache is computed again.
    Features of networks that are not `cacheable` are never kept.

    Args:
        network: The features.
        images: Files and the size that they are read at.
        folder: Of the cache; the user's cache folder by default.

    Returns:
        (N, D) float64 in the order of `images`.

    Raises:
        DataError: A file cannot be read, or is one flat colour.
    """
    if not network.cacheable:
        return _all_features(network, images, range(len(images)))
    contents = file_digests(images.files)
    order = sorted(range(len(contents)), key=contents.__getitem__)
    key = hashlib.sha256(f"{network.digest} {images.size} {images.half}".encode())
    key.update("".join(contents[i] for i in order).encode())
    path = (folder or cache_folder() / "features") / f"{key.hexdigest()}.safetensors"
    by_content = _read(path, len(contents))
    if by_content is None:
        by_content = _all_features(network, images, order).float()
        _write(path, by_content, network.name)
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(order))
    return by_content[back].double()


def _all_features(network: FeatureNetwork, images: ImageSet, order: Sequence[int]) -> Tensor:
    """(N, D) float64 of the images in this order; pixels of a chunk are held at a time."""
    chunks = [order[i : i + CHUNK] for i in range(0, len(order), CHUNK)]
    return torch.cat([_features(network, images, chunk) for chunk in chunks])


def _features(network: FeatureNetwork, images: ImageSet, chunk: Sequence[int]) -> Tensor:
    pixels = [images[i] for i in chunk]
    refuse_constant(pixels, [images.files[i] for i in chunk], "real image")
    return network(pixels)


def _read(path: Path, count: int) -> Tensor | None:
    if not path.exists():
        return None
    try:
        features = load_tensors(path)[0]["features"]
    except (CheckpointError, KeyError):
        return None
    return features if features.ndim == 2 and len(features) == count else None


def _write(path: Path, features: Tensor, name: str) -> None:
    try:
        save_tensors(path, {"features": features}, {"network": name})
    except OSError as error:  # no cache is no reason to stop
        logger.warning("features of the real images are not kept: %s", error)
