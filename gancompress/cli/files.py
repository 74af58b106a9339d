"""`gancompress export` and `translate`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from gancompress.checkpoint.models import describe, run_data, run_splits
from gancompress.checkpoint.network import Network
from gancompress.cli.context import Context, model_of
from gancompress.config import DataOptions
from gancompress.data import Splits, list_images, load_split, read_image, spread, to_tensor
from gancompress.errors import ConfigError
from gancompress.export import FORMATS, ExportOptions, Proof, export_network
from gancompress.export.formats import require_format
from gancompress.inference import TranslateOptions, translate_path
from gancompress.inference.loading import load
from gancompress.paths import file_name, inside

NUM_PROOF_IMAGES = 16


def run_export(context: Context) -> None:
    """Write one generator to a file, and prove that it computes the same images."""
    args = context.args
    refuse_options(context)
    options = ExportOptions(args.uint8, args.weights, args.rewrite)
    kind = require_format(args.to, options)
    network = model_of(args).network()
    folder = args.model if args.model.is_dir() else args.model.parent
    path = args.output or inside(folder, f"export/{_file_name(network, args.to, options)}")
    if context.args.dry_run:
        context.say(f"would write {path}: {describe(network)}")
        context.result({"path": str(path), **describe(network)})
        return
    number = NUM_PROOF_IMAGES * (2 if kind.is_calibrated else 1)  # half of them calibrate
    images = proof_images(args.model, network, args.images, number)
    proof = export_network(network, args.to, path, images, options)
    size = sum(file.stat().st_size for file in kind.files(path))
    subnet = f", subnet {proof.subnet}" if proof.subnet else ""
    context.say(
        f"{path} ({size / 1e6:.2f} MB{subnet}), run by {proof.runtime}:\n{_proof_lines(proof)}"
    )
    context.result({"path": str(path), "size_mb": size / 1e6, **asdict(proof)})


def _file_name(network: Network, kind: str, options: ExportOptions) -> str:
    stem = "latest_net_G"
    if kind != "pth":
        stem = file_name(network.header.get("subnet", "generator"), network.source)
    forms = (".uint8" * options.uint8, f".{options.weights}" * (options.weights != "float32"))
    return f"{stem}{''.join(forms)}{FORMATS[kind].suffix}"


def _proof_lines(proof: Proof) -> str:
    """What was compared, one line for each kind of image, rewrite and warning."""
    lines = []
    for check in proof.checks:
        psnr = "equal" if check.psnr_db is None else f"PSNR {check.psnr_db:.1f} dB"
        note = f"; {check.note}" if check.note else ""
        number = proof.num_images if check.kind == "real" else check.num_images
        lines.append(
            f"  differs from the generator in memory by at most {check.max_difference:.3g} on "
            f"{_plural(number, f'{check.kind} image')}, {psnr}{note}"
        )
    for trial in proof.rewrites:
        times = "not measured"
        if trial.speed_up is not None and trial.interval is not None:
            low, high = trial.interval
            times = f"{trial.speed_up:.3g} times as fast (99% interval {low:.3g} to {high:.3g})"
        lines.append(f"  {trial.name}: {times}, {'kept' if trial.is_kept else 'not kept'}")
    if proof.warning:
        lines.append(f"  warning: {proof.warning}")
    return "\n".join(lines)


def _plural(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def refuse_options(context: Context) -> None:
    """These commands have no options file.

    Raises:
        ConfigError: `--set` or `--seed` is given.
    """
    if context.overrides():
        raise ConfigError(f"--set and --seed say nothing here: {context.overrides()[0]}")


def proof_images(
    model: Path, network: Network, folder: Path | None, number: int = NUM_PROOF_IMAGES
) -> list[Tensor]:
    """Real inputs for a proof, cropped to the generator's stride; (3, H, W) uint8.

    Raises:
        ConfigError: No images are known for this model.
    """
    if folder is not None:
        files = list_images(folder)[:number]
        return [_crop(to_tensor(read_image(path)), network.stride) for path in files]
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


def run_translate(context: Context) -> None:
    """Translate an image, a folder or a video."""
    args = context.args
    refuse_options(context)
    loaded = load(model_of(args), context.device)
    options = TranslateOptions(
        batch_size=args.batch_size,
        stride=loaded.stride,
        size=args.size or loaded.side,
        suffix=args.format if args.format.startswith(".") else f".{args.format}",
        device=str(loaded.device),
    )
    facts = {"model": loaded.name, "subnet": loaded.subnet}
    what = f"{loaded.name}, subnet {loaded.subnet}" if loaded.subnet else loaded.name
    if args.dry_run:
        context.say(f"would translate {args.input} to {args.output} with {what}: {options}")
        context.result({**facts, **asdict(options)})
        return
    result = translate_path(loaded.run, args.input, args.output, options)
    done = f"{result.num_frames} frames" if result.num_frames else f"{result.num_images} images"
    context.say(f"{args.output}: {done} in {result.seconds:.1f} s, by {what}")
    context.result({"output": str(args.output), **facts, **asdict(result)})
