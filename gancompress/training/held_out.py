"""What teacher and student make of held-out images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gancompress.data import Split, spread, to_float, translate_batches
from gancompress.metrics import metric
from gancompress.training.health import Samples
from gancompress.training.networks import Student
from gancompress.training.sheets import sheet

MAX_EVALUATED = 32


class HeldOut:
    """Evaluates a distillation.

    Args:
        split: Images, whole; evenly spread ones are taken.
        student: Says which networks are evaluated, and has the teacher.
        device: Where both are.
    """

    def __init__(self, split: Split, student: Student, device: torch.device) -> None:
        self.split = split
        self.student = student
        self.device = device
        self._wanted: Tensor | None = None

    def scores(self, generator: nn.Module) -> dict[str, float]:
        """Distances to the teacher of what the student shows of a generator, by `mae_NAME`."""
        inputs, wanted = self._inputs(), self._teacher_outputs()
        distance = metric("teacher_mae")
        outputs = self._translate(generator, inputs).items()
        return {f"mae_{name}": distance(out, wanted) for name, out in outputs}

    def samples(self, generator: nn.Module, count: int) -> Samples:
        """Rows of input, teacher, and the student's networks, the largest first."""
        inputs = self._inputs()
        rows = spread(len(inputs), count)
        outputs = [
            self._teacher_outputs()[rows],
            *self._translate(generator, inputs[rows]).values(),
        ]
        shown = self.split.inputs.kind.preview(inputs[rows])
        wanted, largest, *others = map(self.split.output.preview, outputs)
        return Samples(sheet([shown, wanted, largest, *others]), shown, largest, wanted)

    def _inputs(self) -> Tensor:
        inputs = self.split.inputs
        return inputs.take(spread(len(inputs), MAX_EVALUATED))

    def _teacher_outputs(self) -> Tensor:
        if self._wanted is None:
            self._wanted = translate_batches(
                self.student.teacher, self._inputs(), self.device, batch_size=1
            )
        return self._wanted

    @torch.no_grad()
    def _translate(self, generator: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
        translators = self.student.translators(generator, to_float(inputs).to(self.device))
        return {
            name: translate_batches(
                translator, inputs, self.device, batch_size=1, require_finite=False
            )
            for name, translator in translators.items()
        }
