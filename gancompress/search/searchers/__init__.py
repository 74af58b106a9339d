"""Who is evaluated next. A searcher proposes; it neither evaluates nor writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gancompress.search.searchers.base import Evaluated, Searcher, generation_rng
from gancompress.search.searchers.genetic import Evolution, Nsga2
from gancompress.search.searchers.guided import Guided, Report
from gancompress.search.searchers.sweep import Exhaustive, RandomSearch


@dataclass(frozen=True)
class SearcherOptions:
    """What a user may set; a searcher takes what concerns it.

    Attributes:
        generation: Subnets in a proposal, or None for the searcher's own number.
        parent_ratio: Evolution: share of a generation that may have children.
        mutation_ratio: Evolution: share of children that are mutants.
        mutate_prob: Evolution: probability that a width of a mutant is drawn anew.
    """

    generation: int | None = None
    parent_ratio: float = 0.25
    mutation_ratio: float = 0.5
    mutate_prob: float = 0.2


def _evolution(options: SearcherOptions, spread: bool) -> Searcher:
    return Evolution(
        options.generation or 100,
        options.parent_ratio,
        options.mutation_ratio,
        options.mutate_prob,
        spread,
    )


SEARCHERS: Mapping[str, Callable[[SearcherOptions], Searcher]] = {
    "exhaustive": lambda options: Exhaustive(options.generation or 100),
    "random": lambda options: RandomSearch(options.generation or 100),
    "evolution": lambda options: _evolution(options, spread=True),
    "published": lambda options: _evolution(options, spread=False),
    "nsga2": lambda options: Nsga2(options.generation or 16),
    "guided": lambda options: Guided(options.generation or 16),
}

__all__ = [
    "SEARCHERS",
    "Evaluated",
    "Evolution",
    "Exhaustive",
    "Guided",
    "Nsga2",
    "RandomSearch",
    "Report",
    "Searcher",
    "SearcherOptions",
    "generation_rng",
]
