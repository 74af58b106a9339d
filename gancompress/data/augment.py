"""Random changes of training images, for whole batches at once.

Every number is drawn from the seed and the image's position in the stream, so an image looks the
same in whatever batch and after whatever restart. What shows the same thing is changed alike:
input, truth and the teacher's answer stay aligned.

Order: the input's drawing, then shape and colour of all images together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from gancompress.config import AffineOptions, AugmentOptions, DrawingOptions, HueOptions

LINE = 8  # a pixel of a drawing is a line if all its channels are below this
BYTES_A_PIXEL = 6  # of a drawing's layers
COARSE, FINE = 8, 32  # cells a side of smooth noise: of a bend, of a gap
_GOLDEN, _MIX1, _MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def draws(seed: int, positions: Sequence[int], stream: int, count: int) -> Tensor:
    """Uniform numbers in [0, 1) that depend on seed, position and stream alone.

    Source: Steele et al., Fast splittable pseudorandom number generators (SplitMix64), 2014.

    Args:
        seed: Of the run.
        positions: Of the images in the stream.
        stream: Numbers of different streams are independent.
        count: Numbers per image.

    Returns:
        (N, count) float32.
    """
    state = np.array([[seed % 2**64]], np.uint64)
    for part in (np.array([[stream]]), np.array(positions)[:, None], np.arange(count)[None]):
        state = _scramble(state * np.uint64(_GOLDEN) + part.astype(np.uint64))
    return torch.from_numpy((state >> np.uint64(40)).astype(np.float32) / 2**24)


def _scramble(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = x + np.uint64(_GOLDEN)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_MIX1)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_MIX2)
    return x ^ (x >> np.uint64(31))


class Numbers:
    """Uniform numbers of a batch, handed out one after the other.

    Args:
        seed: Of the run.
        positions: Of the images in the stream.
    """

    def __init__(self, seed: int, positions: Sequence[int]) -> None:
        self.seed, self.positions = seed, positions
        self._stream = 16  # smaller ones are for order and crops

    def take(self, count: int = 1) -> Tensor:
        """(N, count) in [0, 1)."""
        self._stream += 1
        return draws(self.seed, self.positions, self._stream, count)

    def chance(self, probability: float) -> Tensor:
        """(N, 1, 1, 1) bool, true with this probability."""
        return self.take()[:, :, None, None] < probability

    def between(self, low: float, high: float) -> Tensor:
        """(N, 1, 1, 1) in [low, high)."""
        return low + (high - low) * self.take()[:, :, None, None]

    def noise(self, channels: int, cells: int, side: int) -> Tensor:
        """Smooth noise in [-1, 1], (N, channels, side, side)."""
        grid = self.take(channels * cells * cells).view(-1, channels, cells, cells) * 2 - 1
        smooth = F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
        return smooth.clamp(-1, 1)


@dataclass(frozen=True)
class Layers:
    """A drawing taken apart: black lines over flat colours.

    Attributes:
        lines: (1, H, W) bool.
        fill: Colours without the lines, which take those beside them, (3, H, W) uint8.
        regions: What lines enclose, numbered, (1, H, W) int16; lines belong to a neighbour.
    """

    lines: Tensor
    fill: Tensor
    regions: Tensor


def take_apart(drawing: Tensor) -> Layers:
    """The layers of a drawing, (3, H, W) uint8."""
    lines = drawing.amax(0).numpy() < LINE
    regions, _ = ndimage.label(~lines)
    fill = drawing
    if lines.any() and not lines.all():
        _, (rows, columns) = ndimage.distance_transform_edt(lines, return_indices=True)
        fill, regions = drawing[:, rows, columns], regions[rows, columns]
    numbered = torch.from_numpy(np.ascontiguousarray(regions).astype(np.int16))
    return Layers(torch.from_numpy(lines)[None], fill.contiguous(), numbered[None])


def draw(
    layers: Sequence[Layers], options: DrawingOptions, numbers: Numbers
) -> tuple[Tensor, Tensor]:
    """Drawings as people make them, from clean ones.

    Args:
        layers: Of N drawings of one size.
        options: How far and how often.
        numbers: Of this batch.

    Returns:
        (N, 3, H, W) float32 in [-1, 1], and which of them have colours at all, (N,) bool.
    """
    lines = torch.stack([each.lines for each in layers]).float()
    fill = torch.stack([each.fill for each in layers]).float() / 127.5 - 1
    regions = torch.stack([each.regions for each in layers])
    clean, bare = numbers.chance(options.clean), numbers.chance(options.no_fill)
    painted = torch.where(bare, 1.0, _paint(fill, regions, options, numbers))
    drawn = _compose(painted, _ink(lines, options, numbers))
    return torch.where(clean, _compose(fill, lines), drawn), (clean | ~bare).flatten()


def _compose(fill: Tensor, lines: Tensor) -> Tensor:
    return fill * (1 - lines) - lines


def _ink(lines: Tensor, options: DrawingOptions, numbers: Numbers) -> Tensor:
    """Lines of other widths, that wobble, break off and are missing; (N, 1, H, W) in [0, 1]."""
    side = lines.shape[-1]
    lines = _displace(lines, options.wobble, numbers, "bilinear")
    for cells in (FINE, COARSE):  # gaps, and strokes
        reach = options.gaps * numbers.between(0, 1) * numbers.chance(0.5)
        lines = lines * (numbers.noise(1, cells, side) <= 1 - reach)
    wide2 = F.max_pool2d(F.pad(lines, (0, 1, 0, 1)), 2, 1)
    wide3 = F.max_pool2d(lines, 3, 1, padding=1)
    wide4 = F.max_pool2d(F.pad(wide3, (0, 1, 0, 1)), 2, 1)
    width = numbers.between(1, options.max_width + 1).floor()
    for index, wider in enumerate((wide2, wide3, wide4), 2):
        lines = torch.where(width == index, wider, lines)
    lines = torch.where(numbers.chance(options.soft), _blur(lines, 0.7), lines)
    faint = torch.where(numbers.chance(options.soft), numbers.between(0.5, 1), 1.0)
    return lines * faint * ~numbers.chance(options.no_lines)


def _paint(fill: Tensor, regions: Tensor, options: DrawingOptions, numbers: Numbers) -> Tensor:
    """Colours that miss their outlines, leave regions and specks white, or are a soft brush's."""
    side = fill.shape[-1]
    tables = numbers.take(256)
    kept = tables.gather(1, (regions.flatten(1) % 256).long()).view(regions.shape)
    white = numbers.chance(0.5) & (kept < options.unpainted)
    reach = options.specks * numbers.between(0, 1) * numbers.chance(0.5)
    specks = numbers.noise(1, FINE, side) > 1 - reach
    fill = torch.where(white | specks, 1.0, fill)
    fill = _displace(fill, options.misfit, numbers, "nearest")
    return torch.where(numbers.chance(options.soft), _blur(fill, 1.5), fill)


def _displace(images: Tensor, pixels: float, numbers: Numbers, mode: str) -> Tensor:
    """Move every place by up to about this many pixels, neighbours alike."""
    side = images.shape[-1]
    reach = numbers.between(0, pixels)
    offset = numbers.noise(2, COARSE, side) * reach * 2 / side
    grid = _base_grid(side) + offset.permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, mode, "border", align_corners=False)


def _base_grid(side: int) -> Tensor:
    places = (torch.arange(side) + 0.5) * 2 / side - 1
    rows, columns = torch.meshgrid(places, places, indexing="ij")
    return torch.stack([columns, rows], -1)[None]


def _blur(images: Tensor, sigma: float) -> Tensor:
    reach = math.ceil(2 * sigma)
    offsets = torch.arange(-reach, reach + 1).float()
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    channels = images.shape[1]
    padded = F.pad(images, (reach,) * 4, mode="replicate")
    rows = kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    columns = kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    return F.conv2d(F.conv2d(padded, rows, groups=channels), columns, groups=channels)


def turn(images: Tensor, options: AffineOptions, numbers: Numbers) -> Tensor:
    """Rotate, scale and shift all channels of an image alike; the border is continued.

    Args:
        images: (N, C, H, W); what belongs together is stacked along C.
        options: How far and how often.
        numbers: Of this batch.
    """
    chosen = numbers.chance(options.probability).flatten()
    low, high = options.scale
    angle = numbers.between(-options.rotate, options.rotate).flatten() * math.pi / 180
    scale = numbers.between(low, high).flatten()
    shift = 2 * options.shift * (numbers.take(2) * 2 - 1)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    matrix = torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], 1).view(-1, 2, 3)
    if not chosen.any():
        return images
    grid = F.affine_grid(matrix[chosen], list(images[chosen].shape), align_corners=False)
    moved = F.grid_sample(images[chosen], grid, "bilinear", "border", align_corners=False)
    return images.index_put((chosen,), moved)


def turn_hue(images: Tensor, which: Tensor, options: HueOptions, numbers: Numbers) -> Tensor:
    """Turn the hue of all RGB images of an item alike; greys stay.

    The rotation is about the grey axis in the YIQ colour space.

    Args:
        images: (N, 3 * K, H, W) in [-1, 1].
        which: Images that may be turned, (N,) bool.
        options: How far and how often.
        numbers: Of this batch.
    """
    chosen = which & numbers.chance(options.probability).flatten()
    angle = numbers.between(-options.turn, options.turn).flatten() * 2 * math.pi
    if not chosen.any():
        return images
    picked = images[chosen]
    shape = picked.shape
    rgb = picked.view(shape[0], -1, 3, *shape[2:])
    turned = torch.einsum("nij,nkjhw->nkihw", _hue_matrices(angle[chosen]), rgb)
    return images.index_put((chosen,), turned.clamp(-1, 1).reshape(shape))


def _hue_matrices(angles: Tensor) -> Tensor:
    """(N,) radians -> (N, 3, 3) from RGB to RGB."""
    to_yiq = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    cos, sin, zero = torch.cos(angles), torch.sin(angles), torch.zeros_like(angles)
    rows = [zero + 1, zero, zero, zero, cos, -sin, zero, sin, cos]
    rotation = torch.stack(rows, 1).view(-1, 3, 3)
    matrices: Tensor = torch.linalg.inv(to_yiq) @ rotation @ to_yiq
    return matrices


def augment(
    together: Tensor, layers: Sequence[Layers] | None, options: AugmentOptions, numbers: Numbers
) -> Tensor:
    """All changes that the options ask for.

    Args:
        together: (N, 3 * K, H, W) in [-1, 1]; the first three channels are the input.
        layers: Of the inputs, where these are drawings that shall be drawn anew.
        options: The table of augmentations.
        numbers: Of this batch.
    """
    coloured = torch.ones(len(together), dtype=torch.bool)
    if options.drawing is not None and layers is not None:
        drawn, coloured = draw(layers, options.drawing, numbers)  # uncoloured ones keep the truth's
        together = torch.cat([drawn, together[:, 3:]], 1)
    if options.affine is not None:
        together = turn(together, options.affine, numbers)
    if options.hue is not None:
        together = turn_hue(together, coloured, options.hue, numbers)
    return together
