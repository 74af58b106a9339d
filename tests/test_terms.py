"""Terms of the distillation loss against formulas of their own, and the parts of a step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn
from torchvision.models import squeezenet1_1

from gancompress.checkpoint.network import new_discriminator
from gancompress.config import (
    DiscriminatorOptions,
    DistillLossOptions,
    ScheduleOptions,
)
from gancompress.elastic import Subnet, Supernet
from gancompress.errors import ConfigError
from gancompress.losses import (
    RECON_LOSSES,
    discriminator_fake_loss,
    discriminator_real_loss,
    generator_gan_loss,
)
from gancompress.losses.perceptual import PerceptualLoss
from gancompress.losses.terms import (
    TERMS,
    Goal,
    Observers,
    Output,
    Setting,
    Tap,
    Term,
    Terms,
    needs,
    term_weights,
)
from gancompress.losses.terms.activations import MatchedActivations
from gancompress.training.adversary import Adversary
from gancompress.training.networks import SubnetView, WholeView
from gancompress.training.precision import autocast
from runs import tiny_generator

CPU = torch.device("cpu")
Array = NDArray[np.float64]
SIDE = 16
TAPS = (Tap("layers.0", "layers.0", 8, 8), Tap("layers.3", "layers.3", 12, 12))
SHARE = 0.3
every_term = pytest.mark.parametrize("name", TERMS)


# -- what terms are built from and shown ------------------------------------------------------


NET = Supernet(tiny_generator(), torch.empty(1, 3, 16, 16), widths=(0.5, 1.0), divisor=2)
FULL = SubnetView(NET, NET.space.largest())
NARROW = SubnetView(NET, NET.space.smallest())


@pytest.fixture(scope="module")
def observers(tmp_path_factory: pytest.TempPathFactory) -> Observers:
    """Networks of random weights."""
    path = tmp_path_factory.mktemp("weights") / "squeeze.pth"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        torch.save(squeezenet1_1(weights=None).features.state_dict(), path)
        judge = new_discriminator(DiscriminatorOptions(ndf=4, n_layers=2), 6).module
    backbone = PerceptualLoss("squeeze", path, CPU)
    return Observers(backbone, judge.eval().requires_grad_(False), True, in_precision("fp32"))


def in_precision(name: str) -> Callable[[], AbstractContextManager[object]]:
    return partial(autocast, name, CPU)


@pytest.fixture
def setting(observers: Observers) -> Setting:
    return Setting(DistillLossOptions(), SHARE, 2, TAPS, False, observers)


@dataclass
class Side:
    """Made-up images and activations of one side, in double precision."""

    image: list[Array]
    activations: list[Array]
    features: list[Array]
    judged: list[Array]

    def moved(self, step: float, other: Side) -> Side:
        parts = vars(self).items()
        return Side(
            **{
                key: [a + step * b for a, b in zip(arrays, getattr(other, key), strict=True)]
                for key, arrays in parts
            }
        )


def made_up(seed: int, channels: tuple[int, int]) -> Side:
    """Two images; activations of the two taps have these channels."""
    rng = np.random.default_rng(seed)

    def arrays(*shapes: tuple[int, int, int]) -> list[Array]:
        return [rng.normal(size=(2, *shape)) for shape in shapes]

    image = [np.tanh(a) for a in arrays((3, SIDE, SIDE))]
    first, second = channels
    return Side(
        image,
        arrays((first, 5, 4), (second, 4, 6)),
        [np.maximum(a, 0) + 0.01 for a in arrays((4, 6, 6), (5, 3, 3), (6, 2, 2))],
        arrays((4, 5, 5), (8, 3, 3)),
    )


STUDENT, TEACHER, LARGEST = made_up(0, (4, 6)), made_up(1, (8, 12)), made_up(2, (8, 12))


def tensors(arrays: list[Array]) -> list[Tensor]:
    return [torch.tensor(array, dtype=torch.float32) for array in arrays]


def as_goal(side: Side, observers: Observers, seed: int = 0) -> Goal:
    image, rng = tensors(side.image)[0], torch.Generator().manual_seed(seed)
    goal = Goal(image, image, tensors(side.activations), observers, rng)
    vars(goal).update(features=tensors(side.features), judged=tensors(side.judged))
    return goal


def as_output(side: Side, setting: Setting, largest: Tensor | None = None) -> Output:
    """With gradients to everything that is shown; the subnet is as wide as the activations."""
    image = tensors(side.image)[0].requires_grad_()
    activations = [t.requires_grad_() for t in tensors(side.activations)]
    view = FULL if len(side.activations[0][0]) == 8 else NARROW
    output = Output(image, image, activations, setting.observers, view, largest)
    vars(output).update(
        features=[t.requires_grad_() for t in tensors(side.features)],
        judged=[t.requires_grad_() for t in tensors(side.judged)],
    )
    return output


def shown(output: Output) -> dict[str, list[Tensor]]:
    return {
        "image": [output.image],
        "activations": output.activations,
        "features": output.features,
        "judged": output.judged,
    }


# -- formulas -------------------------------------------------------------------------------


def smooth_l1(a: Array, b: Array) -> float:
    gap = np.abs(a - b)
    return float(np.where(gap < 1, gap**2 / 2, gap - 0.5).mean())


PIXELS: dict[str, Callable[[Array, Array], float]] = {
    "l1": lambda a, b: float(np.abs(a - b).mean()),
    "l2": lambda a, b: float(((a - b) ** 2).mean()),
    "smooth_l1": smooth_l1,
}


def recon_formula(student: Side, teacher: Side, term: Any, kind: str = "l1") -> float:
    distance = PIXELS[kind]
    to_largest = distance(student.image[0], LARGEST.image[0])
    return (1 - SHARE) * distance(student.image[0], teacher.image[0]) + SHARE * to_largest


def lpips_formula(student: Side, teacher: Side, term: Any) -> float:
    total = 0.0
    heads = term.setting.observers.backbone.heads
    for ours, theirs, head in zip(student.features, teacher.features, heads, strict=False):
        unit = [a / np.sqrt((a**2).sum(1, keepdims=True)) for a in (ours, theirs)]
        weights = head.weight.double().numpy()[0, :, 0, 0]
        total += (weights[:, None, None] * (unit[0] - unit[1]) ** 2).sum(1).mean()
    return float(total)


def distill_formula(student: Side, teacher: Side, term: Any) -> float:
    total = 0.0
    pairs = zip(student.activations, teacher.activations, term.convs, strict=True)
    for ours, theirs, conv in pairs:
        weight = conv.weight.detach().double().numpy()[:, : ours.shape[1], 0, 0]
        bias = conv.bias.detach().double().numpy()[:, None, None]
        total += ((np.einsum("oc,nchw->nohw", weight, ours) + bias - theirs) ** 2).mean()
    return float(total)


def ssim_formula(student: Side, teacher: Side, term: Any) -> float:
    x, y = ((side.image[0] + 1) / 2 * 255 for side in (student, teacher))
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for top in range(SIDE - 10):
        for left in range(SIDE - 10):
            a, b = (z[:, :, top : top + 11, left : left + 11] for z in (x, y))
            mean_a, mean_b = ((window * z).sum((2, 3), keepdims=True) for z in (a, b))
            var_a, var_b = ((window * (z - m) ** 2).sum((2, 3))
                            for z, m in ((a, mean_a), (b, mean_b)))  # fmt: skip
            both = (window * (a - mean_a) * (b - mean_b)).sum((2, 3))
            m, n = mean_a[..., 0, 0], mean_b[..., 0, 0]
            c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
            bright = (2 * m * n + c1) / (m**2 + n**2 + c1)
            values.append(bright * (2 * both + c2) / (var_a + var_b + c2))
    return float(1 - np.mean(values))


def gram_formula(student: Side, teacher: Side, term: Any) -> float:
    total = 0.0
    for ours, theirs in zip(student.features, teacher.features, strict=True):
        _, c, h, w = ours.shape
        gap = [np.einsum("nchw,ndhw->ncd", a, a) / (c * h * w) for a in (ours, theirs)]
        total += np.abs(gap[0] - gap[1]).mean()
    return float(total)


def features_formula(student: Side, teacher: Side, term: Any) -> float:
    return float(np.abs(student.features[1] - teacher.features[1]).mean())


def variation_formula(student: Side, teacher: Side, term: Any) -> float:
    (image,) = student.image
    total = 0.0
    for rows in image.reshape(-1, SIDE, SIDE):
        total += sum(np.abs(a - b).sum() for a, b in pairwise(rows))
        total += sum(np.abs(a - b).sum() for a, b in pairwise(rows.T))
    return float(total / 2)


def alignment_formula(student: Side, teacher: Side, term: Any) -> float:
    total = 0.0
    for ours, theirs in zip(student.activations, teacher.activations, strict=True):
        x, y = ours.reshape(2, -1), theirs.reshape(2, -1)
        product = np.trace(x @ x.T @ (y @ y.T).T)
        total += 1 - product / (np.linalg.norm(x @ x.T) * np.linalg.norm(y @ y.T))
    return float(total)


def related(parts: Array) -> tuple[Array, Array]:
    """Distances over their mean, and cosines at every part, of (P, D)."""
    gaps = parts[None] - parts[:, None]
    distances = np.linalg.norm(gaps, axis=2)
    units = gaps / np.where(distances, distances, 1)[..., None]
    return distances / distances[distances > 0].mean(), np.einsum("ijd,ikd->ijk", units, units)


def relations_formula(student: Side, teacher: Side, term: Any) -> float:
    total = 0.0
    side = SIDE // 8
    for ours, theirs in zip(student.image[0], teacher.image[0], strict=True):
        for cut in (
            lambda x: [x[:, i] for i in range(SIDE)],
            lambda x: [x[:, :, i] for i in range(SIDE)],
            lambda x: [x[:, side * i : side * (i + 1), side * j : side * (j + 1)]
                       for i in range(8) for j in range(8)],
        ):  # fmt: skip
            pairs = [related(np.stack([part.ravel() for part in cut(x)])) for x in (ours, theirs)]
            (distances, angles), (wanted, turned) = pairs
            total += smooth_l1(distances, wanted) + 2 * smooth_l1(angles, turned)
    return float(total / 2)


def consistency_formula(student: Side, teacher: Side, term: Any) -> float:
    """With fewer places than are drawn, all of them count, in whatever order."""
    total = 0.0
    for ours, theirs in zip(student.activations, teacher.activations, strict=True):
        both = []
        for layer in (ours, theirs):
            flat = layer.reshape(2, layer.shape[1], -1)
            flat = flat / np.linalg.norm(flat, axis=1, keepdims=True)
            powers = np.exp(np.einsum("ncp,ncq->npq", flat, flat))
            both.append(powers / powers.sum(2, keepdims=True))
        p, q = both
        m = (p + q) / 2
        total += ((p * np.log(p / m) + q * np.log(q / m)).sum(2) / 2).mean()
    return float(total)


def discriminator_formula(student: Side, teacher: Side, term: Any) -> float:
    pairs = zip(student.judged, teacher.judged, strict=True)
    return float(sum(np.abs(a - b).mean() for a, b in pairs))


FORMULAS: dict[str, Callable[..., float]] = {
    "recon": recon_formula,
    "lpips": lpips_formula,
    "distill": distill_formula,
    "ssim": ssim_formula,
    "gram": gram_formula,
    "features": features_formula,
    "variation": variation_formula,
    "alignment": alignment_formula,
    "relations": relations_formula,
    "consistency": consistency_formula,
    "discriminator": discriminator_formula,
}


def brightness_formula(student: Side, teacher: Side, term: Any) -> float:
    means = [[channel.mean() for image in s.image[0] for channel in image]
             for s in (student, teacher)]  # fmt: skip
    return float(np.abs(np.subtract(*means)).mean())


FORMULAS["brightness"] = brightness_formula
LOOKS_AT = {
    "lpips": "features", "gram": "features", "features": "features",
    "distill": "activations", "alignment": "activations", "consistency": "activations",
    "discriminator": "judged",
}  # fmt: skip


@pytest.fixture
def with_heads(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> Setting:
    """LPIPS heads that fit the made-up activations."""
    heads = [nn.Conv2d(layer.shape[1], 1, 1, bias=False) for layer in STUDENT.features]
    for head in heads:
        head.requires_grad_(False).weight.abs_()
    monkeypatch.setattr(setting.observers.backbone, "heads", heads)
    return setting


def value_of(term: Term[Any], student: Output, goal: Goal) -> Tensor:
    with torch.no_grad():
        context = term.prepare(goal)
    return term(student, context)


# recon has one formula for each of its distances
CASES = [*((name, "l1") for name in TERMS), ("recon", "l2"), ("recon", "smooth_l1")]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_term_has_the_value_and_gradient_of_its_formula(
    with_heads: Setting, name: str, kind: str
) -> None:
    setting = replace(with_heads, loss=DistillLossOptions(recon=kind))  # type: ignore[arg-type]
    formula = FORMULAS[name] if name != "recon" else partial(recon_formula, kind=kind)
    term = TERMS[name](setting)
    output = as_output(STUDENT, setting, tensors(LARGEST.image)[0])
    value = value_of(term, output, as_goal(TEACHER, setting.observers))
    assert value.shape == ()
    assert float(value.detach()) == pytest.approx(formula(STUDENT, TEACHER, term), rel=1e-4)
    value.backward()
    seen = {key for key, found in shown(output).items() if any(t.grad is not None for t in found)}
    assert seen == {LOOKS_AT.get(name, "image")}
    for seed in range(4):
        direction, step = made_up(10 + seed, (4, 6)), 1e-6
        ahead, behind = (
            formula(STUDENT.moved(sign * step, direction), TEACHER, term) for sign in (1, -1)
        )
        slope = sum(
            float((tensor.grad.double() * torch.tensor(array)).sum())
            for key, found in shown(output).items()
            for tensor, array in zip(found, getattr(direction, key), strict=True)
            if tensor.grad is not None
        )
        assert slope == pytest.approx((ahead - behind) / (2 * step), rel=2e-3, abs=1e-6)


def test_similarity_counts_in_grey_levels(setting: Setting) -> None:
    """The constants of SSIM matter where contrasts are as faint as they are."""
    student, teacher = (
        replace(side, image=[0.9 + 0.04 * side.image[0]]) for side in (STUDENT, TEACHER)
    )
    term = TERMS["ssim"](setting)
    value = value_of(term, as_output(student, setting), as_goal(teacher, setting.observers))
    assert float(value.detach()) == pytest.approx(ssim_formula(student, teacher, term), rel=2e-4)


def test_every_term_has_a_formula_here() -> None:
    assert FORMULAS.keys() == TERMS.keys()
    assert PIXELS.keys() == RECON_LOSSES.keys()


@every_term
def test_term_is_zero_for_the_goal_itself_and_grows_with_the_distance(
    with_heads: Setting, name: str
) -> None:
    """The total variation has its zero where there is one colour, whatever the goal."""
    setting = replace(with_heads, inherited=True, inplace=0.0)
    goal = replace(TEACHER, image=[np.full((2, 3, SIDE, SIDE), 0.3)])
    teacher = goal if name == "variation" else TEACHER
    noise = made_up(5, (8, 12))
    term = TERMS[name](setting)
    values = []
    for step in (0.0, 0.05, 0.4):
        output = as_output(teacher.moved(step, noise), setting)
        value = value_of(term, output, as_goal(teacher, setting.observers))
        value.backward()
        given = [t.grad for found in shown(output).values() for t in found if t.grad is not None]
        assert all(bool(torch.isfinite(gradient).all()) for gradient in given)
        values.append(float(value.detach()))
    assert values[0] == pytest.approx(0, abs=1e-5)
    assert values[0] < values[1] < values[2]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("level", [-1.0, 0.0, 1.0])
@every_term
def test_term_is_finite_for_flat_images_and_silent_activations(
    setting: Setting, name: str, level: float, precision: str
) -> None:
    observers = replace(setting.observers, autocast=in_precision(precision))
    setting = replace(setting, observers=observers)
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    flat = torch.full((2, 3, 32, 32), level)
    silent = [torch.zeros(2, 4, 8, 8, dtype=kind), torch.zeros(2, 6, 4, 4, dtype=kind)]
    rng = torch.Generator()
    wide = [torch.zeros(2, 8, 8, 8, dtype=kind), torch.zeros(2, 12, 4, 4, dtype=kind)]
    goals = [
        Goal(flat, flat, wide, observers, rng),
        Goal(flat, torch.rand(2, 3, 32, 32) * 2 - 1, [torch.randn_like(t) for t in wide],
             observers, rng),
    ]  # fmt: skip
    term = TERMS[name](setting)
    for goal in goals:
        image = flat.clone().requires_grad_()
        activations = [t.clone().requires_grad_() for t in silent]
        output = Output(flat, image, activations, observers, NARROW, flat.clone())
        value = value_of(term, output, goal)
        value.backward()
        assert bool(torch.isfinite(value))
        assert value.dtype == torch.float32
        gradients = [t.grad for t in (image, *activations) if t.grad is not None]
        assert gradients
        assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


# -- single terms ---------------------------------------------------------------------------


def test_networks_look_at_an_image_once_for_all_terms(setting: Setting) -> None:
    calls = {"backbone": 0, "judge": 0}
    observers = setting.observers
    assert observers.backbone is not None
    assert observers.discriminator is not None

    def count(name: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            calls[name] += 1

        return hook

    hooks = [
        observers.backbone.backbone.register_forward_hook(count("backbone")),
        observers.discriminator.register_forward_hook(count("judge")),
    ]
    loss = DistillLossOptions(
        lambda_lpips=1, terms={"gram": 1, "features": 1, "discriminator": 1}, lambda_distill=0
    )
    terms = Terms(replace(setting, loss=loss))
    image = torch.rand(2, 3, 32, 32) * 2 - 1
    contexts = terms.prepare(Goal(image, image, [], observers, torch.Generator()))
    assert calls == {"backbone": 1, "judge": 1}
    terms(Output(image, image, [], observers, FULL, None), contexts)
    assert calls == {"backbone": 2, "judge": 2}
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("paired", [False, True])
def test_discriminator_sees_what_it_was_trained_on(paired: bool) -> None:
    judge = new_discriminator(DiscriminatorOptions(ndf=4, n_layers=2), 6 if paired else 3).module
    observers = Observers(None, judge.eval(), paired, in_precision("fp32"))
    inputs, image = torch.rand(2, 2, 3, 32, 32) * 2 - 1
    found = Goal(inputs, image, [], observers, torch.Generator()).judged
    x = torch.cat([inputs, image], 1) if paired else image
    wanted = []
    for layer in judge.get_submodule("model").children():
        x = layer(x)
        if isinstance(layer, nn.LeakyReLU):
            wanted.append(x)
    assert len(wanted) == 3
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.equal(ours, theirs)


def test_what_a_step_is_compared_with_has_no_gradient(setting: Setting) -> None:
    loss = DistillLossOptions(
        lambda_recon=0, lambda_distill=0, terms={"ssim": 1, "gram": 1, "discriminator": 1}
    )
    image = torch.zeros(2, 3, 32, 32, requires_grad=True)
    goal = Goal(image, image, [], setting.observers, torch.Generator())
    contexts = Terms(replace(setting, loss=loss)).prepare(goal)
    kept = [contexts["ssim"], *contexts["gram"], *contexts["discriminator"]]
    assert not any(tensor.requires_grad for tensor in kept)


def test_adapters_are_as_wide_as_the_subnet_and_learn(setting: Setting) -> None:
    term = TERMS["distill"](setting)
    assert isinstance(term, MatchedActivations)
    value_of(term, as_output(STUDENT, setting), as_goal(TEACHER, setting.observers)).backward()
    for conv, width in zip(term.convs, (4, 6), strict=True):
        assert conv.weight.grad is not None
        assert bool(conv.weight.grad[:, :width].abs().sum() > 0)
        assert not conv.weight.grad[:, width:].any()


def test_places_that_are_compared_depend_on_the_steps_random_numbers_alone(
    setting: Setting,
) -> None:
    setting = replace(setting, taps=TAPS[:1])
    image, theirs, ours = (
        torch.zeros(2, 3, 8, 8),
        torch.randn(2, 8, 20, 20),
        torch.randn(2, 4, 20, 20),
    )

    def value(seed: int) -> float:
        rng = torch.Generator().manual_seed(seed)
        goal = Goal(image, image, [theirs], setting.observers, rng)
        output = Output(image, image, [ours], setting.observers, NARROW, None)
        return float(value_of(TERMS["consistency"](setting), output, goal))

    before = torch.get_rng_state()
    first = value(1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(77)
    assert value(1) == first
    assert value(2) != first


@pytest.mark.parametrize("name", ["distill", "consistency"])
def test_activations_of_two_sizes_are_refused_by_name(setting: Setting, name: str) -> None:
    student = replace(STUDENT, activations=[a[:, :, 1:] for a in STUDENT.activations])
    with pytest.raises(ConfigError, match=r"loss\.taps: 'layers\.0' of the student gives 4x4 act"):
        value_of(
            TERMS[name](setting), as_output(student, setting), as_goal(TEACHER, setting.observers)
        )


def test_kernel_alignment_takes_activations_of_any_size(setting: Setting) -> None:
    student = replace(STUDENT, activations=[a[:, :, 1:] for a in STUDENT.activations])
    goal = as_goal(TEACHER, setting.observers)
    value = value_of(TERMS["alignment"](setting), as_output(student, setting), goal)
    assert 0 < float(value.detach()) < 2


def test_kernel_alignment_of_one_image_is_refused(setting: Setting) -> None:
    with pytest.raises(ConfigError, match=r"set schedule\.batch_size to 2 or more"):
        TERMS["alignment"](replace(setting, batch_size=1))


def test_similarity_of_images_below_its_window_is_refused(setting: Setting) -> None:
    image = torch.zeros(1, 3, 8, 12)
    goal = Goal(image, image, [], setting.observers, torch.Generator())
    with pytest.raises(ConfigError, match=r"data\.crop_size of at least 11"):
        TERMS["ssim"](setting).prepare(goal)


# -- weights ----------------------------------------------------------------------------------


def test_terms_have_the_order_of_their_table_and_only_those_with_a_weight() -> None:
    assert term_weights(DistillLossOptions()) == {"recon": 100.0, "distill": 1.0}
    loss = DistillLossOptions(
        lambda_recon=0, lambda_lpips=3, terms={"gram": 1e4, "ssim": 10, "features": 0}
    )
    assert list(term_weights(loss).items()) == [
        *(("lpips", 3.0), ("distill", 1.0), ("ssim", 10.0), ("gram", 1e4))
    ]


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"ssmi": 1}, r"unknown loss term 'ssmi'; did you mean 'ssim'\?\n  Choose from alignment,"),
        ({"recon": 1}, r"loss\.terms\.recon: this weight is loss\.lambda_recon"),
        ({"gan": 1}, r"loss\.terms\.gan: this weight is loss\.lambda_gan"),
        ({"nothing": 0}, r"unknown loss term 'nothing'"),
    ],
)
def test_wrong_name_of_a_term_is_answered(terms: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DistillLossOptions(terms=terms)


def test_negative_weight_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        DistillLossOptions(terms={"ssim": -1})


def test_term_without_weight_is_not_built_and_needs_nothing(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Setting) -> Any:
        raise AssertionError("built")

    for name in TERMS.keys() - {"variation"}:
        monkeypatch.setitem(TERMS, name, replaced(TERMS[name], refuse))
    loss = DistillLossOptions(
        lambda_recon=0, lambda_distill=0, terms={"variation": 2, "ssim": 0, "gram": 0}
    )
    assert needs(loss) == frozenset()
    terms = Terms(replace(setting, loss=loss))
    assert terms.table.keys() == {"variation"}
    assert list(terms.parameters()) == []


def replaced(term: type[Term[Any]], build: Callable[[Setting], Any]) -> Any:
    return type(term.__name__, (), {"needs": term.needs, "__new__": lambda _, s: build(s)})


def test_total_is_the_weighted_sum(with_heads: Setting) -> None:
    loss = DistillLossOptions(
        lambda_recon=7, lambda_distill=0.5, terms={"variation": 1e-3, "gram": 20}
    )
    terms = Terms(replace(with_heads, loss=loss))
    contexts = terms.prepare(as_goal(TEACHER, with_heads.observers))
    values = terms(as_output(STUDENT, with_heads), contexts)
    found = {name: float(value.detach()) for name, value in values.items()}
    assert found.keys() == {"recon", "distill", "variation", "gram"}
    wanted = 7 * found["recon"] + 0.5 * found["distill"]
    wanted += 1e-3 * found["variation"] + 20 * found["gram"]
    assert float(terms.total(values).detach()) == pytest.approx(wanted, rel=1e-5)


# -- which networks ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["largest", "smallest"])
def test_extracted_subnet_is_seen_as_its_view_in_the_supernet_is(name: str) -> None:
    subnet: Subnet = getattr(NET.space, name)()
    inside, alone = SubnetView(NET, subnet), WholeView(NET.extract(subnet))
    layers, x = [tap.student for tap in TAPS], torch.rand(2, 3, 16, 16)
    (image, found), (wanted, features) = inside(x, layers), alone(x, layers)
    assert torch.equal(image, wanted)
    for tap in TAPS:
        assert torch.equal(found[tap.student], features[tap.student])
        weight = torch.rand(tap.channels, tap.width, 1, 1)
        narrow = inside.narrow(weight, tap.student)
        assert narrow.shape[1] == found[tap.student].shape[1]
        assert torch.equal(alone.narrow(narrow, tap.student), narrow)


# -- the adversary ----------------------------------------------------------------------------


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("mode", ["hinge", "lsgan", "vanilla"])
def test_adversary_gives_both_players_their_gradients(mode: Any, paired: bool) -> None:
    judge = new_discriminator(DiscriminatorOptions(ndf=4, n_layers=2), 6 if paired else 3)
    loss = DistillLossOptions(gan_mode=mode, lambda_gan=3)
    schedule = ScheduleOptions(num_images=1, precision="fp32")
    adversary = Adversary(judge, loss, schedule, paired, CPU)
    inputs, real, *fakes = torch.rand(4, 2, 3, 32, 32) * 2 - 1

    def scores(image: Tensor) -> Tensor:
        seen = torch.cat([inputs, image], 1) if paired else image
        result: Tensor = judge.module(seen)
        return result

    for fake in fakes:
        image, other = fake.clone().requires_grad_(), fake.clone().requires_grad_()
        game, losses = adversary.play(inputs, image, len(fakes))
        wanted = generator_gan_loss(mode, scores(other))
        (gradient,) = torch.autograd.grad(3 * wanted, other)
        (found,) = torch.autograd.grad(game, image)
        torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-7)
        assert float(losses["G_gan"].detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    adversary.see_real(inputs, real)
    parameters = list(judge.module.parameters())
    found_d = [parameter.grad for parameter in parameters]
    both = discriminator_real_loss(mode, scores(real))
    both = both + sum(discriminator_fake_loss(mode, scores(fake)) for fake in fakes) / len(fakes)
    for ours, theirs in zip(found_d, torch.autograd.grad(0.5 * both, parameters), strict=True):
        assert ours is not None
        scale = max(float(theirs.abs().max()), 1e-3)
        assert float((ours - theirs).abs().max()) < 1e-4 * scale


def test_adversary_continues_from_its_state() -> None:
    schedule, loss = ScheduleOptions(num_images=1, precision="fp32"), DistillLossOptions()
    inputs, real, fake = torch.rand(3, 2, 3, 32, 32) * 2 - 1

    def fresh() -> Adversary:
        judge = new_discriminator(DiscriminatorOptions(ndf=4, n_layers=2), 3)
        return Adversary(judge, loss, schedule, False, CPU)

    def train(adversary: Adversary) -> None:
        adversary.optim.zero_grad()
        adversary.play(inputs, fake.clone().requires_grad_(), 1)
        adversary.see_real(inputs, real)
        adversary.optim.step()

    whole, second = fresh(), fresh()
    train(whole)
    state = copy.deepcopy({"others": 1, **whole.state_dict()})
    second.load_state_dict(state)
    train(whole)
    train(second)
    ours, theirs = second.discriminator.state_dict(), whole.discriminator.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
