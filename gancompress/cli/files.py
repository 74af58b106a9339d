"""`gancompress export` and `translate`."""

from __future__ import annotations

from dataclasses import asdict

from gancompress.checkpoint.models import describe
from gancompress.cli.context import Context, model_of
from gancompress.errors import ConfigError
from gancompress.export import ExportOptions, Proof
from gancompress.export.formats import require_format
from gancompress.inference import TranslateOptions, translate_path
from gancompress.inference.loading import load
from gancompress.pipeline.export import export_generator, export_path


def run_export(context: Context) -> None:
    """Write one generator to a file, and prove that it computes the same images."""
    args = context.args
    refuse_options(context)
    options, model = ExportOptions(args.uint8, args.weights, args.rewrite), model_of(args)
    if args.dry_run:
        require_format(args.to, options)
        network = model.network()
        path = args.output or export_path(args.model, network, args.to, options)
        context.say(f"would write {path}: {describe(network)}")
        context.result({"path": str(path), **describe(network)})
        return
    done = export_generator(model, args.to, args.output, args.images, options)
    size, proof = done.size_bytes / 1e6, done.proof
    subnet = f", subnet {proof.subnet}" if proof.subnet else ""
    context.say(f"{done.path} ({size:.2f} MB{subnet}), run by {proof.runtime}:")
    context.say(_proof_lines(proof))
    context.result({"path": str(done.path), "size_mb": size, **asdict(proof)})


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
        raise ConfigError(
            f"--set and --seed have no effect on this command: {context.overrides()[0]}"
        )


def run_translate(context: Context) -> None:
    """Translate an image, a folder or a video."""
    args = context.args
    refuse_options(context)
    loaded = load(model_of(args), context.device)
    options = TranslateOptions(
        batch_size=args.batch_size,
        stride=loaded.stride,
        size=args.size or loaded.side,
        suffix=f".{args.format.removeprefix('.')}" if args.format else "",
        device=str(loaded.device),
        input=loaded.input,
        output=loaded.output,
    )
    facts = {"model": loaded.name, "subnet": loaded.subnet}
    what = f"{loaded.name}, subnet {loaded.subnet}" if loaded.subnet else loaded.name
    if args.dry_run:
        context.say(f"would translate {args.input} to {args.output} with {what}: {options}")
        kinds = {"input": str(options.input), "output": str(options.output)}
        context.result({**facts, **asdict(options), **kinds})
        return
    result = translate_path(loaded.run, args.input, args.output, options)
    done = f"{result.num_frames} frames" if result.num_frames else f"{result.num_images} images"
    context.say(f"{args.output}: {done} in {result.seconds:.1f} s, by {what}")
    context.result({"output": str(args.output), **facts, **asdict(result)})
