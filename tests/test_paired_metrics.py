"""Paired scores: equal to independent implementations, and worse for worse images."""

from __future__ import annotations

import inspect
import io
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.models as tv
from helpers import existing, picture
from PIL import Image, ImageFilter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from gancompress.errors import CheckpointError, ConfigError, DataError
from gancompress.metrics import perceptual
from gancompress.metrics.perceptual import BACKBONES, Lpips
from gancompress.metrics.pixels import absolute_errors, ms_ssim_applies, ms_ssims, psnrs, ssims

Score = Callable[[Tensor, Tensor], Tensor]
PIXEL_SCORES = {"mae": absolute_errors, "psnr": psnrs, "ssim": ssims, "ms_ssim": ms_ssims}
SIGNS = {"mae": 1, "psnr": -1, "ssim": -1, "ms_ssim": -1}  # of a change for the worse
every_score = pytest.mark.parametrize("score", PIXEL_SCORES.values(), ids=PIXEL_SCORES)


def stack(images: list[np.ndarray]) -> Tensor:
    """(N, C, H, W) of (H, W, C) images."""
    return torch.stack([torch.from_numpy(np.array(image)) for image in images]).permute(0, 3, 1, 2)


def pictures(count: int, size: int) -> list[np.ndarray]:
    return [picture(index, size) for index in range(count)]


def noisy(image: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return (image + noise).round().clip(0, 255).astype(np.uint8)


def blurred(image: np.ndarray, radius: float) -> np.ndarray:
    return np.array(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


def compressed(image: np.ndarray, damage: float) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=round(100 - damage))
    return np.array(Image.open(buffer))


DAMAGES: dict[str, tuple[Callable[[np.ndarray, float], np.ndarray], tuple[float, ...]]] = {
    "blur": (blurred, (0.7, 1.5, 3, 6)),
    "noise": (noisy, (5, 15, 40, 90)),
    "jpeg": (compressed, (40, 80, 92, 98)),
}
every_damage = pytest.mark.parametrize("damage", DAMAGES)


def real(shared: Path, count: int) -> list[np.ndarray]:
    """Photos, 256x256."""
    files = sorted(existing(shared / "data" / "horse2zebra" / "testA").iterdir())[:count]
    return [np.array(Image.open(file).convert("RGB")) for file in files]


def assert_ranks(score: Score, sign: int, images: list[np.ndarray], damage: str) -> None:
    """Every stronger damage is worse for every image, and the weakest is worse than none."""
    apply, strengths = DAMAGES[damage]
    whole = stack(images)
    steps = [score(whole, whole)]
    steps += [score(stack([apply(i, strength) for i in images]), whole) for strength in strengths]
    changes = torch.stack(steps).diff(dim=0) * sign
    assert (changes > 0).all(), changes


@pytest.fixture(scope="module")
def pair() -> tuple[Tensor, Tensor]:
    """Five pictures, damaged in different ways, 192 high and 208 wide."""
    images = [image[:192] for image in pictures(5, 208)]
    others = [noisy(images[0], 20), blurred(images[1], 3), compressed(images[2], 95)]
    return stack(images), stack([*others, 255 - images[3], np.full_like(images[4], 128)])


def reference_ssim(x: np.ndarray, y: np.ndarray, k1: float = 0.01) -> np.ndarray:
    """scikit-image's SSIM of two (H, W, C) images, (C,)."""
    channels = range(x.shape[2])
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return np.array(
        [
            structural_similarity(
                x[..., c].astype(float), y[..., c].astype(float), data_range=255, K1=k1, **options
            )
            for c in channels
        ]
    )


def reference_ms_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """MS-SSIM on scikit-image's SSIM: with a huge K1 only contrast and structure remain."""
    terms = []
    for scale in range(5):
        terms.append(reference_ssim(x, y, 0.01 if scale == 4 else 1e6))
        if scale < 4:
            x, y = (i.reshape(len(i) // 2, 2, -1, 2, i.shape[2]).mean((1, 3)) for i in (x, y))
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])[:, None]
    return float((np.maximum(terms, 0) ** weights).prod(0).mean())


def arrays(images: Tensor) -> list[np.ndarray]:
    return [image.permute(1, 2, 0).numpy() for image in images]


def test_psnr_equals_scikit_image(pair: tuple[Tensor, Tensor]) -> None:
    expected = [peak_signal_noise_ratio(x, y) for x, y in zip(*map(arrays, pair), strict=True)]
    assert psnrs(*pair).tolist() == pytest.approx(expected, abs=1e-9)


def test_absolute_error_equals_numpy(pair: tuple[Tensor, Tensor]) -> None:
    scaled = [images.numpy() / 127.5 - 1 for images in pair]
    expected = np.abs(scaled[0] - scaled[1]).mean((1, 2, 3))
    assert absolute_errors(*pair).tolist() == pytest.approx(expected.tolist(), abs=1e-12)


@pytest.mark.parametrize(("height", "width"), [(192, 208), (11, 12), (40, 33)])
def test_ssim_equals_scikit_image(pair: tuple[Tensor, Tensor], height: int, width: int) -> None:
    cut = [images[..., 40 : 40 + height, 40 : 40 + width] for images in pair]
    if height > 150:
        cut = list(pair)
    expected = [reference_ssim(x, y).mean() for x, y in zip(*map(arrays, cut), strict=True)]
    assert ssims(*cut).tolist() == pytest.approx(expected, abs=1e-9)


def test_ms_ssim_equals_scikit_image_on_five_scales(pair: tuple[Tensor, Tensor]) -> None:
    floats = [[image.astype(float) for image in arrays(images)] for images in pair]
    expected = [reference_ms_ssim(x, y) for x, y in zip(*floats, strict=True)]
    assert ms_ssims(*pair).tolist() == pytest.approx(expected, abs=1e-7)


def test_equal_images_have_the_best_score() -> None:
    images = stack([*pictures(2, 176), np.full((176, 176, 3), 7, np.uint8)])
    assert absolute_errors(images, images).tolist() == [0, 0, 0]
    assert psnrs(images, images).tolist() == [100, 100, 100]
    assert ssims(images, images).tolist() == pytest.approx([1, 1, 1], abs=1e-12)
    assert ms_ssims(images, images).tolist() == pytest.approx([1, 1, 1], abs=1e-12)


def test_constant_images_have_their_closed_forms() -> None:
    """Only brightness differs, so SSIM is its luminance term."""
    a, b = (torch.full((1, 3, 200, 200), value, dtype=torch.uint8) for value in (100, 151))
    c1 = 2.55**2
    luminance = (2 * 100 * 151 + c1) / (100**2 + 151**2 + c1)
    assert absolute_errors(a, b).item() == pytest.approx(51 / 127.5)
    assert psnrs(a, b).item() == pytest.approx(20 * np.log10(255 / 51))
    assert ssims(a, b).item() == pytest.approx(luminance, abs=1e-9)
    assert ms_ssims(a, b).item() == pytest.approx(luminance**0.1333, abs=1e-9)


def test_black_against_white_does_not_overflow() -> None:
    a, b = (torch.full((1, 3, 64, 64), value, dtype=torch.uint8) for value in (0, 255))
    assert absolute_errors(a, b).item() == absolute_errors(b, a).item() == 2
    assert psnrs(a, b).item() == 0


@every_score
def test_scores_do_not_depend_on_batch_size_or_order(
    score: Score, pair: tuple[Tensor, Tensor]
) -> None:
    images, others = (torch.cat([side, side.flip(2)]) for side in pair)  # more than one batch
    expected = score(images, others)
    single = [score(images[i : i + 1], others[i : i + 1]) for i in range(10)]
    torch.testing.assert_close(torch.cat(single), expected, rtol=0, atol=1e-12)
    order = torch.randperm(10)
    torch.testing.assert_close(
        score(images[order], others[order]), expected[order], rtol=0, atol=1e-12
    )
    assert expected.dtype == torch.float64
    assert expected.shape == (10,)


@every_damage
@pytest.mark.parametrize("name", PIXEL_SCORES)
def test_stronger_damage_scores_worse_on_pictures(name: str, damage: str) -> None:
    assert_ranks(PIXEL_SCORES[name], SIGNS[name], pictures(3, 192), damage)


@pytest.mark.slow
@every_damage
@pytest.mark.parametrize("name", PIXEL_SCORES)
def test_stronger_damage_scores_worse_on_photos(name: str, damage: str, shared: Path) -> None:
    assert_ranks(PIXEL_SCORES[name], SIGNS[name], real(shared, 4), damage)


@every_score
def test_pairs_that_cannot_be_compared_are_refused(score: Score) -> None:
    images = stack(pictures(1, 192))
    with pytest.raises(DataError, match="one shape"):
        score(images, images[..., :-1])
    with pytest.raises(DataError, match="8-bit"):
        score(images, images.float())
    with pytest.raises(DataError, match="8-bit"):
        score(images[:0], images[:0])


def test_small_images_are_refused_with_the_smallest_side() -> None:
    assert ms_ssim_applies(176, 300)
    assert not ms_ssim_applies(300, 175)
    with pytest.raises(DataError, match=r"at least 176x176 .* not 200x175"):
        ms_ssims(*[torch.zeros(1, 3, 175, 200, dtype=torch.uint8)] * 2)
    with pytest.raises(DataError, match=r"at least 11, not 64x10"):
        ssims(*[torch.zeros(1, 3, 10, 64, dtype=torch.uint8)] * 2)


TORCHVISION = {"alex": tv.alexnet, "squeeze": tv.squeezenet1_1, "vgg": tv.vgg16}


@pytest.fixture(scope="module", params=[pytest.param("alex", marks=pytest.mark.slow), "squeeze"])
def random_weights(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A backbone and a file of weights for it that torchvision drew."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "backbone.pth"
    torch.save(TORCHVISION[request.param]().features.state_dict(prefix="features."), path)
    return request.param, path


def of_the_package(net: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> Score:
    """The `lpips` package by itself; what it would download comes from the file instead."""
    import lpips

    def load(pretrained: bool) -> torch.nn.Module:
        assert pretrained
        model = TORCHVISION[net]()
        model.load_state_dict(torch.load(path, weights_only=True), strict=False)
        return model

    with monkeypatch.context() as patch:
        patch.setattr(lpips.pretrained_networks.tv, TORCHVISION[net].__name__, load)
        module = lpips.LPIPS(net=net, verbose=False)

    @torch.no_grad()
    def score(images: Tensor, others: Tensor) -> Tensor:
        unit = [lpips.im2tensor(i) for i in (*arrays(images), *arrays(others))]
        x, y = torch.cat(unit).chunk(2)
        distance: Tensor = module(x, y)
        return distance.flatten().double()

    return score


def random_pair(count: int = 10, size: int = 64) -> tuple[Tensor, Tensor]:
    first, second = torch.randint(0, 256, (2, count, 3, size, size), dtype=torch.uint8)
    return first, second


def test_lpips_equals_the_package(
    random_weights: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = random_pair()
    score = Lpips(*random_weights)
    expected = of_the_package(*random_weights, monkeypatch)(*pair)
    assert expected.min() > 1e-3
    torch.testing.assert_close(score(*pair), expected, rtol=1e-5, atol=1e-7)
    assert score.name == f"lpips[{random_weights[0]}]"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("net", "file"), [("alex", "alexnet_features.pth"), ("squeeze", "squeezenet1_1_features.pth")]
)
def test_lpips_with_published_weights_equals_the_package(
    net: str, file: str, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = existing(shared / "weights" / file)
    images = real(shared, 3)
    pair = stack(images), stack([noisy(images[0], 30), blurred(images[1], 3), images[0]])
    expected = of_the_package(net, path, monkeypatch)(*pair)
    torch.testing.assert_close(Lpips(net, path)(*pair), expected, rtol=1e-5, atol=1e-7)


def test_lpips_of_equal_images_is_zero_even_for_constant_ones(
    random_weights: tuple[str, Path],
) -> None:
    images = stack([*pictures(2, 64), np.full((64, 64, 3), 200, np.uint8)])
    assert Lpips(*random_weights)(images, images).tolist() == [0, 0, 0]


def test_lpips_does_not_depend_on_batch_size_or_order(random_weights: tuple[str, Path]) -> None:
    score = Lpips(*random_weights)
    images, others = random_pair()
    expected = score(images, others)
    single = [score(images[i : i + 1], others[i : i + 1]) for i in range(10)]
    torch.testing.assert_close(torch.cat(single), expected, rtol=1e-5, atol=1e-7)
    order = torch.randperm(10)
    shuffled = score(images[order], others[order])
    torch.testing.assert_close(shuffled, expected[order], rtol=1e-5, atol=1e-7)
    assert expected.dtype == torch.float64


def test_lpips_accepts_whole_files_with_and_without_prefix(tmp_path: Path) -> None:
    whole = tv.squeezenet1_1().state_dict()
    torch.save(whole, tmp_path / "whole.pth")
    bare = {k.removeprefix("features."): v for k, v in whole.items() if "features" in k}
    torch.save(bare, tmp_path / "bare.pth")
    pair = random_pair(2)
    scores = [Lpips("squeeze", tmp_path / f"{name}.pth")(*pair) for name in ("whole", "bare")]
    assert torch.equal(*scores)


def test_lpips_refuses_weights_of_another_network(
    random_weights: tuple[str, Path], tmp_path: Path
) -> None:
    net, path = random_weights
    other = "squeeze" if net == "alex" else "alex"
    with pytest.raises(CheckpointError, match=r"holds no weights of this LPIPS backbone: features"):
        Lpips(other, path)
    tensors = torch.load(path, weights_only=True)
    tensors["features.0.bias"] = torch.zeros(3)
    torch.save(tensors, tmp_path / "shape.pth")
    with pytest.raises(CheckpointError, match=r"does not fit this LPIPS backbone: .*bias"):
        Lpips(net, tmp_path / "shape.pth")
    with pytest.raises(ConfigError, match="unknown LPIPS backbone 'alexx'; did you mean 'alex'"):
        Lpips("alexx", path)


def test_lpips_asks_for_the_published_file_unless_given_one(
    random_weights: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, path = random_weights
    asked = []

    def find(name: str, given: Path | None) -> Path:
        asked.append((name, given))
        return path

    monkeypatch.setattr(perceptual, "find_weights", find)
    Lpips(net)
    assert asked == [({"alex": "alexnet", "squeeze": "squeezenet1_1"}[net], None)]


@pytest.mark.parametrize("net", BACKBONES)
def test_lpips_states_the_smallest_side(net: str) -> None:
    """One pixel less leaves nothing of the deepest activation."""
    side = BACKBONES[net].min_side
    with torch.device("meta"), torch.no_grad():
        features = TORCHVISION[net]().features
        if net != "squeeze":
            features = features[:-1]  # the last pooling is not used
        assert features(torch.zeros(1, 3, side, side)).numel()
        with pytest.raises(RuntimeError):
            features(torch.zeros(1, 3, side - 1, side - 1))


def test_lpips_refuses_images_it_cannot_compare(random_weights: tuple[str, Path]) -> None:
    score = Lpips(*random_weights)
    with pytest.raises(DataError, match=r"at least \d+, not 12x12"):
        score(*random_pair(1, 12))
    with pytest.raises(DataError, match="RGB images, not 1 channels"):
        score(*(side[:, :1] for side in random_pair(1)))


def test_lpips_is_silent_and_leaves_the_random_state_alone(
    random_weights: tuple[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Lpips(*random_weights)
    assert torch.equal(torch.get_rng_state(), before)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@every_damage
@pytest.mark.parametrize(
    ("net", "file"), [("alex", "alexnet_features.pth"), ("squeeze", "squeezenet1_1_features.pth")]
)
def test_lpips_ranks_damage_on_photos(net: str, file: str, damage: str, shared: Path) -> None:
    score = Lpips(net, existing(shared / "weights" / file))
    assert_ranks(score, 1, real(shared, 3), damage)


def example_images(shared: Path) -> dict[str, Tensor]:
    """The images that come with the source of the `lpips` package, where they are at hand."""
    import lpips

    package = Path(inspect.getfile(lpips)).parent
    for folder in (shared / "data" / "lpips", package / "imgs", package.parent / "imgs"):
        files = {name: folder / f"ex_{name}.png" for name in ("ref", "p0", "p1")}
        if all(file.is_file() for file in files.values()):
            return {
                name: stack([np.array(Image.open(file).convert("RGB"))])
                for name, file in files.items()
            }
    pytest.skip(
        "needs ex_ref.png, ex_p0.png and ex_p1.png of the lpips source in shared/data/lpips"
    )


@pytest.mark.slow
def test_lpips_has_the_published_values(shared: Path) -> None:
    images = example_images(shared)
    score = Lpips("alex", existing(shared / "weights" / "alexnet_features.pth"))
    assert score(images["ref"], images["p0"]).item() == pytest.approx(0.722, abs=5e-4)
    assert score(images["ref"], images["p1"]).item() == pytest.approx(0.138, abs=5e-4)


@pytest.mark.slow
def test_package_does_not_import_lpips_before_it_is_used() -> None:
    text = (
        "import sys, gancompress.metrics.perceptual; "
        "assert not {'lpips', 'scipy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", text], check=True)
