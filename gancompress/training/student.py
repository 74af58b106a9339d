"""Where generators and elasticity meet: the student of a teacher, as a supernet."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import nn

from gancompress.checkpoint.network import (
    Network,
    build_network,
    example_shape,
    kinds_header,
    load_network,
)
from gancompress.config import (
    DataOptions,
    FinetuneOptions,
    GeneratorOptions,
    StudentOptions,
    SupernetOptions,
    TeacherSource,
)
from gancompress.data import RGB, image_kind
from gancompress.elastic import (
    Group,
    SearchSpace,
    Supernet,
    Tie,
    Traced,
    channel_importance,
    elastic_groups,
    make_space,
    nothing_elastic,
    sort_channels,
    trace,
    with_depths,
    with_kernels,
    with_resolutions,
)
from gancompress.errors import CheckpointError, ConfigError, TraceError
from gancompress.losses.terms import TERMS, term_weights
from gancompress.models import GENERATORS, build_generator, family_of, init_weights
from gancompress.models.configs import config_set
from gancompress.training.functions import function_kind
from gancompress.training.networks import SupernetStudent

logger = logging.getLogger(__name__)
NUM_TAPS = 4
NO_LAYERS = (
    "{} is a function, which has none of the layers that {} would need\n"
    "  Set student.name to a family of generators, such as subpixel_resnet_6blocks, and weights of "
    "terms that compare activations to 0: loss.lambda_distill=0."
)


def load_teacher(
    source: TeacherSource,
    trusted: Collection[str] = (),
    taken: str | None = None,
    made: str | None = None,
) -> Network:
    """The teacher of a distillation; that of a function has no answers yet.

    Args:
        source: The section `teacher` of the user's options.
        trusted: Factories that its file may ask for, see `load_network`.
        taken: `data.input`: images that it takes where its file does not say.
        made: `data.target`: images that a function makes.

    Raises:
        ConfigError: Neither weights nor a factory is given.
        CheckpointError: The weights cannot be used.
    """
    if function_kind(source) is not None:
        header = kinds_header(image_kind(taken), image_kind(made))
        return build_network({"answers": {}}, str(source.weights), header)
    if source.path is not None:
        kind = None if taken is None else image_kind(taken)
        network = load_network(source.path, source.module, source.norm, trusted, kind)
        progress = network.header.get("progress", {})
        if progress.get("images", 0) < progress.get("of", 0):
            raise CheckpointError(
                f"{source.path} is in training: {progress['images']} of {progress['of']} images"
            )
        return network
    if source.module is None:
        raise ConfigError("teacher: give teacher.weights, teacher.module, or both")
    header = {"inputs": {"image": taken}} if taken else {}
    return build_network({"module": source.module}, source.module, header)


def with_images_of(data: DataOptions, teacher: Network) -> DataOptions:
    """The options with the kinds of images that a teacher takes and makes; RGB ones may stay None.

    What is given is another reading of the teacher's channels, such as label maps for bands.

    Raises:
        ConfigError: The options give a kind of other channels.
    """
    found = {}
    for key, kind in (("input", teacher.input), ("target", teacher.output)):
        given = getattr(data, key)
        if given is None and kind != RGB:
            found[key] = str(kind)
        elif given is not None and image_kind(given).channels != kind.channels:
            verb = "takes" if key == "input" else "makes"
            raise ConfigError(f"data.{key}={given}, but the teacher {verb} images of kind {kind}")
    return data.model_copy(update=found)


def refuse_layers_of_function(options: SupernetOptions | FinetuneOptions, teacher: Network) -> None:
    """Refuse options that need the layers of a teacher that is a function.

    Raises:
        ConfigError: They do; names them all.
    """
    if not teacher.is_function:
        return
    asking = []
    if isinstance(options, SupernetOptions) and options.student.name == "same":
        asking.append("student.name=same")
    names = [name for name in term_weights(options.loss) if "activations" in TERMS[name].needs]
    asking += [
        "loss." + ("lambda_distill" if name == "distill" else f"terms.{name}") for name in names
    ]
    if asking:
        raise ConfigError(NO_LAYERS.format(teacher.source, " and ".join(asking)))


def make_student(options: StudentOptions, teacher: Network) -> SupernetStudent:
    """Build the supernet of a teacher.

    Raises:
        TraceError: The student's channels cannot be followed.
        ConfigError: The options name an unknown family or search space.
    """
    if options.name == "same":
        if teacher.is_function:
            raise ConfigError(NO_LAYERS.format(teacher.source, "student.name=same"))
        return _same_student(options, teacher)
    given = teacher.description.get("generator") or {}
    family = GENERATORS[options.name]
    section = GeneratorOptions.model_validate(
        {
            "name": options.name,
            "input_nc": teacher.input.channels,
            "output_nc": teacher.output.channels,
            "ngf": options.ngf or given.get("ngf", 64),
            **family.student,
            **{
                key: getattr(options, key)
                for key in ("norm", "upsampling")
                if getattr(options, key)
            },
        }
    )
    generator = init_weights(build_generator(section))
    source = teacher.module
    if options.inherit and not teacher.is_function:
        source = _sorted_copy(teacher)
        inherit(generator, source)
    stride = math.lcm(family.stride, teacher.stride)
    example = example_shape(teacher.input.channels, stride)
    net = Supernet(generator, torch.empty(example), space=_space(options, generator, example))
    description = {"generator": section.model_dump(mode="json")}
    return SupernetStudent(net, description, net.stride(stride), source, False, example)


def _sorted_copy(teacher: Network) -> nn.Module:
    """The teacher with its most important channels first; as it is where it cannot be traced."""
    module = copy.deepcopy(teacher.module)
    try:
        traced = trace(module, teacher.example_shape)
    except TraceError as error:
        logger.warning("the teacher's channels are inherited unsorted: %s", error)
        return teacher.module
    sort_channels(module, traced, channel_importance(module, traced))
    return module


def _same_student(options: StudentOptions, teacher: Network) -> SupernetStudent:
    generator = copy.deepcopy(teacher.module)
    traced = trace(generator, teacher.example_shape)
    space = _space(options, generator, teacher.example_shape, traced)
    if options.inherit:
        sort_channels(generator, traced, channel_importance(generator, traced))
    sorted_teacher = copy.deepcopy(generator) if options.inherit else teacher.module
    if not options.inherit:
        _start_anew(generator, teacher)
    generator.requires_grad_(True)
    net = Supernet(generator, torch.empty(teacher.example_shape), space=space)
    return SupernetStudent(
        net, teacher.description, net.stride(teacher.stride), sorted_teacher, options.inherit,
        teacher.example_shape,
    )  # fmt: skip


def _start_anew(generator: nn.Module, teacher: Network) -> None:
    """Give a copy of the teacher random weights; layers of somebody's own get what they begin with.

    The copy may be narrower than what its description builds.
    """
    begun = build_network(teacher.description, teacher.source).module.state_dict()
    for name, tensor in generator.state_dict().items():
        tensor.copy_(begun[name][tuple(map(slice, tensor.shape))])
    init_weights(generator)


@torch.no_grad()
def inherit(generator: nn.Module, teacher: nn.Module) -> int:
    """Copy every tensor that both have under one name and shape; returns how many there were."""
    theirs = teacher.state_dict()
    count = 0
    for name, tensor in generator.state_dict().items():
        if name in theirs and theirs[name].shape == tensor.shape:
            tensor.copy_(theirs[name])
            count += 1
    return count


def _space(
    options: StudentOptions,
    generator: nn.Module,
    example_shape: tuple[int, ...],
    traced: Traced | None = None,
) -> SearchSpace:
    traced = traced or trace(generator, example_shape)
    groups = elastic_groups(traced, options.keep)
    space = with_depths(_widths(options, generator, groups), traced, options.depths)
    space = with_kernels(space, traced, options.kernels)
    space = with_resolutions(space, traced, options.resolutions)
    if not space.dimensions:
        raise nothing_elastic(traced)
    return space


def _widths(options: StudentOptions, generator: nn.Module, groups: Sequence[Group]) -> SearchSpace:
    family = family_of(generator)
    if family is None or not options.tie_blocks:
        if options.config_set:
            raise ConfigError("student.config_set needs a family of ours and student.tie_blocks")
        return make_space(groups, options.widths, options.divisor)
    ties = [Tie(*tie) for tie in family.ties([group.name for group in groups])]
    # a ResNet of one, two or four blocks has no three thirds of them
    forms = {count: places for count, places in family.forms.items() if max(places) < len(ties)}
    space = make_space(groups, options.widths, options.divisor, ties, forms)
    if not options.config_set:
        return space
    ngf = min(dimension.full for dimension in space.dimensions)
    candidates = config_set(family.config_sets, options.config_set, ngf)
    if len(candidates) != len(space.dimensions):
        raise ConfigError(
            f"student.config_set={options.config_set} has {len(candidates)} numbers, and this "
            f"generator takes {len(space.dimensions)}"
        )
    dimensions = tuple(
        replace(dimension, choices=choices)
        for dimension, choices in zip(space.dimensions, candidates, strict=True)
    )
    return replace(space, dimensions=dimensions)


def default_taps(generator: nn.Module, traced: Traced) -> tuple[str, ...]:
    """Layers whose activations are matched where the options name none.

    Those of the generator's family, otherwise four convolutions, evenly spread.
    """
    family = family_of(generator)
    if family is not None and family.taps is not None:
        return family.taps(list(traced.outputs))
    elastic = [
        op.weight.removesuffix(".weight")
        for op, _, outs in traced.operations
        if op.weight and outs.is_elastic
    ]
    named = list(dict.fromkeys(name for name in elastic if name in traced.outputs))
    step = len(named) / NUM_TAPS
    return tuple(dict.fromkeys(named[int((i + 0.5) * step)] for i in range(NUM_TAPS)))


def split_tap(tap: str) -> tuple[str, str]:
    """Student layer and teacher layer of `layer` or `student_layer:teacher_layer`."""
    student, _, teacher = tap.partition(":")
    return student, teacher or student
