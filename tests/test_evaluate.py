"""`gancompress evaluate`: all scores that apply, whatever the batches, the order, the workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import existing, make_paired
from torch import Tensor, nn

from gancompress.checkpoint.network import save_network
from gancompress.cli.main import main
from gancompress.config import GeneratorOptions
from gancompress.data import list_images, read_image, to_tensor
from gancompress.evaluation import Score
from gancompress.metrics.distances import Estimate
from gancompress.models import build_generator, init_weights

FEATURES = ("--features", "tiny=test_features:Tiny", "--lpips", "none")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "small.safetensors", seed=0)


def write_model(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    options = GeneratorOptions(name="resnet_6blocks", ngf=4)
    module = init_weights(build_generator(options))
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data *= 20
    description = {"generator": options.model_dump(mode="json")}
    save_network(path, module, description, image_size=32)
    return path


class Broken(nn.Module):
    """A generator that makes nothing of one kind or another."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * 0 + self.value


def flat() -> Broken:
    return Broken(0.25)


def not_finite() -> Broken:
    return Broken(float("nan"))


def evaluate(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main(["evaluate", *map(str, arguments), "--json"]) == 0
    content: dict[str, Any] = json.loads(capsys.readouterr().out)
    return content


def test_unpaired_data_is_scored_by_distances(
    unpaired: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate(capsys, model, unpaired, *FEATURES, "--output", "out")
    assert set(found["scores"]) == {"kid[tiny]", "fid[tiny]"}
    assert set(found["input_scores"]) == {"kid[tiny]", "fid[tiny]"}
    kid, fid = found["scores"]["kid[tiny]"], found["scores"]["fid[tiny]"]
    assert kid["low"] <= kid["value"] <= kid["high"]
    assert (kid["num_images"], kid["against"]) == (4, "4 real images")
    assert kid["decides"]
    assert not fid["decides"]  # fewer than 2,000 images
    assert found["split"] == "test"
    assert "test: 4 A and 4 B images of testA and testB" in found["split_list"]
    assert json.loads(Path("out/scores.json").read_text())["scores"] == found["scores"]


def test_paired_data_is_scored_against_the_truth_and_the_teacher(
    paired: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = write_model(tmp_path / "teacher.safetensors", seed=1)
    found = evaluate(capsys, model, paired, *FEATURES, "--teacher", teacher, "--output", "out")
    for reference in ("truth", "teacher"):
        assert {f"{reference}_mae", f"{reference}_psnr", f"{reference}_ssim"} <= set(
            found["scores"]
        )
    assert "truth_mae" in found["teacher_scores"]
    assert "teacher_mae" not in found["teacher_scores"]
    assert "input_scores" not in found
    outputs = [to_tensor(read_image(path)) for path in list_images(Path("out/images/output"))]
    truths = [to_tensor(read_image(path)) for path in list_images(Path("out/images/truth"))]
    errors = [(a.double() - b.double()).abs().mean() for a, b in zip(outputs, truths, strict=True)]
    expected = float(torch.stack(errors).mean()) / 127.5
    assert found["scores"]["truth_mae"]["value"] == pytest.approx(expected, rel=1e-6)
    folders = {path.name for path in Path("out/images").iterdir()}
    assert folders == {"input", "output", "teacher", "truth"}


def test_a_model_scored_against_itself_is_perfect(
    paired: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate(capsys, model, paired, *FEATURES, "--teacher", model)["scores"]
    assert found["teacher_mae"]["value"] == 0
    assert found["teacher_psnr"]["value"] == 100
    assert found["teacher_ssim"]["value"] == pytest.approx(1)


def test_direction_swaps_input_and_truth(
    paired: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(capsys, model, paired, *FEATURES, "--direction", "BtoA", "--output", "back")
    pair = read_image(list_images(paired / "test")[0])
    side = pair.height
    expected = to_tensor(pair.crop((side, 0, 2 * side, side)))
    (first, *_) = list_images(Path("back/images/input"))
    assert torch.equal(to_tensor(read_image(first)), expected)


def test_scores_are_the_same_whatever_the_batches_workers_and_names(
    unpaired: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*more: object) -> list[float]:
        found = evaluate(capsys, model, unpaired, *FEATURES, "--output", "out", *more)
        return [s[key] for s in found["scores"].values() for key in ("value", "low", "high")]

    first = run("--batch-size", 1, "--workers", 1)
    assert run("--batch-size", 3, "--workers", 4) == pytest.approx(first, rel=1e-5)
    for folder in ("testA", "testB"):
        for path in list_images(unpaired / folder):
            path.rename(path.with_name(f"z{9999 - int(path.stem)}.png"))
    values = run()
    assert values[::3] == pytest.approx(first[::3], rel=1e-5)


def test_search_and_training_images_are_named_as_such(
    unpaired: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate(capsys, model, unpaired, *FEATURES, "--split", "train")
    assert found["split"] == "train"
    assert found["split_list"].startswith("train: 7 A and 7 B images")


def test_the_page_shows_scores_and_images(
    unpaired: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(model), str(unpaired), *FEATURES, "--output", "out"]) == 0
    text = capsys.readouterr().out
    assert "kid[tiny] x1000" in text
    page = Path("out/report.html").read_text()
    assert "kid[tiny] x1000" in page
    assert page.count("<img") == 8  # four inputs and their outputs
    assert "95 % bootstrap interval" in page


def test_default_networks_that_cannot_be_had_are_left_out_with_the_reason(
    paired: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from gancompress.errors import CheckpointError

    def missing(*_: object) -> Path:
        raise CheckpointError("no such weights here\n  put them there")

    monkeypatch.setattr("gancompress.metrics.features.find_weights", missing)
    monkeypatch.setattr("gancompress.metrics.perceptual.find_weights", missing)
    found = evaluate(capsys, model, paired)
    assert "fid[inception], kid[inception]: no such weights here" in found["left_out"]
    assert "lpips[alex]: no such weights here" in found["left_out"]
    assert "truth_ssim" in found["scores"]
    assert main(["evaluate", str(model), str(paired), "--features", "inception"]) == 2


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("flat", "output of 2000: all pixels have one colour"),
        ("not_finite", "output of 2000: not all of its values are finite"),
    ],
)
def test_an_output_that_shows_nothing_is_an_error_with_its_name(
    unpaired: Path, factory: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("weights.pth")
    torch.save(Broken(0).state_dict(), path)
    module = ("--module", f"test_evaluate:{factory}")
    assert main(["evaluate", str(path), str(unpaired), *module, "--size", "32", *FEATURES]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "33"), "--size 33 must be a multiple"),
        (("--batch-size", "0"), "--batch-size is at least 1"),
        (("--max-images", "-2"), "--max-images is at least 1"),
        (("--subnet", "1_2"), "is no supernet"),
        (("--features", "vgg"), "unknown features 'vgg'"),
        (("--set", "a=b"), "--set says nothing here"),
        (("--teacher", "nowhere"), "no teacher nowhere"),
    ],
)
def test_mistakes_are_one_message(
    arguments: tuple[str, ...],
    message: str,
    unpaired: Path,
    model: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["evaluate", str(model), str(unpaired), *FEATURES, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert main(["evaluate", str(model), str(unpaired / "no"), *FEATURES]) == 2
    assert "no data folder" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(
    unpaired: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate(capsys, model, unpaired, *FEATURES, "--dry-run", "--output", "out")
    assert found["size"] == 32
    assert not Path("out").exists()


def test_json_of_a_score_is_not_scaled() -> None:
    score = Score("kid[x]", Estimate(0.5, 0.4, 0.6), 10, "real", True, True, 1000)
    assert score.as_json()["value"] == 0.5


@pytest.mark.slow
def test_the_published_generator_is_evaluated_on_its_data(
    shared: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    weights = existing(shared / "weights/gan_compression_horse2zebra_compressed_net_G.pth")
    mobilenet = existing(shared / "weights/mobilenet_v1_0.75_224.pth")
    data = existing(shared / "data/horse2zebra")
    found = evaluate(
        capsys, weights, data, "--features", f"mobilenet_v1_0.75={mobilenet}", "--lpips", "none",
        "--output", tmp_path / "out",
    )  # fmt: skip
    kid = found["scores"]["kid[mobilenet_v1_0.75]"]
    assert 1000 * kid["value"] == pytest.approx(569.5, abs=5)
    assert found["scores"]["fid[mobilenet_v1_0.75]"]["value"] == pytest.approx(296.0, abs=1)
    assert (kid["num_images"], kid["against"]) == (120, "140 real images")
    zebra = read_image(next((tmp_path / "out/images/output").iterdir()))
    assert zebra.size == (256, 256)
    assert np.asarray(zebra).std() > 20


def test_labels_are_read_by_a_judge(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torchvision")
    root = make_paired(tmp_path / "labels", size=32)
    from gancompress.metrics.palette import Palette
    from gancompress.metrics.segmentation import Judge, build_segmenter, save_judge

    arch = "lraspp_mobilenet_v3_large"
    palette = Palette(((0, 0, 0), (255, 255, 255), (255, 0, 0)))
    real = {"accuracy": 81.0, "miou": 60.0, "num_images": 4, "split": "val"}
    judge = Judge(arch, build_segmenter(arch, 3), palette, size=32, real=real)
    save_judge(tmp_path / "judge.safetensors", judge, arch, {})
    found = evaluate(capsys, model, root, *FEATURES, "--segmenter", tmp_path / "judge.safetensors")
    assert 0 <= found["scores"][f"miou[{arch}]"]["value"] <= 100
    assert found["truth_scores"][f"miou[{arch}]"]["num_images"] == 4
    assert found["judge"] == {"name": arch, **real}
