"""`gancompress segmenter`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gancompress.cli.context import Context, existing
from gancompress.config import SegmenterOptions, build, dump_options, load_options
from gancompress.data import list_images, make_splits, read_image
from gancompress.data.kinds.kind import split_folder
from gancompress.data.listing import find_layout
from gancompress.metrics.segmentation import build_segmenter, load_judge
from gancompress.training.labels import label_image
from gancompress.training.segmenter import (
    choose_palette,
    labels_name,
    segmenter_pairs,
    train_segmenter,
)

DEFAULT_SIZE = 256
MAX_STRAY_IMAGES = 16  # label images whose odd colours a dry run counts
# flags that are options by another name
FLAGS = {
    "direction": "data.direction",
    "arch": "arch",
    "run": "run",
    "classes": "classes",
    "weights": "weights",
}


def run_segmenter(context: Context) -> None:
    """Train the judge of mIoU on real pairs."""
    options = _options(context)
    if context.args.dry_run:
        _dry_run(context, options)
        return
    scores = train_segmenter(options, context.device)
    judge = load_judge(options.run)
    real = judge.real
    context.say(
        f"{options.run}: {judge.name}, {judge.classes} classes; on {real['num_images']} real "
        f"photos of the {real['split']} split:\n"
        f"  pixel accuracy {real['accuracy']:.1f} % (most frequent class everywhere: "
        f"{real['chance_accuracy']:.1f} %)\n"
        f"  mIoU {real['miou']:.1f} [{real['miou_low']:.1f}, {real['miou_high']:.1f}] "
        f"(most frequent class everywhere: {real['chance_miou']:.1f})"
    )
    facts = {"run": str(options.run), "arch": judge.name, "classes": judge.classes}
    context.result({**facts, "images": scores["images"], **real})


def _options(context: Context) -> SegmenterOptions:
    args = context.args
    path = existing(args.data, "data folder or options file")
    given = {key: getattr(args, flag) for flag, key in FLAGS.items()}
    texts = [f"{key}={value}" for key, value in given.items() if value is not None]
    if args.size is not None:
        texts += [f"data.load_size={args.size}", f"data.crop_size={args.size}"]
    if args.num_images is not None:  # half of them at the full learning rate
        decay = args.num_images // 2
        texts.append(f"schedule.num_images={args.num_images - decay}")
        texts.append(f"schedule.num_images_decay={decay}")
    texts += context.overrides()
    if path.is_file():
        return load_options(SegmenterOptions, path, texts)
    size = _own_size(path)
    name = path.resolve().name
    raw: dict[str, Any] = {
        "run": str(Path("runs") / name / "segmenter"),
        "data": {"root": str(path), "load_size": size, "crop_size": size},
        "schedule": SegmenterOptions.model_fields["schedule"].default.model_dump(),
    }
    return build(SegmenterOptions, raw, "segmenter", texts)


def _own_size(root: Path) -> int:
    """Side of the first training image, or `DEFAULT_SIZE` where it is not square."""
    layout = find_layout(root, "paired")
    folder = split_folder(root, layout, "train", next(iter(layout)))
    if folder is None:
        return DEFAULT_SIZE  # lists instead of folders, or an error to come
    width, height = read_image(list_images(folder)[0]).size
    return height if width == (2 if "AB" in layout else 1) * height else DEFAULT_SIZE


def _dry_run(context: Context, options: SegmenterOptions) -> None:
    splits = make_splits(options.data)
    labels = segmenter_pairs(options, splits, "train")[1]
    palette = choose_palette(options, labels)
    shown = [label_image(labels, i)[None] for i in range(min(len(labels), MAX_STRAY_IMAGES))]
    stray = sum(palette.stray_share(image) for image in shown) / len(shown)
    module = build_segmenter(options.arch, palette.num_classes)
    params = sum(p.numel() for p in module.parameters())
    context.say(dump_options(options))
    context.say("\n".join(splits.describe(split) for split in ("train", "search", "test")))
    context.say(
        f"labels: {labels_name(labels)}, {palette.num_classes} colours {palette.colours}; "
        f"{stray:.1%} of the pixels are none of them\n{options.arch}: {params:,} parameters"
    )
    context.result(
        {"classes": palette.num_classes, "palette": palette.colours, "stray_share": stray,
         "params": params, "num_images": len(labels)}
    )  # fmt: skip
