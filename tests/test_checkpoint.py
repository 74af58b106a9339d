"""Weights of ours and of others: what is written loads, what is foreign is recognised."""

from __future__ import annotations

import itertools
import os
import pickle
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import existing, with_norms
from torch import Tensor, nn

from gancompress.checkpoint import files
from gancompress.checkpoint.files import load_pickle, load_tensors, save_tensors, write_atomic
from gancompress.checkpoint.models import (
    load_model,
    run_data,
    run_stage,
    smallest_chosen,
    supernet_of,
)
from gancompress.checkpoint.network import (
    Network,
    call_factory,
    describe_space,
    find_discriminator,
    kinds_header,
    load_discriminator,
    load_network,
    load_supernet,
    new_discriminator,
    read_space,
    save_discriminator,
    save_network,
)
from gancompress.config import DiscriminatorOptions, GeneratorOptions
from gancompress.data import RGB, image_kind
from gancompress.elastic import Supernet, Tie, trace
from gancompress.errors import CheckpointError, ConfigError, GanCompressError
from gancompress.models import (
    DISCRIMINATORS,
    GENERATORS,
    build_discriminator,
    build_generator,
    init_weights,
)
from gancompress.models.resnet import SHORT_FORM, resnet_ties

NORMS = ("instance", "batch", "none")
STYLES = [  # norm, padding, dropout; U-Nets have no padding of their own
    *((norm, "reflect", None) for norm in NORMS),
    ("instance", "zero", None),
    ("batch", "zero", 0.0),
    ("batch", "reflect", 0.0),
    ("instance", "zero", 0.0),
]


def section(**values: object) -> GeneratorOptions:
    return GeneratorOptions.model_validate({"input_nc": 3, "output_nc": 3, "ngf": 4, **values})


FOREIGN = [
    section(name=name, norm=norm, padding=padding, dropout=dropout)
    for name, family in GENERATORS.items()
    for norm, padding, dropout in STYLES
    if "padding" in family.takes or (padding, dropout) == ("reflect", None)
    if "norm" in family.takes or norm == "instance"
]
FOREIGN += [
    section(name=name, norm="batch", upsampling="nearest")
    for name, family in GENERATORS.items()
    if "upsampling" in family.takes
]
Tensors = dict[str, Tensor]


def identity(options: GeneratorOptions) -> str:
    return f"{options.name}-{options.norm}-{options.padding}-{options.dropout}-{options.upsampling}"


def trained(options: GeneratorOptions) -> nn.Module:
    """A generator with no two values alike, in evaluation mode."""
    module = build_generator(options).eval()
    for name, tensor in module.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.is_floating_point():
            tensor.copy_(torch.randn_like(tensor) * 0.05)
    return module


def example(options: GeneratorOptions) -> Tensor:
    side = max(32, GENERATORS[options.name].stride)
    return torch.rand(1, options.input_nc, side, side) * 2 - 1


def small() -> GeneratorOptions:
    return GeneratorOptions(input_nc=3, output_nc=3, name="resnet_6blocks", ngf=4)


def save_pth(path: Path, tensors: Tensors) -> Path:
    torch.save(tensors, path)
    return path


@torch.inference_mode()
def assert_same_images(one: nn.Module, other: nn.Module, x: Tensor) -> None:
    assert torch.equal(one(x), other(x))


# -------------------------------------------------------------------------- files of ours


@pytest.mark.parametrize(("name", "norm"), with_norms(GENERATORS, NORMS))
def test_generator_loads_as_it_was_saved(name: str, norm: str, tmp_path: Path) -> None:
    options = section(name=name, norm=norm)
    module, path = trained(options), tmp_path / "run" / "weights.safetensors"
    description = {"generator": options.model_dump(mode="json")}
    save_network(path, module, description, progress={"images": 7})
    for source in (path, path.parent):
        network = load_network(source)
        assert network.description == description
        assert network.header["progress"] == {"images": 7}
        assert network.input_nc == 3
        assert network.stride == GENERATORS[name].stride
        assert not network.module.training
        assert_same_images(network.module, module, example(options))


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("name", ["mobile_resnet_6blocks", "resnet_6blocks", "unet_64"])
def test_extracted_subnet_loads_with_its_widths(
    name: str, norm: str, tmp_path: Path, rng: random.Random
) -> None:
    options = GeneratorOptions(input_nc=3, output_nc=3, name=name, ngf=8, norm=norm)
    x = example(options)
    net = Supernet(trained(options), x, divisor=1).eval()
    subnet = net.space.sample(rng)
    extracted, path = net.extract(subnet), tmp_path / "small.safetensors"
    save_network(path, extracted, {"generator": options.model_dump(mode="json")})
    ours = load_network(path).module
    theirs = load_network(save_pth(tmp_path / "small.pth", extracted.state_dict())).module
    assert_same_images(ours, extracted, x)
    assert_same_images(theirs, extracted, x)
    assert sum(p.numel() for p in theirs.parameters()) == net.num_parameters(subnet)


def test_what_we_write_loads_strictly_into_the_same_module_names(tmp_path: Path) -> None:
    options = small()
    path = tmp_path / "weights.safetensors"
    save_network(path, trained(options), {"generator": options.model_dump(mode="json")})
    tensors, _ = load_tensors(path)
    build_generator(options).load_state_dict(tensors, strict=True)


@pytest.mark.parametrize(
    ("channels", "kinds"),
    [((1, 3), "grey rgb"), ((3, 1), "rgb grey"), ((3, 4), "rgb rgba"), ((6, 3), "bands:6 rgb")],
)
def test_images_of_a_file_that_says_nothing_are_those_of_its_channels(
    channels: tuple[int, int], kinds: str, tmp_path: Path
) -> None:
    options = section(name="resnet_6blocks", input_nc=channels[0], output_nc=channels[1])
    module, ours = trained(options), tmp_path / "weights.safetensors"
    save_network(ours, module, {"generator": options.model_dump(mode="json")})
    for path in (ours, save_pth(tmp_path / "net_G.pth", module.state_dict())):
        network = load_network(path)
        assert f"{network.input} {network.output}" == kinds


def test_file_says_what_images_its_network_takes(tmp_path: Path) -> None:
    options, path = section(name="resnet_6blocks", input_nc=5), tmp_path / "weights.safetensors"
    description = {"generator": options.model_dump(mode="json")}
    save_network(path, trained(options), description, **kinds_header(image_kind("labels:5"), RGB))
    assert load_network(path).input == image_kind("labels:5")
    save_network(path, trained(options), description, **kinds_header(image_kind("grey"), RGB))
    with pytest.raises(CheckpointError, match="from 5 to 3 channels is not one from grey to rgb"):
        load_network(path)
    for damage, message in (
        ({"inputs": {"image": "gray"}}, "unknown kind of image 'gray'; did you mean 'grey'"),
        ({"outputs": {"image": 3}}, "'outputs' of its header names no kind of image"),
    ):
        save_network(path, trained(options), description, **damage)
        with pytest.raises(CheckpointError, match=message):
            load_network(path)


def test_supernet_keeps_its_search_space(tmp_path: Path) -> None:
    options = GeneratorOptions(input_nc=3, output_nc=3, name="mobile_resnet_9blocks", ngf=16)
    module, x = (
        trained(options),
        example(GeneratorOptions(input_nc=3, output_nc=3, name="resnet_9blocks")),
    )
    ties = [Tie(*tie) for tie in resnet_ties(g.name for g in trace(module, tuple(x.shape)).groups)]
    net = Supernet(module, x, ties=ties)
    space = read_space({**describe_space(net.space), "forms": {"6": SHORT_FORM[6]}})
    path = tmp_path / "weights.safetensors"
    description = {"generator": options.model_dump(mode="json")}
    save_network(path, module, description, space=describe_space(space))
    loaded, network = load_supernet(path)
    assert loaded.space == space
    assert loaded.space.parse("8_8_16_8_8_16") == loaded.space.parse("8_8_16_8_8_8_8_16")
    assert not loaded.training
    subnet = space.smallest()
    assert torch.equal(loaded(x, subnet), net.eval()(x, subnet))
    assert network.description == description


def test_only_images_need_the_statistics_of_a_subnet(tmp_path: Path) -> None:
    options = small().model_copy(update={"norm": "batch"})
    x = example(options)
    net = Supernet(trained(options), x, (0.5, 1.0), 8).eval()
    description = {"generator": options.model_dump(mode="json")}
    path = tmp_path / "weights.safetensors"
    save_network(path, net.generator, description, space=describe_space(net.space))
    name = str(net.space.smallest())
    network = load_model(path, name, calibrate=False)
    assert network.header["subnet"] == name
    assert_same_images(network.module, net.extract(net.space.smallest()), x)
    with pytest.raises(ConfigError, match="batch norms need its training data"):
        load_model(path, name)


def test_generator_is_no_supernet(tmp_path: Path) -> None:
    options, path = small(), tmp_path / "plain.safetensors"
    save_network(path, trained(options), {"generator": options.model_dump(mode="json")})
    with pytest.raises(CheckpointError, match=r"plain\.safetensors is not a supernet"):
        load_supernet(path)


def test_file_that_does_not_say_what_it_is_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nameless.safetensors"
    save_tensors(path, {"a": torch.zeros(1)}, {})
    with pytest.raises(CheckpointError, match=r"nameless\.safetensors does not say which network"):
        load_network(path)


def test_tensors_come_back_as_float32_with_integers_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tensors = {"half": torch.randn(3).half(), "brain": torch.randn(3).bfloat16()}
    save_tensors(path, {**tensors, "count": torch.tensor(5)}, {"note": "ü"})
    loaded, header = load_tensors(path)
    assert {key: tensor.dtype for key, tensor in loaded.items()} == {
        "half": torch.float32,
        "brain": torch.float32,
        "count": torch.int64,
    }
    assert all(torch.equal(loaded[key], tensor.float()) for key, tensor in tensors.items())
    assert header["note"] == "ü"


# --------------------------------------------------------------------- files of others


@pytest.mark.parametrize("options", FOREIGN, ids=identity)
def test_foreign_generator_is_read_from_its_tensors(
    options: GeneratorOptions, tmp_path: Path
) -> None:
    module = trained(options)
    path = save_pth(tmp_path / "latest_net_G.pth", module.state_dict())
    network = load_network(tmp_path)
    assert GeneratorOptions.model_validate(network.description["generator"]) == options
    assert_same_images(network.module, module, example(options))
    assert network.source == str(path)


def prefixed(tensors: Tensors) -> object:
    return {f"module.{name}": tensor for name, tensor in tensors.items()}


def with_old_statistics(tensors: Tensors) -> object:
    old = {}
    for name, tensor in tensors.items():
        old[name] = tensor
        conv = name.removesuffix(".bias")
        if conv != name and conv != "model.23":  # instance norms once kept statistics
            path, _, index = conv.rpartition(".")
            norm = f"{path}.{int(index) + 1}"
            old[f"{norm}.running_mean"] = torch.full_like(tensor, 7)
            old[f"{norm}.running_var"] = torch.full_like(tensor, 7)
            old[f"{norm}.num_batches_tracked"] = torch.tensor(7)
    return old


def in_half(tensors: Tensors) -> object:
    return {name: tensor.half() for name, tensor in tensors.items()}


def nested(tensors: Tensors) -> object:
    return {"state_dict": tensors, "epoch": 3}


def compiled_and_wrapped(tensors: Tensors) -> object:
    return {f"_orig_mod.module._orig_mod.{name}": tensor for name, tensor in tensors.items()}


def others(tensors: Tensors) -> Tensors:
    return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}


def with_average(tensors: Tensors) -> object:
    return {"iter": 5, "params": others(tensors), "params_ema": tensors}


def of_a_training(tensors: Tensors) -> object:
    networks = {"D_A": others(tensors), "G_B": others(tensors), "G_A": tensors}
    return {"epoch": 5, "models": networks, "optimizers": [{"state": {0: {"step": 3}}}]}


def of_lightning(tensors: Tensors) -> object:
    named = {f"generator.module.{name}": tensor for name, tensor in tensors.items()}
    named |= {f"discriminator.{name}": tensor for name, tensor in others(tensors).items()}
    return {"state_dict": named, "hyper_parameters": {"lr": 2e-4}, "loops": {"fit": None}}


def generator_state_dict(tensors: Tensors) -> object:
    return {"generator_state_dict": tensors, "discriminator_state_dict": others(tensors)}


FORMS = [
    *(prefixed, with_old_statistics, in_half, nested, compiled_and_wrapped, with_average),
    *(of_a_training, of_lightning, generator_state_dict),
]


@pytest.mark.parametrize("form", FORMS)
def test_foreign_generator_loads_in_every_form(
    form: Callable[[Tensors], object], tmp_path: Path
) -> None:
    options = small()
    module = trained(options)
    for parameter in module.parameters():
        parameter.data = parameter.data.half().float()
    path = tmp_path / "net_G.pth"
    torch.save(form(module.state_dict()), path)
    network = load_network(path)
    assert network.description["generator"] == options.model_dump(mode="json")
    assert_same_images(network.module, module, example(options))


def test_which_average_was_taken_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    path = tmp_path / "net.pth"
    torch.save(with_average(trained(small()).state_dict()), path)
    load_network(path)
    assert f"{path}: params_ema is taken, of params_ema, params" in caplog.text


def test_several_networks_without_a_known_name_are_listed(tmp_path: Path) -> None:
    tensors = trained(small()).state_dict()
    torch.save({"first": tensors, "second": others(tensors)}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=r"2 state dicts, .* not clear: 'first', 'second'"):
        load_network(tmp_path / "net.pth")


@pytest.mark.parametrize("name", ["resnet_1blocks", "resnet_4blocks", "resnet_12blocks", "unet_32"])
def test_other_depths_are_read_from_the_names(name: str, tmp_path: Path) -> None:
    options = section(name=name, norm="batch" if name == "unet_32" else "instance")
    module = trained(options)
    network = load_network(save_pth(tmp_path / "net_G.pth", module.state_dict()))
    assert network.description["generator"]["name"] == name
    assert network.stride == GENERATORS[name].stride
    assert_same_images(network.module, module, example(options))


def test_other_depths_than_those_of_the_families_are_refused() -> None:
    for name in ("resnet_0blocks", "resnet_65blocks", "unet_16", "unet_100", "unet_2048"):
        with pytest.raises(ConfigError, match=f"unknown generator '{name}'"):
            section(name=name)


def test_what_holds_more_than_tensors_is_named_with_the_way_out(tmp_path: Path) -> None:
    torch.save(trained(small()), tmp_path / "whole.pth")
    with pytest.raises(
        CheckpointError, match=r"objects of gancompress\..*\n.*state_dict\(\)"
    ) as seen:
        load_network(tmp_path / "whole.pth")
    assert "\x1b" not in str(seen.value)
    with pytest.warns(FutureWarning, match="is deprecated"):
        torch.jit.script(nn.Conv2d(3, 3, 1)).save(tmp_path / "program.pt")
    with pytest.raises(CheckpointError, match=r"a TorchScript program.*\n.*state_dict\(\)"):
        load_network(tmp_path / "program.pt")


def test_another_up_sampling_is_refused_as_that(tmp_path: Path) -> None:
    tensors = trained(small()).state_dict()
    tensors["model.16.weight"] = torch.zeros(32, 16, 3, 3)  # a convolution and a pixel shuffle
    path = save_pth(tmp_path / "net_G.pth", tensors)
    match = r"up-sampling is not the reference's\n.*teacher\.module"
    with pytest.raises(CheckpointError, match=match):
        load_network(path)


@pytest.mark.parametrize("name", ["resnet_9blocks", "unet_128"])
def test_batch_norm_from_before_batches_were_counted_loads(name: str, tmp_path: Path) -> None:
    options = GeneratorOptions(input_nc=3, output_nc=3, name=name, ngf=4, norm="batch")
    module = trained(options)
    tensors = {n: t for n, t in module.state_dict().items() if "num_batches" not in n}
    network = load_network(save_pth(tmp_path / "old.pth", tensors))
    assert_same_images(network.module, module, example(options))


def test_norm_that_contradicts_the_tensors_is_refused(tmp_path: Path) -> None:
    path = save_pth(tmp_path / "net_G.pth", trained(small()).state_dict())
    assert load_network(path).description["generator"]["norm"] == "instance"
    assert load_network(path, norm="instance").description["generator"]["norm"] == "instance"
    for norm in ("batch", "none"):  # the biases say otherwise
        with pytest.raises(CheckpointError, match=r"net_G\.pth: tensors do not fit"):
            load_network(path, norm=norm)


@pytest.mark.parametrize("name", DISCRIMINATORS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n_layers", [1, 3, 5])
def test_discriminator_is_read_from_its_tensors(
    name: str, norm: str, n_layers: int, tmp_path: Path
) -> None:
    layers = n_layers if name == "n_layers" else 3
    options = DiscriminatorOptions(name=name, ndf=4, norm=norm, n_layers=layers)
    module = init_weights(build_discriminator(options, 5))
    path = save_pth(tmp_path / "latest_net_D.pth", module.state_dict())
    found = load_discriminator(path)
    assert (found.options, found.input_nc) == (options, 5)
    assert_same_images(found.module.eval(), module.eval(), torch.randn(1, 5, 128, 128))


def test_discriminator_loads_as_it_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "discriminator.safetensors"
    made = new_discriminator(DiscriminatorOptions(ndf=4, n_layers=2, norm="batch"), 6)
    save_discriminator(path, made)
    found = load_discriminator(path)
    assert (found.options, found.input_nc) == (made.options, made.input_nc)
    assert_same_images(found.module.eval(), made.module.eval(), torch.randn(1, 6, 64, 64))


@pytest.mark.parametrize(
    ("generator", "discriminator"),
    [
        ("latest_net_G.pth", "latest_net_D.pth"),
        ("latest_net_G_A.pth", "latest_net_D_A.pth"),
        ("200_net_G.pth", "200_net_D.pth"),
        ("weights.safetensors", "discriminator.safetensors"),
    ],
)
def test_discriminator_is_found_beside_its_generator(
    generator: str, discriminator: str, tmp_path: Path
) -> None:
    (tmp_path / generator).touch()
    assert find_discriminator(tmp_path / generator) is None
    (tmp_path / "latest_net_other.pth").touch()
    assert find_discriminator(tmp_path / generator) is None
    (tmp_path / discriminator).touch()
    assert find_discriminator(tmp_path / generator) == tmp_path / discriminator


def test_file_with_another_name_has_no_discriminator(tmp_path: Path) -> None:
    (tmp_path / "generator.pth").touch()
    assert find_discriminator(tmp_path / "generator.pth") is None


def test_published_compressed_generator_loads_with_its_config(shared: Path) -> None:
    path = existing(shared / "weights" / "gan_compression_horse2zebra_compressed_net_G.pth")
    network = load_network(path)
    assert sum(p.numel() for p in network.module.parameters()) == 356_867
    groups = trace(network.module, network.example_shape).groups
    ties = [Tie(*tie) for tie in resnet_ties(group.name for group in groups)]
    net = Supernet(network.module, torch.empty(network.example_shape), ties=ties)
    full = net.space.largest()
    assert str(full) == "16_16_32_16_32_32_16_16"
    assert round(net.macs(full, 256) / 1e9, 3) == 1.846
    assert round(net.macs(full, 256, paper=True) / 1e9, 3) == 2.525


# ------------------------------------------------------------------------ damaged files


class Malicious:
    """Pickled code that makes a file when it is run."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.marker),)


def with_tensor(name: str, tensor: Tensor | None) -> Tensors:
    tensors = trained(small()).state_dict()
    if tensor is None:
        del tensors[name]
    else:
        tensors[name] = tensor
    return tensors


NOT_FINITE = torch.full((8, 4, 3, 3), torch.nan)
DAMAGED: dict[str, tuple[Callable[[], Tensors], str]] = {
    "missing bias": (lambda: with_tensor("model.4.bias", None), "missing model.4.bias"),
    "missing stem": (
        lambda: with_tensor("model.1.weight", None),
        "not a generator of a known family",
    ),
    "missing head": (lambda: with_tensor("model.23.weight", None), "model.23.weight"),
    "missing block": (
        lambda: with_tensor("model.10.conv_block.1.weight", None),
        "another layout than the reference's",
    ),
    "extra": (lambda: with_tensor("model.4.extra", torch.zeros(1)), "unknown model.4.extra"),
    "wrong width": (
        lambda: with_tensor("model.4.weight", torch.zeros(8, 3, 3, 3)),
        "do not fit together",
    ),
    "wrong bias": (lambda: with_tensor("model.4.bias", torch.zeros(7)), "model.4.bias"),
    "wrong kernel": (
        lambda: with_tensor("model.1.weight", torch.zeros(4, 3, 5, 5)),
        r"model.1.weight",
    ),
    "wrong rank": (lambda: with_tensor("model.1.weight", torch.zeros(4)), "model.1.weight"),
    "empty tensor": (
        lambda: with_tensor("model.4.weight", torch.zeros(0, 4, 3, 3)),
        r"model\.4|do not fit",
    ),
    "not a number": (
        lambda: with_tensor("model.4.weight", NOT_FINITE),
        "model.4.weight holds values that are not finite",
    ),
    "infinite": (
        lambda: with_tensor("model.4.bias", torch.full((8,), torch.inf)),
        "model.4.bias holds values that are not finite",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_tensors_that_are_no_generator_are_refused_by_file_name(case: str, tmp_path: Path) -> None:
    make, message = DAMAGED[case]
    path = save_pth(tmp_path / "damaged_net_G.pth", make())
    with pytest.raises(CheckpointError, match=message) as error:
        load_network(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("case", [c for c in DAMAGED if c != "missing stem"])
def test_our_own_files_are_checked_in_the_same_way(case: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged.safetensors"
    header = {"network": {"generator": small().model_dump(mode="json")}}
    save_tensors(path, DAMAGED[case][0](), header)
    with pytest.raises(CheckpointError) as error:
        load_network(path)
    assert str(path) in str(error.value)


def test_code_in_a_pickle_is_never_run(tmp_path: Path) -> None:
    marker, path = tmp_path / "code_was_run", tmp_path / "evil_net_G.pth"
    torch.save({"model.1.weight": Malicious(marker)}, path)
    plain = tmp_path / "plain.pth"
    plain.write_bytes(pickle.dumps({"model.1.weight": Malicious(marker)}))
    for file in (path, plain):
        for load in (load_network, load_discriminator, load_pickle):
            with pytest.raises(CheckpointError, match=file.name):
                load(file)
    assert not marker.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_truncated_file_is_refused(suffix: str, share: float, tmp_path: Path) -> None:
    options, path = small(), tmp_path / f"cut{suffix}"
    module = trained(options)
    if suffix == ".pth":
        save_pth(path, module.state_dict())
    else:
        save_network(path, module, {"generator": options.model_dump(mode="json")})
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=rf"cut\{suffix}"):
        load_network(path)


CONTENTS: dict[str, bytes] = {
    "page": b"<!DOCTYPE html><html><body>Not found</body></html>",
    "text": b"hello\n",
    "zeros": bytes(4096),
}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", ["net_G.pth", "net_G.safetensors"])
def test_file_of_another_kind_is_refused(content: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(CONTENTS[content])
    for load in (load_network, load_discriminator):
        with pytest.raises(CheckpointError, match=name):
            load(path)


@pytest.mark.parametrize(
    "content", [{}, [], 3, {"epoch": 3}, {"state_dict": {}}, torch.zeros(2), {"a": torch.zeros(2)}]
)
def test_pickle_of_something_else_is_refused(content: object, tmp_path: Path) -> None:
    path = tmp_path / "odd.pth"
    torch.save(content, path)
    for load in (load_network, load_discriminator):
        with pytest.raises(CheckpointError, match=r"odd\.pth"):
            load(path)


def test_places_without_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no weights \(weights\.safetensors, latest"):
        load_network(tmp_path)
    for name in ("gone.pth", "gone.safetensors", "gone"):
        with pytest.raises(CheckpointError, match=f"no weights .*{name}"):
            load_network(tmp_path / name)
    for name in ("gone.pth", "gone.safetensors"):
        with pytest.raises(CheckpointError, match=f"no weights .*{name}"):
            load_discriminator(tmp_path / name)


def test_header_that_is_not_json_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    for header in ("{", "[1]", "3"):
        path = tmp_path / "header.safetensors"
        save_file({"a": torch.zeros(1)}, path, metadata={files.HEADER: header})
        with pytest.raises(CheckpointError, match=r"header\.safetensors"):
            load_network(path)


# ------------------------------------------------------------------------ atomic writing


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_write_that_fails_half_way_keeps_the_old_file(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.safetensors"
    write_atomic(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [path.name]


def test_write_replaces_the_whole_file_and_makes_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c"
    for content in (b"a long first content", b"short"):
        write_atomic(path, content)
        assert path.read_bytes() == content
    assert os.listdir(path.parent) == ["c"]


# ----------------------------------------------------------------------------- factories


@pytest.fixture
def module_of_mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = "generator_of_mine"
    (tmp_path / f"{name}.py").write_text(
        "import torch\n"
        "def build():\n    return torch.nn.Conv2d(3, 3, 3, padding=1)\n"
        "def number():\n    return 3\n"
        "nothing = None\n"
        "def failing():\n    raise RuntimeError('no widths given')\n"
    )
    (tmp_path / "unwritten_module.py").write_text("def build(:\n")
    (tmp_path / "broken_module.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def test_factory_makes_the_network_of_foreign_tensors(module_of_mine: str, tmp_path: Path) -> None:
    made = call_factory(f"{module_of_mine}:build")
    path = save_pth(tmp_path / "mine.pth", made.state_dict())
    network = load_network(path, factory=f"{module_of_mine}:build")
    assert isinstance(network, Network)
    assert_same_images(network.module, made, torch.randn(1, 3, 8, 8))
    again = tmp_path / "again.safetensors"
    save_network(again, network.module, network.description)
    named = load_network(again, trusted=[f"{module_of_mine}:build"])
    assert_same_images(named.module, made, torch.randn(1, 3, 8, 8))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{m}", "is not a factory; write package.module:factory"),
        ("{m}.build", "is not a factory; write package.module:factory"),
        ("{m}:nothing_there", "cannot import the factory"),
        ("no_such_module:build", "cannot import the factory"),
        ("broken_module:build", "cannot import the factory .*a_module_that_is_not_there"),
        ("{m}:number", "returned int, not an nn.Module"),
        ("{m}:failing", "the factory '.*:failing' raised RuntimeError: no widths given"),
        ("unwritten_module:build", "cannot import the factory .*invalid syntax"),
        ("{m}:nothing", "is not a function that returns an nn.Module"),
        (":build", "is not a factory"),
        ("{m}:", "is not a factory"),
        (".{m}:build", "is not a factory"),
    ],
)
def test_names_that_are_no_factories_are_refused(
    name: str, message: str, module_of_mine: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        call_factory(name.format(m=module_of_mine))


def test_error_of_a_factory_keeps_its_cause(module_of_mine: str) -> None:
    with pytest.raises(ConfigError) as caught:
        call_factory(f"{module_of_mine}:failing")
    assert isinstance(caught.value.__cause__, RuntimeError)


# ----------------------------------------------------------------------------- run folders


@pytest.mark.parametrize("content", [b"stage: @teacher\n", b"stage: [\n", b"\xff\xfe\xff"])
def test_damaged_config_of_a_run_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    for read in (run_stage, run_data, supernet_of, load_model):
        with pytest.raises(ConfigError, match=r"config\.yaml: not readable as YAML"):
            read(tmp_path)


@pytest.mark.parametrize("content", ["stage: search\n", "stage: search\nsupernet: [a]\n"])
def test_search_that_names_no_supernet_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(ConfigError, match=r"config\.yaml does not name a supernet"):
        supernet_of(tmp_path)


@pytest.mark.parametrize(
    ("section", "message"),
    [("", "has no section data"), ("data: 3\n", "has no section data"), ("data: {x: 1}\n", "'x'")],
)
def test_run_with_damaged_data_section_is_refused(
    section: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(f"stage: teacher\n{section}")
    with pytest.raises(ConfigError, match=message):
        run_data(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "{}", '{"chosen": {}}', '{"chosen": [1]}', '{"chosen": {"1": 1}}'),
        *('{"chosen": {"1": {"macs": 1}}}', '{"chosen": {"1": {"macs": 1}, "2": {"macs": "a"}}}'),
    ],
)
def test_damaged_result_of_a_search_is_refused_by_name(content: str, tmp_path: Path) -> None:
    (tmp_path / "done.json").write_text(content)
    with pytest.raises(ConfigError, match=r"done\.json lists no chosen subnets"):
        smallest_chosen(tmp_path)


def test_every_mistake_is_one_of_the_users(tmp_path: Path) -> None:
    """Random damage to a file of tensors never ends in anything but our own error."""
    rng, tensors = random.Random(4), trained(small()).state_dict()
    names = list(tensors)
    for _, name in zip(range(12), itertools.cycle(rng.sample(names, len(names)))):
        shape = [rng.choice([0, 1, 2, n, n + 1]) for n in tensors[name].shape]
        path = save_pth(tmp_path / "x.pth", {**tensors, name: torch.zeros(shape)})
        if shape != list(tensors[name].shape):
            with pytest.raises(GanCompressError):
                load_network(path)
