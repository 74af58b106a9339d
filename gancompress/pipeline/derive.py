"""The options of a compression, derived from a folder of images and a teacher."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from gancompress.checkpoint.models import run_data
from gancompress.checkpoint.network import Network
from gancompress.config import CompressOptions, DataOptions, TeacherSource, build, override
from gancompress.data import DATA_KINDS, data_kind, spread
from gancompress.data.image_kinds import read_array
from gancompress.data.images import ARRAY_SUFFIX, is_image_file
from gancompress.data.kinds.kind import has_folders
from gancompress.data.listing import find_layout, find_sources
from gancompress.errors import ConfigError, DataError
from gancompress.tables import lookup
from gancompress.training.student import load_teacher

NUM_MEASURED = 16
LEAST_PAIR_RATIO = 1.5  # width over height of two images side by side


@dataclass(frozen=True)
class Preset:
    """How much work a compression is.

    Attributes:
        side: Of training crops in pixels, at most.
        margin: Side of the resized images over that of the crops.
        teacher: Family and ngf of a teacher that has to be trained.
        num_images: That teacher and student are trained on, each; None for `epochs`.
        epochs: Passes over the training images where `num_images` is None.
        search: Keys of the search.
    """

    side: int
    margin: float
    teacher: tuple[str, int]
    num_images: int | None
    search: dict[str, Any]
    epochs: int = 200


PRESETS = {
    "quick": Preset(128, 1.0, ("resnet_6blocks", 32), 4_000, {"num_trials": 100, "max_images": 32}),
    "standard": Preset(256, 286 / 256, ("resnet_9blocks", 64), 100_000, {"num_trials": 300}),
    "published": Preset(256, 286 / 256, ("resnet_9blocks", 64), None, {"num_trials": 1000}),
}
"""Schedules by name; `published` counts epochs as pix2pix and CycleGAN do."""

STUDENT_OF_FUNCTION = "subpixel_resnet_6blocks"
"""Family of the student where the teacher is no network."""

LOSSES: dict[str, dict[str, Any]] = {
    "paired": {"gan_mode": "hinge", "lambda_recon": 100.0, "lambda_distill": 1.0},
    "unpaired": {"gan_mode": "lsgan", "lambda_recon": 10.0, "lambda_distill": 0.01},
    "inputs": {"lambda_gan": 0.0, "lambda_recon": 100.0, "lambda_distill": 1.0},
}
"""Of the distillation, by the kind of data: without target images the teacher alone decides."""


@dataclass(frozen=True)
class Images:
    """What a data folder holds.

    Attributes:
        mode: The kind of data.
        count: Training images of the larger side.
        side: The shorter side of the smallest image in pixels, of the files that were measured.
        losses: Entry of `LOSSES`.
    """

    mode: str
    count: int
    side: int
    losses: str


def derive_compression(
    data: Path | str,
    teacher: Path | str | None = None,
    preset: str = "standard",
    epochs: int | None = None,
    overrides: Sequence[str] = (),
    trusted: Collection[str] = (),
) -> CompressOptions:
    """Options that no file has to spell out.

    Args:
        data: Folder of pairs, of two domains, or of inputs alone.
        teacher: A run, or anyone's checkpoint; by default one is trained on the data.
        preset: Entry of `PRESETS`.
        epochs: Passes over the training images, for teacher and student each; half of them with a
            falling learning rate.
        overrides: `key=value` texts, such as `data.direction=BtoA`, `run=FOLDER` or
            `search.budgets=[1G]`.
        trusted: Factories `package.module:factory` that the teacher's file may ask for.

    Raises:
        DataError: The folder does not hold images of a known kind.
        CheckpointError: The teacher cannot be used.
        ConfigError: There is no such preset, or the teacher does not fit the data.
    """
    data, chosen = Path(data), lookup(PRESETS, preset, "preset")
    mode, kind, source = _asked(data, teacher, overrides)
    images, teacher, network = look_at(data, mode), source.path, None
    if source.weights is not None or source.module is not None:
        network = load_teacher(source, trusted, kind)
        teacher = None if network.is_function else teacher
    if network is None and images.mode == "inputs":
        raise ConfigError(
            f"{data} holds images of one domain, which cannot train a teacher: name one with "
            "--teacher"
        )
    crop = _crop(chosen, images, network)
    total = chosen.num_images or chosen.epochs * images.count
    if epochs is not None:
        total = epochs * images.count
    half = {"num_images": total - total // 2, "num_images_decay": total // 2}
    known = run_data(teacher) if teacher is not None else None
    raw: dict[str, Any] = {
        "run": str(Path("runs") / data.resolve().name),
        "data": {
            "root": str(data),
            "mode": images.mode,
            "direction": known[0].direction if known else "AtoB",
            "load_size": round(crop * chosen.margin),
            "crop_size": crop,
        },
        "supernet": {"loss": dict(LOSSES[images.losses]), "schedule": half, "log": _log(total)},
        "search": dict(chosen.search),
    }
    if network is not None and network.is_function:
        raw["supernet"]["student"] = {"name": STUDENT_OF_FUNCTION}
        raw["supernet"]["loss"]["lambda_distill"] = 0.0
    if network is not None:
        raw["supernet"]["teacher"] = source.model_dump(mode="json", exclude_none=True)
    else:
        name, ngf = chosen.teacher
        raw["teacher"] = {
            "generator": {"name": name, "ngf": ngf},
            "schedule": half,
            "log": _log(total),
        }
    options = build(CompressOptions, raw, str(data), list(overrides))
    found = options.supernet.data.direction
    if known and found != known[0].direction:
        raise ConfigError(f"{teacher} was trained with direction {known[0].direction}, not {found}")
    return options


def _asked(
    root: Path, teacher: Path | str | None, overrides: Sequence[str]
) -> tuple[str | None, str | None, TeacherSource]:
    """What is derived depends on these: the kind of data, that of its inputs, and the teacher.

    Raises:
        ConfigError: One of them is malformed.
    """
    raw: dict[str, Any] = {
        "data": {"root": str(root)},
        "supernet": {"teacher": {"weights": None if teacher is None else str(teacher)}},
    }
    for text in overrides:
        override(raw, text)
    # a section that is none is refused with the others
    supernet, data = (
        raw[key] if isinstance(raw[key], dict) else {} for key in ("supernet", "data")
    )
    source = build(TeacherSource, supernet.get("teacher") or {}, "supernet.teacher")
    given = {key: data[key] for key in ("mode", "input") if key in data}
    options = build(DataOptions, {"root": str(root), **given}, "data")
    return options.mode if "mode" in given else None, options.input, source


def _crop(preset: Preset, images: Images, network: Network | None) -> int:
    """Side of training crops: the teacher's own, or as large as preset and images allow."""
    stride, own = (network.stride, network.header.get("image_size")) if network else (4, None)
    side = int(own or min(preset.side, images.side))
    return max(stride, side - side % stride)


def _log(total: int) -> dict[str, int]:
    return {
        "log_every": max(1, total // 100),
        "sample_every": max(1, total // 5),
        "checkpoint_every": max(1, total // 20),
    }


def look_at(root: Path, mode: str | None = None) -> Images:
    """Which kind of data a folder holds, how much of it, and how large the images are.

    Args:
        root: The folder.
        mode: The kind of data, where it is known.

    Raises:
        DataError: None that is known; or images in `train/` that are not side-by-side pairs.
    """
    if not root.is_dir():
        raise DataError(f"no data folder {root}")
    mode = mode or _mode(root)
    sources = find_sources(DataOptions(root=root, mode=mode), find_layout(root, mode), ("train",))
    files = {side: source.files for (_, side), source in sources.items()}
    sizes = []
    for side, paths in files.items():
        for path in (paths[i] for i in spread(len(paths), NUM_MEASURED)):
            width, height = _measured(path)
            if side == "AB":
                _refuse_single(path, width, height)
                width //= 2
            sizes.append(min(width, height))
    if not sizes:
        raise DataError(f"{root} holds no training images")
    losses = "inputs" if mode == "unpaired" and len(files) == 1 else mode
    return Images(mode, max(map(len, files.values())), min(sizes), losses)


def _mode(root: Path) -> str:
    """The kind of data; two folders whose files have the same names hold pairs."""
    fitting = [
        mode
        for mode in DATA_KINDS
        if any(has_folders(root, layout, ("train",)) for layout in data_kind(mode).layouts)
    ]
    if not fitting:
        kinds = "; ".join(f"{name}: {kind.description}" for name, kind in DATA_KINDS.items())
        raise DataError(f"{root} holds no data of a known kind\n  {kinds}")
    sides = [root / "trainA", root / "trainB"]
    if all(side.is_dir() for side in sides):
        names = [{path.stem for path in side.iterdir() if is_image_file(path)} for side in sides]
        return "paired" if names[0] == names[1] else "unpaired"
    return fitting[0]


def _measured(path: Path) -> tuple[int, int]:
    """Width and height in pixels."""
    if path.suffix.lower() == ARRAY_SUFFIX:
        height, width = read_array(path, str(path)).shape[:2]
        return width, height
    try:
        with Image.open(path) as image:
            return image.size
    except OSError as error:
        raise DataError(f"{path}: not a readable image: {error}") from None


def _refuse_single(path: Path, width: int, height: int) -> None:
    if width < LEAST_PAIR_RATIO * height:
        raise DataError(
            f"{path} is {width}x{height}, which is not a side-by-side pair\n  Images of one domain "
            f"are named by their own folder ({path.parent}); pairs may also lie in trainA/ trainB/."
        )
