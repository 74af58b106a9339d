"""Scores of subnets on one fixed set of images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gancompress.data import Split, spread, stack, to_float, to_uint8
from gancompress.elastic import Subnet, Supernet, ready_subnet
from gancompress.metrics import all_scores


@dataclass
class Evaluator:
    """Translates a set of images and compares with the teacher's outputs and the truth.

    The teacher runs once, at the first use; inputs and references stay in memory as uint8.

    Attributes:
        net: The supernet, in evaluation mode.
        teacher: From (N, C, H, W) in [-1, 1] to images; never run again after the first use.
        inputs: (N, 3, S, S) uint8.
        truth: Targets of the inputs, or None.
        batch_size: Images at a time.
        device: Where to run.
        calibration: Batches of training inputs for subnets with batch norms.
    """

    net: Supernet
    teacher: Callable[[Tensor], Tensor]
    inputs: Tensor
    truth: Tensor | None
    batch_size: int
    device: torch.device
    calibration: Sequence[Tensor] = ()
    _references: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of_split(
        cls, net: Supernet, teacher: Callable[[Tensor], Tensor], split: Split, count: int | None,
        batch_size: int, device: torch.device,
    ) -> Evaluator:  # fmt: skip
        """An evaluator over a split, or over `count` images evenly spread in it."""
        total = len(split.inputs)
        indices = spread(total, count or total)
        inputs = stack(split.inputs, indices)
        truth = None
        if split.paired and split.targets is not None:
            truth = stack(split.targets, indices)
        return cls(net, teacher, inputs, truth, batch_size, device)

    @property
    def references(self) -> dict[str, Tensor]:
        """Teacher outputs and, for paired data, truth; (N, 3, S, S) uint8."""
        if not self._references:
            self._references["teacher"] = self.translate(self.teacher)
            if self.truth is not None:
                self._references["truth"] = self.truth
        return self._references

    @torch.inference_mode()
    def translate(self, generator: Callable[[Tensor], Tensor]) -> Tensor:
        """All images through a generator, (N, 3, S, S) uint8."""
        outputs = []
        for batch in self._batches():
            outputs.append(to_uint8(generator(batch).cpu()).expand(-1, 3, -1, -1))
        return torch.cat(outputs)

    def outputs(self, subnet: Subnet) -> Tensor:
        """Images of one subnet, (N, 3, S, S) uint8."""
        return self.translate(ready_subnet(self.net, subnet, self.calibration))

    def scores(self, subnet: Subnet) -> dict[str, float]:
        """All metrics that apply to one subnet."""
        return all_scores(self.outputs(subnet), self.references)

    def _batches(self) -> Iterator[Tensor]:
        for chunk in self.inputs.split(self.batch_size):
            yield to_float(chunk).to(self.device)

    def fingerprint(self) -> str:
        """Hash of weights and images: scores of another supernet or set are not reused."""
        digest = hashlib.sha256()
        for name, tensor in self.net.generator.state_dict().items():
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        digest.update(self.inputs.numpy().tobytes())
        if self.truth is not None:
            digest.update(self.truth.numpy().tobytes())
        digest.update(self.references["teacher"].numpy().tobytes())
        return digest.hexdigest()
