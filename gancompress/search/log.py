"""The log of trials: an append-only file that any number of processes write to."""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

from gancompress.elastic import SearchSpace, Subnet
from gancompress.errors import ConfigError, SpaceError
from gancompress.search.origin import differences
from gancompress.search.trials import Trial

TRIALS_FILE = "trials.jsonl"
logger = logging.getLogger(__name__)


class TrialLog:
    """Trials on disk, one JSON line each, under a key that says what they were measured on.

    Any number of processes may append at once. A crash loses at most the line in progress, and a
    damaged line is left out: each has a checksum. Logs merge by putting their lines together.

    Args:
        path: The `.jsonl` file.
        key: What the trials were measured with, see `origin`; lines with another key are ignored.
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

        It is said how many lines have another key, and what differs.

        Raises:
            ConfigError: There is no such file.
        """
        require_log(path)
        text = self._text(path)
        self._warn(path, [key for key, _ in whole_lines(text)])
        found = self._trials(text, space)
        return {subnet: trial for subnet, trial in found.items() if trial.complete}

    def _warn(self, path: Path, keys: list[str]) -> None:
        """Say what of another log is left out, and why."""
        others = Counter(key for key in keys if key != self.key)
        if not keys:
            logger.warning("%s holds no trials", path)
        elif others:
            why = dict.fromkeys(part for key in others for part in differences(self.key, key))
            logger.warning(
                "%d of %d trials of %s were measured with other %s and are left out%s",
                others.total(), len(keys), path, ", ".join(why),
                ": it adds nothing" if others.total() == len(keys) else "",
            )  # fmt: skip

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
        """The trial of a line, or None where it is damaged or of another key or race."""
        content = _content(line)
        if content is None or content["key"] != self.key:
            return None
        try:
            trial = Trial.from_json(content)
            return trial if trial.complete or content["race"] == self.race else None
        except (ValueError, KeyError, TypeError, AttributeError, SpaceError):
            return None

    def _write(self, text: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab", buffering=0) as file:  # one write: lines never mix
            file.write(text.encode())
            os.fsync(file.fileno())


def require_log(path: Path) -> None:
    """Raise unless there is such a log.

    Raises:
        ConfigError: There is none.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder, not a log of trials\n  Name {path / TRIALS_FILE}.")
    if not path.exists():
        raise ConfigError(f"no log of trials {path}")


def whole_lines(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Key and content of all lines of a log that are whole, whatever they were measured with."""
    contents = [content for line in text.splitlines() if (content := _content(line))]
    return [(str(content["key"]), content) for content in contents]


def damaged_lines(path: Path) -> int:
    """How many lines of a log are no whole ones."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return sum(_content(line) is None for line in lines if line)


def _content(line: str) -> dict[str, Any] | None:
    """What a whole line holds, or None where it is damaged or of another kind."""
    try:
        entry = json.loads(line)
        content: dict[str, Any] = dict(entry["trial"])
        return content if entry["crc"] == _crc(json.dumps(content)) and "key" in content else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _crc(text: str) -> int:
    return zlib.crc32(text.encode())
