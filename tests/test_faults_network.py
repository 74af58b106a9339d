"""Fault 2: no command, and no import, speaks to another machine or keeps a file for one that does.

Child processes run with `network_watch.c` preloaded, which notes and refuses every look-up of a
name and every address beyond loopback, and with a home of their own.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import make_paired
from test_translate_video import flat, make_video

from gancompress.export import FORMATS
from runs import (
    REPOSITORY,
    TINY,
    TINY_SPACE,
    search_options,
    supernet_options,
    teacher_options,
    write_options,
    write_tiny,
)

SOURCE = Path(__file__).with_name("network_watch.c")
PATIENCE_S = 14  # ONNX Runtime begins after ten seconds
VARIABLE = "ORT_DISABLE_TELEMETRY"
has_openvino = importlib.util.find_spec("openvino") is not None
needs_openvino = pytest.mark.skipif(not has_openvino, reason="openvino is an extra")


@dataclass
class Watched:
    """What a process has done.

    Attributes:
        code: Its exit code.
        said: Standard output.
        complained: Standard error.
        outside: What it wanted of other machines, one line each.
        kept: Files in its home, where caches are.
    """

    code: int
    said: str
    complained: str
    outside: list[str]
    kept: list[str]

    def require_silence(self) -> None:
        assert (self.code, self.outside, self.kept) == (0, [], []), self.complained


@pytest.fixture(scope="session")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("the watch over the network needs Linux and a C compiler (apt install gcc)")
    library = tmp_path_factory.mktemp("watch") / "watch.so"
    subprocess.run(
        [compiler, "-O1", "-shared", "-fPIC", "-w", SOURCE, "-o", library, "-ldl"], check=True
    )
    return library


def watched(library: Path, folder: Path, script: str, **environment: str | None) -> Watched:
    """Run Python under the watch; a variable that is None is taken away."""
    home = folder / "home"
    home.mkdir()
    log = folder / "network"
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    given: dict[str, str | None] = {
        **os.environ,
        "HOME": str(home),
        "LD_PRELOAD": str(library),
        "NETWORK_WATCH": str(log),
        "PYTHONPATH": paths,
        "PYTHONDONTWRITEBYTECODE": "1",
        VARIABLE: None,  # the tests themselves have it from the package
        **dict.fromkeys(["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "TORCH_HOME"]),
        **environment,
    }
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={name: value for name, value in given.items() if value is not None},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=500,
    )
    outside = log.read_text().splitlines() if log.exists() else []
    kept = sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())
    return Watched(ended.returncode, ended.stdout, ended.stderr, outside, kept)


# -- the watch itself ---------------------------------------------------------------------------


def test_the_watch_sees_names_and_addresses(watch: Path, tmp_path: Path) -> None:
    seen = watched(
        watch,
        tmp_path,
        """
        import contextlib, socket
        with contextlib.suppress(OSError):
            socket.getaddrinfo("example.org", 443)
        with contextlib.suppress(OSError):
            socket.gethostbyname("example.net")
        for family, address in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
            with contextlib.suppress(OSError):
                socket.socket(family, socket.SOCK_STREAM).connect((address, 443))
            with contextlib.suppress(OSError):
                socket.socket(family, socket.SOCK_DGRAM).sendto(b"x", (address, 53))
        """,
    )
    assert seen.outside == [
        *("resolve example.org", "resolve example.net", "connect 192.0.2.1", "sendto 192.0.2.1"),
        *("connect 2001:db8::1", "sendto 2001:db8::1"),
    ]


def test_the_watch_lets_this_machine_speak_to_itself(watch: Path, tmp_path: Path) -> None:
    seen = watched(
        watch,
        tmp_path,
        """
        import socket
        for host in ("127.0.0.1", "localhost"):
            server = socket.create_server((host, 0))
            socket.create_connection((host, server.getsockname()[1])).close()
        """,
    )
    seen.require_silence()


@needs_openvino
def test_the_watch_sees_what_openvino_does_by_itself(watch: Path, tmp_path: Path) -> None:
    seen = watched(watch, tmp_path, "import openvino")
    if not seen.outside:  # what a vendor's program does on a machine is not ours to promise
        pytest.skip("this OpenVINO reports nothing on this machine")
    assert seen.outside == ["resolve www.google-analytics.com"]
    assert seen.kept


@pytest.mark.slow
@pytest.mark.parametrize("value", [None, "0"])
def test_the_watch_sees_what_onnx_runtime_does_by_itself(
    value: str | None, watch: Path, tmp_path: Path
) -> None:
    script = f"import onnxruntime, time; time.sleep({PATIENCE_S})"
    seen = watched(watch, tmp_path, script, **{VARIABLE: value})
    if not seen.outside:
        pytest.skip("this ONNX Runtime reports nothing on this machine")
    assert {line.split()[0] for line in seen.outside} == {"resolve"}
    assert any("deviceid" in name for name in seen.kept)


# -- the package --------------------------------------------------------------------------------

IMPORT_ALL = """
    import importlib, os, pkgutil, sys

    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name == "onnxruntime":
                print("onnxruntime", os.environ.get("ORT_DISABLE_TELEMETRY"))

    sys.meta_path.insert(0, Finder())
    import gancompress
    for module in pkgutil.walk_packages(gancompress.__path__, "gancompress."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""


def test_fault_2_every_module_can_be_imported_in_silence(watch: Path, tmp_path: Path) -> None:
    seen = watched(watch, tmp_path, IMPORT_ALL)
    seen.require_silence()
    assert seen.said.split() == ["onnxruntime", "1"]


def test_fault_2_who_has_set_the_variable_has_chosen() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", f"import gancompress, os; print(repr(os.environ[{VARIABLE!r}]))"],
        env={**os.environ, VARIABLE: "0", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "'0'\n"


@needs_openvino
def test_fault_2_openvino_is_silent_after_the_package(watch: Path, tmp_path: Path) -> None:
    script = """
        import gancompress
        import numpy, openvino
        from openvino import opset13 as ops
        x = ops.parameter([1], name="x")
        compiled = openvino.Core().compile_model(openvino.Model([ops.relu(x)], [x]), "CPU")
        print(compiled(numpy.array([-1.0]))[0])
        """
    seen = watched(watch, tmp_path, script)
    seen.require_silence()
    assert seen.said == "[0.]\n"


RUNTIMES = ("onnxruntime", "openvino")


def test_fault_2_nothing_outside_the_package_imports_a_runtime() -> None:
    """Inside, `gancompress/__init__.py` has come before."""
    files = [
        path for name in ("benchmarks", "scripts") for path in (REPOSITORY / name).rglob("*.py")
    ]
    assert files
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & set(RUNTIMES), path


@pytest.mark.slow
def test_fault_2_a_library_that_lives_long_is_silent(watch: Path, tmp_path: Path) -> None:
    script = f"""
        import time
        import gancompress, onnx, onnxruntime
        from onnx import TensorProto, helper
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", *zip(ends))
        opset = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=9)
        onnxruntime.InferenceSession(model.SerializeToString())
        time.sleep({PATIENCE_S})
        """
    watched(watch, tmp_path, script).require_silence()


@pytest.mark.slow
def test_fault_2_no_command_speaks_to_another_machine(watch: Path, tmp_path: Path) -> None:
    """All commands in one process, which then lives on until ONNX Runtime would have spoken."""
    data = make_paired(tmp_path / "data", 16)
    make_video(tmp_path / "in.mp4", flat(3))
    teacher = write_tiny(tmp_path / "teacher.safetensors")
    quick = ("schedule.num_images=2", "schedule.num_images_decay=0")
    small = ("generator.ngf=4", *quick)
    supernet = (*TINY_SPACE, *quick, "loss.lambda_gan=0")
    write_options(tmp_path / "t.yaml", teacher_options(data, tmp_path / "t", *small))
    found = supernet_options(data, tmp_path / "run" / "supernet", teacher, *supernet)
    write_options(tmp_path / "n.yaml", found)
    searched = search_options(tmp_path / "run" / "search", found.run, "workers=2", "num_trials=6")
    write_options(tmp_path / "s.yaml", searched)
    (tmp_path / "c.yaml").write_text("run: run\nsupernet: n.yaml\nsearch: s.yaml\n")
    kinds = [kind for kind, entry in FORMATS.items() if has_openvino or entry.runtime != "openvino"]
    kinds = [kind for kind in kinds if kind != "openvino-bf16"]  # not on every processor
    own = f"--module {TINY}"
    commands = [
        "teacher t.yaml",
        f"supernet n.yaml {own}",
        f"search s.yaml {own} --runtime onnxruntime",
        f"compress c.yaml {own} --set search.runtime=onnxruntime",
        f"finetune run/supernet --subnet 8_12_8 {own} --set loss.lambda_gan=0",
        *(f"export run/search --to {kind} --output a.{kind}{FORMATS[kind].suffix} {own}"
          for kind in kinds),
        f"translate run/search data/test out {own}",
        "translate a.onnx.onnx in.mp4 out.mp4",
        f"profile run/search --against a.onnx.onnx --rounds 8 {own}",
        f"latency run/supernet --device-name here --rounds 3 {own}",
        f"evaluate run/search data {own}",
        "segmenter data --run judge --size 32 --num-images 4 --direction AtoB",
        f"demo run/search --bundle page {own}",
        f"demo run/search --static site {own}",
    ]  # fmt: skip
    script = f"""
        import time
        from gancompress.cli.main import main
        if __name__ == "__main__":
            for command in {commands!r}:
                code = main(command.split())
                print(code, command)
            time.sleep({PATIENCE_S})
        """
    seen = watched(watch, tmp_path, script)
    codes = {line[2:]: line[0] for line in seen.said.splitlines() if line[2:] in commands}
    assert codes == dict.fromkeys(commands, "0"), seen.complained
    seen.require_silence()


@pytest.mark.slow
def test_fault_2_the_page_is_served_in_silence(watch: Path, tmp_path: Path) -> None:
    if not (REPOSITORY / "gancompress/demo/web/vendor/ort.wasm.min.js").is_file():
        pytest.skip("needs the page's runtime (scripts/vendor.sh)")
    front = REPOSITORY / "pretrained" / "draw2emoji" / "front"
    script = f"""
        import threading, time, urllib.request
        from pathlib import Path
        from gancompress.demo import DemoServer, site
        server = DemoServer(site(Path({str(front)!r})), "127.0.0.1", 0)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name in server.table:
            urllib.request.urlopen(server.url.rstrip("/") + name).read()
        time.sleep({PATIENCE_S})
        """
    watched(watch, tmp_path, script).require_silence()
