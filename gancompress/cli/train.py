"""`gancompress teacher`, `supernet` and `finetune`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from gancompress.checkpoint.models import stage_folder
from gancompress.checkpoint.network import Network, build_network
from gancompress.checkpoint.run import RunFolder, planned_splits
from gancompress.cli.context import Context, model_of
from gancompress.config import (
    FinetuneOptions,
    SupernetOptions,
    TeacherOptions,
    build,
    dump_options,
    load_options,
)
from gancompress.cost import format_count
from gancompress.elastic import NetworkCosts, Supernet
from gancompress.errors import DataError
from gancompress.training.stages import (
    finetune,
    supernet_options,
    train_supernet,
    train_teacher,
    with_found_images,
)
from gancompress.training.student import (
    load_teacher,
    make_student,
    refuse_layers_of_function,
    with_images_of,
)


def run_teacher(context: Context) -> None:
    """Train a pix2pix or CycleGAN teacher."""
    options = load_options(TeacherOptions, context.args.options, context.overrides())
    if context.args.dry_run:
        options = with_found_images(options)
        description = {"generator": options.generator.model_dump(mode="json")}
        network = build_network(description, str(context.args.options))
        _dry_run(context, options, network)
        return
    _finish(context, options.run, train_teacher(options, context.device))
    backwards = () if options.data.direction == "AtoB" else ("--direction", "BtoA")
    context.suggest("compress", options.data.root, "--teacher", options.run, *backwards)


def run_supernet(context: Context) -> None:
    """Distil the once-for-all student from a teacher."""
    options = load_options(SupernetOptions, context.args.options, context.overrides())
    if context.args.dry_run:
        data = options.data
        teacher = load_teacher(options.teacher, context.args.module, data.input, data.target)
        refuse_layers_of_function(options, teacher)
        options = options.model_copy(update={"data": with_images_of(data, teacher)})
        student = make_student(options.student, teacher)
        if teacher.is_function:  # what has costs is the student
            teacher = replace(teacher, module=student.generator, stride=student.stride)
        _dry_run(context, options, teacher, student.net)
        return
    _finish(context, options.run, train_supernet(options, context.device, context.args.module))
    context.suggest("search", options.run, "--dry-run")


def run_finetune(context: Context) -> None:
    """Train one extracted subnet further."""
    net, _, supernet = model_of(context.args).supernet()
    before = supernet_options(supernet)
    subnet = str(net.space.parse(context.args.subnet))
    raw: dict[str, Any] = {
        # beside the folder that the user has named, wherever that one says its supernet is
        "run": str(stage_folder(context.args.model).parent / f"finetune-{subnet}"),
        "supernet": str(supernet),
        "subnet": subnet,
        "loss": before.loss.model_dump(mode="json"),
        "schedule": before.schedule.model_dump(mode="json"),
        "log": before.log.model_dump(mode="json"),
    }
    options = build(FinetuneOptions, raw, "finetune", context.overrides())
    if context.args.dry_run:
        context.say(dump_options(options))
        context.result(options.model_dump(mode="json"))
        return
    _finish(context, options.run, finetune(options, context.device, context.args.module))
    context.suggest("export", options.run)


def _finish(context: Context, run: Path, scores: dict[str, Any]) -> None:
    shown = ", ".join(f"{k} {v:.4g}" for k, v in scores.items() if isinstance(v, float))
    context.say(f"{run}: {scores['images']} images{', ' + shown if shown else ''}")
    context.result({"run": str(run), **scores})


def _dry_run(
    context: Context,
    options: TeacherOptions | SupernetOptions,
    network: Network,
    net: Supernet | None = None,
) -> None:
    """Print the resolved options, splits, shapes, parameters and MACs."""
    size = options.data.whole_size
    costs = NetworkCosts(network.module, network.example_shape)
    params, macs, paper = costs.params, costs.macs(size), costs.macs(size, paper=True)
    splits = describe_splits(options)
    lines = [
        dump_options(options),
        *splits,
        f"generator: {params:,} parameters, {format_count(macs)} MACs at {size}x{size} "
        f"({format_count(paper)} as papers count)",
    ]
    facts: dict[str, Any] = {"params": params, "macs": macs, "macs_paper": paper, "size": size}
    facts["splits"] = splits
    if net is not None:
        low, high = (net.macs(s, size) for s in (net.space.smallest(), net.space.largest()))
        lines.append(
            f"student: {net.space.distinct:,} subnets from {net.space.smallest()} "
            f"({format_count(low)} MACs) to {net.space.largest()} ({format_count(high)} MACs)"
        )
        facts["space"] = {"size": net.space.distinct, "macs": [low, high]}
    traced = costs.model.traced
    shapes = traced.shapes(size, size)
    for op, _, _ in traced.operations:
        lines.append(f"  {op.weight or op.node}: {shapes[op.source]} -> {shapes[op.node]}")
    context.say("\n".join(lines))
    context.result(facts)


def describe_splits(options: TeacherOptions | SupernetOptions) -> list[str]:
    """One line for each split that a stage would use, or one on why there are none."""
    source = options.teacher.path if isinstance(options, SupernetOptions) else None
    try:
        splits = planned_splits(RunFolder(options.run), options.data, source)
    except DataError as error:  # a dry run works without the data
        return [f"no splits: {error}"]
    return [splits.describe(split) for split in ("train", "search", "test")]
