"""The images of one evaluation: inputs, outputs, teacher's outputs, truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gancompress.data import RGB, Generator, ImageKind, ImageSet, Split, refuse_constant, spread
from gancompress.data.translation import NOT_FINITE, attempt_batch
from gancompress.errors import DataError
from gancompress.progress import Progress


@dataclass(frozen=True)
class EvaluatedImages:
    """What scores are made from; all images are (N, C, S, S) uint8.

    Attributes:
        names: File names of the inputs, see `unique_names`.
        inputs: What was translated.
        outputs: By subject (`output`, and `teacher` if there is one): its translations.
        truth: What the outputs should look like, for paired data.
        real: Images of the target domain to compare distributions with, if there are any.
        paired: Whether `truth[i]` belongs to `inputs[i]`.
        input_kind: What the inputs are.
        output_kind: What all others are.
    """

    names: list[str]
    inputs: Tensor
    outputs: dict[str, Tensor]
    truth: Tensor | None
    real: ImageSet | None
    paired: bool
    input_kind: ImageKind = RGB
    output_kind: ImageKind = RGB

    def shown(self) -> dict[str, Tensor]:
        """All columns as people look at them, (N, 3, S, S) uint8."""
        return {label: kind.preview(images) for label, (kind, images) in self.columns().items()}

    def columns(self) -> dict[str, tuple[ImageKind, Tensor]]:
        """Inputs, outputs and truth, by label."""
        made = self.outputs if self.truth is None else {**self.outputs, "truth": self.truth}
        columns = {label: (self.output_kind, images) for label, images in made.items()}
        return {"input": (self.input_kind, self.inputs), **columns}


def evaluated_images(
    split: Split,
    generators: dict[str, Generator],
    batch_size: int,
    device: torch.device,
    max_images: int | None = None,
) -> EvaluatedImages:
    """Translate a split.

    Args:
        split: Inputs and, where there are any, targets, at the size of the evaluation.
        generators: By subject, from (N, C, S, S) in [-1, 1] to (N, C', S, S); in evaluation mode.
        batch_size: Images at a time; no score depends on it.
        device: Where the generators are.
        max_images: Evenly spread over the split; all by default.

    Raises:
        DataError: An output is not finite, or is one flat colour; names the image.
        ConfigError: A generator changes the size of its input.
    """
    chosen = spread(len(split.inputs), max_images or len(split.inputs))
    names = unique_names([split.inputs.files[i] for i in chosen])
    inputs = split.inputs.take(chosen)
    outputs = {
        subject: _translate(generator, inputs, names, batch_size, device)
        for subject, generator in generators.items()
    }
    for subject, images in outputs.items():
        refuse_constant(images, names, f"{subject} of")
    truth = split.targets.take(chosen) if split.paired and split.targets is not None else None
    real = split.targets
    if real is not None and split.paired and len(chosen) < len(real):
        files = [real.files[i] for i in chosen]
        real = ImageSet(files, real.size, real.half, kind=real.kind)
    kinds = (split.inputs.kind, split.output)
    return EvaluatedImages(names, inputs, outputs, truth, real, split.paired, *kinds)


def unique_names(files: Sequence[Path]) -> list[str]:
    """A name for each file: without its suffix, or with it where two share the stem.

    Files of the same name in two folders are numbered.
    """
    stems = Counter(path.stem for path in files)
    names = [path.stem if stems[path.stem] == 1 else path.name for path in files]
    times = Counter(names)
    return [
        name if times[name] == 1 else f"{name}-{number}" for number, name in enumerate(names, 1)
    ]


def _translate(
    generator: Generator,
    inputs: Tensor,
    names: Sequence[str],
    batch_size: int,
    device: torch.device,
) -> Tensor:
    outputs = []
    with Progress(len(inputs), "translate", "images") as bar:
        for start in range(0, len(inputs), batch_size):
            fakes, finite = attempt_batch(generator, inputs[start : start + batch_size], device)
            if not bool(finite.all()):
                raise DataError(NOT_FINITE.format(names[start + int(finite.int().argmin())]))
            outputs.append(fakes)
            bar.update(len(fakes))
    return torch.cat(outputs)
