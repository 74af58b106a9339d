"""Files of others that are small on the disk and were made to be huge in memory (fault 3)."""

from __future__ import annotations

import json
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from gancompress.checkpoint import files
from gancompress.checkpoint.foreign import load_foreign
from gancompress.cli.main import main
from gancompress.config import GeneratorOptions
from gancompress.data import read_image
from gancompress.data.images import to_rgb
from gancompress.errors import DataError
from gancompress.models import build_generator

MAX_MEGABYTES = 300  # above what the process had

Tensors = dict[str, Tensor]


def weights() -> Tensors:
    """Of a small generator that is recognised."""
    torch.manual_seed(0)
    return build_generator(
        GeneratorOptions(input_nc=3, output_nc=3, name="resnet_6blocks", ngf=8)
    ).state_dict()


def status(key: str) -> int:
    """A line of the process's status, in MB."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"{key}:\s+(\d+) kB", text)
    assert found
    return int(found[1]) // 1024


class Watch:
    """How many MB the process held at most, above what it had before."""

    def __enter__(self) -> Watch:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self.before = status("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        self.megabytes = status("VmHWM") - self.before


# -- weights ------------------------------------------------------------------------------------


def rewritten(path: Path, **options: int) -> Path:
    """The same archive, with its parts compressed or its pickle replaced."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", **options) as archive:  # type: ignore[call-overload]
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def with_pickle(path: Path, pickle: bytes) -> None:
    """An archive of PyTorch's whose content is this pickle."""
    torch.save(weights(), path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, pickle if name.endswith("data.pkl") else content)


def deflated(path: Path) -> None:
    torch.save({**weights(), "model.1.weight": torch.zeros(400 << 20, dtype=torch.uint8)}, path)
    rewritten(path, compression=zipfile.ZIP_DEFLATED)


def expanded(path: Path) -> None:
    huge = torch.zeros(1).expand(1 << 14, 1 << 14, 3)
    torch.save({name: huge if t.ndim == 4 else t for name, t in weights().items()}, path)


def shared(path: Path) -> None:
    once = torch.zeros(1_000_000)
    torch.save({f"t{index}": once for index in range(10_000)}, path)


def sparse(path: Path) -> None:
    one = torch.sparse_coo_tensor(
        torch.tensor([[0]]), torch.ones(1), (1 << 40,), check_invariants=False
    )
    torch.save({**weights(), "model.1.weight": one}, path)


def of_no_device(path: Path) -> None:
    torch.save({**weights(), "model.1.weight": torch.empty(1 << 40, device="meta")}, path)


def many(path: Path) -> None:
    torch.save({f"t{index}": torch.zeros(1) for index in range(files.MAX_TENSORS + 1)}, path)


def many_of_old(path: Path) -> None:
    content = {f"t{index}": torch.zeros(1) for index in range(50_000)}
    torch.save(content, path, _use_new_zipfile_serialization=False)


def nested(path: Path) -> None:
    with_pickle(path, b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".")


def doubled(path: Path) -> None:
    """A list of two lists of two lists ..., each the same object."""
    steps = (b"]q" + bytes([i + 1]) + 2 * (b"h" + bytes([i])) for i in range(60))
    lists = b"".join(s[:3] + b"(" + s[3:] + b"e" for s in steps)
    with_pickle(path, b"\x80\x02]q\x00" + lists + b".")


def long_text(path: Path) -> None:
    with_pickle(path, b"\x80\x02X" + struct.pack("<I", 9 << 20) + bytes(9 << 20) + b".")


def safetensors_of(path: Path, header: dict[str, object], size: int) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))


def many_safetensors(path: Path, count: int = files.MAX_TENSORS + 1) -> None:
    header = {
        f"t{i}": {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]} for i in range(count)
    }
    safetensors_of(path, dict(header), count)


def long_safetensors(path: Path) -> None:
    many_safetensors(path, 200_000)


def described(path: Path, **network: object) -> None:
    """196 bytes that describe a network of 11 billion parameters."""
    text = json.dumps({"format": 1, "network": network})
    tensor = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    safetensors_of(path, {"__metadata__": {"gancompress": text}, "a": tensor}, 4)


def wide(path: Path) -> None:
    described(
        path, generator={"name": "resnet_9blocks", "input_nc": 3, "output_nc": 3, "ngf": 2_000}
    )


def wider(path: Path) -> None:
    described(path, generator={"name": "unet_256", "input_nc": 3, "output_nc": 3, "ngf": 10**12})


BOMBS: list[tuple[Callable[[Path], None], str, str]] = [
    (deflated, "pth", "compressed"),
    (expanded, "pth", "repeats itself"),
    (shared, "pth", "far larger than the file"),
    (sparse, "pth", "sparse"),
    (of_no_device, "pth", "sparse, quantised or empty"),
    (many, "pth", "20001 tensors"),
    (many_of_old, "pth", "steps"),
    (nested, "pth", "no state dict"),
    (doubled, "pth", "no state dict"),
    (long_text, "pth", "data.pkl"),
    (many_safetensors, "safetensors", "20001 tensors"),
    (long_safetensors, "safetensors", "a header of"),
    (wide, "safetensors", "11,088,752,003 parameters"),
    (wider, "safetensors", "ngf"),
]


@pytest.mark.parametrize(
    ("make", "suffix", "message"), BOMBS, ids=lambda v: getattr(v, "__name__", "")
)
def test_fault_3_weights_that_outgrow_their_file_are_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], None],
    suffix: str,
    message: str,
) -> None:
    path = tmp_path / f"bomb.{suffix}"
    make(path)
    with Watch() as watch:
        assert main(["profile", str(path)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert watch.megabytes < MAX_MEGABYTES


@pytest.mark.parametrize("zipped", [True, False])
def test_weights_that_share_memory_are_read_from_both_formats(tmp_path: Path, zipped: bool) -> None:
    tensors = weights()
    tensors["tied"] = tensors["model.1.weight"]
    tensors["transposed"] = tensors["model.4.weight"].permute(1, 0, 2, 3)
    tensors["part"] = tensors["model.7.weight"][1:3]
    tensors["no elements"] = torch.empty(0, 5)
    torch.save(tensors, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    read = load_foreign(tmp_path / "a.pth")
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)


# -- images -------------------------------------------------------------------------------------


def one_bit(path: Path) -> None:
    Image.new("1", (10_000, 6_000)).save(path)


def deep(path: Path) -> None:
    Image.fromarray(np.full((5_000, 5_000), 65_535, np.uint16)).save(path)


def flat(path: Path) -> None:
    Image.new("RGB", (5_000, 5_000)).save(path)


def profile(path: Path) -> None:
    Image.new("RGB", (64, 64)).save(path, icc_profile=bytes(100_000_000))


def text(path: Path) -> None:
    info = PngInfo()
    info.add_text("a", "x" * 100_000_000, zip=True)
    Image.new("RGB", (64, 64)).save(path, pnginfo=info)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (one_bit, "10000x6000 pixels in a file of"),
        (deep, "5000x5000 pixels in a file of"),
        (flat, "5000x5000 pixels in a file of"),
        (profile, "too large"),
        (text, "too large"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_fault_3_images_that_outgrow_their_file_are_refused(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "bomb.png"
    make(path)
    for source in (path, path.read_bytes()):
        with Watch() as watch, pytest.raises(DataError, match=message):
            read_image(source)
        assert watch.megabytes < MAX_MEGABYTES


def test_largest_image_of_one_colour_is_read_within_bounds(tmp_path: Path) -> None:
    Image.fromarray(np.full((4_000, 4_000), 65_535, np.uint16)).save(tmp_path / "a.png")
    with Watch() as watch:
        image = read_image(tmp_path / "a.png")
    assert image.size == (4_000, 4_000)
    assert image.getpixel((3, 3)) == (255, 255, 255)
    assert watch.megabytes < MAX_MEGABYTES


def test_sixteen_bits_become_eight_by_their_nearest_level() -> None:
    values = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    levels = np.asarray(to_rgb(Image.fromarray(values)))[..., 0]
    assert np.array_equal(levels, np.rint(values / 257).astype(np.uint8))
