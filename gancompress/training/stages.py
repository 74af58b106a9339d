"""The training stages: what an options file becomes."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gancompress.checkpoint.files import load_tensors
from gancompress.checkpoint.network import (
    Discriminator,
    Network,
    describe_subnet,
    example_shape,
    find_discriminator,
    kinds_header,
    load_discriminator,
    load_network,
    load_supernet,
    new_discriminator,
    save_network,
)
from gancompress.checkpoint.run import TEACHER_FILE, RunFolder, keep_splits, record_splits
from gancompress.config import (
    DataOptions,
    DistillLossOptions,
    FinetuneOptions,
    SupernetOptions,
    TeacherOptions,
    load_options,
)
from gancompress.data import (
    BatchStream,
    Split,
    Splits,
    data_kind,
    image_kind,
    load_split,
    with_kinds,
)
from gancompress.distributed import agreed, choose_device, rank
from gancompress.errors import CheckpointError, ConfigError, DataError
from gancompress.losses.terms import needs
from gancompress.models import GENERATORS
from gancompress.training.answered import KnownFunction, answered
from gancompress.training.distill import DistillTask, Recipe
from gancompress.training.loop import Trainer, claimed
from gancompress.training.networks import Student, SubnetStudent, WholeView
from gancompress.training.pairs import PaddedTeacher, Teacher, teacher_pairs
from gancompress.training.sampling import SubnetSampler
from gancompress.training.student import (
    load_teacher,
    make_student,
    refuse_layers_of_function,
    with_images_of,
)
from gancompress.training.teacher import CycleGanTask, Pix2PixTask

logger = logging.getLogger(__name__)
PAIRS = "pairs"
"""Folder of the teachers' answers, beside the run folders that share it."""


def train_teacher(options: TeacherOptions, device: torch.device | str = "auto") -> dict[str, Any]:
    """Train a teacher, or go on with one; returns its final scores.

    Raises:
        DataError: The data cannot be used.
        Interrupted: A signal came; the same call goes on.
    """
    run, device = RunFolder(options.run), choose_device(device)
    with claimed(run, options, options.schedule, device) as before:
        if before is not None:
            return before
        options = with_found_images(run.resolved(options))
        _record(run, options)
        data = options.data
        _check_stride(data, GENERATORS[options.generator.name].stride)
        splits = agreed(lambda: record_splits(run, data))
        training = load_split(data, "train", data.load_size, splits)
        if training.targets is None:
            raise DataError(f"{data.root} has no target images: a teacher needs both sides")
        held_out = load_split(data, "search", data.whole_size, splits)
        _preload(training)
        torch.manual_seed(options.seed)
        task_class = Pix2PixTask if data_kind(data.mode).is_paired else CycleGanTask
        task = task_class(options, held_out, device)
        if options.start_from is not None and agreed(lambda: not run.state.exists()):
            task.start_from(options.start_from)
        stream = BatchStream(training, data, options.seed)
        return Trainer(task, stream, run, options.schedule, options.log, options.seed).fit()


def with_found_images(options: TeacherOptions) -> TeacherOptions:
    """The options with the kinds of images, and the generator's channels.

    Raises:
        ConfigError: The generator has other channels than the images.
        DataError: The data cannot be listed.
    """
    given = options.generator
    data = with_kinds(options.data, (given.input_nc, given.output_nc))
    channels = {
        "input_nc": image_kind(data.input).channels,
        "output_nc": image_kind(data.target).channels,
    }
    generator = given.model_copy(update=channels)
    return options.model_copy(update={"data": data, "generator": generator})


def _record(run: RunFolder, options: TeacherOptions | SupernetOptions) -> None:
    """Put what a stage has found out into its folder."""
    if rank() == 0:
        run.record(options)


def train_supernet(
    options: SupernetOptions, device: torch.device | str = "auto", trusted: Collection[str] = ()
) -> dict[str, Any]:
    """Distil the once-for-all student, or go on with it; returns its final scores.

    Args:
        options: Of the stage.
        device: Where to train.
        trusted: Factories that the teacher's file may ask for, see `load_network`.

    Raises:
        DataError: The data cannot be used.
        CheckpointError: The teacher cannot be used.
        TraceError: The student's channels cannot be followed.
        Interrupted: A signal came; the same call goes on.
    """
    run, device = RunFolder(options.run), choose_device(device)
    with claimed(run, options, options.schedule, device) as before:
        if before is not None:
            return before
        torch.manual_seed(options.seed)
        options = run.resolved(options)
        data = options.data
        teacher = load_teacher(options.teacher, trusted, data.input, data.target)
        refuse_layers_of_function(options, teacher)
        options = options.model_copy(update={"data": with_images_of(data, teacher)})
        teacher.input, teacher.output = map(image_kind, (options.data.input, options.data.target))
        _record(run, options)
        student = make_student(options.student, teacher)
        judge = _supernet_judge(options, teacher)
        recipe = Recipe(
            options.loss,
            SubnetSampler(student.net, options.sampling),
            options.sampling.inplace,
            options.schedule,
            options.log.num_samples,
        )
        splits = agreed(lambda: record_splits(run, options.data, options.teacher.path))
        pairs = options.teacher.pairs or run.path.parent / PAIRS
        if teacher.is_function:
            splits = answered(teacher, options, pairs, splits)
            student.teacher = teacher.module
            agreed(partial(keep_splits, run, splits))
        agreed(partial(_keep_teacher, run, teacher))
        parts = _Distillation(student, teacher, judge, recipe, options.data, splits, pairs)
        return _distil(options, run, parts, device)


@dataclass(frozen=True)
class _Distillation:
    """What one distillation is made of; `pairs` is the folder of the teachers' answers."""

    student: Student
    teacher: Network
    judge: Discriminator | None
    recipe: Recipe
    data: DataOptions
    splits: Splits
    pairs: Path


def _distil(
    options: SupernetOptions | FinetuneOptions,
    run: RunFolder,
    parts: _Distillation,
    device: torch.device,
) -> dict[str, Any]:
    data, student = parts.data, parts.student
    why = ""
    if isinstance(options, SupernetOptions) and set(options.student.resolutions) != {1.0}:
        why = (
            f"\n  The stride follows from student.resolutions={[*options.student.resolutions]}: "
            "shares such as 0.5 and 0.75 need smaller multiples than 0.33."
        )
    _check_stride(data, student.stride, why)
    held_out = load_split(data, "search", data.whole_size, parts.splits)
    task = DistillTask(student, parts.judge, held_out, parts.recipe, device)
    start = options.start_from if isinstance(options, SupernetOptions) else None
    if start is not None and agreed(lambda: not run.state.exists()):
        task.start_from(start)
    training = _with_pairs(parts, device)
    stream = BatchStream(training, data, options.seed)
    return Trainer(task, stream, run, options.schedule, options.log, options.seed).fit()


def _with_pairs(parts: _Distillation, device: torch.device) -> Split:
    """The training split, with the teacher's outputs where those are the target."""
    data, loss = parts.data, parts.recipe.loss
    training = load_split(data, "train", data.load_size, parts.splits)
    if training.targets is None and loss.lambda_gan:
        raise DataError(
            f"{data.root} has no images of the target domain: set loss.lambda_gan=0, or add them"
        )
    if loss.target == "truth" and not training.paired:
        raise ConfigError(
            "loss.target=truth needs paired data; unpaired data has the teacher alone"
        )
    if loss.target == "teacher" and not loss.lambda_gan:
        training = replace(training, targets=None, paired=False)  # nobody looks at them
    _preload(training)
    if loss.target == "truth":
        return training
    network = parts.teacher
    teacher: Teacher
    if network.is_function:
        teacher = KnownFunction.of(network, parts.data.load_size)
    else:
        teacher = PaddedTeacher(
            network.module.to(device).eval(), network.stride, device,
            parts.recipe.schedule.precision, network.output.channels, network.input,
        )  # fmt: skip
    return replace(training, pseudo=teacher_pairs(parts.pairs, teacher, training.inputs))


def _preload(split: Split) -> None:
    split.inputs.preload()
    if split.targets is not None:
        split.targets.preload()


def _check_stride(data: DataOptions, stride: int, why: str = "") -> None:
    if data.crop_size % stride or data.load_size < data.crop_size:
        raise ConfigError(
            f"data.crop_size={data.crop_size} must be a multiple of the stride {stride}, "
            f"and data.load_size={data.load_size} at least as large{why}"
        )
    if data.whole_size % stride:
        raise ConfigError(
            f"data.eval_size={data.whole_size} must be a multiple of the stride {stride}{why}"
        )


def _keep_teacher(run: RunFolder, teacher: Network) -> None:
    """Later stages start from this folder alone, so it gets the teacher too.

    Raises:
        ConfigError: The run goes on, and its teacher was another one.
    """
    path = run.path / TEACHER_FILE
    if not run.state.exists() or not path.exists():
        kinds = kinds_header(teacher.input, teacher.output)
        save_network(path, teacher.module, teacher.description, source=teacher.source, **kinds)
        return
    kept, given = load_tensors(path)[0], teacher.module.state_dict()
    if kept.keys() != given.keys() or any(
        not torch.equal(kept[name], given[name].cpu().to(kept[name].dtype)) for name in kept
    ):
        raise ConfigError(
            f"{run.path} was started with another teacher than {teacher.source} is now\n"
            "  Restore that, or start afresh with --set run=FOLDER."
        )


def _wants_judge(loss: DistillLossOptions) -> bool:
    return bool(loss.lambda_gan) or "discriminator" in needs(loss)


def _supernet_judge(options: SupernetOptions, teacher: Network) -> Discriminator | None:
    """The teacher's discriminator where there is one that fits, else a fresh one."""
    if not _wants_judge(options.loss):
        return None
    channels = teacher.output.channels
    if data_kind(options.data.mode).is_paired:
        channels += teacher.input.channels
    source = options.teacher
    path = source.discriminator
    if path is None and source.path is not None and not teacher.is_function:
        path = find_discriminator(source.path)
    if path:
        judge = load_discriminator(path)
        if judge.input_nc == channels:
            logger.info("discriminator from %s", path)
            return judge
        message = f"{path} judges {judge.input_nc} channels, this task has {channels}"
        if source.discriminator:
            raise CheckpointError(message)
        logger.warning("%s; starting with a fresh discriminator", message)
    if "discriminator" in needs(options.loss):
        raise ConfigError(
            "loss.terms.discriminator compares images by the teacher's discriminator, and there "
            "is none that fits: name its file in teacher.discriminator, or leave the term out"
        )
    return new_discriminator(options.discriminator, channels)


def finetune(
    options: FinetuneOptions, device: torch.device | str = "auto", trusted: Collection[str] = ()
) -> dict[str, Any]:
    """Train one extracted subnet further; returns its final scores.

    Args:
        options: Of the stage.
        device: Where to train.
        trusted: Factories that files of the supernet's run may ask for, see `load_network`.

    Raises:
        CheckpointError: The supernet cannot be used.
        SpaceError: The subnet does not belong to it.
        Interrupted: A signal came; the same call goes on.
    """
    run, device = RunFolder(options.run), choose_device(device)
    with claimed(run, options, options.schedule, device) as before:
        if before is not None:
            return before
        torch.manual_seed(options.seed)
        source = supernet_options(options.supernet)
        net, network = load_supernet(options.supernet, trusted)
        subnet = net.space.parse(options.subnet)
        teacher = load_network(options.supernet / TEACHER_FILE, trusted=trusted)
        refuse_layers_of_function(options, teacher)
        agreed(partial(_keep_teacher, run, teacher))
        stride = math.lcm(network.stride, teacher.stride)
        student = SubnetStudent(
            net.extract(subnet), describe_subnet(network.description, net, subnet), stride,
            teacher.module, False,
            example_shape(network.input_nc, stride), subnet,
        )  # fmt: skip
        judge = None
        if _wants_judge(options.loss):
            judge = load_discriminator(RunFolder(options.supernet).discriminator)
        view = WholeView(student.net, net.space.resolution(subnet))
        recipe = Recipe(
            options.loss, lambda *_: [view], 0.0, options.schedule, options.log.num_samples
        )
        splits = agreed(lambda: record_splits(run, source.data, options.supernet))
        pairs = options.pairs or run.path.parent / PAIRS
        parts = _Distillation(student, teacher, judge, recipe, source.data, splits, pairs)
        return _distil(options, run, parts, device)


def supernet_options(run: Path) -> SupernetOptions:
    """The resolved options of a supernet's run folder.

    Raises:
        ConfigError: It is no such folder.
    """
    return load_options(SupernetOptions, run / "config.yaml")
