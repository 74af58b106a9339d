"""Costs in closed form: exact, for many subnets at once, and equal to what is counted."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gancompress.checkpoint.files import load_tensors, save_tensors
from gancompress.checkpoint.network import example_shape
from gancompress.config import GeneratorOptions
from gancompress.elastic import (
    Genomes,
    NetworkCosts,
    SearchSpace,
    Subnet,
    Supernet,
    Tie,
    Width,
    make_space,
    trace,
)
from gancompress.elastic.costs import CHUNK
from gancompress.errors import SpaceError, TraceError
from gancompress.models import GENERATORS, build_generator
from gancompress.models.resnet import SHORT_FORM, resnet_ties

every_generator = pytest.mark.parametrize("name", GENERATORS)
some_generators = pytest.mark.parametrize(
    ("name", "norm"), [("resnet_6blocks", "batch"), ("unet_64", "batch"), ("unet_64", "instance")]
)


def make_supernet(name: str, norm: str = "instance", ngf: int = 8) -> Supernet:
    generator = build_generator(
        GeneratorOptions.model_validate(
            {"name": name, "input_nc": 3, "output_nc": 3, "ngf": ngf, "norm": norm}
        )
    ).eval()
    return Supernet(generator, torch.empty(example_shape(3, GENERATORS[name].stride)), divisor=1)


def published_supernet(ngf: int) -> Supernet:
    """A separable ResNet-9 with the eight numbers of the published config strings."""
    options = GeneratorOptions(
        input_nc=3, output_nc=3, name="mobile_resnet_9blocks", ngf=ngf, dropout=0.0
    )
    generator, shape = build_generator(options), (1, 3, 32, 32)
    groups = trace(generator, shape).groups
    ties = [Tie(*tie) for tie in resnet_ties(group.name for group in groups)]
    space = make_space(groups, (0.25, 0.5, 0.75, 1.0), 8, ties, SHORT_FORM)
    return Supernet(generator, torch.empty(shape), space=space)


def genomes_of(net: Supernet, count: int, seed: int = 0) -> Genomes:
    return net.space.sample_genomes(count, np.random.default_rng(seed))


def counted(call: Callable[[Tensor], object], height: int, width: int) -> int:
    """Multiply-accumulates as torch counts them."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        call(torch.zeros(1, 3, height, width))
    return counter.get_total_flops() // 2


def size_for(name: str) -> tuple[int, int]:
    side = example_shape(3, GENERATORS[name].stride)[-1]
    return side, 2 * side


# ------------------------------------------------------------------------------ exactness


@every_generator
def test_closed_form_equals_what_extracted_modules_cost(name: str) -> None:
    net, size = make_supernet(name, "batch" if "unet" in name else "instance"), size_for(name)
    genomes = genomes_of(net, 1)
    params, macs = net.costs.params(genomes), net.costs.macs(genomes, size)
    for row, subnet in enumerate(net.space.subnets(genomes)):
        small = net.extract(subnet)
        assert params[row] == sum(p.numel() for p in small.parameters()), subnet
        assert macs[row] == counted(small, *size), subnet


@pytest.mark.slow
@every_generator
def test_closed_form_equals_torchs_counter_on_fifty_subnets(name: str) -> None:
    net, size = (
        make_supernet(
            name, "batch" if name.startswith(("resnet", "mobile")) else "instance"
        ).eval(),
        size_for(name),
    )
    genomes = genomes_of(net, 50, seed=1)
    names = [key for key, _ in net.generator.named_parameters()]
    params, macs = net.costs.params(genomes), net.costs.macs(genomes, size)
    for row, subnet in enumerate(net.space.subnets(genomes)):
        narrowed = net.narrowed(subnet)
        assert params[row] == sum(narrowed[key].numel() for key in names), subnet
        assert macs[row] == counted(lambda x, s=subnet: net(x, s), *size), subnet


def test_published_config_has_the_published_costs() -> None:
    net = published_supernet(32)
    genomes = net.space.genomes([net.space.parse("16_16_32_16_32_32_16_16")])
    assert net.costs.params(genomes).tolist() == [356_867]
    assert [round(int(macs) / 1e9, 3) for macs in net.costs.macs(genomes, 256)] == [1.846]
    assert [round(int(m) / 1e9, 3) for m in net.costs.macs(genomes, 256, paper=True)] == [2.525]


def test_papers_count_transposed_convolutions_at_their_output() -> None:
    module = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ConvTranspose2d(5, 3, 4, 2, 1))
    costs = NetworkCosts(module, (1, 3, 8, 8))
    conv, transposed = 8 * 8 * 9 * 3 * 5, 8 * 8 * 16 * 5 * 3
    assert costs.macs(8) == conv + transposed
    assert costs.macs(8, paper=True) == conv + 4 * transposed
    assert costs.params == 9 * 15 + 5 + 16 * 15 + 3


@some_generators
def test_many_at_once_cost_what_each_costs(name: str, norm: str) -> None:
    net, number = make_supernet(name, norm), 2 * CHUNK + 3
    genomes = genomes_of(net, number)
    params = net.costs.params(genomes)
    macs, paper = (net.costs.macs(genomes, 64, paper=paper) for paper in (False, True))
    assert {values.shape for values in (params, macs, paper)} == {(number,)}
    assert {values.dtype for values in (params, macs, paper)} == {np.dtype(np.int64)}
    rows = [0, 1, CHUNK - 1, CHUNK, 2 * CHUNK, number - 1]
    for row, subnet in zip(rows, net.space.subnets(genomes[rows]), strict=True):
        assert params[row] == net.num_parameters(subnet)
        assert macs[row] == net.macs(subnet, 64)
        assert paper[row] == net.macs(subnet, (64, 64), paper=True)
    assert len(net.costs.macs(genomes[:0], 64)) == 0


def test_groups_outside_the_space_cost_their_full_width() -> None:
    generator = build_generator(
        GeneratorOptions(input_nc=3, output_nc=3, name="resnet_6blocks", ngf=8)
    )
    space = SearchSpace((Width(("model.7",), 32, (8, 16, 32)),))
    net = Supernet(generator, torch.empty(1, 3, 32, 32), space=space)
    for subnet, macs in zip(space, net.costs.macs(space.genomes(space), 32), strict=True):
        assert macs == counted(net.extract(subnet), 32, 32)


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("name", ["mobile_resnet_6blocks", "unet_64"])
def test_weight_bytes_are_those_of_a_file_without_its_header(
    name: str, norm: str, tmp_path: Path
) -> None:
    net = make_supernet(name, norm)
    genomes = genomes_of(net, 2)
    for subnet, expected in zip(
        net.space.subnets(genomes), net.costs.weight_bytes(genomes), strict=True
    ):
        path = tmp_path / "subnet.safetensors"
        save_tensors(path, net.extract(subnet).state_dict(), {})
        header = int.from_bytes(path.read_bytes()[:8], "little")
        assert path.stat().st_size - 8 - header == expected
        assert load_tensors(path)[0]


def test_shared_parameters_are_counted_once_and_stored_twice() -> None:
    first = nn.Conv2d(4, 4, 1, bias=False)
    module = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), first, nn.ReLU(), first)
    costs = NetworkCosts(module, (1, 3, 8, 8))
    assert costs.params == 12 + 16
    assert costs.weight_bytes == 4 * (12 + 2 * 16)
    assert costs.macs(8) == 64 * (12 + 2 * 16)


def test_cost_beyond_64_bits_is_refused() -> None:
    network = NetworkCosts(nn.Conv2d(3, 5, 3, padding=1), (1, 3, 8, 8))
    assert network.macs(2**28) == 2**56 * 9 * 15
    costs = network.model
    only = costs.space.genomes_at(0)
    assert costs.macs(only, 2**24).tolist() == [2**48 * 9 * 15]
    with pytest.raises(SpaceError, match="exceeds 64 bits: take a smaller image"):
        costs.macs(only, 2**28)


def test_size_that_the_generator_cannot_take_is_refused() -> None:
    net = make_supernet("unet_64")
    with pytest.raises(TraceError, match="cannot take an input of shape"):
        net.costs.macs(genomes_of(net, 1), 48)


def test_a_hundred_thousand_subnets_take_less_than_a_second() -> None:
    net = published_supernet(16)
    genomes = genomes_of(net, 100_000)
    net.costs.macs(genomes[:1], 256)
    start = time.process_time()
    net.costs.macs(genomes, 256)
    net.costs.params(genomes)
    assert time.process_time() - start < 1.0


# ----------------------------------------------------------------------- arrays of subnets


def small_space() -> SearchSpace:
    sides = {"a": (2, 4, 8), "b": (3, 6), "c": (1,), "d": (1, 2, 3, 4)}
    return SearchSpace(tuple(Width((k,), max(v), v, 2) for k, v in sides.items()))


def test_genomes_and_subnets_are_the_same_thing() -> None:
    space = small_space()
    subnets = [space.sample(rng) for rng in [random.Random(1)] for _ in range(20)]
    genomes = space.genomes(subnets)
    assert genomes.dtype == np.int64
    assert genomes.tolist() == [list(subnet.values) for subnet in subnets]
    assert space.subnets(genomes) == subnets
    assert str(space.subnets(genomes)[0]) == str(subnets[0])
    assert space.genomes([]).shape == (0, 4)
    assert space.subnets(space.genomes([])) == []


def test_places_of_the_iteration_give_its_subnets() -> None:
    space = small_space()
    assert space.subnets(space.genomes_at(range(space.size))) == list(space)
    assert space.genomes_at(5).tolist() == [list(list(space)[5].values)]
    for outside in (-1, space.size):
        with pytest.raises(SpaceError, match="from 0 to 23"):
            space.genomes_at([0, outside])


def test_sampled_genomes_are_uniform_members_and_repeat_under_a_seed() -> None:
    space = small_space()
    genomes = space.sample_genomes(12_000, np.random.default_rng(3))
    assert np.array_equal(genomes, space.sample_genomes(12_000, np.random.default_rng(3)))
    assert all(subnet in space for subnet in space.subnets(genomes[:100]))
    _, counts = np.unique(genomes, axis=0, return_counts=True)
    assert len(counts) == space.size
    assert abs(counts - 500).max() < 120  # five standard deviations


@pytest.mark.parametrize(
    ("genomes", "message"),
    [
        (np.array([[2, 3, 1, 1], [9, 3, 1, 1]]), "9 is not a width of a, which has 1 to 8"),
        (np.array([[2, 3, 1, 0]]), "0 is not a width of d"),
        (np.array([[2, 3, 1]]), r"shape \(number of subnets, 4\), not int64 of \(1, 3\)"),
        (np.array([2, 3, 1, 1]), r"not int64 of \(4,\)"),
        (np.array([[2.0, 3.0, 1.0, 1.0]]), "genomes are int64 .*, not float64"),
    ],
)
def test_array_that_holds_no_subnets_is_refused(genomes: Genomes, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        small_space().subnets(genomes)
    with pytest.raises(SpaceError, match="has 2 widths, this space has 4"):
        small_space().genomes([Subnet((2, 3))])
