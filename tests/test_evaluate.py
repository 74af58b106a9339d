"""`gancompress evaluate`: all scores that apply, whatever the batches, the order, the workers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import existing, make_unpaired, picture, write_image
from torch import Tensor, nn

from gancompress.checkpoint.network import load_network, save_network
from gancompress.checkpoint.run import RunFolder
from gancompress.cli.main import main
from gancompress.config import DataOptions, GeneratorOptions
from gancompress.data import list_images, load_split, make_splits, read_image, to_tensor
from gancompress.errors import CheckpointError, DataError
from gancompress.evaluation import Score, choose_data
from gancompress.evaluation.images import unique_names
from gancompress.metrics.distances import Estimate
from gancompress.metrics.palette import Palette, find_palette
from gancompress.metrics.segmentation import Judge
from gancompress.metrics.weights import WeightFile
from gancompress.models import build_generator, init_weights
from gancompress.pipeline.evaluation import MAX_STRAYS

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
    options = GeneratorOptions(input_nc=3, output_nc=3, name="resnet_6blocks", ngf=4)
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


def test_images_of_two_models_have_sides_that_both_can_take(
    unpaired: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    description = load_network(model).description  # its stride is 4, and at four fifths it is 5
    at_less = tmp_path / "at_less.safetensors"
    save_network(at_less, load_network(model).module, {**description, "resolution": 80})
    arguments = (model, unpaired, "--teacher", at_less, "--size", 25, "--lpips", "none")
    assert main(["evaluate", *map(str, arguments)]) == 2
    assert "--size 25 must be a multiple of the generator's stride 20" in capsys.readouterr().err


def test_unpaired_data_is_scored_by_distances(
    unpaired: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate(capsys, model, unpaired, *FEATURES, "--output", "out")
    assert set(found["scores"]) == {"kid[tiny]", "fid[tiny]"}
    assert set(found["input_scores"]) == {"kid[tiny]", "fid[tiny]"}
    kid, fid = found["scores"]["kid[tiny]"], found["scores"]["fid[tiny]"]
    assert fid["value"] > 0
    assert (kid["low"], kid["high"]) == (None, None)  # four images have no interval
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
    (first, *_) = list_images(Path("back/images/truth"))
    assert torch.equal(to_tensor(read_image(first)), to_tensor(pair.crop((0, 0, side, side))))


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_pairs_in_two_folders_have_the_scores_of_the_same_pairs_side_by_side(
    paired: Path,
    two_folders: Path,
    model: Path,
    direction: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = (*FEATURES, "--direction", direction)
    beside = evaluate(capsys, model, paired, *flags)
    apart = evaluate(capsys, model, two_folders, *flags, "--mode", "paired")
    assert {"truth_mae", "truth_psnr", "truth_ssim"} <= set(apart["scores"])
    assert apart["scores"] == beside["scores"]
    assert "test: 4 pairs of testA and testB" in apart["split_list"]
    as_sets = evaluate(capsys, model, two_folders, *flags)
    assert set(as_sets["scores"]) == {"fid[tiny]", "kid[tiny]"}


def test_a_run_on_pairs_takes_files_of_one_name_for_pairs(
    paired: Path, two_folders: Path, unpaired: Path, tmp_path: Path
) -> None:
    runs = {}
    for name, data in (
        ("beside", DataOptions(root=paired)),
        ("apart", DataOptions(root=two_folders, direction="BtoA")),
        ("unpaired", DataOptions(root=unpaired, mode="unpaired")),
    ):
        run = RunFolder(tmp_path / "runs" / name)
        run.path.mkdir(parents=True)
        run.config.write_text(
            json.dumps({"stage": "teacher", "data": data.model_dump(mode="json")})
        )
        run.splits.write_text(make_splits(data).to_json())
        runs[name] = run.path
    copy = tmp_path / "copy"
    shutil.copytree(two_folders, copy)
    assert choose_data(copy, "test", runs["apart"]).from_run
    assert choose_data(copy, "search", runs["apart"]).set_sizes() == (4, 4)
    assert choose_data(copy, "test", runs["apart"]).options.direction == "BtoA"
    found = choose_data(copy, "test", runs["beside"])
    assert found.is_paired
    assert not found.from_run
    assert not choose_data(copy, "test", runs["unpaired"]).is_paired
    assert not choose_data(copy, "test", tmp_path).is_paired
    for run in runs.values():
        assert choose_data(copy, "test", run, mode="paired").is_paired
        assert not choose_data(copy, "test", run, mode="unpaired").is_paired
        assert choose_data(paired, "test", run).is_paired
    (copy / "testB" / "2001.png").unlink()
    with pytest.raises(DataError, match="no partner in testB/"):
        choose_data(copy, "test", runs["beside"])


def test_scores_are_the_same_whatever_the_batches_workers_and_names(
    unpaired: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*more: object) -> list[float]:
        found = evaluate(capsys, model, unpaired, *FEATURES, "--output", "out", *more)
        return [s[key] for s in found["scores"].values() for key in ("value", "low", "high")]

    make_unpaired(unpaired, count_a=12)  # six test images, so that there are intervals

    first = run("--batch-size", 1, "--workers", 1)
    # ends hold square roots of tiny eigenvalues, which make float32 rounding larger
    assert run("--batch-size", 3, "--workers", 4) == pytest.approx(first, rel=1e-4)
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


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files of weights whose download was tried; none of them is on this machine."""
    tried: list[str] = []

    def download(entry: WeightFile, target: Path) -> Path:
        tried.append(entry.file_name)
        raise CheckpointError("there is no network here")

    monkeypatch.setattr(WeightFile, "fault", lambda *_: "it is another one")
    monkeypatch.setattr("gancompress.metrics.weights.download", download)
    return tried


def test_nothing_is_downloaded_that_was_not_asked_for_by_its_name(
    paired: Path, model: Path, downloads: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate(capsys, model, paired)
    assert not downloads
    for what, file in (
        ("fid[inception], kid[inception]", "inception-2015-12-05.pt"),
        ("lpips[alex]", "alexnet-owt-7be5be79.pth"),
    ):
        reason = "is not on this machine, and nothing is downloaded unasked"
        assert f"{what}: {file} {reason}" in found["left_out"]
    assert "truth_ssim" in found["scores"]
    assert main(["evaluate", str(model), str(paired), "--features", "inception"]) == 2
    assert downloads == ["inception-2015-12-05.pt"]
    assert main(["evaluate", str(model), str(paired), "--lpips", "alex"]) == 2
    assert downloads[1:] == ["alexnet-owt-7be5be79.pth"]


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("flat", "output of 2000: all pixels have one colour"),
        ("not_finite", "the output of 2000 is not finite"),
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
        (("--batch-size", "0"), "--batch-size must be at least 1"),
        (("--max-images", "-2"), "--max-images must be at least 1"),
        (("--subnet", "1_2"), "is not a supernet"),
        (("--features", "vgg"), "unknown features 'vgg'"),
        (("--features", "tiny=test_features:wider"), "--features tiny is given twice"),
        (("--lpips", "alex", "--lpips", "alex=FILE"), "--lpips alex is given twice"),
        (("--segmenter", "judge"), "this data is unpaired"),
        (("--set", "a=b"), "--set has no effect on this command"),
        (("--teacher", "nowhere"), "no model nowhere"),
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


class Same(Broken):
    """A generator whose outputs are its inputs."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def same() -> Same:
    return Same(0)


class ByRed(nn.Module):
    """A segmenter that calls a pixel class 0 where it is red enough, else class 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, photos: Tensor) -> Tensor:
        return torch.cat([photos[:, :1], -photos[:, :1]], 1)


def judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str = "by_red"
) -> tuple[str, ...]:
    """Arguments that evaluate a copying generator on labels: white at the left, black at the right.

    In the photos beside them the black of the lower half is white too.
    """
    label = np.zeros((32, 32, 3), np.uint8)
    label[:, :16] = 255
    photo = label.copy()
    photo[16:] = 255
    for index in range(3):
        write_image(tmp_path / f"labels/test/{index}.png", np.concatenate([label, photo], axis=1))
    palette = Palette(((255, 255, 255), (0, 0, 0)))
    real = {"accuracy": 81.0, "miou": 60.0, "num_images": 4, "split": "val"}
    judge = Judge(name, ByRed(), palette, size=32, real=real)
    monkeypatch.setattr("gancompress.pipeline.evaluation.load_judge", lambda *_: judge)
    torch.save(same().state_dict(), tmp_path / "same.pth")
    return (
        str(tmp_path / "same.pth"), str(tmp_path / "labels"), "--module", "test_evaluate:same",
        "--size", "32", "--segmenter", "judge", "--output", "out", *FEATURES,
    )  # fmt: skip


def test_labels_are_read_by_a_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate(capsys, *judged(tmp_path, monkeypatch))
    assert found["scores"]["miou[by_red]"]["value"] == pytest.approx(100)
    assert found["scores"]["pixel_accuracy[by_red]"]["value"] == pytest.approx(100)
    # class 0: 512 pixels of 768; class 1: 256 of 512
    truth = found["truth_scores"]
    assert truth["miou[by_red]"]["value"] == pytest.approx(100 * (2 / 3 + 1 / 2) / 2)
    assert truth["pixel_accuracy[by_red]"]["value"] == pytest.approx(75)
    assert truth["miou[by_red]"]["num_images"] == 3
    assert found["judge"]["accuracy"] == 81
    assert "81.0 % of pixels right" in Path("out/report.html").read_text()


def test_a_judge_of_full_resolution_is_named_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *judged(tmp_path, monkeypatch, "drn_d_105")]) == 0
    assert "not the published full-resolution protocol" in capsys.readouterr().out


def test_photos_are_no_labels_for_a_judge(
    tmp_path: Path,
    paired: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = list(judged(tmp_path, monkeypatch))
    arguments[1] = str(paired)
    assert main(["evaluate", *arguments]) == 2
    assert "These inputs are not label images: check --direction" in capsys.readouterr().err


@pytest.mark.slow
def test_facades_are_labels_one_way_only(shared: Path) -> None:
    pairs = [read_image(path) for path in list_images(existing(shared / "data/facades/test"))]
    halves = [to_tensor(pair.crop((256, 0, 512, 256))) for pair in pairs]
    palette = find_palette(halves, 12)
    labels = [palette.stray_share(half[None]) for half in halves]
    photos = [palette.stray_share(to_tensor(p.crop((0, 0, 256, 256)))[None]) for p in pairs]
    assert max(labels) < MAX_STRAYS - 0.2
    assert min(photos) > MAX_STRAYS + 0.2


# -- data that little applies to --------------------------------------------------------------


def without_targets(root: Path, side: str = "B") -> Path:
    for path in (root / f"test{side}").iterdir():
        path.unlink()
    (root / f"test{side}").rmdir()
    return root


def test_inputs_alone_are_translated_and_the_lack_of_scores_is_explained(
    unpaired: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = without_targets(unpaired)
    assert main(["evaluate", str(model), str(data), *FEATURES, "--output", "out"]) == 0
    said = capsys.readouterr().out
    assert "no scores: fid[tiny], kid[tiny]: there are no real images" in said
    content = json.loads(Path("out/scores.json").read_text())
    assert content["scores"] == {}
    assert len(content["left_out"]) == 1
    assert len(list_images(Path("out/images/output"))) == 4
    assert Path("out/report.html").read_text().count("<img") == 8


def test_without_any_feature_network_images_are_still_written(
    unpaired: Path, model: Path, downloads: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate(capsys, model, unpaired, "--output", "offline")
    assert found["scores"] == {}
    assert len(found["left_out"]) == 1
    assert main(["evaluate", str(model), str(unpaired), "--features", "none"]) == 0
    assert "no scores: with --features none" in capsys.readouterr().out


def test_networks_that_nothing_can_use_are_named(
    unpaired: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate(capsys, model, unpaired, *FEATURES[:2], "--lpips", "alex", "--max-images", 1)
    features, lpips = found["left_out"]
    assert features == "fid[tiny], kid[tiny]: sets of 1 and 4 images are too few: 2 of each"
    assert lpips.startswith("lpips[alex]: the data has no pairs")


def test_one_pair_has_scores_without_intervals(
    paired: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate(capsys, model, paired, *FEATURES, "--max-images", 1)
    score = found["scores"]["truth_mae"]
    assert score["value"] > 0
    assert score["low"] is score["high"] is None


def test_a_lone_other_side_is_unpaired_data(
    unpaired: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = without_targets(unpaired, "A")
    for path in unpaired.glob("train*"):
        path.rename(unpaired / f"not_{path.name}")
    found = evaluate(capsys, model, data, *FEATURES, "--direction", "BtoA")
    assert "test: 4 B images of testB" in found["split_list"]
    assert found["output"].endswith("-test-BtoA")


# -- names and files --------------------------------------------------------------------------


def test_equal_stems_are_images_of_their_own(
    unpaired: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(unpaired / "testA/2000.bmp", picture(77, 32))
    evaluate(capsys, model, unpaired, *FEATURES, "--output", "out")
    names = {path.name for path in list_images(Path("out/images/output"))}
    assert names == {"2000.bmp.png", "2000.png.png", "2001.png", "2002.png", "2003.png"}
    same_pixels = read_image(Path("out/images/input/2000.bmp.png"))
    assert np.array_equal(np.asarray(same_pixels), picture(77, 32))


def test_names_are_unique_across_folders() -> None:
    files = [Path("train/1.png"), Path("search/1.png"), Path("train/2.png")]
    assert unique_names(files) == ["1.png-1", "1.png-2", "2"]


def test_images_of_an_earlier_evaluation_go_and_foreign_files_stay(
    unpaired: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = write_image(Path("out/images/mine/a.png"), picture(1, 32))
    early = write_image(Path("out/images/output/a.png"), picture(1, 32))
    evaluate(capsys, model, unpaired, *FEATURES, "--output", "out")
    assert early.exists()  # no evaluation wrote it
    evaluate(capsys, model, unpaired, *FEATURES, "--output", "out", "--max-images", 2)
    assert len(list_images(Path("out/images/output"))) == 2
    assert mine.exists()


def test_latest_nets_are_called_after_their_folder(
    unpaired: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    latest = Path("horses/latest_net_G.safetensors")
    latest.parent.mkdir()
    model.rename(latest)
    found = evaluate(capsys, latest, unpaired, *FEATURES)
    assert Path(found["output"]).name == "horses-latest_net_G-unpaired-test"


# -- a run's own lists ------------------------------------------------------------------------


def test_a_copy_of_a_runs_data_has_the_runs_lists(unpaired: Path, tmp_path: Path) -> None:
    data = DataOptions(root=unpaired, mode="unpaired", search_fraction=0.5, split_seed=3)
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    content = {"stage": "teacher", "data": data.model_dump(mode="json")}
    run.config.write_text(json.dumps(content))
    recorded = make_splits(data)
    run.splits.write_text(recorded.to_json())
    moved = tmp_path / "moved"
    unpaired.rename(moved)
    for split in ("train", "search", "test"):
        found = choose_data(moved, split, run.path, None)
        assert found.from_run
        assert found.splits.list_hash(split) == recorded.list_hash(split)
        assert all(path.is_file() for path in found.splits.files(split, "A"))
        load_split(found.options, split, 32, found.splits).inputs.preload()
    other = tmp_path / "other"
    for path in sorted(moved.rglob("*.png")):  # the same names, other contents
        write_image(other / path.relative_to(moved), 255 - np.asarray(read_image(path)))
    assert not choose_data(other, "search", run.path, None).from_run
    next(iter((moved / "testA").iterdir())).unlink()
    assert not choose_data(moved, "test", run.path, None).from_run


def test_training_images_by_folder_are_warned_about(
    unpaired: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = ["evaluate", str(model), str(unpaired), *FEATURES, "--dry-run", "--split"]
    assert main([*arguments, "search"]) == 0
    assert "may have been trained on any of them" in caplog.text
    caplog.clear()
    assert main([*arguments, "test"]) == 0
    assert "trained" not in caplog.text
