"""Three splits as lists of files with their contents' hashes: training, search, test.

Which training images are held out for the search depends on their contents and on a seed: not on
names, on the order of a listing or on the machine. Images of the same bytes stay together, and
what the test split holds is left out of the other two. Of pairs in two folders it is the input
that counts; its target goes with it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from gancompress.config import DataOptions
from gancompress.data.hashing import file_digests
from gancompress.data.kinds import data_kind
from gancompress.data.kinds.kind import Layout, Source
from gancompress.data.listing import find_layout, find_sources
from gancompress.errors import ConfigError, DataError
from gancompress.paths import relative_name

logger = logging.getLogger(__name__)
SPLITS = ("train", "search", "test")
RULE = {
    *("mode", "search_fraction", "split_seed", "max_images"),
    *("train_meta", "search_meta", "test_meta"),
}
FORMAT = 1
# what the content of a damaged file raises
_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError, ConfigError)


class Listed(NamedTuple):
    """One image of a list.

    Attributes:
        name: Path relative to the data's root, with forward slashes.
        digest: SHA-256 of the file's content, in hexadecimal.
    """

    name: str
    digest: str


Images = tuple[Listed, ...]
Row = tuple[Listed, ...]  # an image, or the input and the target of a pair
Lists = dict[str, dict[str, Images]]


@dataclass(frozen=True)
class Splits:
    """The images of every split and side, in a fixed order.

    Sides are A and B, whatever the direction, and AB for side-by-side pairs. Item i of A and item i
    of B of paired data are a pair.

    Attributes:
        root: The data folder that names are relative to.
        rule: The options that the lists were made by.
        sources: Split -> side -> the folder or the list that names its images.
        lists: Split -> side -> images.
    """

    root: Path
    rule: dict[str, Any]
    sources: dict[str, dict[str, str]]
    lists: Lists

    def images(self, split: str, side: str) -> Images:
        """Names and hashes of one list; none where there is no such list."""
        return self.lists.get(split, {}).get(side, ())

    def files(self, split: str, side: str) -> list[Path]:
        """Files of one list; none where there is no such list.

        Args:
            split: train, search or test.
            side: A or B, or AB for side-by-side pairs.
        """
        return [self.root / image.name for image in self.images(split, side)]

    def input_side(self, direction: str) -> str:
        """The side that holds the inputs: A or B by direction, or the only one that there is."""
        sides = {side for sides in self.lists.values() for side in sides}
        return sides.pop() if len(sides) == 1 else direction[0]

    def inputs(self, split: str, direction: str) -> Images:
        """Names and hashes of a split's inputs; none where it has none."""
        return self.images(split, self.input_side(direction))

    def counts(self, split: str) -> dict[str, int]:
        """Number of images by side, without the sides that have none."""
        return {side: len(images) for side, images in self.lists.get(split, {}).items() if images}

    def list_hash(self, split: str) -> str:
        """SHA-256 over the contents of a split, in hexadecimal; names and order do not matter."""
        lists = self.lists.get(split, {})
        lines = sorted(f"{side} {image.digest}" for side in lists for image in lists[side])
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def held_out_sides(self) -> list[str]:
        """Sides whose search images the seed chose among the training images."""
        train, search = (self.sources.get(split, {}) for split in ("train", "search"))
        return [side for side, source in search.items() if source == train.get(side)]

    def describe(self, split: str) -> str:
        """One line for people: `search: 40 pairs of train, seed 0, list 3fa9c1`."""
        counts = self.counts(split)
        if not counts:
            return f"{split}: no images"
        if data_kind(self.rule["mode"]).is_paired:
            number = f"{max(counts.values())} pairs"
        else:
            number = f"{' and '.join(f'{n} {side}' for side, n in counts.items())} images"
        origins = dict.fromkeys(self.sources[split][side] for side in counts)
        parts = [f"{split}: {number} of {' and '.join(origins)}"]
        if split != "test" and set(counts) & set(self.held_out_sides()):
            parts.append(f"seed {self.rule['split_seed']}")
        return ", ".join([*parts, f"list {self.list_hash(split)[:6]}"])

    def fits(self, options: DataOptions) -> bool:
        """Whether these options ask for the lists that these are."""
        return self.rule == rule_of(options) and self.root.resolve() == options.root.resolve()

    def at(self, root: Path) -> Splits:
        """The same lists where the data folder lies elsewhere."""
        return replace(self, root=root)

    def without(self, split: str, direction: str, left_out: Collection[int]) -> Splits:
        """The same lists without some of a split's inputs, by position, and their targets."""
        ours = self.input_side(direction)
        paired = data_kind(self.rule["mode"]).is_paired
        sides = {
            side: tuple(image for place, image in enumerate(images) if place not in left_out)
            if paired or side == ours
            else images
            for side, images in self.lists[split].items()
        }
        return replace(self, lists={**self.lists, split: sides})

    def to_json(self) -> str:
        """Text for `splits.json`, one image a line."""
        lists = {
            split: {side: dict(images) for side, images in sides.items()}
            for split, sides in self.lists.items()
        }
        facts = {"format": FORMAT, "root": self.root.as_posix(), "rule": self.rule}
        return json.dumps({**facts, "sources": self.sources, "lists": lists}, indent=1)

    @classmethod
    def from_json(cls, text: str, name: str) -> Splits:
        """What `to_json` wrote; `name` is what errors call it.

        Raises:
            DataError: The text is damaged, of another format, or names files outside the root.
        """
        try:
            content = json.loads(text)
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']} is not {FORMAT}")
            lists = {
                split: {side: _parse(images) for side, images in sides.items()}
                for split, sides in content["lists"].items()
            }
            root, rule, sources = content["root"], content["rule"], content["sources"]
            if {"mode", "split_seed"} - rule.keys() or b"\0" in os.fsencode(root):
                raise ValueError("no rule that they were made by, or no folder")
            if data_kind(str(rule["mode"])).is_paired:
                _refuse_lone_sides(lists)
            named = [sources[split][side] for split in lists for side in lists[split]
                     if lists[split][side]]  # fmt: skip
            if not all(isinstance(name, str) for name in named):
                raise ValueError("no names of the folders that they are of")
            return cls(Path(root), rule, sources, lists)
        except _DAMAGE as error:
            raise DataError(f"{name}: no readable lists of images: {error}") from None


def _parse(images: dict[str, str]) -> Images:
    for name, digest in images.items():
        relative_name(name)
        if not isinstance(digest, str) or not digest.isascii():
            raise TypeError(f"{name} has no hash")
    return tuple(Listed(name, digest) for name, digest in images.items())


def _refuse_lone_sides(lists: Lists) -> None:
    for split, sides in lists.items():
        if len({len(images) for images in sides.values()}) > 1:
            raise ValueError(f"the sides of the pairs of {split} differ in number")


def rule_of(options: DataOptions) -> dict[str, Any]:
    """The options that decide which image is in which list, as JSON."""
    return options.model_dump(mode="json", include=RULE)


def make_splits(options: DataOptions, wanted: Sequence[str] = SPLITS) -> Splits:
    """Lists of the images that the data folder holds now.

    Args:
        options: The data section.
        wanted: Splits to make; for the test split alone, the others are not read.

    Raises:
        ConfigError: Lists are given for sides that this mode does not have.
        DataError: There is no such folder; a list is empty, or names what is not there or what
            another list has; too few images are there to hold some out.
    """
    if not options.root.is_dir():
        raise DataError(f"no data folder {options.root}")
    names = SPLITS if set(wanted) != {"test"} else ("test",)
    layout = find_layout(options.root, options.mode)
    found = find_sources(options, layout, names)
    hashed = {key: _hashed(options.root, source) for key, source in found.items()}
    groups = _groups(options, layout)
    lists = _divided(options, hashed, groups)
    _warn_of_rest(options.root, hashed, lists, [group[0] for group in groups])
    origins: dict[str, dict[str, str]] = {split: {} for split in names}
    for split in names:
        for side, images in lists[split].items():
            source = found.get((split, side)) or found.get(("train", side))
            if images and source:
                origins[split][side] = source.name
    limit = options.max_images
    kept = {split: {s: i[:limit] for s, i in lists[split].items()} for split in names}
    return Splits(options.root, rule_of(options), origins, kept)


def _groups(options: DataOptions, layout: Layout) -> list[tuple[str, ...]]:
    """Sides that are divided together; the contents of the first one decide."""
    if not data_kind(options.mode).is_paired:
        return [(side,) for side in layout]
    return [tuple(sorted(layout, key=lambda side: side != options.direction[0]))]


def _divided(
    options: DataOptions,
    hashed: dict[tuple[str, str], Images],
    groups: list[tuple[str, ...]],
) -> Lists:
    """Every image in one split; test before search, search before training."""
    found: dict[tuple[str, tuple[str, ...]], list[Row]] = {
        (split, group): list(zip(*(hashed.get((split, side), ()) for side in group), strict=True))
        for split in SPLITS
        for group in groups
    }
    tested = _digests(row for group in groups for row in found["test", group])
    sides = sorted(side for group in groups for side in group)
    lists: Lists = {split: dict.fromkeys(sides, ()) for split in SPLITS}
    for group in groups:
        pool = _without(found["train", group], tested)
        if ("search", group[0]) in hashed:
            search = _without(found["search", group], tested)
        else:
            search = _held_out(pool, options, group[0])
        train = _without(pool, _digests(search))
        for split, rows in zip(SPLITS, (train, search, found["test", group]), strict=True):
            for index, side in enumerate(group):
                lists[split][side] = tuple(row[index] for row in rows)
    return lists


def _hashed(root: Path, source: Source) -> Images:
    names = [path.relative_to(root).as_posix() for path in source.files]
    return tuple(map(Listed, names, file_digests(source.files)))


def _digests(rows: Iterable[Row]) -> set[str]:
    return {row[0].digest for row in rows}


def _without(rows: list[Row], digests: set[str]) -> list[Row]:
    return [row for row in rows if row[0].digest not in digests]


def _held_out(rows: list[Row], options: DataOptions, side: str) -> list[Row]:
    """Rows whose seeded hash is lowest, in the order given; with them all of the same bytes."""
    fraction = options.search_fraction
    if not rows or not fraction:
        return []

    def rank(row: Row) -> bytes:
        return hashlib.sha256(f"{options.split_seed}:{row[0].digest}".encode()).digest()

    first = _digests(sorted(rows, key=rank)[: round(len(rows) * fraction)])
    chosen = [row for row in rows if row[0].digest in first]
    if not 0 < len(chosen) < len(rows):
        raise DataError(
            f"{options.root}, side {side}: {len(rows)} images cannot be split into training and "
            f"{fraction:.0%} for the search; set data.search_fraction"
        )
    return chosen


def _warn_of_rest(
    root: Path, hashed: dict[tuple[str, str], Images], lists: Lists, sides: list[str]
) -> None:
    """Say how many images of these sides are in no list, as another split holds the same bytes."""
    used, test = (
        {image for split in splits for side in sides for image in lists[split][side]}
        for splits in (SPLITS, ("test",))
    )
    rest = {i for (_, side), images in hashed.items() if side in sides for i in images} - used
    digests = {image.digest for image in test}
    tested = {image for image in rest if image.digest in digests}
    for holder, count in (("test", len(tested)), ("search", len(rest - tested))):
        if count:
            logger.warning(
                "%s: %d images are left out, as the %s split holds the same", root, count, holder
            )
