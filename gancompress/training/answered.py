"""A run whose teacher is a function: asked about all images, checked, and kept for later stages."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from gancompress.checkpoint.answers import AnswerBook
from gancompress.checkpoint.files import Json
from gancompress.checkpoint.network import Network
from gancompress.checkpoint.run import RunFolder
from gancompress.config import CheckOptions, SupernetOptions
from gancompress.data import ImageKind, ImageSet, Splits, load_split, save_image
from gancompress.distributed import agreed, rank
from gancompress.errors import CheckpointError, DataError
from gancompress.paths import file_name
from gancompress.training.asking import FunctionTeacher
from gancompress.training.faults import faults
from gancompress.training.functions import load_function
from gancompress.training.pairs import Asked, ask, refuse_missing
from gancompress.training.sheets import sheet
from gancompress.training.store import PairStore

logger = logging.getLogger(__name__)
MAX_SHOWN = 64  # pairs of a sheet


@dataclass(frozen=True)
class KnownFunction:
    """A function whose store is known, and which is not asked any more, see `Teacher`.

    Attributes:
        label: As the function's.
        taken: As the function's.
        channels: As the function's.
        source: Of the facts.
        facts: Its identity.
    """

    label: str
    taken: ImageKind
    channels: int
    source: str
    facts: dict[str, str]

    @classmethod
    def of(cls, network: Network, size: int) -> KnownFunction:
        """That of a file of answers.

        Raises:
            CheckpointError: The file does not say what is known of it.
        """
        known = network.description["answers"]
        sizes = known.get("identities") if isinstance(known, dict) else None
        facts = sizes.get(str(size)) if isinstance(sizes, dict) else None
        if not isinstance(facts, dict):
            raise CheckpointError(
                f"{network.source}: a function was not asked about images of {size}x{size}"
            )
        label = file_name(known.get("label"), network.source)
        return cls(label, network.input, network.output.channels, network.source, facts)

    def identity(self, size: int) -> dict[str, str]:
        """See `Teacher`."""
        return self.facts

    def answers(
        self, store: PairStore, images: ImageSet, indices: Sequence[int]
    ) -> Iterator[tuple[int, Tensor | None, Json]]:
        """See `Teacher`; nobody may run it.

        Raises:
            DataError: An answer is missing.
        """
        for index in indices:
            raise DataError(
                f"{store.folder} has no answer to {images.files[index]} and {len(indices) - 1} "
                f"others, and the function of {self.source} is not run again\n"
                "  Name its folder of answers (--set pairs=FOLDER), or train the supernet again."
            )
        return iter(())


def _left_out(
    teacher: Network, images: ImageSet, asked: Asked, options: CheckOptions
) -> dict[int, str]:
    """Why images are left out, by position."""
    places = [place for place in range(len(images)) if place not in asked.errors]
    found = asked.store.take([asked.digests[place] for place in places])
    pairs = ((images[place], found.take([index])[0]) for index, place in enumerate(places))
    bad = faults(pairs, (teacher.input, teacher.output), options)
    return {**asked.errors, **{places[index]: reason for index, reason in bad.items()}}


def _say_left_out(split: str, images: ImageSet, left_out: dict[int, str]) -> None:
    if not left_out:
        return
    counts = Counter(left_out.values())
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.most_common(5))
    logger.warning(
        "%d of %d images of the %s split are left out, such as %s: %s (teacher.checks has the "
        "thresholds)",
        len(left_out), len(images), split, images.files[min(left_out)].name, reasons,
    )  # fmt: skip


def _show(
    path: Path, teacher: Network, images: ImageSet, asked: Asked, left_out: dict[int, str]
) -> None:
    """A sheet of inputs and answers that are left out, sorted by the reason."""
    places = [place for place in left_out if place not in asked.errors]
    places = sorted(places, key=lambda place: left_out[place])[:MAX_SHOWN]
    if places:
        answers = asked.store.take([asked.digests[place] for place in places])
        shown = teacher.output.preview(answers.take(range(len(places))))
        save_image(sheet([teacher.input.preview(images.take(places)), shown]), path)


def answered(teacher: Network, options: SupernetOptions, root: Path, splits: Splits) -> Splits:
    """Ask a function about all images of a run, and give its network the answers held out.

    Pairs that are left out are shown in the run's folder of samples. A run that goes on keeps its
    lists, whose images were checked when it was started.

    Args:
        teacher: Of `load_teacher`; changed in place.
        options: Of the run.
        root: Folder of stores.
        splits: The run's lists.

    Returns:
        The lists without the images that have no answer, or one of no use.

    Raises:
        DataError: The run goes on, and an image that it was started with has no answer now.
    """
    data, folder = options.data, options.run / "samples"
    asker = FunctionTeacher(
        load_function(options.teacher, teacher.input, teacher.output), options.teacher
    )
    sizes = {"train": data.load_size, "search": data.whole_size, "test": data.whole_size}
    identities: dict[str, dict[str, str]] = {}
    kept: dict[str, Tensor] = {}
    goes_on = agreed(lambda: RunFolder(options.run).state.exists())
    for split, size in sizes.items():
        if not splits.inputs(split, data.direction):
            continue
        images = load_split(data, split, size, splits).inputs
        asked = ask(root, asker, images)
        identities[str(size)] = agreed(partial(asker.identity, size))
        if goes_on:
            refuse_missing(asked, images)
            left_out = {}
        else:
            left_out = _left_out(teacher, images, asked, options.teacher.checks)
        splits = splits.without(split, data.direction, left_out.keys())
        _say_left_out(split, images, left_out)
        if rank() == 0 and left_out:
            _show(folder / f"left_out_{split}.png", teacher, images, asked, left_out)
        if split != "train":
            places = [place for place in range(len(images)) if place not in left_out]
            digests = [asked.digests[place] for place in places]
            kept |= zip(digests, asked.store.take(digests).take(range(len(digests))), strict=True)
    teacher.module = AnswerBook.of(kept, teacher.output.channels).eval()
    teacher.description = {"answers": {"label": asker.label, "identities": identities}}
    return splits
