"""Embedded images: how large they are shown, and the grid of what was made of each input."""

from __future__ import annotations

import base64
import hashlib
import io
import math
from collections.abc import Callable

from torch import Tensor

from gancompress.data.images import to_image
from gancompress.report.content import ImageRow, Report
from gancompress.report.table import html_table
from gancompress.report.text import escaped, format_units

SMALL, LARGE = 128, 256  # images are shown between these sides, in CSS pixels
WEBP_LIMIT = 16383  # the format's longest side


def image_tag(pixels: Tensor, about: str, quality: int | None = None) -> str:
    """An image that is embedded in the page.

    Args:
        pixels: (3, H, W) uint8.
        about: What it shows, in words.
        quality: Of a lossy image, 0 to 100; without it the pixels are exact.
    """
    source = f'src="{_data_url(pixels, quality)}" alt="{escaped(about)}"'
    return f"<img {_frame(pixels)} {source}>"


def shared_images(images: dict[str, Tensor], quality: Callable[[Tensor], int | None]) -> str:
    """Images by id that are embedded here, unseen, for `shared_tag` to show in many places."""
    tags = [
        f'<image id="{name}" width="{pixels.shape[-1]}" height="{pixels.shape[-2]}" '
        f'href="{_data_url(pixels, quality(pixels))}" />\n'
        for name, pixels in images.items()
    ]
    hidden = '<svg width="0" height="0" class="shared" aria-hidden="true"><defs>'
    return f"{hidden}\n{''.join(tags)}</defs></svg>\n" if tags else ""


def shared_tag(pixels: Tensor, about: str, name: str) -> str:
    """One of the `shared_images`, shown as `image_tag` shows it."""
    height, width = pixels.shape[-2:]
    return (
        f'<svg {_frame(pixels)} viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escaped(about)}"><use href="#{name}" /></svg>'
    )


def image_id(pixels: Tensor) -> str:
    """The same for the same pixels, different for others."""
    content = str(tuple(pixels.shape)).encode() + pixels.contiguous().numpy().tobytes()
    return f"image-{hashlib.sha256(content).hexdigest()[:16]}"


def _frame(pixels: Tensor) -> str:
    """Attributes for the size in which an image is shown."""
    wide, high = shown_size(pixels)
    style = f'style="max-width: {wide}px"'
    if max(pixels.shape[-2:]) < SMALL:
        style = f'class="small" style="width: {wide}px"'
    return f'{style} width="{wide}" height="{high}"'


def shown_size(pixels: Tensor) -> tuple[int, int]:
    """Width and height in CSS pixels."""
    height, width = pixels.shape[-2:]
    side = max(height, width)
    # Whole multiples keep every pixel of a small image the same size; a large one shrinks to fit.
    scale = math.ceil(SMALL / side) if side < SMALL else min(1.0, LARGE / side)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _data_url(pixels: Tensor, quality: int | None) -> str:
    """An image as a URL that holds it."""
    buffer = io.BytesIO()
    kind = "webp"
    if max(pixels.shape) > WEBP_LIMIT:
        kind = "png"
        to_image(pixels).save(buffer, "PNG")
    elif quality is None:
        to_image(pixels).save(buffer, "WEBP", lossless=True)
    else:
        to_image(pixels).save(buffer, "WEBP", quality=quality)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def image_grid(report: Report) -> str:
    """A row for each input, a column for each model; nothing where there are no images."""
    labels = list(dict.fromkeys(label for row in report.images for label in row.images))
    if not labels:
        return ""
    macs = {row.label: row.macs for row in report.rows}
    heads = []
    for label in labels:
        note = f"<small>{format_units(macs[label])} MACs</small>" if label in macs else ""
        heads.append(f'<th scope="col">{escaped(label)}{note}</th>')
    bodies = []
    for row in report.images:
        cells = "".join(_image_cell(row, label) for label in labels)
        # The name gets a line of its own: beside the images it would take a phone's width.
        name = f'<th scope="rowgroup" colspan="{len(labels)}"><span>{escaped(row.name)}</span></th>'
        bodies.append(f"<tbody>\n<tr>{name}</tr>\n<tr>{cells}</tr>\n</tbody>\n")
    table = html_table("pictures", heads, "".join(bodies), "Images")
    caption = "<figcaption>The pixels are embedded without loss.</figcaption>\n"
    return f"<figure>\n{table}{caption}</figure>\n"


def _image_cell(row: ImageRow, label: str) -> str:
    if label not in row.images:
        return "<td>&ndash;</td>"
    return f"<td>{image_tag(row.images[label], f'{row.name}: {label}')}</td>"
