"""Search spaces of a generator: which candidates every dimension has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from gancompress.elastic.branches import Needs, any_of
from gancompress.elastic.dimensions import ALWAYS, Depth, Dimension, Uses, Width
from gancompress.elastic.parts import Group
from gancompress.elastic.space import SearchSpace
from gancompress.elastic.traced import Traced
from gancompress.errors import SpaceError


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
            (the full width itself is always itself).
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
        choices = tuple(sorted({round_width(full * w, full, divisor) for w in widths}))
        dimensions.setdefault(tie.groups, Width(tie.groups, full, choices, tie.unit))
    return SearchSpace(tuple(dimensions.values()), dict(forms or {}))


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
    places = {
        name: (len(space) + number, place)
        for number, depth in enumerate(found)
        for place, name in enumerate(depth.members, 1)
    }

    def uses(needs: Iterable[Needs]) -> Uses:
        cases = set()
        for case in any_of([*needs]):
            least: dict[int, int] = {}
            for gene, place in (places[name] for name in case if name in places):
                least[gene] = max(least.get(gene, 0), place)
            cases.add(tuple(sorted(least.items())))
        return ALWAYS if () in cases else tuple(sorted(cases))

    nodes = {b.name: traced.needs.nodes[b.join] for stage in traced.stages for b in stage}
    dimensions = [
        replace(d, uses=uses(traced.needs.groups[name] for name in d.members))
        for d in space.dimensions
    ]
    dimensions += [replace(d, uses=uses([nodes[d.members[0]]])) for d in found]
    return replace(space, dimensions=tuple(dimensions))
