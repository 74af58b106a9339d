"""The example for programs without this package: onnxruntime, numpy and pillow alone."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers import picture, write_image
from onnx import TensorProto, helper
from PIL import Image

from gancompress.cli.main import main
from gancompress.export import export_network
from runs import REPOSITORY, TINY, load_network, write_tiny

EXAMPLE = REPOSITORY / "docs" / "onnx_example.py"
ALONE = """
import os, runpy, sys

os.environ.pop("ORT_DISABLE_TELEMETRY", None)

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
        if name.split(".")[0] in ("torch", "gancompress", "onnx"):
            raise ImportError(f"{name} is not there")

sys.meta_path.insert(0, Absent())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_alone(*arguments: Path, script: Path = EXAMPLE) -> subprocess.CompletedProcess[str]:
    """Run a script where torch, onnx and this package cannot be imported."""
    command = [sys.executable, "-I", "-W", "error", "-c", ALONE, str(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX file of a generator of stride 2."""
    folder = tmp_path_factory.mktemp("example")
    network = load_network(write_tiny(folder / "g.safetensors"))
    images = [torch.from_numpy(picture(i, 32)).permute(2, 0, 1) for i in range(16)]
    export_network(network, "onnx", folder / "g.onnx", images)
    return folder / "g.onnx"


@pytest.mark.parametrize(("height", "width"), [(32, 32), (45, 64), (31, 17)])
def test_example_gives_the_picture_of_the_command(
    model: Path, tmp_path: Path, height: int, width: int
) -> None:
    source = write_image(tmp_path / "in.png", picture(3, 64)[:height, :width])
    ended = run_alone(model, source, tmp_path / "example.png")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    files = ((model,), (model.with_suffix(".safetensors"), "--module", TINY))
    for number, (generator, *flags) in enumerate(files):
        target = tmp_path / f"{number}.png"
        assert main(["translate", str(generator), str(source), str(target), *flags]) == 0
        wanted = np.asarray(Image.open(target), int)
        found = np.asarray(Image.open(tmp_path / "example.png"), int)
        assert found.shape == (height, width, 3)
        assert np.abs(found - wanted).max() <= 1
        assert wanted.std() > 5


@pytest.mark.parametrize(("kind", "mode"), [(None, "RGB"), ("grey", "L")])
def test_example_takes_the_form_of_bytes(kind: str | None, mode: str, tmp_path: Path) -> None:
    """A graph from (N, H, W, C) uint8 to its negative."""
    shape = ["n", "h", "w", len(mode)]
    ends = [helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node("BitwiseNot", ["x"], ["y"])], "g", *zip(ends))
    opset = [helper.make_opsetid("", 20)]
    made = helper.make_model(graph, opset_imports=opset, ir_version=9)
    header = {"stride": 8, "type": "uint8", **({"inputs": {"image": kind}} if kind else {})}
    helper.set_model_props(made, {"gancompress": json.dumps(header)})
    onnx.save(made, tmp_path / "g.onnx")
    source = write_image(tmp_path / "in.png", picture(3, 64)[:21, :30])
    ended = run_alone(tmp_path / "g.onnx", source, tmp_path / "out.png")
    assert (ended.returncode, ended.stderr) == (0, "")
    found = np.asarray(Image.open(tmp_path / "out.png"))
    wanted = Image.fromarray(picture(3, 64)[:21, :30]).convert(mode)
    assert np.array_equal(found, 255 - np.asarray(wanted))


def test_example_is_short_and_needs_three_packages() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) <= 22
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import)]
    names = {alias.name for node in imports for alias in node.names} - sys.stdlib_module_names
    froms = {n.module for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ImportFrom)}
    assert names | froms == {"numpy", "onnxruntime", "PIL"}


def test_blocked_packages_cannot_be_imported(tmp_path: Path) -> None:
    for name in ("torch", "gancompress", "onnx"):
        script = tmp_path / f"use_{name}.py"
        script.write_text(f"import {name}\n")
        assert f"ImportError: {name} is not there" in run_alone(script=script).stderr


def test_readme_shows_the_example() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    shown = [block for block in blocks if block.splitlines()[0] == text.splitlines()[0]]
    assert shown == [text]
