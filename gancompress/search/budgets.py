"""Budgets: upper bounds on a cost. A cost is a named, vectorised function of the widths.

| text | bound on |
|---|---|
| `2.6G` or `macs=2.6G` | multiply-accumulates of one image |
| `params=0.4M` | parameters |
| `size_mb=1.5` | megabytes of the float32 weights |
| `latency_ms@phone=40` | predicted milliseconds on the device whose table is named `phone` |
| `latency_ms=40` | the same on every device of the search |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gancompress.cost import format_count, parse_count
from gancompress.elastic import Supernet
from gancompress.elastic.space import Genomes
from gancompress.errors import BudgetError, ConfigError
from gancompress.search.problem import CostFunction, Problem
from gancompress.tables import suggest

LATENCY = "latency_ms"
DEFAULT_SHARES = (1.0, 2 / 3, 1 / 3)  # exponents between the smallest and the largest subnet
_FLAGS = {"macs": "--macs", "params": "--params", "size_mb": "--size-mb", LATENCY: "--latency-ms"}


@dataclass(frozen=True)
class Budget:
    """An upper bound on one cost.

    Attributes:
        cost: Name of the cost: `macs`, `params`, `size_mb` or `latency_ms@DEVICE`.
        limit: The bound, in the cost's unit.
    """

    cost: str
    limit: float

    def __str__(self) -> str:
        limit = int(self.limit) if float(self.limit).is_integer() else self.limit
        return f"{self.cost}={limit}"

    @property
    def label(self) -> str:
        """For people, as short as can be: `2.6G` for MACs, `40 ms on phone`."""
        return describe_cost(self.cost, self.limit).removesuffix(" MACs")


def describe_cost(cost: str, value: float) -> str:
    """A value with its unit: `2.6G MACs`, `356.9K params`, `40 ms on phone`, `1.43 MB`."""
    kind, _, device = cost.partition("@")
    if kind == "macs":
        return f"{format_count(value)} MACs"
    if kind == "params":
        return f"{format_count(value)} params"
    if kind == "size_mb":
        return f"{value:.4g} MB"
    return f"{value:.4g} ms on {device}"


def search_costs(
    net: Supernet, size: int, devices: Mapping[str, CostFunction] | None = None
) -> dict[str, CostFunction]:
    """All costs of a supernet's subnets by name.

    Args:
        net: The supernet.
        size: Side of the images.
        devices: Latency in milliseconds by device name.
    """
    costs = net.costs

    def macs(genomes: Genomes) -> npt.NDArray[np.float64]:
        return costs.macs(genomes, size).astype(np.float64)

    def params(genomes: Genomes) -> npt.NDArray[np.float64]:
        return costs.params(genomes).astype(np.float64)

    def size_mb(genomes: Genomes) -> npt.NDArray[np.float64]:
        return costs.weight_bytes(genomes) / 1e6

    known: dict[str, CostFunction] = {"macs": macs, "params": params, "size_mb": size_mb}
    return known | {f"{LATENCY}@{name}": cost for name, cost in (devices or {}).items()}


def parse_budgets(texts: Iterable[str], costs: Mapping[str, CostFunction]) -> list[Budget]:
    """Budgets from their texts, the largest of each cost first, without repetitions.

    Args:
        texts: As in the table at the top of this module.
        costs: The costs that there are.

    Raises:
        ConfigError: Not a budget, or one on a cost or device that is not known.
    """
    found: dict[Budget, None] = {}
    for text in texts:
        name, separator, value = text.rpartition("=")
        name = name if separator else "macs"
        for cost in _costs_named(name, costs):
            flag = _FLAGS.get(name.partition("@")[0], name)
            found[Budget(cost, _limit(cost, value, flag))] = None
    order = list(costs)
    return sorted(found, key=lambda budget: (order.index(budget.cost), -budget.limit))


def _costs_named(name: str, costs: Mapping[str, CostFunction]) -> list[str]:
    devices = [cost for cost in costs if cost.startswith(f"{LATENCY}@")]
    if name.partition("@")[0] == LATENCY and not devices:
        raise ConfigError(
            "--latency-ms needs a table of what operations take on the device: "
            "--device-table FILE\n  `gancompress latency` writes one."
        )
    if name == LATENCY:
        return devices
    if name not in costs:
        raise ConfigError(
            f"unknown cost '{name}'{suggest(name, costs)}\n  Choose from {', '.join(costs)}."
        )
    return [name]


def _limit(cost: str, text: str, flag: str) -> float:
    if cost in ("macs", "params"):
        return float(parse_count(text, flag))
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ConfigError(f"{flag} takes a positive number, not '{text}'")
    return value


def default_budgets(problem: Problem) -> list[Budget]:
    """Three budgets in MACs, evenly spread between the smallest and the largest subnet."""
    low, high = problem.span("macs")
    return [
        Budget("macs", float(round(low * (high / low) ** exponent))) for exponent in DEFAULT_SHARES
    ]


def limited(problem: Problem, budgets: Iterable[Budget], size: int) -> Problem:
    """The same space, searched as far as the largest budget of each cost that has one.

    Args:
        problem: The space with all its costs.
        budgets: What is asked for.
        size: Side of the images, for the message.

    Raises:
        BudgetError: Nothing fits one of the budgets; names the smallest cost.
    """
    limits: dict[str, float] = {}
    for budget in budgets:
        subnet, cost = problem.cheapest[budget.cost]
        if cost > budget.limit:
            kind, _, device = budget.cost.partition("@")
            asked = f"{_FLAGS[kind]} {_number(budget.cost, budget.limit)}"
            where = f"on {device} at {size}x{size}" if device else f"at {size}x{size}"
            raise BudgetError(
                f"no subnet fits {asked} {where}: the "
                f"smallest ({subnet}) needs {_number(budget.cost, cost)}.\n"
                "  Raise the budget, or add smaller widths to student.widths and train again."
            )
        limits[budget.cost] = max(budget.limit, limits.get(budget.cost, 0.0))
    costs = {name: problem.costs[name] for name in limits}
    return Problem(problem.space, costs, limits)


def _number(cost: str, value: float) -> str:
    """A value as its flag takes it."""
    return format_count(value) if cost in ("macs", "params") else f"{value:.4g}"
