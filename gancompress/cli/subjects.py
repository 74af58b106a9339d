"""Any generator that can be named on the command line, as something whose costs can be asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
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


class Subject(ABC):
    """A generator whose costs are asked.

    Attributes:
        name: As the user named it.
        network: What it is, for people.
        stride: What H and W must be multiples of.
        image_size: (H, W) that it was made for, where it says so.
        size_bytes: Of its file, or of the file that it would take.
        size_of: Which of the two.
        runtime: What it runs in.
    """

    name: str
    network: str
    stride: int
    image_size: Size | None
    size_bytes: int
    size_of: str
    runtime: str

    @abstractmethod
    def counts(self, size: Size) -> tuple[int, int, int]:
        """Parameters, and MACs of one image: true, and as the papers count."""

    @abstractmethod
    def peak_bytes(self, size: Size) -> int | None:
        """Most activations that live at one time, where that can be known."""

    def place(self, device: torch.device) -> str:
        """Where it runs when a command computes on `device`."""
        return str(device)

    @abstractmethod
    def call(self, size: Size, device: torch.device) -> Callable[[], object]:
        """Translates one image, and returns when that is done.

        Raises:
            CheckpointError: It does not run at this size.
        """


class NetworkSubject(Subject):
    """A network in PyTorch.

    Args:
        name: As the user named it.
        network: The network.
    """

    def __init__(self, name: str, network: Network) -> None:
        self.name, self.body = name, network
        self.network, self.stride = _kind(network), network.stride
        self.image_size = _square(network.header.get("image_size"))
        self.runtime = f"eager PyTorch {torch.__version__}"
        file = Path(network.source)
        if file.is_file() and "space" not in network.header:
            self.size_bytes, self.size_of = file.stat().st_size, file.name
        else:
            self.size_bytes = self._costs.weight_bytes
            self.size_of = "as safetensors, without the header"

    @cached_property
    def _costs(self) -> NetworkCosts:
        return NetworkCosts(self.body.module, self.body.example_shape)

    def counts(self, size: Size) -> tuple[int, int, int]:
        """See `Subject`."""
        return self._costs.params, self._costs.macs(size), self._costs.macs(size, paper=True)

    def peak_bytes(self, size: Size) -> int | None:
        """See `Subject`."""
        return peak_activation_bytes(self.body.module, (1, self.body.input_nc, *size))

    def call(self, size: Size, device: torch.device) -> Callable[[], object]:
        """See `Subject`."""
        module = self.body.module.to(device)
        image = _noise(self.body.input_nc, size).to(device)
        if device.type != "cuda":
            return lambda: module(image)

        def call() -> None:
            module(image)
            torch.cuda.synchronize(device)

        return call


class FileSubject(Subject):
    """An exported file, which computes on the CPU.

    Args:
        file: The file.
    """

    def __init__(self, file: FileGenerator) -> None:
        self.name, self.body, self.stride = str(file.path), file, file.stride
        subnet = file.header.get("subnet")
        self.network = f"{file.kind}, subnet {subnet}" if subnet else file.kind
        self.image_size, self.channels = _square(file.header.get("image_size")), 3
        if isinstance(file, OnnxGenerator):
            _, channels, height, width = file.shape
            self.channels = channels or 3
            if height and width:
                self.image_size = (height, width)
        self.size_bytes = sum(path.stat().st_size for path in file.files)
        self.size_of = " + ".join(path.name for path in file.files)
        self.runtime = file.runtime

    def counts(self, size: Size) -> tuple[int, int, int]:
        """See `Subject`.

        Raises:
            CheckpointError: Neither the graph nor the header tells.
        """
        if isinstance(self.body, OnnxGenerator):
            costs = onnx_costs(self.body.path, size)
            return costs.params, costs.macs, costs.macs_paper
        try:
            told = self.body.header["costs"]
            params, side, *macs = (
                int(told[key]) for key in ("params", "side", "macs", "macs_paper")
            )
        except (KeyError, TypeError, ValueError):
            raise CheckpointError(
                f"{self.name} does not say its MACs\n  Profile the generator that it is made of"
            ) from None
        true, paper = (each * size[0] * size[1] // side**2 for each in macs)
        return params, true, paper

    def peak_bytes(self, size: Size) -> int | None:
        """Not known: the runtime plans its memory itself."""
        return None

    def place(self, device: torch.device) -> str:
        """On the CPU, whatever the device."""
        return "cpu"

    def call(self, size: Size, device: torch.device) -> Callable[[], object]:
        """See `Subject`."""
        image = _noise(self.channels, size)
        self.body(image)
        return lambda: self.body(image)


def open_subject(model: Model, threads: int) -> Subject:
    """Any MODEL; see `Model.open`."""
    opened = model.open(threads, calibrate=False)
    if isinstance(opened, FileGenerator):
        return FileSubject(opened)
    return NetworkSubject(str(model.path), opened)


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
