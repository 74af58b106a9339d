"""One contract for generators of the literature: subnets, costs and sorting are exact."""

from __future__ import annotations

import random

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from zoo import ZOO, AnimeGanV2

from gancompress.elastic import Supernet, channel_importance, sort_channels


@pytest.mark.parametrize("name", ZOO)
@torch.inference_mode()
def test_generator_of_the_literature_is_elastic(
    name: str, rng: random.Random, caplog: pytest.LogCaptureFixture
) -> None:
    make, share = ZOO[name]
    generator = make().eval().requires_grad_(False)
    x = torch.randn(2, 3, 32, 32)
    net = Supernet(generator, x[:1], widths=(0.25, 0.5, 1.0), divisor=1).eval()
    assert not [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    image = generator(x)
    assert torch.equal(net(x, net.space.largest()), image)
    for subnet in (net.space.smallest(), net.space.sample(rng)):
        small = net.extract(subnet)
        assert torch.equal(net(x, subnet), small(x))
        assert net.num_parameters(subnet) == sum(p.numel() for p in small.parameters())
        with FlopCounterMode(display=False) as counter:
            small(x[:1])
        assert net.macs(subnet, 32) == counter.get_total_flops() // 2
    kept = net.num_parameters(net.space.smallest()) / net.num_parameters(net.space.largest())
    assert kept <= share
    sort_channels(generator, net.traced, channel_importance(generator, net.traced))
    assert torch.allclose(generator(x), image, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("side", [32, 30])  # of the example; a quarter of 30 is no whole number
@torch.inference_mode()
def test_a_forward_that_decides_on_shapes_runs_at_less_resolution(side: int) -> None:
    x = torch.randn(1, 3, 32, 32)
    example = torch.zeros(1, 3, side, side)
    net = Supernet(AnimeGanV2(), example, widths=(1.0,), resolutions=(0.25, 0.5, 1.0)).eval()
    for percent in (25, 50):
        subnet = net.space.parse(f"{net.space.full()}".replace("_r100", f"_r{percent}"))
        assert torch.equal(net.extract(subnet)(x), net(x, subnet))
