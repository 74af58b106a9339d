"""Forwards in which a wrong rule would cut channels in silence."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gancompress.elastic import Supernet, channel_importance, sort_channels, trace

WIDTH = 16


class Awkward(nn.Module):
    """A convolution, what is tried, and a convolution.

    Args:
        tried: From the module, the first one's answer and the image to what the last one reads.
        more: Modules, parameters (True) and buffers (False) that it has besides.
    """

    def __init__(
        self,
        tried: Callable[[Any, Tensor, Tensor], Any],
        **more: nn.Module | tuple[Tensor, bool] | Tensor,
    ) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.b = nn.Conv2d(WIDTH, 3, 3, padding=1)
        for name, value in more.items():
            if isinstance(value, tuple):
                tensor, trained = value
                if trained:
                    setattr(self, name, nn.Parameter(tensor))
                else:
                    self.register_buffer(name, tensor)
            else:
                setattr(self, name, value)
        self.tried = tried

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(self.tried(self, self.a(x), x))
        return out


class Decides(nn.Module):
    """What `torch.fx` cannot follow."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x) if float(x.sum()) > -1e9 else x
        return out


def seeded(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


def point(channels_in: int = WIDTH, channels_out: int = WIDTH) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 1)


def two_with_one_weight() -> Any:
    module: Any = Awkward(lambda m, h, x: m.c(m.n(F.relu(m.m(h)))), m=point(), n=point(), c=point())
    module.n.weight = module.m.weight
    return module


def two_names_of_one() -> Awkward:
    layer = point()
    return Awkward(
        lambda m, h, x: F.relu(m.names[1](F.relu(m.m(h)))),
        m=layer, names=nn.ModuleList([layer, layer]),
    )  # fmt: skip


def within_what_is_not_followed() -> Any:
    module: Any = Awkward(
        lambda m, h, x: m.d(m.c(h)) + m.o(x).amax(1, keepdim=True), c=point(), d=point()
    )
    module.o = Decides(module.a)
    return module


def pooled(m: Any, h: Tensor, length: int | None) -> Any:
    small = F.adaptive_avg_pool2d(h, 4)
    flat = small.view(-1, 256) if length is None else small.view(h.shape[0], length)
    return h * m.e(m.l(flat))[:, :, None, None]


def cases() -> dict[str, Callable[[], Awkward]]:
    last = (0, 2, 3, 1)
    first = (0, 3, 1, 2)
    return {
        "a permutation of the channels": lambda: Awkward(
            lambda m, h, x: h[:, m.p], p=(torch.randperm(WIDTH), False)
        ),
        "some channels, then their mean": lambda: Awkward(
            lambda m, h, x: h + h[:, m.p].mean(1, keepdim=True), p=(torch.randperm(WIDTH), False)
        ),
        "bounds by channel": lambda: Awkward(
            lambda m, h, x: torch.clamp(h, min=m.low), low=(seeded(1, WIDTH, 1, 1), True)
        ),
        "mean over an axis": lambda: Awkward(
            lambda m, h, x: h * m.l(h.mean(axis=(2, 3)))[:, :, None, None],  # type: ignore[call-overload]
            l=nn.Linear(WIDTH, WIDTH),
        ),
        "concatenated along an axis": lambda: Awkward(
            lambda m, h, x: m.c(torch.cat([h, m.m(h)], axis=1)),  # type: ignore[call-arg]
            m=point(),
            c=point(2 * WIDTH),
        ),
        "channels last, padded": lambda: Awkward(
            lambda m, h, x: m.l(F.pad(h.permute(last), (0, 8))).permute(first),
            l=nn.Linear(WIDTH + 8, WIDTH),
        ),
        "channels last, pooled": lambda: Awkward(
            lambda m, h, x: m.l(F.avg_pool2d(h.permute(last), (1, 2))).permute(first),
            l=nn.Linear(WIDTH // 2, WIDTH),
        ),
        "channels last, pooled to the same length": lambda: Awkward(
            lambda m, h, x: F.avg_pool2d(h.permute(last), 3, 1, 1).permute(first)
        ),
        "a constant by channel": lambda: Awkward(lambda m, h, x: h * m.k, k=seeded(1, WIDTH, 1, 1)),
        "a ramp over the channels": lambda: Awkward(
            lambda m, h, x: h * torch.linspace(0, 1, WIDTH).view(1, -1, 1, 1)
        ),
        "a linear layer over the columns": lambda: Awkward(
            lambda m, h, x: m.l(h), l=nn.Linear(16, 16)
        ),
        "one weight of two layers": two_with_one_weight,
        "one layer of two names": two_names_of_one,
        "a layer of what is not followed": within_what_is_not_followed,
        "a kernel that is a buffer": lambda: Awkward(
            lambda m, h, x: F.conv2d(h, m.k, padding=1), k=(seeded(WIDTH, WIDTH, 3, 3), False)
        ),
        "a written length": lambda: Awkward(
            lambda m, h, x: pooled(m, h, 256), l=nn.Linear(256, 8), e=nn.Linear(8, WIDTH)
        ),
        "a written length, whatever the batch": lambda: Awkward(
            lambda m, h, x: pooled(m, h, None), l=nn.Linear(256, 8), e=nn.Linear(8, WIDTH)
        ),
    }


@pytest.fixture(params=cases())
def awkward(request: pytest.FixtureRequest) -> Awkward:
    torch.manual_seed(1)
    return cases()[request.param]().eval()


@torch.no_grad()
def test_every_subnet_is_exact(awkward: Awkward, rng: random.Random) -> None:
    x = seeded(2, 3, 16, 16)
    net = Supernet(awkward, torch.empty(1, 3, 16, 16), widths=(0.25, 0.5, 1.0), divisor=1).eval()
    space = net.space
    assert torch.equal(net.extract(space.largest()).eval()(x), awkward(x))
    for subnet in {space.smallest(), space.sample(rng), space.sample(rng)}:
        small = net.extract(subnet).eval()
        assert torch.equal(net(x, subnet), small(x))
        with FlopCounterMode(display=False) as counter:
            small(x[:1])
        assert net.macs(subnet, 16) * 2 == counter.get_total_flops()


@torch.no_grad()
def test_sorting_keeps_the_function(awkward: Awkward) -> None:
    x, before = seeded(2, 3, 16, 16), copy.deepcopy(awkward)
    traced = trace(awkward, (1, 3, 16, 16))
    sort_channels(awkward, traced, channel_importance(awkward, traced))
    assert torch.allclose(awkward(x), before(x), atol=1e-5)
