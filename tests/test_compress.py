"""The whole way: from a data set to exported generators and the report, in one command."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import make_paired, make_unpaired

from gancompress.checkpoint.network import load_network, load_supernet
from gancompress.cli.main import main
from gancompress.data import load_split, to_float
from gancompress.pipeline import compression
from gancompress.runtimes import OnnxGenerator
from gancompress.search import Evaluator
from gancompress.training.loop import Trainer
from gancompress.training.stages import supernet_options
from runs import Crash, at_call, crash, fingerprints, write_compress

pytestmark = pytest.mark.slow
BUDGETS = ("8M", "6M", "4M")
BUDGET_OPTION = f"search.budgets=[{', '.join(BUDGETS)}]"
ALGORITHM = "search.searcher.name=evolution"  # finds another subnet for each of these budgets


@dataclass(frozen=True)
class Compressed:
    """A finished compression."""

    options: Path
    out: str

    @property
    def run(self) -> Path:
        return self.options.parent / "run"


def run(options: Path, *flags: str) -> None:
    assert main(["compress", str(options), *flags]) == 0


def exported(folder: Path) -> dict[str, str]:
    return fingerprints(folder / "export")


def table(text: str) -> list[str]:
    """Lines of the table in the output, without the latency at their end."""
    lines = text.splitlines()
    head = next(i for i, line in enumerate(lines) if "MACs" in line and "latency ms" in line)
    end = lines[head].index("latency ms")
    rows = itertools.takewhile(lambda line: "differs by" not in line, lines[head + 1 :])
    return [line[:end].rstrip() for line in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Compressed:
    """A compression that nothing has interrupted; ONNX files are made of it alone."""
    folder = tmp_path_factory.mktemp("compress")
    root = make_paired(folder / "data", 32)
    options = write_compress(folder, root, BUDGET_OPTION, ALGORITHM)
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("builtins.print", lambda *text, **_: lines.append(" ".join(map(str, text))))
        run(options)
    return Compressed(options, "\n".join(lines))


def test_compression_ends_with_table_files_and_report(whole: Compressed) -> None:
    assert whole.out.splitlines()[-2:] == [
        f"report: {whole.run / 'report.html'}",
        f"next: gancompress demo {whole.run / 'search'}",
    ]
    page = (whole.run / "report.html").read_text(encoding="utf-8")
    rows = table(whole.out)
    names = ["teacher", *(f"subnet <= {budget}" for budget in BUDGETS)]
    assert len(rows) == len(names)
    assert all(row.startswith(f"{name} ") for row, name in zip(rows, names, strict=True))
    for path in (whole.run / "export").iterdir():
        if path.suffix in (".onnx", ".safetensors"):
            assert f"export/{path.name}" in page
            assert path.with_name(f"{path.name}.proof.json").exists()
    assert len(list((whole.run / "export").glob("*.onnx"))) == 3


def test_every_stage_leaves_a_folder_that_is_done(whole: Compressed) -> None:
    for stage in ("teacher", "supernet", "search"):
        folder = whole.run / stage
        assert {"config.yaml", "done.json"} <= {path.name for path in folder.iterdir()}
        assert not (folder / "state.pt").exists()
        assert not list(folder.glob(".*.partial"))


def test_exported_subnets_fit_their_budgets_and_compute_the_same(whole: Compressed) -> None:
    net, _ = load_supernet(whole.run / "supernet")
    chosen = json.loads((whole.run / "search" / "done.json").read_text())["chosen"]
    assert len(chosen) == 3
    data = load_split(supernet_options(whole.run / "supernet").data, "test", 32).inputs
    x = to_float(torch.stack([data[i] for i in range(3)]))
    for trial in chosen.values():
        subnet = net.space.parse(trial["subnet"])
        assert net.macs(subnet, 32) == trial["macs"] <= trial["limit"]
        file = whole.run / "export" / f"{subnet}"
        plain = load_network(file.with_suffix(".safetensors")).module
        with torch.no_grad():
            wanted = net(x, subnet)
            assert torch.equal(plain(x), wanted)
        found = OnnxGenerator(file.with_suffix(".onnx"), threads=1)(x)
        assert float((found - wanted).abs().max()) < 1e-3


def test_running_again_repeats_the_table_and_trains_nothing(
    whole: Compressed,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = exported(whole.run)
    monkeypatch.setattr(Trainer, "fit", crash)
    monkeypatch.setattr("gancompress.search.stage.open_evaluator", crash)
    run(whole.options, "--set", "export=[safetensors]")
    out = capsys.readouterr().out
    assert table(out) == table(whole.out)
    assert exported(whole.run) == files
    assert caplog.text.count("(already finished)") == 3


def test_json_lists_teacher_and_subnets(
    whole: Compressed, capsys: pytest.CaptureFixture[str]
) -> None:
    run(whole.options, "--set", "export=[safetensors]", "--json")
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    content = json.loads(out)
    assert content["rows"][0]["label"] == "teacher"
    assert len(content["rows"]) == 4
    macs = [row["macs"] for row in content["rows"]]
    assert macs == sorted(macs, reverse=True)
    assert Path(content["report"]).exists()
    assert all(Path(file).exists() for file in content["files"].values())


# (class or module, name, number of the call before which the process dies)
DEATHS: list[tuple[Any, str, int]] = [
    (Trainer, "_advance", 4),  # teacher
    (Trainer, "_checkpoint", 1),  # the teacher is at 8 images
    (Trainer, "_advance", 5),  # its last two steps, then the supernet's
    (Trainer, "_evaluate", 1),  # supernet
    (Evaluator, "measure", 6),  # search
    (compression, "export_network", 2),
    (compression, "write_report", 1),
]


def copy_of(whole: Compressed, folder: Path) -> Path:
    """Options for the same compression of the same data in another folder, without ONNX files."""
    shutil.copytree(whole.options.parent / "data", folder / "data")
    kinds = "compress.export=[safetensors]"
    return write_compress(folder, folder / "data", BUDGET_OPTION, ALGORITHM, kinds)


def test_compression_killed_in_every_stage_ends_with_the_same_files(
    whole: Compressed, tmp_path: Path
) -> None:
    options = copy_of(whole, tmp_path)
    for owner, name, number in DEATHS:
        with pytest.MonkeyPatch.context() as patch:
            at_call(patch, owner, name, number, crash)
            with pytest.raises(Crash):
                run(options)
    run(options)
    assert exported(tmp_path / "run") == exported(whole.run)
    for stage in ("teacher", "supernet"):
        assert fingerprints_of_weights(tmp_path / "run" / stage) == fingerprints_of_weights(
            whole.run / stage
        )


def fingerprints_of_weights(folder: Path) -> dict[str, str]:
    """Without the copy of the teacher, whose header names the folder that it came from."""
    return {k: v for k, v in fingerprints(folder).items() if k != "teacher.safetensors"}


def test_stopped_compression_exits_with_75_and_goes_on(
    whole: Compressed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = copy_of(whole, tmp_path)
    for owner, name, number in ((Trainer, "_advance", 6), (Evaluator, "measure", 3)):
        with monkeypatch.context() as patch:
            at_call(patch, owner, name, number, lambda: signal.raise_signal(signal.SIGTERM))
            assert main(["compress", str(options)]) == 75
    assert (tmp_path / "run" / "supernet" / "done.json").exists()
    assert not (tmp_path / "run" / "search" / "done.json").exists()
    run(options)
    assert exported(tmp_path / "run") == exported(whole.run)


def test_pairs_in_two_folders_are_compressed_like_those_side_by_side(
    whole: Compressed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_paired(tmp_path / "data", 32, folders=("{}A", "{}B"))
    modes = ("teacher.data.mode=paired", "supernet.data.mode=paired")
    sets = (BUDGET_OPTION, ALGORITHM, *modes, "compress.export=[safetensors]")
    run(write_compress(tmp_path, root, *sets))
    assert table(capsys.readouterr().out) == table(whole.out)


@pytest.mark.parametrize(
    "sets",
    [
        (),
        ("supernet.student.name=mobile_resnet_6blocks", "supernet.loss.lambda_distill=0"),
    ],
    ids=["same", "separable"],
)
def test_unpaired_compression(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sets: tuple[str, ...]
) -> None:
    make: Callable[..., Path] = make_unpaired
    root = make(tmp_path / "data", 32)
    kinds = (
        "compress.export=[safetensors, pth]",
        "search.num_trials=6",
        "search.searcher.generation=4",
    )
    options = write_compress(tmp_path, root, *kinds, *sets)
    run(options)
    out = capsys.readouterr().out
    assert out.splitlines()[-2] == f"report: {tmp_path / 'run' / 'report.html'}"
    rows = table(out)
    assert rows[0].startswith("teacher ")
    assert len(rows) >= 2
    for path in (tmp_path / "run" / "export").glob("*.pth"):
        load_network(path)
