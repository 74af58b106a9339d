"""What every metric of the tables does, and with it one that this file alone defines."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import make_paired
from torch import Tensor

from gancompress.config import DataOptions
from gancompress.data import load_split
from gancompress.elastic import Supernet
from gancompress.errors import ConfigError
from gancompress.evaluation import Instruments, all_scores_of, evaluated_images
from gancompress.metrics import DISTANCES, PAIRED, PairedScore, SetDistance, all_scores, metric
from gancompress.metrics.distances import Estimate, RealSet
from gancompress.metrics.features import load_features
from gancompress.search import Evaluator
from gancompress.search.quality import load_quality
from runs import tiny_generator

CPU = torch.device("cpu")
TINY = {"tiny": "test_features:Tiny"}


# -- the toy entries --------------------------------------------------------------------------


def largest_errors(images: Tensor, others: Tensor) -> Tensor:
    return (images.double() - others.double()).abs().flatten(1).amax(1)


def shift(real: RealSet, images: Tensor) -> float:
    return float((images.mean(0) - real.features.mean(0)).norm())


def shift_estimate(images: Tensor, real: Tensor, seed: int) -> Estimate:
    return Estimate(shift(RealSet(real), images), math.nan, math.nan)


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(PAIRED, "worst", PairedScore(largest_errors, lower_is_better=True))
    monkeypatch.setitem(DISTANCES, "shift", SetDistance(shift, shift_estimate))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


every_paired = pytest.mark.parametrize("name", [*PAIRED, "worst"])
every_distance = pytest.mark.parametrize("name", [*DISTANCES, "shift"])


# -- image by image ---------------------------------------------------------------------------


def three_images() -> tuple[Tensor, Tensor, Tensor]:
    """A reference, something near it and something far, (2, 3, 176, 180) each."""
    draw = torch.Generator().manual_seed(3)
    reference = torch.randint(60, 200, (2, 3, 16, 12), generator=draw).repeat(1, 1, 11, 15)
    noise = torch.randn(reference.shape, generator=draw)
    near, far = ((reference + s * noise).clamp(0, 255).to(torch.uint8) for s in (4, 40))
    return reference.to(torch.uint8), near, far


@every_paired
def test_a_paired_score_prefers_the_nearer_image(name: str) -> None:
    reference, near, far = three_images()
    entry = metric(f"truth_{name}")
    best, one, other = (entry(x, reference) for x in (reference, near, far))
    assert (best < one < other) if entry.lower_is_better else (best > one > other)


@every_paired
def test_a_paired_score_is_one_number_for_each_image(name: str) -> None:
    reference, near, far = three_images()
    outputs = torch.cat([near, far])
    whole = PAIRED[name].per_image(outputs, reference.repeat(2, 1, 1, 1))
    assert (whole.shape, whole.dtype) == ((4,), torch.float64)
    alone = torch.cat([PAIRED[name].per_image(x, reference) for x in (near, far)])
    assert torch.allclose(whole, alone, rtol=1e-9)


@every_paired
def test_a_paired_score_is_left_out_where_images_are_too_small(name: str) -> None:
    reference, near, _ = three_images()
    for side in (8, 176):
        found = all_scores(near[..., :side, :side], {"truth": reference[..., :side, :side]})
        assert (f"truth_{name}" in found) == PAIRED[name].applies(side, side)
        quality = load_quality(f"truth_{name}")
        if not PAIRED[name].applies(side, side):
            with pytest.raises(ConfigError, match=f"{name} needs larger images than 8x8"):
                quality.check(paired=True, side=side)
        else:
            quality.check(paired=True, side=side)


@every_paired
def test_a_search_goes_by_a_paired_score_and_an_evaluation_shows_it(
    name: str, tmp_path: Path
) -> None:
    side = 32 if PAIRED[name].applies(32, 32) else 176
    root = make_paired(tmp_path / "data", size=side)
    split = load_split(DataOptions(root=root), "test", side)
    generator = tiny_generator().eval()
    net = Supernet(generator, torch.empty(1, 3, 32, 32), (0.5, 1.0), 2).eval()
    subnet, quality = net.space.largest(), load_quality(f"truth_{name}")
    made = replace(Evaluator.of_split(net, generator, split, None, 1, CPU), quality=quality)
    trial = made.measure(subnet)
    images = evaluated_images(split, {"output": generator}, 2, CPU)
    score = all_scores_of(images, Instruments())["output"][f"truth_{name}"]
    assert score.estimate.value == pytest.approx(trial.scores[f"truth_{name}"], rel=1e-5)
    assert trial.loss == pytest.approx(quality.sign * score.estimate.value, rel=1e-5)
    assert score.lower_is_better == PAIRED[name].lower_is_better


# -- between sets -----------------------------------------------------------------------------


@every_distance
def test_a_distance_grows_with_the_difference_of_the_sets(name: str) -> None:
    draw = torch.Generator().manual_seed(0)
    real, same = torch.randn(2, 60, 4, dtype=torch.float64, generator=draw)
    values = [DISTANCES[name].of_features(RealSet(real), same + far) for far in (0, 1, 4)]
    assert values == sorted(values)
    for far, value in zip((0, 1, 4), values, strict=True):
        estimate = DISTANCES[name].estimate(same + far, real, 0)
        assert estimate.value == pytest.approx(value, rel=1e-9)
        assert math.isnan(estimate.low) or estimate.low <= estimate.high


@every_distance
def test_a_search_goes_by_a_distance_and_an_evaluation_shows_it(name: str, tmp_path: Path) -> None:
    root = make_paired(tmp_path / "data")
    split = load_split(DataOptions(root=root), "test", 32)
    generator = tiny_generator().eval()
    net = Supernet(generator, torch.empty(1, 3, 32, 32), (0.5, 1.0), 2).eval()
    title = f"{name}[tiny]"
    made = Evaluator.of_split(net, generator, split, None, 1, CPU)
    made = replace(made, quality=load_quality(title, TINY))
    trial = made.measure(net.space.largest())
    images = evaluated_images(split, {"output": generator}, 2, CPU)
    instruments = Instruments([load_features("tiny", TINY["tiny"])])
    score = all_scores_of(images, instruments)["output"][title]
    assert trial.loss == pytest.approx(score.estimate.value, rel=1e-5, abs=1e-9)
    assert made.estimate(net.space.largest()).value == pytest.approx(trial.loss, rel=1e-5, abs=1e-9)


# -- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["teacher_wurst", "shft[tiny]", "nothing"])
def test_an_unknown_name_is_refused_with_what_there_is(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"(?s)unknown metric.*teacher_worst.*shift\[NAME\]"):
        load_quality(wrong)
    with pytest.raises(ConfigError, match=r"(?s)unknown metric.*teacher_worst"):
        metric(wrong)
