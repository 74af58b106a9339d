"""Example inputs, and what a drawing pad must be like to give inputs of the same kind."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from gancompress.data import ImageKind, ImageSet, spread
from gancompress.demo.manifest import Pad
from gancompress.errors import ConfigError

Pixels = npt.NDArray[np.int64]

NUM_EXAMPLES = 6
MAX_SIDE = 512  # of an example, in pixels
MAX_EXAMINED = 60
STEP = 40  # largest distance of a pixel to its flat colour, in levels over all three channels
COVERAGE = 0.97  # of the pixels of drawings and label maps have one of few flat colours
GRAIN = 9  # the same distance where only compression has moved a pixel
FLAT = 0.75  # of all pixels are so near; of grey photos (horse2zebra without colour) 0.38 are
RARE = 0.002  # share of the pixels below which a colour is noise
MAX_COLOURS = 24
MAX_SHADES = 4096  # the most frequent ones tell
PLACES = np.array([1 << 16, 1 << 8, 1])  # of the channels in a number that stands for a colour
USUAL = 0.8  # of the drawings of a set have its lines, and are flat
THIN = 1 / 32  # of the side: the widest lines
WHITE = "#ffffff"
STARTING_COLOURS = (
    *("#ffc83d", "#ff8b3d", "#f2383f", "#f0417f", "#f9b4cf", "#8b5fc7", "#3f86f0", "#62c4fb"),
    *("#2fae6b", "#9bd045", "#7d4a35", "#e9a876", "#2b2430", "#958e9a", "#dedbe6", WHITE),
)
"""For a pad that takes any colour: between them, the fills of emoji and what a paint box has."""


def native(inputs: ImageSet) -> ImageSet:
    """The same images at about the size of their files, where lines are as they were drawn."""
    width, height = inputs.kind.read(inputs.files[0])[0].size
    side = min(width // 2 if inputs.half else width, height, MAX_SIDE)
    side = max(side, inputs.size)
    return ImageSet(inputs.files, side, inputs.half, digests=inputs.digests, kind=inputs.kind)


def choose(inputs: ImageSet, names: Sequence[str]) -> list[int]:
    """Positions of the named images; without names, of some that differ much from each other.

    Raises:
        ConfigError: No image has such a name.
    """
    stems = [path.stem for path in inputs.files]
    unknown = [name for name in names if name not in stems]
    if unknown:
        raise ConfigError(
            f"no image '{unknown[0]}' among the {len(stems)} that examples are taken from, such as "
            f"{', '.join(stems[:3])}"
        )
    return [stems.index(name) for name in dict.fromkeys(names)] if names else _varied(inputs)


def _varied(inputs: ImageSet) -> list[int]:
    """Greedily the image that is farthest from all chosen ones, by coarse content."""
    indices = spread(len(inputs), MAX_EXAMINED)
    small = torch.stack([_coarse(inputs[index]) for index in indices])
    distance = torch.cdist(small, small)
    chosen = [int(distance.mean(1).argmin())]
    while len(chosen) < min(NUM_EXAMPLES, len(indices)):
        gaps = distance[chosen].amin(0)
        gaps[chosen] = -1  # where all others are copies of chosen ones, copies it is
        chosen.append(int(gaps.argmax()))
    return [indices[place] for place in chosen]


def _coarse(image: Tensor) -> Tensor:
    return functional.adaptive_avg_pool2d(image.float(), 12).flatten()


def png(image: Tensor, kind: ImageKind) -> bytes:
    """(C, H, W) uint8 as a file."""
    stream = io.BytesIO()
    kind.encode(image).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def file_name(name: str, index: int) -> str:
    """Path of an example below its bundle."""
    return f"examples/{index}-{plain(name) or 'input'}.png"


def plain(name: str) -> str:
    """What is left of a name where only letters, digits and a few signs are allowed."""
    return re.sub(r"[^A-Za-z0-9_.\-]+", "-", name).strip("-.")


def drawing_pad(images: ImageSet) -> Pad | None:
    """The pad for inputs that are drawings or label maps; None for photos.

    Coloured drawings have white paper, few flat colours each, and thin lines of one dark colour
    in nearly all of them; their pad takes any colour. Label maps have exactly the colours that
    their pad has, and sketches a single one.

    Args:
        images: At the size of their files.
    """
    examined = [images.kind.preview(images[index]) for index in spread(len(images), MAX_EXAMINED)]
    pixels = torch.stack(examined).permute(0, 2, 3, 1).numpy().astype(np.int64)
    palette = flat_colours(pixels.reshape(-1, 3))
    if palette is None or len(palette) > 2:
        pad = _coloured_drawings(pixels)
        if pad is not None:
            return pad
    if palette is None:
        return None
    paper, *colours = palette
    width = max(1, images.size // 16)
    if len(colours) == 1:
        width = line_width(np.abs(pixels - paper).sum(-1) > np.abs(pixels - colours[0]).sum(-1))
    inks = tuple(_text(colour) for colour in colours)
    return Pad(grid=images.size, width=width, paper=_text(paper), colours=inks)


def _coloured_drawings(pixels: Pixels) -> Pad | None:
    """The pad for (N, H, W, 3) drawings with lines over any flat colours; None for others."""
    found = [flat_colours(image.reshape(-1, 3)) for image in pixels]
    flat = [palette for palette in found if palette is not None]
    if len(flat) < USUAL * len(found):
        return None
    paper = Counter(palette[0] for palette in flat).most_common(1)[0][0]
    if _text(paper) != WHITE:
        return None
    # an image's own palette may lack its lines: of near colours it has the most frequent one
    for colour in sorted({colour for palette in flat for colour in palette}, key=sum):
        ink = np.abs(pixels - colour).sum(-1) <= GRAIN
        width = line_width(ink)
        if ink.any((1, 2)).mean() >= USUAL and width <= THIN * pixels.shape[1]:
            line = _text(colour)
            return Pad(
                grid=pixels.shape[1],
                width=width,
                paper=WHITE,
                colours=STARTING_COLOURS,
                line=line,
                free=True,
            )
    return None


def _text(colour: tuple[int, int, int]) -> str:
    """`#rrggbb`."""
    return "#" + bytes(colour).hex()


def flat_colours(pixels: Pixels) -> list[tuple[int, int, int]] | None:
    """The few colours that nearly all pixels have, most frequent first; None if they are many.

    Args:
        pixels: (N, 3) in [0, 255].
    """
    codes, counts = np.unique(pixels @ PLACES, return_counts=True)
    order = counts.argsort(kind="stable")[::-1][:MAX_SHADES]
    palette: list[Pixels] = []
    covered = flat = 0
    for shade, count in zip(codes[order, None] // PLACES % 256, counts[order], strict=True):
        distance = min((np.abs(shade - known).sum() for known in palette), default=np.inf)
        if distance > STEP and count >= RARE * len(pixels) and len(palette) < MAX_COLOURS:
            palette.append(shade)
            distance = 0
        covered += int(count) * (distance <= STEP)
        flat += int(count) * (distance <= GRAIN)
    if len(palette) < 2 or covered < COVERAGE * len(pixels) or flat < FLAT * len(pixels):
        return None
    return [(int(r), int(g), int(b)) for r, g, b in palette]


def line_width(ink: npt.NDArray[np.bool_]) -> int:
    """Typical width of lines in pixels: twice their area over the length of their outline.

    Args:
        ink: (N, H, W), where something is drawn.
    """
    outline = sum(int((np.diff(ink.astype(np.int8), axis=axis) != 0).sum()) for axis in (1, 2))
    return max(1, round(2 * int(ink.sum()) / max(outline, 1)))
