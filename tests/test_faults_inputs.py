"""Options, files of runs and headers that are damaged or foreign: one message each (fault 14)."""

from __future__ import annotations

import json
import math
import random
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import mutations
import pytest
import torch
import yaml
from bundles import manifest
from safetensors.torch import save_file
from torch import Tensor

from gancompress.checkpoint.files import load_tensors
from gancompress.checkpoint.models import run_data, run_stage, smallest_chosen, supernet_of
from gancompress.checkpoint.network import (
    describe_space,
    load_discriminator,
    new_discriminator,
    save_discriminator,
    save_network,
)
from gancompress.checkpoint.run import COSMETIC, RunFolder, read_splits
from gancompress.cli.main import main
from gancompress.config import (
    CompressOptions,
    DiscriminatorOptions,
    SearchOptions,
    Section,
    SegmenterOptions,
    SupernetOptions,
    build,
    dump_options,
    load_options,
)
from gancompress.cost.table import Device, Entry, load_device
from gancompress.data.splits import SPLITS
from gancompress.demo.folder import written_before
from gancompress.demo.manifest import read_manifest
from gancompress.elastic import SearchSpace, Subnet, Supernet, Width
from gancompress.errors import ConfigError, GanCompressError
from gancompress.metrics.distances import Estimate
from gancompress.report import aligned_text
from gancompress.runtimes import OnnxGenerator
from gancompress.search.budgets import Budget
from gancompress.search.log import TrialLog
from gancompress.search.report import agreements, answers_table, report_fronts
from gancompress.search.result import Answer, SearchResult, load_result
from gancompress.search.trials import Trial
from runs import (
    TINY,
    finetune_options,
    load_model,
    search_options,
    supernet_options,
    teacher_options,
    tiny_generator,
    write_graph,
    write_teacher,
)

EACH = 500  # mutations of the options of each stage


@cache
def stages(root: Path) -> dict[str, Section]:
    """Options of every stage, with sections that are left out by default."""
    lists = '{"A": "a.txt", "B": "b.txt"}'
    augment = '{"drawing": {}, "affine": {}, "hue": {}}'
    schedule: dict[str, Any] = {"num_images": 8, "batch_size": 2}
    data = {"root": str(root), "load_size": 36, "crop_size": 32}
    inner = {"data": data, "schedule": schedule}
    compress = {"run": "runs/x", "seed": 3, "teacher": inner, "supernet": inner, "search": {}}
    return {
        "teacher": teacher_options(
            root, root / "run", f"data.train_meta={lists}", f"data.augment={augment}"
        ),
        "supernet": supernet_options(root, root / "run", root / "t", "loss.terms={ssim: 1.0}"),
        "finetune": finetune_options(root / "run", root / "supernet", "8_8"),
        "search": search_options(root / "run", root / "supernet", 'budgets=["2G", "params=1M"]'),
        "segmenter": build(
            SegmenterOptions, {"run": "runs/s", "data": data, "schedule": schedule}, "segmenter"
        ),
        "compress": build(CompressOptions, compress, "compress"),
    }


def message(action: Callable[[], object]) -> str:
    """What an action is refused with; empty where it is not."""
    try:
        action()
    except (GanCompressError, OSError) as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", stages(Path("data")))
def test_fault_14_every_key_of_every_stage(name: str) -> None:
    """A value is refused by its key, or accepted and written so that it is read again."""
    options = stages(Path("data"))[name]
    kind = type(options)
    said = []
    for what, raw in mutations.trees(options.model_dump(mode="json"), random.Random(name), EACH):
        try:
            made = build(kind, raw, "options.yaml")
        except ConfigError as error:
            said.append(str(error))
            continue
        assert build(kind, made.model_dump(mode="json"), "again") == made, what
    assert len(said) > EACH / 3
    assert all(text.startswith("options.yaml: ") for text in said)


def test_fault_14_text_that_is_no_options_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "teacher.yaml"
    options = stages(Path("data"))["teacher"]
    for text in mutations.texts(dump_options(options).encode(), random.Random(0), 100):
        path.write_bytes(text)
        said = message(lambda: load_options(type(options), path))
        assert not said or str(path) in said
    path.write_bytes(b"run: \xff")
    assert main(["teacher", str(path), "--dry-run"]) == 2
    assert "not readable as YAML" in capsys.readouterr().err


# -- files of runs --------------------------------------------------------------------------------

TRIALS = [
    Trial(Subnet((8, width)), 1000 * width, 1 / width, {"mae": 1 / width, "psnr": math.inf}, 4)
    for width in (2, 4, 8)
]
RESULT = SearchResult(
    "mae", True, 32, TRIALS, {"macs": [2e3, 4e3, 8e3], "size_mb": [0.1, 0.2, 0.3]},
    [
        Answer(
            Budget("macs", 5000.0), TRIALS[1], 4000.0, Estimate(0.25, 0.2, 0.3), 4,
            Subnet((4, 4)), 4000.0, Estimate(0.5, math.nan, math.nan),
        )
    ],
    {"forward": 1.0}, {"kendall_tau": 0.5}, "eager", {"kendall_tau": 0.5, "subnets": 3},
)  # fmt: skip


def use_config(folder: Path) -> None:
    RunFolder(folder).changes(stages(folder)["supernet"])
    load_options(SupernetOptions, folder / "config.yaml")
    run_data(folder)


def use_search_config(folder: Path) -> None:
    run_stage(folder)
    supernet_of(folder)
    load_options(SearchOptions, folder / "config.yaml")


def use_splits(folder: Path) -> None:
    found = read_splits(folder)
    assert found is not None
    found.fits(stages(folder)["teacher"].data)  # type: ignore[attr-defined]
    found.held_out_sides()
    for split in SPLITS:
        found.describe(split)
        found.files(split, "AB")


def use_log(folder: Path) -> None:
    RunFolder(folder).read_log()
    RunFolder(folder).rewind_log(6)


def use_result(folder: Path) -> None:
    smallest_chosen(folder)
    found = load_result(folder)
    found.as_json()
    aligned_text(answers_table(found))
    report_fronts(found)
    agreements(found)
    for cost in found.costs:
        found.front_against(cost)


def use_trials(folder: Path) -> None:
    space = SearchSpace((Width(("a",), 8, (2, 4, 8)), Width(("b",), 8, (2, 4, 8))))
    TrialLog(folder / "trials.jsonl", "key").load(space)


def use_bundle(folder: Path) -> None:
    with suppress(ConfigError):
        written_before(folder)
    read_manifest(folder).files()


def dumped(content: Any) -> bytes:
    return json.dumps(content).encode()


def in_yaml(content: Any) -> bytes:
    return yaml.safe_dump(content).encode()


USES: dict[str, tuple[str, Callable[[Any], bytes], Callable[[Path], object]]] = {
    "config": ("config.yaml", in_yaml, use_config),
    "search config": ("config.yaml", in_yaml, use_search_config),
    "splits": ("splits.json", dumped, use_splits),
    "scores": ("done.json", dumped, lambda folder: RunFolder(folder).summary()),
    "log": ("log.jsonl", dumped, use_log),
    "result": ("done.json", dumped, use_result),
    "trials": ("trials.jsonl", dumped, use_trials),
    "bundle": ("front.json", dumped, use_bundle),
    "list": ("files.json", dumped, written_before),
    "latency table": ("table.json", dumped, lambda folder: load_device(folder / "table.json")),
}
"""File, how it is written, and all that is done with its content."""


def content_of(name: str, folder: Path) -> Any:
    """What such a file holds in a whole folder."""
    known = stages(folder)
    body = {"key": "key", "race": "", **TRIALS[0].as_json()}
    contents: dict[str, Any] = {
        "config": known["supernet"].model_dump(mode="json"),
        "search config": known["search"].model_dump(mode="json"),
        "splits": {
            "format": 1, "root": "data", "rule": {"mode": "paired", "split_seed": 0},
            "sources": {"train": {"AB": "train"}, "test": {"AB": "test"}},
            "lists": {"train": {"AB": {"train/a.png": "0f", "b.png": "1f"}}, "test": {"AB": {}}},
        },
        "scores": {"images": 12, "mae": 0.5},
        "log": {"images": 6, "epoch": 0.5, "loss": 1.0},
        "result": RESULT.as_json(),
        "trials": {"crc": zlib.crc32(dumped(body)), "trial": body},
        "bundle": json.loads(manifest().model_dump_json()),
        "list": {"front.json": ["00"], "models/a.onnx": ["11", "22"]},
        "latency table": table(folder),
    }  # fmt: skip
    return contents[name]


def table(folder: Path) -> Any:
    """Content of a latency table's file."""
    entry = Entry("conv 3", (8, 16), (8,), ((1.0,), (2.0,)))
    Device("phone", "eager", "1", 1, {"cpu": "x"}, (32, 32), (entry,)).save(folder / "table.json")
    return json.loads((folder / "table.json").read_text())


@pytest.mark.parametrize("name", USES)
def test_fault_14_every_file_of_every_run(name: str, tmp_path: Path) -> None:
    """A damaged file is refused by its name, or what can be read of it is used."""
    file, write, use = USES[name]
    content, rng = content_of(name, tmp_path), random.Random(name)
    path = tmp_path / file
    path.write_bytes(write(content))
    use(tmp_path)
    count = EACH // 20 if write is in_yaml else EACH // 2  # reading YAML takes long
    changed = [write(tree) for _, tree in mutations.trees(content, rng, count)]
    for text in (*changed, *mutations.texts(write(content), rng, count // 2 + 20)):
        path.write_bytes(text)
        said = message(lambda: use(tmp_path))
        assert not said or str(tmp_path) in said, (text, said)


# -- what files say of themselves -----------------------------------------------------------------


def written(path: Path, tensors: dict[str, Tensor], header: Any) -> None:
    """A file of weights with any header."""
    save_file(tensors, path, {"gancompress": json.dumps(header)})


def plain(path: Path) -> Any:
    """A generator of a family."""
    write_teacher(path, ngf=4)
    return load_model


def supernet(path: Path) -> Any:
    """A generator with a search space."""
    net = Supernet(tiny_generator(), torch.zeros(1, 3, 8, 8), (0.5, 1.0), 2)
    space = describe_space(net.space)
    progress = {"images": 8, "of": 8}
    save_network(path, net.generator, {"module": TINY}, space=space, progress=progress)
    return load_model


def discriminator(path: Path) -> Any:
    save_discriminator(path, new_discriminator(DiscriminatorOptions(ndf=4, n_layers=1), 3))
    return load_discriminator


@pytest.mark.parametrize("write", [plain, supernet, discriminator])
def test_fault_14_every_key_of_a_header(write: Callable[[Path], Any], tmp_path: Path) -> None:
    """A file of weights is refused by its name, or loaded."""
    path = tmp_path / "weights.safetensors"
    read = write(path)
    read(path)
    tensors, header = load_tensors(path)
    said = []
    for _, changed in mutations.trees(header, random.Random(1), EACH // 12):
        written(path, tensors, changed)
        said.append(message(lambda: read(path)))
    assert all(not text or str(path) in text for text in said)
    assert sum(map(bool, said)) > len(said) / 3


def test_fault_14_every_key_of_the_metadata_of_an_onnx_file(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    facts = {"stride": 2, "image_size": 8, "subnet": "8_8", "range": [-1, 1], "type": "float32"}
    changed = [json.dumps(tree) for _, tree in mutations.trees(facts, random.Random(2), EACH // 4)]
    for text in (*changed, "", "{", "[" * 5_000, "9" * 5_000, '{"stride": 1e999}'):
        write_graph(path, text)
        said = message(lambda: OnnxGenerator(path, 1))
        assert not said or str(path) in said


# -- options of a run that goes on --------------------------------------------------------------


@pytest.mark.parametrize("name", ["teacher", "supernet", "finetune", "segmenter"])
def test_fault_22_every_option_that_changes_on_resume(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused by its key, unless no result depends on it."""
    options = stages(Path("data"))[name]
    before = options.model_dump(mode="json")
    run = RunFolder(tmp_path)
    run.config.write_text(dump_options(options))
    monkeypatch.setattr("gancompress.checkpoint.run.read_yaml", lambda _: before)
    flipped = 0
    for place in mutations.places(before):
        for value in (*mutations.VALUES, 0.25, 64, "hinge", "l2", "BtoA", "paired"):
            with suppress(ConfigError):
                made = build(type(options), mutations.replaced(before, place, value), "x")
                after = made.model_dump(mode="json")
                if after == before:
                    continue
                key = ".".join(map(str, place))
                harmless = f"{key}.".startswith(tuple(f"{name}." for name in COSMETIC))
                assert bool(run.changes(made)) != harmless, (key, value)
                flipped += 1
                break
    assert flipped > len(list(mutations.places(before))) / 2
