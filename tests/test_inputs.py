"""Generators of several inputs, and of arguments that nobody passes."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gancompress import Supernet
from gancompress.elastic import NetworkCosts
from gancompress.errors import TraceError
from gancompress.export import onnx_model
from gancompress.models.munit import STYLE_DIM, MunitGenerator, MunitWidths
from gancompress.runtimes.onnx import open_session


class Styled(nn.Module):
    """An image, an edge map of half its size and a style that scales channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.edges = nn.Conv2d(1, 16, 3, padding=1)
        self.scales = nn.Linear(8, 16)
        self.inner = nn.Conv2d(16, 24, 3, padding=1)
        self.last = nn.ConvTranspose2d(24, 3, 4, 2, 1)

    def forward(self, image: Tensor, style: Tensor, edges: Tensor, bias: float = 0.0) -> Tensor:
        x = F.relu(self.first(image) + self.edges(edges))
        x = x * self.scales(style)[:, :, None, None] + bias
        return torch.tanh(self.last(F.relu(self.inner(x))))


def inputs(count: int = 1, height: int = 16, width: int = 16) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return {
        "style": torch.randn(count, 8, generator=draw),  # in another order than the arguments
        "image": torch.rand(count, 3, height, width, generator=draw) * 2 - 1,
        "edges": torch.rand(count, 1, height // 2, width // 2, generator=draw),
    }


@pytest.fixture
def net() -> Supernet:
    return Supernet(Styled(), inputs(), widths=(0.5, 1.0), divisor=4).eval()


def test_subnets_of_several_inputs_are_exact(net: Supernet, rng: random.Random) -> None:
    assert [group.name for group in net.traced.groups] == ["inner"]  # scales are as wide as first
    given = inputs(3)
    for subnet in (net.space.smallest(), net.space.sample(rng), net.space.largest()):
        small = net.extract(subnet)
        torch.testing.assert_close(net(given, subnet), small(**given), rtol=0, atol=1e-6)
    assert torch.equal(net(given, net.space.largest()), net.generator(**given))


def test_features_of_several_inputs(net: Supernet) -> None:
    subnet = net.space.smallest()
    image, found = net.with_features(inputs(), subnet, ["inner"])
    assert torch.equal(image, net(inputs(), subnet))
    assert found["inner"].shape == (1, 12, 8, 8)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (32, 64)])
def test_costs_of_several_inputs_are_torch_s(net: Supernet, height: int, width: int) -> None:
    for subnet in net.space:
        small = net.extract(subnet)
        with FlopCounterMode(display=False) as counter:
            small(**inputs(1, height, width))
        macs = counter.get_total_flops() / 2
        assert net.macs(subnet, (height, width)) == macs
        shapes = {name: tuple(tensor.shape) for name, tensor in inputs().items()}
        assert NetworkCosts(small, shapes).macs((height, width)) == macs


def test_onnx_graph_has_the_inputs_by_name(net: Supernet) -> None:
    small = net.extract(net.space.smallest())
    shapes = {name: tuple(tensor.shape) for name, tensor in inputs().items()}
    session = open_session(onnx_model(small, shapes, 2, {}).SerializeToString())
    assert [value.name for value in session.get_inputs()] == ["image", "style", "edges"]
    for given in (inputs(1, 32, 32), inputs(3, 16, 48)):
        (found,) = session.run(None, {name: tensor.numpy() for name, tensor in given.items()})
        with torch.inference_mode():
            expected = small(**given).numpy()
        assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["image", "edges"], r"Styled needs 'style' as well\n.*{'image': ..., 'style': ...}"),
        (["image", "style", "edges", "mask"], "no argument 'mask'; it has image, style, edges"),
    ],
)
def test_inputs_are_those_of_the_forward(names: list[str], message: str) -> None:
    given = {**inputs(), "mask": torch.zeros(1, 1, 16, 16)}
    with pytest.raises(TraceError, match=message):
        Supernet(Styled(), {name: given[name] for name in names})


def test_one_image_is_no_input_of_two() -> None:
    with pytest.raises(TraceError, match="Styled needs 'style' as well"):
        Supernet(Styled(), torch.zeros(1, 3, 16, 16))


def test_munit_with_a_style_of_its_own_is_elastic(rng: random.Random) -> None:
    generator = MunitGenerator(MunitWidths.of(4, n_blocks=1), separable=True).eval()
    given = {"x": torch.rand(1, 3, 16, 16) * 2 - 1, "style": torch.randn(1, STYLE_DIM, 1, 1)}
    net = Supernet(generator, given, widths=(0.5, 1.0), divisor=1).eval()
    subnet = net.space.sample(rng)
    small = net.extract(subnet)
    torch.testing.assert_close(net(given, subnet), small(**given), rtol=0, atol=1e-6)
    alone = NetworkCosts(generator, (1, 3, 16, 16))
    assert net.macs(net.space.largest(), 16) < alone.macs(16)  # without the style encoder


class _Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 3, 1)


class Flag(_Base):
    def forward(self, x: Tensor, smooth: bool = True) -> Tensor:
        y = torch.relu(self.a(x))
        out: Tensor = self.c(torch.relu(self.b(y)) if smooth else y)
        return out


class Taps(_Base):
    def forward(self, x: Tensor, taps: tuple[int, ...] = (), encode_only: bool = False) -> Tensor:
        y: Tensor = self.a(x)
        return y if len(taps) > 0 else self.c(torch.relu(self.b(y)))


class Mask(_Base):
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        y = torch.relu(self.b(self.a(x)))
        out: Tensor = self.c(y if mask is None else y * mask)
        return out


class Keyword(_Base):
    def forward(self, x: Tensor, *, half: bool = False) -> Tensor:
        y = torch.relu(self.b(self.a(x)))
        out: Tensor = self.c(y) / 2 if half else self.c(y)
        return out


@pytest.mark.parametrize("kind", [Flag, Taps, Mask, Keyword])
def test_arguments_that_nobody_passes_keep_their_default(kind: type[nn.Module]) -> None:
    generator, x = kind().eval(), torch.randn(2, 3, 8, 8)
    net = Supernet(generator, x[:1], widths=(0.5, 1.0), divisor=4).eval()
    assert len(net.traced.groups) == 2
    subnet = net.space.smallest()
    torch.testing.assert_close(net(x, subnet), net.extract(subnet)(x), rtol=0, atol=1e-6)
    assert torch.equal(net(x, net.space.largest()), generator(x))


def test_argument_with_a_default_may_be_an_input() -> None:
    generator = Mask().eval()
    given = {"x": torch.randn(1, 3, 8, 8), "mask": torch.rand(1, 1, 8, 8)}
    net = Supernet(generator, given, widths=(0.5, 1.0), divisor=4).eval()
    assert torch.equal(net(given, net.space.largest()), generator(**given))
    assert not torch.equal(net(given, net.space.largest()), generator(given["x"]))
