"""The colours of label images, found in the images themselves, and pixels as class numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from gancompress.errors import DataError

Colour = tuple[int, int, int]

IGNORED = 255  # the class number of pixels that no score counts
TOLERANCE = 48.0  # RGB distance beyond which a pixel shows none of the colours
SETTLED = 32.0  # RGB distance up to which a pixel surely has a colour
REACH = 2  # pixels that a border's mixture is wide
FLAT = 12  # levels by which the 3x3 neighbours of a pixel inside one label may differ
BIN = 8  # levels in one bin of the histogram
RADIUS = 16.0  # RGB distance that compression moves a colour inside one label
SATELLITE = 0.05  # share of a colour's weight below which its near neighbour is that colour, moved
MIN_SHARE = 5e-4  # of the flat pixels; rarer colours are noise unless the number is given
MAX_CLASSES = 250  # class numbers are bytes, and 255 means ignored
CHUNK = 1 << 18  # pixels compared with all colours at a time


@dataclass(frozen=True)
class Palette:
    """Label colours in the order of their class numbers.

    Attributes:
        colours: One RGB colour for each class, then those of pixels that are ignored.
        num_ignored: How many colours at the end are no classes.
    """

    colours: tuple[Colour, ...]
    num_ignored: int = 0

    @property
    def num_classes(self) -> int:
        """Colours that are classes."""
        return len(self.colours) - self.num_ignored

    def classes(self, images: Tensor) -> Tensor:
        """The class of each pixel by its colour.

        A pixel near a colour has that colour's class. Any other is a mixture, as compression
        makes along borders, and what it mixes lies beside it: of the classes of pixels within
        `REACH` that are near their colour it gets the one whose colour is nearest. Where there is
        none, the nearest of all colours decides.

        Args:
            images: (N, 3, H, W) uint8.

        Returns:
            (N, H, W) int64: 0 .. num_classes - 1, or `IGNORED`.
        """
        numbers = torch.stack([self._settle(image) for image in images])
        return numbers.masked_fill(numbers >= self.num_classes, IGNORED)

    def _settle(self, image: Tensor) -> Tensor:
        """Numbers of colours, (H, W), of one image (3, H, W)."""
        number, distance = (values[0] for values in self._nearest(image[None]))
        settled = distance <= SETTLED**2
        if bool(settled.all()):
            return number
        mixed = (~settled).nonzero()
        pixels = image.permute(1, 2, 0)[~settled].float()
        colours = torch.tensor(self.colours, dtype=torch.float32, device=image.device)
        around = torch.nn.functional.pad(
            torch.where(settled, number, -1), (REACH, REACH, REACH, REACH), value=-1
        )
        best = torch.full_like(pixels[:, 0], torch.inf)
        chosen = number[~settled]
        for down, right in itertools.product(range(2 * REACH + 1), repeat=2):
            beside = around[mixed[:, 0] + down, mixed[:, 1] + right]
            away = (pixels - colours[beside]).square().sum(1)
            first = (away < best) | ((away == best) & (beside < chosen))
            nearer = (beside >= 0) & first
            best, chosen = torch.where(nearer, away, best), torch.where(nearer, beside, chosen)
        number[~settled] = chosen
        return number

    def stray_share(self, images: Tensor, tolerance: float = TOLERANCE) -> float:
        """Share of the pixels that are farther than `tolerance` from every colour.

        Args:
            images: (N, 3, H, W) uint8.
            tolerance: Euclidean distance in levels of RGB.
        """
        return float((self._nearest(images)[1] > tolerance**2).double().mean())

    def paint(self, classes: Tensor) -> Tensor:
        """Class numbers (N, H, W) as an image of their colours, (N, 3, H, W) uint8.

        Ignored pixels are black.
        """
        table = torch.zeros(256, 3, dtype=torch.uint8)
        table[: self.num_classes] = torch.tensor(self.colours[: self.num_classes])
        return table[classes.cpu().long()].permute(0, 3, 1, 2).contiguous()

    def _nearest(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Number of the nearest colour and its squared distance, (N, H, W) each."""
        colours = torch.tensor(self.colours, dtype=torch.float32, device=images.device)
        pixels = images.permute(0, 2, 3, 1).reshape(-1, 3)
        offsets = colours.square().sum(1)
        numbers, distances = [], []
        for chunk in pixels.split(CHUNK):
            values = chunk.float()  # sums below 2**24 are exact, so no rounding breaks a tie
            lowest, number = (offsets - 2 * values @ colours.T).min(1)
            numbers.append(number)
            distances.append(lowest + values.square().sum(1))
        shape = (images.shape[0], *images.shape[2:])
        return torch.cat(numbers).reshape(shape), torch.cat(distances).reshape(shape)


def find_palette(images: Iterable[Tensor], classes: int | None = None) -> Palette:
    """The colours that fill areas of the label images, most frequent first.

    JPEG smears colours along borders and moves them by a few levels inside an area. So only
    pixels whose 3x3 neighbourhood is nearly constant are counted, in coarse bins, and the bins
    around each peak are one colour, their mean. Sums of integers: the order of the images does
    not matter.

    Args:
        images: Label images, (3, H, W) uint8 each, at their own resolution.
        classes: How many colours there are; by default every colour with at least `MIN_SHARE` of
            the counted pixels.

    Raises:
        DataError: There are fewer than two colours, fewer than `classes`, or too many to be labels.
    """
    counts = torch.zeros((256 // BIN) ** 3, dtype=torch.int64)
    sums = torch.zeros(len(counts), 3, dtype=torch.int64)
    for image in images:
        pixels = _flat_pixels(image).long()
        red, green, blue = (pixels // BIN).unbind(1)
        bins = (red * (256 // BIN) + green) * (256 // BIN) + blue
        counts.index_add_(0, bins, torch.ones_like(bins))
        sums.index_add_(0, bins, pixels)
    found = _peaks(counts, sums, MIN_SHARE if classes is None else 0.0)
    _check_number(len(found), classes)
    return Palette(tuple(found[:classes]))


def _flat_pixels(image: Tensor) -> Tensor:
    """Pixels inside areas of one colour, (P, 3) uint8."""
    values = image[None].float()
    highest = torch.nn.functional.max_pool2d(values, 3, stride=1)
    lowest = -torch.nn.functional.max_pool2d(-values, 3, stride=1)
    flat = ((highest - lowest) <= FLAT).all(1)[0]
    return image[:, 1:-1, 1:-1].permute(1, 2, 0)[flat]


def _peaks(counts: Tensor, sums: Tensor, min_share: float) -> list[Colour]:
    """Means of the bins around each peak of a histogram, heaviest first."""
    occupied = counts.nonzero()[:, 0]
    left, totals = counts[occupied].double(), sums[occupied].double()
    means = totals / left[:, None]
    least = min_share * float(left.sum())
    found: list[tuple[float, Colour]] = []
    while float(left.sum()) > 0 and len(found) <= MAX_CLASSES:
        centre = means[left.argmax()]
        for _ in range(2):  # the peak's bin may hold one side of the colour alone
            near = (left > 0) & ((means - centre).norm(dim=1) <= RADIUS)
            centre = totals[near].sum(0) / left[near].sum()
        weight = float(left[near].sum())
        if weight < least:
            break  # the highest bins are taken first, so what follows is noise
        left[near] = 0
        red, green, blue = (round(value) for value in centre.tolist())
        if not any(
            math.dist((red, green, blue), other) <= 2 * RADIUS and weight < SATELLITE * heavier
            for heavier, other in found
        ):
            found.append((weight, (red, green, blue)))
    return [colour for _, colour in sorted(found, key=lambda entry: (-entry[0], entry[1]))]


def _check_number(found: int, wanted: int | None) -> None:
    if wanted is not None and found < wanted:
        raise DataError(
            f"the label images hold {found} colours, not {wanted}: give the number that is there"
        )
    if wanted is None and not 2 <= found <= MAX_CLASSES:
        what = "one colour" if found == 1 else f"{found or 'no'} colours that fill areas"
        raise DataError(
            f"the label images have {what}: labels are areas of at least 2 and at most "
            f"{MAX_CLASSES} plain colours.\n  Check which side the labels are on (--direction), "
            "or give their number (--classes)."
        )


# Train ids 0-18 of Cityscapes, then the colours of its labels without a train id.
# Source: Cordts et al., The Cityscapes Dataset, CVPR 2016, and the label table published with it.
CITYSCAPES = Palette(
    (
        *((128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153)),
        *((153, 153, 153), (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152)),
        *((70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70)),
        *((0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32)),
        *((0, 0, 0), (111, 74, 0), (81, 0, 81), (250, 170, 160), (230, 150, 140)),
        *((180, 165, 180), (150, 100, 100), (150, 120, 90), (0, 0, 90), (0, 0, 110)),
    ),
    num_ignored=10,
)
