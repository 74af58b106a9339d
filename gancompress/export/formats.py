"""Files that hold one generator, and the proof that they compute the same images."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gancompress.checkpoint.files import write_atomic
from gancompress.checkpoint.network import Network, load_network, save_network
from gancompress.data import to_float
from gancompress.errors import CheckpointError, DataError, ExportError
from gancompress.export.onnx import OnnxGenerator, export_onnx
from gancompress.tables import lookup

Generator = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Proof:
    """What was compared.

    Attributes:
        file: The exported file.
        num_images: Real images translated by the file and by the generator in memory.
        max_difference: Largest |difference| of any output value, images being in [-1, 1].
        tolerance: The largest that is accepted.
    """

    file: str
    num_images: int
    max_difference: float
    tolerance: float


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        suffix: Of its name.
        write: From (path, network).
        read: From a path to a callable that runs the file by itself.
        tolerance: Largest accepted difference to the generator in memory.
    """

    suffix: str
    write: Callable[[Path, Network], None]
    read: Callable[[Path, Network], Generator]
    tolerance: float


def _header(network: Network) -> dict[str, Any]:
    kept = ("subnet", "image_size")
    return {key: network.header[key] for key in kept if key in network.header}


def _write_safetensors(path: Path, network: Network) -> None:
    save_network(path, network.module, network.description, **_header(network))


def _write_pth(path: Path, network: Network) -> None:
    """A bare state dict, as pytorch-CycleGAN-and-pix2pix and gan-compression load it."""
    buffer = io.BytesIO()
    state = {name: tensor.detach().cpu() for name, tensor in network.module.state_dict().items()}
    torch.save(state, buffer)
    write_atomic(path, buffer.getvalue())


def _write_onnx(path: Path, network: Network) -> None:
    header = {"network": network.description, **_header(network)}
    export_onnx(path, network.module, network.stride, header)


def _read_tensors(path: Path, network: Network) -> Generator:
    return load_network(path, network.description.get("module")).module


FORMATS: dict[str, Format] = {
    "safetensors": Format(".safetensors", _write_safetensors, _read_tensors, 0.0),
    "pth": Format(".pth", _write_pth, _read_tensors, 0.0),
    "onnx": Format(".onnx", _write_onnx, lambda path, _: OnnxGenerator(path), 1e-3),
}


def export_network(network: Network, kind: str, path: Path, images: list[Tensor]) -> Proof:
    """Write a generator to a file, run that file, and compare.

    Args:
        network: On the CPU, in evaluation mode.
        kind: Entry of `FORMATS`.
        path: Where to write.
        images: Real inputs (3, H, W) uint8, sides multiples of the stride; 16 or more if possible.

    Returns:
        The proof; also written beside the file as `FILE.proof.json`.

    Raises:
        ExportError: The file computes other images, or cannot be read; an older one stays.
        DataError: No images.
    """
    entry = lookup(FORMATS, kind, "export format")
    if not images:
        raise DataError("the proof needs real images, there are none")
    note = path.with_name(f"{path.name}.proof.json")
    draft = path.with_name(f".{path.stem}.unproven{path.suffix}")
    try:
        entry.write(draft, network)
        difference = _largest_difference(network.module, entry.read(draft, network), images)
        if not difference <= entry.tolerance:
            raise ExportError(
                f"{path} would differ from the generator by {difference:.3g} (accepted: "
                f"{entry.tolerance:.3g}); it was not written"
            )
        note.unlink(missing_ok=True)  # that of an older file proves nothing for this one
        draft.replace(path)
    except CheckpointError as error:
        raise ExportError(f"{error}\n  {path} was not written.") from None
    finally:
        draft.unlink(missing_ok=True)
    proof = Proof(path.name, len(images), difference, entry.tolerance)
    write_atomic(note, json.dumps(asdict(proof)).encode())
    return proof


@torch.inference_mode()
def _largest_difference(one: Generator, other: Generator, images: list[Tensor]) -> float:
    """Over all images, over some in batches of two, and over some twice as wide."""
    pairs = [torch.stack([a, b]) for a, b in pairwise(images[:3]) if a.shape == b.shape]
    wide = [torch.cat([image, image], 2)[None] for image in images[:2]]
    largest = 0.0
    for batch in (*(image[None] for image in images), *pairs, *wide):
        x = to_float(batch)
        difference = (one(x) - other(x)).abs().max()
        largest = float(torch.maximum(difference, torch.tensor(largest)))  # keeps NaN
    return largest
