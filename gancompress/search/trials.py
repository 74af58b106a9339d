"""Trials: evaluated subnets, kept in an append-only log."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gancompress.elastic import SearchSpace, Subnet


@dataclass(frozen=True)
class Trial:
    """One evaluated subnet.

    Attributes:
        subnet: Its widths.
        macs: Multiply-accumulates at the search's image size.
        loss: The metric, negated where higher is better: always lower is better.
        scores: All metrics.
    """

    subnet: Subnet
    macs: int
    loss: float
    scores: dict[str, float]


class TrialLog:
    """Trials on disk, one JSON line each, under a key that says what they were measured on.

    A crash loses at most the line in progress; starting again reuses the rest.

    Args:
        path: The `.jsonl` file.
        key: Hash of weights, images and metric; lines with another key are ignored.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.key = key

    def load(self, space: SearchSpace) -> dict[Subnet, Trial]:
        """All whole lines under this log's key."""
        trials = {}
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        for line in text.splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue  # cut off by a crash
            if isinstance(entry, dict) and entry.get("key") == self.key:
                subnet = space.parse(entry["subnet"])
                trials[subnet] = Trial(subnet, entry["macs"], entry["loss"], entry["scores"])
        if text and not text.endswith("\n"):
            self._write("\n")
        return trials

    def append(self, trial: Trial) -> None:
        """Add one trial."""
        entry = {
            "subnet": str(trial.subnet),
            "macs": trial.macs,
            "loss": trial.loss,
            "scores": trial.scores,
            "key": self.key,
        }
        self._write(json.dumps(entry) + "\n")

    def _write(self, text: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(text)


def pareto_front(trials: Iterable[Trial]) -> list[Trial]:
    """Trials that no other beats in both MACs and loss, ascending in MACs."""
    front: list[Trial] = []
    for trial in sorted(trials, key=lambda t: (t.macs, t.loss, t.subnet.widths)):
        if not front or trial.loss < front[-1].loss:
            front.append(trial)
    return front


def nondominated_fronts(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Trials front by front, the best first; each ascending in MACs.

    Source: Deb et al., NSGA-II, 2002 (ranking only).
    """
    left, fronts = list(trials), []
    while left:
        front = pareto_front(left)
        chosen = {trial.subnet for trial in front}
        fronts.append(front)
        left = [trial for trial in left if trial.subnet not in chosen]
    return fronts


def best_under(trials: Iterable[Trial], budget: int) -> Trial:
    """The lowest loss at or below a budget in MACs; ties go to fewer MACs."""
    fitting = [trial for trial in trials if trial.macs <= budget]
    return min(fitting, key=lambda t: (t.loss, t.macs, t.subnet.widths))
