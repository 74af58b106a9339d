"""From the images of files through a generator to the images of files."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from gancompress.data.images import to_float, to_uint8
from gancompress.errors import ConfigError, DataError

Generator: TypeAlias = Callable[[Tensor], Tensor]
"""(N, C, H, W) float32 in [-1, 1] -> (N, C', H, W), the same range; in evaluation mode."""

NOT_FINITE = "the output of {} is not finite"
PIECE = 4  # images that are converted at once: more of them leave the processor's cache


def translate_batches(
    generator: Generator,
    images: Tensor,
    device: torch.device,
    batch_size: int | None = None,
    source: str = "the generator",
    require_finite: bool = True,
) -> Tensor:
    """What a generator makes of images, as files would hold it.

    Args:
        generator: On `device`.
        images: (N, C, H, W) uint8.
        device: Where to compute.
        batch_size: Images at a time; all of them by default.
        source: What errors call the generator.
        require_finite: False where a training looks at itself, which refuses bad weights by a
            check of its own.

    Returns:
        (N, C', H, W) uint8, on the device of `images`.

    Raises:
        DataError: An output has NaN or infinite values.
        ConfigError: See `attempt_batch`.
    """
    outputs = []
    for batch in images.split(batch_size or max(len(images), 1)):
        fakes, finite = attempt_batch(generator, batch, device)
        if require_finite and not bool(finite.all()):
            raise DataError(NOT_FINITE.format(source))
        outputs.append(fakes)
    return torch.cat(outputs)


@torch.inference_mode()
def attempt_batch(
    generator: Generator, images: Tensor, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Translate images together.

    Args:
        generator: On `device`.
        images: (N, C, H, W) uint8, or float32 in [-1, 1].
        device: Where to compute.

    Returns:
        Outputs (N, C', H, W) of the type and on the device of `images`, where what leaves [-1, 1]
        is clipped; and which of them are finite, (N,) bool. The others mean nothing.

    Raises:
        ConfigError: The generator changes the size.
    """
    floats = images.is_floating_point()
    fakes = generator((images if floats else _piecewise(to_float, images)).to(device))
    count, _, height, width = images.shape
    if fakes.ndim != 4 or (len(fakes), *fakes.shape[2:]) != (count, height, width):
        raise ConfigError(
            f"the generator turns {tuple(images.shape)} into {tuple(fakes.shape)}; translation "
            "needs images of the size of the input"
        )
    finite = torch.isfinite(fakes).flatten(1).all(1)
    outputs = fakes.float().clamp(-1, 1) if floats else _piecewise(to_uint8, fakes)
    return outputs.to(images.device), finite.cpu()


def _piecewise(function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    return torch.cat([function(piece) for piece in images.split(PIECE)])
