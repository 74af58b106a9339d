"""What a file becomes, for every mode that images come in; expected values are numpy's."""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageFile

from gancompress.data import images
from gancompress.data.images import (
    list_images,
    read_image,
    save_image,
    to_float,
    to_image,
    to_tensor,
    to_uint8,
)
from gancompress.errors import DataError

RNG = np.random.default_rng(7)
RGB = RNG.integers(0, 256, (12, 20, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (12, 20), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (12, 20), dtype=np.uint8)
RAMP16 = np.arange(65536, dtype=np.uint16).reshape(256, 256)


def pixels(path: Path) -> np.ndarray:
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def stored_mode(path: Path) -> str:
    with Image.open(path) as image:
        return image.mode


def assert_near(actual: np.ndarray, expected: np.ndarray, levels: float = 0) -> None:
    assert actual.shape == expected.shape
    assert np.abs(actual.astype(float) - expected.astype(float)).max() <= levels


def grey_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return rgb * share + 255 * (1 - share)


def png(header: tuple[int, int, int, int], rows: list[bytes], extra: bytes = b"") -> bytes:
    """A PNG that Pillow cannot write; `header` is width, height, bit depth, colour type."""
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", *header, 0, 0, 0)),
            extra,
            chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows), 9)),
            chunk(b"IEND", b""),
        ]
    )


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# ---------------------------------------------------------------------------------------- modes


def test_grey_and_bilevel_become_equal_channels(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    assert_near(pixels(tmp_path / "grey.png"), grey_rgb(GREY))
    bits = GREY > 127
    Image.fromarray(bits).save(tmp_path / "bits.png")
    assert stored_mode(tmp_path / "bits.png") == "1"
    assert_near(pixels(tmp_path / "bits.png"), grey_rgb(bits * 255))


def test_grey_with_alpha_is_composited_on_white(tmp_path: Path) -> None:
    Image.fromarray(np.stack([GREY, ALPHA], -1)).save(tmp_path / "la.png")
    assert stored_mode(tmp_path / "la.png") == "LA"
    assert_near(pixels(tmp_path / "la.png"), on_white(grey_rgb(GREY), ALPHA), 1)


def test_palette_is_looked_up(tmp_path: Path) -> None:
    palette = RNG.integers(0, 256, (256, 3), dtype=np.uint8)
    image = Image.fromarray(GREY).convert("P")
    image.putdata(GREY.ravel().tolist())
    image.putpalette(palette.tobytes())
    image.save(tmp_path / "p.png")
    assert stored_mode(tmp_path / "p.png") == "P"
    assert_near(pixels(tmp_path / "p.png"), palette[GREY])


@pytest.mark.parametrize("as_bytes", [False, True])
def test_palette_transparency_becomes_white(tmp_path: Path, as_bytes: bool) -> None:
    palette = RNG.integers(0, 256, (256, 3), dtype=np.uint8)
    image = Image.new("P", (20, 12))
    image.putdata(GREY.ravel().tolist())
    image.putpalette(palette.tobytes())
    hidden = int(GREY[3, 4])
    alphas = np.where(np.arange(256) == hidden, 0, 255)
    if as_bytes:
        alphas = RNG.integers(0, 256, 256)
        image.save(tmp_path / "p.png", transparency=bytes(alphas.astype(np.uint8)))
    else:
        image.save(tmp_path / "p.png", transparency=hidden)
    assert_near(pixels(tmp_path / "p.png"), on_white(palette[GREY], alphas[GREY]), 1)


def test_sixteen_bit_grey_is_scaled_not_saturated(tmp_path: Path) -> None:
    Image.fromarray(RAMP16).save(tmp_path / "ramp.png")
    Image.fromarray(RAMP16).save(tmp_path / "ramp.tif")
    (tmp_path / "ramp.pgm").write_bytes(b"P5 256 256 65535\n" + RAMP16.astype(">u2").tobytes())
    expected = grey_rgb(np.rint(RAMP16 / 257))
    assert len(np.unique(expected)) == 256
    for name in ("ramp.png", "ramp.tif", "ramp.pgm"):
        assert_near(pixels(tmp_path / name), expected)


def test_dark_sixteen_bit_grey_stays_dark(tmp_path: Path) -> None:
    values = np.full((4, 4), 200, np.uint16)
    (tmp_path / "dark.pgm").write_bytes(b"P5 4 4 65535\n" + values.astype(">u2").tobytes())
    Image.fromarray(values.astype(np.int32)).save(tmp_path / "dark.tif")
    for name in ("dark.pgm", "dark.tif"):
        assert_near(pixels(tmp_path / name), np.full((4, 4, 3), 1))


def test_sixteen_bit_grey_honours_its_transparent_value(tmp_path: Path) -> None:
    values = np.array([[0, 300, 301, 65535]], np.uint16)
    hidden = chunk(b"tRNS", struct.pack(">H", 300))
    rows = [values.astype(">u2").tobytes()]
    (tmp_path / "t.png").write_bytes(png((4, 1, 16, 0), rows, hidden))
    assert pixels(tmp_path / "t.png")[0, :, 0].tolist() == [0, 255, 1, 255]


def test_sixteen_bit_colour_is_within_one_level(tmp_path: Path) -> None:
    values = RNG.integers(0, 65536, (8, 8, 3)).astype(np.uint16)
    rows = [row.astype(">u2").tobytes() for row in values]
    (tmp_path / "deep.png").write_bytes(png((8, 8, 16, 2), rows))
    assert_near(pixels(tmp_path / "deep.png"), np.rint(values / 257), 1)


def test_float_samples_are_zero_to_one_and_nothing_else(tmp_path: Path) -> None:
    values = RNG.random((6, 5)).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "fine.tif")
    assert_near(pixels(tmp_path / "fine.tif"), grey_rgb(np.rint(values * 255.0)))
    for name, bad in (("large", 200.0), ("negative", -0.1), ("nan", np.nan)):
        values[2, 3] = bad
        Image.fromarray(values).save(tmp_path / f"{name}.tif")
        with pytest.raises(DataError, match=rf"{name}\.tif.*leave \[0, 1\]"):
            read_image(tmp_path / f"{name}.tif")


def test_alpha_is_composited_on_white(tmp_path: Path) -> None:
    for name, alpha in (
        ("opaque", np.full_like(ALPHA, 255)),
        ("clear", np.zeros_like(ALPHA)),
        ("mixed", ALPHA),
    ):
        Image.fromarray(np.dstack([RGB, alpha])).save(tmp_path / f"{name}.png")
        levels = 1 if name == "mixed" else 0
        assert_near(pixels(tmp_path / f"{name}.png"), on_white(RGB, alpha), levels)


def test_transparent_colour_of_an_rgb_image_becomes_white(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "t.png", transparency=tuple(RGB[2, 3].tolist()))
    expected = RGB.copy()
    expected[np.all(expected == RGB[2, 3], axis=-1)] = 255
    assert_near(pixels(tmp_path / "t.png"), expected)


def test_cmyk_jpeg_is_converted(tmp_path: Path) -> None:
    ink = np.array([10, 60, 200, 30])
    Image.new("CMYK", (16, 16), tuple(ink.tolist())).save(tmp_path / "ink.jpg", quality=100)
    assert stored_mode(tmp_path / "ink.jpg") == "CMYK"
    expected = (255 - ink[:3]) * (255 - ink[3]) / 255
    assert_near(pixels(tmp_path / "ink.jpg"), np.broadcast_to(expected, (16, 16, 3)), 2)


UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_exif_orientation_is_applied_once(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(RGB).save(tmp_path / f"o.{suffix}", exif=exif, **options)
    assert_near(pixels(tmp_path / f"o.{suffix}"), UPRIGHT[orientation](RGB))


def test_orientation_is_applied_to_sixteen_bit_grey_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RAMP16[:5, :9] * 60).save(tmp_path / "o.png", exif=exif)
    expected = np.rot90(np.rint(RAMP16[:5, :9] * 60.0 / 257), -1)
    assert_near(pixels(tmp_path / "o.png")[..., 0], expected)


@pytest.mark.parametrize("value", [0, 9, 4000])
def test_impossible_orientation_is_ignored(tmp_path: Path, value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    Image.fromarray(RGB).save(tmp_path / "o.png", exif=exif)
    assert_near(pixels(tmp_path / "o.png"), RGB)


def test_damaged_exif_does_not_lose_the_image(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "o.png", exif=b"Exif\0\0nonsense and more of it")
    assert_near(pixels(tmp_path / "o.png"), RGB)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {"quality": 95, "subsampling": 0}),
        ("progressive.jpg", {"quality": 95, "subsampling": 0, "progressive": True}),
        ("lossy.webp", {"quality": 95}),
    ],
)
def test_lossy_formats_decode_near_their_source(
    tmp_path: Path, name: str, options: dict[str, int]
) -> None:
    rows, columns = np.mgrid[0:64, 0:48]
    smooth = np.stack([rows * 3, columns * 4, 255 - rows * 2], -1).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / name, **options)
    assert_near(pixels(tmp_path / name), smooth, 8)
    assert np.abs(pixels(tmp_path / name).astype(float) - smooth).mean() < 2


@pytest.mark.parametrize("name", ["a.webp", "a.bmp", "a.tif", "a.ppm", "a.png"])
def test_lossless_formats_decode_exactly(tmp_path: Path, name: str) -> None:
    options = {"lossless": True} if name.endswith("webp") else {}
    Image.fromarray(RGB).save(tmp_path / name, **options)
    assert_near(pixels(tmp_path / name), RGB)


def test_animation_is_its_first_frame(tmp_path: Path) -> None:
    colours = [(200, 10, 60), (0, 255, 0), (0, 0, 255)]
    first, *others = [Image.new("RGB", (9, 7), colour) for colour in colours]
    for suffix in ("gif", "webp", "png"):
        path = tmp_path / f"moving.{suffix}"
        options = {"lossless": True} if suffix == "webp" else {}
        first.save(path, save_all=True, append_images=others, duration=40, **options)
        assert_near(pixels(path), np.broadcast_to(colours[0], (7, 9, 3)))


def test_transparent_gif_is_composited_on_white(tmp_path: Path) -> None:
    clear = np.zeros((6, 6, 4), np.uint8)
    clear[:3] = (10, 200, 90, 255)
    Image.fromarray(clear).save(tmp_path / "clear.gif")
    expected = np.full((6, 6, 3), 255)
    expected[:3] = (10, 200, 90)
    assert_near(pixels(tmp_path / "clear.gif"), expected)


# ------------------------------------------------------------------------------ colour profiles

# primaries and white adapted to D50, as profiles store them (columns R, G, B)
P3_TO_XYZ = np.array(
    [[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]
)
SRGB_TO_XYZ = np.array(
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
)
GAMMA = 2.2


def profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC display profile, version 2."""
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    head = struct.pack(
        ">I4sI4s4s4s12s4s28x3i", start + len(body), b"\0" * 4, 0x02400000, b"mntr", space, b"XYZ ",
        struct.pack(">6H", 2020, 1, 1, 0, 0, 0), b"acsp", 63190, 65536, 54061,
    )  # fmt: skip
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def xyz(values: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def words(text: bytes) -> bytes:
    return b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + b"\0" * 80


def wide_profile() -> bytes:
    """Primaries of Display P3 with a plain power curve."""
    tags = {b"desc": words(b"wide"), b"cprt": b"text\0\0\0\0none\0"}
    tags |= {b"wtpt": xyz(np.array([0.9642, 1, 0.8249]))}
    for name, column in zip((b"r", b"g", b"b"), P3_TO_XYZ.T, strict=True):
        tags |= {name + b"XYZ": xyz(column), name + b"TRC": curve(GAMMA)}
    return profile(b"RGB ", tags)


def grey_profile(gamma: float) -> bytes:
    return profile(
        b"GRAY",
        {
            b"desc": words(b"grey"),
            b"cprt": b"text\0\0\0\0none\0",
            b"wtpt": xyz(np.array([0.9642, 1, 0.8249])),
            b"kTRC": curve(gamma),
        },
    )


def srgb_encode(linear: np.ndarray) -> np.ndarray:
    linear = linear.clip(0, 1)
    curved = 1.055 * linear ** (1 / 2.4) - 0.055
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, curved)


def wide_to_srgb(wide: np.ndarray) -> np.ndarray:
    matrix = np.linalg.inv(SRGB_TO_XYZ) @ P3_TO_XYZ
    return srgb_encode(((wide / 255.0) ** GAMMA) @ matrix.T)


# inside the sRGB gamut, so that no clipping rule matters
MUTED = RNG.integers(90, 170, (12, 20, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_wide_gamut_profile_is_converted(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    path = tmp_path / f"wide.{suffix}"
    Image.fromarray(MUTED).save(path, icc_profile=wide_profile(), **options)
    assert np.abs(wide_to_srgb(MUTED) - MUTED).max() > 5
    assert_near(pixels(path), wide_to_srgb(MUTED), 1.5)


def test_profile_is_applied_before_alpha(tmp_path: Path) -> None:
    image = Image.fromarray(np.dstack([MUTED, ALPHA]))
    image.save(tmp_path / "wide.png", icc_profile=wide_profile())
    assert_near(pixels(tmp_path / "wide.png"), on_white(wide_to_srgb(MUTED), ALPHA), 2)


def test_profile_of_a_palette_image_is_converted(tmp_path: Path) -> None:
    image = Image.new("P", (20, 12))
    image.putdata(list(range(240)))
    palette = RNG.integers(90, 170, (256, 3), dtype=np.uint8)
    image.putpalette(palette.tobytes())
    image.save(tmp_path / "p.png", icc_profile=wide_profile())
    expected = wide_to_srgb(palette[np.arange(240).reshape(12, 20)])
    assert_near(pixels(tmp_path / "p.png"), expected, 1.5)


@pytest.mark.parametrize("kind", ["L", "LA", "I;16"])
def test_grey_profile_is_converted_at_every_depth(tmp_path: Path, kind: str) -> None:
    arrays = {"L": GREY, "LA": np.dstack([GREY, ALPHA]), "I;16": GREY.astype(np.uint16) * 257}
    Image.fromarray(arrays[kind]).save(tmp_path / "g.png", icc_profile=grey_profile(1.8))
    assert stored_mode(tmp_path / "g.png") == kind
    expected = grey_rgb(srgb_encode((GREY / 255.0) ** 1.8))
    if kind == "LA":
        expected = on_white(expected, ALPHA)
    assert_near(pixels(tmp_path / "g.png"), expected, 2)


def test_srgb_profile_changes_nothing(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(RGB).save(tmp_path / "srgb.png", icc_profile=srgb)
    assert_near(pixels(tmp_path / "srgb.png"), RGB, 1)


@pytest.mark.parametrize("broken", [b"garbage", wide_profile()[:200], grey_profile(1.8)])
def test_broken_or_unfitting_profile_is_ignored(tmp_path: Path, broken: bytes) -> None:
    Image.fromarray(RGB).save(tmp_path / "odd.png", icc_profile=broken)
    assert_near(pixels(tmp_path / "odd.png"), RGB)


# ------------------------------------------------------------------------------- damaged inputs


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "gif", "tif"])
@pytest.mark.parametrize("progressive", [False, True])
def test_truncated_files_are_rejected_by_name(
    tmp_path: Path, suffix: str, progressive: bool
) -> None:
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    stream = io.BytesIO()
    noise = RNG.integers(0, 256, (48, 48, 3), dtype=np.uint8)
    kind = {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix)
    Image.fromarray(noise).save(stream, kind, progressive=progressive)
    content = stream.getvalue()
    path = tmp_path / f"cut.{suffix}"
    for share in np.linspace(0.01, 0.97, 12):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(DataError, match=f"cut.{suffix}"):
            read_image(path)
    assert before is ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize(
    "content",
    [b"", b"<!DOCTYPE html><title>404</title>", b"%PDF-1.7\n", b"%!PS-Adobe-3.0 EPSF-3.0\n"],
    ids=["empty", "html", "pdf", "eps"],
)
def test_other_files_named_png_are_rejected_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "page.png").write_bytes(content)
    with pytest.raises(DataError, match=r"page\.png: not an image"):
        read_image(tmp_path / "page.png")


def test_bytes_are_called_what_the_caller_says() -> None:
    with pytest.raises(DataError, match="the upload: not an image") as error:
        read_image(b"no image", "the upload")
    assert "BytesIO" not in str(error.value)


def test_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no image .*gone\.png"):
        read_image(tmp_path / "gone.png")


@pytest.mark.parametrize("side", [10_000, 13_000, 20_000])
def test_image_bombs_are_refused_from_the_header(
    tmp_path: Path, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: ImageFile.ImageFile) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    data = zlib.compress(bytes((side // 8 + 1) * side), 9) if side == 10_000 else b""
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )
    assert path.stat().st_size < 13_000
    with pytest.raises(DataError, match=rf"bomb\.png.*above {images.MAX_PIXELS} pixels"):
        read_image(path)


def test_reading_in_threads_leaves_warning_filters_alone(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(pixels, [tmp_path / "a.png"] * 40))
    assert warnings.filters == before
    assert all((result == RGB).all() for result in results)


# ------------------------------------------------------------------------------ tensors, writing


def test_every_level_survives_the_round_trip() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    values = to_float(levels)
    assert values.dtype == torch.float32
    assert values.min() == -1
    assert values.max() == pytest.approx(1, abs=1e-6)
    assert torch.equal(to_uint8(values), levels)


def test_levels_are_rounded_and_clamped() -> None:
    values = torch.tensor([-5.0, -1.0, -0.0001, 0.9999, 1.0, 5.0])
    assert to_uint8(values).tolist() == [0, 0, 127, 255, 255, 255]


def test_tensor_and_image_are_inverse() -> None:
    assert_near(np.asarray(to_image(to_tensor(Image.fromarray(RGB)))), RGB)
    one = to_image(torch.from_numpy(GREY)[None])
    assert_near(np.asarray(one), grey_rgb(GREY))


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tiff", "a.ppm"])
def test_saved_image_reads_back(tmp_path: Path, name: str) -> None:
    save_image(torch.from_numpy(RGB).permute(2, 0, 1), tmp_path / "new" / name)
    assert_near(pixels(tmp_path / "new" / name), RGB)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.xyz", "a", "a.gif"])
def test_unknown_output_format_lists_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"(?s)a.*Choose from .*\.png"):
        save_image(torch.zeros(3, 2, 2, dtype=torch.uint8), tmp_path / name)


def test_image_too_large_for_its_format_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "wide.webp").write_bytes(b"old")
    with pytest.raises(DataError, match=r"wide\.webp: cannot write 17000x1"):
        save_image(torch.zeros(3, 1, 17_000, dtype=torch.uint8), tmp_path / "wide.webp")
    assert (tmp_path / "wide.webp").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_listing_sorts_and_leaves_out_what_is_no_image(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.jpg", "b.PNG"]
    with pytest.raises(DataError, match="holds no images"):
        list_images(tmp_path / "folder.png")
    with pytest.raises(DataError, match="no folder"):
        list_images(tmp_path / "missing")
