"""Tiny options, files and processes for tests of whole stages: 32x32 images, ngf 8."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from torch import Tensor, nn

from gancompress.checkpoint import models, network
from gancompress.checkpoint.network import save_network
from gancompress.checkpoint.run import RunFolder
from gancompress.config import (
    FinetuneOptions,
    GeneratorOptions,
    SearchOptions,
    Section,
    SupernetOptions,
    TeacherOptions,
    build,
    dump_options,
)
from gancompress.demo import sources
from gancompress.export.onnx import OPSET, set_header, write_onnx
from gancompress.inference import loading
from gancompress.models import build_generator, init_weights
from gancompress.search import plan, stage
from gancompress.training import stages

REPOSITORY = Path(__file__).resolve().parent.parent


class Crash(BaseException):  # stands for whatever ends a process without warning
    """Raised in the middle of a stage."""


STAGES = ("teacher", "supernet", "search")

# -- options ------------------------------------------------------------------------------

SCHEDULE: dict[str, Any] = {
    "num_images": 8,
    "num_images_decay": 4,
    "batch_size": 2,
    "lr": 0.001,
    "precision": "fp32",
}
LOG = {"log_every": 6, "sample_every": 8, "checkpoint_every": 4, "num_samples": 2}
QUIET = {**LOG, "sample_every": 100}  # subnets are evaluated at the end alone, which takes longer


def _data(root: Path) -> dict[str, Any]:
    mode = "unpaired" if (root / "trainA").is_dir() else "paired"
    return {
        "root": str(root), "mode": mode, "load_size": 36, "crop_size": 32, "search_fraction": 0.25,
    }  # fmt: skip


def teacher_options(root: Path, run: Path, *sets: str) -> TeacherOptions:
    raw = {
        "run": str(run),
        "data": _data(root),
        "generator": {"name": "resnet_6blocks", "ngf": 8},
        "discriminator": {"ndf": 8, "n_layers": 2},
        "loss": {"pool_size": 2},
        "schedule": dict(SCHEDULE),
        "log": dict(LOG),
    }
    return build(TeacherOptions, raw, "teacher", list(sets))


def supernet_options(root: Path, run: Path, teacher: Path | None, *sets: str) -> SupernetOptions:
    raw = {
        "run": str(run),
        "data": _data(root),
        "teacher": {"weights": str(teacher)} if teacher else {},
        "student": {"widths": [0.5, 1.0], "divisor": 4},
        "schedule": dict(SCHEDULE),
        "log": dict(QUIET),
    }
    return build(SupernetOptions, raw, "supernet", list(sets))


def finetune_options(run: Path, supernet: Path, subnet: str, *sets: str) -> FinetuneOptions:
    raw = {
        "run": str(run),
        "supernet": str(supernet),
        "subnet": subnet,
        "schedule": dict(SCHEDULE),
        "log": dict(QUIET),
    }
    return build(FinetuneOptions, raw, "finetune", list(sets))


def search_options(run: Path, supernet: Path, *sets: str) -> SearchOptions:
    raw = {
        "run": str(run),
        "supernet": str(supernet),
        "searcher": {"generation": 6},
        "num_trials": 14,
    }
    return build(SearchOptions, raw, "search", list(sets))


def write_options(path: Path, options: Section) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dump_options(options), encoding="utf-8")
    return path


def write_compress(folder: Path, root: Path, *sets: str) -> Path:
    """Options files of three stages and of the compression that includes them.

    Args:
        folder: Where the files go; runs lie in `folder/run`.
        root: The data.
        sets: `stage.key=value`.
    """
    run = folder / "run"

    def own(stage: str) -> list[str]:
        return [text.partition(".")[2] for text in sets if text.startswith(f"{stage}.")]

    teacher, supernet = run / "teacher", run / "supernet"
    write_options(folder / "teacher.yaml", teacher_options(root, teacher, *own("teacher")))
    found = supernet_options(root, supernet, teacher, *own("supernet"))
    write_options(folder / "supernet.yaml", found)
    search = search_options(run / "search", supernet, *own("search"))
    write_options(folder / "search.yaml", search)
    raw = {"run": str(run), **{stage: f"{stage}.yaml" for stage in STAGES}}
    for text in own("compress"):
        key, _, value = text.partition("=")
        raw[key] = yaml.safe_load(value)
    path = folder / "compress.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


# -- runs ---------------------------------------------------------------------------------


def fingerprints(run: Path) -> dict[str, str]:
    """SHA-256 of every weights file of a run."""
    files = sorted(run.glob("*.safetensors"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def log_lines(run: Path) -> list[dict[str, Any]]:
    """The log without what depends on the clock."""
    lines = RunFolder(run).read_log()
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in lines]


def at_call(
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    name: str,
    number: int,
    action: Callable[[], object],
) -> None:
    """Do something just before the method `owner.name` is called for the `number`-th time."""
    original = getattr(owner, name)
    calls = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            action()
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, wrapped)


def crash() -> None:
    raise Crash


def process(*arguments: str | Path, cwd: Path) -> subprocess.Popen[str]:
    """`python -m gancompress ...` as a process of its own."""
    paths = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return subprocess.Popen(
        [sys.executable, "-m", "gancompress", *map(str, arguments)],
        cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finished(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The same, waited for."""
    running = process(*arguments, cwd=cwd)
    out, err = running.communicate(timeout=300)
    return subprocess.CompletedProcess(running.args, running.returncode, out, err)


def write_teacher(path: Path, name: str = "resnet_6blocks", **options: Any) -> Path:
    """A generator with random weights that make images of some contrast."""
    section = GeneratorOptions.model_validate(
        {"name": name, "input_nc": 3, "output_nc": 3, "ngf": 8, **options}
    )
    torch.manual_seed(4)
    module = init_weights(build_generator(section), gain=0.2)
    save_network(path, module, {"generator": section.model_dump(mode="json")}, image_size=32)
    return path


class Tiny(nn.Module):
    """Four convolutions: a generator whose tracing and export take next to nothing."""

    stride = 2

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.InstanceNorm2d(8), nn.ReLU()),
            *(nn.Conv2d(8, 12, 3, padding=1), nn.InstanceNorm2d(12), nn.ReLU()),
            *(nn.Conv2d(12, 8, 3, padding=1), nn.InstanceNorm2d(8), nn.ReLU()),
            *(nn.ConvTranspose2d(8, 3, 4, stride=2, padding=1), nn.Tanh()),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


def tiny_generator() -> nn.Module:
    """The factory of `Tiny`, always with the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8)
        return init_weights(Tiny(), gain=0.2)


def write_tiny(path: Path) -> Path:
    """A checkpoint of somebody's own generator, 64 subnets with `TINY_SPACE`."""
    save_network(path, tiny_generator(), {"module": TINY}, image_size=32)
    return path


def write_graph(path: Path, header: str) -> Path:
    """An ONNX file of one convolution, as exports write them, which takes no export."""
    weight = np.linspace(-0.2, 0.2, 81, dtype=np.float32).reshape(3, 3, 3, 3)
    image, out = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 3, "h", "w"])
        for name in ("image", "out")
    )
    node = onnx.helper.make_node("Conv", ["image", "weight"], ["out"], pads=[1, 1, 1, 1])
    stored = [onnx.numpy_helper.from_array(weight, "weight")]
    graph = onnx.helper.make_graph([node], "graph", [image], [out], stored)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)])
    model.ir_version = 10
    set_header(model, header)
    write_onnx(path, model)
    return path


TINY = "runs:tiny_generator"
TINY_SPACE = ("student.widths=[0.25, 0.5, 0.75, 1.0]", "student.divisor=2")

# -- the package for a user who trusts `TINY` -----------------------------------------------

load_network = partial(network.load_network, trusted=(TINY,))
load_supernet = partial(network.load_supernet, trusted=(TINY,))
load_model = partial(models.load_model, trusted=(TINY,))
train_supernet = partial(stages.train_supernet, trusted=(TINY,))
finetune = partial(stages.finetune, trusted=(TINY,))
plan_search = partial(plan.plan_search, trusted=(TINY,))
search = partial(stage.search, trusted=(TINY,))
find_source = partial(sources.find_source, trusted=(TINY,))
load_generator = partial(loading.load_generator, trusted=(TINY,), allow_code=True)
