"""Generators and discriminators: names, shapes and counts that other people's files rely on."""

from __future__ import annotations

import pytest
import torch
from helpers import with_norms
from torch import Tensor, nn

from gancompress.checkpoint.network import example_shape
from gancompress.config import DiscriminatorOptions, GeneratorOptions, Section, build
from gancompress.elastic import Tie, make_space, trace
from gancompress.errors import ConfigError
from gancompress.models import (
    DISCRIMINATORS,
    GENERATORS,
    ResnetGenerator,
    UnetGenerator,
    build_discriminator,
    build_generator,
    family_of,
    init_weights,
)
from gancompress.models.blocks import NORMS, PADDINGS, norm_factory, upsampling_layers
from gancompress.models.configs import config_set
from gancompress.models.resnet import CONFIG_SETS, resnet_ties
from gancompress.training.student import default_taps

every_generator = pytest.mark.parametrize("name", GENERATORS)
every_discriminator = pytest.mark.parametrize("name", DISCRIMINATORS)
every_norm = pytest.mark.parametrize("norm", NORMS)


def generator(name: str, **options: object) -> nn.Module:
    values = {"name": name, "input_nc": 3, "output_nc": 3, "ngf": 8, **options}
    return build_generator(GeneratorOptions.model_validate(values))


def discriminator(name: str, input_nc: int = 6, **options: object) -> nn.Module:
    values = {"name": name, "ndf": 8, **options}
    return build_discriminator(DiscriminatorOptions.model_validate(values), input_nc)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def image(channels: int, height: int, width: int) -> Tensor:
    return torch.rand(2, channels, height, width) * 2 - 1


# ------------------------------------------------------------------------ what comes out


@pytest.mark.parametrize(("kind", "flat"), [("nearest", True), ("transposed", False)])
@pytest.mark.parametrize("kernel", [3, 4])
def test_nearest_upsampling_leaves_no_checkerboard(kind: str, flat: bool, kernel: int) -> None:
    up = nn.Sequential(*upsampling_layers(kind, 4, 6, kernel, bias=True))
    with torch.no_grad():
        out = up(torch.randn(1, 4, 1, 1).expand(1, 4, 8, 12))
    assert out.shape == (1, 6, 16, 24)
    inner = out[..., 2:-2, 2:-2]
    assert bool(torch.allclose(inner, inner[..., :1, :1], atol=1e-6)) == flat


@pytest.mark.parametrize(
    "name", [n for n, f in DISCRIMINATORS.items() if "spectral_norm" in f.takes]
)
def test_spectral_norm_bounds_every_kernel_and_trains_the_stored_weight(name: str) -> None:
    net = init_weights(discriminator(name, norm="none", spectral_norm=True))
    convs = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    for _ in range(50):  # one power iteration each
        scores = net(image(6, 32, 32))
    for conv in convs:
        largest = torch.linalg.matrix_norm(conv.weight.detach().flatten(1), 2)
        assert float(largest) == pytest.approx(1, abs=0.02)
    scores.mean().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    stored = [n for n in net.state_dict() if n.endswith("weight.original")]
    assert len(stored) == len(convs)
    assert 0.01 < float(net.state_dict()[stored[0]].std()) < 0.03  # initialised, not 1/sqrt(fan)


@pytest.mark.parametrize(("name", "norm"), with_norms(GENERATORS, NORMS))
def test_generator_gives_an_image_of_the_same_size(name: str, norm: str) -> None:
    side = max(32, GENERATORS[name].stride)
    net = generator(name, norm=norm, input_nc=2, output_nc=5)
    x = image(2, side, 2 * side)
    for mode in (True, False):
        out = net.train(mode)(x)
        assert out.shape == (2, 5, side, 2 * side)
        assert out.abs().max() <= 1
        assert out.std() > 0


@every_generator
def test_record_is_true_of_the_generator(name: str) -> None:
    family = GENERATORS[name]
    options = GeneratorOptions.model_validate(
        {"name": name, "input_nc": 2, "output_nc": 5, "ngf": 8, **family.student}
    )
    net = build_generator(options).eval()
    assert type(net) is family.module
    assert family_of(net) is not None
    (entering,), (leaving,) = family.inputs(options), family.outputs(options)
    x = image(entering.channels, 3 * family.stride, 5 * family.stride)
    assert net(x).shape == (2, leaving.channels, *x.shape[2:])
    side = example_shape(2, family.stride)[-1]
    traced = trace(net, (1, 2, side, side))
    ties = [Tie(*tie) for tie in family.ties([group.name for group in traced.groups])]
    space = make_space(traced.groups, (0.5, 1.0), 1, ties)
    for length, positions in family.forms.items():
        assert (len(positions), len(set(positions))) == (len(space), length)
    assert {len(choices) for choices in family.config_sets.values()} <= {len(space)}
    assert set(default_taps(net, traced)) <= traced.outputs.keys()


@pytest.mark.parametrize(
    "name", [n for n, family in GENERATORS.items() if family.module is ResnetGenerator]
)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("dropout", [None, 0.0, 0.5])
def test_resnet_blocks_keep_their_size_in_every_style(
    name: str, padding: str, dropout: float | None
) -> None:
    net = generator(name, padding=padding, dropout=dropout, ngf=2).eval()
    x = image(3, 12, 16)
    assert net(x).shape == x.shape
    assert torch.equal(net(x), net(x))
    if dropout:
        assert not torch.equal(net.train()(x), net(x))


@every_discriminator
@every_norm
def test_discriminator_scores_every_patch(name: str, norm: str) -> None:
    net = discriminator(name, norm=norm)
    scores = net(image(6, 64, 96))
    expected = {"n_layers": (2, 1, 6, 10), "pixel": (2, 1, 64, 96), "toy": (2, 1, 16, 24)}
    assert scores.shape == expected[name]
    assert scores.min() < scores.max()


@pytest.mark.parametrize("n_layers", [1, 2, 3, 4, 5])
def test_patches_shrink_with_every_layer(n_layers: int) -> None:
    scores = discriminator("n_layers", n_layers=n_layers, norm="none")(image(6, 128, 128))
    assert scores.shape[2] == 128 // 2**n_layers - 2


# ------------------------------------------------------------------ other people's names


def test_resnet_module_names() -> None:
    own = shapes(generator("resnet_9blocks", norm="batch"))
    assert own["model.1.weight"] == (8, 3, 7, 7)
    assert own["model.2.running_mean"] == (8,)
    assert own["model.4.weight"] == (16, 8, 3, 3)
    assert own["model.7.weight"] == (32, 16, 3, 3)
    assert own["model.10.conv_block.1.weight"] == (32, 32, 3, 3)
    assert own["model.18.conv_block.5.weight"] == (32, 32, 3, 3)
    assert own["model.18.conv_block.6.weight"] == (32,)
    assert own["model.19.weight"] == (32, 16, 3, 3)
    assert own["model.22.weight"] == (16, 8, 3, 3)
    assert own["model.26.weight"] == (3, 8, 7, 7)
    assert own["model.26.bias"] == (3,)
    assert not any(
        name.startswith(("model.1.bias", "model.4.bias", "model.19.bias")) for name in own
    )


def test_instance_norm_has_no_tensors_and_convolutions_a_bias() -> None:
    own = shapes(generator("resnet_6blocks", norm="instance"))
    assert own["model.1.bias"] == (8,)
    assert own["model.10.conv_block.1.bias"] == (32,)
    assert own["model.16.bias"] == (16,)
    assert own["model.23.weight"] == (3, 8, 7, 7)
    assert not any(".running_" in name or name.startswith("model.2.") for name in own)


@pytest.mark.parametrize(
    ("padding", "dropout", "convolutions"),
    [
        ("reflect", None, (1, 5)),
        ("reflect", 0.0, (1, 6)),
        ("replicate", 0.5, (1, 6)),
        ("replicate", None, (1, 5)),
        ("zero", None, (0, 3)),
        ("zero", 0.5, (0, 4)),
    ],
)
@pytest.mark.parametrize("prefix", ["", "mobile_"])
def test_padding_and_dropout_shift_the_indices(
    padding: str, dropout: float | None, convolutions: tuple[int, int], prefix: str
) -> None:
    net = generator(f"{prefix}resnet_6blocks", padding=padding, dropout=dropout)
    found = sorted({int(name.split(".")[3]) for name in shapes(net) if "conv_block" in name})
    assert tuple(found) == convolutions


def test_separable_module_names() -> None:
    own = shapes(generator("mobile_resnet_9blocks", norm="batch", dropout=0.0))
    assert own["model.10.conv_block.1.conv.0.weight"] == (32, 1, 3, 3)
    assert own["model.10.conv_block.1.conv.1.running_var"] == (32,)
    assert own["model.10.conv_block.1.conv.2.weight"] == (32, 32, 1, 1)
    assert own["model.10.conv_block.6.conv.2.weight"] == (32, 32, 1, 1)
    assert own["model.7.weight"] == (32, 16, 3, 3)


def test_unet_module_names() -> None:
    own = shapes(generator("unet_256", norm="batch", dropout=0.5))
    assert own["model.model.0.weight"] == (8, 3, 4, 4)
    assert own["model.model.1.model.1.weight"] == (16, 8, 4, 4)
    assert own["model.model.1.model.2.running_mean"] == (16,)
    assert own["model.model.1.model.3.model.1.weight"] == (32, 16, 4, 4)
    assert own["model.model.1.model.5.weight"] == (32, 8, 4, 4)
    assert own["model.model.1.model.6.weight"] == (8,)
    assert own["model.model.3.weight"] == (16, 3, 4, 4)
    assert own["model.model.3.bias"] == (3,)
    innermost = "model.model.1." + "model.3." * 6 + "model."
    assert own[f"{innermost}1.weight"] == own[f"{innermost}3.weight"] == (64, 64, 4, 4)
    assert own[f"{innermost}4.weight"] == (64,)
    assert shapes(generator("unet_256", norm="batch")) == own


def test_discriminator_module_names() -> None:
    own = shapes(discriminator("n_layers", norm="batch"))
    assert own["model.0.weight"] == (8, 6, 4, 4)
    assert own["model.0.bias"] == (8,)
    assert own["model.2.weight"] == (16, 8, 4, 4)
    assert own["model.3.running_mean"] == (16,)
    assert own["model.5.weight"] == (32, 16, 4, 4)
    assert own["model.8.weight"] == (64, 32, 4, 4)
    assert own["model.11.weight"] == (1, 64, 4, 4)
    assert "model.2.bias" not in own
    assert "model.2.bias" in shapes(discriminator("n_layers", norm="instance"))
    pixel = shapes(discriminator("pixel", norm="batch"))
    assert pixel["net.0.weight"] == (8, 6, 1, 1)
    assert pixel["net.2.weight"] == (16, 8, 1, 1)
    assert pixel["net.3.running_mean"] == (16,)
    assert pixel["net.5.weight"] == (1, 16, 1, 1)


# ------------------------------------------------------------------------ known counts


def test_parameter_counts_of_the_published_networks() -> None:
    with torch.device("meta"):
        assert count(generator("resnet_9blocks", ngf=64)) == 11_378_179
        unet = generator("unet_256", ngf=64, norm="batch", dropout=0.5)
        patch = discriminator("n_layers", ndf=64, norm="batch")
    assert round(count(unet) / 1e6, 2) == 54.41
    assert round(count(patch) / 1e6, 3) == 2.769


@pytest.mark.parametrize("blocks", [6, 9])
def test_separable_blocks_are_smaller_by_the_known_factor(blocks: int) -> None:
    dense = count(generator(f"resnet_{blocks}blocks", ngf=64))
    separable = count(generator(f"mobile_resnet_{blocks}blocks", ngf=64))
    width = 256
    per_convolution = (9 * width * width + width) - (10 * width + width * width + width)
    assert dense - separable == 2 * blocks * per_convolution


def test_unet_has_as_many_levels_as_its_size_has_halvings() -> None:
    for name in (name for name in GENERATORS if name.startswith("unet")):
        net = generator(name)
        assert GENERATORS[name].stride == int(name.removeprefix("unet_"))
        downs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
        assert 2 ** len(downs) == GENERATORS[name].stride


# --------------------------------------------------------------------- initial weights


@every_norm
def test_initial_weights_are_those_of_pix2pix(norm: str) -> None:
    net = init_weights(generator("resnet_6blocks", norm=norm, ngf=32))
    kernels = torch.cat([p.detach().flatten() for p in net.parameters() if p.ndim == 4])
    assert kernels.mean().abs() < 1e-4
    assert kernels.std() == pytest.approx(0.02, rel=0.01)
    scales = [m.weight.detach() for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    if norm == "batch":
        assert torch.cat(scales).mean() == pytest.approx(1, abs=0.005)
        assert torch.cat(scales).std() == pytest.approx(0.02, rel=0.1)
    biases = [p for name, p in net.named_parameters() if name.endswith("bias")]
    assert biases
    assert all(not bias.any() for bias in biases)


def test_initial_weights_follow_the_gain_and_the_seed() -> None:
    def first(gain: float, seed: int) -> Tensor:
        torch.manual_seed(seed)
        net = init_weights(discriminator("pixel"), gain)
        return next(net.parameters()).detach()

    assert torch.equal(first(0.02, 1), first(0.02, 1))
    assert not torch.equal(first(0.02, 1), first(0.02, 2))
    torch.testing.assert_close(first(0.2, 1), 10 * first(0.02, 1))


# ------------------------------------------------------------------------------- mistakes


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match="unknown generator 'resnet_9block'; did you mean"
    ) as error:
        GeneratorOptions(name="resnet_9block")
    assert f"Choose from {', '.join(sorted(GENERATORS))}." in str(error.value)
    with pytest.raises(ConfigError, match="unknown discriminator 'patch'") as error:
        DiscriminatorOptions(name="patch")
    assert f"Choose from {', '.join(sorted(DISCRIMINATORS))}." in str(error.value)
    with pytest.raises(ConfigError, match="unknown norm 'layer'"):
        norm_factory("layer")
    with pytest.raises(ConfigError, match="unknown config set"):
        config_set(CONFIG_SETS, "channels-1", 64)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (GeneratorOptions, {"name": "unet_64", "padding": "zero"}, "generator.padding=zero has no"),
        (GeneratorOptions, {"name": "toy", "dropout": 0.5}, "on toy, which takes .* norm, depth$"),
        (GeneratorOptions, {"name": "unet_64", "depth": 3}, "unknown key 'depth'"),
        (
            DiscriminatorOptions,
            {"name": "pixel", "n_layers": 2},
            "n_layers=2 has no effect on pixel",
        ),
    ],
)
def test_option_that_a_family_does_not_take_is_refused(
    kind: type[Section], values: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"options.yaml: .*{message}"):
        build(kind, values, "options.yaml")
    # resolved options hold every shared key
    resolved = {**kind().model_dump(), "name": values["name"]}
    assert build(kind, resolved, "").model_dump().items() >= resolved.items()


def test_unet_without_a_middle_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 5 down-samplings, not 4"):
        UnetGenerator(3, 3, 4, 8)


@pytest.mark.parametrize("name", CONFIG_SETS)
def test_config_sets_have_eight_ascending_numbers(name: str) -> None:
    choices = config_set(CONFIG_SETS, name, 64)
    assert len(choices) == len(resnet_ties(_group_names())) == 8
    assert all(list(c) == sorted(set(c)) for c in choices)
    widest = max(map(max, choices))
    assert config_set(CONFIG_SETS, name, widest) == choices
    with pytest.raises(ConfigError, match=f"goes up to width {widest}, the student has ngf"):
        config_set(CONFIG_SETS, name, widest - 1)


def _group_names() -> list[str]:
    inner = [f"model.{block}.conv_block.1" for block in range(10, 19)]
    return ["model.1", "model.4", "model.7", *inner, "model.19", "model.22"]
