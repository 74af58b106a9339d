"""DRN-D-105 with a segmentation head, named as in the published Cityscapes weights.

Source: Yu, Koltun, Funkhouser, Dilated Residual Networks, CVPR 2017, variant D: plain convolutions
instead of the first and the last residual blocks, so that dilation leaves no grid in the output.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gancompress.checkpoint.files import check_finite, load_pickle
from gancompress.errors import CheckpointError

STRIDE = 8  # pixels of the image per pixel of the head's output
CITYSCAPES_CLASSES = 19
EXPANSION = 4  # output channels of a bottleneck over its inner ones


@dataclass(frozen=True)
class Level:
    """One level of the network.

    Attributes:
        channels: Of a plain convolution's output, or inside a bottleneck.
        depth: Convolutions or bottlenecks.
        stride: Of the first one.
        dilation: Of every 3x3 convolution.
        bottleneck: Residual bottlenecks, or convolution, norm and ReLU.
    """

    channels: int
    depth: int
    stride: int = 1
    dilation: int = 1
    bottleneck: bool = False


D_105 = (
    Level(16, 1),
    Level(32, 1, stride=2),
    Level(64, 3, stride=2, bottleneck=True),
    Level(128, 4, stride=2, bottleneck=True),
    Level(256, 23, dilation=2, bottleneck=True),
    Level(512, 3, dilation=4, bottleneck=True),
    Level(512, 1, dilation=2),
    Level(512, 1),
)


class Bottleneck(nn.Module):
    """1x1, dilated 3x3 and 1x1 convolutions beside a shortcut.

    Args:
        channels: Of the input.
        level: What the block belongs to.
        stride: Of the 3x3 convolution and of the shortcut.
    """

    def __init__(self, channels: int, level: Level, stride: int) -> None:
        super().__init__()
        inner, outer, dilation = level.channels, level.channels * EXPANSION, level.dilation
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outer, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outer)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != outer:
            projection = nn.Conv2d(channels, outer, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outer))

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> (N, 4 * level.channels, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.bn1(self.conv1(x)).relu_()
        x = self.bn2(self.conv2(x)).relu_()
        return self.bn3(self.conv3(x)).add_(shortcut).relu_()  # type: ignore[no-any-return]


class DrnSegmenter(nn.Module):
    """DRN, a 1x1 head, and a fixed bilinear deconvolution back to the image's resolution.

    The published network ends in a log-softmax. It is left out: it subtracts one number from all
    classes of a pixel, and interpolation that treats classes alike keeps that true, so no arg max
    changes.

    Args:
        classes: Channels of the output.
        levels: The levels after the 7x7 stem.
    """

    def __init__(
        self, classes: int = CITYSCAPES_CLASSES, levels: tuple[Level, ...] = D_105
    ) -> None:
        super().__init__()
        channels = levels[0].channels
        stem = nn.Conv2d(3, channels, 7, padding=3, bias=False)
        parts: list[nn.Module] = [nn.Sequential(stem, nn.BatchNorm2d(channels), nn.ReLU())]
        for level in levels:
            parts.append(_level(channels, level))
            channels = level.channels * (EXPANSION if level.bottleneck else 1)
        self.base = nn.Sequential(*parts)
        self.seg = nn.Conv2d(channels, classes, 1)
        self.up = nn.ConvTranspose2d(
            *(classes, classes, 2 * STRIDE, STRIDE, STRIDE // 2), groups=classes, bias=False
        )
        with torch.no_grad():
            self.up.weight.copy_(bilinear_kernel(STRIDE).expand_as(self.up.weight))
        self.up.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) -> logits (N, classes, 8*ceil(H/8), 8*ceil(W/8))."""
        logits: Tensor = self.up(self.seg(self.base(x)))
        return logits


def _level(channels: int, level: Level) -> nn.Sequential:
    parts: list[nn.Module] = []
    for index in range(level.depth):
        stride = level.stride if index == 0 else 1
        if level.bottleneck:
            parts.append(Bottleneck(channels, level, stride))
            channels = level.channels * EXPANSION
            continue
        padding = dilation = level.dilation
        conv = nn.Conv2d(channels, level.channels, 3, stride, padding, dilation, bias=False)
        parts += [conv, nn.BatchNorm2d(level.channels), nn.ReLU()]
        channels = level.channels
    return nn.Sequential(*parts)


def bilinear_kernel(stride: int) -> Tensor:
    """Weights with which a deconvolution interpolates linearly, (2 * stride, 2 * stride).

    The weight falls linearly with the distance of the pixel centres: at offset i it is
    1 - |i - (stride - 0.5)| / stride.

    Args:
        stride: Of the deconvolution; even.
    """
    offsets = torch.arange(2 * stride) - (stride - 0.5)
    line = 1 - offsets.abs() / stride
    return line[:, None] * line[None, :]


def load_drn(path: Path) -> DrnSegmenter:
    """DRN-D-105 with the published Cityscapes weights (`drn-d-105_ms_cityscapes.pth`).

    Raises:
        CheckpointError: The file cannot be read, or a name or shape differs.
    """
    state = load_pickle(path)
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{path}: not a state dict of tensors")
    with torch.device("meta"):
        network = DrnSegmenter()
    wanted = network.state_dict()
    # files older than torch 0.4 have no such counters, and nothing here reads them
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}
    state = {**dict.fromkeys(counters, torch.tensor(0)), **check_finite(state, path)}
    wrong = [f"{name} is missing" for name in wanted if name not in state]
    wrong += [f"{name} is unknown" for name in state if name not in wanted]
    wrong += [
        f"{name}: {tuple(state[name].shape)} instead of {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in state and state[name].shape != value.shape
    ]
    if wrong:
        raise CheckpointError(
            f"{path}: not the weights of DRN-D-105 with {CITYSCAPES_CLASSES} classes:\n  "
            + "\n  ".join(wrong[:5])
        )
    network.load_state_dict(state, assign=True)
    return network.eval()
