"""Writing a file, and the proof that it computes the same images."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from torch import Tensor, nn

from gancompress.checkpoint.files import write_atomic
from gancompress.checkpoint.network import Network
from gancompress.errors import CheckpointError, DataError, ExportError
from gancompress.export.format import Format
from gancompress.export.formats import require_format
from gancompress.export.job import ExportOptions, Job
from gancompress.export.proof import (
    LEVEL,
    MIN_REAL_IMAGES,
    Check,
    Criterion,
    Proof,
    check_file,
)
from gancompress.hashes import PROOF

NARROW_PSNR_DB = {"float16": 50.0, "int8": 30.0}
"""Least accepted where weights are rounded.

The published horse2zebra generator has 75 and 42 on its worst of 16 photos.
"""


def export_network(
    network: Network,
    kind: str,
    path: Path,
    images: list[Tensor],
    options: ExportOptions | None = None,
) -> Proof:
    """Write a generator to a file, run that file in its own runtime, and compare.

    Where a format is calibrated, every second image is for that, and the others are for the proof.

    Args:
        network: On the CPU, in evaluation mode.
        kind: Entry of `FORMATS`.
        path: Where to write.
        images: Real inputs (C, H, W) uint8, sides multiples of the stride; 16 or more if possible,
            32 where the format is calibrated.
        options: How to write it.

    Returns:
        The proof; also written beside the file as `FILE.proof.json`.

    Raises:
        ExportError: The file computes other images, or cannot be read; an older one stays.
        DataError: No images.
        ConfigError: Such a file cannot be written here.
    """
    options = options or ExportOptions()
    entry = require_format(kind, options)
    if not images:
        raise DataError("the proof needs real images; none found")
    calibration, held = images, images
    if entry.is_calibrated and len(images) > 1:
        calibration, held = images[1::2], images[::2]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unproven.") as folder:
        draft = Path(folder) / path.name
        try:
            trials = entry.write(draft, Job(network, calibration, options))
            criterion = _criterion(entry, network.module, options)
            run = entry.read(draft, network)
            checks = check_file(network.module, run, held, criterion)
        except CheckpointError as error:
            raise ExportError(f"{error}\n  {path} was not written.") from None
        for check in checks:
            _require(check, criterion, path)
        contents = [file.read_bytes() for file in entry.files(draft)]
    files = entry.files(path)
    real = checks[0]
    proof = Proof(
        file=path.name,
        subnet=network.header.get("subnet"),
        num_images=len(held),
        max_difference=real.max_difference,
        tolerance=criterion.tolerance,
        psnr_db=real.psnr_db,
        min_psnr_db=criterion.min_psnr_db,
        runtime=f"{entry.runtime} {version(entry.runtime)}",
        form="uint8" if options.uint8 else "float32",
        checks=checks,
        rewrites=trials,
        sha256={
            file.name: hashlib.sha256(content).hexdigest()
            for file, content in zip(files, contents, strict=True)
        },
        warning=_warning(len(held), len(images)),
    )
    _publish(files, contents, path, proof)
    return proof


def _publish(files: list[Path], contents: list[bytes], path: Path, proof: Proof) -> None:
    note = path.with_name(f"{path.name}{PROOF}")
    note.unlink(missing_ok=True)  # that of an older file proves nothing for this one
    if len(files) > 1:
        path.unlink(missing_ok=True)  # never an old graph beside new weights
    for file, content in zip(files, contents, strict=True):
        write_atomic(file, content)
    write_atomic(note, json.dumps(asdict(proof), indent=1).encode())


def _criterion(entry: Format, module: nn.Module, options: ExportOptions) -> Criterion:
    if entry.min_psnr_db is not None:
        return Criterion(None, entry.min_psnr_db, options.uint8)
    if options.weights == "int8" or (options.weights == "float16" and not _fits_half(module)):
        return Criterion(None, NARROW_PSNR_DB[options.weights], options.uint8)
    if options.uint8:
        return Criterion(LEVEL + 1e-6, None, True)
    return Criterion(entry.tolerance)


def _fits_half(module: nn.Module) -> bool:
    """Whether half precision holds all weights as they are written: norms are folded into some."""
    if any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in module.modules()):
        return False
    return all(bool((p.half().to(p.dtype) == p).all()) for p in module.parameters())


def _require(check: Check, criterion: Criterion, path: Path) -> None:
    """Refuse a file by one kind of image.

    Raises:
        ExportError: It computes something else.
    """
    least = criterion.min_psnr_db
    if not check.holds:
        accepted = "finite values" if check.accepted is None else f"{check.accepted:.3g}"
        raise ExportError(
            f"{path} would differ from the generator by {check.max_difference:.3g} on {check.kind} "
            f"images (accepted: {accepted}); it was not written"
        )
    psnr = math.inf if check.psnr_db is None else check.psnr_db
    if least is not None and check.kind == "real" and psnr < least:
        raise ExportError(
            f"{path} would have a PSNR of {psnr:.1f} dB to the generator on a real image "
            f"(accepted: {least:.0f} dB); it was not written"
        )


def _warning(num_images: int, given: int) -> str:
    if num_images >= MIN_REAL_IMAGES:
        return ""
    others = f"; {given - num_images} others calibrated it" if given > num_images else ""
    return f"only {num_images} real images, {MIN_REAL_IMAGES} make a whole proof{others}"
