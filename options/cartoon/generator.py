"""CartoonGAN's generator, photo to anime: a network that is none of the package's.

Layers, names and norm are those of the published weights. For another generator put its definition
here, or into any module that Python finds from the current folder, and name the function that
builds it in teacher.module (package.module:function). It has to take and give RGB images in
[-1, 1], (N, 3, H, W); H and W are multiples of its attribute `stride`.

Source: Chen et al., CartoonGAN, CVPR 2018.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ScaleShiftNorm(nn.Module):
    """Instance norm out of arithmetic, with `scale` and `shift` in place of weight and bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same."""
        centred = x - x.mean((2, 3), keepdim=True)
        deviation = torch.sqrt(centred.square().mean((2, 3), keepdim=True) + 1e-9)
        normal = centred / deviation
        return normal * self.scale.view(1, -1, 1, 1) + self.shift.view(1, -1, 1, 1)


class CartoonGenerator(nn.Module):
    """(N, 3, H, W) RGB in [-1, 1] -> the same; 4 divides H and W.

    The published weights are for images in BGR, so channels are turned round on the way in and out.

    Args:
        width: Channels of the stem; the trunk is four times as wide.
        blocks: Number of residual blocks, numbered from 04.
    """

    stride = 4

    def __init__(self, width: int = 64, blocks: int = 8) -> None:
        super().__init__()
        self.trunk = [f"{number:02d}" for number in range(4, 4 + blocks)]
        one, two, four = width, 2 * width, 4 * width
        self._layer("01_1", nn.Conv2d(3, one, 7), one)
        self.conv02_1 = nn.Conv2d(one, two, 3, stride=2, padding=1)
        self._layer("02_1", nn.Conv2d(two, two, 3, padding=1), two, conv="conv02_2")
        self.conv03_1 = nn.Conv2d(two, four, 3, stride=2, padding=1)
        self._layer("03_1", nn.Conv2d(four, four, 3, padding=1), four, conv="conv03_2")
        for number in self.trunk:
            self._layer(f"{number}_1", nn.Conv2d(four, four, 3), four)
            self._layer(f"{number}_2", nn.Conv2d(four, four, 3), four)
        up = {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1}
        self.deconv01_1 = nn.ConvTranspose2d(four, two, **up)
        self._layer("12_1", nn.Conv2d(two, two, 3, padding=1), two, conv="deconv01_2")
        self.deconv02_1 = nn.ConvTranspose2d(two, one, **up)
        self._layer("13_1", nn.Conv2d(one, one, 3, padding=1), one, conv="deconv02_2")
        self.deconv03_1 = nn.Conv2d(one, 3, 7)

    def _layer(self, number: str, layer: nn.Module, channels: int, conv: str = "") -> None:
        self.add_module(conv or f"conv{number}", layer)
        self.add_module(f"in{number}", ScaleShiftNorm(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Photo to picture."""
        x = x.flip(1)
        x = F.relu(self.in01_1(self.conv01_1(F.pad(x, (3, 3, 3, 3), mode="reflect"))))
        x = F.relu(self.in02_1(self.conv02_2(self.conv02_1(x))))
        x = F.relu(self.in03_1(self.conv03_2(self.conv03_1(x))))
        for number in self.trunk:
            x = x + self._half(F.relu(self._half(x, f"{number}_1")), f"{number}_2")
        x = F.relu(self.in12_1(self.deconv01_2(self.deconv01_1(x))))
        x = F.relu(self.in13_1(self.deconv02_2(self.deconv02_1(x))))
        return torch.tanh(self.deconv03_1(F.pad(x, (3, 3, 3, 3), mode="reflect"))).flip(1)

    def _half(self, x: Tensor, number: str) -> Tensor:
        convolution, norm = getattr(self, f"conv{number}"), getattr(self, f"in{number}")
        return norm(convolution(F.pad(x, (1, 1, 1, 1), mode="reflect")))


def build() -> nn.Module:
    """The generator of the published weights."""
    return CartoonGenerator()
