"""Who is evaluated next. A searcher proposes; it neither evaluates nor writes."""

from __future__ import annotations

from gancompress.search.searchers.base import Evaluated, Searcher, generation_rng
from gancompress.search.searchers.evolution import Evolution
from gancompress.search.searchers.guided import Guided
from gancompress.search.searchers.sweep import Exhaustive, RandomSearch

SEARCHERS: dict[str, type[Searcher]] = {
    "guided": Guided,
    "evolution": Evolution,
    "random": RandomSearch,
    "exhaustive": Exhaustive,
}
"""By name; the fields of each class are the options that it takes."""


__all__ = [
    "SEARCHERS",
    "Evaluated",
    "Evolution",
    "Exhaustive",
    "Guided",
    "RandomSearch",
    "Searcher",
    "generation_rng",
]
