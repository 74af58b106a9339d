"""`gancompress latency`: measures once what operations take on this machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gancompress.cli.context import Context, model_of, warn
from gancompress.cost.eager import EagerBench
from gancompress.cost.steps import plan_of
from gancompress.cost.survey import Bench, SurveyOptions, choose_subnets, survey
from gancompress.cost.table import Device, check_device_name
from gancompress.elastic import Supernet
from gancompress.errors import ConfigError
from gancompress.export.bench import OnnxBench
from gancompress.paths import inside
from gancompress.tables import lookup

LEAST_ROUNDS = 3
NOISY = 0.2  # interquartile range over median


@dataclass(frozen=True)
class Target:
    """What is measured, and how.

    Attributes:
        net: The supernet, on the device.
        stride: What sides of images must be multiples of.
        size: (height, width) of the image.
        threads: Of the runtime.
    """

    net: Supernet
    stride: int
    size: tuple[int, int]
    threads: int


def _onnxruntime(target: Target) -> Bench:
    return OnnxBench(target.net, target.stride, target.size, target.threads)


def _eager(target: Target) -> Bench:
    return EagerBench(target.net, target.size, target.threads)


BENCHES: dict[str, Callable[[Target], Bench]] = {"onnxruntime": _onnxruntime, "eager": _eager}


def run_latency(context: Context) -> None:
    """Write the latency table of this machine, and say how far it can be trusted."""
    args = context.args
    _check_flags(args)
    make_bench = lookup(BENCHES, args.runtime, "runtime")
    target = _target(context)
    path = args.output or inside(args.model, f"devices/{args.device_name}.json")
    options = SurveyOptions(rounds=args.rounds, seed=args.seed or 0)
    choice = choose_subnets(target.net, plan_of(target.net, target.size), options)
    plural = "s" if target.threads > 1 else ""
    context.say(
        f"{args.model}: {len(choice.design)} subnets to make the table of, {len(choice.held_out)} "
        f"others to check it with, {target.size[0]}x{target.size[1]}, {args.runtime}, "
        f"{target.threads} thread{plural}, {options.rounds} rounds"
    )
    if args.dry_run:
        context.say(f"would measure them and write {path}")
        context.result({"path": str(path), "num_subnets": len(choice.design)})
        return
    bench = make_bench(target)
    place = str(context.device) if args.runtime == "eager" else "cpu"
    draft = Device(
        name=args.device_name,
        runtime=bench.runtime,
        runtime_version=bench.version,
        threads=bench.threads,
        machine={**machine_facts(), "device": place},
        size=target.size,
        entries=(),
    )
    device = survey(target.net, bench, draft, options)
    device.save(path)
    context.say(f"{path}: {_summary(device)}")
    if device.doubt is not None:
        warn(f"warning: {device.doubt}")
    context.result(_as_json(path, device))


def _check_flags(args: Any) -> None:
    if args.set:
        raise ConfigError(f"--set has no effect on this command: {args.set[0]}")
    check_device_name(args.device_name)
    for flag, least in (("size", 1), ("threads", 1), ("rounds", LEAST_ROUNDS)):
        value = getattr(args, flag)
        if value is not None and value < least:
            raise ConfigError(f"--{flag} must be at least {least}, not {value}")
    if args.runtime == "onnxruntime" and args.device not in ("auto", "cpu"):
        raise ConfigError(
            f"onnxruntime is measured on the CPU; --device {args.device} needs --runtime eager"
        )


def _target(context: Context) -> Target:
    args = context.args
    net, network, _ = model_of(args).supernet()
    side = args.size or int(network.header.get("image_size", 256))
    if side % network.stride:
        raise ConfigError(
            f"{args.model} takes images whose sides are multiples of {network.stride}, not {side}"
        )
    if args.runtime == "eager":
        net = net.to(context.device)
    return Target(net, network.stride, (side, side), args.threads or torch.get_num_threads())


def machine_facts() -> dict[str, str]:
    """What is known of this machine; nothing that tells whose it is."""
    facts = {"system": platform.system(), "architecture": platform.machine()}
    facts["cpus"] = str(os.cpu_count())
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    model = next((line for line in lines if line.startswith("model name")), "")
    facts["cpu"] = model.partition(":")[2].strip() or platform.processor()
    return facts


def _summary(device: Device) -> str:
    measured = [check.measured_ms for check in device.checks]
    errors = [check.error for check in device.checks]
    noise = device.details["noise"]
    note = " (a noisy machine)" if noise > NOISY else ""
    seconds, number = device.details["seconds"], len(device.entries)
    text = f"{number} operations in {seconds:.0f} s, spread of a time {noise:.0%}{note}"
    if not errors:
        return f"{text}; no subnets are left to check it with"
    return (
        f"{text}\n  {len(errors)} held-out subnets of {min(measured):.3g} to {max(measured):.3g} "
        f"ms: median error {device.median_error:.1%}, nine of ten within "
        f"{np.quantile(errors, 0.9):.1%}, largest {max(errors):.1%}"
    )


def _as_json(path: Path, device: Device) -> dict[str, Any]:
    errors = [check.error for check in device.checks]
    return {
        "path": str(path),
        "name": device.name,
        "runtime": device.runtime,
        "runtime_version": device.runtime_version,
        "threads": device.threads,
        "size": list(device.size),
        "num_operations": len(device.entries),
        "num_held_out": len(errors),
        "median_error": device.median_error if errors else None,
        "largest_error": max(errors, default=None),
        "is_trusted": device.is_trusted,
        **device.details,
    }
