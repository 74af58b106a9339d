"""One file to write: of which generator, with which options."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from gancompress.checkpoint.network import Network, kinds_header
from gancompress.elastic import NetworkCosts
from gancompress.errors import GanCompressError


@dataclass(frozen=True)
class ExportOptions:
    """How to write a file.

    Attributes:
        uint8: Whether the graph takes and gives (N, H, W, C) uint8 images.
        weights: How weights are stored, one of `gancompress.export.graphs.WEIGHTS`; computing stays
            in float32.
        rewrite: When a rewrite of the graph is kept, one of `gancompress.export.rewrites.CHOICES`.
    """

    uint8: bool = False
    weights: str = "float32"
    rewrite: str = "measured"


@dataclass(frozen=True)
class Job:
    """One file to write.

    Attributes:
        network: On the CPU, in evaluation mode.
        images: Real inputs (C, H, W) uint8 to calibrate and to measure with.
        options: How.
    """

    network: Network
    images: list[Tensor]
    options: ExportOptions = field(default_factory=ExportOptions)

    @property
    def header(self) -> dict[str, Any]:
        """What the file says of itself."""
        kept = ("subnet", "image_size")
        facts = {key: self.network.header[key] for key in kept if key in self.network.header}
        facts |= kinds_header(self.network.input, self.network.output)
        return {"network": self.network.description, **facts, **network_costs(self.network)}


def network_costs(network: Network) -> dict[str, Any]:
    """`{"costs": ...}`: params, and MACs of an image of `side` pixels; both grow with its area.

    They are the network's own, whatever a file's graph computes besides. Nothing where they are
    not known: the generator cannot be followed, or its MACs do not grow with the area.
    """
    side = network.example_shape[-1]
    try:
        costs = NetworkCosts(network.module, network.example_shape)
    except GanCompressError:
        return {}
    found = {"side": side, "params": costs.params}
    for name, paper in (("macs", False), ("macs_paper", True)):
        found[name] = costs.macs(side, paper)
        if costs.macs(2 * side, paper) != 4 * found[name]:
            return {}
    return {"costs": found}
