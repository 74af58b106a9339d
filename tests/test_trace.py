"""Generators that the package has never seen become elastic, in whole or in part."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers import existing
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm
from torch.utils.flop_counter import FlopCounterMode

from gancompress.checkpoint.network import load_network
from gancompress.data import list_images, read_image, to_float, to_tensor
from gancompress.elastic import Group, Parts, Supernet, Traced, trace
from gancompress.elastic.parts import Blocks
from gancompress.errors import SpaceError, TraceError
from options.cartoon.generator import CartoonGenerator, ScaleShiftNorm

CARTOON = "options.cartoon.generator:build"
NUM_SUBNETS = 10
SHAPE = (1, 3, 32, 32)


def conv(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2)


class Functional(nn.Module):
    """Functions instead of layers, a concatenation, a norm out of arithmetic, means as features."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = conv(3, 8), conv(8, 12), conv(20, 16)
        self.norm = ScaleShiftNorm(8)
        self.last = conv(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.norm(self.one(x)))
        second = F.leaky_relu(self.two(F.pad(first, (1, 1, 1, 1), mode="reflect")), 0.2)
        second = F.interpolate(second, scale_factor=0.5)[:, :, :16, :16]
        second = F.interpolate(second, size=first.shape[2:])
        joined = torch.cat([first, second], dim=1)
        out = self.three(joined - joined.mean(dim=(2, 3), keepdim=True))
        return torch.tanh(self.last(out))


class OwnNorm(nn.Module):
    """A norm that notes its width, with a constant that is no buffer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.num_features = channels
        self.bias = nn.Parameter(torch.randn(channels, 1, 1))
        self.gain = nn.Parameter(torch.randn(channels))
        self.constant = torch.tensor(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain.reshape(-1, 1, 1) + self.bias * self.constant


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 8), OwnNorm(8), nn.ReLU(), conv(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class SqueezeExcite(nn.Module):
    """Channels weighted by a small network over their means."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = conv(3, 16), conv(16, 3)
        self.shrink, self.grow = nn.Linear(16, 6), nn.Linear(6, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        means = x.mean((2, 3))
        gate = torch.sigmoid(self.grow(F.relu(self.shrink(means))))
        return self.last(x * gate.unsqueeze(-1).unsqueeze(-1))


class ConvSqueezeExcite(nn.Module):
    """The same with 1x1 convolutions over pooled features."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = conv(3, 16), conv(16, 3)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 4, 1), nn.SiLU(), nn.Conv2d(4, 16, 1),
            nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(x.mul(self.gate(x)))


class Positional(nn.Module):
    """A learned value for every channel and position, and a fixed one for every position."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = conv(3, 12), conv(12, 3)
        self.position = nn.Parameter(torch.randn(1, 12, 32, 32))
        self.channel = nn.Parameter(torch.randn(12, 1, 1))
        self.register_buffer("ramp", torch.linspace(-1, 1, 32))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x) + self.position * 0.5
        return self.last(F.gelu(x * self.channel + self.ramp))


class EqualisedConv(nn.Module):
    """A convolution whose weight is scaled at every call."""

    def __init__(self, channels_in: int, channels_out: int, transposed: bool = False) -> None:
        super().__init__()
        outer = (channels_in, channels_out) if transposed else (channels_out, channels_in)
        self.weight = nn.Parameter(torch.randn(*outer, 3, 3))
        self.bias = nn.Parameter(torch.randn(channels_out))
        self.scale = (channels_in * 9) ** -0.5
        self.transposed = transposed

    def forward(self, x: Tensor) -> Tensor:
        if self.transposed:
            return F.conv_transpose2d(x, self.weight * self.scale, self.bias, stride=2, padding=1)
        return F.conv2d(x, self.weight * self.scale, bias=self.bias, padding=1)


class EqualisedRate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = EqualisedConv(3, 8), EqualisedConv(8, 16, transposed=True)
        self.three = EqualisedConv(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.three(torch.tanh(self.two(F.relu(self.one(x)))))


class FlippedInput(nn.Module):
    """RGB in, BGR inside."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x[:, [2, 1, 0]]).flip(1) + x[:, :1]


class Shuffled(nn.Module):
    """Sub-pixel up-sampling: four channels become one."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(3, 8, stride=2), nn.ReLU(), conv(8, 16), nn.PixelShuffle(2), conv(4, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class OtherNorms(nn.Module):
    """Group norm over everything and in groups, PReLU, affine instance norm, batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(3, 8), nn.GroupNorm(1, 8), nn.PReLU(8), conv(8, 12), nn.PReLU(),
            nn.InstanceNorm2d(12, affine=True, track_running_stats=True), conv(12, 16),
            nn.GroupNorm(4, 16), nn.ELU(), conv(16, 8), nn.BatchNorm2d(8), conv(8, 3), nn.Tanh(),
        )  # fmt: skip
        with torch.no_grad():
            for parameter in self.body.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class SharedTwice(nn.Module):
    """One convolution called at two places ties what goes into it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.side, self.common, self.last = (
            conv(3, 8), conv(8, 8), conv(8, 12), conv(12, 3),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(self.common(x) - F.relu(self.common(F.relu(self.side(x)))))


class Sliced(nn.Module):
    """Slices over positions leave channels alone; a slice over channels keeps them all."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide, self.last = conv(3, 8), conv(8, 16), conv(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)[:, :, ::2, 1:-1]
        wide = self.wide(x)
        return self.last(wide[:, :8] * torch.sigmoid(wide[:, 8:]))


class Segments(nn.Module):
    """A residual add of 8 + 8 and 4 + 12 channels, next to one of 8 + 8 and 8 + 8."""

    def __init__(self) -> None:
        super().__init__()
        widths = {"a": 8, "b": 8, "c": 4, "d": 12, "e": 8, "f": 8, "g": 8, "h": 8}
        self.branch = nn.ModuleDict({name: conv(3, width) for name, width in widths.items()})
        self.last = conv(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        a, b, c, d, e, f, g, h = (self.branch[name](x) for name in "abcdefgh")
        uneven = torch.cat([a, b], 1) + torch.cat([c, d], 1)
        even = torch.cat([e, f], 1) + torch.cat([g, h], 1)
        return self.last(torch.cat([uneven, even], 1))


class Separable(nn.Module):
    """Depth-wise convolutions: first on the image, then on channels, with reflected borders."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 3, 3, padding=1, groups=3), nn.Conv2d(3, 8, 1), nn.InstanceNorm2d(8),
            nn.Conv2d(8, 8, 5, padding=2, groups=8, padding_mode="reflect"), nn.Hardswish(),
            nn.Conv2d(8, 3, 1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Tokens(nn.Module):
    """Positions as a sequence, a linear layer on channels, and back, by sizes read at run time."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix, self.last = conv(3, 8), nn.Linear(8, 12), conv(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        n, _, h, w = x.shape
        mixed = F.gelu(self.mix(x.flatten(2).transpose(1, 2)))
        return self.last(mixed.transpose(1, 2).reshape(n, -1, h, w))


class ConstantView(nn.Module):
    """A width written as a number in a view."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = conv(3, 8), conv(8, 3)
        self.scale = nn.Parameter(torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.stem(x) * self.scale.view(1, 8, 1, 1))


class Subclassed(nn.Module):
    """A convolution of one's own class, which is traced through."""

    class Conv(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) * 0.5

    def __init__(self) -> None:
        super().__init__()
        self.stem = self.Conv(3, 8, 3, padding=1, padding_mode="reflect")
        self.last = self.Conv(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.stem(x).clamp(-1, 1))


class Form(nn.Module):
    """A function between two convolutions, with an argument that has a default."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.stem, self.last, self.function = conv(3, 16), conv(16, 3), function

    def forward(self, x: Tensor, gain: float = 2.0, *, layers: tuple[str, ...] = ()) -> Tensor:
        y = self.stem(x) if len(layers) == 0 else x
        return self.last(self.function(y)) * gain


def pad_where_needed(x: Tensor) -> Tensor:
    h, w = x.shape[-2:]
    if h % 3 or w % 3:
        x = F.pad(x, (0, -w % 3, 0, -h % 3), mode="reflect")
    return x[:, :, :h, :w]


def pad_where_odd(x: Tensor) -> Tensor:
    assert x.dim() == 4, "images"
    return F.pad(x, (0, 1)) if x.shape[3] % 2 == 1 else x


def resize_where_different(x: Tensor) -> Tensor:
    y = F.avg_pool2d(x, 3)
    return F.interpolate(y, size=x.shape[2:]) if y.shape[2:] != x.shape[2:] else y


def add_noise(x: Tensor) -> Tensor:
    return x + 0 * torch.randn(x.size(0), 1, x.size(2), x.size(3), device=x.device)


def decide_on_width(x: Tensor) -> Tensor:
    return x * 2 if x.shape[1] == 16 else x


def join_mapped(x: Tensor) -> Tensor:
    return torch.cat([torch.relu(part) for part in x.chunk(4, dim=1)], dim=1)


# how many channel groups a convolution before each has, and whether that is one of 16
FORMS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "chunks reversed": (lambda x: torch.cat(x.chunk(2, dim=1)[::-1], 1), 1),
    "split whole": (lambda x: torch.cat(torch.split(x, 4, dim=1), dim=1), 0),
    "chunks unpacked": (lambda x: (lambda p: torch.cat([p[1], p[0]], 1))(x.chunk(2, 1)), 1),
    "chunks over positions": (lambda x: torch.cat(x.chunk(2, dim=2)[::-1], 2), 1),
    "chunks one by one": (join_mapped, 1),
    "split by width": (lambda x: torch.cat(x.split(x.shape[1] // 2, 1)[::-1], 1), 1),
    "uneven": (lambda x: torch.cat(x.split([4, 12], 1)[::-1], 1), 0),
    "pad where needed": (pad_where_needed, 1),
    "pad where odd": (pad_where_odd, 1),
    "resize where different": (resize_where_different, 1),
    "noise": (add_noise, 1),
    "decision on a width": (decide_on_width, 0),
}


@pytest.mark.parametrize("form", FORMS)
def test_form_of_a_forward_is_followed(form: str, rng: random.Random) -> None:
    function, groups = FORMS[form]
    net = make_supernet(Form(function))
    assert len(net.traced.groups) == groups
    assert_elastic(net, rng)


# how many channel groups each has
FOREIGN: dict[Callable[[], nn.Module], int] = {
    Functional: 3,
    Normed: 1,
    SqueezeExcite: 2,
    ConvSqueezeExcite: 2,
    Positional: 1,
    EqualisedRate: 2,
    FlippedInput: 1,
    Shuffled: 2,
    OtherNorms: 4,
    SharedTwice: 2,
    Sliced: 1,
    Segments: 5,
    Separable: 1,
    Tokens: 2,
    ConstantView: 0,
    Subclassed: 1,
}


def make_supernet(generator: nn.Module) -> Supernet:
    widths = (0.1, 0.25, 0.5, 0.75, 1.0)
    return Supernet(generator.eval(), torch.empty(SHAPE), widths, divisor=1).eval()


@torch.inference_mode()
def assert_elastic(net: Supernet, rng: random.Random) -> None:
    x = torch.randn(2, *SHAPE[1:])
    net.generator.requires_grad_(False)  # torch.matmul chooses its kernel by requires_grad
    assert torch.equal(net(x, net.space.largest()), net.generator(x))
    for subnet in [net.space.smallest(), *(net.space.sample(rng) for _ in range(NUM_SUBNETS))]:
        small = net.extract(subnet)
        assert torch.equal(net(x, subnet), small(x)), subnet
        assert net.num_parameters(subnet) == sum(p.numel() for p in small.parameters())


@pytest.mark.parametrize("make", FOREIGN, ids=lambda make: make.__name__)
def test_foreign_generator_becomes_elastic(
    make: Callable[[], nn.Module], rng: random.Random
) -> None:
    net = make_supernet(make())
    assert len(net.traced.groups) == FOREIGN[make]
    assert_elastic(net, rng)


def names(traced: Traced, parameter: str) -> tuple[tuple[str | int, ...] | None, ...]:
    """What every dimension of a parameter is made of: groups by name, or fixed channels."""
    return tuple(
        dim and tuple(s if isinstance(s, int) else s.name for s in dim.segments)
        for dim in traced.parameters[parameter]
    )


def test_addition_of_equal_segments_ties_them_one_by_one() -> None:
    traced = trace(Segments(), SHAPE)
    groups = ["branch.a", "branch.a#2", "branch.b", "branch.e", "branch.f"]
    assert [group.name for group in traced.groups] == groups
    assert names(traced, "branch.g.weight")[0] == ("branch.e",)
    assert names(traced, "branch.c.weight")[0] == ("branch.a",)
    assert names(traced, "branch.d.weight")[0] == ("branch.a#2", "branch.b")
    assert traced.parameters["last.weight"][1] == Parts(traced.groups)


def test_sub_pixel_convolution_narrows_by_four_channels() -> None:
    traced = trace(Shuffled(), SHAPE)
    assert traced.groups == (Group("body.0", 8), Group("body.2", 4, unit=4))
    assert traced.parameters["body.2.weight"][0] == Parts((Blocks(traced.groups[1], 4),))
    assert names(traced, "body.4.weight")[1] == ("body.2",)


def test_layer_called_twice_ties_its_inputs() -> None:
    traced = trace(SharedTwice(), SHAPE)
    assert [group.name for group in traced.groups] == ["stem", "common"]
    assert names(traced, "side.weight")[:2] == (("stem",), ("stem",))


# ------------------------------------------------------- kept at full width, or refused


def between(layer: nn.Module) -> nn.Module:
    return nn.Sequential(conv(3, 8), layer, conv(8, 8), conv(8, 3))


class Decides(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.mean() > 0 else -x


class Accumulates(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cumsum(x, dim=1)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(8, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        rows, _ = self.rnn(x[:, :, :8].mean(3).transpose(1, 2))
        return x + rows.mean(1)[:, :, None, None]


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        rows = x.flatten(2).transpose(1, 2)
        return self.attention(rows, rows, rows)[0].transpose(1, 2).reshape(n, -1, h, w)


class Sorts(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        values, _ = x.sort(dim=1)
        return values


class Einsum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nchw,ndhw->ncd", x, x).softmax(1).mean((1, 2))[:, None, None, None] * x


class Samples(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.grid_sample(x, torch.zeros(x.shape[0], 4, 4, 2), align_corners=False)


KEPT: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "decision on values": (Decides, "1 (Decides)"),
    "cumulative sum": (Accumulates, "1 (cumsum)"),
    "sort": (Sorts, "1 (sort)"),
    "einsum": (Einsum, "1 (einsum)"),
    "grid": (Samples, "1 (grid_sample)"),
    "LSTM": (Recurrent, "1.rnn (LSTM)"),
    "attention": (Attends, "1.attention (MultiheadAttention)"),
}


@pytest.mark.parametrize("case", KEPT)
def test_unknown_operation_keeps_its_width_and_is_named(
    case: str, rng: random.Random, caplog: pytest.LogCaptureFixture
) -> None:
    make, named = KEPT[case]
    net = make_supernet(between(make()))
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [
        f"kept at full width, no rule follows channels through them: {named}"
    ]
    assert [group.name for group in net.traced.groups] == ["2"]
    assert_elastic(net, rng)
    with FlopCounterMode(display=False) as counter:
        net.generator(torch.zeros(SHAPE))
    assert net.macs(net.space.largest(), 32) == counter.get_total_flops() // 2


def test_named_parts_keep_their_width(rng: random.Random) -> None:
    generator = nn.Sequential(conv(3, 8), nn.Sequential(conv(8, 8), conv(8, 8)), conv(8, 3)).eval()
    x = torch.empty(SHAPE)
    assert len(Supernet(generator, x, divisor=1).space) == 3
    net = Supernet(generator, x, divisor=1, keep=("1.1",)).eval()
    assert [dimension.members for dimension in net.space.dimensions] == [("0",)]
    assert_elastic(net, rng)
    with pytest.raises(SpaceError, match=r"no part '1\.7' with parameters"):
        Supernet(generator, x, keep=("1.7",))


def old_spectral_norm() -> nn.Module:
    return between(spectral_norm(conv(8, 8)))


def old_weight_norm() -> nn.Module:
    with pytest.warns(FutureWarning):
        return between(weight_norm(conv(8, 8)))


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "decision on values": (Decides, r"cannot trace Decides: .*control flow"),
    "spectral norm": (
        lambda: between(parametrizations.spectral_norm(conv(8, 8))),
        r"^1 \(.*Conv2d\) computes its weight by a parametrization",
    ),
    "old spectral norm": (old_spectral_norm, r"^1 \(Conv2d\) computes its weight"),
    "weight norm": (
        lambda: between(parametrizations.weight_norm(conv(8, 8))),
        r"^1 \(.*Conv2d\) computes its weight",
    ),
    "old weight norm": (old_weight_norm, r"^1 \(Conv2d\) computes its weight"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_followed_is_refused_by_name(case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(TraceError, match=message):
        trace(make(), SHAPE)


def test_example_that_the_generator_cannot_take_is_refused() -> None:
    with pytest.raises(TraceError, match=r"cannot take an input of shape \(2, 4, 32, 32\)"):
        trace(between(nn.ReLU()), (1, 4, 32, 32))


# -------------------------------------------------------------- a published foreign network


def test_cartoon_generator_becomes_elastic(rng: random.Random) -> None:
    generator = CartoonGenerator(width=8, blocks=3)
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.startswith("in"):
                parameter.add_(torch.randn_like(parameter) * 0.2)
    net = make_supernet(generator)
    expected = ["conv01_1", "conv02_1", "conv02_2", "conv03_1", "conv03_2"]
    expected += [f"conv{block}_1" for block in ("04", "05", "06")]
    expected += ["deconv01_1", "deconv01_2", "deconv02_1", "deconv02_2"]
    assert [group.name for group in net.traced.groups] == expected
    assert names(net.traced, "in05_2.scale") == (("conv03_2",),)
    assert names(net.traced, "deconv01_1.weight")[:2] == (("conv03_2",), ("deconv01_1",))
    assert_elastic(net, rng)


@torch.inference_mode()
def test_published_cartoon_weights_draw_a_photo(shared: Path) -> None:
    weights = existing(shared / "weights" / "cartoongan_hayao_net_G.pth")
    photos = list_images(existing(shared / "data" / "horse2zebra" / "testA"))
    network = load_network(weights, factory=CARTOON)
    assert sum(p.numel() for p in network.module.parameters()) == 11_129_667
    assert network.description == {"module": CARTOON}
    assert all(p.dtype == torch.float32 for p in network.module.parameters())
    photo = to_float(to_tensor(read_image(photos[1]).resize((96, 96)))[None])
    drawing = network.module(photo)
    assert drawing.shape == photo.shape
    assert drawing.abs().max() <= 1
    assert drawing.std() > 0.2
    pairs = torch.stack([drawing.mean(1).flatten(), photo.mean(1).flatten()])
    assert torch.corrcoef(pairs)[0, 1] > 0.6  # still the same scene
