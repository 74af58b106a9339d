"""Who is evaluated next. A searcher proposes; it neither evaluates nor writes."""

from __future__ import annotations

from gancompress.config import SearcherOptions, build
from gancompress.errors import ConfigError
from gancompress.search.searchers.base import Evaluated, Searcher, generation_rng
from gancompress.search.searchers.evolution import Evolution
from gancompress.search.searchers.guided import Guided
from gancompress.search.searchers.sweep import Exhaustive, RandomSearch
from gancompress.tables import lookup

SEARCHERS: dict[str, type[Searcher]] = {
    "guided": Guided,
    "evolution": Evolution,
    "random": RandomSearch,
    "exhaustive": Exhaustive,
}
"""By name; the fields of each class are the options that it takes."""


def make_searcher(options: SearcherOptions) -> Searcher:
    """A searcher with its options.

    Raises:
        ConfigError: No such searcher, an option that it does not take, or a value out of range.
    """
    kind, given = lookup(SEARCHERS, options.name, "searcher"), options.model_extra or {}
    for key in given:
        if key not in kind.model_fields:
            takes = ", ".join(kind.model_fields)
            raise ConfigError(
                f"searcher.{key}: {options.name} does not take it\n  It takes {takes}."
            )
    return build(kind, dict(given), f"searcher {options.name}")


__all__ = [
    "SEARCHERS",
    "Evaluated",
    "Evolution",
    "Exhaustive",
    "Guided",
    "RandomSearch",
    "Searcher",
    "generation_rng",
    "make_searcher",
]
