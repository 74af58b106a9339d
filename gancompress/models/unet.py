"""The U-Net generator of pix2pix."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from gancompress.config import GeneratorOptions
from gancompress.errors import CheckpointError, ConfigError
from gancompress.models.blocks import needs_bias, norm_factory, upsampling_layers
from gancompress.models.family import Family, Tensors, infer_norm, kernel


class UnetSkipConnectionBlock(nn.Module):
    """One level of the U: down, whatever lies below, up; the input is concatenated to the output.

    Args:
        outer_nc: Channels of the input from the level above, and of what goes back to it.
        inner_nc: Channels of the level below.
        submodule: The level below, or None for the innermost.
        input_nc: Channels of the image where this is the outermost level.
        norm: Entry of `NORMS`.
        dropout: Probability after the up-sampling, or None.
        upsampling: See `upsampling_layers`.
    """

    def __init__(
        self,
        outer_nc: int,
        inner_nc: int,
        submodule: nn.Module | None,
        input_nc: int | None = None,
        norm: str = "batch",
        dropout: float | None = None,
        upsampling: str = "transposed",
    ) -> None:
        super().__init__()
        self.outermost = input_nc is not None
        bias, make_norm = needs_bias(norm), norm_factory(norm)
        down = nn.Conv2d(input_nc or outer_nc, inner_nc, 4, stride=2, padding=1, bias=bias)
        below = inner_nc if submodule is None else 2 * inner_nc
        up = upsampling_layers(upsampling, below, outer_nc, 4, bias or self.outermost)
        layers: list[nn.Module] = [down] if self.outermost else [nn.LeakyReLU(0.2), down]
        if submodule is not None:
            layers += [submodule] if self.outermost else [make_norm(inner_nc), submodule]
        layers += [nn.ReLU(), *up]
        layers.append(nn.Tanh() if self.outermost else make_norm(outer_nc))
        if dropout is not None and not self.outermost:
            layers.append(nn.Dropout(dropout))
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, outer_nc, H, W) -> (N, 2 * outer_nc, H, W); the outermost gives the image."""
        out: Tensor = self.model(x)
        # pix2pix concatenates x after its in-place LeakyReLU; the ReLU that follows undoes it
        return out if self.outermost else torch.cat([x, out], 1)


class UnetGenerator(nn.Module):
    """Encoder and decoder with skip connections at every level.

    Module names are those of pytorch-CycleGAN-and-pix2pix (`model.model.1.model.1.weight`).

    Args:
        input_nc: Channels of the input image.
        output_nc: Channels of the output image.
        num_downs: Down-samplings by two; 8 makes a 256x256 image a single point.
        ngf: Width of the outermost level; inner levels are at most eight times as wide.
        norm: Entry of `NORMS`.
        dropout: Probability in the inner levels, or None.
        upsampling: See `upsampling_layers`.
    """

    def __init__(
        self,
        input_nc: int,
        output_nc: int,
        num_downs: int,
        ngf: int,
        norm: str = "batch",
        dropout: float | None = None,
        upsampling: str = "transposed",
    ) -> None:
        super().__init__()
        if num_downs < 5:
            raise ConfigError(f"a U-Net generator has at least 5 down-samplings, not {num_downs}")
        level = partial(UnetSkipConnectionBlock, norm=norm, upsampling=upsampling)
        block = level(8 * ngf, 8 * ngf, None)
        for _ in range(num_downs - 5):
            block = level(8 * ngf, 8 * ngf, block, dropout=dropout)
        for width in (4 * ngf, 2 * ngf, ngf):
            block = level(width, 2 * width, block)
        self.model = level(output_nc, ngf, block, input_nc=input_nc)

    def forward(self, x: Tensor) -> Tensor:
        """(N, input_nc, H, W) -> (N, output_nc, H, W) in [-1, 1]; 2^num_downs divides H and W."""
        out: Tensor = self.model(x)
        return out


def _infer(tensors: Tensors) -> GeneratorOptions | None:
    if "model.model.0.weight" not in tensors:
        return None
    num_downs = max(name.count(".model.") for name in tensors)
    if not 5 <= num_downs <= 10:
        raise CheckpointError(f"a U-Net of {num_downs} levels; 5 to 10 are known")
    first = kernel(tensors, "model.model.0.weight")
    nearest = "model.model.5.weight" in tensors
    last = kernel(tensors, f"model.model.{5 if nearest else 3}.weight")
    return GeneratorOptions(
        name=f"unet_{2**num_downs}",
        input_nc=first.shape[1],
        output_nc=last.shape[0 if nearest else 1],
        ngf=first.shape[0],
        norm=infer_norm(tensors, "model.model.1.model.2", "model.model.1.model.1"),
        upsampling="nearest" if nearest else "transposed",
    )


def _build(options: GeneratorOptions, num_downs: int) -> nn.Module:
    return UnetGenerator(
        *options.channels,
        num_downs,
        options.ngf,
        options.norm,
        options.dropout,
        options.upsampling,
    )


def unet(num_downs: int) -> Family:
    """The family of so many down-samplings by two."""
    return Family(
        module=UnetGenerator,
        build=partial(_build, num_downs=num_downs),
        takes=frozenset({"norm", "upsampling", "dropout"}),
        stride=2**num_downs,
        infer=_infer,
    )
