"""The answers of a teacher that is a function, in place of a network that could be run."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gancompress.checkpoint.files import Json
from gancompress.data import to_float, to_uint8
from gancompress.data.hashing import pixel_digest
from gancompress.errors import CheckpointError, DataError


class AnswerBook(nn.Module):
    """Looks images up by their pixels, as nobody but the user may run the function itself.

    Args:
        inputs: SHA-256 of every input, (N, 32) uint8, see `pixel_digest`.
        outputs: The answers, (N, C, S, S) uint8.
    """

    inputs: Tensor
    outputs: Tensor

    def __init__(self, inputs: Tensor, outputs: Tensor) -> None:
        super().__init__()
        self.register_buffer("inputs", inputs)
        self.register_buffer("outputs", outputs)
        self._places = {bytes(row.tolist()): place for place, row in enumerate(inputs.cpu())}

    @classmethod
    def of(cls, answers: dict[str, Tensor], channels: int) -> AnswerBook:
        """A book of answers (C, S, S) uint8 by the hash of the input, which may be none."""
        if not answers:
            return cls(
                torch.zeros(0, 32, dtype=torch.uint8),
                torch.zeros(0, channels, 1, 1, dtype=torch.uint8),
            )
        digests = [list(bytes.fromhex(digest)) for digest in answers]
        return cls(torch.tensor(digests, dtype=torch.uint8), torch.stack(list(answers.values())))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, S, S) in [-1, 1] -> the answers, the same range.

        Raises:
            DataError: It has no answer to an image.
        """
        found = [self._places.get(bytes.fromhex(pixel_digest(i))) for i in to_uint8(x).cpu()]
        places = [place for place in found if place is not None]
        if len(places) < len(found):
            side = self.outputs.shape[-1]
            raise DataError(
                f"the teacher is a function, and its run keeps its answers to the images of the "
                f"search and test splits at {side}x{side} alone; one of {x.shape[-1]}x{x.shape[-2]}"
                " that it was not asked about cannot be compared with it"
            )
        return to_float(self.outputs[places]).to(x.device)


def read_book(tensors: dict[str, Tensor], source: str) -> AnswerBook:
    """The answers in a file.

    Raises:
        CheckpointError: Its tensors are no answers.
    """
    inputs, outputs = tensors.get("inputs"), tensors.get("outputs")
    if (
        inputs is None
        or outputs is None
        or inputs.shape != (len(outputs), 32)
        or outputs.ndim != 4
        or {inputs.dtype, outputs.dtype} != {torch.uint8}
    ):
        raise CheckpointError(f"{source}: its tensors are no answers of a function")
    return AnswerBook(inputs, outputs)


def answers_of(description: Json) -> Json | None:
    """What a file says of the function whose answers it holds; None for a network."""
    found = description.get("answers")
    return found if isinstance(found, dict) else None
