"""Faults 1, 13 and 16: no file runs code, no name leads out of its folder or to another machine.

Every test looks for a mark: a file that the malicious module writes, a file outside of the folder,
or a connection that a listening socket has seen.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from helpers import make_paired, picture, write_image
from onnx import TensorProto, helper
from test_translate_video import flat, make_video, read_video

from gancompress.checkpoint.files import load_tensors, save_tensors
from gancompress.checkpoint.network import save_network
from gancompress.checkpoint.run import RunFolder
from gancompress.cli.main import main
from gancompress.demo import publish
from gancompress.errors import CheckpointError, ConfigError, DataError
from gancompress.export import export_network
from gancompress.hashes import file_sha256
from gancompress.inference import TranslateOptions, translate_path
from gancompress.paths import file_name, inside
from runs import (
    TINY,
    TINY_SPACE,
    load_network,
    search,
    search_options,
    supernet_options,
    tiny_generator,
    train_supernet,
    write_tiny,
)

CPU = torch.device("cpu")
EVIL = "zebra_net:make"
MODULE = """
from pathlib import Path
Path({mark!r}).touch()

def make():
    import runs
    return runs.tiny_generator()
"""
Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A supernet and its search, distilled from somebody's own module."""
    folder = tmp_path_factory.mktemp("trained")
    root = make_paired(folder / "data", 16)
    teacher = write_tiny(folder / "teacher.safetensors")
    quick = ("schedule.num_images=2", "schedule.num_images_decay=0", "loss.lambda_gan=0")
    options = supernet_options(root, folder / "supernet", teacher, *TINY_SPACE, *quick)
    train_supernet(options, CPU)
    search(search_options(folder / "search", folder / "supernet", "num_trials=6"), CPU)
    images = [torch.from_numpy(picture(i, 32)).permute(2, 0, 1) for i in range(16)]
    export_network(load_network(teacher), "pt2", folder / "a.pt2", images)
    return folder


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What `zebra_net.py`, a module in the working folder, writes when it is imported."""
    path = tmp_path / "owned"
    (tmp_path / "zebra_net.py").write_text(MODULE.format(mark=str(path)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield path
    sys.modules.pop("zebra_net", None)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return code, capsys.readouterr().err

    return call


@pytest.fixture
def foreign(trained: Path, tmp_path: Path) -> Path:
    """The same folders as a stranger might send them: every header asks for his module."""
    folder = tmp_path / "foreign"
    shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("*.pt2"))
    for path in (*folder.glob("*.safetensors"), *folder.glob("*/*.safetensors")):
        tensors, header = load_tensors(path)
        if "module" in header.get("network", {}):
            save_tensors(path, tensors, {**header, "network": {"module": EVIL}})
    for path in folder.glob("*/config.yaml"):
        path.write_text(path.read_text().replace(str(trained), str(folder)))
    hash_again(folder)
    return folder


def hash_again(folder: Path) -> None:
    """Make the hashes of a search those of the files there, as a stranger would."""
    run = RunFolder(folder / "search")
    facts = json.loads(run.done.read_text())
    facts["made_from"]["weights"] = file_sha256(folder / "supernet" / "weights.safetensors")
    run.finish(facts)


COMMANDS = {
    "profile": "profile {0}/teacher.safetensors --no-latency",
    "profile-supernet": "profile {0}/supernet --no-latency",
    "against": "profile --generator resnet_6blocks --against {0}/teacher.safetensors --dry-run",
    "translate": "translate {0}/supernet {0}/data/test out",
    "translate-search": "translate {0}/search {0}/data/test out",
    "evaluate": "evaluate {0}/search {0}/data --features none --lpips none --output out",
    "export": "export {0}/teacher.safetensors --images {0}/data/test --to safetensors "
    "--output o.safetensors",
    "demo": "demo {0}/search --dry-run",
    "demo-supernet": "demo {0}/supernet --dry-run",
    "demo-file": "demo {0}/teacher.safetensors --dry-run",
    "latency": "latency {0}/supernet --device-name here --dry-run",
    "search": "search {0}/supernet --macs 1e9 --set num_trials=2 --runtime eager",
    "search-folder": "search {0}/search --set num_trials=3",
    "finetune": "finetune {0}/supernet --subnet 8_12_8 --set schedule.num_images=2 "
    "--set schedule.num_images_decay=0 --set loss.lambda_gan=0",
    "supernet": "supernet supernet.yaml --dry-run",
    "compress": "compress compress.yaml --dry-run",
}  # fmt: skip


def typed(text: str, folder: Path) -> list[str]:
    return text.format(folder).split()


def write_user_options(folder: Path) -> None:
    """Options of the user, whose teacher is the stranger's file."""
    teacher = folder / "teacher.safetensors"
    options = supernet_options(folder / "data", Path("mine/supernet"), teacher, *TINY_SPACE)
    found = search_options(Path("mine/search"), Path("mine/supernet"), "runtime=eager")
    for name, content in (
        ("supernet", options.model_dump(mode="json")),
        ("search", found.model_dump(mode="json")),
        ("compress", {"run": "mine", "supernet": "supernet.yaml", "search": "search.yaml"}),
    ):
        Path(f"{name}.yaml").write_text(yaml.safe_dump(content))


@pytest.mark.parametrize("name", COMMANDS)
def test_fault_1_no_header_makes_a_command_import_a_module(
    name: str, foreign: Path, mark: Path, run: Run
) -> None:
    write_user_options(foreign)
    code, message = run(*typed(COMMANDS[name], foreign))
    assert (code, mark.exists()) == (2, False)
    assert "no file decides which code is run" in message
    assert message.endswith(f"name it: --module {EVIL}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_fault_1_the_user_may_name_that_module(
    name: str, foreign: Path, mark: Path, run: Run
) -> None:
    write_user_options(foreign)
    code, message = run(*typed(COMMANDS[name], foreign), "--module", EVIL)
    assert (code, message.splitlines()[:1]) == (0, []), message
    assert mark.exists()  # so this module does write its mark


def test_fault_1_the_module_may_have_moved(foreign: Path, mark: Path, run: Run) -> None:
    assert run("translate", foreign / "search", foreign / "data/test", "out", "--module", TINY) == (
        0,
        "",
    )
    assert not mark.exists()


def test_fault_1_a_module_that_ends_the_process_is_not_called(tmp_path: Path, run: Run) -> None:
    save_network(tmp_path / "a.safetensors", tiny_generator(), {"module": "os:abort"})
    code, message = run("profile", tmp_path / "a.safetensors", "--no-latency")
    assert code == 2
    assert "--module os:abort" in message


@pytest.mark.parametrize("asked", ["\x1b[2Jzebra", "zebra_net:make; id", ["zebra_net:make"], 3])
def test_fault_1_what_a_file_asks_for_is_no_advice_unless_it_is_a_name(
    asked: object, tmp_path: Path, run: Run
) -> None:
    save_network(tmp_path / "a.safetensors", tiny_generator(), {"module": asked})
    code, message = run("profile", tmp_path / "a.safetensors", "--no-latency")
    assert code == 2
    assert "--module" not in message
    assert "\x1b" not in message


def test_fault_1_metadata_of_onnx_is_never_code(trained: Path, mark: Path, run: Run) -> None:
    images = [torch.from_numpy(picture(i, 32)).permute(2, 0, 1) for i in range(4)]
    export_network(load_network(trained / "teacher.safetensors"), "onnx", Path("a.onnx"), images)
    model = onnx.load("a.onnx")
    helper.set_model_props(model, {"gancompress": json.dumps({"network": {"module": EVIL}})})
    onnx.save(model, "a.onnx")
    assert run("translate", "a.onnx", trained / "data/test", "out") == (0, "")
    assert run("profile", "a.onnx", "--no-latency", "--size", "32")[0] == 0
    assert not mark.exists()


def test_fault_1_features_of_a_foreign_folder_are_not_imported(
    foreign: Path, mark: Path, run: Run
) -> None:
    config = foreign / "search" / "config.yaml"
    content = yaml.safe_load(config.read_text())
    config.write_text(
        yaml.safe_dump({**content, "metric": "kid[mine]", "features": {"mine": EVIL}})
    )
    arguments = ("search", foreign / "search", "--module", TINY, "--dry-run")
    code, message = run(*arguments)
    assert (code, mark.exists()) == (2, False)
    assert message.endswith(f"""name it: --set 'features={{"mine": "{EVIL}"}}'\n""")
    assert run(*arguments, "--set", "features.other=a:b")[0] == 2
    assert not mark.exists()
    assert run(*arguments, "--set", f'features={{"mine": "{EVIL}"}}')[0] == 0
    assert mark.exists()


def test_fault_1_teacher_module_in_the_folder_of_a_run_is_not_imported(
    foreign: Path, mark: Path, run: Run
) -> None:
    """The headers are harmless here; only the options in the folder name the module."""
    for path in (foreign / "supernet").glob("*.safetensors"):
        tensors, header = load_tensors(path)
        save_tensors(path, tensors, {**header, "network": {"module": TINY}})
    config = foreign / "supernet" / "config.yaml"
    content = yaml.safe_load(config.read_text())
    content["teacher"]["module"] = EVIL
    config.write_text(yaml.safe_dump(content))
    hash_again(foreign)
    for name in ("translate", "evaluate", "search", "search-folder", "finetune", "demo"):
        assert run(*typed(COMMANDS[name], foreign), "--module", TINY)[0] == 0
    assert not mark.exists()


def test_fault_1_the_working_folder_is_searched_for_named_modules_only(
    trained: Path, mark: Path, run: Run
) -> None:
    sys.path[:] = [path for path in sys.path if path not in ("", os.getcwd())]
    save_network(Path("a.safetensors"), tiny_generator(), {"module": TINY}, image_size=32)
    run("profile", "--generator", "resnet_6blocks", "--no-latency")
    assert os.getcwd() not in sys.path
    run("profile", "a.safetensors", "--module", EVIL, "--no-latency")
    assert os.getcwd() in sys.path
    assert mark.exists()


# -- files that are code ----------------------------------------------------------------------


def with_code(source: Path, target: Path, mark: Path) -> Path:
    """A .pt2 file in which an expression of a size is Python."""
    text = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.infolist():
            content = old.read(item)
            if item.filename.endswith(".json") and b'"expr_str"' in content:
                model = json.loads(content)
                _replace(model, text)
                content = json.dumps(model).encode()
            new.writestr(item, content)
    return target


def _replace(content: object, text: str) -> None:
    if isinstance(content, dict):
        if "expr_str" in content:
            content["expr_str"] = text
        content = list(content.values())
    for part in content if isinstance(content, list) else ():
        _replace(part, text)


@pytest.mark.parametrize(
    "command",
    [
        "translate bad.pt2 {0}/data/test out",
        "profile bad.pt2 --no-latency",
        "profile --generator resnet_6blocks --against bad.pt2 --no-latency",
        "evaluate bad.pt2 {0}/data --features none --lpips none --output out",
    ],
)
def test_fault_1_pt2_is_opened_only_for_who_trusts_it(
    trained: Path, mark: Path, run: Run, command: str
) -> None:
    with_code(trained / "a.pt2", Path("bad.pt2"), mark)
    code, message = run(*typed(command, trained))
    assert (code, mark.exists()) == (2, False)
    assert "may run any code while it is read" in message
    assert "--allow-code" in message


def test_fault_1_the_pt2_file_of_the_test_does_run_code(
    trained: Path, mark: Path, run: Run
) -> None:
    with_code(trained / "a.pt2", Path("bad.pt2"), mark)
    run("translate", "bad.pt2", trained / "data/test", "out", "--allow-code")
    assert mark.exists()


def test_fault_1_pt2_of_ones_own_runs_with_the_flag(trained: Path, mark: Path, run: Run) -> None:
    code, _ = run("translate", trained / "a.pt2", trained / "data/test", "out", "--allow-code")
    assert code == 0
    assert len(list(Path("out").iterdir())) == 8


class _Payload:
    """Unpickling this writes the mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("place", ["whole", "beside"])
def test_fault_1_pickles_are_not_run(mark: Path, run: Run, place: str, legacy: bool) -> None:
    payload = _Payload(mark)
    content = payload if place == "whole" else {**tiny_generator().state_dict(), "x": payload}
    torch.save(content, "a.pth", _use_new_zipfile_serialization=not legacy)
    for name in ("a.pth", "latest_net_G.pth", "state.pt"):
        if name != "a.pth":
            shutil.copy("a.pth", name)
        code, message = run("profile", name, "--module", TINY, "--no-latency")
        assert (code, mark.exists()) == (2, False)
        assert "not a readable checkpoint of tensors" in message


def test_fault_1_torchscript_is_not_opened(mark: Path, run: Run) -> None:
    with pytest.warns(FutureWarning, match="is deprecated"):
        torch.jit.script(torch.nn.Conv2d(3, 3, 1)).save("a.pth")
    code, _ = run("profile", "a.pth", "--module", TINY, "--no-latency")
    assert code == 2


# -- names of files ---------------------------------------------------------------------------

NAMES = ["../x/owned", "/tmp/owned", "a/b", "..", ".", "", "a\0b", "a\nb", "-o", 3, None, "x" * 300]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_fault_13_a_word_of_a_header_is_a_plain_name_or_refused(name: object) -> None:
    with pytest.raises(CheckpointError, match="cannot be the name of a file"):
        file_name(name, "a.onnx")
    assert file_name("8_12_8", "a.onnx") == "8_12_8"


@pytest.mark.parametrize("name", ["../x/owned", "{0}/x/owned", "a\0b", "sub/owned"])
def test_fault_13_export_writes_into_its_folder_or_nowhere(
    name: str, trained: Path, tmp_path: Path, run: Run
) -> None:
    path = tmp_path / "stranger" / "a.safetensors"
    header = {"subnet": name.format(tmp_path), "image_size": 32}
    save_network(path, tiny_generator(), {"module": TINY}, **header)
    flags = ("--module", TINY, "--images", trained / "data/test", "--to", "safetensors")
    code, message = run("export", path, *flags)
    assert code == 2
    assert "cannot be the name of a file" in message
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]
    assert run("export", path, *flags, "--output", tmp_path / "out.safetensors")[0] == 0


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a\0b", "", 5, "link", "link/x"])
def test_fault_13_names_of_lists_stay_in_their_folder(name: object, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to(tmp_path)
    with pytest.raises(ConfigError):
        inside(tmp_path / "folder", name)
    assert inside(tmp_path / "folder", "a b/ä:1.png") == tmp_path / "folder" / "a b/ä:1.png"


def test_fault_13_a_folder_that_is_itself_a_link_is_the_users(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert inside(tmp_path / "link", "a") == tmp_path / "link" / "a"


VICTIM = "belongs to somebody else"


def linked(folder: Path, name: str, victim: Path) -> None:
    """Put a link in the place of a file or folder that a command writes."""
    victim.parent.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(victim)


@pytest.mark.parametrize(
    "name",
    [".lock", ".config.yaml.partial", "trials.jsonl", "log.jsonl", "done.json", "report.html"],
)
def test_fault_13_nothing_is_written_through_a_link_in_a_run_folder(
    name: str, foreign: Path, tmp_path: Path, run: Run
) -> None:
    victim = tmp_path / "home" / "victim"
    linked(foreign / "search", name, victim)
    victim.write_text(VICTIM)
    run("search", foreign / "search", "--module", TINY, "--set", "num_trials=3")
    assert victim.read_text() == VICTIM
    assert list(victim.parent.iterdir()) == [victim]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("search/export", "export {0}/search --to safetensors"),
        ("search/demo", "demo {0}/search --port 0"),
        ("supernet/devices", "latency {0}/supernet --device-name here --rounds 3"),
        ("search/evaluation", "evaluate {0}/search {0}/data --features none --lpips none"),
        ("search/evaluation/test", "evaluate {0}/search {0}/data --features none --lpips none"),
        ("finetune-8_12_8/samples", "finetune {0}/supernet --subnet 8_12_8"),
    ],
)
def test_fault_13_no_folder_of_a_run_is_a_link_to_elsewhere(
    name: str, command: str, foreign: Path, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "home").mkdir()
    linked(foreign, name, tmp_path / "home")
    code, message = run(*typed(command, foreign), "--module", TINY)
    assert code == 2
    assert "is a link out of" in message
    assert list((tmp_path / "home").iterdir()) == []


def test_fault_13_images_behind_a_link_are_not_cleared_away(
    foreign: Path, tmp_path: Path, run: Run
) -> None:
    mine = write_image(tmp_path / "home" / "mine.png", picture(0, 8))
    output = foreign / "search" / "evaluation" / "test"
    linked(output, "images/output", mine.parent)
    (output / "scores.json").write_text("{}")
    flags = ("--features", "none", "--lpips", "none", "--module", TINY)
    assert run("evaluate", foreign / "search", foreign / "data", *flags)[0] == 2
    assert list(mine.parent.iterdir()) == [mine]


def test_fault_13_a_search_is_kept_in_the_folder_that_was_named(
    foreign: Path, tmp_path: Path, run: Run
) -> None:
    config = foreign / "search" / "config.yaml"
    content = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**content, "run": str(tmp_path / "home")}))
    flags = ("--module", TINY, "--set", "num_trials=3")
    assert run("search", foreign / "search", *flags) == (0, "")
    assert not (tmp_path / "home").exists()


def test_fault_13_finetune_writes_beside_the_folder_that_was_named(
    foreign: Path, tmp_path: Path, run: Run
) -> None:
    shutil.move(foreign / "supernet", tmp_path / "home" / "supernet")
    config = foreign / "search" / "config.yaml"
    content = yaml.safe_load(config.read_text())
    supernet = str(tmp_path / "home" / "supernet")
    config.write_text(yaml.safe_dump({**content, "supernet": supernet}))
    flags = ("--subnet", "8_12_8", "--module", TINY, "--set", "schedule.num_images=2")
    assert run("finetune", foreign / "search", *flags, "--set", "loss.lambda_gan=0") == (0, "")
    assert (foreign / "finetune-8_12_8").is_dir()
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["supernet"]


def test_fault_18_a_page_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    publish(tmp_path / "page", {"front.json": b"{}", "models/a": b"a"})
    linked(tmp_path / "page", "models", tmp_path / "home")
    (tmp_path / "home" / "a").write_bytes(b"a")
    for contents in ({"front.json": b"{}", "models/b": b"b"}, {"front.json": b"{}"}):
        with pytest.raises(ConfigError, match="is a link out of"):
            publish(tmp_path / "page", contents)
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["a"]


@pytest.mark.parametrize("name", ["../x.png", "/x.png", "a\0.png", ""])
def test_fault_13_lists_of_images_name_images_of_their_folder(
    name: str, foreign: Path, run: Run
) -> None:
    path = RunFolder(foreign / "search").splits
    content = json.loads(path.read_text())
    content["lists"]["train"]["AB"][name] = "0" * 64
    path.write_text(json.dumps(content))
    hash_again(foreign)
    flags = ("--module", TINY, "--features", "none", "--lpips", "none", "--split", "train")
    code, message = run("evaluate", foreign / "search", foreign / "data", *flags)
    assert code == 2
    assert "no readable lists of images" in message


# -- ONNX that keeps weights in other files -----------------------------------------------------


def write_external(folder: Path, location: str) -> Path:
    """An ONNX generator whose kernel is in another file."""
    kernel = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)
    tensor = onnx.numpy_helper.from_array(kernel, "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("length", "36")):
        tensor.external_data.add(key=key, value=value)
    shape = ["n", 3, "h", "w"]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", [ends[0]], [ends[1]], [tensor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    folder.mkdir(exist_ok=True)
    (folder / "a.onnx").write_bytes(model.SerializeToString())
    return folder / "a.onnx"


@pytest.mark.parametrize("kind", ["parent", "absolute", "symlink", "hard link", "folder", "none"])
@pytest.mark.parametrize("command", ["profile {0} --no-latency", "translate {0} in.png out.png"])
def test_fault_18_weights_of_onnx_are_files_of_its_own(
    kind: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    write_image(Path("in.png"), picture(0, 32))
    secret = tmp_path / "secret"
    secret.write_bytes(np.eye(3, dtype=np.float32).tobytes())
    locations = {"parent": "../secret", "absolute": str(secret), "folder": "."}
    path = write_external(tmp_path / "model", locations.get(kind, "data"))
    if kind == "symlink":
        (path.parent / "data").symlink_to(secret)
    elif kind == "hard link":
        os.link(secret, path.parent / "data")
    code, message = run(*command.format(path).split())
    assert code == 2
    assert f"{path} keeps weights in " in message
    assert not Path("out.png").exists()
    (path.parent / "data").unlink(missing_ok=True)
    shutil.copy(secret, path.parent / "data")
    assert run(*command.format(write_external(path.parent, "data")).split())[0] == 0


# -- videos -----------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[tuple[int, Callable[[], bool]]]:
    """A port of this machine, and whether anybody has connected to it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.3)

        def was_called() -> bool:
            try:
                server.accept()[0].close()
            except TimeoutError:
                return False
            return True

        yield server.getsockname()[1], was_called


COLONS = [
    "tcp:127.0.0.1:{port}?x=.mp4",
    "http:127.0.0.1:{port}.mp4",
    "concat:a.mp4|b.mp4",
    "data:video.mp4",
    "pipe:0.mp4",
    "12:30:00.mp4",
    "file:x.mp4",
    "a%03d.mkv",
]


@pytest.mark.parametrize("name", COLONS)
def test_fault_16_a_name_with_a_colon_is_a_name(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    listener: tuple[int, Callable[[], bool]],
) -> None:
    monkeypatch.chdir(tmp_path)
    port, was_called = listener
    source, target = Path(name.format(port=port)), Path("out") / name.format(port=port)
    make_video(tmp_path / "plain.mp4", flat(3), None)
    (tmp_path / "plain.mp4").rename(source)
    result = translate_path(lambda x: x, source, target, TranslateOptions())
    assert result.num_frames == 3
    target.rename(f"found{target.suffix}")
    assert len(read_video(Path(f"found{target.suffix}"))[0]) == 3
    bare = Path(f"out-{source}")  # a relative name whose own beginning is no protocol
    translate_path(lambda x: x, source, bare, TranslateOptions())
    assert bare.is_file()
    assert not was_called()


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{0}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{0}'\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="video/mp4">'
    '<Representation id="0" bandwidth="1" width="64" height="48"><BaseURL>{0}</BaseURL>'
    '<SegmentList duration="1"><SegmentURL media="{0}"/></SegmentList></Representation>'
    "</AdaptationSet></Period></MPD>",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_fault_16_playlists_are_no_videos(
    kind: str, tmp_path: Path, listener: tuple[int, Callable[[], bool]]
) -> None:
    port, was_called = listener
    make_video(tmp_path / "private.mp4", flat(3), None)
    source = tmp_path / "a.mp4"
    for address in (f"http://127.0.0.1:{port}/a.mp4", "private.mp4", str(tmp_path / "private.mp4")):
        source.write_text(PLAYLISTS[kind].format(address))
        with pytest.raises(DataError, match="not a readable video"):
            translate_path(lambda x: x, source, tmp_path / "out.mp4", TranslateOptions())
        assert not (tmp_path / "out.mp4").exists()
    assert not was_called()
