"""The proof that a file computes the images of the generator that it was made from."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from gancompress.data import Generator, to_float, to_uint8
from gancompress.export.rewrites import Trial

MIN_REAL_IMAGES = 16
LEVEL = 2 / 255
"""One grey level of images in [-1, 1]."""

WITHOUT_CONTRAST = ("faint", "flat")
AMPLIFIED = 1000
"""Accepted difference on such images, in multiples of eager PyTorch's own rounding error.

Instance norms divide what has no contrast by almost nothing, so rounding errors grow there. Largest
multiples seen on nearly flat images: 45 in ONNX Runtime, 290 in OpenVINO.
"""


@dataclass(frozen=True)
class Criterion:
    """When a file counts as the same generator.

    Attributes:
        tolerance: Largest accepted difference on real images; None where PSNR decides.
        min_psnr_db: Least accepted PSNR of a real image; None where the difference decides.
        is_bytes: Whether images are compared as the file gives them, in grey levels.
    """

    tolerance: float | None
    min_psnr_db: float | None = None
    is_bytes: bool = False


@dataclass(frozen=True)
class Check:
    """One kind of image.

    Attributes:
        kind: 'real', 'faint' (real with 1/16 of the contrast), 'noise' or 'flat' (one colour).
        num_images: Translated by the file and by the generator in memory.
        sizes: (height, width) of them.
        batch_sizes: Numbers of images that were translated together.
        max_difference: Largest |difference| of any output value, images being in [-1, 1].
        psnr_db: Least PSNR of an image against eager float32; None where nothing differs.
        rounding_error: Largest difference of eager float32 to eager float64; None where it is not
            asked, or the generator cannot compute in float64.
        accepted: Largest accepted difference; None where it decides nothing.
        note: What to know about it.
    """

    kind: str
    num_images: int
    sizes: list[tuple[int, int]]
    batch_sizes: list[int]
    max_difference: float
    psnr_db: float | None
    rounding_error: float | None
    accepted: float | None
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether the file may be used; values that are not finite never are."""
        return self.max_difference <= (math.inf if self.accepted is None else self.accepted) and (
            math.isfinite(self.max_difference)
        )


@dataclass(frozen=True)
class Proof:
    """What was compared.

    Attributes:
        file: The exported file.
        subnet: Config string of the subnet in it, of a supernet.
        num_images: Real images translated by the file and by the generator in memory.
        max_difference: Largest |difference| of any output value on real images in [-1, 1].
        tolerance: The largest that is accepted; None where PSNR decides.
        psnr_db: Least PSNR of a real image; None where nothing differs.
        min_psnr_db: The least that is accepted; None where the difference decides.
        runtime: What ran the file, with its version.
        form: Type of the file's images: float32 in [-1, 1], or uint8.
        checks: Every kind of image.
        rewrites: Which changes of the graph were tried, and which are in the file.
        sha256: Of each file, by name.
        warning: What is missing for a whole proof.
    """

    file: str
    subnet: str | None
    num_images: int
    max_difference: float
    tolerance: float | None
    psnr_db: float | None = None
    min_psnr_db: float | None = None
    runtime: str = ""
    form: str = "float32"
    checks: list[Check] = field(default_factory=list)
    rewrites: list[Trial] = field(default_factory=list)
    sha256: dict[str, str] = field(default_factory=dict)
    warning: str = ""


def check_file(
    module: nn.Module, run: Generator, images: list[Tensor], criterion: Criterion
) -> list[Check]:
    """Translate images with a file and with its generator in memory.

    Args:
        module: The generator in eager PyTorch, float32, on the CPU.
        run: The file in its own runtime.
        images: Real inputs (C, H, W) uint8.
        criterion: When the file counts as the same.
    """
    double = _in_double(module, images[0]) if criterion.tolerance != 0 else None
    checks = []
    for kind, batches in _batches(images).items():
        measured = _Measured(double if kind in WITHOUT_CONTRAST else None)
        for batch in batches:
            measured.add(module, run, batch, criterion.is_bytes)
        checks.append(_judge(kind, batches, measured, criterion))
    return checks


def _batches(images: list[Tensor]) -> dict[str, list[Tensor]]:
    """Batches (N, C, H, W) uint8 by kind: single ones, three together, and another size."""
    first = images[0]
    three = torch.stack([first, first.flip(2), first.flip(1)])
    wide = torch.cat([first, images[-1] if images[-1].shape == first.shape else first], 2)[None]
    faint = [(128 + (image.int() - 128) // 16).to(torch.uint8) for image in images[:2]]
    random = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, three.shape, dtype=torch.uint8, generator=random)
    flat = [torch.full_like(first, level)[None] for level in (0, 128, 255)]
    return {
        "real": [*(image[None] for image in images), three, wide],
        "faint": [image[None] for image in faint],
        "noise": [noise, noise[:1], torch.cat(list(noise[:2]), 2)[None]],
        "flat": [*flat, torch.cat(flat)],
    }


class _Measured:
    """Largest differences over what was added.

    Args:
        double: The generator in float64, where its rounding errors are asked.
    """

    def __init__(self, double: nn.Module | None) -> None:
        self.double = double
        self.difference, self.mse = 0.0, 0.0
        self.rounding = None if double is None else 0.0

    @torch.inference_mode()
    def add(self, module: nn.Module, run: Generator, batch: Tensor, is_bytes: bool) -> None:
        x = to_float(batch)
        wanted: Tensor = module(x)
        if self.double is not None and self.rounding is not None:
            own = wanted - self.double(x.double())
            self.rounding = _largest(self.rounding, own.abs().max())
        if is_bytes:
            wanted = to_float(to_uint8(wanted))
        error = run(x) - wanted
        self.difference = _largest(self.difference, error.abs().max())
        self.mse = _largest(self.mse, error.double().square().flatten(1).mean(1).max())

    @property
    def psnr_db(self) -> float | None:
        return 10 * math.log10(4 / self.mse) if self.mse else None


def _largest(value: float, other: Tensor) -> float:
    return float(torch.maximum(torch.tensor(value, dtype=other.dtype), other))  # keeps NaN


def _judge(kind: str, batches: list[Tensor], measured: _Measured, criterion: Criterion) -> Check:
    rounding, accepted, note = measured.rounding, criterion.tolerance, ""
    if rounding is not None and AMPLIFIED * rounding > (accepted or LEVEL):
        note = (
            f"eager PyTorch itself errs by {rounding:.2g} here, as instance norms amplify "
            "rounding errors of images without contrast"
        )
        accepted = None if accepted is None else AMPLIFIED * rounding
        if AMPLIFIED * rounding >= 2:
            accepted, note = None, f"no definite output: {note}"
    return Check(
        kind=kind,
        num_images=sum(map(len, batches)),
        sizes=sorted({(batch.shape[2], batch.shape[3]) for batch in batches}),
        batch_sizes=sorted({len(batch) for batch in batches}),
        max_difference=measured.difference,
        psnr_db=measured.psnr_db,
        rounding_error=rounding,
        accepted=accepted,
        note=note,
    )


def _in_double(module: nn.Module, image: Tensor) -> nn.Module | None:
    """A copy that computes in float64 what such an image gives, where the generator can."""
    try:
        double = copy.deepcopy(module).double()
        with torch.inference_mode():
            double(to_float(image[None]).double())
    except Exception:  # a foreign module may be bound to float32
        return None
    return double
