"""Subnets and feature networks in a runtime that is faster than eager PyTorch."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import torch

from gancompress.elastic import Subnet, Supernet
from gancompress.elastic.calibrate import norms_with_statistics
from gancompress.errors import ConfigError, ExportError
from gancompress.export.subnets import OnnxSubnets
from gancompress.metrics.perceptual import Lpips
from gancompress.search.quality import Quality
from gancompress.search.runtimes import Compiled, Runtime, frozen, load_runtime

WORTHWHILE = 1e9  # MACs of an evaluation; below, the export takes longer than what it saves
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CompiledSubnets:
    """Subnets of one supernet for images of one size.

    Attributes:
        models: Their ONNX models.
        runtime: What runs them.
        size: (height, width) of the images.
        exact: The runtime in float32, for networks of scores and for comparison.
    """

    models: OnnxSubnets
    runtime: Runtime
    size: tuple[int, int]
    exact: Runtime

    def __call__(self, subnet: Subnet) -> Compiled:
        """A subnet, from (N, C, H, W) in [-1, 1] to images.

        Raises:
            ExportError: The runtime cannot open it.
        """
        return self.runtime.open(self.models.fast_model(subnet, self.size))


def obstacle(net: Supernet, device: torch.device) -> str | None:
    """Why no other runtime than eager can evaluate a supernet's subnets, or None."""
    if device.type != "cpu":
        return f"it runs on the CPU, and this search on {device}"
    if norms_with_statistics(net.generator):
        return "the statistics of batch norms are calibrated for every subnet"
    return None


def choose_runtime(name: str, precision: str, hindrance: str | None) -> Runtime | None:
    """What subnets may run in, or None for eager PyTorch.

    Args:
        name: `auto`, `eager` or an entry of `RUNTIMES`.
        precision: `float32` or `bfloat16`.
        hindrance: See `obstacle`.

    Raises:
        ConfigError: This runtime cannot do it, or is not installed.
    """
    if name == "eager" and precision != "float32":
        raise ConfigError(f"precision={precision} needs --runtime openvino, not eager")
    if name == "eager" or (name == "auto" and precision == "float32" and hindrance):
        return None
    if hindrance:
        asked = f"--runtime {name}" if precision == "float32" else f"precision={precision}"
        raise ConfigError(f"{asked}: {hindrance}\n  {_advice(precision)}")
    return load_runtime("onnxruntime" if name == "auto" else name, precision)


def _advice(precision: str) -> str:
    """What does without any runtime, which eager PyTorch does in float32 alone."""
    return f"Take --runtime eager{'' if precision == 'float32' else ' with precision=float32'}."


@dataclass(frozen=True)
class Workload:
    """What a search evaluates again and again.

    Attributes:
        net: The supernet, in evaluation mode.
        stride: What H and W of images must be multiples of.
        size: (height, width) of the images.
        num_images: How many.
        device: Where eager PyTorch would run.
    """

    net: Supernet
    stride: int
    size: tuple[int, int]
    num_images: int
    device: torch.device

    @property
    def obstacle(self) -> str | None:
        """Why no other runtime than eager can do it, or None."""
        return obstacle(self.net, self.device)

    @property
    def is_small(self) -> bool:
        """Whether eager is done before another runtime has begun."""
        largest = self.net.space.largest()
        return self.num_images * self.net.macs(largest, self.size) < WORTHWHILE


def compile_subnets(work: Workload, name: str, precision: str) -> CompiledSubnets | None:
    """The subnets in a runtime, or None for eager PyTorch.

    `auto` is ONNX Runtime wherever that is known to give the same images: on the CPU, without
    norms whose statistics depend on the subnet, and if slices of the exported supernet agree with
    eager. It is the same on every machine, so that their trials go together.

    Args:
        work: What is evaluated.
        name: `auto`, `eager` or an entry of `RUNTIMES`.
        precision: `float32` or `bfloat16`.

    Raises:
        ConfigError: This runtime cannot do it, or is not installed.
        ExportError: The supernet cannot be exported.
    """
    runtime = choose_runtime(name, precision, work.obstacle)
    is_free = name == "auto" and precision == "float32"
    if runtime is None or (is_free and work.is_small):
        return None
    exact = runtime if precision == "float32" else load_runtime(name)
    reason = "slices of the exported supernet are not its subnets"
    try:
        models = OnnxSubnets(work.net, work.stride)
        if models.slices:
            return CompiledSubnets(models, runtime, work.size, exact)
    except Exception as error:  # the exporter raises types of its own
        reason = str(error).partition("\n")[0]
    if not is_free:
        raise ExportError(f"--runtime {name}: {reason}\n  {_advice(precision)}")
    logger.info("subnets run in eager: %s", reason)
    return None


def accelerated(quality: Quality, runtime: Runtime, size: tuple[int, int]) -> Quality:
    """The same score with its network in a runtime, where that computes the same.

    Args:
        quality: The score.
        runtime: The runtime.
        size: (height, width) of the images.
    """
    draw = torch.Generator().manual_seed(0)
    if quality.network is not None:
        network, side = quality.network, quality.network.size
        example = 255 * torch.rand(1, 3, side, side, generator=draw)
        compiled = frozen(runtime, network.module, example)
        return replace(quality, network=replace(network, compiled=compiled))
    if isinstance(quality.per_image, Lpips):
        one, other = 2 * torch.rand(2, 1, 3, *size, generator=draw) - 1
        quality.per_image.compiled = frozen(runtime, quality.per_image.module, one, other)
    return quality
