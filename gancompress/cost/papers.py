"""Multiply-accumulates as the papers' counters gave them, counted while a module runs on shapes.

Source: the handlers of torchprofile 0.0.1 to 0.1.0, with which the published figures were made.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gancompress.cost.units import SUFFIXES


@dataclass(frozen=True)
class PaperCounts:
    """What one image costs.

    Attributes:
        params: Parameters of the module.
        macs: True multiply-accumulates of convolutions and fully connected layers.
        macs_paper: The same with transposed convolutions at their output positions, four times the
            truth at stride 2.
        macs_products: `macs_paper` and one for each element of products and LeakyReLUs, which is
            torchprofile from 0.0.4 on.
        macs_norms: `macs_products` and one for each element of instance norms, which is
            torchprofile before 0.0.4.
    """

    params: int
    macs: int
    macs_paper: int
    macs_products: int
    macs_norms: int


class _Counter(TorchDispatchMode):
    """Adds up the operations that pass by."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = self.macs_paper = self.products = self.norms = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name == "native_batch_norm":  # slow on shapes, and the shape is that of its input
            return args[0].clone(), *args[0].new_empty((2, 0))
        out = func(*args, **(kwargs or {}))
        if name == "convolution":
            self._convolution(args, out)
        elif name in ("addmm", "mm"):
            left, right = args[-2:]
            self._add(left.shape[0] * right.numel(), left.shape[0] * right.numel())
        elif name in ("mul", "leaky_relu"):
            self.products += out.numel()
        return out

    def _convolution(self, args: tuple[Any, ...], out: Tensor) -> None:
        x, weight, transposed = args[0], args[1], args[6]
        positions = [tensor.numel() // tensor.shape[1] for tensor in (x, out)]
        true = positions[0] if transposed else positions[1]
        self._add(true * weight.numel(), positions[1] * weight.numel())

    def _add(self, macs: int, macs_paper: int) -> None:
        self.macs += macs
        self.macs_paper += macs_paper

    def count_norm(self, _: nn.Module, __: Any, out: Tensor) -> None:
        """A hook for layers whose elements count once."""
        self.norms += out.numel()


def count_as_papers(module: nn.Module, shape: tuple[int, ...]) -> PaperCounts:
    """All counts of a module, for one image.

    Args:
        module: Any; its weights may be on any device, the meta device too, and stay as they are.
        shape: (1, C, H, W) of the image.
    """
    module = copy.deepcopy(module).to("meta").eval()
    counter = _Counter()
    for layer in module.modules():
        if isinstance(layer, nn.InstanceNorm2d):
            layer.register_forward_hook(counter.count_norm)
    # in inference mode convolutions would pass under other names
    with torch.inference_mode(False), torch.no_grad(), counter:
        module(torch.empty(shape, device="meta"))
    products = counter.macs_paper + counter.products
    params = sum(parameter.numel() for parameter in module.parameters())
    return PaperCounts(params, counter.macs, counter.macs_paper, products, products + counter.norms)


def in_form_of(count: int, printed: str) -> str:
    """A count with the decimals and the unit of a printed one: 2,546,204,672 as 4.99G is: 2.55G."""
    number, unit = Decimal(printed[:-1]), printed[-1]
    scaled = Decimal(count) / SUFFIXES[unit]
    return f"{scaled.quantize(number, rounding=ROUND_HALF_UP)}{unit}"
