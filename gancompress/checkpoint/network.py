"""Generators and discriminators from any source.

A run, a file of ours, a foreign checkpoint, or a factory of the user's.
"""

from __future__ import annotations

import copy
import importlib
import os
import sys
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from operator import index
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from gancompress.checkpoint.answers import AnswerBook, answers_of, read_book
from gancompress.checkpoint.files import Json, load_tensors, save_tensors
from gancompress.checkpoint.foreign import (
    infer_discriminator,
    infer_generator,
    load_foreign,
    without_unused_statistics,
)
from gancompress.config import DiscriminatorOptions, GeneratorOptions, build
from gancompress.data import RGB, ImageKind, image_kind, kind_of_channels
from gancompress.elastic import (
    DIMENSIONS,
    FULL,
    Cut,
    Dimension,
    SearchSpace,
    Subnet,
    Supernet,
    Traced,
    fit,
    reduced_copy,
    stride_at,
)
from gancompress.elastic.graph import empty_input
from gancompress.errors import CheckpointError, ConfigError, SpaceError
from gancompress.models import GENERATORS, build_discriminator, build_generator, init_weights
from gancompress.paths import FACTORY
from gancompress.tables import lookup

WEIGHTS_NAMES = ("weights.safetensors", "latest_net_G.pth", "latest_net_G_A.pth")
"""What a folder's weights may be called, the first that is there."""

# parameters that a file may describe without holding a fair part of them
MIN_REFUSED = 50_000_000
MAX_RATIO = 100
MAX_STRIDE = 4096  # of a generator that a file lets run at small shares of the image


@dataclass
class Network:
    """A generator and what is known of it.

    Attributes:
        module: The generator, in evaluation mode.
        description: How to build it: `{"generator": {...}}` or `{"module": "package.module:name"}`,
            with `"dropped": [...]` where branches of that are left out (see `Supernet.extract`),
            `"kernels": {...}` where kernels are smaller, `"resolution"` in per cent where it runs
            on a smaller image, and `"cuts"`, a list of such facts, where the result was then cut
            again; or `{"answers": {...}}`, what is known of a function.
        stride: What H and W of its inputs must be multiples of.
        source: Where it came from.
        header: Whatever else its file says.
        input: What kind of images it takes.
        output: What kind of images it makes.
    """

    module: nn.Module
    description: Json
    stride: int
    source: str
    header: Json = field(default_factory=dict)
    input: ImageKind = RGB
    output: ImageKind = RGB

    @property
    def input_nc(self) -> int:
        """Channels of the input image."""
        return self.input.channels

    @property
    def is_function(self) -> bool:
        """Whether it is a function's answers, and has neither layers nor costs."""
        return answers_of(self.description) is not None

    @property
    def example_shape(self) -> tuple[int, int, int, int]:
        """Shape of a small input that it accepts."""
        return example_shape(self.input_nc, self.stride)


def example_shape(input_nc: int, stride: int) -> tuple[int, int, int, int]:
    """A small input: at least 32 pixels, a multiple of the stride."""
    side = max(stride, -(-32 // stride) * stride)
    return (1, input_nc, side, side)


def build_network(description: Json, source: str, header: Json | None = None) -> Network:
    """An untrained network from its description, whose factory the user has named.

    Args:
        description: How to build it.
        source: What errors call it.
        header: What its file says; its images are of the kinds there. Those of a family of ours are
            of the usual kinds of their channels otherwise, and those of anyone's module are RGB.

    Raises:
        ConfigError: The factory cannot be imported, or the options are wrong.
        CheckpointError: It describes no network, or images of other channels than the network's.
    """
    header = header or {}
    if "generator" in description:
        options = build(GeneratorOptions, description["generator"], source)
        family = GENERATORS[options.name]
        usual = [ports(options)[0].channels for ports in (family.inputs, family.outputs)]
        kinds = header_kinds(header, source, *map(kind_of_channels, usual))
        if [kind.channels for kind in kinds] != usual:
            raise CheckpointError(
                f"{source}: a generator from {options.input_nc} to {options.output_nc} channels is "
                f"not one from {kinds[0]} to {kinds[1]}"
            )
        module = build_generator(options)
        return _without_branches(
            Network(module.eval(), description, family.stride, source, header, *kinds)
        )
    if answers_of(description) is not None:
        kinds = header_kinds(header, source)
        book = AnswerBook.of({}, kinds[1].channels)
        return Network(book.eval(), description, 1, source, header, *kinds)
    if "module" in description:
        module = call_factory(description["module"])
        stride = getattr(module, "stride", None)
        stride = stride if isinstance(stride, int) else 4
        taken, made = header_kinds(header, source)
        if "outputs" not in header:
            made = _made(module, example_shape(taken.channels, stride))
        return _without_branches(
            Network(module.eval(), description, stride, source, header, taken, made)
        )
    raise CheckpointError(f"{source} does not say which network its tensors belong to")


def _without_branches(network: Network) -> Network:
    """The network without what its description leaves out, and with kernels as small as there.

    Raises:
        CheckpointError: There is no such branch or kernel, or no image of that resolution.
    """
    later = network.description.get("cuts", [])
    if not isinstance(later, list) or not all(isinstance(facts, dict) for facts in later):
        raise CheckpointError(f"{network.source}: 'cuts' of its network is not a list of tables")
    for facts in (network.description, *later):
        cut = _read_cut(facts, network.source)
        if cut != Cut():
            network.stride = stride_at(network.stride, cut.resolution)
            if network.stride > MAX_STRIDE:
                raise CheckpointError(
                    f"{network.source}: sides of images would be multiples of {network.stride}"
                )
            network.module = reduced_copy(network.module, cut, network.example_shape).eval()
    return network


def _read_cut(facts: Json, source: str) -> Cut:
    dropped = facts.get("dropped", [])
    if not isinstance(dropped, list) or not all(isinstance(name, str) for name in dropped):
        raise CheckpointError(f"{source}: 'dropped' of its network is not a list of names")
    kernels = facts.get("kernels", {})
    if not isinstance(kernels, dict):
        raise CheckpointError(f"{source}: 'kernels' of its network is not a table of sides")
    resolution = facts.get("resolution", FULL)
    if type(resolution) is not int or not 1 <= resolution <= FULL:
        raise CheckpointError(f"{source}: 'resolution' of its network is not one in per cent")
    return Cut(frozenset(dropped), kernels, resolution)


def describe_subnet(description: Json, net: Supernet, subnet: Subnet) -> Json:
    """How to build an extracted subnet of the network that this describes."""
    cut = net.cut(subnet)
    facts: Json = {"dropped": sorted(cut.dropped), "kernels": dict(cut.kernels)}
    facts = {key: value for key, value in facts.items() if value}
    if cut.resolution != FULL:
        facts["resolution"] = cut.resolution
    if facts and description.keys() & {"dropped", "kernels", "resolution"}:
        return {**description, "cuts": [*description.get("cuts", []), facts]}
    return {**description, **facts}


def _made(module: nn.Module, shape: tuple[int, ...]) -> ImageKind:
    """What kind of images anyone's module makes, by their channels; RGB where it does not run.

    A copy runs: what a module keeps of its first forward would be without values here.
    """
    try:
        module = copy.deepcopy(module).eval()
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            return kind_of_channels(module(empty_input(module, shape)).shape[1])
    except Exception:  # an error with more to say where it runs
        return RGB


def kinds_header(taken: ImageKind, made: ImageKind) -> Json:
    """What a file says of the images that its network takes and makes."""
    return {"inputs": {"image": str(taken)}, "outputs": {"image": str(made)}}


def header_kinds(
    header: Json, source: str, taken: ImageKind = RGB, made: ImageKind = RGB
) -> tuple[ImageKind, ImageKind]:
    """The images of a network by what its file says of them.

    Args:
        header: Of the file.
        source: What errors call it.
        taken: Images that it takes where the file does not say.
        made: Images that it makes where the file does not say.

    Raises:
        CheckpointError: There is no such kind of image.
    """
    found = []
    for key, usual in (("inputs", taken), ("outputs", made)):
        ports = header.get(key, {})
        text = ports.get("image") if isinstance(ports, dict) else None
        if text is not None and not isinstance(text, str):
            raise CheckpointError(f"{source}: '{key}' of its header names no kind of image")
        try:
            found.append(usual if text is None else image_kind(text))
        except ConfigError as error:
            raise CheckpointError(f"{source}: '{key}' of its header: {error}") from None
    return found[0], found[1]


def import_named(name: str, what: str = "function") -> Callable[..., Any]:
    """The function `package.module:function`; the name is always the user's own.

    Errors call it `what`. The current folder is searched for the module, as for a script's.

    Raises:
        ConfigError: The name is malformed or cannot be imported, or it is no function.
    """
    module_name, separator, attribute = name.partition(":")
    if not (separator and module_name and attribute) or name.startswith("."):
        raise ConfigError(f"'{name}' is not a {what}; write package.module:{what}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # whatever the user's module raises
        raise ConfigError(f"cannot import the {what} '{name}': {error}") from error
    if not callable(found):
        returns = " that returns an nn.Module" if what == "factory" else ""
        raise ConfigError(f"'{name}' is not a function{returns}")
    function: Callable[..., Any] = found
    return function


def call_factory(name: str) -> nn.Module:
    """The generator that `package.module:factory` returns; the name is always the user's own.

    Raises:
        ConfigError: See `import_named`; or the function raises, or gives no module.
    """
    factory = import_named(name, "factory")
    try:
        made = factory()
    except Exception as error:  # whatever the user's function raises
        raise ConfigError(f"the factory '{name}' raised {type(error).__name__}: {error}") from error
    if not isinstance(made, nn.Module):
        raise ConfigError(f"'{name}' returned {type(made).__name__}, not an nn.Module")
    for layer in made.modules():
        if getattr(layer, "inplace", False):  # it would overwrite activations that are compared
            layer.inplace = False  # type: ignore[assignment]
    return made


def weights_file(path: Path) -> Path:
    """The weights of a path that may be a run folder or a folder with a `latest_net_G.pth`.

    Raises:
        CheckpointError: There is nothing of that kind.
    """
    if not path.is_dir():
        if not path.exists():
            raise CheckpointError(f"no weights {path}")
        return path
    for name in WEIGHTS_NAMES:
        if (path / name).exists():
            return path / name
    raise CheckpointError(f"{path} holds no weights ({', '.join(WEIGHTS_NAMES)})")


def load_network(
    path: Path,
    factory: str | None = None,
    norm: str | None = None,
    trusted: Collection[str] = (),
    taken: ImageKind | None = None,
) -> Network:
    """A generator with its weights.

    A file may ask for a factory in its header, but what is imported is up to the user alone.

    Args:
        path: A run folder, a safetensors file of ours, or a `.pth` of pytorch-CycleGAN-and-pix2pix
            or gan-compression.
        factory: `package.module:factory` of the network that the tensors belong to, where the file
            does not describe one of ours.
        norm: Norm of a foreign checkpoint where its tensors leave a choice.
        trusted: Factories that the user has named as well, to be called where the file asks for
            one.
        taken: Images that the network takes where the file does not say.

    Raises:
        CheckpointError: The file is missing or damaged, asks for a factory that nobody has named,
            or its tensors do not fit the network.
    """
    file = weights_file(path)
    if file.suffix == ".safetensors":
        tensors, header = load_tensors(file)
        description = described(header, str(file), factory, trusted)
    else:
        tensors, header = load_foreign(file, alone=factory is not None), {}
        if not factory:
            tensors = without_unused_statistics(tensors)
        description = {"module": factory} if factory else _describe(tensors, file, norm)
    try:
        _refuse_inflated(description, tensors, file)
    except ConfigError as error:
        if str(file) in str(error):
            raise
        raise ConfigError(f"{file}: {error}") from None
    if taken is not None and "inputs" not in header:
        header = {**header, "inputs": {"image": str(taken)}}
    network = build_network(description, str(file), header)
    if network.is_function:
        network.module = read_book(tensors, str(file)).eval()
        return network
    try:
        fit(network.module, tensors, network.example_shape)
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from None
    network.module.eval()
    return network


def _refuse_inflated(description: Json, tensors: dict[str, Tensor], file: Path) -> None:
    """Raise where a file describes a network of ours that is out of all proportion to its tensors.

    Of a narrow subnet the network is described in full, before its channels are cut.
    """
    if "generator" not in description:
        return
    options = build(GeneratorOptions, description["generator"], str(file))
    with torch.device("meta"):
        described = sum(p.numel() for p in build_generator(options).parameters())
    stored = sum(tensor.numel() for tensor in tensors.values())
    if described > max(MIN_REFUSED, MAX_RATIO * stored):
        raise CheckpointError(
            f"{file} describes a network of {described:,} parameters and holds {stored:,}"
        )


def described(
    header: Json, source: str, factory: str | None = None, trusted: Collection[str] = ()
) -> Json:
    """How to build the network that a file's header describes; see `load_network`.

    Raises:
        CheckpointError: It asks for a factory that nobody has named, or describes nothing.
    """
    description = header.get("network") or {}
    if not isinstance(description, dict):
        raise CheckpointError(f"{source}: 'network' of its header is not a description")
    if "generator" in description or answers_of(description) is not None:
        return description
    if "module" not in description:
        return {"module": factory} if factory else description
    asked = str(description["module"])
    # who names another one than the file does has moved it
    named = asked if asked in trusted else factory or next(iter(trusted), "")
    if named:
        return {**description, "module": named}
    advice = f"\n  If it is yours, name it: --module {asked}" if FACTORY.fullmatch(asked) else ""
    raise CheckpointError(
        f"{source} asks for the function {asked[:80]!a}, but no file decides which code is "
        f"run{advice}"
    )


def _describe(tensors: dict[str, Tensor], path: Path, norm: str | None) -> Json:
    options = infer_generator(tensors, path)
    if norm is not None:
        options = build(GeneratorOptions, {**options.model_dump(), "norm": norm}, str(path))
    return {"generator": options.model_dump(mode="json")}


def save_network(path: Path, module: nn.Module, description: Json, **header: Any) -> None:
    """Write a generator with everything that is needed to build it again."""
    save_tensors(path, module.state_dict(), {"network": description, **header})


def continue_modules(folder: Path, modules: dict[str, nn.Module | None]) -> None:
    """Fill modules with the weights of another run.

    Args:
        folder: Its run folder.
        modules: By the file's name without suffix; None, and files that are not there, are left
            out, but there must be `weights`.

    Raises:
        CheckpointError: There are no weights, or they have other shapes than the module.
    """
    for name, module in modules.items():
        file = folder / f"{name}.safetensors"
        if module is None or (name != "weights" and not file.exists()):
            continue
        tensors, _ = load_tensors(file)
        try:
            module.load_state_dict(tensors)
        except RuntimeError as error:
            raise CheckpointError(f"{file} does not fit this network: {error}") from None


@dataclass
class Discriminator:
    """A discriminator and how to build it.

    Attributes:
        module: The network.
        options: Its section.
        input_nc: Channels of the judged image.
    """

    module: nn.Module
    options: DiscriminatorOptions
    input_nc: int


def new_discriminator(options: DiscriminatorOptions, input_nc: int) -> Discriminator:
    """A discriminator with fresh weights."""
    return Discriminator(init_weights(build_discriminator(options, input_nc)), options, input_nc)


def load_discriminator(path: Path) -> Discriminator:
    """A discriminator from a file of ours or a foreign one.

    Raises:
        CheckpointError: The file is missing or damaged, or no discriminator.
    """
    if path.suffix == ".safetensors":
        tensors, header = load_tensors(path)
        try:
            raw, channels = header["network"]["discriminator"], header["input_nc"]
        except (KeyError, TypeError):
            raise CheckpointError(f"{path} is not a discriminator of this package") from None
        options = build(DiscriminatorOptions, raw, str(path))
    else:
        tensors = without_unused_statistics(load_foreign(path, "discriminator", alone=False))
        options, channels = infer_discriminator(tensors, path)
    module = build_discriminator(options, channels)
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: tensors do not fit {options.name}: {error}") from None
    return Discriminator(module, options, channels)


def save_discriminator(path: Path, discriminator: Discriminator, **header: Any) -> None:
    """Write a discriminator with everything that is needed to build it again."""
    description = {"discriminator": discriminator.options.model_dump(mode="json")}
    header = {"network": description, "input_nc": discriminator.input_nc, **header}
    save_tensors(path, discriminator.module.state_dict(), header)


def find_discriminator(weights: Path) -> Path | None:
    """The discriminator that was trained with a generator, where it lies beside it."""
    file = weights_file(weights)
    names = {
        "weights.safetensors": "discriminator.safetensors",
        "latest_net_G.pth": "latest_net_D.pth",
        "latest_net_G_A.pth": "latest_net_D_A.pth",
    }
    name = names.get(file.name) or file.name.replace("_net_G", "_net_D")
    found = file.with_name(name)
    return found if name != file.name and found.exists() else None


def describe_space(space: SearchSpace) -> Json:
    """A search space as JSON."""
    dimensions = [{"kind": d.kind, **asdict(d)} for d in space.dimensions]
    return {"dimensions": dimensions, "forms": {str(k): v for k, v in space.forms.items()}}


def read_space(content: Json) -> SearchSpace:
    """The search space of a JSON description.

    Raises:
        LookupError, TypeError, ValueError, AttributeError, ConfigError, SpaceError: It is none.
    """
    dimensions = tuple(map(_read_dimension, content["dimensions"]))
    places = range(len(dimensions))
    for dimension in dimensions:
        for case in dimension.uses:
            if any(other not in places for other, _ in case):
                raise ValueError("a dimension depends on one that is not there")
    forms = {int(k): tuple(places[place] for place in v) for k, v in content["forms"].items()}
    return SearchSpace(dimensions, forms)


def _read_dimension(content: Json) -> Dimension:
    """A dimension; the first files knew widths alone, whose members they called groups."""
    facts = dict(content)
    kind: Any = lookup(DIMENSIONS, str(facts.pop("kind", "width")), "kind of dimension")
    members = tuple(map(str, facts.pop("groups", None) or facts.pop("members")))
    numbers = {key: _whole_numbers(value) for key, value in facts.items()}
    made: Dimension = kind(members, **numbers)
    return made


def _whole_numbers(value: Any) -> Any:
    """Integers in nested tuples; a TypeError for anything else."""
    return tuple(map(_whole_numbers, value)) if isinstance(value, list | tuple) else index(value)


def load_supernet(path: Path, trusted: Collection[str] = ()) -> tuple[Supernet, Network]:
    """A trained supernet from its run folder or file; its stride is one for all subnets.

    Args:
        path: The folder or file.
        trusted: See `load_network`.

    Raises:
        CheckpointError: The file is missing, damaged, or holds a plain generator.
    """
    network = load_network(path, trusted=trusted)
    net = as_supernet(network)
    network.stride = net.stride(network.stride)
    return net, network


def as_supernet(network: Network) -> Supernet:
    """The supernet of a loaded generator whose file describes a search space.

    Raises:
        CheckpointError: It describes none.
    """
    if "space" not in network.header:
        raise CheckpointError(
            f"{network.source} is not a supernet: its header names no search space"
        )
    try:
        space = read_space(network.header["space"])
    except (LookupError, TypeError, ValueError, AttributeError, ConfigError, SpaceError) as error:
        raise CheckpointError(f"{network.source}: no search space in its header: {error}") from None
    net = Supernet(network.module, torch.empty(network.example_shape), space=space).eval()
    if not all(_fits(dimension, net.traced) for dimension in space.dimensions):
        raise CheckpointError(
            f"{network.source}: the search space in its header is that of another generator"
        )
    return net


def _fits(dimension: Dimension, traced: Traced) -> bool:
    """Whether a generator has what a dimension names, of its full size and with its choices."""
    sizes = {group.name: group.size for group in traced.groups}
    branches = {branch.name for stage in traced.stages for branch in stage}
    sides = {kernel.layer: kernel for kernel in traced.kernels}
    return (
        dimension.channels(dimension.full).items() <= sizes.items()
        and dimension.dropped(0) <= branches
        and dimension.resolution(dimension.full) == FULL
        and all(
            layer in sides
            and side == sides[layer].side
            and set(dimension.choices) <= set(sides[layer].choices)
            for layer, side in dimension.kernels(dimension.full).items()
        )
    )
