"""Budgets on any cost, from text to a bounded problem."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from gancompress.config import GeneratorOptions
from gancompress.elastic import Supernet
from gancompress.elastic.space import Genomes
from gancompress.errors import BudgetError, ConfigError
from gancompress.metrics.distances import Estimate
from gancompress.models import build_generator
from gancompress.search.answers import uniform_subnets, uniform_under
from gancompress.search.budgets import (
    Budget,
    default_budgets,
    describe_cost,
    limited,
    parse_budgets,
    search_costs,
)
from gancompress.search.problem import Problem
from gancompress.search.result import Answer
from gancompress.search.trials import Trial


def phone(genomes: Genomes) -> np.ndarray:
    return 3.0 + 0.5 * genomes.sum(axis=1)


@pytest.fixture(scope="module")
def net() -> Supernet:
    options = GeneratorOptions(input_nc=3, output_nc=3, name="mobile_resnet_6blocks", ngf=8)
    return Supernet(
        build_generator(options), torch.empty(1, 3, 32, 32), widths=(0.25, 0.5, 1.0), divisor=2
    )


@pytest.fixture(scope="module")
def problem(net: Supernet) -> Problem:
    return Problem(net.space, search_costs(net, 32, {"phone": phone, "server": phone}))


def test_costs_are_those_of_the_supernet(net: Supernet, problem: Problem) -> None:
    subnets = [net.space.smallest(), net.space.largest()]
    genomes = net.space.genomes(subnets)
    assert problem.values(genomes, "macs").tolist() == [net.macs(s, 32) for s in subnets]
    assert problem.values(genomes, "params").tolist() == [net.num_parameters(s) for s in subnets]
    sizes = [4e-6 * net.num_parameters(s) for s in subnets]
    assert problem.values(genomes, "size_mb").tolist() == pytest.approx(sizes)
    assert problem.values(genomes, "latency_ms@phone").tolist() == phone(genomes).tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2.6G", [Budget("macs", 2.6e9)]),
        ("macs=400M", [Budget("macs", 4e8)]),
        ("params=0.4M", [Budget("params", 4e5)]),
        ("size_mb=1.5", [Budget("size_mb", 1.5)]),
        ("latency_ms@phone=40", [Budget("latency_ms@phone", 40)]),
        ("latency_ms=7", [Budget("latency_ms@phone", 7), Budget("latency_ms@server", 7)]),
    ],
)
def test_texts_become_budgets(text: str, expected: list[Budget], problem: Problem) -> None:
    assert parse_budgets([text], problem.costs) == expected
    again = [str(budget) for budget in expected]
    assert parse_budgets(again, problem.costs) == expected


def test_budgets_are_sorted_by_cost_and_the_largest_first(problem: Problem) -> None:
    texts = ["params=10K", "1M", "2M", "params=20K", "1M"]
    found = parse_budgets(texts, problem.costs)
    assert [str(b) for b in found] == [
        *("macs=2000000", "macs=1000000", "params=20000", "params=10000")
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("many", "--macs takes a positive count"),
        ("size_mb=-1", "--size-mb takes a positive number, not '-1'"),
        ("latency_ms@phone=soon", "--latency-ms takes a positive number"),
        ("parms=1M", "unknown cost 'parms'; did you mean 'params'"),
        ("latency_ms@tv=4", "unknown cost 'latency_ms@tv'"),
    ],
)
def test_mistakes_are_named(text: str, message: str, problem: Problem) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_budgets([text], problem.costs)


def test_a_latency_budget_needs_a_device(net: Supernet) -> None:
    for text in ("latency_ms=4", "latency_ms@phone=4"):
        with pytest.raises(ConfigError, match=r"needs a table .*: --device-table FILE"):
            parse_budgets([text], search_costs(net, 32))


def test_an_infeasible_latency_names_the_device(problem: Problem) -> None:
    with pytest.raises(BudgetError, match=r"no subnet fits --latency-ms 2\.3 on phone at 32x32"):
        limited(problem, [Budget("latency_ms@phone", 2.3)], 32)


def test_the_problem_is_bounded_by_the_largest_budget_of_each_cost(problem: Problem) -> None:
    low, high = problem.span("macs")
    middle = (low + high) / 2
    budgets = [Budget("macs", middle), Budget("macs", low), Budget("params", 1e9)]
    bounded = limited(problem, budgets, 32)
    assert dict(bounded.limits) == {"macs": middle, "params": 1e9}
    assert list(bounded.costs) == ["macs", "params"]


@pytest.mark.parametrize("cost", ["macs", "params", "size_mb", "latency_ms@phone"])
def test_any_infeasible_budget_is_refused_with_the_smallest_cost(
    cost: str, problem: Problem
) -> None:
    low, high = problem.span(cost)
    with pytest.raises(BudgetError, match=str(problem.space.smallest())):
        limited(problem, [Budget(cost, high), Budget(cost, 0.9 * low)], 32)


def test_default_budgets_lie_between_smallest_and_largest(net: Supernet, problem: Problem) -> None:
    limits = [budget.limit for budget in default_budgets(problem)]
    low, high = (net.macs(s, 32) for s in (net.space.smallest(), net.space.largest()))
    assert limits[0] == high
    assert limits == sorted(limits, reverse=True)
    assert limits[2] / low == pytest.approx((high / low) ** (1 / 3), rel=1e-3)


def test_costs_are_described_with_their_units() -> None:
    assert describe_cost("macs", 2.6e9) == "2.6G MACs"
    assert describe_cost("params", 356_867) == "356.9K params"
    assert describe_cost("size_mb", 1.4321) == "1.432 MB"
    assert describe_cost("latency_ms@phone", 40) == "40 ms on phone"


def test_uniform_subnets_have_one_fraction_everywhere(net: Supernet, problem: Problem) -> None:
    found = uniform_subnets(net.space)
    assert found[0] == net.space.smallest()
    assert found[-1] == net.space.largest()
    halves = tuple(
        max(c for c in d.choices if c <= d.full / 2 or c == d.choices[0])
        for d in net.space.dimensions
    )
    assert halves in [subnet.values for subnet in found]
    limit = net.macs(net.space.largest(), 32) - 1
    subnet, cost = uniform_under(problem, Budget("macs", limit))
    assert cost == net.macs(subnet, 32) <= limit
    dearer = [s for s in found if cost < net.macs(s, 32) <= limit]
    assert not dearer


def test_an_answer_survives_its_json_with_ends_that_nobody_knows(net: Supernet) -> None:
    subnet = net.space.smallest()
    trial = Trial(subnet, 5, 0.5, {"teacher_mae": 0.5}, 4)
    unknown, known = Estimate(0.5, math.nan, math.nan), Estimate(0.4, 0.3, 0.5)
    answer = Answer(Budget("macs", 9.0), trial, 5.0, unknown, 4, subnet, 5.0, known)
    text = json.dumps(answer.as_json(), allow_nan=False)
    again = Answer.from_json(str(answer.budget), json.loads(text))
    assert again.uniform_estimate == known
    assert again.estimate.value == 0.5
    assert math.isnan(again.estimate.low)
    assert (again.budget, again.trial) == (answer.budget, trial)
