"""Elastic depth: subnets without some residual blocks or U-Net levels."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import make_paired, picture
from torch import Tensor, fx, nn
from torch.utils.flop_counter import FlopCounterMode

from gancompress.checkpoint.models import load_model
from gancompress.checkpoint.network import load_network, load_supernet
from gancompress.config import GeneratorOptions
from gancompress.cost.steps import plan_of
from gancompress.elastic import Depth, SearchSpace, Subnet, Supernet, Width
from gancompress.errors import ConfigError, SpaceError
from gancompress.export import export_network
from gancompress.export.subnets import OnnxSubnets
from gancompress.models import build_generator, init_weights
from gancompress.models.resnet import ResnetGenerator
from gancompress.models.unet import UnetGenerator
from gancompress.runtimes.onnx import open_session
from gancompress.search import search
from gancompress.training.stages import finetune, train_supernet
from runs import finetune_options, search_options, supernet_options, write_teacher

CPU = torch.device("cpu")
SIDE = 64
RGB = {"input_nc": 3, "output_nc": 3}
NUM_SUBNETS = 4


class Awkward(nn.Module):
    """Blocks in one forward: a shared layer, a nested branch, a concatenation, a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.one, self.two, self.inner = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.shared = nn.Conv2d(8, 8, 1)
        self.scale = nn.Parameter(torch.rand(8, 1, 1) + 0.5)
        self.extra = nn.Conv2d(8, 6, 1)
        self.norm = nn.BatchNorm2d(14, affine=True)
        self.head = nn.ConvTranspose2d(14, 3, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(F.pad(x, (1, 1, 1, 1), mode="reflect"))
        x = x + self.shared(F.relu(self.one(x)))
        inside = torch.tanh(self.two(x))
        inside = inside + self.inner(inside) * self.scale
        x = x + self.shared(inside)
        x = torch.add(x, torch.sigmoid(self.depthwise(x)))
        x = torch.cat([x, self.extra(x)], dim=1)
        return torch.tanh(self.head(self.norm(x)))


def make(name: str) -> nn.Module:
    if name == "awkward":
        return init_weights(Awkward()).eval()
    norm = "batch" if name == "unet_64" else "instance"
    options = GeneratorOptions.model_validate({"name": name, "ngf": 4, "norm": norm, **RGB})
    return init_weights(build_generator(options)).eval()


@cache
def supernet(name: str) -> Supernet:
    torch.manual_seed(0)
    fractions = (0.34, 0.5, 1.0)
    return Supernet(make(name), torch.empty(1, 3, SIDE, SIDE), divisor=1, depths=fractions).eval()


FAMILIES = ("resnet_6blocks", "mobile_resnet_6blocks", "unet_64", "awkward")
every_family = pytest.mark.parametrize("name", FAMILIES)


@every_family
@torch.no_grad()
def test_a_subnet_of_less_depth_is_its_extracted_network_and_costs_what_that_costs(
    name: str,
) -> None:
    net, rng, x = supernet(name), random.Random(1), torch.randn(1, 3, SIDE, SIDE)
    subnets = [net.space.sample(rng) for _ in range(NUM_SUBNETS)]
    assert any(net.space.dropped(subnet) for subnet in subnets)
    for subnet in [net.space.smallest(), net.space.largest(), *subnets]:
        small = net.extract(subnet)
        assert torch.equal(net(x, subnet), small(x)), subnet
        assert net.num_parameters(subnet) == sum(p.numel() for p in small.parameters())
        with FlopCounterMode(display=False) as counter:
            small.to("meta")(x.to("meta"))
        assert counter.get_total_flops() == 2 * net.macs(subnet, SIDE), subnet
    genomes = net.space.genomes(subnets)
    assert net.costs.macs(genomes, SIDE).tolist() == [net.macs(s, SIDE) for s in subnets]
    assert net.costs.params(genomes).tolist() == [net.num_parameters(s) for s in subnets]


def test_stages_are_residual_blocks_and_levels_of_the_u() -> None:
    def stages(name: str) -> list[list[str]]:
        found = supernet(name).traced.stages
        return [[branch.name for branch in stage] for stage in found]

    assert stages("resnet_6blocks") == [[f"model.{n}" for n in range(10, 16)]]
    (levels,) = stages("unet_64")
    assert levels == ["model.model.1" + ".model.3" * n for n in range(5)]
    assert stages("awkward") == [["one", "two", "depthwise"], ["extra"], ["inner"]]


@torch.no_grad()
def test_a_resnet_of_fewer_blocks_is_one_of_its_class_under_its_names() -> None:
    net = supernet("resnet_6blocks")
    subnet = net.space.parse("_".join(map(str, (4, 8, 16, *[16] * 6, 8, 4))) + "_d3")
    small = net.extract(subnet)
    assert type(small) is ResnetGenerator
    options = {"name": "resnet_9blocks", "ngf": 4, **RGB}
    reference = build_generator(GeneratorOptions.model_validate(options))
    blocks = [key for key in reference.state_dict() if ".conv_block." in key]
    own = [key for key in small.state_dict() if ".conv_block." in key]
    assert own == [key for key in blocks if int(key.split(".")[1]) < 13]
    assert "model.20.weight" in small.state_dict()  # the head of three blocks


@torch.no_grad()
def test_what_is_no_module_of_its_own_is_left_out_of_a_graph() -> None:
    unet, awkward = supernet("unet_64"), supernet("awkward")
    assert type(unet.extract(unet.space.smallest())) is UnetGenerator
    small = awkward.extract(awkward.space.smallest())
    assert isinstance(small, fx.GraphModule)
    assert "one.weight" in small.state_dict()
    assert "two.weight" not in small.state_dict()


@torch.no_grad()
def test_features_of_what_is_left_out_are_those_of_the_trunk_or_missing() -> None:
    net, x = supernet("resnet_6blocks"), torch.randn(1, 3, SIDE, SIDE)
    subnet = net.space.smallest()
    assert subnet.values[-1] == 2
    image, found = net.with_features(x, subnet, ["model.11", "model.15", "model.15.conv_block.1"])
    assert torch.equal(image, net(x, subnet))
    assert found.keys() == {"model.11", "model.15"}
    assert torch.equal(found["model.11"], found["model.15"])


@pytest.mark.parametrize("batch", [1, 2])
@torch.no_grad()
def test_a_subnet_of_less_depth_may_be_asked_for_no_features(batch: int) -> None:
    net, x = supernet("resnet_6blocks"), torch.randn(batch, 3, SIDE, SIDE)
    subnet = net.space.smallest()
    image, found = net.with_features(x, subnet, [])
    assert torch.equal(image, net(x, subnet))
    assert found == {}


def test_gradients_reach_the_branches_that_are_kept_and_no_others() -> None:
    net = supernet("resnet_6blocks")
    net.zero_grad()
    net(torch.randn(1, 3, SIDE, SIDE), net.space.smallest()).mean().backward()
    reached = {key for key, p in net.generator.named_parameters() if p.grad is not None}
    blocks = {key.split(".")[1] for key in reached if ".conv_block." in key}
    assert blocks == {"10", "11"}
    net.zero_grad()


# ------------------------------------------------------------------------------ the space


def nested() -> SearchSpace:
    """Two stages, the second within the second branch of the first."""
    outer = Depth(("a", "b", "c"), 3, (1, 2, 3))
    inner = Depth(("b.x", "b.y"), 2, (1, 2), uses=(((3, 2),),))
    widths = (
        Width(("trunk",), 16, (8, 16)),
        Width(("third",), 16, (4, 8, 16), uses=(((3, 3),),)),
        Width(("deepest",), 16, (4, 16), uses=(((3, 2), (4, 2)),)),
    )
    return SearchSpace((*widths, outer, inner), {1: (0, 0, 0)})


def test_every_subnet_has_one_row_and_one_text() -> None:
    space = nested()
    members = list(space)
    # depth 1; 2 and 3 with one inner branch; 2 and 3 with both
    assert len(members) == len(set(members)) == space.distinct == 2 * (1 + 1 + 3 + 2 + 3 * 2)
    assert space.size == 2 * 3 * 2 * 3 * 2
    assert len({str(member) for member in members}) == len(members)
    for member in members:
        assert member in space
        assert space.parse(str(member)) == member
        assert Subnet.of_text(str(member)) == member
    rows = {tuple(row) for row in space.genomes_at(np.arange(space.size)).tolist()}
    assert rows == {member.values for member in members}


def test_numbers_of_what_is_left_out_are_read_as_zero() -> None:
    space = nested()
    assert str(space.parse("8_16_4_d1_d2")) == "8_0_0_d1_d0"
    assert str(space.parse("8_16_4_d2_d1")) == "8_0_0_d2_d1"
    assert space.parse("8_16_16") == space.parse("8_16_16_d3_d2")
    assert space.parse("16") == space.largest()
    assert Subnet((8, 16, 4, 1, 2)) not in space
    with pytest.raises(SpaceError, match="third is left out, so its width is 0, not 16"):
        space.check(Subnet((8, 16, 4, 1, 2)))
    with pytest.raises(SpaceError, match="third is left out"):
        space.check_genomes(np.array([[8, 16, 4, 1, 2]]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8_16_16_d3", "has 1 depths, this space has 2"),
        ("8_16_d3_d2", "has 2 widths, this space has 3"),
        ("8_16_16_d4_d2", "4 is not a depth of a, which has 0 to 3"),
        ("8_16_16_d3_d2_q5", "has 1 'q', this space has 0"),
        ("8_0_16_d3_d2", "0 is not a width of third"),
        ("8_17_16_d3_d2", "17 is not a width of third"),
        ("8_16_16_3d_d2", "integers joined by '_'"),
    ],
)
def test_text_that_is_no_subnet_of_the_space_is_refused(text: str, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        nested().parse(text)


def test_a_space_of_widths_refuses_a_depth() -> None:
    space = SearchSpace((Width(("a",), 8, (4, 8)),))
    with pytest.raises(SpaceError, match="has 1 depths, this space has 0"):
        space.parse("8_d3")


@pytest.mark.parametrize("depths", [(), (0.0, 1.0), (1.5,)])
def test_depths_out_of_range_are_refused(depths: tuple[float, ...]) -> None:
    with pytest.raises(SpaceError, match="depths are fractions"):
        Supernet(make("awkward"), torch.empty(1, 3, SIDE, SIDE), depths=depths)


def test_depths_of_a_generator_without_branches_are_refused() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))
    with pytest.raises(SpaceError, match="no two branches in a row"):
        Supernet(plain, torch.empty(1, 3, SIDE, SIDE), depths=(0.5, 1.0))


# ------------------------------------------------------------------------------ all stages


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A supernet with depths after one step, with a tap within a block that subnets leave out."""
    folder = tmp_path_factory.mktemp("depth")
    teacher = write_teacher(folder / "teacher.safetensors", ngf=4)
    root = make_paired(folder / "data", 4)
    sets = ("student.widths=[0.5, 1.0]", "student.divisor=2", "student.depths=[0.34, 1.0]")
    step = ("schedule.num_images=2", "schedule.num_images_decay=0", "loss.lambda_gan=0")
    taps = "loss.taps=[model.9, model.15.conv_block.5, model.15]"
    options = supernet_options(root, folder / "supernet", teacher, *sets, *step, taps)
    train_supernet(options, CPU)
    return folder / "supernet"


def test_search_evaluates_every_subnet_under_one_name(trained: Path, tmp_path: Path) -> None:
    net, _ = load_supernet(trained)
    assert str(net.space.largest()) == "4_4_4_4_4_4_4_4_d6"
    assert str(net.space.smallest()) == "2_2_2_2_0_0_2_2_d2"
    assert net.space.distinct == 2**6 + 2**8
    options = search_options(tmp_path, trained, "num_trials=8", "searcher.generation=4")
    found = search(options, CPU).trials
    assert len({trial.subnet for trial in found}) == len(found) == 8
    assert all(trial.subnet in net.space for trial in found)
    assert len({trial.subnet.values[-1] for trial in found}) == 2
    assert all(trial.macs == net.macs(trial.subnet, 32) for trial in found)


@torch.no_grad()
def test_files_of_a_subnet_say_which_blocks_are_left_out(trained: Path, tmp_path: Path) -> None:
    net, _ = load_supernet(trained)
    network = load_model(trained, "2_4_2_4_4_2_2_4_d2")
    assert network.header["subnet"] == "2_4_2_4_0_0_2_4_d2"
    x = torch.randn(1, 3, 32, 32)
    wanted = net(x, net.space.parse(network.header["subnet"]))
    pictures = [torch.from_numpy(picture(n, 32)).permute(2, 0, 1) for n in range(2)]
    for kind in ("safetensors", "pth"):
        path = tmp_path / f"small.{kind}"
        assert export_network(network, kind, path, pictures).max_difference == 0.0
    loaded = load_network(tmp_path / "small.safetensors")
    assert loaded.description["dropped"] == [f"model.{n}" for n in range(12, 16)]
    assert torch.equal(loaded.module(x), wanted)


def test_a_subnet_of_less_depth_is_trained_further(trained: Path, tmp_path: Path) -> None:
    subnet = "4_4_4_4_0_0_4_4_d2"
    sets = ("schedule.num_images=2", "schedule.num_images_decay=0", "loss.lambda_gan=0")
    taps = "loss.taps=[model.9, model.11:model.15]"
    finetune(finetune_options(tmp_path, trained, subnet, *sets, taps), CPU)
    before, after = load_model(trained, subnet).module, load_model(tmp_path).module
    pairs = zip(before.state_dict().items(), after.state_dict().items(), strict=True)
    assert all(one == other and a.shape == b.shape for (one, a), (other, b) in pairs)
    assert type(after) is ResnetGenerator


def test_latency_tables_refuse_several_depths(trained: Path) -> None:
    with pytest.raises(ConfigError, match="differ in widths alone"):
        plan_of(load_supernet(trained)[0], 32)


@pytest.mark.slow
def test_onnx_models_of_less_depth_are_slices() -> None:
    options = {"name": "resnet_6blocks", "ngf": 4, "norm": "instance", **RGB}
    generator = init_weights(build_generator(GeneratorOptions.model_validate(options))).eval()
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    net = Supernet(generator, x, (0.5, 1.0), 2, depths=(0.5, 1.0)).eval()
    models = OnnxSubnets(net, 4)
    assert models.slices
    subnet = net.space.smallest()
    session = open_session(models.model(subnet))
    (out,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        assert np.abs(out - net(x, subnet).numpy()).max() < 1e-3
