"""Bundles: the models of a run as ONNX files, with example inputs and a manifest."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from gancompress import __version__
from gancompress.checkpoint.network import Network
from gancompress.data import ImageSet, Splits, list_images, load_split, spread
from gancompress.demo.examples import choose, drawing_pad, file_name, native, plain, png
from gancompress.demo.folder import publish, written_before
from gancompress.demo.manifest import (
    NAME,
    Example,
    Kind,
    Made,
    Manifest,
    Model,
    Taken,
    read_bundle,
    read_manifest,
    sha256,
)
from gancompress.demo.sources import Offer, Source
from gancompress.elastic import NetworkCosts
from gancompress.errors import CheckpointError, ConfigError
from gancompress.export import ExportOptions, export_network
from gancompress.paths import inside

NUM_PROOF_IMAGES = 16
TAKEN: dict[str, Taken] = {"rgb": "rgb", "grey": "grey"}
MADE: dict[str, Made] = {"rgb": "rgb", "grey": "grey", "rgba": "rgba"}
"""Kinds of images that the page gives a model, and shows."""
LARGE = 128  # pixels; on smaller images rewrites for browsers gain nothing (docs/results.md)


@dataclass(frozen=True)
class BundleOptions:
    """What a user may choose.

    Attributes:
        kind: What the page offers; by the look of the inputs if None.
        images: Folder of inputs, instead of the data that the run was trained on.
        examples: Names of the inputs to show; some that differ if empty.
        weights: How files store weights, one of `gancompress.export.graphs.WEIGHTS`.
    """

    kind: Kind | None = None
    images: Path | None = None
    examples: tuple[str, ...] = ()
    weights: str = "float32"


def kept_bundle(source: Source, options: BundleOptions, say: Callable[[str], None]) -> Path:
    """The bundle in a run's folder; made where it is missing or not that of the run as it is now.

    Args:
        source: A run folder.
        options: What to make.
        say: Told what is done.

    Raises:
        ConfigError: No input images are known, or the folder `demo` holds something else.
        CheckpointError: The weights cannot be used.
        ExportError: A file would compute other images.
    """
    folder = inside(source.path, "demo")
    try:
        if read_manifest(folder).source == fingerprint(source, options):
            read_bundle(folder)
            return folder
    except (CheckpointError, ConfigError):
        pass
    make_bundle(source, options, folder, say)
    return folder


def fingerprint(source: Source, options: BundleOptions) -> str:
    """Hash of what a bundle is made from."""
    files = [sha256(path.read_bytes()) for path in source.files]
    if options.images is not None:
        images = list_images(options.images)
        files += [f"{path.name}: {sha256(path.read_bytes())}" for path in images]
    names = [offer.name for offer in source.offers]
    asked = [asdict(options), asdict(_form(options, source.size))]
    return sha256(json.dumps([__version__, files, names, asked], default=str).encode())


def _form(options: BundleOptions, size: int) -> ExportOptions:
    """Of the models; nothing is measured, so that the same run gives the same bundle."""
    rewrite = "browser" if size >= LARGE else "never"
    return ExportOptions(weights=options.weights, rewrite=rewrite)


def make_bundle(
    source: Source, options: BundleOptions, folder: Path, say: Callable[[str], None]
) -> Manifest:
    """Export the models of a source and write them with examples into a folder.

    Raises:
        As `kept_bundle`.
    """
    written_before(folder)  # refuses somebody else's before the long work
    taken, made = map(str, source.kinds)
    if taken not in TAKEN or made not in MADE:
        raise ConfigError(
            f"the page makes {', '.join(MADE)} images of {' and '.join(TAKEN)} ones, and "
            f"{source.path} {made} images of {taken} ones"
        )
    contents: dict[str, bytes] = {}
    inputs, shown = input_images(source, options)
    full, kind, pad = native(shown), options.kind, None
    if kind != "photo":
        pad = drawing_pad(full)
        if kind == "sketch" and pad is None:
            raise ConfigError(
                f"--input sketch: the inputs of {source.path} have too many colours to be drawn\n"
                "  Take --input photo."
            )
    examples = []
    for number, index in enumerate(choose(shown, options.examples)):
        name = shown.files[index].stem
        content, file = png(full[index], full.kind), file_name(name, number)
        contents[file] = content
        examples.append(Example(file=file, sha256=sha256(content), name=name))
    models, stride = [], 1
    proofs: dict[int, list[Tensor]] = {}
    for offer in source.offers:
        say(f"exporting {offer.name}")
        network = offer.load()
        stride = math.lcm(stride, network.stride)
        if stride > inputs.size:
            raise ConfigError(
                f"the models of {source.path} take images whose sides are multiples of {stride}, "
                f"and its images have {inputs.size} pixels"
            )
        if network.stride not in proofs:
            proofs[network.stride] = _proof_images(inputs, network.stride)
        model, content = _export(offer, network, inputs.size, options, proofs[network.stride])
        models.append(model)
        contents[model.file] = content
    manifest = Manifest(
        title=source.data[0].root.name if source.data else source.path.stem,
        input="sketch" if pad else "photo",
        taken=TAKEN[taken],
        made=MADE[made],
        size=inputs.size - inputs.size % stride,
        stride=stride,
        pad=pad,
        models=tuple(sorted(models, key=lambda model: model.macs)),
        examples=tuple(examples),
        source=fingerprint(source, options),
    )
    contents[NAME] = manifest.model_dump_json(indent=1).encode()
    publish(folder, contents)
    return manifest


def input_images(source: Source, options: BundleOptions) -> tuple[ImageSet, ImageSet]:
    """Inputs that prove an export, and unseen ones that are shown, both at the trained size.

    Raises:
        ConfigError: Nothing says where images are.
        DataError: They cannot be read.
    """
    if options.images is not None:
        images = ImageSet(list_images(options.images), source.size, kind=source.kinds[0])
        return images, images
    if source.data is None or source.splits is None:
        raise ConfigError(
            f"{source.path} does not say what it was trained on; give --images FOLDER with inputs"
        )
    data, size = source.data
    split = _unseen(source.splits, data.direction)
    return (
        load_split(data, "train", size, source.splits).inputs,
        load_split(data, split, size, source.splits).inputs,
    )


def _unseen(splits: Splits, direction: str) -> str:
    """The split that examples are taken from."""
    return next((s for s in ("test", "search") if splits.inputs(s, direction)), "train")


def _proof_images(inputs: ImageSet, stride: int) -> list[Tensor]:
    side = inputs.size - inputs.size % stride
    return [inputs[index][:, :side, :side] for index in spread(len(inputs), NUM_PROOF_IMAGES)]


def _export(
    offer: Offer, network: Network, size: int, options: BundleOptions, images: list[Tensor]
) -> tuple[Model, bytes]:
    """One model, and the content of its file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        proof = export_network(network, "onnx", path, images, _form(options, size))
        content = path.read_bytes()
    costs = NetworkCosts(network.module, network.example_shape)
    model = Model(
        file=f"models/{plain(offer.name) or 'model'}.onnx",
        sha256=sha256(content),
        bytes=len(content),
        name=offer.name,
        role=offer.role,
        params=costs.params,
        macs=costs.macs(size),
        score=offer.score,
        max_difference=proof.max_difference,
        psnr_db=proof.psnr_db,
        num_images=proof.num_images,
    )
    return model, content
