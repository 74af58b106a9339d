"""Generators in somebody's program: any MODEL, any kind of picture, the same kind back."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import existing, picture, write_image
from PIL import Image
from torch import Tensor

import gancompress
from gancompress import LoadedGenerator
from gancompress.cli.main import main
from gancompress.data import list_images
from gancompress.errors import CheckpointError, ConfigError, DataError
from gancompress.export import export_network
from runs import REPOSITORY, TINY, load_generator, load_network, tiny_generator, write_tiny

CPU = torch.device("cpu")
EMOJI = REPOSITORY / "datasets" / "draw2emoji" / "testA"


def negative(x: Tensor) -> Tensor:
    return -x


def made_of(run: Callable[[Tensor], Tensor], stride: int = 4) -> LoadedGenerator:
    return LoadedGenerator(run, stride, {}, "test", CPU)


NEGATIVE = made_of(negative, 8)


def pixels(index: int = 0, height: int = 21, width: int = 34) -> np.ndarray:
    """(H, W, 3) uint8."""
    return picture(index, max(height, width))[:height, :width]


# -- kinds of pictures ------------------------------------------------------------------------


def test_pil_image_gives_an_rgb_pil_image() -> None:
    result = NEGATIVE.generate(Image.fromarray(pixels()))
    assert isinstance(result, Image.Image)
    assert result.mode == "RGB"
    assert np.array_equal(np.asarray(result), 255 - pixels())


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_every_pil_mode_becomes_rgb(mode: str) -> None:
    white = {"I;16": 65535, "I": 65535, "F": 1.0}
    if mode in white:
        image = Image.new(mode, (13, 22), white[mode])
    else:
        image = Image.new("RGB", (13, 22), "white").convert(mode)
    result = NEGATIVE.generate(image)
    assert (result.mode, result.size) == ("RGB", (13, 22))
    assert np.asarray(result).max() == 0


def test_alpha_lies_on_white() -> None:
    result = NEGATIVE.generate(Image.new("RGBA", (9, 9), (10, 20, 30, 0)))
    assert np.asarray(result).max() == 0


def test_photo_that_exif_turns_comes_back_upright() -> None:
    image = Image.fromarray(pixels())
    image.getexif()[0x0112] = 6  # a quarter turn clockwise shows it upright
    result = np.asarray(NEGATIVE.generate(image))
    assert np.array_equal(result, np.rot90(255 - pixels(), -1))


@pytest.mark.parametrize("batch", [(), (1,), (3,)])
def test_uint8_array_gives_a_uint8_array(batch: tuple[int, ...]) -> None:
    array = np.stack([pixels(i) for i in range(3)])[: batch[0]] if batch else pixels()
    before = array.copy()
    result = NEGATIVE.generate(array, batch_size=2)
    assert isinstance(result, np.ndarray)
    assert (result.dtype, result.shape) == (np.uint8, array.shape)
    assert np.array_equal(result, 255 - before)
    assert np.array_equal(array, before)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("batch", [False, True])
def test_floating_array_is_in_0_to_1(dtype: type, batch: bool) -> None:
    array = (pixels() / 255).astype(dtype)
    if batch:
        array = np.stack([array, array / 2])
    result = NEGATIVE.generate(array)
    assert (result.dtype, result.shape) == (dtype, array.shape)
    assert np.abs(result + array - 1).max() < (1e-3 if dtype == np.float16 else 1e-6)


@pytest.mark.parametrize("batch", [False, True])
def test_uint8_tensor_gives_a_uint8_tensor(batch: bool) -> None:
    tensor = torch.from_numpy(pixels()).permute(2, 0, 1)
    if batch:
        tensor = torch.stack([tensor, tensor // 2])
    result = NEGATIVE.generate(tensor)
    assert result.shape == tensor.shape
    assert torch.equal(result, 255 - tensor)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [False, True])
def test_floating_tensor_is_in_minus_1_to_1(dtype: torch.dtype, batch: bool) -> None:
    tensor = (torch.rand(2, 3, 21, 34) * 2 - 1).to(dtype)
    tensor = tensor if batch else tensor[0]
    before = tensor.clone()
    result = NEGATIVE.generate(tensor)
    assert (result.dtype, result.shape) == (dtype, tensor.shape)
    assert torch.equal(tensor, before)
    assert float((result + tensor).abs().max()) < 1e-6


def test_floats_are_not_rounded_to_levels() -> None:
    values = torch.linspace(-0.01, 0.01, 3 * 16 * 16).reshape(3, 16, 16)
    assert len(NEGATIVE.generate(values).unique()) == values.numel()


def test_list_keeps_order_kinds_and_sizes() -> None:
    images = [
        Image.fromarray(pixels(0)),
        pixels(1, 40, 16),
        torch.from_numpy(pixels(2, 5, 70)).permute(2, 0, 1),
        np.stack([pixels(3), pixels(4)]) / 255,
        Image.fromarray(pixels(5, 1, 1)),
    ]
    results: list[Any] = NEGATIVE.generate(images, batch_size=3)
    assert [type(result) for result in results] == [type(image) for image in images]
    assert np.array_equal(np.asarray(results[0]), 255 - pixels(0))
    assert np.array_equal(results[1], 255 - pixels(1, 40, 16))
    assert np.array_equal(results[2].permute(1, 2, 0), 255 - pixels(2, 5, 70))
    assert np.abs(results[3] + images[3] - 1).max() < 1e-6
    assert np.array_equal(np.asarray(results[4]), 255 - pixels(5, 1, 1))


def test_images_of_a_list_share_batches() -> None:
    shapes = []

    def record(x: Tensor) -> Tensor:
        shapes.append(tuple(x.shape))
        return x

    images = [Image.fromarray(pixels(i, height, 32)) for i, height in enumerate((32, 31, 64, 30))]
    made_of(record).generate(images, batch_size=2)
    assert sorted(shapes) == [(1, 3, 32, 32), (1, 3, 64, 32), (2, 3, 32, 32)]


def test_calling_is_generating() -> None:
    assert np.array_equal(NEGATIVE(pixels()), 255 - pixels())


def test_awkward_memory_is_taken() -> None:
    frozen = pixels().copy()
    frozen.flags.writeable = False
    assert np.array_equal(NEGATIVE.generate(frozen), 255 - pixels())
    flipped = pixels()[::-1, ::-2]
    assert np.array_equal(NEGATIVE.generate(flipped), 255 - flipped)
    swapped = (pixels() / 255).astype(">f4")
    assert np.abs(NEGATIVE.generate(swapped) + swapped - 1).max() < 1e-6


def test_result_carries_no_gradient_and_can_be_trained_on() -> None:
    given = torch.zeros(3, 16, 16, requires_grad=True)
    result = made_of(torch.nn.Conv2d(3, 3, 1)).generate(given)
    assert not result.requires_grad
    weight = torch.ones(1, requires_grad=True)
    (result * weight).sum().backward()
    assert weight.grad is not None


def test_what_leaves_the_range_is_clipped() -> None:
    loud = made_of(lambda x: 3 * x)
    assert set(np.unique(loud.generate(np.array([[[0.0, 0.5, 1.0]]] * 16)))) == {0.0, 0.5, 1.0}
    assert loud.generate(torch.full((3, 16, 16), 0.5)).eq(1).all()


def test_rounding_beyond_the_range_is_forgiven() -> None:
    assert made_of(lambda x: x).generate(torch.full((3, 4, 4), 1.0005)).eq(1).all()


# -- mistakes ---------------------------------------------------------------------------------

ZEROS = np.zeros((16, 16, 3), np.uint8)
MISTAKES: dict[str, tuple[Any, str]] = {
    "path": ("photo.jpg", "generate: str is not a picture"),
    "nothing": (None, "NoneType is not a picture"),
    "tuple": ((ZEROS, ZEROS), "tuple is not a picture"),
    "grey array": (ZEROS[..., 0], r"\(16, 16\) and dtype uint8; grey: Image\.fromarray\(array\)"),
    "grey channel": (ZEROS[..., :1], r"an array of shape \(16, 16, 1\) and dtype uint8"),
    "alpha": (np.zeros((16, 16, 4), np.uint8), r"array of shape \(16, 16, 4\)"),
    "channels first": (np.zeros((3, 16, 16), np.uint8), r"array of shape \(3, 16, 16\)"),
    "five dimensions": (ZEROS[None, None], r"array of shape \(1, 1, 16, 16, 3\)"),
    "no pixels": (ZEROS[:0], r"array of shape \(0, 16, 3\)"),
    "no images": (ZEROS[None][:0], r"array of shape \(0, 16, 16, 3\)"),
    "integers": (ZEROS.astype(np.int64), "dtype int64"),
    "booleans": (ZEROS.astype(bool), "dtype bool"),
    "objects": (ZEROS.astype(object), "dtype object"),
    "floats to 255": (ZEROS + 255.0, "dtype float64 with values from 255 to 255"),
    "negative floats": (ZEROS - 0.5, "values from -0.5 to -0.5"),
    "NaN": (ZEROS + np.nan, "values from nan to nan"),
    "one infinite": (np.where(np.arange(3) == 1, np.inf, ZEROS), "values from 0 to inf"),
    "huge": (ZEROS + 1e300, "values from inf to inf"),
    "channels last": (torch.zeros(16, 16, 3), r"a tensor of shape \(16, 16, 3\)"),
    "grey tensor": (torch.zeros(1, 16, 16), r"a tensor of shape \(1, 16, 16\)"),
    "scalar": (torch.tensor(1.0), r"a tensor of shape \(\)"),
    "empty tensor": (torch.zeros(0, 3, 16, 16), r"a tensor of shape \(0, 3, 16, 16\)"),
    "integer tensor": (torch.zeros(3, 16, 16, dtype=torch.int32), "dtype torch.int32"),
    "complex tensor": (torch.zeros(3, 16, 16, dtype=torch.complex64), "dtype torch.complex64"),
    "tensor to 255": (torch.full((3, 16, 16), 255.0), "values from 255 to 255"),
    "NaN tensor": (torch.full((3, 16, 16), torch.nan), "values from nan to nan"),
    "empty PIL image": (Image.new("RGB", (0, 7)), "mode RGB and 0x7 pixels"),
    "PIL floats": (Image.new("F", (8, 8), 200.0), r"unreadable: .*leave \[0, 1\]"),
    "in a list": ([ZEROS, ZEROS[..., 0]], r"image 1: an array of shape \(16, 16\)"),
    "list in a list": ([[ZEROS]], "image 0: list is not a picture"),
    "empty list": ([], "an empty list"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_what_is_no_picture_is_refused_with_what_is_accepted(case: str) -> None:
    given, message = MISTAKES[case]
    with pytest.raises(DataError, match=message) as caught:
        NEGATIVE.generate(given)
    accepted = str(caught.value).partition("\n")[2]
    for words in ("PIL images of any mode", "(H, W, 3)", "[0, 1]", "(3, H, W)", "[-1, 1]"):
        assert words in accepted


def test_truncated_pil_file_is_refused(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", picture(0, 64))
    path.write_bytes(path.read_bytes()[:-300])
    with (
        Image.open(path) as image,
        pytest.raises(DataError, match=r"mode RGB and 64x64 .*unreadab"),
    ):
        NEGATIVE.generate(image)


def test_output_that_is_not_finite_names_the_image() -> None:
    spoiling = made_of(lambda x: torch.where(x > 0.99, torch.nan, x))
    with pytest.raises(DataError, match="image 1: the output of the generator is not finite"):
        spoiling.generate([pixels() // 2, np.full_like(pixels(), 255)])


def test_batch_size_is_at_least_1() -> None:
    with pytest.raises(ConfigError, match="batch_size must be at least 1, not 0"):
        NEGATIVE.generate(ZEROS, batch_size=0)


# -- models -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One generator in every form: folder/, a.safetensors, a.pth, a.onnx, a.pt2, a.xml."""
    root = tmp_path_factory.mktemp("models")
    network = load_network(write_tiny(root / "a.safetensors"))
    (root / "folder").mkdir()
    write_tiny(root / "folder" / "weights.safetensors")
    images = [torch.from_numpy(picture(i, 32)).permute(2, 0, 1) for i in range(16)]
    for kind in ("pth", "onnx", "pt2"):
        export_network(network, kind, root / f"a.{kind}", images)
    if find_spec("openvino"):
        export_network(network, "openvino", root / "a.xml", images)
    return root


FORMS = ["folder", "a.safetensors", "a.pth", "a.onnx", "a.pt2", "a.xml"]


def wanted_of(image: np.ndarray) -> np.ndarray:
    """What the network makes of an image whose sides are multiples of its stride, uint8."""
    x = torch.from_numpy(image).permute(2, 0, 1)[None].double() / 127.5 - 1
    with torch.no_grad():
        y = tiny_generator().double().eval()(x)
    return np.rint((y[0].permute(1, 2, 0).numpy() + 1) * 127.5).astype(np.uint8)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_model_gives_the_image_of_its_network(models: Path, form: str) -> None:
    if form == "a.xml":
        pytest.importorskip("openvino", reason="needs the optional package openvino")
    module = TINY if form == "a.pth" else None
    generator = load_generator(str(models / form), module=module)
    assert generator.stride == 2
    assert generator.device == CPU
    assert generator.name == str(models / form)
    for side in (32, 48):
        image = picture(7, side)
        found = generator.generate(Image.fromarray(image))
        assert np.abs(np.asarray(found, int) - wanted_of(image)).max() <= 1


def test_facts_of_a_generator(models: Path) -> None:
    assert load_generator(models / "a.onnx").size == 32
    assert load_generator(models / "a.pth", module=TINY).size is None
    text = repr(load_generator(models / "a.safetensors"))
    assert text.startswith("<generator ")
    assert text.endswith("a.safetensors: trained at 32x32, stride 2, on cpu>")


@pytest.mark.parametrize("form", ["a.safetensors", "a.onnx"])
def test_number_of_threads_changes_no_image_and_no_setting(models: Path, form: str) -> None:
    before = torch.get_num_threads()
    one, free = (load_generator(models / form, threads=threads) for threads in (1, None))
    difference = one.generate(pixels()).astype(int) - free.generate(pixels())
    assert np.abs(difference).max() <= 1
    assert torch.get_num_threads() == before


def test_threads_are_those_that_were_asked_for(models: Path, monkeypatch: Any) -> None:
    seen = []
    generator = load_generator(models / "a.safetensors", threads=3)
    monkeypatch.setattr(
        "runs.Tiny.forward", lambda self, x: seen.append(torch.get_num_threads()) or x
    )
    generator.generate(ZEROS)
    assert seen == [3]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nowhere", {}, "no model .*nowhere"),
        ("a.onnx", {"subnet": "8_8"}, r"a\.onnx contains one network"),
        ("a.onnx", {"module": TINY}, r"a\.onnx contains one network"),
        ("a.safetensors", {"subnet": "8_8"}, "is not a supernet"),
        ("a.safetensors", {"device": "nonsense"}, "device 'nonsense' cannot be used here"),
        ("a.safetensors", {"device": "cuda:77"}, "device 'cuda:77' cannot be used here"),
        ("a.safetensors", {"threads": 0}, "threads must be at least 1, not 0"),
    ],
)
def test_wrong_choice_of_model_is_one_error(
    models: Path, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_generator(models / name, **options)


def test_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    for suffix in ("onnx", "pth", "safetensors"):
        path = tmp_path / f"a.{suffix}"
        path.write_bytes(b"no model")
        with pytest.raises(CheckpointError, match=rf"a\.{suffix}: not a readable"):
            load_generator(path)


def test_package_offers_what_it_says_and_stays_light() -> None:
    assert {"load_generator", "LoadedGenerator"} <= set(gancompress.__all__)
    for name in gancompress.__all__:
        assert getattr(gancompress, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'load_generators'"):
        gancompress.load_generators  # noqa: B018
    heavy = ("onnxruntime", "onnx", "torchvision", "scipy", "av", "PIL", "pydantic")
    code = (
        "import sys, gancompress\n"
        f"print([name for name in {heavy} if name in sys.modules])\n"
        "print(gancompress.load_generator.__name__, 'onnxruntime' in sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert ended.stdout == "[]\nload_generator True\n"


# -- the same images as the command -----------------------------------------------------------


def translated(model: Path, source: Path, target: Path) -> dict[str, np.ndarray]:
    """What `gancompress translate` makes of a folder, by file name."""
    arguments = ["translate", model, source, target, "--device", "cpu", "--json"]
    arguments += ["--module", TINY] if model.name == "folder" else []
    assert main([str(argument) for argument in arguments]) == 0
    return {path.name: np.asarray(Image.open(path), int) for path in sorted(target.iterdir())}


def assert_close(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """At most one grey level apart, and no images that show nothing."""
    assert one.keys() == other.keys()
    assert len({image.tobytes() for image in one.values()}) == len(one)
    for name, image in one.items():
        assert image.shape == other[name].shape
        assert np.abs(image - other[name]).max() <= 1, name


def test_generate_equals_the_command(models: Path, tmp_path: Path) -> None:
    for index, (height, width) in enumerate([(32, 32), (31, 45), (7, 50)]):
        write_image(tmp_path / "in" / f"{index}.png", pixels(index, height, width))
    for form in ("folder", "a.onnx"):
        found = translated(models / form, tmp_path / "in", tmp_path / form)
        generator = load_generator(models / form)
        for name, image in found.items():
            with Image.open(tmp_path / "in" / name) as given:
                assert np.array_equal(image, np.asarray(generator.generate(given)))


def test_command_gives_the_same_images_with_the_onnx_file(models: Path, tmp_path: Path) -> None:
    for index, (height, width) in enumerate([(32, 32), (31, 45), (7, 50), (64, 16)]):
        write_image(tmp_path / "in" / f"{index}.png", pixels(index, height, width))
    assert_close(
        translated(models / "folder", tmp_path / "in", tmp_path / "one"),
        translated(models / "a.onnx", tmp_path / "in", tmp_path / "other"),
    )


@pytest.mark.slow
def test_onnx_file_of_the_shipped_teacher_draws_the_same_emoji(tmp_path: Path) -> None:
    """From sketch and emoji side by side: lines and colours, 128x64."""
    teacher = REPOSITORY / "pretrained" / "draw2emoji" / "teacher"
    same_images_as_exported(teacher, [EMOJI], 24, tmp_path)


@pytest.mark.slow
def test_onnx_file_of_the_published_generator_draws_the_same_photos(
    shared: Path, tmp_path: Path
) -> None:
    weights = shared / "weights" / "gan_compression_horse2zebra_compressed_net_G.pth"
    folders = [shared / "data" / name for name in ("horse2zebra/testA", "facades/test")]
    same_images_as_exported(existing(weights), [existing(path) for path in folders], 4, tmp_path)


def same_images_as_exported(model: Path, folders: list[Path], count: int, target: Path) -> None:
    """Translate the first images of folders with a model and with its ONNX file, and compare."""
    (target / "in").mkdir()
    for folder in folders:
        for path in list_images(folder)[:count]:
            (target / "in" / path.name).symlink_to(path.resolve())
    arguments = ["export", model, "--images", target / "in", "--output", target / "g.onnx"]
    assert main([str(argument) for argument in arguments]) == 0
    one = translated(model, target / "in", target / "one")
    other = translated(target / "g.onnx", target / "in", target / "other")
    assert len(one) == count * len(folders)
    assert_close(one, other)


def test_generated_names_read_well() -> None:
    header = {"subnet": "8_16", "image_size": 256}
    generator = LoadedGenerator(negative, 4, header, "runs/a", CPU)
    assert re.fullmatch(
        "<generator runs/a: subnet 8_16, trained at 256x256, stride 4, on cpu>", repr(generator)
    )
