"""PatchGAN discriminators with the module names of pytorch-CycleGAN-and-pix2pix."""

from __future__ import annotations

from torch import Tensor, nn

from gancompress.models.blocks import needs_bias, norm_factory


class NLayerDiscriminator(nn.Module):
    """PatchGAN: 4x4 convolutions, `n_layers` of them with stride 2 (3 sees 70x70 pixels).

    Source: Isola et al., Image-to-Image Translation with Conditional Adversarial Networks,
    CVPR 2017, section 6.1.2.

    Args:
        input_nc: Channels of the judged image (input and output together for paired data).
        ndf: Width of the first layer.
        n_layers: Layers with stride 2.
        norm: Entry of `NORMS`.
    """

    def __init__(self, input_nc: int, ndf: int, n_layers: int, norm: str) -> None:
        super().__init__()
        bias = needs_bias(norm)
        layers: list[nn.Module] = [nn.Conv2d(input_nc, ndf, 4, stride=2, padding=1)]
        layers.append(nn.LeakyReLU(0.2))
        width = ndf
        for n in range(1, n_layers + 1):
            wider = ndf * min(2**n, 8)
            stride = 2 if n < n_layers else 1
            conv = nn.Conv2d(width, wider, 4, stride=stride, padding=1, bias=bias)
            layers += [conv, norm_factory(norm)(wider), nn.LeakyReLU(0.2)]
            width = wider
        layers.append(nn.Conv2d(width, 1, 4, stride=1, padding=1))
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, input_nc, H, W) -> (N, 1, H', W') unbounded scores, one per patch."""
        out: Tensor = self.model(x)
        return out


class PixelDiscriminator(nn.Module):
    """PatchGAN of 1x1 convolutions: judges every pixel by itself.

    Args:
        input_nc: Channels of the judged image.
        ndf: Width of the first layer.
        norm: Entry of `NORMS`.
    """

    def __init__(self, input_nc: int, ndf: int, norm: str) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(input_nc, ndf, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(ndf, 2 * ndf, 1, bias=needs_bias(norm)),
            norm_factory(norm)(2 * ndf),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * ndf, 1, 1, bias=needs_bias(norm)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, input_nc, H, W) -> (N, 1, H, W) unbounded scores."""
        out: Tensor = self.net(x)
        return out
