"""Elastic resolution: the generator at a share of the image's sides."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import picture
from test_depth import RGB, SIDE, make
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gancompress.checkpoint.models import load_model
from gancompress.checkpoint.network import (
    build_network,
    describe_space,
    describe_subnet,
    load_network,
    load_supernet,
    read_space,
    save_network,
)
from gancompress.config import GeneratorOptions
from gancompress.elastic import Supernet, stride_at
from gancompress.errors import CheckpointError, SpaceError
from gancompress.export import export_network
from gancompress.models import build_generator, init_weights
from gancompress.training.networks import SubnetView, WholeView

SHARES = (0.5, 0.75, 1.0)


def supernet(name: str) -> Supernet:
    torch.manual_seed(0)
    x = torch.empty(1, 3, SIDE, SIDE)
    return Supernet(
        make(name), x, (0.5, 1.0), 1, depths=(0.5, 1.0), kernels=(1, 2, 3), resolutions=SHARES
    ).eval()


@pytest.mark.parametrize("name", ["resnet_6blocks", "unet_64", "awkward"])
@torch.no_grad()
def test_a_subnet_of_less_resolution_is_its_extracted_network_and_costs_what_that_costs(
    name: str,
) -> None:
    net, rng, side = supernet(name), random.Random(1), 4 * SIDE
    x = torch.randn(1, 3, side, side)
    texts = [str(net.space.sample(rng)).rpartition("_")[0] for _ in SHARES]
    for text, percent in zip(texts, (50, 75, 100), strict=True):
        subnet = net.space.parse(f"{text}_r{percent}")
        assert str(subnet).endswith(f"_r{percent}")
        small = net.extract(subnet)
        assert torch.equal(net(x, subnet), small(x)), subnet
        assert small(x).shape == x.shape
        assert net.num_parameters(subnet) == sum(p.numel() for p in small.parameters())
        with FlopCounterMode(display=False) as counter:
            small.to("meta")(x.to("meta"))
        assert counter.get_total_flops() == 2 * net.macs(subnet, side), subnet
    genomes = net.space.sample_genomes(6, np.random.default_rng(0))
    subnets = net.space.subnets(genomes)
    assert net.costs.macs(genomes, side).tolist() == [net.macs(s, side) for s in subnets]
    assert net.costs.params(genomes).tolist() == [net.num_parameters(s) for s in subnets]


@torch.no_grad()
def test_half_the_resolution_is_the_generator_between_means_and_enlargement() -> None:
    net, x = supernet("resnet_6blocks"), torch.randn(1, 3, SIDE, SIDE)
    full = str(net.space.full()).rpartition("_")[0]
    means = nn.functional.avg_pool2d(x, 2)
    wanted = nn.functional.interpolate(net.generator(means), scale_factor=2, mode="bilinear")
    assert torch.allclose(net(x, net.space.parse(f"{full}_r50")), wanted, atol=1e-5)
    assert net.space.parse(full) == net.space.full()
    assert torch.equal(net(x, net.space.full()), net.generator(x))
    with pytest.raises(SpaceError, match="60 is not a resolution of"):
        net.space.parse(f"{full}_r60")


@pytest.mark.parametrize(
    ("stride", "percent", "wanted"),
    [(4, 100, 4), (4, 50, 8), (4, 75, 16), (64, 75, 256), (4, 80, 5)],
)
def test_stride_follows_the_share(stride: int, percent: int, wanted: int) -> None:
    assert stride_at(stride, percent) == wanted
    assert wanted * percent % (100 * stride) == 0


@torch.no_grad()
def test_files_say_at_which_resolution_a_subnet_runs(tmp_path: Path) -> None:
    section = GeneratorOptions.model_validate({"name": "resnet_6blocks", "ngf": 4, **RGB})
    generator, path = init_weights(build_generator(section)).eval(), tmp_path / "net.safetensors"
    net = Supernet(generator, torch.empty(1, 3, 32, 32), (0.5, 1.0), 1, resolutions=SHARES).eval()
    description = {"generator": section.model_dump(mode="json")}
    save_network(path, generator, description, space=describe_space(net.space))
    assert read_space(describe_space(net.space)) == net.space
    assert load_supernet(path)[1].stride == 16
    x, subnet = torch.randn(1, 3, 64, 64), net.space.parse("4_8_16_8_16_8_16_8_16_4_2_r75")
    found = load_model(path, str(subnet))
    assert (found.stride, found.description["resolution"]) == (16, 75)
    assert torch.equal(found.module(x), net(x, subnet))
    save_network(path, found.module, found.description)
    loaded = load_network(path)
    assert loaded.stride == 16
    assert torch.equal(loaded.module(x), net(x, subnet))
    again = Supernet(
        loaded.module, torch.empty(1, 3, 64, 64), (1.0,), resolutions=(0.5, 1.0)
    ).eval()
    half = again.space.smallest()
    own = describe_subnet(loaded.description, again, half)
    assert own["cuts"] == [{"resolution": 50}]
    save_network(path, again.extract(half), own)
    assert load_network(path).stride == 32
    assert torch.equal(load_network(path).module(x), again(x, half))
    for wrong in (0, 101, "half", True):
        with pytest.raises(CheckpointError, match="'resolution' of its network is not one"):
            build_network({**description, "resolution": wrong}, "net.safetensors")
    with pytest.raises(CheckpointError, match="sides of images would be multiples of 40000"):
        build_network({**description, "cuts": [{"resolution": 99}] * 2}, "net.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_exported_subnet_of_less_resolution_is_the_eager_one(tmp_path: Path, kind: str) -> None:
    section = GeneratorOptions.model_validate({"name": "resnet_6blocks", "ngf": 4, **RGB})
    description = {"generator": section.model_dump(mode="json"), "resolution": 75}
    network = build_network(description, "net.safetensors")
    init_weights(network.module)
    pictures = [torch.from_numpy(picture(n, 48)).permute(2, 0, 1) for n in range(2)]
    check = export_network(network, kind, tmp_path / f"net.{kind}", pictures)
    assert check.max_difference < 1e-3


@torch.no_grad()
def test_activations_of_a_smaller_image_are_compared_at_the_size_of_the_whole_one() -> None:
    net, x = supernet("resnet_6blocks"), torch.randn(1, 3, SIDE, SIDE)
    subnet = net.space.parse(str(net.space.full()).replace("_r100", "_r50"))
    image, found = SubnetView(net, subnet)(x, ["model.9"])
    _, small = net.with_features(x, subnet, ["model.9"])
    assert image.shape == x.shape
    assert found["model.9"].shape[2:] == (SIDE // 4, SIDE // 4)
    assert torch.equal(found["model.9"][..., ::2, ::2], small["model.9"])
    assert torch.equal(found["model.9"][..., 1::2, 1::2], small["model.9"])
    alone, layers = net.extract(subnet), ["model.9", "model.12"]  # a layer and a block
    again = WholeView(alone, 50)(x, layers)[1]
    assert again.keys() == {*layers}
    assert torch.equal(again["model.9"], found["model.9"])


class Enlarging(nn.Module):
    """An image of twice the size."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.ConvTranspose2d(4, 3, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(torch.relu(self.first(x)))
        return out


def test_resolutions_that_cannot_be_had_are_refused() -> None:
    x = torch.empty(1, 3, 16, 16)
    with pytest.raises(SpaceError, match="only a generator from one image to another of its size"):
        Supernet(Enlarging(), x, (1.0,), resolutions=SHARES)
    for shares in ((), (0.0, 1.0), (1.5,), (float("nan"),)):
        with pytest.raises(SpaceError, match="resolutions are shares"):
            Supernet(Enlarging(), x, (1.0,), resolutions=shares)
    with pytest.raises(SpaceError, match=r"0\.333 is no whole number of hundredths"):
        Supernet(Enlarging(), x, (1.0,), resolutions=(0.333, 1.0))
