"""PatchGAN discriminators with the module names of pytorch-CycleGAN-and-pix2pix."""

from __future__ import annotations

import re

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as spectrally_normalised
from torch.nn.utils.parametrize import is_parametrized

from gancompress.config import DiscriminatorOptions
from gancompress.models.blocks import needs_bias, norm_factory
from gancompress.models.family import DiscriminatorFamily, Tensors, infer_norm, kernel


def _normalise(convolutions: nn.Sequential) -> nn.Sequential:
    """Divide every kernel by its largest singular value, by one power iteration a step.

    Source: Miyato et al., Spectral Normalization for GANs, ICLR 2018.
    """
    for layer in convolutions:
        if isinstance(layer, nn.Conv2d):
            spectrally_normalised(layer)
    return convolutions


def stored_weight(layer: nn.Module) -> Tensor:
    """The weight that is trained: spectral norm computes the one that is used from it."""
    if is_parametrized(layer, "weight"):
        stored: Tensor = layer.get_parameter("parametrizations.weight.original")
        return stored
    return layer.get_parameter("weight")


class NLayerDiscriminator(nn.Module):
    """PatchGAN: 4x4 convolutions, `n_layers` of them with stride 2 (3 sees 70x70 pixels).

    Source: Isola et al., Image-to-Image Translation with Conditional Adversarial Networks,
    CVPR 2017, section 6.1.2.

    Args:
        input_nc: Channels of the judged image (input and output together for paired data).
        ndf: Width of the first layer.
        n_layers: Layers with stride 2.
        norm: Entry of `NORMS`.
        spectral_norm: Divide every kernel by its largest singular value.
    """

    def __init__(
        self, input_nc: int, ndf: int, n_layers: int, norm: str, spectral_norm: bool = False
    ) -> None:
        super().__init__()
        bias = needs_bias(norm) or spectral_norm
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
        model = nn.Sequential(*layers)
        self.model = _normalise(model) if spectral_norm else model

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
        spectral_norm: Divide every kernel by its largest singular value.
    """

    def __init__(self, input_nc: int, ndf: int, norm: str, spectral_norm: bool = False) -> None:
        super().__init__()
        bias = needs_bias(norm) or spectral_norm
        net = nn.Sequential(
            nn.Conv2d(input_nc, ndf, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(ndf, 2 * ndf, 1, bias=bias),
            norm_factory(norm)(2 * ndf),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * ndf, 1, 1, bias=bias),
        )
        self.net = _normalise(net) if spectral_norm else net

    def forward(self, x: Tensor) -> Tensor:
        """(N, input_nc, H, W) -> (N, 1, H, W) unbounded scores."""
        out: Tensor = self.net(x)
        return out


def _infer_n_layers(tensors: Tensors) -> tuple[DiscriminatorOptions, int] | None:
    names = [
        n for n, t in tensors.items() if re.fullmatch(r"model\.\d+\.weight", n) and t.ndim == 4
    ]
    if "model.0.weight" not in tensors or len(names) < 3:
        return None
    first = kernel(tensors, "model.0.weight")
    norm = infer_norm(tensors, "model.3", "model.2")
    layers = len(names) - 2
    options = DiscriminatorOptions(name="n_layers", ndf=first.shape[0], n_layers=layers, norm=norm)
    return options, first.shape[1]


def _infer_pixel(tensors: Tensors) -> tuple[DiscriminatorOptions, int] | None:
    if "net.0.weight" not in tensors:
        return None
    first = kernel(tensors, "net.0.weight")
    norm = infer_norm(tensors, "net.3", "net.2")
    return DiscriminatorOptions(name="pixel", ndf=first.shape[0], norm=norm), first.shape[1]


N_LAYERS = DiscriminatorFamily(
    module=NLayerDiscriminator,
    build=lambda o, input_nc: NLayerDiscriminator(
        input_nc, o.ndf, o.n_layers, o.norm, o.spectral_norm
    ),
    takes=frozenset({"n_layers", "norm", "spectral_norm"}),
    infer=_infer_n_layers,
)
PIXEL = DiscriminatorFamily(
    module=PixelDiscriminator,
    build=lambda o, input_nc: PixelDiscriminator(input_nc, o.ndf, o.norm, o.spectral_norm),
    takes=frozenset({"norm", "spectral_norm"}),
    infer=_infer_pixel,
)
