"""Trials: evaluated subnets, kept in an append-only log."""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gancompress.elastic import SearchSpace, Subnet
from gancompress.errors import ConfigError, SpaceError
from gancompress.search.front import front_indices


@dataclass(frozen=True)
class Trial:
    """One evaluated subnet.

    Attributes:
        subnet: Its widths.
        macs: Multiply-accumulates at the search's image size.
        loss: The metric, negated where higher is better: always lower is better. That of a trial
            which was given up is an estimate.
        scores: The metric, and what costs nothing beside it.
        num_images: Images it was evaluated on.
        complete: False where it was given up because another subnet is better for certain.
        values: Losses of single images in the evaluator's order; for a distance between sets
            their distances to the teacher.
        seconds: Where the time went: forward, features, distance.
    """

    subnet: Subnet
    macs: int
    loss: float
    scores: dict[str, float]
    num_images: int = 0
    complete: bool = True
    values: tuple[float, ...] = field(default=(), compare=False)
    seconds: dict[str, float] = field(default_factory=dict, compare=False)

    def as_json(self, details: bool = True) -> dict[str, Any]:
        """Plain content; `details` are what the log needs and a summary does not."""
        content = {**asdict(self), "subnet": str(self.subnet)}
        if not details:
            del content["values"], content["seconds"]
        return content

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Trial:
        """What `as_json` gave.

        Raises:
            KeyError, TypeError, ValueError: It is something else.
        """
        known = {name: content[name] for name in ("macs", "loss", "scores")}
        more = {name: content[name] for name in ("num_images", "complete") if name in content}
        return cls(
            Subnet(tuple(int(w) for w in content["subnet"].split("_"))),
            **known,
            **more,
            values=tuple(content.get("values", ())),
            seconds=dict(content.get("seconds", {})),
        )


class TrialLog:
    """Trials on disk, one JSON line each, under a key that says what they were measured on.

    Any number of processes may append at once. A crash loses at most the line in progress, and a
    damaged line is left out: each has a checksum. Logs merge by putting their lines together.

    Args:
        path: The `.jsonl` file.
        key: Hash of weights, images, metric and code; lines with another key are ignored.
        race: Hash of what decides whether a subnet is given up; that it was counts in the same
            race only.
    """

    def __init__(self, path: Path, key: str, race: str = "") -> None:
        self.path = path
        self.key = key
        self.race = race

    def load(self, space: SearchSpace) -> dict[Subnet, Trial]:
        """All whole lines under this log's key; of several for one subnet the first complete."""
        text = self._text(self.path)
        if text and not text.endswith("\n"):
            self._write("\n")
        return self._trials(text, space)

    def load_other(self, path: Path, space: SearchSpace) -> dict[Subnet, Trial]:
        """Complete trials under this log's key in the log of another machine or run.

        Raises:
            ConfigError: There is no such file.
        """
        if not path.exists():
            raise ConfigError(f"no log of trials {path}")
        found = self._trials(self._text(path), space)
        return {subnet: trial for subnet, trial in found.items() if trial.complete}

    @staticmethod
    def _text(path: Path) -> str:
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def _trials(self, text: str, space: SearchSpace) -> dict[Subnet, Trial]:
        trials: dict[Subnet, Trial] = {}
        for line in text.splitlines():
            trial = self._parse(line)
            known = trial and trials.get(trial.subnet)
            if trial and trial.subnet in space and not (known and known.complete):
                trials[trial.subnet] = trial
        return trials

    def append(self, trial: Trial) -> None:
        """Add one trial."""
        body = json.dumps({"key": self.key, "race": self.race, **trial.as_json()})
        self._write(f'{{"crc": {_crc(body)}, "trial": {body}}}\n')

    def _parse(self, line: str) -> Trial | None:
        """The trial of a line, or None where it is damaged or of another key."""
        try:
            entry = json.loads(line)
            content = entry["trial"]
            if entry["crc"] != _crc(json.dumps(content)) or content["key"] != self.key:
                return None
            trial = Trial.from_json(content)
            return trial if trial.complete or content["race"] == self.race else None
        except (ValueError, KeyError, TypeError, AttributeError, SpaceError):
            return None

    def _write(self, text: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


def _crc(text: str) -> int:
    return zlib.crc32(text.encode())


CostOf = Callable[[Trial], float]


def macs_of(trial: Trial) -> float:
    """The cost that every trial carries with it."""
    return float(trial.macs)


def pareto_front(trials: Iterable[Trial], cost: CostOf = macs_of) -> list[Trial]:
    """Complete trials that no other beats in both cost and loss, ascending in cost."""
    whole = sorted(
        (trial for trial in trials if trial.complete), key=lambda trial: trial.subnet.widths
    )
    if not whole:
        return []
    costs = np.array([cost(trial) for trial in whole])
    losses = np.array([trial.loss for trial in whole])
    return [whole[index] for index in front_indices(costs, losses)]
