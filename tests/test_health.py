"""Trainings that run, but do not train: alarms, skipped steps, and the way on."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from gancompress.training.health import Alarm, Health, Samples, StepSkipped, alarms, take_step


def noise(seed: int, low: int = 60, high: int = 200) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(low, high, (4, 3, 8, 8), generator=generator).float()
    return torch.nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear").byte()


def samples(outputs: Tensor, wanted: Tensor | None, inputs: Tensor | None = None) -> Samples:
    return Samples(outputs[0], noise(0) if inputs is None else inputs, outputs, wanted)


def flat(level: int) -> Tensor:
    return torch.full((4, 3, 32, 32), level, dtype=torch.uint8)


def near(images: Tensor, by: int) -> Tensor:
    """As a half-trained network has it: a shift that a person sees, nothing else."""
    return (images.int() + by).clamp(0, 255).byte()


FOUND = {
    "black": (flat(0), noise(1), {Alarm.FLAT, Alarm.SATURATED, Alarm.WORSE_THAN_FLAT}),
    "grey": (flat(130), noise(1), {Alarm.FLAT}),
    "grey, unpaired": (flat(130), None, {Alarm.FLAT}),
    "the same picture": (noise(2)[:1].expand(4, -1, -1, -1), noise(1), {Alarm.ALIKE}),
    "the inputs": (noise(0), noise(1), {Alarm.UNCHANGED}),
    "only black and white": (
        (noise(2) > 130).byte() * 255,
        noise(1),
        {Alarm.SATURATED, Alarm.WORSE_THAN_FLAT},
    ),
    "inverted": (255 - noise(1, 0, 256), noise(1, 0, 256), {Alarm.WORSE_THAN_FLAT}),
    "half-trained": (near(noise(1), 25), noise(1), set()),
    "half-trained, unpaired": (near(noise(1), 25), None, set()),
    "untrained": (noise(3, 120, 136), noise(1), set()),
}


@pytest.mark.parametrize("case", FOUND)
def test_alarms_of_images(case: str) -> None:
    outputs, wanted, expected = FOUND[case]
    assert alarms(samples(outputs, wanted)) == expected


@pytest.mark.parametrize("wanted", [flat(255), None])
def test_images_that_have_to_be_flat_are_no_alarm(wanted: Tensor | None) -> None:
    """White drawings, white renders; a photo of a wall."""
    inputs = flat(255)
    assert alarms(samples(flat(250), wanted, inputs)) <= {Alarm.UNCHANGED}


def test_what_is_no_picture_has_no_alarms() -> None:
    assert alarms(Samples(noise(0)[0], noise(0))) == set()


def test_alarm_is_told_when_it_lasts_and_once(caplog: pytest.LogCaptureFixture) -> None:
    health = Health("runs/a")
    good, bad = samples(noise(1), noise(1)), samples(flat(0), noise(1))
    with caplog.at_level(logging.WARNING):
        assert health.see_images(bad, {}, 1) == ["FLAT", "SATURATED", "WORSE_THAN_FLAT"]
        assert health.fatal == []
        assert not caplog.records  # it may just have begun
        health.see_images(good, {}, 2)
        health.see_images(bad, {}, 3)
        assert not caplog.records
        health.see_images(bad, {}, 4)
        health.see_images(bad, {}, 5)
    told = [record.getMessage() for record in caplog.records]
    assert "runs/a, image 4: every output is one flat colour" in told
    assert len(told) == len(set(told)) == 3
    assert set(health.fatal) == {Alarm.FLAT, Alarm.SATURATED, Alarm.WORSE_THAN_FLAT}


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("inverted", []),  # as far from the goal as an untrained network may be
        ("only black and white", [Alarm.SATURATED, Alarm.WORSE_THAN_FLAT]),
        ("the same picture", [Alarm.ALIKE]),
        ("grey", [Alarm.FLAT]),
        ("the inputs", []),
    ],
)
def test_what_leaves_no_result(case: str, expected: list[Alarm]) -> None:
    outputs, wanted, _ = FOUND[case]
    health = Health("runs/a")
    for images in (500, 1000):
        health.see_images(samples(outputs, wanted), {}, images)
    assert health.fatal == sorted(expected)


@pytest.mark.parametrize("case", ["grey", "the same picture"])
def test_a_training_that_has_hardly_begun_may_be_flat(case: str) -> None:
    outputs, wanted, _ = FOUND[case]
    health = Health("runs/a")
    for images in (10, 20):
        health.see_images(samples(outputs, wanted), {}, images)
    assert health.fatal == []


def test_good_state_is_not_written_over_by_a_bad_one() -> None:
    health = Health("runs/a")
    good, bad = samples(noise(1), noise(1)), samples(flat(0), noise(1))
    health.see_images(bad, {}, 1)
    assert not health.is_spoiled  # nothing was good before
    health.see_images(good, {}, 2)
    assert not health.is_spoiled
    health.see_images(bad, {}, 3)
    assert health.is_spoiled


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.4, 0.2, 0.29, 0.25], []),
        ([0.4, 0.2, 0.31, 0.25], []),
        ([0.4, 0.2, 0.31, 0.35], [Alarm.MOVED_AWAY]),
        ([0.001, 0.001, 0.002, 0.002], []),  # below what anybody sees
    ],
)
def test_a_student_that_moves_away(
    scores: list[float], expected: list[Alarm], caplog: pytest.LogCaptureFixture
) -> None:
    health, good = Health("runs/a"), samples(noise(1), noise(1))
    for images, score in enumerate(scores):
        health.see_images(good, {"mae_smallest": 0.5, "mae_largest": score, "psnr": 1.0}, images)
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == expected


def test_a_discriminator_that_wins(caplog: pytest.LogCaptureFixture) -> None:
    health = Health("runs/a")
    for images, loss in enumerate((0.25, 0.009, 0.2, 0.005, 0.001)):
        health.see_losses({"G_gan": 0.9, "D_a": loss, "D_b": loss / 2}, images)
    assert [record.getMessage() for record in caplog.records] == [
        f"runs/a, image 4: {Alarm.DISCRIMINATOR}"
    ]
    health = Health("runs/a")
    for images in range(4):
        health.see_losses({"G_l1": 0.0}, images)  # has none
    assert len(caplog.records) == 1


def test_evaluations_of_a_log_are_known_again() -> None:
    good, bad = samples(noise(1), noise(1)), samples(flat(0), noise(1))
    health = Health("runs/a")
    log = [
        {"images": 2, "G_l1": 0.1},
        {"images": 4, "mae": 0.1},
        {"images": 8, "mae": 0.4, "alarms": ["FLAT", "of another version", 3]},
    ]
    health.restore(log)
    assert health.is_spoiled
    health.see_images(bad, {"mae": 0.4}, 12)
    assert Alarm.FLAT in health.fatal
    health.see_images(good, {"mae": 0.1}, 16)
    assert not health.fatal
    assert not health.is_spoiled


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_step_that_is_not_finite_changes_nothing(value: float) -> None:
    first, second = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    optimisers = [torch.optim.Adam(m.parameters(), lr=0.1) for m in (first, second)]
    for module in (first, second):
        module(torch.ones(1, 3)).sum().backward()
    second.weight.grad[0, 1] = value  # type: ignore[index]
    before = [parameter.clone() for m in (first, second) for parameter in m.parameters()]
    with pytest.raises(StepSkipped):
        take_step(optimisers)
    after = [parameter for m in (first, second) for parameter in m.parameters()]
    assert all(map(torch.equal, before, after))
    assert not any(optimiser.state for optimiser in optimisers)
    second.weight.grad.fill_(1.0)  # type: ignore[union-attr]
    take_step(optimisers)
    assert not any(map(torch.equal, before, after))
