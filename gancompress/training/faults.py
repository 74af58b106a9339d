"""Answers of a function that nothing can be learnt from: unchanged, flat, shifted, all the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import torch
from torch import Tensor

from gancompress.config import CheckOptions
from gancompress.data import ImageKind
from gancompress.data.hashing import pixel_digest

MIN_ALIKE = 3
CLEAR_PEAK = 0.45  # of a correlation; simple drawings of different things reach 0.4
TIMES_CLEARER = 2.0  # than at no shift


def fault(pixels: Tensor, answer: Tensor, options: CheckOptions) -> str | None:
    """What is wrong with one answer: unchanged, flat or shifted; None where nothing is.

    Args:
        pixels: The input as people see it, (3, H, W) uint8.
        answer: The same of the answer.
        options: Thresholds.
    """
    before, after = pixels.float().mean(0), answer.float().mean(0)
    if float(after.std()) < options.flat <= float(before.std()):
        return "flat"
    if float((pixels.float() - answer.float()).abs().mean()) < options.unchanged:
        return "unchanged"
    if options.shift is not None:
        down, right, peak, still = shift_of(before, after)
        is_clear = peak > max(CLEAR_PEAK, TIMES_CLEARER * still)
        if is_clear and max(abs(down), abs(right)) > options.shift:
            return "shifted"
    return None


def shift_of(before: Tensor, after: Tensor) -> tuple[int, int, float, float]:
    """How far one image is moved against another, by phase correlation.

    The sign of the correlation does not count, as a negative is in its place.
    Source: Kuglin and Hines, The phase correlation image alignment method, 1975.

    Args:
        before: (H, W).
        after: (H, W).

    Returns:
        Pixels down and to the right, and the correlation (0 to 1) there and at no shift.
    """
    height, width = before.shape
    window = torch.hann_window(height)[:, None] * torch.hann_window(width)
    one, other = (torch.fft.fft2((image - image.mean()) * window) for image in (before, after))
    cross = other * one.conj()
    found = torch.fft.ifft2(cross / cross.abs().clamp_min(1e-6)).real.abs()
    place = int(found.argmax())
    down, right = divmod(place, width)
    signed = (down - height * (down > height // 2), right - width * (right > width // 2))
    return *signed, float(found.flatten()[place]), float(found[0, 0])


def faults(
    pairs: Iterable[tuple[Tensor, Tensor]],
    kinds: tuple[ImageKind, ImageKind],
    options: CheckOptions,
) -> dict[int, str]:
    """What is wrong with answers, by position; those without a fault are left out.

    Args:
        pairs: Inputs and answers, (C, H, W) uint8 each; looked at one after another.
        kinds: Of inputs and answers.
        options: Thresholds.
    """
    taken, made = kinds
    found: dict[int, str] = {}
    digests = []
    for place, (pixels, answer) in enumerate(pairs):
        digests.append(pixel_digest(answer))
        if reason := fault(taken.preview(pixels), made.preview(answer), options):
            found[place] = reason
    counts = Counter(digests)
    most = max(options.alike * len(digests), MIN_ALIKE - 1)
    for place, digest in enumerate(digests):
        if counts[digest] > most:
            found.setdefault(place, "alike")
    return found
