"""A space of more than 10^19 subnets: counted, drawn from, costed and searched without an index."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from landscapes import Found

from gancompress.config import GeneratorOptions
from gancompress.elastic import Genomes, SearchSpace, Supernet
from gancompress.errors import SpaceError
from gancompress.models import build_generator
from gancompress.search.front import Floats
from gancompress.search.genes import Genes
from gancompress.search.problem import Problem
from gancompress.search.searchers import Evolution, Guided, Searcher, generation_rng

SIDE = 64


@pytest.fixture(scope="module")
def net() -> Supernet:
    """Nine blocks of their own: eight widths, all depths, all kernels, three resolutions."""
    options = {"name": "resnet_9blocks", "input_nc": 3, "output_nc": 3, "ngf": 8}
    generator = build_generator(GeneratorOptions.model_validate(options)).eval()
    widths, depths = ([n / count for n in range(1, count + 1)] for count in (8, 9))
    example = torch.empty(1, 3, SIDE, SIDE)
    return Supernet(
        generator, example, widths, 1, depths=depths, kernels=(1, 3, 5, 7),
        resolutions=(0.5, 0.75, 1.0),
    )  # fmt: skip


def assert_canonical(space: SearchSpace, genomes: Genomes) -> None:
    space.check_genomes(genomes)
    assert np.array_equal(space.canonical(genomes), genomes)


def test_its_subnets_are_counted_exactly(net: Supernet) -> None:
    outside = 3 * 8**5 * 4**2  # resolutions, widths in no block, the two kernels of 7x7
    block = 8 * 2 * 2  # a width, two kernels of 3x3
    assert net.space.distinct == outside * sum(block**depth for depth in range(1, 10))
    assert net.space.distinct > 10**19
    assert net.space.size == outside * 9 * block**9
    with pytest.raises(SpaceError, match="64-bit numbers"):
        net.space.genomes_at([0])


def test_costs_of_many_of_its_subnets_are_those_of_each(net: Supernet) -> None:
    genomes = net.space.sample_genomes(100_000, np.random.default_rng(0))
    assert_canonical(net.space, genomes)
    macs, params = net.costs.macs(genomes, SIDE), net.costs.params(genomes)
    for row in range(0, 100_000, 20_000):
        (subnet,) = net.space.subnets(genomes[[row]])
        assert macs[row] == net.macs(subnet, SIDE)
        assert params[row] == net.num_parameters(subnet)


@pytest.mark.parametrize("searcher", [Evolution(generation=20), Guided(first=12, generation=8)])
def test_searchers_propose_members_and_list_nothing(
    net: Supernet, monkeypatch: pytest.MonkeyPatch, searcher: Searcher
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("an index of the space")

    for owner, name in ((SearchSpace, "genomes_at"), (SearchSpace, "__iter__"), (Genes, "indices")):
        monkeypatch.setattr(owner, name, refuse)
    space = net.space

    def macs(genomes: Genomes) -> Floats:
        return net.costs.macs(genomes, SIDE).astype(np.float64)

    limit = net.macs(space.largest(), SIDE) / 10
    problem, trials = Problem(space, {"macs": macs}, {"macs": limit}), list[Found]()
    for _ in range(3):
        proposals = searcher.propose(problem, trials, generation_rng(0, len(trials)))
        genomes = space.genomes(proposals)
        assert_canonical(space, genomes)
        assert all(subnet in space for subnet in proposals)
        assert (macs(genomes) <= limit).all()
        losses = 1 / macs(genomes) + genomes.var(axis=1)
        trials += [Found(*pair) for pair in zip(proposals, losses.tolist(), strict=True)]
    assert len({trial.subnet for trial in trials}) == len(trials) >= 3 * 8
