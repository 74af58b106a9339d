"""Layers that the generators and discriminators share."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from gancompress.tables import lookup

NormFactory = Callable[[int], nn.Module]

NORMS: dict[str, NormFactory] = {
    "instance": lambda channels: nn.InstanceNorm2d(channels),
    "batch": lambda channels: nn.BatchNorm2d(channels),
    "none": lambda channels: nn.Identity(),
}
PADDINGS: dict[str, Callable[[int], nn.Module | None]] = {
    "reflect": lambda width: nn.ReflectionPad2d(width),
    "replicate": lambda width: nn.ReplicationPad2d(width),
    "zero": lambda width: None,  # the convolution pads itself
}


def norm_factory(norm: str) -> NormFactory:
    """Constructor of a norm layer from its number of channels."""
    return lookup(NORMS, norm, "norm")


def needs_bias(norm: str) -> bool:
    """Whether convolutions before the norm carry a bias, as in pytorch-CycleGAN-and-pix2pix."""
    return norm == "instance"


def upsampling_layers(
    kind: str, channels_in: int, channels_out: int, kernel: int, bias: bool
) -> list[nn.Module]:
    """Layers that double height and width.

    Nearest-neighbour up-sampling and a convolution leave no checkerboard, where a transposed one
    does. Source: Odena et al., Deconvolution and Checkerboard Artifacts, Distill 2016.

    Args:
        kind: `transposed` or `nearest`.
        channels_in: Input channels.
        channels_out: Output channels.
        kernel: Side of the transposed convolution's kernel, 3 or 4; the other kind's is always 3.
        bias: Whether the convolution has one.
    """
    if kind == "transposed":
        extra = kernel % 2
        return [nn.ConvTranspose2d(channels_in, channels_out, kernel, 2, 1, extra, bias=bias)]
    conv = nn.Conv2d(channels_in, channels_out, 3, bias=bias)
    return [nn.Upsample(scale_factor=2), nn.ReflectionPad2d(1), conv]


class SeparableConv2d(nn.Module):
    """Depth-wise kxk, norm, point-wise 1x1; the layer and its names are gan-compression's.

    Source: Li et al., GAN Compression, CVPR 2020, section 3.3.

    Args:
        channels_in: Input channels.
        channels_out: Output channels.
        kernel: Side of the depth-wise kernel.
        padding: Zeros the depth-wise convolution adds on each side.
        norm: Entry of `NORMS` between the two.
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, padding: int, norm: str
    ) -> None:
        super().__init__()
        bias = needs_bias(norm)
        self.conv = nn.Sequential(
            nn.Conv2d(
                channels_in, channels_in, kernel, padding=padding, groups=channels_in, bias=bias
            ),
            norm_factory(norm)(channels_in),
            nn.Conv2d(channels_in, channels_out, 1, bias=bias),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, H, W)."""
        out: Tensor = self.conv(x)
        return out
