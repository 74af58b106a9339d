"""Losses, metrics, counts as text, and the choice of trials, against other implementations."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gancompress.cost import format_count, parse_count
from gancompress.elastic import SearchSpace, Subnet, Width
from gancompress.errors import ConfigError
from gancompress.losses import (
    RECON_LOSSES,
    discriminator_fake_loss,
    discriminator_gan_loss,
    discriminator_real_loss,
    feature_distillation,
    generator_gan_loss,
    perceptual,
    recon_loss,
)
from gancompress.losses.perceptual import PerceptualLoss
from gancompress.losses.pool import ImagePool
from gancompress.metrics import all_scores, metric, paired_names
from gancompress.search.log import TrialLog
from gancompress.search.trials import Trial, pareto_front

# -------------------------------------------------------------------------------- losses


@pytest.fixture
def lpips_loss(monkeypatch: pytest.MonkeyPatch) -> PerceptualLoss:
    """With the package's learned heads on a backbone of random weights."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"torchvision\.models")
        package = (
            lpips.LPIPS(net="squeeze", pnet_rand=True, verbose=False).eval().requires_grad_(False)
        )
    monkeypatch.setattr(perceptual, "lpips_module", lambda net, path: package)
    loss = PerceptualLoss("squeeze", None, torch.device("cpu"))
    loss.package = package  # type: ignore[attr-defined]
    return loss


def test_perceptual_loss_has_the_packages_value_and_gradient(lpips_loss: PerceptualLoss) -> None:
    ours, theirs = (torch.rand(2, 3, 48, 40) * 2 - 1 for _ in range(2))
    one, other = ours.clone().requires_grad_(), ours.clone().requires_grad_()
    value = lpips_loss(one, lpips_loss.wanted(theirs))
    expected = lpips_loss.package(other, theirs).mean()  # type: ignore[attr-defined]
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)
    value.backward()
    expected.backward()
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-8)


def test_perceptual_loss_is_zero_for_equal_images(lpips_loss: PerceptualLoss) -> None:
    images = torch.rand(2, 3, 48, 48) * 2 - 1
    assert float(lpips_loss(images, lpips_loss.wanted(images))) == 0


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("level", [-1.0, 0.0, 1.0])
def test_perceptual_loss_is_finite_for_flat_images(
    lpips_loss: PerceptualLoss, level: float, precision: torch.dtype
) -> None:
    for layer in lpips_loss.backbone.modules():  # no bias: black images have no activations at all
        if isinstance(layer, nn.Conv2d):
            nn.init.zeros_(layer.bias)
    flat = torch.full((1, 3, 32, 32), level, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        value = lpips_loss(flat, lpips_loss.wanted(torch.rand(1, 3, 32, 32)))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(flat.grad).all()


Formula = Callable[[np.ndarray], np.ndarray]
LOSS_FORMULAS: dict[str, tuple[Formula, Formula, Formula]] = {  # generator, real, fake
    "lsgan": (lambda s: (s - 1) ** 2, lambda s: (s - 1) ** 2, lambda s: s**2),
    "vanilla": (
        lambda s: np.log1p(np.exp(-s)),
        lambda s: np.log1p(np.exp(-s)),
        lambda s: np.log1p(np.exp(s)),
    ),
    "hinge": (lambda s: -s, lambda s: np.maximum(0, 1 - s), lambda s: np.maximum(0, 1 + s)),
}
every_mode = pytest.mark.parametrize("mode", LOSS_FORMULAS)


@every_mode
def test_gan_losses_are_the_published_formulas(mode: str) -> None:
    generator, real, fake = LOSS_FORMULAS[mode]
    one, other = torch.randn(4, 1, 6, 6) * 2, torch.randn(4, 1, 6, 6) * 2
    a, b = one.numpy().astype(float), other.numpy().astype(float)
    assert float(generator_gan_loss(mode, one)) == pytest.approx(generator(a).mean(), rel=1e-5)
    assert float(discriminator_real_loss(mode, one)) == pytest.approx(real(a).mean(), rel=1e-5)
    assert float(discriminator_fake_loss(mode, other)) == pytest.approx(fake(b).mean(), rel=1e-5)
    both = 0.5 * (real(a).mean() + fake(b).mean())
    assert float(discriminator_gan_loss(mode, one, other)) == pytest.approx(both, rel=1e-5)


@every_mode
def test_gan_losses_pull_in_opposite_directions(mode: str) -> None:
    scores = torch.zeros(3, requires_grad=True)
    (towards,) = torch.autograd.grad(generator_gan_loss(mode, scores), scores)
    (away,) = torch.autograd.grad(discriminator_fake_loss(mode, scores + 0.1), scores)
    assert (towards < 0).all()
    assert (away > 0).all()


def test_unknown_losses_are_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unknown GAN mode 'wgan'"):
        generator_gan_loss("wgan", torch.zeros(1))
    with pytest.raises(ConfigError, match=r"Choose from l1, l2, smooth_l1\."):
        recon_loss("l3")


@pytest.mark.parametrize("name", RECON_LOSSES)
def test_reconstruction_losses_are_means_that_vanish_for_equal_images(name: str) -> None:
    a, b = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    loss = recon_loss(name)
    assert loss(a, a) == 0
    assert loss(a, b) > 0
    torch.testing.assert_close(loss(a.repeat(2, 1, 1, 1), b.repeat(2, 1, 1, 1)), loss(a, b))


def test_feature_distillation_is_the_mean_squared_distance_after_the_adapter() -> None:
    adapter = nn.Conv2d(3, 5, 1, bias=False)
    student, teacher = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(2, 5, 4, 4)
    loss = feature_distillation(student, teacher, adapter)
    mixed = np.einsum(
        "oc,nchw->nohw", adapter.weight.detach().numpy()[:, :, 0, 0], student.detach().numpy()
    )
    assert loss.item() == pytest.approx(((mixed - teacher.numpy()) ** 2).mean(), rel=1e-5)
    loss.backward()
    assert student.grad is not None
    assert adapter.weight.grad is not None
    assert feature_distillation(student, student.detach(), lambda x: x) == 0


def test_feature_distillation_counts_in_full_precision() -> None:
    student = torch.randn(1, 4, 8, 8)
    loss = feature_distillation(student.bfloat16(), student.bfloat16() + 1, lambda x: x)
    assert loss.dtype == torch.float32


# ---------------------------------------------------------------------------- image pool


def numbered(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32).view(-1, 1, 1, 1)


def test_pool_of_size_zero_passes_images_through() -> None:
    images = numbered(1, 2, 3)
    assert ImagePool(0).query(images, torch.Generator()) is images


def test_pool_fills_up_first_and_then_exchanges_about_half() -> None:
    pool, rng = ImagePool(10), torch.Generator().manual_seed(0)
    first = numbered(*range(10))
    assert torch.equal(pool.query(first, rng), first)
    old = 0
    for number in range(10, 1010):
        returned = int(pool.query(numbered(number), rng))
        assert returned == number or returned < number
        old += returned != number
        assert len(pool.images) == 10
    assert 430 < old < 570
    kept = [int(image) for image in pool.images]
    assert len(set(kept)) == 10


def test_pool_gives_every_old_image_once() -> None:
    pool, rng = ImagePool(5), torch.Generator().manual_seed(1)
    returned = [int(pool.query(numbered(n), rng)) for n in range(300)]
    left = [int(image) for image in pool.images]
    given_at_once = [n for n, value in enumerate(returned) if value == n]
    later = [value for n, value in enumerate(returned) if value != n]
    assert len(set(later)) == len(later)
    assert not set(left) & set(later)
    assert set(later) | set(given_at_once) | set(left) == set(range(300))


def test_pool_continues_from_its_state() -> None:
    whole, rng = ImagePool(4), torch.Generator().manual_seed(2)
    expected = [whole.query(numbered(n, n + 1), rng) for n in range(0, 60, 2)]
    first, rng = ImagePool(4), torch.Generator().manual_seed(2)
    found = [first.query(numbered(n, n + 1), rng) for n in range(0, 30, 2)]
    second, rng_state = ImagePool(4), rng.get_state()
    second.load_state_dict(first.state_dict())
    rng = torch.Generator()
    rng.set_state(rng_state)
    found += [second.query(numbered(n, n + 1), rng) for n in range(30, 60, 2)]
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_pool_keeps_values_and_no_graph() -> None:
    pool, rng = ImagePool(2), torch.Generator()
    images = torch.ones(1, 1, 2, 2, requires_grad=True) * 1
    pool.query(images, rng)
    with torch.no_grad():
        images.zero_()
    assert pool.images[0].sum() == 4
    assert not pool.images[0].requires_grad


# ------------------------------------------------------------------------------- metrics


def images_uint8(seed: int, count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 16, 12), generator=generator, dtype=torch.uint8)


def test_psnr_and_mae_agree_with_numpy() -> None:
    a, b = images_uint8(0), images_uint8(1)
    x, y = a.numpy().astype(float), b.numpy().astype(float)
    errors = ((x - y) ** 2).reshape(3, -1).mean(1)
    found = all_scores(a, {"truth": b})
    assert found["truth_psnr"] == pytest.approx((10 * np.log10(255**2 / errors)).mean(), rel=1e-9)
    assert found["truth_mae"] == pytest.approx(np.abs(x - y).mean() / 127.5, rel=1e-9)


def test_metrics_of_equal_and_of_opposite_images() -> None:
    a = images_uint8(2)
    equal = all_scores(a, {"teacher": a})
    assert equal == {"teacher_mae": 0, "teacher_psnr": 100, "teacher_ssim": pytest.approx(1)}
    black, white = torch.zeros_like(a), torch.full_like(a, 255)
    opposite = all_scores(black, {"teacher": white})
    assert opposite["teacher_psnr"] == pytest.approx(0, abs=1e-6)
    assert opposite["teacher_mae"] == pytest.approx(2)
    assert opposite["teacher_ssim"] == pytest.approx(0, abs=1e-3)


def test_scores_are_those_whose_references_there_are() -> None:
    outputs = images_uint8(4)
    references = {"teacher": images_uint8(5)}
    assert set(all_scores(outputs, references)) == {"teacher_mae", "teacher_psnr", "teacher_ssim"}
    both = {**references, "truth": images_uint8(6)}
    small = {f"{reference}_{name}" for reference in both for name in ("mae", "psnr", "ssim")}
    assert set(all_scores(outputs, both)) == small
    tiny = {name: images[..., :10] for name, images in both.items()}  # SSIM needs 11
    assert set(all_scores(outputs[..., :10], tiny)) == {n for n in small if "ssim" not in n}
    large = {name: images.repeat(1, 1, 11, 15) for name, images in both.items()}
    assert set(all_scores(outputs.repeat(1, 1, 11, 15), large)) == set(paired_names())
    with pytest.raises(ConfigError, match="unknown metric 'fid'"):
        metric("fid")


# ------------------------------------------------------------------------ counts, latency


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2.6G", 2_600_000_000), ("400M", 400_000_000), ("356867", 356_867), ("1k", 1_000),
        (" 3 T ", 3 * 10**12), (".5G", 500_000_000), ("1e9", 10**9), ("2.5e3m", 2_500_000_000),
    ],
)  # fmt: skip
def test_counts_are_read_as_people_write_them(text: str, value: int) -> None:
    assert parse_count(text, "--macs") == value


@pytest.mark.parametrize("text", ["", "G", "-1G", "0", "0.0M", "2,6G", "2.6GB", "nan", "inf", "x"])
def test_texts_that_are_no_counts_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--macs takes a positive count such as"):
        parse_count(text, "--macs")


def test_formatted_counts_read_back_to_four_digits(rng: random.Random) -> None:
    assert format_count(49_551_507_456) == "49.55G"
    assert format_count(356_867) == "356.9K"
    assert format_count(1_000_000) == "1M"
    for _ in range(300):
        number = round(10 ** rng.uniform(0, 14))
        assert parse_count(format_count(number), "n") == pytest.approx(number, rel=5.1e-4)


# --------------------------------------------------------------------------------- trials


def random_trials(seed: int, count: int) -> list[Trial]:
    """Trials on a coarse grid, so that ties in MACs, in loss and in both come up."""
    rng = random.Random(seed)
    return [
        Trial(Subnet((i,)), rng.randrange(1, 12), rng.randrange(12) / 4, {}) for i in range(count)
    ]


def dominates(one: Trial, other: Trial) -> bool:
    no_worse = one.macs <= other.macs and one.loss <= other.loss
    return no_worse and (one.macs, one.loss) != (other.macs, other.loss)


def points(trials: Sequence[Trial]) -> list[tuple[int, float]]:
    return [(trial.macs, trial.loss) for trial in trials]


@pytest.mark.parametrize("seed", range(10))
def test_front_is_what_no_other_trial_dominates(seed: int) -> None:
    trials = random_trials(seed, 30)
    front = pareto_front(trials)
    expected = [t for t in trials if not any(dominates(other, t) for other in trials)]
    assert points(front) == sorted(set(points(expected)))
    shuffled = random.Random(seed).sample(trials, len(trials))
    assert pareto_front(shuffled) == front


def test_no_trials_have_no_front() -> None:
    assert pareto_front([]) == []


def make_space(*choices: Sequence[int]) -> SearchSpace:
    dimensions = [
        Width((f"layer{i}",), max(widths), tuple(widths)) for i, widths in enumerate(choices)
    ]
    return SearchSpace(tuple(dimensions))


def trial(space: SearchSpace, text: str, loss: float) -> Trial:
    subnet = space.parse(text)
    return Trial(subnet, cost(subnet), loss, {"teacher_mae": loss})


def cost(subnet: Subnet) -> int:
    return sum(a * b for a, b in zip((1, *subnet.values), (*subnet.values, 1), strict=True))


def test_log_gives_back_what_was_appended(tmp_path: Path) -> None:
    space = make_space((1, 2), (2, 4))
    log = TrialLog(tmp_path / "run" / "trials.jsonl", "key")
    assert log.load(space) == {}
    trials = [trial(space, "1_2", 0.5), trial(space, "2_4", 0.25)]
    for entry in trials:
        log.append(entry)
    assert log.load(space) == {entry.subnet: entry for entry in trials}


def test_log_outlives_a_crash_in_the_middle_of_a_line(tmp_path: Path) -> None:
    space, path = make_space((1, 2), (2, 4)), tmp_path / "trials.jsonl"
    log, kept, after = TrialLog(path, "key"), *(trial(space, t, 0.5) for t in ("1_2", "2_4"))
    log.append(kept)
    log.append(trial(space, "1_4", 0.5))
    whole = path.read_bytes()
    for cut in range(whole.index(b"\n") + 1, len(whole)):
        path.write_bytes(whole[:cut])
        known = log.load(space)
        assert set(known) - {space.parse("1_4")} == {kept.subnet}
        log.append(after)
        assert set(log.load(space)) == {*known, after.subnet}


def test_log_ignores_other_measurements(tmp_path: Path) -> None:
    space, path = make_space((1, 2), (2, 4)), tmp_path / "trials.jsonl"
    TrialLog(path, "old weights").append(trial(space, "1_2", 0.1))
    TrialLog(path, "new weights").append(trial(space, "1_2", 0.9))
    other = make_space((1, 2), (2, 4), (8,))
    TrialLog(path, "other space").append(trial(other, "1_2_8", 0.9))
    with path.open("a") as file:
        file.write(json.dumps({"note": "no trial"}) + "\n\n")
    (found,) = TrialLog(path, "new weights").load(space).values()
    assert found.loss == 0.9
