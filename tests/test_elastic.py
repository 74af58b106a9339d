"""The core invariant: a subnet run as slices of the supernet is the extracted subnet, exactly."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from helpers import with_norms
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gancompress.config import GeneratorOptions
from gancompress.elastic import (
    Group,
    Parts,
    SearchSpace,
    Subnet,
    Supernet,
    Tie,
    Width,
    calibrate,
    calibrated,
    channel_importance,
    fit,
    make_space,
    ready_subnet,
    sort_channels,
    trace,
)
from gancompress.errors import CheckpointError, SpaceError
from gancompress.models import GENERATORS, build_generator, init_weights
from gancompress.models.resnet import SHORT_FORM, resnet_ties

NUM_SUBNETS = 10  # for each norm
NORMS = ("instance", "batch")
NEAREST = ("resnet_6blocks nearest", "unet_64 nearest")  # up-sampling without transposed layers
every_generator = pytest.mark.parametrize("name", [*GENERATORS, *NEAREST])
every_norm = pytest.mark.parametrize("norm", NORMS)
# one of each kind of channel group, where more would only take longer
few_generators = pytest.mark.parametrize(
    "name", ["resnet_6blocks", "mobile_resnet_6blocks", "unet_64"]
)


def make_generator(name: str, norm: str = "instance", ngf: int = 8) -> nn.Module:
    family, _, nearest = name.partition(" ")
    upsampling = "nearest" if nearest else "transposed"
    options = GeneratorOptions.model_validate(
        {
            "name": family,
            "input_nc": 3,
            "output_nc": 3,
            "ngf": ngf,
            "norm": norm,
            "upsampling": upsampling,
        }
    )
    generator = init_weights(build_generator(options))
    for layer in generator.modules():  # as after training: no two channels alike
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.bias, 0.0, 0.1)
            nn.init.normal_(layer.running_mean, 0.0, 0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return generator.eval()


def make_supernet(name: str, norm: str = "instance") -> Supernet:
    return Supernet(make_generator(name, norm), example(name), divisor=1).eval()


def example(name: str, batch: int = 1) -> Tensor:
    side = side_of(name)
    return torch.randn(batch, 3, side, side).clamp(-1, 1)


def side_of(name: str) -> int:
    return max(32, GENERATORS[name.partition(" ")[0]].stride)


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def flops(module: nn.Module, height: int, width: int) -> int:
    with FlopCounterMode(display=False) as counter:
        module.to("meta")(torch.empty(1, 3, height, width, device="meta"))
    return counter.get_total_flops()


# ----------------------------------------------------------- supernet and extracted subnet


@pytest.mark.parametrize(("name", "norm"), with_norms([*GENERATORS, *NEAREST], NORMS))
@torch.inference_mode()
def test_supernet_computes_what_the_extracted_subnet_computes(name: str, norm: str) -> None:
    net, x, rng = make_supernet(name, norm), example(name), random.Random(1)
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    assert torch.equal(net(x, net.space.largest()), net.generator(x))
    for _ in range(NUM_SUBNETS):
        subnet = net.space.sample(rng)
        small = net.extract(subnet)
        assert torch.equal(net(x, subnet), run_checked(small, x)), subnet
        assert net.num_parameters(subnet) == sum(p.numel() for p in small.parameters())
    assert all(torch.equal(before[key], tensor) for key, tensor in net.state_dict().items())


def run_checked(module: nn.Module, x: Tensor) -> Tensor:
    """The output; every layer's widths must be those of its tensors and of what it is given."""
    hooks = [
        layer.register_forward_pre_hook(_check_input)
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.InstanceNorm2d | nn.BatchNorm2d)
    ]
    out = module(x)
    for hook in hooks:
        hook.remove()
    return out


def _check_input(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    channels = inputs[0].shape[1]
    if isinstance(layer, nn.InstanceNorm2d | nn.BatchNorm2d):
        assert layer.num_features == channels
        return
    assert layer.in_channels == channels
    if isinstance(layer, nn.ConvTranspose2d):
        assert layer.weight.shape[:2] == (layer.in_channels, layer.out_channels)
    else:
        assert layer.weight.shape[:2] == (layer.out_channels, layer.in_channels // layer.groups)
    if layer.groups > 1:
        assert layer.groups == layer.in_channels == layer.out_channels


@every_generator
def test_macs_are_those_of_torchs_counter_at_any_size(name: str) -> None:
    net, rng, side = make_supernet(name), random.Random(2), side_of(name)
    for height, width in ((side, side), (2 * side, 3 * side)):
        subnet = net.space.sample(rng)
        assert 2 * net.macs(subnet, (height, width)) == flops(net.extract(subnet), height, width)
    assert net.macs(subnet, side) == net.macs(subnet, (side, side))


@pytest.mark.parametrize("place", [{"device": "meta"}, {"dtype": torch.float64}], ids=str)
def test_costs_and_extraction_follow_the_supernets_device_and_type(
    place: dict[str, object], rng: random.Random
) -> None:
    net = make_supernet("resnet_6blocks", "batch")
    subnet = net.space.sample(rng)
    macs = net.macs(subnet, 48)
    moved = make_supernet("resnet_6blocks", "batch").to(**place)
    assert moved.macs(subnet, 48) == macs
    for tensor in moved.extract(subnet).parameters():
        expected = torch.empty(0, **place)
        assert (tensor.dtype, tensor.device) == (expected.dtype, expected.device)


@few_generators
@every_norm
def test_extraction_leaves_no_tensor_of_the_old_module(
    name: str, norm: str, rng: random.Random
) -> None:
    net = make_supernet(name, norm)
    target = make_generator(name, norm)
    for tensor in tensors_of(target).values():
        tensor.data.fill_(torch.nan if tensor.is_floating_point() else -1)
    subnet = net.space.sample(rng)
    fit(target, net.narrowed(subnet), tuple(example(name).shape))
    assert all(tensor.isfinite().all() for tensor in tensors_of(target).values())
    x = example(name)
    assert torch.equal(target(x), net(x, subnet))


def test_extracted_subnet_shares_no_memory_with_the_supernet(rng: random.Random) -> None:
    net = make_supernet("resnet_6blocks", "batch")
    small = net.extract(net.space.largest())
    for tensor in tensors_of(small).values():
        tensor.data.zero_()
    assert all(p.abs().sum() > 0 for p in net.generator.parameters() if p.ndim == 4)


@few_generators
@every_norm
def test_gradients_of_a_subnet_reach_only_its_own_channels(name: str, norm: str) -> None:
    net = make_supernet(name, norm).train()
    subnet = net.space.smallest()
    net(example(name), subnet).square().mean().backward()
    reached = 0
    for key, parameter in net.generator.named_parameters():
        own = first_channels(net, subnet, key, parameter)
        assert parameter.grad is not None, key
        assert not parameter.grad[~own].any(), key
        reached += bool(parameter.grad[own].any())
        assert parameter.ndim != 4 or parameter.grad[own].any(), key
    assert reached > 0


def first_channels(net: Supernet, subnet: Subnet, key: str, tensor: Tensor) -> Tensor:
    """Mask of the elements that lie within the first channels of every segment."""
    widths = net.space.channels(subnet)
    mask = torch.ones(tensor.shape, dtype=torch.bool)
    for dim, parts in enumerate(net.traced.parameters.get(key, ())):
        if parts is None:
            continue
        kept: list[bool] = []
        for part in parts.segments:
            fixed = isinstance(part, int)
            total, first = (part, part) if fixed else (part.size, widths[part.name])
            kept += [True] * first + [False] * (total - first)
        shape = [1] * tensor.ndim
        shape[dim] = len(kept)
        mask = mask & torch.tensor(kept).view(shape)
    return mask


def test_weight_behind_a_concatenation_is_sliced_in_two_places(rng: random.Random) -> None:
    net = make_supernet("unet_64")
    key, skip, below = "model.model.3.weight", "model.model.0", "model.model.1.model.5"
    groups = {group.name: group for group in net.traced.groups}
    assert net.traced.parameters[key][0] == Parts((groups[skip], groups[below]))
    full = groups[skip].size
    for subnet in itertools.islice(iter(lambda: net.space.sample(rng), None), NUM_SUBNETS):
        widths = net.space.channels(subnet)
        weight = net.generator.get_parameter(key)
        expected = torch.cat([weight[: widths[skip]], weight[full : full + widths[below]]])
        assert torch.equal(net.narrowed(subnet)[key], expected)


def test_features_are_captured_at_the_subnets_width(rng: random.Random) -> None:
    net = make_supernet("resnet_6blocks")
    subnet, x = net.space.sample(rng), example("resnet_6blocks")
    out, features = net.with_features(x, subnet, ["model.9", "model.15"])
    trunk = net.space.channels(subnet)["model.7"]
    assert {name: value.shape[1] for name, value in features.items()} == {
        "model.9": trunk,
        "model.15": trunk,
    }
    assert torch.equal(out, net(x, subnet))
    net(x, subnet)
    assert len(features) == 2


def test_fit_refuses_tensors_that_do_not_belong_together() -> None:
    name = "resnet_6blocks"
    shape = tuple(example(name).shape)
    tensors = {key: tensor.detach() for key, tensor in tensors_of(make_generator(name)).items()}
    wrong = {
        "missing model.1.weight": {k: v for k, v in tensors.items() if k != "model.1.weight"},
        "unknown extra": {**tensors, "extra": torch.zeros(1)},
        "model.1.bias is": {**tensors, "model.1.bias": torch.zeros(8, 1)},
        "do not fit together": {**tensors, "model.4.weight": tensors["model.4.weight"][:, :4]},
    }
    for message, content in wrong.items():
        with pytest.raises(CheckpointError, match=message):
            fit(make_generator(name), content, shape)


# ------------------------------------------------------------------- known numbers, groups


def test_cyclegan_generator_has_the_published_costs() -> None:
    generator = build_generator(
        GeneratorOptions(input_nc=3, output_nc=3, name="resnet_9blocks", ngf=64)
    )
    net = Supernet(generator, torch.empty(1, 3, 256, 256))
    largest = net.space.largest()
    assert net.num_parameters(largest) == 11_378_179
    assert net.macs(largest, 256) == 49_551_507_456
    assert net.macs(largest, 256, paper=True) == 56_799_264_768


@pytest.mark.parametrize("separable", [False, True])
def test_resnet_groups_are_the_layers_that_config_strings_number(separable: bool) -> None:
    name = "mobile_resnet_9blocks" if separable else "resnet_9blocks"
    inner = ".conv_block.1.conv.2" if separable else ".conv_block.1"
    expected = {"model.1": 8, "model.4": 16, "model.7": 32}
    expected |= {f"model.{block}{inner}": 32 for block in range(10, 19)}
    expected |= {"model.19": 16, "model.22": 8}
    groups = trace(make_generator(name), (1, 3, 32, 32)).groups
    assert [(group.name, group.size) for group in groups] == list(expected.items())
    ties = [Tie(*tie) for tie in resnet_ties(expected)]
    space = make_space(groups, (0.5, 1.0), 1, ties, {6: SHORT_FORM[6]})
    assert str(space.largest()) == "_".join(["8"] * 8)
    assert all(len(set(map(expected.get, tie.groups))) == 1 for tie in ties)
    assert sorted(name for tie in ties for name in tie.groups) == sorted(expected)


@every_generator
def test_every_channel_of_the_network_belongs_to_a_group(name: str) -> None:
    generator = make_generator(name)
    traced = trace(generator, tuple(example(name).shape))
    convolutions = [
        key for key, module in generator.named_modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    ]  # fmt: skip
    assert [op.weight for op, *_ in traced.operations] == [f"{key}.weight" for key in convolutions]
    image_ends = {convolutions[0], "model.model.3", convolutions[-1]}
    for key in set(convolutions) - image_ends:
        dims = traced.parameters[f"{key}.weight"]
        assert dims[0] is not None
        assert dims[1] is not None or generator.get_submodule(key).groups > 1
        assert dims[2:] == (None, None)


# ---------------------------------------------------------------------- subnets and spaces


def eight_numbers() -> SearchSpace:
    units = (1, 2, 4, 4, 4, 4, 2, 1)
    dimensions = [Width((f"layer{i}",), 32, (16, 24, 32), unit) for i, unit in enumerate(units)]
    return SearchSpace(tuple(dimensions), SHORT_FORM)


def test_subnet_is_a_value() -> None:
    subnet = Subnet((16, 32))
    assert subnet == Subnet((16, 32))
    assert len({subnet, Subnet((16, 32)), Subnet((32, 16))}) == 2
    assert str(subnet) == "16_32"
    with pytest.raises(FrozenInstanceError):
        subnet.values = (1, 1)  # type: ignore[misc]


def test_text_form_of_a_subnet_parses_back(rng: random.Random) -> None:
    space = eight_numbers()
    for _ in range(50):
        subnet = space.sample(rng)
        assert space.parse(str(subnet)) == subnet
    assert space.parse(" 16_16_32_16_32_32_16_16\n") == Subnet((16, 16, 32, 16, 32, 32, 16, 16))


def test_six_numbers_set_all_residual_blocks_at_once() -> None:
    short, long = "16_24_32_16_24_32", "16_24_32_16_16_16_24_32"
    assert eight_numbers().parse(short) == eight_numbers().parse(long)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("16_16", "has 2 widths, this space has 8"),
        ("16_16_16_16_16_16_16", "has 7 widths"),
        ("16_16_16_16_16_16_16_16_16", "has 9 widths"),
        ("16_16_a_16_16_16_16_16", "integers joined by '_'"),
        ("16-16", "integers joined by '_'"),
        ("", "integers joined by '_'"),
        ("16_16_16_16_16_16_16_33", "33 is not a width of layer7, which has 1 to 32"),
        ("0_16_16_16_16_16_16_16", "0 is not a width of layer0"),
        ("-8_16_16_16_16_16_16_16", "-8 is not a width of layer0"),
        ("16_64_16_16_16_16", "64 is not a width of layer1"),
    ],
)
def test_text_that_is_no_subnet_is_refused(text: str, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        eight_numbers().parse(text)


def test_widths_between_the_candidates_are_allowed_but_no_members() -> None:
    space = eight_numbers()
    between = space.parse("17_16_16_16_16_16_16_16")
    assert between not in space
    assert space.smallest() in space
    assert space.largest() in space
    assert Subnet((16,)) not in space
    assert "16_16" not in space


def test_sampling_is_uniform_and_repeats_under_a_seed() -> None:
    space = eight_numbers()
    draws = [space.sample(rng) for rng in [random.Random(3)] for _ in range(3000)]
    again = random.Random(3)
    assert draws[:100] == [space.sample(again) for _ in range(100)]
    assert all(draw in space for draw in draws)
    for column in zip(*(draw.values for draw in draws), strict=True):
        counts = Counter(column)
        assert all(abs(counts[choice] - 1000) < 150 for choice in (16, 24, 32))
    pairs = Counter((draw.values[0], draw.values[1]) for draw in draws)
    assert len(pairs) == 9
    assert all(abs(count - 3000 / 9) < 100 for count in pairs.values())


def test_iteration_visits_every_member_once() -> None:
    dimensions = (
        Width(("a",), 8, (2, 4, 8)),
        Width(("b",), 6, (3,)),
        Width(("c",), 4, (1, 4)),
    )
    space = SearchSpace(dimensions)
    members = list(space)
    assert len(members) == len(set(members)) == space.size == 6
    assert all(member in space for member in members)
    assert members[0] == space.smallest()
    assert members[-1] == space.largest()
    assert eight_numbers().size == 3**8


def test_groups_in_a_tie_have_one_width() -> None:
    groups = [Group("a", 16), Group("b", 32), Group("c", 16), Group("d", 64)]
    space = make_space(groups, (0.25, 1.0), 1, [Tie(("a", "c"), 2)])
    assert [d.members for d in space.dimensions] == [("a", "c"), ("b",), ("d",)]
    assert space.largest() == Subnet((8, 32, 64))
    widths = space.channels(Subnet((3, 5, 7)))
    assert widths == {"a": 6, "c": 6, "b": 5, "d": 7}


@pytest.mark.parametrize("tie", [Tie(("a", "b")), Tie(("a", "c"), 3), Tie(("a", "nowhere"))])
def test_ties_that_cannot_be_are_refused(tie: Tie) -> None:
    groups = [Group("a", 16), Group("b", 32), Group("c", 16)]
    with pytest.raises(SpaceError, match=r"cannot be tied|no channel group nowhere"):
        make_space(groups, (1.0,), 1, [tie])


@pytest.mark.parametrize("full", [1, 3, 8, 12, 20, 64, 100])
@pytest.mark.parametrize("divisor", [1, 4, 8])
def test_candidates_are_multiples_of_the_divisor_or_the_full_width(full: int, divisor: int) -> None:
    fractions = (0.1, 0.25, 0.4, 0.5, 0.75, 1.0)
    choices = make_space([Group("a", full)], fractions, divisor).dimensions[0].choices
    assert choices[-1] == full
    assert list(choices) == sorted(set(choices))
    assert all(choice % divisor == 0 for choice in choices[:-1])
    assert all(1 <= choice <= full for choice in choices)
    for fraction in fractions:
        nearest = min(abs(choice - fraction * full) for choice in choices)
        assert nearest <= divisor / 2 or fraction * full < divisor


@pytest.mark.parametrize("widths", [(), (0.0, 1.0), (1.5,), (-0.5,), (math.nan,)])
def test_fractions_out_of_range_are_refused(widths: tuple[float, ...]) -> None:
    with pytest.raises(SpaceError, match="fractions in"):
        make_space([Group("a", 8)], widths)


@pytest.mark.parametrize("choices", [(), (0, 4), (4, 9), (4, 2), (4, 4)])
def test_candidates_must_ascend_within_the_full_width(choices: tuple[int, ...]) -> None:
    with pytest.raises(SpaceError, match="must ascend"):
        Width(("a",), 8, choices)


# ------------------------------------------------------------------------ sorting channels


@pytest.mark.parametrize(("name", "norm"), with_norms([*GENERATORS, *NEAREST], NORMS))
@torch.no_grad()
def test_sorting_channels_changes_their_order_and_nothing_else(name: str, norm: str) -> None:
    generator, x = make_generator(name, norm), example(name)
    before = generator(x)
    traced = trace(generator, tuple(x.shape))
    scores = channel_importance(generator, traced)
    assert set(scores) == {group.name for group in traced.groups}
    assert any((score.diff() > 0).any() for score in scores.values())
    sort_channels(generator, traced, scores)
    assert (generator(x) - before).abs().max() < 1e-4
    for group, score in channel_importance(generator, traced).items():
        assert (score.diff() <= 1e-5 * score.max()).all(), group


def test_importance_is_the_weight_of_all_readers() -> None:
    generator = make_generator("resnet_6blocks")
    scores = channel_importance(generator, trace(generator, (1, 3, 32, 32)))
    readers = [f"model.{block}.conv_block.1.weight" for block in range(10, 16)]
    weights = [generator.get_parameter(name).detach().abs() for name in readers]
    up = generator.get_parameter("model.16.weight").detach().abs()
    expected = sum(weight.sum((0, 2, 3)) for weight in weights) + up.sum((1, 2, 3))
    torch.testing.assert_close(scores["model.7"], expected)


class FixedKernel(nn.Module):
    """Convolves with a buffer."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 3, 1)
        self.register_buffer("kernel", torch.randn(16, 16, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(F.conv2d(self.first(x), self.kernel, padding=1))
        return out


def test_importance_counts_kernels_that_are_buffers() -> None:
    generator = FixedKernel()
    scores = channel_importance(generator, trace(generator, (1, 3, 8, 8)))
    torch.testing.assert_close(scores["first"], generator.kernel.abs().sum((0, 2, 3)))


# ------------------------------------------------------------------------------ calibration


@cache
def calibration_batches() -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(5)
    return tuple(torch.rand(size, 3, 64, 64, generator=generator) * 2 - 1 for size in (4, 1, 3))


@torch.no_grad()
def independent_statistics(module: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """Means over batches of every batch norm's input mean and unbiased variance."""
    seen: dict[str, list[Tensor]] = {}
    hooks = [
        layer.register_forward_pre_hook(
            lambda _, inputs, name=name: seen.setdefault(name, []).append(inputs[0])
        )
        for name, layer in module.named_modules()
        if isinstance(layer, nn.BatchNorm2d)
    ]
    module.train()  # normalised by the batch, so that running statistics play no part
    for batch in calibration_batches():
        module(batch)
    for hook in hooks:
        hook.remove()
    return {
        name: (
            torch.stack([v.mean((0, 2, 3)) for v in values]).mean(0),
            torch.stack([v.transpose(0, 1).flatten(1).var(1) for v in values]).mean(0),
        )
        for name, values in seen.items()
    }


@few_generators
def test_calibration_is_the_mean_over_all_batches(name: str, rng: random.Random) -> None:
    net = make_supernet(name, "batch")
    subnet = net.space.sample(rng)
    expected = independent_statistics(net.extract(subnet))
    small = net.extract(subnet)
    assert calibrate(small, calibration_batches())
    assert not small.training
    norms = {n: m for n, m in small.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert norms.keys() == expected.keys()
    for key, norm in norms.items():
        mean, variance = expected[key]
        torch.testing.assert_close(norm.running_mean, mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.running_var, variance, rtol=1e-4, atol=1e-5)
        assert norm.momentum == 0.1
        assert not norm.training


@few_generators
@torch.no_grad()
def test_calibrated_subnets_do_not_depend_on_what_ran_before(name: str, rng: random.Random) -> None:
    net, x = make_supernet(name, "batch"), example(name, batch=2)
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    one, other = net.space.sample(rng), net.space.smallest()
    first, _, again = (
        ready_subnet(net, subnet, calibration_batches())(x) for subnet in (one, other, one)
    )
    assert torch.equal(first, again)
    assert torch.equal(first, calibrated(net, one, calibration_batches())(x))
    assert not torch.equal(first, net(x, one))
    assert all(torch.equal(before[key], tensor) for key, tensor in net.state_dict().items())


@few_generators
def test_instance_norm_needs_no_calibration_and_reads_no_image(
    name: str, rng: random.Random
) -> None:
    def unread() -> Iterator[Tensor]:
        raise AssertionError("an image was read")
        yield

    net, x = make_supernet(name), example(name)
    subnet = net.space.sample(rng)
    assert not calibrate(net.extract(subnet), unread())
    assert torch.equal(ready_subnet(net, subnet, unread())(x), net(x, subnet))
