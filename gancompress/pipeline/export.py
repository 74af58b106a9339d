"""One generator to a file with its proof: which network, which images, where it is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from gancompress.checkpoint.models import run_data, run_splits
from gancompress.checkpoint.network import Network
from gancompress.checkpoint.resolve import Model
from gancompress.config import DataOptions
from gancompress.data import Splits, list_images, load_split, spread
from gancompress.errors import ConfigError
from gancompress.export import FORMATS, ExportOptions, Proof, export_network
from gancompress.export.formats import require_format
from gancompress.paths import file_name, inside

NUM_PROOF_IMAGES = 16


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Attributes:
        path: Where it is.
        size_bytes: Of all its parts.
        proof: That it computes the same images.
    """

    path: Path
    size_bytes: int
    proof: Proof


def export_generator(
    model: Model | Path | str,
    to: str = "onnx",
    output: Path | None = None,
    images: Path | None = None,
    options: ExportOptions | None = None,
) -> Exported:
    """Write one generator to a file, and prove that it computes the same images.

    Args:
        model: A run folder or checkpoint; a `Model` names a subnet or factories besides.
        to: Entry of `FORMATS`.
        output: The file; by default in `export/` beside the model.
        images: Folder of real inputs for the proof; by default those that the run names.
        options: How to write it.

    Raises:
        ConfigError: There is no such model or format, or no images are known for it.
        CheckpointError: The weights cannot be used.
        ExportError: The file computes other images; an older one stays.
    """
    model = model if isinstance(model, Model) else Model(Path(model))
    options = options or ExportOptions()
    kind = require_format(to, options)
    network = model.network()
    path = output or export_path(model.path, network, to, options)
    number = NUM_PROOF_IMAGES * (2 if kind.is_calibrated else 1)  # half of them calibrate
    shown = proof_images(model.path, network, images, number)
    proof = export_network(network, to, path, shown, options)
    return Exported(path, sum(file.stat().st_size for file in kind.files(path)), proof)


def export_path(model: Path, network: Network, to: str, options: ExportOptions) -> Path:
    """Where a generator is written unless the user says so."""
    stem = "latest_net_G"
    if to != "pth":
        stem = file_name(network.header.get("subnet", "generator"), network.source)
    form = ".uint8" * options.uint8 + f".{options.weights}" * (options.weights != "float32")
    folder = model if model.is_dir() else model.parent
    return inside(folder, f"export/{stem}{form}{FORMATS[to].suffix}")


def proof_images(
    model: Path, network: Network, folder: Path | None, number: int = NUM_PROOF_IMAGES
) -> list[Tensor]:
    """Real inputs for a proof, cropped to the generator's stride; (C, H, W) uint8.

    Raises:
        ConfigError: No images are known for this model.
    """
    if folder is not None:
        files = list_images(folder)[:number]
        kind = network.input
        return [_crop(kind.to_tensor(kind.read(path)), network.stride) for path in files]
    data = run_data(model)
    if data is None:
        raise ConfigError(f"{model} does not say what it was trained on; give --images FOLDER")
    options, size = data
    return data_images(options, size, run_splits(model, options), number)


def data_images(
    data: DataOptions, size: int, splits: Splits, number: int = NUM_PROOF_IMAGES
) -> list[Tensor]:
    """Up to so many inputs, of the search split and then of the training split."""
    images: list[Tensor] = []
    for split in ("search", "train"):
        inputs = load_split(data, split, size, splits).inputs
        images += [inputs[i] for i in spread(len(inputs), number - len(images))]
    return images


def _crop(image: Tensor, stride: int) -> Tensor:
    height, width = (side - side % stride for side in image.shape[1:])
    if not height or not width:
        raise ConfigError(f"an image of --images is smaller than the generator's stride {stride}")
    return image[:, :height, :width]
