"""Any generator that can be named on the command line, as something whose costs can be asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gancompress.checkpoint.network import Network
from gancompress.checkpoint.resolve import Model
from gancompress.cost import peak_activation_bytes
from gancompress.cost.onnx import onnx_costs
from gancompress.elastic import NetworkCosts
from gancompress.errors import CheckpointError
from gancompress.runtimes import FileGenerator, OnnxGenerator

Size = tuple[int, int]


@dataclass(frozen=True)
class Subject:
    """A generator whose costs are asked.

    Attributes:
        name: As the user named it.
        network: What it is, for people.
        stride: What H and W must be multiples of.
        image_size: (H, W) that it was made for, where it says so.
        size_bytes: Of its file, or of the file that it would take.
        size_of: Which of the two.
        runtime: What it runs in.
        counts: Parameters, and MACs of one image of a size: true, and as the papers count.
        peak_bytes: Most activations that live at one time; None where a runtime plans its memory.
        call: For a size and a device what translates one image, and returns when that is done.
        is_file: Whether it computes on the CPU, whatever the device.
    """

    name: str
    network: str
    stride: int
    image_size: Size | None
    size_bytes: int
    size_of: str
    runtime: str
    counts: Callable[[Size], tuple[int, int, int]]
    peak_bytes: Callable[[Size], int | None]
    call: Callable[[Size, torch.device], Callable[[], object]]
    is_file: bool = False


def network_subject(name: str, network: Network) -> Subject:
    """A network in PyTorch.

    Raises:
        TraceError: Its channels cannot be followed.
    """
    costs = NetworkCosts(network.module, network.example_shape)
    module, channels = network.module, network.input_nc
    file = Path(network.source)
    is_kept = file.is_file() and "space" not in network.header

    def call(size: Size, device: torch.device) -> Callable[[], object]:
        placed, image = module.to(device), _noise(channels, size).to(device)

        def translate() -> None:
            placed(image)
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        return translate

    return Subject(
        name,
        _kind(network),
        network.stride,
        _square(network.header.get("image_size")),
        file.stat().st_size if is_kept else costs.weight_bytes,
        file.name if is_kept else "as safetensors, without the header",
        f"eager PyTorch {torch.__version__}",
        lambda size: (costs.params, costs.macs(size), costs.macs(size, paper=True)),
        lambda size: peak_activation_bytes(module, (1, channels, *size)),
        call,
    )


def file_subject(file: FileGenerator) -> Subject:
    """An exported file."""
    subnet, channels = file.header.get("subnet"), 3
    image_size = _square(file.header.get("image_size"))
    if isinstance(file, OnnxGenerator):
        _, own, height, width = file.shape
        channels = own or 3
        image_size = (height, width) if height and width else image_size

    def call(size: Size, _: torch.device) -> Callable[[], object]:
        image = _noise(channels, size)
        file(image)  # tells whether it runs at this size
        return lambda: file(image)

    return Subject(
        str(file.path),
        f"{file.kind}, subnet {subnet}" if subnet else file.kind,
        file.stride,
        image_size,
        sum(path.stat().st_size for path in file.files),
        " + ".join(path.name for path in file.files),
        file.runtime,
        lambda size: _file_counts(file, size),
        lambda size: None,
        call,
        is_file=True,
    )


def _file_counts(file: FileGenerator, size: Size) -> tuple[int, int, int]:
    """See `Subject`.

    Raises:
        CheckpointError: Neither the graph nor the header tells.
    """
    if isinstance(file, OnnxGenerator):
        costs = onnx_costs(file.path, size)
        return costs.params, costs.macs, costs.macs_paper
    try:
        told = file.header["costs"]
        params, side, *macs = (int(told[key]) for key in ("params", "side", "macs", "macs_paper"))
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(
            f"{file.path} does not say its MACs\n  Profile the generator that it is made of"
        ) from None
    true, paper = (each * size[0] * size[1] // side**2 for each in macs)
    return params, true, paper


def open_subject(model: Model, threads: int) -> Subject:
    """Any MODEL; see `Model.open`."""
    opened = model.open(threads, calibrate=False)
    if isinstance(opened, FileGenerator):
        return file_subject(opened)
    return network_subject(str(model.path), opened)


def _kind(network: Network) -> str:
    options = network.description.get("generator")
    kind = options["name"] if options else str(next(iter(network.description.values()), ""))
    if "subnet" in network.header:
        return f"{kind}, subnet {network.header['subnet']}"
    return f"{kind}, ngf {options['ngf']}" if options and "ngf" in options else kind


def _square(side: Any) -> Size | None:
    return (side, side) if isinstance(side, int) else None


def _noise(channels: int, size: Size) -> Tensor:
    """An image (1, C, H, W) in [-1, 1], the same every time."""
    return 2 * torch.rand((1, channels, *size), generator=torch.Generator().manual_seed(0)) - 1
