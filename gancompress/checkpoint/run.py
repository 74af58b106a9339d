"""A run folder: one stage's config, weights, log and samples; nothing else is needed to go on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from gancompress.checkpoint.files import load_pickle, save_state, write_atomic
from gancompress.config import (
    Change,
    DataOptions,
    Section,
    build,
    differences,
    dump_options,
    read_json,
    read_yaml,
)
from gancompress.data import Splits, make_splits
from gancompress.errors import CheckpointError, ConfigError
from gancompress.hashes import LIST, check_listed, write_list
from gancompress.paths import inside

S = TypeVar("S", bound=Section)

TEACHER_FILE = "teacher.safetensors"
"""In the folder of a supernet or of what was finetuned: later stages need nothing else."""

# what may change between two starts of one run, as no result depends on it
COSMETIC = ("log", "run", "data.cache_gb", "workers", "pairs", "teacher.pairs", "teacher.calls")
# what may change while a training goes on: what is advised where it has diverged
ADJUSTABLE: dict[str, Callable[[Any, Any], bool]] = {
    "schedule.lr": lambda before, after: after < before,
    "schedule.precision": lambda before, after: after == "fp32",
}
# what a stage finds out itself where no value is given
FOUND = {"data": ("input", "target"), "generator": ("input_nc", "output_nc")}
# what is opened where it is, or has files put into it; others take the place of a link
WRITTEN_THROUGH = (".lock", "log.jsonl", "trials.jsonl", "samples")


class RunFolder:
    """The files of one stage.

    Args:
        path: The folder; made when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.weights = path / "weights.safetensors"
        self.discriminator = path / "discriminator.safetensors"
        self.state = path / "state.pt"
        self.log = path / "log.jsonl"
        self.samples = path / "samples"
        self.splits = path / "splits.json"
        self.report = path / "report.html"
        self.done = path / "done.json"
        self.list = path / LIST

    @property
    def is_done(self) -> bool:
        """Whether the stage has ended; its results are then in place."""
        return self.done.exists()

    @contextmanager
    def claim(self, options: Section, same: bool = True) -> Iterator[None]:
        """Own the folder while the block runs, and put the resolved options into it.

        Args:
            options: The resolved options.
            same: Refuse options that differ from those the folder was started with, and keep its
                result; otherwise that goes, as a stage that stops early must not show it.

        Raises:
            ConfigError: Another process is at work here, the options differ, or a link would have
                something written outside the folder.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        for name in WRITTEN_THROUGH:
            inside(self.path, name)
        try:
            held = FileLock(self.path / ".lock").acquire(timeout=0)
        except Timeout:
            raise ConfigError(f"{self.path}: another process is using this run folder") from None
        with held:
            options = self.resolved(options)
            if same and (self.state.exists() or self.is_done):
                self._refuse_changes(options)
            if not (same and self.is_done):  # other results will be here
                self.done.unlink(missing_ok=True)
                self.list.unlink(missing_ok=True)
                self.record(options)
            yield

    def record(self, options: Section) -> None:
        """Put options into the folder."""
        write_atomic(self.config, dump_options(options).encode())

    def resolved(self, options: S) -> S:
        """The options, with what the folder's stage has found out where they give no value.

        What a start without any progress has found does not count: its data may be another's.
        """
        if not (self.config.exists() and (self.state.exists() or self.is_done)):
            return options
        old, sections = self._recorded(), {}
        for name, keys in FOUND.items():
            section, before = getattr(options, name, None), old.get(name)
            before = before if isinstance(before, dict) else {}
            if isinstance(section, Section):
                found = {k: before.get(k) for k in keys if getattr(section, k) is None}
                sections[name] = section.model_copy(update=found)
        return options.model_copy(update=sections)

    def _recorded(self) -> dict[str, Any]:
        """The options in the folder, unchecked."""
        old = read_yaml(self.config)
        if not isinstance(old, dict):
            raise ConfigError(f"{self.config}: damaged: no options of a run")
        return old

    def changes(self, options: Section) -> list[Change]:
        """Options that differ from those in the folder and would change its results."""
        if not self.config.exists():
            return []
        old, new = self._recorded(), options.model_dump(mode="json")
        with suppress(ConfigError):  # a key that the file lacks had its default
            old = build(type(options), old, str(self.config)).model_dump(mode="json")
        kept = tuple(f"{key}." for key in COSMETIC)
        return [change for change in differences(old, new) if not f"{change.key}.".startswith(kept)]

    def _refuse_changes(self, options: Section) -> None:
        changed = [str(change) for change in self.changes(options) if not self._may_go_on(change)]
        if changed:
            raise ConfigError(
                f"{self.path} was started with other options:\n  "
                + "\n  ".join(changed)
                + "\n  Continue with the old values, or start afresh with --set run=FOLDER."
            )

    def _may_go_on(self, change: Change) -> bool:
        allowed = ADJUSTABLE.get(change.key)
        return not self.is_done and allowed is not None and allowed(change.before, change.after)

    def load_state(self) -> dict[str, Any] | None:
        """The saved training state, or None at the beginning."""
        if not self.state.exists():
            return None
        state = load_pickle(self.state)
        if not (isinstance(state, dict) and isinstance(state.get("images"), int)):
            raise CheckpointError(f"{self.state}: not the state of a training")
        return state

    def save_state(self, state: dict[str, Any]) -> None:
        """Save the training state; a reader sees the old one or the new one."""
        save_state(self.state, state)

    def finish(self, summary: dict[str, Any]) -> None:
        """List the files' hashes, mark the stage as done, and drop the training state."""
        content = json.dumps(summary, indent=1).encode()
        names = [path.relative_to(self.path).as_posix() for path in self._files()]
        write_atomic(self.list, write_list(self.path, names, {self.done.name: content}))
        write_atomic(self.done, content)
        self.state.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        """What a finished stage leaves, apart from its last file and the log of trials.

        Every line of that log has a checksum of its own.
        """
        own = (self.config, self.splits, self.log, self.report)
        found = [*own, *self.path.glob("*.safetensors"), *self.samples.glob("*.png")]
        return sorted(path for path in found if path.is_file())

    def summary(self) -> dict[str, Any]:
        """What `finish` was given.

        Raises:
            CheckpointError: The file is not the one that was written.
            ConfigError: It is damaged.
        """
        check_listed(self.done)
        content = read_json(self.done)
        if not (isinstance(content, dict) and isinstance(content.get("images"), int)):
            raise ConfigError(
                f"{self.done}: damaged: no scores of a training\n"
                "  Restore it from a copy, or start afresh with --set run=FOLDER."
            )
        return content

    def append_log(self, entry: dict[str, Any]) -> None:
        """Add one line to the log."""
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def read_log(self) -> list[dict[str, Any]]:
        """All whole lines of the log; those that a crash has cut or damaged are left out."""
        if not self.log.exists():
            return []
        entries = []
        for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, RecursionError):
                entry = json.loads(line)
                if isinstance(entry, dict) and isinstance(entry.get("images"), int):
                    entries.append(entry)
        return entries

    def rewind_log(self, images: int) -> None:
        """Drop the lines after image number `images`: that part of the run is repeated."""
        kept = [entry for entry in self.read_log() if entry["images"] <= images]
        if self.log.exists():
            text = "".join(json.dumps(entry) + "\n" for entry in kept)
            write_atomic(self.log, text.encode())


def read_splits(run: Path) -> Splits | None:
    """The lists of images in a run folder, or None where it has none.

    Raises:
        CheckpointError: The file is not the one that was written.
        DataError: It is damaged.
    """
    path = RunFolder(run).splits
    if not path.is_file():
        return None
    check_listed(path)
    return Splits.from_json(path.read_text(encoding="utf-8", errors="replace"), str(path))


def planned_splits(run: RunFolder, options: DataOptions, source: Path | None = None) -> Splits:
    """The lists that a stage trains by.

    They are its own where it goes on; else those of the run that it starts from, where both have
    the same data options; else those of the data as it is now.

    Args:
        run: The stage's folder.
        options: Its data section.
        source: The run that it starts from, or any other path.

    Raises:
        DataError: The data cannot be used.
    """
    known = read_splits(run.path) if run.state.exists() or run.is_done else None
    if known is None and source is not None:
        known = read_splits(source)
    if known is None or not known.fits(options):
        return make_splits(options)
    return known.at(options.root)


def record_splits(run: RunFolder, options: DataOptions, source: Path | None = None) -> Splits:
    """`planned_splits`, written into the run folder for this stage and those after it."""
    splits = planned_splits(run, options, source)
    keep_splits(run, splits)
    return splits


def keep_splits(run: RunFolder, splits: Splits) -> None:
    """Write lists of images into a run folder."""
    write_atomic(run.splits, splits.to_json().encode())
