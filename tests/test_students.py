"""The benchmark of students: cut out of a supernet against trained alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torchvision.models as tv
from helpers import make_paired

from benchmarks import students
from gancompress.checkpoint.models import load_model
from gancompress.checkpoint.network import load_network
from gancompress.checkpoint.run import RunFolder
from gancompress.config import load_options
from gancompress.config.schema import SupernetOptions
from gancompress.data import load_split, to_float, to_uint8
from gancompress.elastic import Supernet
from gancompress.errors import ConfigError
from gancompress.training.loop import Trainer
from runs import Crash, at_call, crash, supernet_options, write_options, write_teacher

SETS = (
    *("student.widths=[0.25, 0.5, 1.0]", "student.divisor=2", "student.inherit=false"),
    *("loss.lambda_gan=0", "loss.lambda_distill=0", "data.load_size=32"),
    *("schedule.num_images=48", "schedule.num_images_decay=16", "schedule.batch_size=8"),
)
HOW = ("cut out of the supernet", "alone")
UNIFORM = "uniform:sampling.schedule=uniform,sampling.num_random=2"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, teacher, LPIPS backbone, and the options of a supernet."""
    folder = tmp_path_factory.mktemp("students")
    root = make_paired(folder / "data", 16)
    teacher = write_teacher(folder / "teacher.safetensors")
    torch.manual_seed(3)
    torch.save(tv.squeezenet1_1().features.state_dict(prefix="features."), folder / "squeeze.pth")
    options = supernet_options(root, folder / "unused", teacher, *SETS)
    write_options(folder / "supernet.yaml", options)
    return folder


def benchmark(place: Path, work: Path, *flags: str) -> int:
    lpips = f"squeeze={place / 'squeeze.pth'}"
    options = str(place / "supernet.yaml")
    return students.main([options, "--work", str(work), "--lpips", lpips, "--seeds", "2", *flags])


def cells(text: str) -> list[list[str]]:
    """All rows of Markdown tables, without their heads."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [line for line in lines if line[0] not in ("variant", "---")]


@torch.no_grad()
def distance(place: Path, run: Path, subnet: str | None) -> float:
    """Mean absolute difference from the teacher on the test images, of 8-bit pictures."""
    options = load_options(SupernetOptions, place / "supernet.yaml")
    inputs = load_split(options.data, "test", 32).inputs
    x = to_float(inputs.take(list(range(len(inputs)))))
    pictures = [
        to_uint8(network.module(x)).double() / 127.5
        for network in (load_model(run, subnet), load_network(place / "teacher.safetensors"))
    ]
    return float((pictures[0] - pictures[1]).abs().mean())


@pytest.mark.slow
def test_every_network_is_trained_both_ways_and_an_interrupted_benchmark_goes_on(
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        at_call(patch, Trainer, "_advance", 20, crash)  # of 8 steps each: in the third run
        with pytest.raises(Crash):
            benchmark(place, tmp_path, "--variant", UNIFORM)
    assert benchmark(place, tmp_path, "--variant", UNIFORM) == 0
    printed = capsys.readouterr().out
    runs = {seed: sorted(tmp_path.glob(f"*-seed{seed}")) for seed in (0, 1)}
    kinds = ["middle", "narrow", "supernet", "supernet", "wide"]  # one alone for both variants
    for folders in runs.values():
        assert [path.name.partition("-")[0] for path in folders] == kinds
        assert {RunFolder(path).summary()["images"] for path in folders} == {64}
    assert len(list(tmp_path.glob("pairs/*/manifest.jsonl"))) == 1
    rows = cells(printed)
    assert len(rows) == 2 * 3 * 2 + 2 * 3 + 3  # networks; cut out against alone; against base
    found = {(row[0], row[1], row[4]): row for row in rows if len(row) == 9}
    network = load_network(place / "teacher.safetensors")
    whole = Supernet(network.module, torch.empty(1, 3, 32, 32), widths=(1.0,))
    macs = whole.macs(whole.space.largest(), 32)
    assert found["base", "wide", "alone"][3] == f"{macs / 1e6:.4g}M"
    for kind, subnet in (("narrow", None), ("wide", None), ("supernet", "2_2_2_2_2_2_2_2")):
        how = HOW[0 if subnet else 1]
        name = "narrow" if subnet else kind
        row = found["base", name, how]
        values = [distance(place, path, subnet) for path in base_runs(tmp_path, kind)]
        low, mean, high = interval_of(row[7])
        assert mean == pytest.approx(sum(values) / 2, abs=6e-5)
        # Student's t with one degree of freedom: 12.706 times the error of the mean
        half = 12.7062 * abs(values[0] - values[1]) / 2
        assert (high - low) / 2 == pytest.approx(half, abs=1e-4)
    (difference,) = (r for r in rows if r[:2] == ["base", "wide"] and len(r) == 4)
    cut, alone = (float(found["base", "wide", how][5].split()[0]) for how in HOW)
    assert float(difference[3].split()[0]) == pytest.approx(cut - alone, abs=2e-4)
    assert cells((tmp_path / "students.md").read_text()) == rows

    def refuse(*_: object) -> None:
        raise AssertionError("everything was there")

    monkeypatch.setattr(students, "train_supernet", refuse)
    monkeypatch.setattr(students.Judge, "_measured", refuse)
    assert benchmark(place, tmp_path, "--variant", UNIFORM) == 0
    assert capsys.readouterr().out == printed
    assert benchmark(place, tmp_path) == 0
    assert cells(capsys.readouterr().out) == [row for row in rows if row[0] == "base"]


def base_runs(work: Path, kind: str) -> list[Path]:
    """Runs of the variant without changes, by seed."""
    return [
        path
        for path in sorted(work.glob(f"{kind}-*"), key=lambda path: path.name[-1])
        if load_options(SupernetOptions, path / "config.yaml").sampling.schedule == "sandwich"
    ]


def interval_of(text: str) -> tuple[float, float, float]:
    mean, low, high = map(float, re.findall(r"-?[\d.]+", text))
    return low, mean, high


def test_variant_is_a_name_and_options_whose_values_may_have_commas() -> None:
    assert students.parse_variant(
        "two:sampling.num_random=2,student.widths=[0.25, 0.5],seed=1"
    ) == (
        "two",
        ["sampling.num_random=2", "student.widths=[0.25, 0.5]", "seed=1"],
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--variant", "uniform"), "takes NAME:KEY=VALUE"),
        (("--variant", "base:seed=1"), "names of their own"),
        (("--variant", UNIFORM, "--variant", UNIFORM), "names of their own"),
        (("--set", "student.widths=[0.5]"), "two candidates or more"),
        (("--set", "start_from=elsewhere"), "set start_from=null"),
        (("--set", "sampling.shedule=uniform"), "did you mean 'sampling.schedule'"),
        (("--seeds", "0"), "--seeds must be at least 1"),
    ],
)
def test_mistake_is_one_message(
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    message: str,
) -> None:
    assert benchmark(place, tmp_path / "work", *flags) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert out == ""
    assert not (tmp_path / "work").exists()
    assert err.startswith(ConfigError.__name__)


def test_interval_is_that_of_students_t() -> None:
    # two degrees of freedom: 4.30265 times 1 / sqrt(3)
    assert students.interval([1.0, 2.0, 3.0]) == "2.0000 [-0.4841, 4.4841]"
    assert students.interval([0.5]) == "0.5000"
