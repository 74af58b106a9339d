"""`gancompress profile`: what a generator costs, counted in closed form and measured here."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch

from gancompress.checkpoint.network import Network, build_network
from gancompress.checkpoint.resolve import Model
from gancompress.cli.context import Context, model_of
from gancompress.cli.files import refuse_options
from gancompress.cli.subjects import Size, Subject, network_subject, open_subject
from gancompress.cost import Comparison, Latency, Timings, format_count, time_calls
from gancompress.cost.latency import MIN_ROUNDS
from gancompress.data import RGB
from gancompress.errors import ConfigError
from gancompress.models.published import build_config
from gancompress.runtimes.threads import pinned_threads

DEFAULT_SIZE = 256
CONFIG_STRIDE = 4
NOISY = 0.2  # spread over median
BUSY = 0.8  # processors; alone, a process that computes has at least one all the time
OWNERS = {"subnet": "MODEL", "module": "MODEL", "legacy": "--config-str", "norm": "--generator"}
"""Flags that belong to one way of naming the generator."""


@dataclass
class Profile:
    """One generator's costs for one image; the fields of `--json`.

    Attributes:
        model: As the user named it.
        network: What it is.
        size: (height, width) of the image in pixels.
        params: Parameters.
        macs: Multiply-accumulates.
        macs_paper: With transposed convolutions counted at their output size.
        peak_memory_mb: Most fp32 activations that live at one time; None for exported files.
        size_mb: Of the weights' file, in 10^6 bytes.
        size_of: Which file that is.
        threads: Of the runtime.
        runtime: Its name, version and device.
        latency_ms: Median; None where it was not measured.
        latency_spread_ms: Interquartile range.
        macs_per_second: Reached at the median.
        cpu_share: Seconds of processors per second while it was timed, this process's alone; below
            1 other programs had them, and latencies are theirs as much as the model's.
    """

    model: str
    network: str
    size: Size
    params: int
    macs: int
    macs_paper: int
    peak_memory_mb: float | None
    size_mb: float
    size_of: str
    threads: int
    runtime: str
    latency_ms: float | None = None
    latency_spread_ms: float | None = None
    macs_per_second: float | None = None
    cpu_share: float | None = None


def run_profile(context: Context) -> None:
    """Print what a generator costs, and whether it is faster than another one."""
    args = context.args
    refuse_options(context)
    _check_flags(args)
    threads = args.threads or torch.get_num_threads()
    subjects = [_subject(args, threads)]
    if args.against is not None:
        against = Model(args.against, None, None, args.module, args.allow_code)
        subjects.append(open_subject(against, threads))
    size = _image_size(args.size, subjects)
    profiles = [_counted(subject, size, context.device, threads) for subject in subjects]
    comparison = None
    if not args.no_latency and not args.dry_run:
        timings, share = _time(subjects, size, context.device, threads, args.rounds)
        for number, profile in enumerate(profiles):
            _enter(profile, timings.latency(str(number)), share)
        comparison = timings.compare("0", "1") if len(subjects) == 2 else None
    context.say(_table(profiles))
    if profiles[0].cpu_share is not None and profiles[0].cpu_share < BUSY:
        context.say(
            f"the machine is busy: this process had {profiles[0].cpu_share:.2g} processors, so "
            f"latencies are longer than the models alone take{'; try --threads 1' * (threads > 1)}"
        )
    if args.dry_run and not args.no_latency:
        context.say(f"would measure the latency in {args.rounds} rounds")
    if comparison is not None:
        context.say(f"{subjects[0].name} against {subjects[1].name}: {comparison}")
    context.result(_as_json(profiles, comparison))


def _check_flags(args: Any) -> None:
    """One way to name the generator, and only flags that belong to it.

    Raises:
        ConfigError: None or several ways, a flag of another way, or numbers out of range.
    """
    ways = {"MODEL": args.model, "--generator": args.generator, "--config-str": args.config_str}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) != 1:
        what = f"not {' and '.join(given)} together" if given else "and none of them is given"
        raise ConfigError(f"profile takes one of {', '.join(ways)}, {what}")
    for flag, owner in OWNERS.items():
        is_of_other = flag == "module" and args.against is not None
        if getattr(args, flag) not in (None, False, []) and owner != given[0] and not is_of_other:
            raise ConfigError(f"--{flag} belongs to {owner}; it has no effect with {given[0]}")
    if args.ngf is not None and given == ["MODEL"]:
        raise ConfigError("--ngf belongs to --generator and --config-str; MODEL has its own widths")
    least = {"ngf": 1, "threads": 1, "rounds": MIN_ROUNDS if args.against else 1}
    for flag, low in least.items():
        value = getattr(args, flag)
        if value is not None and value < low:
            why = " to tell two models apart" if low > 1 else ""
            raise ConfigError(f"--{flag} must be at least {low}{why}, not {value}")


def _subject(args: Any, threads: int) -> Subject:
    if args.model is not None:
        return open_subject(model_of(args), threads)
    if args.generator is not None:
        options = {
            **{"name": args.generator, "ngf": args.ngf or 64, "norm": args.norm or "instance"},
            **{"input_nc": RGB.channels, "output_nc": RGB.channels},
        }
        network = build_network({"generator": options}, "--generator")
        return network_subject(f"--generator {args.generator}", network)
    module = build_config(args.config_str, args.ngf, args.legacy).eval()
    network = Network(module, {"config": args.config_str}, CONFIG_STRIDE, "--config-str")
    return network_subject(f"--config-str {args.config_str}", network)


def _image_size(text: str | None, subjects: list[Subject]) -> Size:
    """(height, width) of `--size H` or `--size HxW`; by default the model's own.

    Raises:
        ConfigError: No such numbers, or no multiples of a model's stride.
    """
    if text is None:
        size = subjects[0].image_size or (DEFAULT_SIZE, DEFAULT_SIZE)
    else:
        parts = text.lower().split("x")
        if len(parts) > 2 or not all(part.isdecimal() and int(part) for part in parts):
            raise ConfigError(f"--size takes 256 or 256x512 (height x width), not '{text}'")
        size = (int(parts[0]), int(parts[-1]))
    for subject in subjects:
        if any(side % subject.stride for side in size):
            raise ConfigError(
                f"{subject.name} takes images whose sides are multiples of {subject.stride}, "
                f"not {size[0]}x{size[1]}; give another --size"
            )
    return size


def _counted(subject: Subject, size: Size, device: torch.device, threads: int) -> Profile:
    params, macs, macs_paper = subject.counts(size)
    memory = subject.peak_bytes(size)
    return Profile(
        model=subject.name,
        network=subject.network,
        size=size,
        params=params,
        macs=macs,
        macs_paper=macs_paper,
        peak_memory_mb=None if memory is None else memory / 1e6,
        size_mb=subject.size_bytes / 1e6,
        size_of=subject.size_of,
        threads=threads,
        runtime=f"{subject.runtime}, {'cpu' if subject.is_file else device}",
    )


def _time(
    subjects: list[Subject], size: Size, device: torch.device, threads: int, rounds: int
) -> tuple[Timings, float]:
    """Times in turn, and how many processors this process had meanwhile."""
    with pinned_threads(threads):
        calls = {str(n): subject.call(size, device) for n, subject in enumerate(subjects)}
        wall, own = time.perf_counter(), time.process_time()
        timings = time_calls(calls, rounds)
        share = (time.process_time() - own) / (time.perf_counter() - wall)
    return timings, share


def _enter(profile: Profile, latency: Latency, share: float) -> None:
    profile.cpu_share = share
    profile.latency_ms, profile.latency_spread_ms = latency.median_ms, latency.spread_ms
    profile.macs_per_second = 1e3 * profile.macs / latency.median_ms


# -- what is printed -------------------------------------------------------------------------


def _table(profiles: list[Profile]) -> str:
    """One line for each cost, one column for each model."""
    columns = [_column(profile) for profile in profiles]
    widths = [max(len(text) for text in column.values()) for column in columns]
    label_width = max(map(len, columns[0]))
    lines = []
    for label in columns[0]:
        cells = [column[label].ljust(width) for column, width in zip(columns, widths, strict=True)]
        lines.append("  ".join([label.ljust(label_width), *cells]).rstrip())
    return "\n".join(lines)


def _column(profile: Profile) -> dict[str, str]:
    memory, speed = profile.peak_memory_mb, profile.macs_per_second
    return {
        "model": profile.model,
        "network": profile.network,
        "image": f"{profile.size[0]}x{profile.size[1]}",
        "params": f"{profile.params:,}",
        "MACs": format_count(profile.macs),
        "MACs (papers)": format_count(profile.macs_paper),
        "peak activations": "-" if memory is None else f"{memory:.4g} MB (fp32)",
        "size": f"{profile.size_mb:.4g} MB ({profile.size_of})",
        "latency": _latency(profile),
        "speed": "-" if speed is None else f"{format_count(speed)} MACs/s",
        "runtime": f"{profile.runtime}, {_plural(profile.threads, 'thread')}",
    }


def _latency(profile: Profile) -> str:
    median, spread = profile.latency_ms, profile.latency_spread_ms
    if median is None or spread is None:
        return "-"
    note = ": a noisy machine" if spread > NOISY * median else ""
    return f"{median:.4g} ms (interquartile range {spread:.2g}{note})"


def _plural(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _as_json(profiles: list[Profile], comparison: Comparison | None) -> dict[str, Any]:
    content = asdict(profiles[0])
    if len(profiles) == 2:
        content["against"] = asdict(profiles[1])
    if comparison is not None:
        content |= {
            "speed_up": comparison.speed_up,
            "speed_up_interval": [comparison.low, comparison.high],
            "is_ranked": comparison.is_ranked,
        }
    return content
