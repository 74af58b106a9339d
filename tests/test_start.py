"""What is imported when, and from where: starting is quick, every public name is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import gancompress
from gancompress.cli.parser import COMMANDS, load
from gancompress.errors import ConfigError
from gancompress.inference import TranslateOptions, translate_path
from gancompress.metrics import perceptual
from gancompress.metrics.segmentation import build_segmenter
from runs import REPOSITORY

HEAVY = {"av", "lpips", "numpy", "onnx", "onnxruntime", "openvino", "pydantic", "scipy", "torch"}


def imported_by(code: str, *arguments: str) -> tuple[set[str], str]:
    """Top-level modules that a program has imported when it ends, and what it has printed."""
    program = (
        "import sys, atexit\n"
        "names = lambda: {name.partition('.')[0] for name in sys.modules}\n"
        "atexit.register(lambda: print('\\nmodules', *names()))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program + code, *arguments],
        cwd=REPOSITORY, text=True, capture_output=True, timeout=300,
    )  # fmt: skip
    text, _, names = ended.stdout.rpartition("\nmodules ")
    return set(names.split()), text + ended.stderr


def program(*arguments: str) -> tuple[set[str], str]:
    """The same of `gancompress ...`."""
    return imported_by("from gancompress.cli.main import main; sys.exit(main())", *arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--help"], "COMMAND"),
        (["--version"], gancompress.__version__),
        (["search", "--help"], "--latency-ms"),
        (["nothing"], "invalid choice: 'nothing'"),
        (["search", "run", "--workers", "many"], "invalid int value: 'many'"),
        (["export", "--nonsense"], "required: model"),
        (["profile", "x", "--module", "no-name"], "--module 'no-name' is not a factory"),
    ],
    ids=" ".join,
)
def test_help_and_refused_flags_import_nothing_heavy(arguments: list[str], said: str) -> None:
    modules, text = program(*arguments)
    assert said in text
    assert not modules & HEAVY


def test_importing_the_package_imports_nothing_heavy() -> None:
    modules, text = imported_by("import gancompress; print(*dir(gancompress))")
    assert not modules & HEAVY
    assert set(gancompress.__all__) <= set(text.split())


@pytest.mark.parametrize("name", gancompress.__all__)
def test_public_name_is_there(name: str) -> None:
    assert getattr(gancompress, name) is not None


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        gancompress.nothing  # noqa: B018


@pytest.mark.parametrize("command", COMMANDS)
def test_function_of_a_command_is_there(command: str) -> None:
    assert callable(load(f"cli.{COMMANDS[command]}"))


def test_help_lists_the_names_of_tables(capsys: pytest.CaptureFixture[str]) -> None:
    from gancompress.cli.main import main
    from gancompress.export import FORMATS

    with pytest.raises(SystemExit):
        main(["export", "--help"])
    words = capsys.readouterr().out.replace(",", " ").replace(".", " ").split()
    assert {*FORMATS, "float16", "browser"} <= set(words)


def test_package_is_found_from_the_folder_beside_a_clone_of_its_name(tmp_path: Path) -> None:
    """In an editable install; there, the clone itself could pass for a package without modules."""
    clone, installed = tmp_path / "gancompress", tmp_path / "site"
    shutil.copytree(REPOSITORY / "gancompress", clone / "gancompress", ignore=lambda *_: {"web"})
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(REPOSITORY / name, clone)
    build = f"from setuptools.build_meta import build_editable; build_editable({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=clone, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(installed)
    code = (
        "import site, sys; site.addsitedir(sys.argv[1]); import gancompress as g; print(g.__file__)"
    )
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        [sys.executable, "-S", "-c", code, installed],
        cwd=tmp_path, env=environment, text=True, capture_output=True,
    )  # fmt: skip
    assert ended.stdout.strip() == str(clone / "gancompress" / "__init__.py"), ended.stderr


def test_missing_package_is_one_message_that_names_its_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in ("av", "lpips", "torchvision.models.segmentation"):
        monkeypatch.setitem(sys.modules, module, None)
    film = tmp_path / "film.mp4"
    film.touch()
    with pytest.raises(ConfigError, match=r"pip install 'gancompress\[video\]'"):
        translate_path(lambda x: x, film, tmp_path / "out", TranslateOptions())
    with pytest.raises(ConfigError, match=r"pip install 'gancompress\[metrics\]'"):
        perceptual._build("alex", tmp_path / "alexnet.pth")
    with pytest.raises(ConfigError, match=r"pip install 'gancompress\[metrics\]'"):
        build_segmenter("fcn_resnet50", 2)
