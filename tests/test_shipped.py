"""The scores that docs/results.md prints for the shipped front, computed again from its files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gancompress.cli.main import main
from gancompress.demo.manifest import read_manifest
from runs import REPOSITORY

SHIPPED = REPOSITORY / "pretrained" / "draw2emoji"
FRONT = SHIPPED / "front"
HEADING = "## draw2emoji: the front that ships"
COLUMNS = {"truth_lpips[alex]": 3, "truth_psnr": 4, "teacher_lpips[alex]": 5}
ROUNDING = {"truth_lpips[alex]": 0.0005, "truth_psnr": 0.02, "teacher_lpips[alex]": 0.0005}
MODELS = {model.name: FRONT / model.file for model in read_manifest(FRONT).models}


def printed() -> dict[str, dict[str, float]]:
    """Scores by model and name, from the table below the heading."""
    text = (REPOSITORY / "docs" / "results.md").read_text(encoding="utf-8")
    section = text.partition(HEADING)[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:2] == "| "]
    return {
        cells[0]: {
            name: float(found[0])
            for name, place in COLUMNS.items()
            if len(cells) > place and (found := re.match(r"[\d.]+", cells[place]))
        }
        for cells in rows
        if cells[0] in MODELS
    }


def test_every_model_of_the_shipped_front_has_a_row() -> None:
    rows = printed()
    assert rows.keys() == MODELS.keys()
    for name, scores in rows.items():
        wanted = {"truth_lpips[alex]", "truth_psnr"} if name == "teacher" else COLUMNS.keys()
        assert scores.keys() == wanted, name


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if name != "teacher"])
def test_printed_scores_are_those_of_the_shipped_file(
    name: str, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", str(MODELS[name]), str(REPOSITORY / "datasets" / "draw2emoji")]
    arguments += ["--mode", "paired", "--teacher", str(SHIPPED / "teacher"), "--features", "none"]
    arguments += ["--size", "128"]
    arguments += ["--lpips", f"alex={shared / 'weights' / 'alexnet_features.pth'}"]
    assert main([*arguments, "--output", str(tmp_path / "scores"), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    for score, value in printed()[name].items():
        assert scores[score]["value"] == pytest.approx(value, abs=ROUNDING[score]), score
