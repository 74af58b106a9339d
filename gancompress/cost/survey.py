"""Measure a device: some subnets, split into their operations, and as many held out to check."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gancompress.cost.fitting import Observations, fit_entry, fit_total
from gancompress.cost.steps import Plan, Step
from gancompress.cost.table import Check, Device, Entry, Floats
from gancompress.elastic import Supernet
from gancompress.elastic.space import Genomes, SearchSpace, Subnet

DESIGN = (24, 40)  # least and most subnets that a table is made from
REPEATS = 2  # times that each pair of widths should meet
CANDIDATES = 256  # random subnets among which the next one of the design is chosen


class Bench(ABC):
    """Runs subnets of one supernet, at one image size, in one runtime.

    Attributes:
        runtime: Its name.
        version: Its version.
        threads: That it computes with.
        plan: The operations that times are split into.
    """

    runtime: str
    version: str
    threads: int
    plan: Plan

    @abstractmethod
    def split(self, subnets: Sequence[Subnet], rounds: int) -> Floats:
        """Milliseconds of every step of every subnet, in rounds in which the subnets take turns.

        Returns:
            (subnets, rounds, steps); warm-ups are left out.
        """

    @abstractmethod
    def total(self, subnets: Sequence[Subnet], rounds: int) -> Floats:
        """Milliseconds end to end for one image, in rounds in which the subnets take turns.

        Returns:
            (subnets, rounds); warm-ups are left out.
        """


@dataclass(frozen=True)
class SurveyOptions:
    """How a device is measured.

    Attributes:
        rounds: Timed images of each subnet, split, and again end to end.
        num_held_out: Subnets to check the table with.
        seed: Of the choice of subnets.
    """

    rounds: int = 15
    num_held_out: int = 30
    seed: int = 0


@dataclass(frozen=True)
class Choice:
    """The subnets to measure.

    Attributes:
        design: The table is made from these, (K, D).
        held_out: Others, (L, D).
    """

    design: Genomes
    held_out: Genomes


def choose_subnets(net: Supernet, plan: Plan, options: SurveyOptions) -> Choice:
    """Subnets in which all pairs of widths of every operation meet, and random others.

    Both ends of the space belong to the design; every further subnet is the one of some random
    ones whose pairs of widths have been met least.
    """
    space, rng = net.space, np.random.default_rng(options.seed)
    pairs = _gene_pairs(plan, space)
    lengths = [len(dimension.choices) for dimension in space.dimensions]
    cells = max((lengths[a] * lengths[b] for a, b in pairs), default=1)
    number = min(max(REPEATS * cells, DESIGN[0]), DESIGN[1], max(2, space.size // 2), space.size)
    ends = space.genomes([space.smallest(), space.largest()])
    design = list(np.unique(ends, axis=0)[:number])
    met = [np.zeros((lengths[a], lengths[b])) for a, b in pairs]
    places = [{width: n for n, width in enumerate(d.choices)} for d in space.dimensions]
    for genome in design:
        _meet(met, pairs, _places(genome[None], places)[0])
    while len(design) < number:
        candidates = _new(space.sample_genomes(CANDIDATES, rng), design)
        if not len(candidates):
            continue
        spots = _places(candidates, places)
        gain = np.zeros(len(candidates))
        for count, (a, b) in zip(met, pairs, strict=True):
            gain += 1 / (1 + count[spots[:, a], spots[:, b]]) ** 2
        best = int(gain.argmax())
        design.append(candidates[best])
        _meet(met, pairs, spots[best])
    held_out = _held_out(space, design, min(options.num_held_out, space.size - number), rng)
    return Choice(np.array(design), held_out)


def _gene_pairs(plan: Plan, space: SearchSpace) -> list[tuple[int, int]]:
    """Genes that meet in an operation; (a, a) for one that is alone."""
    pairs: dict[tuple[int, int], None] = {}
    for step in plan.steps:
        genes = sorted({g for p in (step.inputs, step.outputs) for g in space.channel_terms(p)[1]})
        found = [(a, b) for n, a in enumerate(genes) for b in genes[n + 1 :]]
        pairs.update(dict.fromkeys(found or [(a, a) for a in genes]))
    return list(pairs)


def _places(genomes: Genomes, places: Sequence[Mapping[int, int]]) -> Genomes:
    return np.array([[p[w] for p, w in zip(places, row, strict=True)] for row in genomes.tolist()])


def _meet(met: list[Floats], pairs: list[tuple[int, int]], spots: Genomes) -> None:
    for count, (a, b) in zip(met, pairs, strict=True):
        count[spots[a], spots[b]] += 1


def _new(genomes: Genomes, known: Sequence[Genomes]) -> Genomes:
    seen = {tuple(row.tolist()) for row in known}
    kept = [n for n, row in enumerate(genomes.tolist()) if tuple(row) not in seen]
    return genomes[kept]


def _held_out(
    space: SearchSpace, known: list[Genomes], number: int, rng: np.random.Generator
) -> Genomes:
    """Distinct random subnets that are not known."""
    found: list[Genomes] = []
    while len(found) < number:
        found += list(_new(space.sample_genomes(1, rng), [*known, *found]))
    return np.array(found, np.int64).reshape(len(found), len(space))


# ------------------------------------------------------------------------- measurements


def survey(net: Supernet, bench: Bench, draft: Device, options: SurveyOptions) -> Device:
    """Measure, make the table, and check it with subnets that it was not made from.

    Operations are told apart in a first pass; whole networks are timed in a second one, in which
    nothing watches them, and their times set the table's scale.

    Args:
        net: The supernet.
        bench: Runs its subnets.
        draft: Name, machine and image size of the device; entries and checks are filled in.
        options: How.
    """
    start = time.perf_counter()
    choice = choose_subnets(net, bench.plan, options)
    design, held_out = net.space.subnets(choice.design), net.space.subnets(choice.held_out)
    split = steady(bench.split(design, options.rounds))
    rounds = bench.total([*design, *held_out], options.rounds)
    totals = steady(rounds[:, :, None])[:, 0]
    entries = _entries(net, bench.plan, choice.design, split)
    device = replace(draft, entries=entries)
    constant, scale = fit_total(
        device.predictor(net, draft.size)(choice.design), totals[: len(design)]
    )
    device = replace(device, constant_ms=constant, scale=scale)
    predicted = device.predictor(net, draft.size)(choice.held_out)
    checks = zip(held_out, totals[len(design) :].tolist(), predicted.tolist(), strict=True)
    details = {
        "num_subnets": len(design),
        "rounds": options.rounds,
        "seed": options.seed,
        "noise": round(noise(rounds), 4),
        "seconds": round(time.perf_counter() - start, 1),
    }
    return replace(
        device,
        checks=tuple(Check(str(subnet), measured, ms) for subnet, measured, ms in checks),
        details=details,
    )


def steady(times: Floats) -> Floats:
    """What each network takes when the machine runs at its usual speed.

    A round in which everything is slower is a slower machine: its times are divided by how much
    the networks' sums exceed their medians, in the median over the networks. Of what is left the
    median over the rounds is taken.

    Args:
        times: (networks, rounds, parts of each network).

    Returns:
        (networks, parts).
    """
    sums = times.sum(axis=2)
    pace = np.median(sums / np.median(sums, axis=1, keepdims=True), axis=0)
    medians: Floats = np.median(times / pace[None, :, None], axis=1)
    return medians


def noise(times: Floats) -> float:
    """Interquartile range over the rounds divided by the median, in the median over networks."""
    low, middle, high = np.quantile(times, (0.25, 0.5, 0.75), axis=1)
    return float(np.median((high - low) / middle))


def _entries(net: Supernet, plan: Plan, genomes: Genomes, split: Floats) -> tuple[Entry, ...]:
    """One entry for each kind of step, from all places where it is used.

    Args:
        net: The supernet.
        plan: Its steps.
        genomes: What was measured, (K, D).
        split: Milliseconds of every step, (K, steps).
    """
    seen: dict[str, list[tuple[Step, Floats]]] = {}
    for step, ms in zip(plan.steps, split.T, strict=True):
        seen.setdefault(step.key, []).append((step, ms))
    entries = []
    for key, found in seen.items():
        ins, outs = (
            np.concatenate([net.space.count_channels(p, genomes) for p in parts])
            for parts in ([s.inputs for s, _ in found], [s.outputs for s, _ in found])
        )
        entries.append(
            fit_entry(key, Observations(ins, outs, np.concatenate([t for _, t in found])))
        )
    return tuple(entries)
