"""The folders under pretrained/ are run folders, as those of training are."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch

from gancompress.checkpoint.files import load_tensors
from gancompress.checkpoint.models import run_data, run_splits, run_stage
from gancompress.checkpoint.run import RunFolder
from gancompress.cli.main import main
from gancompress.data import make_splits
from gancompress.hashes import LIST, read_list
from runs import REPOSITORY, supernet_options, train_supernet, write_teacher

SHIPPED = sorted(path.parent for path in Path(REPOSITORY, "pretrained").glob("*/*/weights.*"))
SUPERNETS = [folder for folder in SHIPPED if folder.name == "supernet"]
TINY_SEARCH = (
    *("num_trials=2", "searcher.name=random", "max_images=2", "max_test_images=2", "batch_size=2"),
    *("runtime=eager", "budgets=[10G]"),
)

every_folder = pytest.mark.parametrize("folder", SHIPPED, ids=lambda p: f"{p.parent.name}-{p.name}")
every_supernet = pytest.mark.parametrize("folder", SUPERNETS, ids=lambda p: p.parent.name)


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs name their data sets relative to it."""
    monkeypatch.chdir(REPOSITORY)


def copied(folder: Path, to: Path) -> Path:
    """A copy, as commands write beside and into a run."""
    return Path(shutil.copytree(folder, to / folder.name))


def sets(options: tuple[str, ...]) -> list[str]:
    return [text for option in options for text in ("--set", option)]


@every_folder
def test_shipped_folder_is_a_finished_run_of_the_data_that_ships(folder: Path) -> None:
    found = run_data(folder)
    assert run_stage(folder) == folder.name
    assert RunFolder(folder).is_done
    assert found is not None
    data = found[0]
    assert run_splits(folder, data).lists == make_splits(data).lists


@pytest.mark.slow
@every_folder
def test_shipped_folder_can_be_profiled_and_exported(folder: Path, tmp_path: Path) -> None:
    assert main(["profile", str(folder), "--size", "32", "--dry-run"]) == 0
    target = tmp_path / "weights.safetensors"
    arguments = ["export", str(folder), "--to", "safetensors", "--output", str(target)]
    assert main(arguments) == 0
    assert target.exists()


@every_folder
def test_shipped_folder_can_be_evaluated(folder: Path, tmp_path: Path) -> None:
    found = run_data(folder)
    assert found is not None
    output = ["--output", str(tmp_path / "scores"), "--max-images", "2"]
    nets = ["--features", "none", "--lpips", "none"]
    assert main(["evaluate", str(folder), str(found[0].root), *nets, *output]) == 0
    assert json.loads((tmp_path / "scores" / "scores.json").read_text())["scores"]


@pytest.mark.slow
@every_supernet
def test_shipped_supernet_can_be_searched(folder: Path, tmp_path: Path) -> None:
    run = copied(folder, tmp_path)
    assert main(["search", str(run), *sets(TINY_SEARCH)]) == 0
    search = tmp_path / "search"
    assert RunFolder(search).is_done
    assert main(["export", str(search), "--dry-run"]) == 0


def test_shipped_files_are_those_that_were_written() -> None:
    assert main(["verify", str(REPOSITORY / "pretrained")]) == 0


@every_supernet
def test_page_of_a_shipped_supernet(folder: Path, tmp_path: Path) -> None:
    assert main(["demo", str(copied(folder, tmp_path)), "--dry-run"]) == 0


def test_packed_run_is_a_run_at_half_precision(
    paired: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = write_teacher(tmp_path / "teacher.safetensors")
    run, packed = tmp_path / "supernet", tmp_path / "packed" / "supernet"
    train_supernet(supernet_options(paired, run, teacher), torch.device("cpu"))
    script = str(REPOSITORY / "scripts" / "pack_weights.py")
    monkeypatch.setattr(sys, "argv", [script, str(run), str(packed)])
    runpy.run_path(script, run_name="__main__")
    for file in run.glob("*.safetensors"):
        assert (packed / file.name).stat().st_size < 0.7 * file.stat().st_size
        assert load_tensors(packed / file.name)[1] == load_tensors(file)[1]
    assert read_list(packed / LIST).keys() >= {"config.yaml", "weights.safetensors", "done.json"}
    assert main(["verify", str(packed)]) == 0
    assert main(["search", str(packed), *sets(TINY_SEARCH)]) == 0


def test_unfinished_run_is_not_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = str(REPOSITORY / "scripts" / "pack_weights.py")
    monkeypatch.setattr(sys, "argv", [script, str(tmp_path / "run"), str(tmp_path / "packed")])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(script, run_name="__main__")
    assert "no finished run" in capsys.readouterr().err
    assert not (tmp_path / "packed").exists()
