"""Every options file loads, says what it is for, and fits the others of its task."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from gancompress.config import dump_options, load_compression, load_options
from gancompress.config.schema import (
    CompressOptions,
    FinetuneOptions,
    SearchOptions,
    Section,
    SegmenterOptions,
    SupernetOptions,
    TeacherOptions,
)
from gancompress.errors import ConfigError

OPTIONS = Path(__file__).resolve().parent.parent / "options"
SECTIONS: dict[str, type[Section]] = {
    "teacher": TeacherOptions,
    "supernet": SupernetOptions,
    "finetune": FinetuneOptions,
    "search": SearchOptions,
    "segmenter": SegmenterOptions,
    "compress": CompressOptions,
}
FILES = sorted(OPTIONS.rglob("*.yaml"))
NAMES = [str(path.relative_to(OPTIONS)) for path in FILES]
every_file = pytest.mark.parametrize("path", FILES, ids=NAMES)
STAGES = ("teacher", "supernet", "search")
TASKS = [
    folder
    for folder in sorted({path.parent for path in FILES})
    if all((folder / f"{stage}.yaml").exists() for stage in STAGES)
]
every_task = pytest.mark.parametrize("task", TASKS, ids=[path.name for path in TASKS])
MESSAGES = [
    ("teacher", "data.rooot=x", r"unknown key 'data\.rooot'; did you mean 'data\.root'\?"),
    ("teacher", "loss.lamda_gan=1", r"'loss\.lamda_gan'; did you mean 'loss\.lambda_gan'\?"),
    ("supernet", "studnet.ngf=8", r"unknown key 'studnet'; did you mean 'student'\?"),
    ("search", "budget=[1G]", r"unknown key 'budget'; did you mean 'budgets'\?"),
    ("compress", "exprot=[onnx]", r"unknown key 'exprot'; did you mean 'export'\?"),
    ("teacher", "schedule.lr=0", r"schedule\.lr: .*greater than 0, got 0"),
    ("teacher", "data.search_fraction=1", r"data\.search_fraction: .*less than 1, got 1"),
    ("supernet", "sampling.inplace=1.5", r"sampling\.inplace: .*less than or equal to 1, got 1\.5"),
    ("supernet", "loss.target=tooth", r"loss\.target: .*'teacher' or 'truth', got 'tooth'"),
    ("search", "workers=0", r"workers: .*greater than or equal to 1, got 0"),
    ("search", "num_trials=many", r"num_trials: .*valid integer.*, got 'many'"),
]


def stage_of(path: Path) -> str:
    return str(yaml.safe_load(path.read_text(encoding="utf-8"))["stage"])


def load(path: Path, overrides: list[str] | None = None) -> Section:
    kind = SECTIONS[stage_of(path)]
    if kind is CompressOptions:
        return load_compression(path, overrides)
    return load_options(kind, path, overrides)


def header_of(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    end = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join(lines[:end])


@every_file
def test_options_file_loads_as_its_stage(path: Path) -> None:
    assert load(path).model_dump()["stage"] == stage_of(path)


@every_file
def test_options_file_has_a_header(path: Path) -> None:
    header = header_of(path)
    for word in ("command", "hardware", "time", "score"):
        assert re.search(rf"\b{word}\b", header, re.IGNORECASE), word
    assert f"gancompress {stage_of(path)} " in header


@every_file
def test_overrides_replace_values(path: Path) -> None:
    assert str(load(path, ["run=elsewhere/run"]).model_dump()["run"]) == str(Path("elsewhere/run"))


@pytest.mark.parametrize(("stage", "override", "message"), MESSAGES)
def test_mistake_names_the_key(stage: str, override: str, message: str) -> None:
    path = OPTIONS / "horse2zebra" / f"{stage}.yaml"
    with pytest.raises(ConfigError, match=message) as caught:
        load(path, [override])
    assert str(caught.value).startswith(f"{path}: ")


def test_override_reaches_into_sections() -> None:
    path = OPTIONS / "edges2shoes" / "supernet.yaml"
    overrides = ["schedule.num_images=8", "data.root=a", "student.widths=[0.5, 1.0]"]
    options = load(path, overrides)
    assert isinstance(options, SupernetOptions)
    assert options.schedule.num_images == 8
    assert options.data.root == Path("a")
    assert options.student.widths == (0.5, 1.0)


@every_task
def test_stages_of_a_task_follow_each_other(task: Path) -> None:
    supernet, search = load(task / "supernet.yaml"), load(task / "search.yaml")
    assert isinstance(supernet, SupernetOptions)
    assert isinstance(search, SearchOptions)
    assert search.supernet == supernet.run
    teacher = load(task / "teacher.yaml")
    assert isinstance(teacher, TeacherOptions)
    shipped = Path("pretrained") / task.name / "teacher"
    assert supernet.teacher.weights in (teacher.run, shipped)
    assert len({teacher.run, supernet.run, search.run}) == 3


@every_task
def test_teacher_and_supernet_see_the_same_data(task: Path) -> None:
    """The search judges on images that neither of them has trained on."""
    teacher, supernet = load(task / "teacher.yaml"), load(task / "supernet.yaml")
    assert isinstance(teacher, TeacherOptions)
    assert isinstance(supernet, SupernetOptions)
    for key in ("root", "mode", "direction", "search_fraction"):
        assert getattr(teacher.data, key) == getattr(supernet.data, key)


@pytest.mark.parametrize(
    "path", sorted(OPTIONS.rglob("*compress.yaml")), ids=lambda p: f"{p.parent.name}/{p.stem}"
)
def test_compression_includes_the_files_of_its_stages(path: Path) -> None:
    names = yaml.safe_load(path.read_text(encoding="utf-8"))
    options = load_compression(path)
    for stage in STAGES:
        file = names.get(stage)
        assert getattr(options, stage) == (load(path.parent / file) if file else None)


ONE_FILE = """
run: runs/mine
data: {root: my/images, load_size: 72, crop_size: 64}
seed: 3
teacher: {schedule: {num_images: 10}, data: {flip: false}}
supernet: {schedule: {num_images: 20}}
search: {budgets: [1G]}
"""


def test_stages_of_one_file_share_data_seed_and_folder(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(ONE_FILE)
    options = load_compression(path, ["data.root=other/images"])
    assert options.teacher is not None
    run = Path("runs/mine")
    assert options.teacher.run == options.supernet.teacher.weights == run / "teacher"
    assert options.supernet.run == options.search.supernet == run / "supernet"
    assert options.search.run == run / "search"
    assert {options.teacher.seed, options.supernet.seed, options.search.seed} == {3}
    for data in (options.teacher.data, options.supernet.data):
        assert (data.root, data.crop_size) == (Path("other/images"), 64)
    assert (options.teacher.data.flip, options.supernet.data.flip) == (False, True)
    path.write_text(dump_options(options))
    assert load_compression(path) == options


def test_stages_of_a_compression_follow_each_other() -> None:
    path = OPTIONS / "horse2zebra" / "compress.yaml"
    with pytest.raises(ConfigError, match=r"search\.supernet=a is not supernet\.run=runs/"):
        load_compression(path, ["search.supernet=a"])
