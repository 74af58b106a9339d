"""Kernels that can be cropped to their centres, and what then pads less."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

Convolution = nn.Conv2d | nn.ConvTranspose2d
_PADS = (nn.ReflectionPad2d, nn.ReplicationPad2d, nn.ZeroPad2d, nn.ConstantPad2d, nn.CircularPad2d)


@dataclass(frozen=True)
class Kernel:
    """A square kernel whose centre sees the same places if its input is padded less.

    Attributes:
        layer: Name of the convolution.
        side: Of the kernel, in pixels.
        choices: Sides of centres, ascending; the last is `side`.
        pad: Name of the module that pads the convolution's input and nothing else, or None.
    """

    layer: str
    side: int
    choices: tuple[int, ...]
    pad: str | None


def find_kernels(graph: fx.GraphModule) -> tuple[Kernel, ...]:
    """Kernels that can be smaller, in order of execution.

    With the centre k x k of a K x K kernel a convolution must pad dilation (K - k) / 2 less on
    every side, itself or in a padding layer before it. k is at least the stride: a smaller one
    would leave holes.
    """
    calls = Counter(str(node.target) for node in graph.graph.nodes if node.op == "call_module")
    found = []
    for node in graph.graph.nodes:
        if node.op != "call_module" or calls[str(node.target)] > 1:
            continue
        layer: Any = graph.get_submodule(str(node.target))
        if type(layer) not in (nn.Conv2d, nn.ConvTranspose2d) or not _is_square(layer):
            continue
        if layer.groups > 1 and not (layer.groups == layer.in_channels == layer.out_channels):
            continue
        if layer.groups > 1 and type(layer) is nn.ConvTranspose2d:
            continue
        pad, room = None, int(layer.padding[0])
        before = node.all_input_nodes[0]
        if type(layer) is nn.Conv2d and before.op == "call_module" and len(before.users) == 1:
            module: Any = graph.get_submodule(str(before.target))
            sides: Any = getattr(module, "padding", ())
            once = calls[str(before.target)] == 1
            if isinstance(module, _PADS) and len(set(sides)) == 1 and once:
                pad, room = str(before.target), room + int(sides[0])
        side, stride = layer.kernel_size[0], layer.stride[0]
        choices = tuple(
            k
            for k in range(2 - side % 2, side + 1, 2)
            if k >= stride and layer.dilation[0] * (side - k) // 2 <= room
        )
        if len(choices) > 1:
            found.append(Kernel(str(node.target), side, choices, pad))
    return tuple(found)


def _is_square(layer: nn.Module) -> bool:
    numbers = (getattr(layer, name) for name in ("kernel_size", "stride", "padding", "dilation"))
    return all(isinstance(pair, tuple) and pair[0] == pair[1] for pair in numbers)


def centre(weight: Tensor, side: int) -> Tensor:
    """The middle of a kernel, as a view (.., side, side)."""
    start = (weight.shape[-1] - side) // 2
    return weight[..., start : start + side, start : start + side]


def own_padding(layer: Convolution, side: int) -> tuple[int, int]:
    """With a kernel of this side: what a convolution pads itself, and what its input has too much.

    Both are pixels on every side.
    """
    padding, dilation = int(layer.padding[0]), layer.dilation[0]
    less = dilation * (layer.kernel_size[0] - side) // 2
    return padding - min(padding, less), less - min(padding, less)


def crop_kernels(module: nn.Module, kernels: Iterable[Kernel], sides: Mapping[str, int]) -> None:
    """Give convolutions smaller kernels, the centres of theirs, and let less be padded.

    Args:
        module: Changed in place; layers that it does not have are left out.
        kernels: Those of the generator.
        sides: By name of the layer.
    """
    layers: dict[str, Any] = dict(module.named_modules())
    for kernel in kernels:
        layer, side = layers.get(kernel.layer), sides.get(kernel.layer, kernel.side)
        if not isinstance(layer, Convolution) or side == kernel.side:
            continue
        padding, rest = own_padding(layer, side)
        if rest:
            pad = layers[str(kernel.pad)]
            pad.padding = (pad.padding[0] - rest,) * 4
        layer.weight = nn.Parameter(
            centre(layer.weight.detach(), side).clone(), layer.weight.requires_grad
        )
        layer.kernel_size = (side, side)
        layer.padding = (padding, padding)
        if isinstance(layer, nn.Conv2d):
            layer._reversed_padding_repeated_twice = [padding] * 4
