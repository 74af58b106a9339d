"""`gancompress export` and `translate`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from gancompress.checkpoint.models import describe, load_model, run_data, run_splits
from gancompress.checkpoint.network import Network
from gancompress.cli.context import Context, existing
from gancompress.config import DataOptions
from gancompress.data import Splits, list_images, load_split, read_image, spread, to_tensor
from gancompress.errors import ConfigError
from gancompress.export import FORMATS, export_network
from gancompress.inference import TranslateOptions, load_generator, translate_path
from gancompress.tables import lookup

NUM_PROOF_IMAGES = 16


def run_export(context: Context) -> None:
    """Write one generator to a file, and prove that it computes the same images."""
    args = context.args
    refuse_options(context)
    kind = lookup(FORMATS, args.to, "export format")
    network = load_model(existing(args.model, "model"), args.subnet, args.module)
    name = network.header.get("subnet", "generator")
    folder = args.model if args.model.is_dir() else args.model.parent
    default = "latest_net_G" if args.to == "pth" else f"{name}"
    path = args.output or folder / "export" / f"{default}{kind.suffix}"
    if context.args.dry_run:
        context.say(f"would write {path}: {describe(network)}")
        context.result({"path": str(path), **describe(network)})
        return
    proof = export_network(network, args.to, path, proof_images(args.model, network, args.images))
    context.say(
        f"{path} ({path.stat().st_size / 1e6:.2f} MB): largest difference to the generator in "
        f"memory {proof.max_difference:.3g} on {proof.num_images} real images"
    )
    context.result({"path": str(path), **asdict(proof)})


def refuse_options(context: Context) -> None:
    """These commands have no options file.

    Raises:
        ConfigError: `--set` or `--seed` is given.
    """
    if context.overrides():
        raise ConfigError(f"--set and --seed say nothing here: {context.overrides()[0]}")


def proof_images(model: Path, network: Network, folder: Path | None) -> list[Tensor]:
    """Real inputs for a proof, cropped to the generator's stride; (3, H, W) uint8.

    Raises:
        ConfigError: No images are known for this model.
    """
    if folder is not None:
        files = list_images(folder)[:NUM_PROOF_IMAGES]
        return [_crop(to_tensor(read_image(path)), network.stride) for path in files]
    data = run_data(model)
    if data is None:
        raise ConfigError(f"{model} does not say what it was trained on; give --images FOLDER")
    options, size = data
    return data_images(options, size, run_splits(model, options))


def data_images(data: DataOptions, size: int, splits: Splits) -> list[Tensor]:
    """Up to 16 inputs, of the search split and then of the training split."""
    images: list[Tensor] = []
    for split in ("search", "train"):
        inputs = load_split(data, split, size, splits).inputs
        images += [inputs[i] for i in spread(len(inputs), NUM_PROOF_IMAGES - len(images))]
    return images


def _crop(image: Tensor, stride: int) -> Tensor:
    height, width = (side - side % stride for side in image.shape[1:])
    if not height or not width:
        raise ConfigError(f"an image of --images is smaller than the generator's stride {stride}")
    return image[:, :height, :width]


def run_translate(context: Context) -> None:
    """Translate an image, a folder or a video."""
    args = context.args
    refuse_options(context)
    loaded = load_generator(args.model, args.subnet, args.module, context.device)
    options = TranslateOptions(
        batch_size=args.batch_size,
        stride=loaded.stride,
        size=args.size or loaded.side,
        suffix=args.format if args.format.startswith(".") else f".{args.format}",
        device=str(loaded.device),
    )
    if args.dry_run:
        context.say(f"would translate {args.input} to {args.output} with {loaded.name}: {options}")
        context.result({"model": loaded.name, **asdict(options)})
        return
    result = translate_path(loaded.run, args.input, args.output, options)
    done = f"{result.num_frames} frames" if result.num_frames else f"{result.num_images} images"
    context.say(f"{args.output}: {done} in {result.seconds:.1f} s")
    context.result({"output": str(args.output), **asdict(result)})
