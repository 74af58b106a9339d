"""The package's shape: imports point down, names shadow nothing, no file can run code."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "gancompress"
MODULES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in MODULES]
every_module = pytest.mark.parametrize("path", MODULES, ids=NAMES)

# from the top down; a part imports from its own layer and from those below
LAYERS = (
    {"cli", "demo", "__main__"},
    {"pipeline"},
    {"training", "search", "export", "inference", "report"},
    {"evaluation"},
    {"losses", "data", "metrics", "cost", "checkpoint"},
    {"models"},
    {"elastic"},
    {"runtimes"},
    {
        "config",
        "distributed",
        "extras",
        "progress",
        "tables",
        "errors",
        "hashes",
        "headers",
        "paths",
    },
)
HEIGHT = {part: -depth for depth, parts in enumerate(LAYERS) for part in parts}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a module imports, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            assert node.module is not None
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def part_of(path: Path) -> str:
    """The package's part that a file belongs to: its folder, or its own name at the top."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_part_has_its_layer() -> None:
    parts = {part_of(path) for path in MODULES} - {"__init__"}
    assert parts <= HEIGHT.keys()


@every_module
def test_imports_point_down(path: Path) -> None:
    part = part_of(path)
    if part == "__init__":
        pytest.skip("the package itself offers names of all layers")
    upwards = [
        f"line {line}: {name}"
        for line, name in imports(path)
        if name.startswith("gancompress.")
        and HEIGHT.get(name.split(".")[1], HEIGHT[part]) > HEIGHT[part]
    ]
    assert not upwards


def test_sessions_are_opened_in_one_place() -> None:
    for path in MODULES:
        names = {".".join(name.split(".")[:2]) for _, name in imports(path)}
        found = {name for name in names if name.split(".")[0] in ("onnxruntime", "openvino")}
        # what makes eight-bit graphs belongs to the export
        assert part_of(path) == "runtimes" or found <= {"onnxruntime.quantization"}, path


@pytest.mark.parametrize(("part", "stranger"), [("elastic", "models"), ("models", "elastic")])
def test_models_and_elasticity_do_not_know_each_other(part: str, stranger: str) -> None:
    for path in (PACKAGE / part).rglob("*.py"):
        names = {".".join(name.split(".")[:2]) for _, name in imports(path)}
        assert f"gancompress.{stranger}" not in names, path


@every_module
def test_nothing_needs_one_operating_system(path: Path) -> None:
    modules = {name.split(".")[0] for _, name in imports(path)}
    assert not modules & {"fcntl", "grp", "msvcrt", "pwd", "resource", "termios", "winreg"}


@every_module
def test_nothing_is_called_utils(path: Path) -> None:
    assert not {"utils", "util", "helpers", "misc", "common"} & {
        name.removesuffix(".py") for name in path.relative_to(PACKAGE).parts
    }


def test_nothing_at_the_top_shadows_the_standard_library() -> None:
    """These folders are on the import path of commands and of tests."""
    for folder in (REPOSITORY, REPOSITORY / "tests", REPOSITORY / "scripts"):
        names = {path.stem for path in folder.iterdir() if path.is_dir() or path.suffix == ".py"}
        assert not names & sys.stdlib_module_names, folder
    parts = {part_of(path) for path in MODULES}
    assert not parts & sys.stdlib_module_names


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an expression that is such a name, or nothing."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return ""


RUNS_CODE = {
    *("eval", "exec", "compile", "__import__", "pickle.load", "pickle.loads", "pickle.Unpickler"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.jit.load", "torch.hub.load"),
    *("marshal.loads", "shelve.open", "joblib.load", "os.system"),
}


def dangers(path: Path) -> list[str]:
    """Calls and arguments that may run what a file of somebody else's holds."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        arguments = {k.arg: k.value for k in node.keywords}
        if name in RUNS_CODE:
            found.append(f"line {node.lineno}: {name}")
        if name == "torch.load":
            safe = arguments.get("weights_only")
            if not (isinstance(safe, ast.Constant) and safe.value is True):
                found.append(f"line {node.lineno}: torch.load without weights_only=True")
        for key, unwanted in (("weights_only", False), ("allow_pickle", True), ("shell", True)):
            value = arguments.get(key)
            if isinstance(value, ast.Constant) and value.value is unwanted:
                found.append(f"line {node.lineno}: {key}={unwanted}")
    return found


# one published file is code by its nature; it is run only when its hash is the published one
ALLOWED = {"metrics/features.py": ["torch.jit.load"]}


@every_module
def test_no_file_can_make_the_package_run_code(path: Path) -> None:
    calls = [danger.partition(": ")[2] for danger in dangers(path)]
    assert calls == ALLOWED.get(str(path.relative_to(PACKAGE)), [])
    modules = {name.split(".")[0] for _, name in imports(path)}
    assert not modules & {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve"}


def test_the_check_for_code_sees_code(tmp_path: Path) -> None:
    text = (
        "import torch, yaml, pickle\n"
        "torch.load('a')\n"
        "torch.load('a', weights_only=False)\n"
        "yaml.load(open('a'))\n"
        "pickle.load(open('a', 'rb'))\n"
        "eval('1')\n"
        "model.eval()\n"
        "yaml.safe_load('a')\n"
    )
    (tmp_path / "bad.py").write_text(text)
    lines = [int(danger.split()[1].rstrip(":")) for danger in dangers(tmp_path / "bad.py")]
    assert lines == [2, 3, 3, 4, 5, 6]
