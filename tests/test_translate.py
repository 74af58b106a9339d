"""Images and folders of any size through a generator and back."""

import errno
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gancompress.data.images import read_image, save_image, to_tensor
from gancompress.errors import ConfigError, DataError
from gancompress.inference import TranslateOptions, translate_images, translate_path

# height, width
SIZES = [
    *((1, 1), (1, 2), (2, 1), (2, 2), (3, 3), (4, 4), (5, 8), (8, 5), (7, 7), (9, 1)),
    *((1, 9), (11, 13), (15, 16), (16, 15), (16, 16), (17, 17), (18, 31), (31, 18), (1, 257)),
    *((257, 1), (20, 20), (21, 40), (40, 21), (33, 33), (32, 64), (63, 64), (64, 63), (64, 64)),
    *((65, 65), (66, 130), (100, 130), (130, 100), (127, 3), (3, 127), (128, 128), (129, 5)),
    *((47, 48), (49, 50), (51, 4), (6, 99)),
]


class Small(nn.Module):
    """Down-samples by `2 ** steps` with the reflection pads of a ResNet generator."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        down = [nn.Conv2d(4, 4, 3, stride=2, padding=1) for _ in range(steps)]
        up = [
            nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1) for _ in range(steps)
        ]
        self.stem = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(3, 4, 7))
        self.down, self.up = nn.Sequential(*down), nn.Sequential(*up)
        self.head = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(4, 3, 7), nn.Tanh())
        self.stride = 2**steps

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[2] % self.stride == x.shape[3] % self.stride == 0
        assert x.dtype == torch.float32
        assert -1 <= x.min() <= x.max() <= 1
        stem = self.stem(x)
        out: Tensor = self.head(stem + self.up(self.down(stem)))
        return out


class Resnet(Small):
    """With a trunk that pads by reflection and normalises, which fails on a single point."""

    def __init__(self) -> None:
        super().__init__(2)
        self.down.append(
            nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(4, 4, 3), nn.InstanceNorm2d(4))
        )


def small(kind: str) -> Small:
    torch.manual_seed(3)
    return (Resnet() if kind == "resnet" else Small(6)).eval()


def identity(x: Tensor) -> Tensor:
    return x


def negative(x: Tensor) -> Tensor:
    return -x


def noise(*sizes: tuple[int, int]) -> list[Tensor]:
    random = torch.Generator().manual_seed(5)
    return [
        torch.randint(0, 256, (3, *size), generator=random, dtype=torch.uint8) for size in sizes
    ]


def pixels(path: Path) -> Tensor:
    return to_tensor(read_image(path))


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --------------------------------------------------------------------------------------- images


@pytest.mark.parametrize(("kind", "stride"), [("resnet", 4), ("deep", 64)])
def test_every_size_comes_back_with_its_size(kind: str, stride: int) -> None:
    assert len(set(SIZES)) == 40
    images = noise(*SIZES)
    results = translate_images(small(kind), images, stride, batch_size=4)
    assert [result.shape for result in results] == [image.shape for image in images]
    assert all(result.dtype == torch.uint8 for result in results)


@pytest.mark.parametrize("stride", [1, 3, 4, 64, 256])
def test_identity_gives_back_every_pixel(stride: int) -> None:
    images = noise(*SIZES)
    results = translate_images(identity, images, stride, batch_size=8)
    assert all(torch.equal(a, b) for a, b in zip(results, images, strict=True))


@pytest.mark.parametrize(("kind", "stride"), [("resnet", 4), ("deep", 64)])
def test_batch_size_does_not_change_the_output(kind: str, stride: int) -> None:
    images = noise(*SIZES, *SIZES[:20])
    one, many = (translate_images(small(kind), images, stride, size) for size in (1, 16))
    for a, b in zip(one, many, strict=True):
        assert (a.int() - b.int()).abs().max() <= 1  # rounding may fall either way


def test_images_of_equal_padded_size_share_batches() -> None:
    shapes = []

    def record(x: Tensor) -> Tensor:
        shapes.append(tuple(x.shape))
        return x

    translate_images(record, noise((30, 30), (9, 9), (31, 29), (32, 32)), 4, batch_size=2)
    assert sorted(shapes) == [(1, 3, 16, 16), (1, 3, 32, 32), (2, 3, 32, 32)]


def test_padding_mirrors_and_repeats_the_edge_where_too_small() -> None:
    seen: list[Tensor] = []

    def record(x: Tensor) -> Tensor:
        seen.append(x)
        return x

    image = noise((20, 3))[0]
    translate_images(record, [image], 16)
    shown = seen[0][0, :, :, 0].add(1).mul(127.5).round().to(torch.uint8)
    assert seen[0].shape == (1, 3, 32, 16)
    assert torch.equal(shown[:, 20:], image[:, 7:19, 0].flip(1))
    assert (seen[0][..., 3:] == seen[0][..., 2:3]).all()


@pytest.mark.parametrize("channels", [[0], [0, 1, 2, 0], [2, 1, 0, 2, 1, 0]], ids=len)
def test_output_keeps_its_channels(channels: list[int]) -> None:
    image = noise((10, 12))[0]
    (result,) = translate_images(lambda x: x[:, channels], [image], 4)
    assert torch.equal(result, image[channels])


def test_half_precision_outputs_are_taken() -> None:
    (result,) = translate_images(lambda x: x.half(), noise((8, 8)), 4)
    assert (result.int() - noise((8, 8))[0].int()).abs().max() <= 1


def test_gradients_are_not_recorded() -> None:
    modes = []

    def record(x: Tensor) -> Tensor:
        modes.append(torch.is_inference_mode_enabled())
        return x

    translate_images(record, noise((8, 8)), 4)
    assert modes == [True]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_output_that_is_not_finite_is_an_error(value: float) -> None:
    def spoil(x: Tensor) -> Tensor:
        out = x.clone()
        out[-1, 0, 2, 3] = value
        return out

    with pytest.raises(DataError, match=r"image 1: .*not finite"):
        translate_images(spoil, noise((8, 8), (8, 8)), 4, batch_size=2)


@pytest.mark.parametrize(
    "generator",
    [lambda x: x[..., :-1], lambda x: x[0]],
    ids=["smaller", "no batch"],
)
def test_generator_of_another_shape_is_an_error(generator: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(ConfigError, match=r"\(1, 3, 16, 16\) into .* needs images of the size"):
        translate_images(generator, noise((8, 8)), 4)


def test_no_images_give_no_results() -> None:
    assert translate_images(identity, [], 4) == []


@pytest.mark.parametrize(
    "values", [{"batch_size": 0}, {"stride": 0}, {"size": 0}, {"suffix": "png"}, {"suffix": ".gif"}]
)
def test_impossible_options_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"at least 1, not 0|Choose from .*\.png"):
        TranslateOptions(**values)


# -------------------------------------------------------------------------------- image to file


def test_image_to_file_takes_its_format_from_the_suffix(tmp_path: Path) -> None:
    (image,) = noise((10, 14))
    save_image(image, tmp_path / "in.png")
    result = translate_path(negative, tmp_path / "in.png", tmp_path / "out.bmp", TranslateOptions())
    assert (result.num_images, result.num_frames) == (1, 0)
    assert result.seconds > 0
    assert torch.equal(pixels(tmp_path / "out.bmp"), 255 - image)


@pytest.mark.parametrize("target", ["made", "there", "there.v2", "made/below"])
def test_image_to_folder_keeps_its_name(tmp_path: Path, target: str) -> None:
    save_image(noise((10, 14))[0], tmp_path / "in.bmp")
    for name in ("there", "there.v2"):
        (tmp_path / name).mkdir()
    translate_path(identity, tmp_path / "in.bmp", tmp_path / target, TranslateOptions())
    assert torch.equal(pixels(tmp_path / target / "in.png"), noise((10, 14))[0])


def test_existing_output_is_replaced(tmp_path: Path) -> None:
    save_image(noise((10, 14))[0], tmp_path / "in.png")
    (tmp_path / "out.png").write_bytes(b"old")
    translate_path(identity, tmp_path / "in.png", tmp_path / "out.png", TranslateOptions())
    assert torch.equal(pixels(tmp_path / "out.png"), noise((10, 14))[0])


def test_size_is_the_shorter_side_of_input_and_output(tmp_path: Path) -> None:
    save_image(torch.full((3, 30, 60), 90, dtype=torch.uint8), tmp_path / "in.png")
    options = TranslateOptions(size=16)
    translate_path(negative, tmp_path / "in.png", tmp_path / "out.png", options)
    result = pixels(tmp_path / "out.png")
    assert result.shape == (3, 16, 32)
    assert (result == 165).all()


def test_size_that_makes_a_strip_too_large_is_refused(tmp_path: Path) -> None:
    save_image(noise((1, 5000))[0], tmp_path / "strip.png")
    with pytest.raises(DataError, match=r"strip\.png: 5000x1 .* above"):
        translate_path(
            identity, tmp_path / "strip.png", tmp_path / "out.png", TranslateOptions(size=256)
        )


@pytest.mark.parametrize("target", ["out.xyz", "out.gif", "out.mp4"])
def test_unknown_output_suffix_is_refused_before_any_work(tmp_path: Path, target: str) -> None:
    def fail(x: Tensor) -> Tensor:
        raise AssertionError("ran")

    save_image(noise((8, 8))[0], tmp_path / "in.png")
    with pytest.raises(DataError, match=r"(?s)out\..*Choose from .*\.png"):
        translate_path(fail, tmp_path / "in.png", tmp_path / target, TranslateOptions())


def test_missing_input_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file or folder .*gone"):
        translate_path(identity, tmp_path / "gone", tmp_path / "out", TranslateOptions())


def test_input_is_never_its_own_output(tmp_path: Path) -> None:
    save_image(noise((8, 8))[0], tmp_path / "in.png")
    before = (tmp_path / "in.png").read_bytes()
    for target in ("in.png", ".", "../" + tmp_path.name):
        with pytest.raises(DataError, match="is the input itself"):
            translate_path(negative, tmp_path / "in.png", tmp_path / target, TranslateOptions())
    with pytest.raises(DataError, match="is the input folder itself"):
        translate_path(negative, tmp_path, tmp_path / ".", TranslateOptions())
    assert (tmp_path / "in.png").read_bytes() == before
    assert tree(tmp_path) == ["in.png"]


def test_nan_output_names_the_image_and_writes_nothing(tmp_path: Path) -> None:
    save_image(noise((8, 8))[0], tmp_path / "in.png")
    with pytest.raises(DataError, match=r"in\.png: the output of the generator is not finite"):
        translate_path(
            lambda x: x * torch.nan, tmp_path / "in.png", tmp_path / "out.png", TranslateOptions()
        )
    assert tree(tmp_path) == ["in.png"]


def test_output_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    save_image(noise((8, 8))[0], tmp_path / "in.png")
    (tmp_path / "file").write_bytes(b"")
    target = tmp_path / "file" / "out.png"
    with pytest.raises(DataError, match=r"out\.png: cannot be written"):
        translate_path(identity, tmp_path / "in.png", target, TranslateOptions())


# -------------------------------------------------------------------------------------- folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven images of several sizes and kinds in sub-folders, and files that are no images."""
    root = tmp_path / "photos"
    names = ["a.png", "b.jpg", "c.webp", "sub/a.png", "sub/deep/d.bmp", "sub/x.tar.png", "e.PNG"]
    sizes = itertools.cycle([(16, 20), (16, 20), (9, 31)])
    for name, image in zip(names, noise(*itertools.islice(sizes, len(names))), strict=True):
        save_image(image, root / name)
    (root / "notes.txt").write_text("no image")
    (root / ".hidden.png").write_bytes(b"no image")
    (root / ".cache").mkdir()
    (root / ".cache" / "thumb.png").write_bytes(b"no image")
    return root


OUTPUTS = ["a.png", "b.png", "c.png", "e.png", "sub/a.png", "sub/deep/d.png", "sub/x.tar.png"]


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_folder_keeps_names_and_sub_folders(folder: Path, batch_size: int) -> None:
    target = folder.parent / "out"
    options = TranslateOptions(batch_size=batch_size)
    result = translate_path(negative, folder, target, options)
    assert result.num_images == 7
    assert tree(target) == OUTPUTS
    for source, name in [("a.png", "a.png"), ("c.webp", "c.png"), ("e.PNG", "e.png")]:
        assert torch.equal(pixels(target / name), 255 - pixels(folder / source))
    again = translate_path(identity, folder, target, options)
    assert again.num_images == 7
    assert torch.equal(pixels(target / "a.png"), pixels(folder / "a.png"))


def test_output_folder_inside_the_input_is_not_translated_again(folder: Path) -> None:
    for _ in range(2):
        result = translate_path(identity, folder, folder / "out", TranslateOptions())
        assert result.num_images == 7
    assert tree(folder / "out") == OUTPUTS


def test_format_of_a_folder_is_the_suffix_of_the_options(folder: Path) -> None:
    translate_path(identity, folder, folder.parent / "out", TranslateOptions(suffix=".jpg"))
    assert tree(folder.parent / "out") == [name.replace(".png", ".jpg") for name in OUTPUTS]


def test_names_that_would_collide_keep_their_suffix(tmp_path: Path) -> None:
    names = ["a.png", "a.bmp", "a.bmp.ppm", "sub/a.png", "b.tif", "B.bmp"]
    images = noise(*[(8, 8 + index) for index in range(len(names))])
    for name, image in zip(names, images, strict=True):
        save_image(image, tmp_path / "in" / name)
    translate_path(identity, tmp_path / "in", tmp_path / "out", TranslateOptions())
    expected = {
        "a.png": "a.png.png",
        "a.bmp": "a.bmp.png",
        "a.bmp.ppm": "a.bmp.ppm.png",
        "sub/a.png": "sub/a.png",
        "b.tif": "b.tif.png",
        "B.bmp": "B.bmp.png",
    }
    assert tree(tmp_path / "out") == sorted(expected.values())
    for name, image in zip(names, images, strict=True):
        assert torch.equal(pixels(tmp_path / "out" / expected[name]), image)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_broken_images_are_named_and_the_others_translated(folder: Path, batch_size: int) -> None:
    whole = (folder / "a.png").read_bytes()
    (folder / "a.png").write_bytes(whole[: len(whole) // 2])
    (folder / "sub" / "page.png").write_bytes(b"<html>")
    target = folder.parent / "out"
    with pytest.raises(DataError) as error:
        translate_path(identity, folder, target, TranslateOptions(batch_size=batch_size))
    lines = str(error.value).splitlines()
    assert error.value.exit_code == 2
    assert lines[0] == "2 of 8 images could not be translated; the other 6 are written"
    assert [line.split(": ")[0].strip() for line in lines[1:]] == [
        str(folder / "a.png"),
        str(folder / "sub" / "page.png"),
    ]
    assert tree(target) == OUTPUTS[1:]


def test_error_names_five_and_counts_the_rest(tmp_path: Path) -> None:
    for index in range(8):
        path = tmp_path / "in" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    with pytest.raises(DataError) as error:
        translate_path(identity, tmp_path / "in", tmp_path / "out", TranslateOptions())
    lines = str(error.value).splitlines()
    assert lines[0] == "8 of 8 images could not be translated"
    assert len(lines) == 7
    assert lines[-1] == "  and 3 more"


def test_one_nan_image_in_a_batch_does_not_spoil_the_others(tmp_path: Path) -> None:
    images = noise((8, 8), (8, 8), (8, 8))
    images[1][:, 0, 0] = 255
    images[0][:, 0, 0] = images[2][:, 0, 0] = 0
    for index, image in enumerate(images):
        save_image(image, tmp_path / "in" / f"{index}.png")

    def spoil(x: Tensor) -> Tensor:
        return torch.where(x[:, :1, :1, :1] > 0.9, torch.nan, x)

    with pytest.raises(DataError, match=r"(?s)^1 of 3 .*1\.png: .*not finite"):
        translate_path(spoil, tmp_path / "in", tmp_path / "out", TranslateOptions(batch_size=3))
    assert tree(tmp_path / "out") == ["0.png", "2.png"]


def test_full_device_is_an_error_with_advice(tmp_path: Path) -> None:
    def exhaust(x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("exhausted")

    save_image(noise((8, 8))[0], tmp_path / "in.png")
    with pytest.raises(DataError, match=r"in\.png: cpu ran out of memory .*lower the batch size"):
        translate_path(exhaust, tmp_path / "in.png", tmp_path / "out.png", TranslateOptions())


def test_full_disk_stops_the_folder_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(30):
        save_image(noise((8, 8))[0], tmp_path / "in" / f"{index:02}.png")
    calls = itertools.count()

    def record(x: Tensor) -> Tensor:
        next(calls)
        return x

    def refuse(pixels: Tensor, path: Path, *more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gancompress.data.image_kinds.save_image", refuse)
    with pytest.raises(DataError, match=r"00\.png: cannot be written: No space left on device"):
        translate_path(record, tmp_path / "in", tmp_path / "out", TranslateOptions())
    assert next(calls) < 10


def test_images_of_another_kind_than_the_generator_makes_are_an_error(tmp_path: Path) -> None:
    save_image(noise((8, 8))[0], tmp_path / "in.png")
    with pytest.raises(DataError, match=r"out\.png: 1 channels do not make a rgb image"):
        translate_path(
            lambda x: x[:, :1], tmp_path / "in.png", tmp_path / "out.png", TranslateOptions()
        )


def test_folder_without_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        translate_path(identity, tmp_path / "in", tmp_path / "out", TranslateOptions())


@pytest.mark.parametrize("target", ["out.png", "file"])
def test_folder_into_a_file_is_an_error(folder: Path, target: str) -> None:
    (folder.parent / "file").write_bytes(b"")
    with pytest.raises(DataError, match="is a folder, so the output is one too"):
        translate_path(identity, folder, folder.parent / target, TranslateOptions())


def test_few_images_are_held_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(40):
        save_image(noise((8, 8))[0], tmp_path / "in" / f"{index:02}.png")
    read = 0
    ahead = []

    def counting(path: Path, *more: Any) -> object:
        nonlocal read
        read += 1
        return read_image(path, *more)

    def record(x: Tensor) -> Tensor:
        ahead.append(read - len(ahead))
        return x

    monkeypatch.setattr("gancompress.data.image_kinds.read_image", counting)
    translate_path(record, tmp_path / "in", tmp_path / "out", TranslateOptions())
    assert len(ahead) == 40
    assert max(ahead) <= 4
