"""Plain dicts are the tables; `lookup` gives the one error message for a wrong name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from gancompress.errors import ConfigError

T = TypeVar("T")


def suggest(name: str, known: Iterable[str]) -> str:
    """Text to append to an error: the nearest known name, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def lookup(table: Mapping[str, T], name: str, kind: str) -> T:
    """Entry `name` of `table`.

    Raises:
        ConfigError: The name is not in the table; the message lists what is.
    """
    try:
        return table[name]
    except KeyError:
        hint = suggest(name, table)
        choices = ", ".join(sorted(table))
        raise ConfigError(f"unknown {kind} '{name}'{hint}\n  Choose from {choices}.") from None
