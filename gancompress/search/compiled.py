"""Subnets and feature networks in a runtime that is faster than eager PyTorch."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn

from gancompress.elastic import Subnet, Supernet
from gancompress.elastic.calibrate import norms_with_statistics
from gancompress.errors import ConfigError, ExportError
from gancompress.export.subnets import OnnxSubnets, is_sliceable
from gancompress.metrics.perceptual import Lpips
from gancompress.runtimes import Run, Runtime, load_runtime
from gancompress.search.quality import Quality

Compiled: TypeAlias = Callable[..., Tensor]
"""A `Run` of tensors."""

AGREES = {"float32": 1e-4, "bfloat16": 5e-2}
"""Largest difference of a frozen network's output from eager's, relative to its largest value."""

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
        return _of_tensors(self.runtime.open(self.models.fast_model(subnet, self.size)))


def obstacle(net: Supernet, device: torch.device) -> str | None:
    """Why no other runtime than eager can evaluate a supernet's subnets, or None."""
    if device.type != "cpu":
        return f"it runs on the CPU, and this search on {device}"
    if norms_with_statistics(net.generator):
        return "the statistics of batch norms are calibrated for every subnet"
    if not is_sliceable(net.space):
        return "its kernels or resolutions are elastic, and exported models are sliced by channels"
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
    return _open("onnxruntime" if name == "auto" else name, precision)


def _open(name: str, precision: str) -> Runtime:
    return load_runtime(name, precision, torch.get_num_threads())


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
    elastic kernels, resolutions or norms whose statistics depend on the subnet, and if slices of
    the exported supernet agree with eager. It is the same on every machine, so that their trials
    go together.

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
    exact = runtime if precision == "float32" else _open(name, "float32")
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


def _of_tensors(run: Run) -> Compiled:
    def compiled(*inputs: Tensor) -> Tensor:
        return torch.from_numpy(run(*(x.detach().cpu().float().numpy() for x in inputs)))

    return compiled


@torch.inference_mode()
def frozen(runtime: Runtime, module: nn.Module, *examples: Tensor) -> Compiled | None:
    """A network in a runtime, or None where it cannot be exported or computes something else.

    Args:
        runtime: The runtime.
        module: The network, in evaluation mode.
        examples: An input each, (1, ...) float32, that the comparison with eager is made on.
    """
    try:
        compiled = _of_tensors(runtime.open(_exported(module, examples)))
        found = compiled(*examples)
    except Exception as error:  # exporters raise types of their own: eager works all the same
        logger.info("a network stays in eager: %s", str(error).partition("\n")[0])
        return None
    expected = module(*examples)
    largest = float((found.reshape(expected.shape) - expected).abs().max())
    if not largest <= AGREES[runtime.precision] * max(float(expected.abs().max()), 1e-6):
        logger.info("a network stays in eager: %s differs from it by %.1e", runtime.label, largest)
        return None
    return compiled


def _exported(module: nn.Module, examples: tuple[Tensor, ...]) -> bytes:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    is_script = any(isinstance(part, torch.jit.ScriptModule) for part in module.modules())
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        path = Path(folder) / "network.onnx"
        # the exporter of today cannot follow TorchScript, and that of yesterday follows it whole
        subject = torch.jit.script(module) if is_script else module
        # the exporter's own optimisation leaves out additions of small constants, such as the one
        # that keeps LPIPS finite where all activations are 0; the runtime has a better one
        torch.onnx.export(
            subject, examples, path, dynamo=not is_script, optimize=False, external_data=False,
            verbose=False,
        )  # fmt: skip
        return path.read_bytes()
