"""Content that is wrong in every way that can be generated: values, keys, bytes."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 3, 10**6, 10**12, 2**63 - 1, 2**63, 2**64 + 1, 2**200, -(2**64)),
    *(0.5, -0.5, 1e-320, 1e308, float("inf"), float("-inf"), float("nan")),
    *("", "word", "a" * 300, "\0", "\ud800", "é", "nan", "1e400", "../x", "/", "~", "a.b", "-1"),
    *([], [1], ["a"], [[1, 2], [3]], [None], {}, {"a": 1}, {1: 2}, {"name": []}, {"name": "word"}),
)  # fmt: skip
"""What stands where something else is expected."""

Place = tuple[Any, ...]


def places(tree: Any, place: Place = ()) -> Iterator[Place]:
    """Where a value is in nested dicts and lists: keys and positions from the outside in."""
    yield place
    items = tree.items() if isinstance(tree, dict) else ()
    items = enumerate(tree) if isinstance(tree, list | tuple) else items
    for key, inner in items:
        yield from places(inner, (*place, key))


def replaced(tree: Any, place: Place, value: Any) -> Any:
    """A copy with another value somewhere."""
    if not place:
        return value
    changed = copy.deepcopy(tree)
    owner = changed
    for key in place[:-1]:
        owner = owner[key]
    owner[place[-1]] = value
    return changed


def without(tree: Any, place: Place) -> Any:
    """A copy that lacks something."""
    changed = copy.deepcopy(tree)
    owner = changed
    for key in place[:-1]:
        owner = owner[key]
    del owner[place[-1]]
    return changed


def trees(tree: Any, rng: random.Random, count: int) -> Iterator[tuple[str, Any]]:
    """Copies that are wrong in one place, and what is wrong about them.

    Every place is met once before any is met again.
    """
    tree = json.loads(json.dumps(tree))
    where = list(places(tree))
    for number in range(count):
        if number % len(where) == 0:
            rng.shuffle(where)
        place = where[number % len(where)]
        value = rng.choice((*VALUES, without))
        name = ".".join(map(str, place))
        if value is not without:
            yield f"{name}={value!r:.60}", replaced(tree, place, copy.deepcopy(value))
        elif place:
            yield f"no {name}", without(tree, place)


def texts(content: bytes, rng: random.Random, count: int) -> Iterator[bytes]:
    """Contents of a text file that are cut, changed in a byte, or something else."""
    whole: tuple[bytes, ...] = (
        *(b"", b"null", b"[]", b"{}", b"3", b'"x"', b"\xff\xfe", b"\0", b"[" * 3_000),
        *(b"{" * 1_500, b"[1, 2", b'{"a":' * 5_000, b"9" * 5_000, b"&a [*a]", b"2001-99-99"),
        *(content + content, content[::-1], content + b"\xff", b"\xef\xbb\xbf" + content),
    )
    yield from whole
    for _ in range(count - len(whole)):
        place, kind = rng.randrange(len(content)), rng.randrange(3)
        changed = bytes([rng.randrange(256)]) if kind else b""
        yield content[:place] + (changed + content[place + 1 :] if kind < 2 else changed)
