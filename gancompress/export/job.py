"""One file to write: of which generator, with which options."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from gancompress.checkpoint.network import Network


@dataclass(frozen=True)
class ExportOptions:
    """How to write a file.

    Attributes:
        uint8: Whether the graph takes and gives (N, H, W, 3) uint8 images.
        half_weights: Whether weights are stored in half precision; computing stays in float32.
        rewrite: When a rewrite of the graph is kept, one of `gancompress.export.rewrites.CHOICES`.
    """

    uint8: bool = False
    half_weights: bool = False
    rewrite: str = "measured"


@dataclass(frozen=True)
class Job:
    """One file to write.

    Attributes:
        network: On the CPU, in evaluation mode.
        images: Real inputs (3, H, W) uint8 to calibrate and to measure with.
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
        return {"network": self.network.description, **facts}
