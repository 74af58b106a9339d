"""What README.md, CONTRIBUTING.md and docs/ tell the reader to type is there and is understood."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from documents import DOCUMENTS, commands, fenced, files_named
from helpers import make_paired
from safetensors.torch import load_file

from gancompress.cli.parser import make_parser
from gancompress.pipeline import derive
from runs import REPOSITORY, write_teacher

every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
TYPED = [(path.name, shlex.join(words)) for path in DOCUMENTS for words in commands(path)]


@pytest.mark.parametrize(("document", "typed"), TYPED, ids=[typed for _, typed in TYPED])
def test_command_of_a_document_is_understood(document: str, typed: str) -> None:
    args = make_parser().parse_args(shlex.split(typed))
    assert args.command == typed.split()[0]


def test_commands_are_found() -> None:
    assert {typed.split()[0] for name, typed in TYPED if name == "README.md"} == {
        *("compress", "teacher", "supernet", "search", "export", "translate", "evaluate"),
        *("segmenter", "profile", "latency", "demo", "verify"),
    }


@every_document
def test_files_of_a_document_are_there(path: Path) -> None:
    for name in files_named(path):
        assert (REPOSITORY / name).is_file(), name


@every_document
def test_programs_of_a_document_compile(path: Path) -> None:
    for program in fenced(path, "python"):
        compile(program, path.name, "exec")


@pytest.mark.slow
def test_program_of_the_readme_compresses_exports_and_evaluates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_paired(Path("my/images"), 16)
    tensors = load_file(write_teacher(tmp_path / "own.safetensors"))
    Path("checkpoints").mkdir()
    torch.save(tensors, "checkpoints/latest_net_G.pth")
    tiny = replace(derive.PRESETS["quick"], num_images=4, search={"num_trials": 2})
    monkeypatch.setitem(derive.PRESETS, "quick", tiny)
    program = next(text for text in fenced(REPOSITORY / "README.md", "python") if "gc." in text)
    shown: dict[str, object] = {}
    exec(program, shown)
    assert Path("runs/images/report.html").is_file()
    assert list(Path("runs/images/search/export").glob("*.onnx"))
    assert "output" in shown["scores"]  # type: ignore[operator]
