"""Elastic kernel sizes: centres of kernels, with the padding that belongs to them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from test_depth import RGB, SIDE, make
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gancompress.checkpoint.network import (
    as_supernet,
    build_network,
    describe_space,
    describe_subnet,
    load_network,
    save_network,
)
from gancompress.config import GeneratorOptions
from gancompress.elastic import Depth, Dimension, KernelSize, SearchSpace, Supernet, trace
from gancompress.errors import CheckpointError, SpaceError
from gancompress.models import build_generator, init_weights


class Padded(nn.Module):
    """Convolutions that pad in all ways: dilated, strided, even, depth-wise, transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.ReplicationPad2d(1), nn.Conv2d(3, 6, 7, padding=2)),
            nn.Conv2d(6, 6, 5, padding=2, groups=6, padding_mode="reflect"),
            nn.Conv2d(6, 8, 5, padding=4, dilation=2, padding_mode="circular"),
            *(nn.ZeroPad2d(3), nn.Conv2d(8, 8, 6, stride=2, padding=0)),
            nn.ConvTranspose2d(8, 6, 6, stride=2, padding=2),
            nn.Conv2d(6, 3, 3),
        )
        self.twice = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.twice(self.twice(self.layers(x))))


FAMILIES = {
    "resnet_6blocks": (1, 3, 5, 7),
    "mobile_resnet_6blocks": (3, 5),
    "unet_64": (2, 4),
    "awkward": (1, 3),
    "padded": (1, 2, 3, 4, 5, 7),
}


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_a_subnet_of_smaller_kernels_is_its_extracted_network_and_costs_what_that_costs(
    name: str,
) -> None:
    torch.manual_seed(0)
    generator = init_weights(Padded()).eval() if name == "padded" else make(name)
    x, rng = torch.randn(1, 3, SIDE, SIDE), random.Random(1)
    depths = (1.0,) if name == "padded" else (0.5, 1.0)
    net = Supernet(generator, x, (0.5, 1.0), 1, depths=depths, kernels=FAMILIES[name]).eval()
    assert torch.equal(net(x, net.space.full()), generator(x))
    for subnet in (net.space.smallest(), *(net.space.sample(rng) for _ in range(3))):
        assert net.space.parse(str(subnet)) == subnet
        small = net.extract(subnet)
        out = small(x)
        assert torch.equal(net(x, subnet), out), subnet
        assert out.shape == generator(x).shape
        assert net.num_parameters(subnet) == sum(p.numel() for p in small.parameters())
        with FlopCounterMode(display=False) as counter:
            small.to("meta")(x.to("meta"))
        assert counter.get_total_flops() == 2 * net.macs(subnet, SIDE), subnet


def test_kernels_are_cropped_as_far_as_padding_and_stride_allow() -> None:
    found = trace(Padded(), (1, 3, SIDE, SIDE)).kernels
    assert {kernel.layer: kernel.choices for kernel in found} == {
        "layers.1": (1, 3, 5, 7),
        "layers.2": (1, 3, 5),
        "layers.3": (1, 3, 5),
        "layers.5": (2, 4, 6),
        "layers.6": (2, 4, 6),
    }
    assert [kernel.pad for kernel in found] == ["layers.0", None, None, "layers.4", None]
    resnet = trace(make("resnet_6blocks"), (1, 3, SIDE, SIDE)).kernels
    assert [kernel.layer for kernel in resnet if kernel.side == 7] == ["model.1", "model.23"]


@torch.no_grad()
def test_files_say_which_kernels_are_smaller(tmp_path: Path) -> None:
    section = GeneratorOptions.model_validate({"name": "resnet_6blocks", "ngf": 4, **RGB})
    generator, x = init_weights(build_generator(section)).eval(), torch.randn(1, 3, 32, 32)
    net = Supernet(generator, x, (0.5, 1.0), 1, depths=(0.5, 1.0), kernels=(3, 7)).eval()
    description = {"generator": section.model_dump(mode="json")}
    subnet = net.space.smallest()
    own = describe_subnet(description, net, subnet)
    assert own["kernels"] == {"model.1": 3, "model.23": 3}
    path = tmp_path / "small.safetensors"
    save_network(path, net.extract(subnet), own)
    assert torch.equal(load_network(path).module(x), net(x, subnet))
    for wrong in ({"model.1": 4}, {"model.2": 3}):
        save_network(path, net.extract(subnet), {**own, "kernels": wrong})
        with pytest.raises(CheckpointError, match="has no kernel"):
            load_network(path)


@torch.no_grad()
def test_a_subnet_of_a_subnet_is_built_from_its_file(tmp_path: Path) -> None:
    section = GeneratorOptions.model_validate({"name": "unet_64", "ngf": 4, **RGB})
    module = init_weights(build_generator(section)).eval()
    description, x = {"generator": section.model_dump(mode="json")}, torch.randn(1, 3, SIDE, SIDE)
    path = tmp_path / "small.safetensors"
    for sides in ((), (2, 4)):
        net = Supernet(module, x, (0.75, 1.0), 1, depths=(0.67, 1.0), kernels=sides).eval()
        subnet = net.space.smallest()
        description = describe_subnet(description, net, subnet)
        save_network(path, net.extract(subnet), description)
        loaded = load_network(path)
        module, description = loaded.module, loaded.description
        assert torch.equal(module(x), net(x, subnet))
    assert description["dropped"]
    assert description["cuts"][0].keys() == {"dropped", "kernels"}


@pytest.mark.parametrize(
    "dimension",
    [
        Depth(("model.10", "model.99"), 2, (1, 2)),
        KernelSize(("model.99",), 7, (3, 7)),
        KernelSize(("model.1",), 9, (3, 9)),
        KernelSize(("model.1",), 7, (2, 7)),
    ],
)
def test_spaces_of_branches_or_kernels_that_are_not_there_are_refused(dimension: Dimension) -> None:
    description = {"generator": {"name": "resnet_6blocks", "ngf": 4, **RGB}}
    header = {"space": describe_space(SearchSpace((dimension,)))}
    with pytest.raises(CheckpointError, match="that of another generator"):
        as_supernet(build_network(description, "small.safetensors", header))


def test_kernel_sizes_are_candidates_or_the_full_one() -> None:
    net = Supernet(make("resnet_6blocks"), torch.empty(1, 3, 32, 32), (1.0,), kernels=(3, 7))
    space: SearchSpace = net.space
    widths = "_".join(str(d.full) for d in space.dimensions if d.kind == "width")
    assert str(space.parse(widths)) == f"{widths}_k7_k7"
    assert space.parse(f"{widths}_k3_k7") in space
    for text in ("k5_k7", "k4_k7", "k9_k7", "k0_k7"):
        with pytest.raises(SpaceError, match=r"is not a kernel of model\.1"):
            space.parse(f"{widths}_{text}")


def test_kernels_that_no_convolution_can_have_are_refused() -> None:
    with pytest.raises(SpaceError, match=r"this generator can have \[1, 3, 5, 7\]"):
        Supernet(make("resnet_6blocks"), torch.empty(1, 3, 32, 32), kernels=(9,))


def test_gradients_of_a_smaller_kernel_reach_its_centre_alone() -> None:
    net = Supernet(make("resnet_6blocks"), torch.empty(1, 3, 32, 32), (1.0,), kernels=(3, 7))
    net(torch.randn(1, 3, 32, 32), net.space.smallest()).mean().backward()
    reached = net.generator.get_parameter("model.1.weight").grad.abs().sum((0, 1)) > 0
    assert reached[2:5, 2:5].all()
    assert reached.sum() == 9


class Resized(nn.Module):
    """A transposed convolution that is told how large its output is."""

    def __init__(self, kernel: int, groups: int) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 3, 3, padding=1)
        self.up = nn.ConvTranspose2d(16, 16, kernel, 2, kernel // 2, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        small = torch.relu(self.first(x))
        out: Tensor = self.last(self.up(small, output_size=x.shape[-2:]))
        return out


@pytest.mark.parametrize(("kernel", "groups"), [(3, 16), (5, 1)])
@torch.no_grad()
def test_transposed_convolutions_make_outputs_of_the_size_that_they_are_told(
    kernel: int, groups: int
) -> None:
    generator = Resized(kernel, groups).eval()
    net = Supernet(generator, torch.empty(1, 3, 16, 16), (0.5, 1.0), 1, kernels=(1, 3, 5)).eval()
    for x in (torch.randn(1, 3, 16, 16), torch.randn(1, 3, 15, 13)):
        assert torch.equal(net(x, net.space.full()), generator(x))
        for subnet in (net.space.smallest(), net.space.full()):
            image = net(x, subnet)
            assert image.shape == x.shape
            assert torch.equal(net.extract(subnet)(x), image)
