"""Networks whose features images are compared in. A score is named after the one it was made with.

Resizing is that of clean-fid: anti-aliased, and never rounded to 8 bits.

| name | features | input | file |
|---|---|---|---|
| `inception` | 2048, InceptionV3 of 2015-12-05 | 299x299, bicubic | found or downloaded |
| `mobilenet_v1_0.75` | 768, MobileNetV1 0.75, ImageNet | 224x224, bilinear | given by path |

Any other name takes a function `package.module:factory` of the user's, see `load_features`.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from gancompress.checkpoint.foreign import load_foreign
from gancompress.checkpoint.network import call_factory
from gancompress.errors import CheckpointError, ConfigError, DataError
from gancompress.metrics.weights import find_weights

BATCH = 4  # on CPUs small batches are the fastest
COMPILED_BATCH = 32  # other runtimes share the images of a batch out among threads


@dataclass(frozen=True)
class FeatureNetwork:
    """A frozen network from images to features.

    Attributes:
        name: What scores are named after.
        module: From (N, 3, size, size) in [0, 255] to (N, width).
        size: Side that images are resized to, anti-aliased, without rounding.
        resize: Filter of the resizing.
        digest: Hash of weights and preprocessing; statistics of another digest do not compare.
        cacheable: Whether the digest says everything. It does not know the code of a user's
            factory, which may change between two runs.
        compiled: The module in another runtime, which takes its place.
    """

    name: str
    module: nn.Module
    size: int
    resize: Literal["bicubic", "bilinear"]
    digest: str
    cacheable: bool = True
    compiled: Callable[[Tensor], Tensor] | None = None

    @torch.inference_mode()
    def __call__(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """Features of images.

        Args:
            images: (N, 3, H, W) uint8, or N of (3, H, W) uint8.

        Returns:
            (N, width) float64 on the CPU.

        Raises:
            DataError: A feature is not finite; names the image by its index.
        """
        device = next((p.device for p in self.module.parameters()), torch.device("cpu"))
        size = COMPILED_BATCH if self.compiled else BATCH
        rows = []
        for start in range(0, len(images), size):
            batch = [self.prepared(image) for image in images[start : start + size]]
            found = (self.compiled or self.module)(torch.stack(batch).to(device))
            rows.append(found.flatten(1).double().cpu())
        features = torch.cat(rows)
        bad = (~torch.isfinite(features).all(1)).nonzero().flatten().tolist()
        if bad:
            raise DataError(f"image {bad[0]} has {self.name} features that are not finite")
        return features

    def prepared(self, image: Tensor) -> Tensor:
        """(3, H, W) uint8 -> (3, size, size) float32 in [0, 255]."""
        pixels = image.float()
        if image.shape[-2:] == (self.size, self.size):
            return pixels
        resized = functional.interpolate(
            pixels[None], size=(self.size, self.size), mode=self.resize, antialias=True
        )
        return resized[0].clamp(0, 255)


class _Block(nn.Module):
    """Depth-wise 3x3 and point-wise 1x1 convolution, each with batch norm and ReLU6."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.dw = nn.Conv2d(
            channels_in, channels_in, 3, stride, _padding(stride), groups=channels_in, bias=False
        )
        self.bn1 = nn.BatchNorm2d(channels_in, eps=1e-3)
        self.pw = nn.Conv2d(channels_in, channels_out, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu6(self.bn1(self.dw(_padded(x, self.dw))))
        return functional.relu6(self.bn2(self.pw(x)))


class MobileNetV1(nn.Module):
    """MobileNetV1 at 0.75 of its width, up to the pooled features.

    Source: Howard et al., MobileNets, 2017, table 1. A convolution of stride 2 is padded by one at
    the right and at the bottom only, as TensorFlow does.
    """

    LAYERS = (
        (48, 1), (96, 2), (96, 1), (192, 2), (192, 1), (384, 2), (384, 1), (384, 1), (384, 1),
        (384, 1), (384, 1), (768, 2), (768, 1),
    )  # fmt: skip
    """Output channels and stride of each separable block."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 24, 3, 2, _padding(2), bias=False)
        self.bn1 = nn.BatchNorm2d(24, eps=1e-3)
        blocks, width = [], 24
        for wider, stride in self.LAYERS:
            blocks.append(_Block(width, wider, stride))
            width = wider
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Conv2d(width, 1000, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 224, 224) in [0, 255] -> (N, 768)."""
        return self.features(x).mean((2, 3))

    def features(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 255] -> (N, 768, H/32, W/32)."""
        x = _padded(x / 127.5 - 1, self.conv1)
        out: Tensor = self.blocks(functional.relu6(self.bn1(self.conv1(x))))
        return out

    def classes(self, x: Tensor) -> Tensor:
        """(N, 3, 224, 224) in [0, 255] -> (N, 1000) logits of the ImageNet classes."""
        out: Tensor = self.fc(self.features(x).mean((2, 3), keepdim=True))
        return out.flatten(1)


def _padding(stride: int) -> int:
    return 0 if stride == 2 else 1


def _padded(x: Tensor, conv: nn.Conv2d) -> Tensor:
    return functional.pad(x, (0, 1, 0, 1)) if conv.stride == (2, 2) else x


class _Inception(nn.Module):
    """The layers of the published TorchScript file up to its 2048 pooled features."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # TorchScript is what was published
            self.layers = torch.jit.load(str(path), map_location="cpu").eval().layers

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 299, 299) in [0, 255] -> (N, 2048)."""
        out: Tensor = self.layers.forward((x - 128) / 128)
        return out.flatten(1)


def _mobilenet(path: Path | None) -> tuple[nn.Module, Path]:
    if path is None:
        raise ConfigError("features mobilenet_v1_0.75 need a file: --features NAME=FILE")
    module = MobileNetV1()
    try:
        module.load_state_dict(load_foreign(path))
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise CheckpointError(f"{path} does not fit mobilenet_v1_0.75: {reason}") from None
    return module, path


def _inception(path: Path | None) -> tuple[nn.Module, Path]:
    # the file is code: nothing but the published one, by its hash, is ever run
    found = find_weights("inception", path)
    return _Inception(found), found


@dataclass(frozen=True)
class _Kind:
    load: Callable[[Path | None], tuple[nn.Module, Path]]
    size: int
    resize: Literal["bicubic", "bilinear"]


FEATURES: dict[str, _Kind] = {
    "inception": _Kind(_inception, 299, "bicubic"),
    "mobilenet_v1_0.75": _Kind(_mobilenet, 224, "bilinear"),
}


def load_features(
    name: str, source: str | None = None, device: torch.device | None = None
) -> FeatureNetwork:
    """A feature network by name.

    Args:
        name: Entry of `FEATURES`, or any name for a network of the user's.
        source: Weights file of an entry. For any other name `package.module:factory`, a function
            that returns an `nn.Module` from (N, 3, S, S) in [0, 255] to (N, D), S being its
            attribute `size` (224 if it has none).
        device: Where to run.

    Raises:
        ConfigError: An unknown name without a factory, or one that cannot be imported.
        CheckpointError: The weights are missing, or not those of this network.
    """
    if name in FEATURES:
        kind = FEATURES[name]
        module, path = kind.load(Path(source) if source else None)
        size, resize = kind.size, kind.resize
        digest = hashlib.sha256(path.read_bytes())
    elif source and is_factory(name, source):
        module = call_factory(source)
        size, resize = _side(module), "bilinear"
        digest = hashlib.sha256(source.encode())
        for key, tensor in module.state_dict().items():
            digest.update(key.encode() + tensor.cpu().contiguous().numpy().tobytes())
    else:
        choices = ", ".join(FEATURES)
        raise ConfigError(
            f"unknown features '{name}'\n"
            f"  Choose from {choices}, or name a function: {name}=package.module:factory."
        )
    digest.update(f"{name} {size} {resize} antialias".encode())
    module = module.eval().requires_grad_(False)
    if device is not None:
        module = module.to(device)
    return FeatureNetwork(
        name, module, size, resize, digest.hexdigest(), cacheable=name in FEATURES
    )


def is_factory(name: str, source: str) -> bool:
    """Whether features come out of a function of somebody's, and not out of a file of weights."""
    return name not in FEATURES and ":" in source


def _side(module: Any) -> int:
    size = getattr(module, "size", 224)
    if not isinstance(size, int) or size < 1:
        raise ConfigError(f"a feature network's attribute size is a side in pixels, not {size!r}")
    return size
