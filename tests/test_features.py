"""Feature networks, their resizing, the cache of real features, and what the distances rank."""

from __future__ import annotations

import dataclasses
import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import existing, picture, write_image
from PIL import Image, ImageFilter
from torch import Tensor, nn

from gancompress.checkpoint.network import load_network
from gancompress.data import ImageSet, list_images, read_image, to_float, to_tensor, to_uint8
from gancompress.errors import CheckpointError, ConfigError, DataError
from gancompress.metrics import features as features_module
from gancompress.metrics.distances import frechet_distance, kernel_distance, kernel_estimate
from gancompress.metrics.features import FeatureNetwork, MobileNetV1, load_features
from gancompress.metrics.statistics import real_features

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # clean-fid's imports
    from cleanfid.resize import build_resizer

MOBILENET = "mobilenet_v1_0.75"


class Tiny(nn.Module):
    """A feature network of a user's: five numbers from the image's colours and edges."""

    size = 16

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            self.conv = nn.Conv2d(3, 5, 3, stride=2)
            nn.init.normal_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x / 255).relu().mean((2, 3))


def tiny() -> FeatureNetwork:
    return load_features("tiny", "test_features:Tiny")


def pictures(count: int, size: int = 40) -> list[Tensor]:
    return [to_tensor(Image.fromarray(picture(i, size))) for i in range(count)]


def test_inception_images_are_resized_as_clean_fid_does() -> None:
    network = FeatureNetwork("inception", nn.Identity(), 299, "bicubic", "")
    resize = build_resizer("clean")
    for index, size in enumerate((256, 299, 512, 64)):
        pixels = picture(index, size)
        expected = torch.from_numpy(resize(pixels)).permute(2, 0, 1)
        prepared = network.prepared(to_tensor(Image.fromarray(pixels)))
        assert prepared.shape == (3, 299, 299)
        assert (prepared - expected).abs().max() < 1e-2  # of 255 levels


def test_inception_runs_the_layers_of_the_published_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Published(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.AvgPool2d(299), nn.Flatten())

        def forward(self, x: Tensor) -> Tensor:
            return self.layers(x) + 1000

    path = tmp_path / "inception.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Published()).save(str(path))
    monkeypatch.setattr(features_module, "find_weights", lambda *_: path)
    network = load_features("inception")
    found = network([torch.full((3, 299, 299), level, dtype=torch.uint8) for level in (0, 128)])
    assert found.tolist() == [[-1.0] * 3, [0.0] * 3]


def test_mobilenet_has_the_published_layers() -> None:
    net = MobileNetV1().eval()
    assert net(torch.zeros(2, 3, 224, 224)).shape == (2, 768)
    assert net.features(torch.zeros(1, 3, 224, 224)).shape == (1, 768, 7, 7)
    convolutions = sum(p.numel() for n, p in net.named_parameters() if "bn" not in n)
    norms = sum(p.numel() for n, p in net.named_parameters() if "bn" in n)
    # Howard et al., 2017, table 6: 2.6 million parameters at 0.75
    assert convolutions + norms == 2_585_560


def test_features_do_not_depend_on_the_batch() -> None:
    images = pictures(9)
    one_by_one = torch.cat([tiny()([image]) for image in images])
    assert torch.allclose(tiny()(images), one_by_one, rtol=1e-6)
    assert torch.equal(tiny()(torch.stack(images)), tiny()(images))


def test_images_of_any_size_give_features_of_one_width() -> None:
    images = [to_tensor(Image.fromarray(picture(i, size))) for i, size in enumerate((16, 40, 7))]
    assert tiny()(images).shape == (3, 5)


def test_features_that_are_not_finite_are_an_error_that_names_the_image() -> None:
    network = tiny()
    network.module.conv.weight.data[:] = float("nan")
    with pytest.raises(DataError, match="image 0 has tiny features that are not finite"):
        network(pictures(2))


@pytest.mark.parametrize(
    ("name", "source", "error", "message"),
    [
        ("vgg", None, ConfigError, "unknown features 'vgg'"),
        (MOBILENET, None, ConfigError, "need a file: --features NAME=FILE"),
        (MOBILENET, "nowhere.pth", CheckpointError, "no weights nowhere.pth"),
        ("mine", "no_module:factory", ConfigError, "cannot import"),
    ],
)
def test_what_cannot_be_loaded_is_one_message(
    name: str, source: str | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        load_features(name, source)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(nn.Conv2d(3, 4, 3).state_dict(), path)
    with pytest.raises(CheckpointError, match=r"does not fit mobilenet_v1_0\.75"):
        load_features(MOBILENET, str(path))


def test_networks_with_other_weights_have_another_digest() -> None:
    assert tiny().digest == tiny().digest
    assert load_features("tiny", "test_features:wider").digest != tiny().digest
    assert load_features("other", "test_features:Tiny").digest != tiny().digest


def wider() -> Tiny:
    net = Tiny()
    net.conv.weight.data *= 2
    return net


# -- the cache --------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(6):
        write_image(tmp_path / "real" / f"{index}.png", picture(index, 24))
    return tmp_path / "real"


class Counting(nn.Module):
    """Counts the images that pass through a feature network."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.images = inner, 0

    def forward(self, x: Tensor) -> Tensor:
        self.images += len(x)
        return self.inner(x)


def counting() -> tuple[FeatureNetwork, Counting]:
    network = tiny()
    counter = Counting(network.module)
    return FeatureNetwork("tiny", counter, 16, "bilinear", network.digest), counter


def test_real_features_of_a_users_code_are_not_kept(folder: Path, tmp_path: Path) -> None:
    assert not tiny().cacheable  # its code may change, and its digest knows only the weights
    network, counter = counting()
    images = ImageSet(list_images(folder), 16)
    kept = real_features(network, images, tmp_path / "cache")
    other = dataclasses.replace(network, cacheable=False)
    again = real_features(other, images, tmp_path / "other")
    assert torch.allclose(again, kept, rtol=1e-6)
    real_features(other, images, tmp_path / "other")
    assert counter.images == 3 * 6
    assert not (tmp_path / "other").exists()


def test_real_features_are_computed_once_for_a_content(folder: Path, tmp_path: Path) -> None:
    network, counter = counting()
    first = real_features(network, ImageSet(list_images(folder), 16), tmp_path / "cache")
    for path in list_images(folder):
        path.rename(path.with_name(f"renamed{9 - int(path.stem)}.png"))
    again = real_features(network, ImageSet(list_images(folder), 16), tmp_path / "cache")
    assert counter.images == 6
    assert torch.equal(again, first.flip(0))
    direct = network([ImageSet(list_images(folder), 16)[i] for i in range(6)])
    assert torch.allclose(again, direct, rtol=1e-6)


@pytest.mark.parametrize("change", ["content", "size", "network", "number"])
def test_anything_else_is_computed_anew(folder: Path, tmp_path: Path, change: str) -> None:
    network, counter = counting()
    real_features(network, ImageSet(list_images(folder), 16), tmp_path / "cache")
    size = 20 if change == "size" else 16
    if change == "content":
        write_image(folder / "0.png", picture(77, 24))
    if change == "number":
        (folder / "0.png").unlink()
    if change == "network":
        network = FeatureNetwork("tiny", counter, 16, "bilinear", "another digest")
    files = list_images(folder)
    real_features(network, ImageSet(files, size), tmp_path / "cache")
    assert counter.images == 6 + len(files)


@pytest.mark.parametrize("damage", ["cut", "flipped", "other"])
def test_a_damaged_cache_is_computed_again(folder: Path, tmp_path: Path, damage: str) -> None:
    network, counter = counting()
    images = ImageSet(list_images(folder), 16)
    first = real_features(network, images, tmp_path / "cache")
    (path,) = (tmp_path / "cache").iterdir()
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[:-40]
    elif damage == "flipped":
        content[-3] ^= 0x10
    else:
        content = bytearray(b"<html>no such page</html>")
    path.write_bytes(content)
    assert torch.equal(real_features(network, images, tmp_path / "cache"), first)
    assert counter.images == 12


def test_a_flat_real_image_is_an_error_with_its_name(folder: Path, tmp_path: Path) -> None:
    write_image(folder / "flat.png", np.full((24, 24, 3), 90, np.uint8))
    with pytest.raises(DataError, match=r"real image .*flat\.png: all pixels have one colour"):
        real_features(tiny(), ImageSet(list_images(folder), 16), tmp_path / "cache")


def test_a_cache_that_cannot_be_written_stops_nothing(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    network, images = counting()[0], ImageSet(list_images(folder), 16)
    found = real_features(network, images, tmp_path / "file" / "cache")
    assert found.shape == (6, 5)
    assert "not kept" in caplog.text


# -- on real images ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mobilenet(shared: Path) -> FeatureNetwork:
    return load_features(MOBILENET, str(existing(shared / "weights/mobilenet_v1_0.75_224.pth")))


@pytest.fixture(scope="module")
def zebras(shared: Path) -> list[Image.Image]:
    files = list_images(existing(shared / "data/horse2zebra") / "trainB")
    return [read_image(path) for path in files[:160]]


def scores(network: FeatureNetwork, images: list[Image.Image], real: Tensor) -> tuple[float, float]:
    found = network([to_tensor(image) for image in images])
    return kernel_distance(found, real), frechet_distance(found, real)


def blurred(image: Image.Image, strength: float) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(strength))


def noisy(image: Image.Image, strength: float) -> Image.Image:
    rng = np.random.default_rng(0)
    pixels = np.asarray(image) + rng.normal(0, strength, np.asarray(image).shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def compressed(image: Image.Image, strength: float) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=round(100 - strength))
    return Image.open(buffer).convert("RGB")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("worsen", "strengths"),
    [(blurred, (1, 2, 4)), (noisy, (10, 25, 50)), (compressed, (60, 85, 95))],
)
def test_worse_images_score_worse_the_stronger_it_is(
    worsen: Callable[[Image.Image, float], Image.Image],
    strengths: tuple[float, ...],
    mobilenet: FeatureNetwork,
    zebras: list[Image.Image],
) -> None:
    real = mobilenet([to_tensor(image) for image in zebras[:80]])
    levels = [scores(mobilenet, zebras[80:], real)]
    for strength in strengths:
        levels.append(scores(mobilenet, [worsen(z, strength) for z in zebras[80:]], real))
    for metric in zip(*levels, strict=True):
        assert list(metric) == sorted(metric)
        assert len(set(metric)) == len(metric)


@pytest.mark.slow
def test_fewer_kinds_of_images_score_worse_and_two_halves_near_zero(
    mobilenet: FeatureNetwork, zebras: list[Image.Image]
) -> None:
    found = mobilenet([to_tensor(image) for image in zebras])
    real, images = found[:80], found[80:]
    estimate = kernel_estimate(images, real)
    assert estimate.low < 0 < estimate.high
    ranks = torch.arange(80)
    levels = []
    for repeats in (1, 2, 4, 80):  # all, half and a quarter of the diversity, one image alone
        fewer = images[ranks // repeats * repeats]
        levels.append((kernel_distance(fewer, real), frechet_distance(fewer, real)))
    for metric in zip(*levels, strict=True):
        assert list(metric) == sorted(metric)
        assert len(set(metric)) == len(metric)


@pytest.mark.slow
def test_the_published_generator_scores_as_measured_elsewhere(
    mobilenet: FeatureNetwork, shared: Path
) -> None:
    name = "weights/gan_compression_horse2zebra_compressed_net_G.pth"
    generator = load_network(existing(shared / name)).module
    root = shared / "data/horse2zebra"
    horses, zebras = (
        [to_tensor(read_image(path)) for path in list_images(root / side)]
        for side in ("testA", "testB")
    )
    with torch.inference_mode():
        fakes = [to_uint8(generator(to_float(horse[None])))[0] for horse in horses]
    real = mobilenet(zebras)
    found = mobilenet(fakes)
    assert 1000 * kernel_distance(found, real) == pytest.approx(569.5, abs=5)
    assert frechet_distance(found, real) == pytest.approx(296.0, abs=1)
    untranslated = mobilenet(horses)
    assert 1000 * kernel_distance(untranslated, real) == pytest.approx(2060.7, abs=1)
    assert frechet_distance(untranslated, real) == pytest.approx(519.6, abs=0.5)
    net = mobilenet.module
    assert isinstance(net, MobileNetV1)
    classes = [int(net.classes(mobilenet.prepared(fake)[None]).argmax()) for fake in fakes]
    zebra = 340  # of the ImageNet classes
    assert classes.count(zebra) / len(classes) == pytest.approx(0.775, abs=0.02)
