"""Search spaces of a generator: which candidates every dimension has."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from gancompress.elastic.branches import Needs, any_of
from gancompress.elastic.dimensions import (
    ALWAYS,
    FULL,
    Depth,
    Dimension,
    KernelSize,
    Resolution,
    Uses,
    Width,
)
from gancompress.elastic.parts import Group
from gancompress.elastic.space import SearchSpace
from gancompress.elastic.traced import Traced
from gancompress.errors import SpaceError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tie:
    """Groups that share one dimension, counted in units of `unit` channels."""

    groups: tuple[str, ...]
    unit: int = 1


def make_space(
    groups: Sequence[Group],
    widths: Sequence[float],
    divisor: int = 8,
    ties: Sequence[Tie] = (),
    forms: Mapping[int, tuple[int, ...]] | None = None,
) -> SearchSpace:
    """A space whose candidates are fractions of every group's full width.

    Args:
        groups: Channel groups of the generator.
        widths: Fractions in (0, 1].
        divisor: Candidates are rounded to multiples of this many units, at least one such multiple
            (the full width itself is always itself); channels that move together count as many.
        ties: Groups that share a dimension; every other group has its own.
        forms: See `SearchSpace`.

    Raises:
        SpaceError: A fraction is out of range, or tied groups do not exist or differ in width.
    """
    if not widths or any(not 0 < w <= 1 for w in widths):
        raise SpaceError(f"widths are fractions in (0, 1], not {tuple(widths)}")
    sizes = {group.name: group.size for group in groups}
    tied = {name: tie for tie in ties for name in tie.groups}
    missing = [name for name in tied if name not in sizes]
    if missing:
        raise SpaceError(f"no channel group {missing[0]}; there are {', '.join(sizes)}")
    dimensions: dict[tuple[str, ...], Width] = {}
    for group in groups:
        tie = tied.get(group.name, Tie((group.name,)))
        if len({sizes[name] for name in tie.groups}) > 1 or group.size % tie.unit:
            raise SpaceError(f"groups {', '.join(tie.groups)} differ in width and cannot be tied")
        full = group.size // tie.unit
        step = -(-divisor // group.unit)
        choices = tuple(sorted({round_width(full * w, full, step) for w in widths}))
        dimensions.setdefault(tie.groups, Width(tie.groups, full, choices, tie.unit))
    return SearchSpace(tuple(dimensions.values()), dict(forms or {}))


def elastic_groups(traced: Traced, keep: Collection[str] = ()) -> tuple[Group, ...]:
    """The groups that may be narrowed; a warning names what keeps its width for want of a rule.

    Args:
        traced: The generator.
        keep: Names of modules and parameters that keep their full width on purpose, with all that
            is in them.

    Raises:
        SpaceError: There is no such module or parameter.
    """
    if traced.kept:
        parts = ", ".join(f"{name} ({what})" for name, what in traced.kept.items())
        logger.warning("kept at full width, no rule follows channels through them: %s", parts)
    tensors = traced.needs.tensors
    for part in keep:
        if not any(f"{name}.".startswith(f"{part}.") for name in tensors):
            raise SpaceError(f"keep: the generator has no part {part!a} with parameters")
    held = {
        group
        for name, dims in traced.parameters.items()
        if any(f"{name}.".startswith(f"{part}.") for part in keep)
        for parts in dims
        for group in (parts.groups if parts else ())
    }
    return tuple(group for group in traced.groups if group.name not in held)


def nothing_elastic(traced: Traced) -> SpaceError:
    """The error for a generator of which there is one size only."""
    reasons = [f"{name} ({what})" for name, what in traced.kept.items()]
    return SpaceError(
        "nothing in this generator is elastic: there is no subnet to train or search"
        + (f"\n  No rule follows channels through {', '.join(reasons)}." if reasons else "")
    )


def round_width(width: float, full: int, divisor: int) -> int:
    """Nearest multiple of `divisor`, at least one, at most the full width."""
    if width >= full:
        return full
    return min(full, max(divisor, int(width / divisor + 0.5) * divisor))


def with_depths(space: SearchSpace, traced: Traced, depths: Sequence[float]) -> SearchSpace:
    """A space of widths with a depth for every stage of branches that can be left out.

    Args:
        space: Widths.
        traced: The generator.
        depths: Candidates as fractions in (0, 1] of every stage's number of branches, at least one.

    Raises:
        SpaceError: A fraction is out of range, or there is no such stage.
    """
    if not depths or any(not 0 < share <= 1 for share in depths):
        raise SpaceError(f"depths are fractions in (0, 1], not {tuple(depths)}")
    found: list[Dimension] = []
    for stage in traced.stages:
        names = tuple(branch.name for branch in stage)
        choices = sorted({max(1, int(share * len(names) + 0.5)) for share in depths})
        if choices != [len(names)]:
            found.append(Depth(names, len(names), tuple(choices)))
    if not found and set(depths) != {1.0}:
        raise SpaceError(
            f"depths {tuple(depths)}: this generator has no two branches in a row to leave out"
        )
    dimensions = (*space.dimensions, *found)
    nodes = {b.name: traced.needs.nodes[b.join] for stage in traced.stages for b in stage}
    needs = [
        *(any_of([traced.needs.groups[name] for name in d.members]) for d in space.dimensions),
        *(nodes[d.members[0]] for d in found),
    ]
    pairs = zip(dimensions, needs, strict=True)
    return replace(
        space, dimensions=tuple(replace(d, uses=_uses(dimensions, own)) for d, own in pairs)
    )


def with_kernels(space: SearchSpace, traced: Traced, sides: Sequence[int]) -> SearchSpace:
    """A space with a kernel size for every convolution that has candidates among these sides.

    Args:
        space: Widths and depths.
        traced: The generator.
        sides: Candidates in pixels; none leaves all kernels as they are.

    Raises:
        SpaceError: No convolution can have a kernel of another of these sides than its own.
    """
    found = []
    for kernel in traced.kernels:
        choices = tuple(side for side in kernel.choices if side in sides)
        if choices and choices != (kernel.side,):
            uses = _uses(space.dimensions, traced.needs.tensors[f"{kernel.layer}.weight"])
            found.append(KernelSize((kernel.layer,), kernel.side, choices, uses=uses))
    if sides and not found:
        known = sorted({side for kernel in traced.kernels for side in kernel.choices})
        raise SpaceError(f"kernels {tuple(sides)}: this generator can have {known or 'none'}")
    return replace(space, dimensions=(*space.dimensions, *found))


def with_resolutions(space: SearchSpace, traced: Traced, shares: Sequence[float]) -> SearchSpace:
    """A space with the share of the image's sides at which the generator runs.

    Args:
        space: All else.
        traced: The generator.
        shares: Candidates in [0.01, 1], to a hundredth.

    Raises:
        SpaceError: A share is out of range or no whole hundredth, or the generator is not one from
            an image to another of its size.
    """
    if not shares or any(not 0.01 <= share <= 1 for share in shares):
        raise SpaceError(f"resolutions are shares in [0.01, 1], not {tuple(shares)}")
    for share in shares:
        if not math.isclose(share * FULL, round(share * FULL)):
            raise SpaceError(
                f"resolutions {tuple(shares)}: {share} is no whole number of hundredths\n"
                "  Round it, or take shares such as 0.5 and 0.75, which need small multiples."
            )
    choices = tuple(sorted({round(share * FULL) for share in shares}))
    if choices == (FULL,):
        return space
    (name, shape), *others = traced.inputs.items()
    if others or len(shape) != 4 or traced.shapes(*shape[2:])["output"][2:] != shape[2:]:
        raise SpaceError(
            f"resolutions {tuple(shares)}: only a generator from one image to another of its size "
            "can run on a smaller one"
        )
    return replace(space, dimensions=(*space.dimensions, Resolution((name,), FULL, choices)))


def _uses(dimensions: Sequence[Dimension], needs: Needs) -> Uses:
    """When something matters that is needed so, by the depths among some dimensions."""
    places = {
        name: (gene, place)
        for gene, dimension in enumerate(dimensions)
        if isinstance(dimension, Depth)
        for place, name in enumerate(dimension.members, 1)
    }
    cases = set()
    for case in needs:
        least: dict[int, int] = {}
        for gene, place in (places[name] for name in case if name in places):
            least[gene] = max(least.get(gene, 0), place)
        cases.add(tuple(sorted(least.items())))
    return ALWAYS if () in cases else tuple(sorted(cases))
