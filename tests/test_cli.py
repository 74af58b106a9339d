"""The command line: what it prints where, what it writes, how it ends."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from documents import commands
from helpers import make_paired
from PIL import Image
from safetensors.torch import load_file

from gancompress.checkpoint.models import smallest_chosen
from gancompress.checkpoint.network import save_network
from gancompress.cli import train
from gancompress.cli.main import main
from gancompress.cli.parser import COMMANDS, make_parser
from gancompress.config import (
    Section,
    SupernetOptions,
    TeacherOptions,
    load_compression,
    load_options,
)
from gancompress.models import build_generator
from runs import REPOSITORY, finished, write_compress

OPTIONS = REPOSITORY / "options"
SHORT = ("schedule.num_images=2", "schedule.num_images_decay=0")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Call = Callable[..., Ended]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setattr(sys, "path", [*sys.path])  # the program adds the working folder

    def run(*arguments: str | Path) -> Ended:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:  # how argparse refuses flags
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, options files, and a teacher, a supernet and a search made by commands."""
    folder = tmp_path_factory.mktemp("cli")
    root = make_paired(folder / "data", 32)
    compress = write_compress(
        folder,
        root,
        *(f"{stage}.{text}" for stage in ("teacher", "supernet") for text in SHORT),
        "search.num_trials=4",
        "search.searcher.generation=2",
        "search.max_images=2",
    )
    for stage in ("teacher", "supernet", "search"):
        assert main([stage, str(compress.with_name(f"{stage}.yaml"))]) == 0
    (folder / "garbage.pth").write_bytes(b"no checkpoint")
    (folder / "garbage.safetensors").write_bytes(b"no checkpoint")
    (folder / "garbage.onnx").write_bytes(b"no checkpoint")
    judge = folder / "run" / "teacher" / "discriminator.safetensors"
    shutil.copy(judge, folder / "judge.safetensors")
    torch.save({"weight": torch.ones(3)}, folder / "other.pth")
    (folder / "list.yaml").write_text("- a\n- b\n")
    (folder / "broken.yaml").write_text("run: [unclosed\n")
    (folder / "empty" / "train").mkdir(parents=True)
    shutil.copytree(root, folder / "spoilt")
    (folder / "spoilt" / "train" / "0003.png").write_bytes(b"\x89PNG no more")
    return folder


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder with its size and the time of its last change."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
    }


# -- mistakes -------------------------------------------------------------------------------

SUBNET = "4_8_4_4_4_4_4_4"
MISTAKES: dict[str, str] = {
    # what is typed in the folder of `world`: the message
    "teacher missing.yaml": r"ConfigError: no options file missing\.yaml",
    "teacher list.yaml": r"ConfigError: list\.yaml: options are a mapping of keys",
    "teacher broken.yaml": r"ConfigError: broken\.yaml: not readable as YAML",
    "teacher data": r"ConfigError: data: not readable as YAML",
    "teacher teacher.yaml --set loss.lamda_gan=1": (
        r"unknown key 'loss\.lamda_gan'; did you mean 'loss\.lambda_gan'\?"
    ),
    "teacher teacher.yaml --set seed": r"--set takes key=value, not 'seed'",
    "teacher teacher.yaml --set seed.a=1": r"'seed' is a value, not a section",
    "teacher teacher.yaml --set seed=[": r"--set seed: not readable as YAML",
    "teacher teacher.yaml --set seed=many": r"seed: .*valid integer",
    "teacher teacher.yaml --set run=new --set generator.name=resnet_65blocks": (
        r"unknown generator 'resnet_65blocks'; did you mean 'resnet_\d+blocks'\?"
    ),
    "teacher teacher.yaml --device nonsense": r"ConfigError: --device nonsense cannot be used here",
    "teacher teacher.yaml --device cuda:77": r"ConfigError: --device cuda:77 cannot be used here",
    "teacher teacher.yaml --set run=new --set data.root=nowhere": r"DataError: no data folder",
    "teacher teacher.yaml --set run=new --set data.root=empty": r"empty/train holds no images",
    "teacher teacher.yaml --set run=new --set data.root=spoilt": r"spoilt/train/0003\.png: not a",
    "teacher teacher.yaml --set run=new --set data.mode=unpaired": r"no folder .*trainA",
    "teacher teacher.yaml --set run=list.yaml/run": r"NotADirectoryError: .*list\.yaml",
    "teacher teacher.yaml --set schedule.lr=1": r"schedule\.lr: 0\.001 -> 1\.0",
    "supernet supernet.yaml --set run=new --set teacher.weights=nowhere": r"no weights nowhere",
    "supernet supernet.yaml --set run=new --set teacher.weights=garbage.pth": (
        r"CheckpointError: garbage\.pth: not a readable checkpoint"
    ),
    "supernet supernet.yaml --set run=new --set teacher.weights=garbage.safetensors": (
        r"garbage\.safetensors: not a readable safetensors file"
    ),
    "supernet supernet.yaml --set run=new --set teacher.weights=other.pth": (
        r"other\.pth is not a generator of a known family"
    ),
    "supernet supernet.yaml --set run=new --set teacher.weights=judge.safetensors": (
        r"CheckpointError: judge\.safetensors"
    ),
    "supernet supernet.yaml --set run=new --set teacher.weights=null": r"give teacher\.weights",
    "supernet supernet.yaml --set run=new --set student.widths=[0.5,2]": r"SpaceError: .*\(0, 1\]",
    "supernet supernet.yaml --set run=new --set loss.taps=[nowhere]": r"no layer 'nowhere'|nowhere",
    "supernet supernet.yaml --set run=new --set loss.terms.ssmi=1": r"did you mean 'ssim'\?",
    "supernet supernet.yaml --dry-run --set loss.terms.ssmi=1": r"did you mean 'ssim'\?",
    "finetune run/supernet --subnet 4_4_4_4_4_4_4_4 --dry-run --set loss.terms.gan=1": (
        r"this weight is loss\.lambda_gan"
    ),
    "search run/supernet --macs 1K": (
        r"BudgetError: no subnet fits --macs 1K at 32x32: the smallest \(4_4_4_4_4_4_4_4\) needs"
    ),
    "search run/supernet --macs many": r"--macs takes a positive count such as 2\.6G",
    "search run/search --dry-run --trials no.jsonl": r"no log of trials no\.jsonl",
    "search run/search --dry-run --runtime eager --set precision=bfloat16": (
        r"precision=bfloat16 needs --runtime openvino, not eager"
    ),
    "search run/search --latency-ms 40@phone": r"needs a table .*: --device-table FILE",
    "search run/teacher": r"run/teacher is not the run folder of a supernet or a search",
    "search nowhere": r"no run folder or options file nowhere",
    "finetune run/teacher --subnet 4_4": r"weights\.safetensors is not a supernet",
    "finetune run/supernet --subnet ../../outside": r"'\.\./\.\./outside' is not a subnet",
    "export run/supernet --subnet 99_4_4_4_4_4_4_4": r"SpaceError: .* 99 is not a width of",
    "export run/supernet --subnet 4_4": r"SpaceError: subnet 4_4 has 2 widths",
    "export run/supernet --subnet small": r"SpaceError: 'small' is not a subnet",
    "export run/supernet --to tflite": r"unknown export format 'tflite'",
    "export run/teacher --subnet 4_4": r"is not a supernet, so --subnet 4_4 has no effect",
    "export nowhere": r"no model nowhere",
    "export garbage.onnx": r"garbage\.onnx is an exported file; name the run or checkpoint",
    "demo garbage.onnx": r"garbage\.onnx is an exported file; name the run or checkpoint",
    "export data": r"data holds no weights \(weights\.safetensors",
    "export garbage.pth": r"garbage\.pth: not a readable checkpoint",
    "export run/teacher/weights.safetensors": r"give --images FOLDER",
    "export run/teacher --to pth --images data/nowhere": r"DataError: no folder data/nowhere",
    "translate nowhere data/test out": r"no model nowhere",
    "translate garbage.onnx data/test out": r"garbage\.onnx: not a readable ONNX file",
    "translate garbage.onnx data/test out --subnet 4": r"garbage\.onnx contains one network",
    "translate run/teacher nowhere.png out": r"DataError: no file or folder nowhere\.png",
    "translate run/teacher empty/train out": r"DataError: empty/train holds no images",
    "translate run/teacher spoilt/train/0003.png out": r"0003\.png: not a",
    "translate run/teacher data/test out --format xyz": r"cannot write rgb images as '\.xyz'",
    "translate run/teacher data/test out --batch-size 0": r"--batch-size must be at least 1, not 0",
    "translate run/teacher data/test data/test": r"is the input folder itself",
    "translate run/teacher data/test out --module nowhere": r"write package\.module:factory",
    "export run/teacher --set seed=1": r"--set and --seed have no effect on this command",
    "translate run/teacher data/test out --seed 1": r"--set and --seed have no effect on this",
    "compress missing.yaml": r"no options file missing\.yaml",
    "compress compress.yaml --set export=[onx]": r"unknown export format 'onx'",
    "compress compress.yaml --set search.supernet=elsewhere": r"search\.supernet=elsewhere is not",
    "compress compress.yaml --set search.trials=[no.jsonl]": r"no log of trials no\.jsonl",
    "compress compress.yaml --set treads=2": r"unknown key 'treads'",
}  # fmt: skip


@pytest.mark.parametrize("typed", MISTAKES)
def test_mistake_ends_with_one_message(
    call: Call, world: Path, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    monkeypatch.chdir(world)
    before = set(tree(world))
    ended = call(*typed.split())
    assert ended.code == 2
    assert ended.out == ""
    assert re.search(MISTAKES[typed], ended.err), ended.err
    assert "Traceback" not in ended.err
    assert ended.err.count("Error: ") == 1
    assert re.match(r"[A-Z]\w+Error: ", ended.err)
    new = {name for name in set(tree(world)) - before if not name.startswith("new")}
    shutil.rmtree(world / "new", ignore_errors=True)
    assert not new


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "tracher teacher.yaml",
        "teacher",
        "teacher teacher.yaml --sed 1",
        "teacher teacher.yaml --seed many",
        "finetune run/supernet",
        "translate run/teacher data/test",
        "translate run/teacher data/test out --batch-size many",
    ],
)
def test_wrong_flag_ends_with_usage(call: Call, typed: str) -> None:
    ended = call(*typed.split())
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.startswith("usage: gancompress")
    assert "Traceback" not in ended.err


def test_message_under_json_goes_to_standard_error(call: Call) -> None:
    ended = call("teacher", "missing.yaml", "--json")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("ConfigError: ")


# -- what is printed and written --------------------------------------------------------------

DRY_RUNS = [
    "teacher teacher.yaml",
    "teacher teacher.yaml --set run=elsewhere --seed 4",
    "supernet supernet.yaml",
    "supernet supernet.yaml --set student.name=mobile_resnet_6blocks",
    "search search.yaml",
    "search run/supernet --macs 4M --macs 4500000",
    "search run/search",
    f"finetune run/supernet --subnet {SUBNET}",
    "finetune run/search --subnet 4_4_4_4_4_4",
    "export run/teacher",
    f"export run/supernet --subnet {SUBNET} --to safetensors",
    "export run/search --to pth --output elsewhere/x.pth",
    "translate run/search data/test elsewhere",
    "compress compress.yaml",
    "compress compress.yaml --set supernet.schedule.lr=0.1 --seed 3",
]


@pytest.mark.parametrize("typed", DRY_RUNS)
def test_dry_run_writes_nothing(
    call: Call, world: Path, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    monkeypatch.chdir(world)
    before = tree(world)
    plain, as_json = call(*typed.split(), "--dry-run"), call(*typed.split(), "--dry-run", "--json")
    assert (plain.code, as_json.code) == (0, 0), plain.err
    assert tree(world) == before
    assert plain.out.strip()
    assert as_json.out.count("\n") == 1
    assert isinstance(json.loads(as_json.out), dict)


@pytest.fixture
def readme_world(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the commands of README.md name."""
    for name, target in (
        ("runs/horse2zebra", world / "run"),
        ("my/images", world / "data"),
        ("database/horse2zebra", world / "data"),
        ("photos", world / "data" / "test"),
        ("options", OPTIONS),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(target)
    (tmp_path / "checkpoints").mkdir()
    tensors = load_file(world / "run" / "teacher" / "weights.safetensors")
    torch.save(tensors, tmp_path / "checkpoints" / "latest_net_G.pth")
    monkeypatch.chdir(tmp_path)
    return tmp_path


KINDS: dict[str, type[Section]] = {"teacher": TeacherOptions, "supernet": SupernetOptions}


def test_commands_of_the_readme_would_run(call: Call, readme_world: Path) -> None:
    """Options files are only read: what they describe is not tiny."""
    for words in commands(REPOSITORY / "README.md"):
        typed = ["_".join(["4"] * 8) if re.fullmatch(r"\d+(_\d+)+", w) else w for w in words]
        args = make_parser().parse_args(typed)
        options = next((word for word in typed if word.endswith(".yaml")), None)
        if options and args.command == "compress":
            load_compression(Path(options), args.set)
        elif options:
            load_options(KINDS[args.command], Path(options), args.set)
        elif not any(re.fullmatch(r"[A-Z]+(\.onnx)?", word) for word in typed):
            if "--device-table" in typed:  # measuring one takes long
                typed = [word for word in typed if "server.json" not in word and word != "40"]
                typed = [w for w in typed if w not in ("--device-table", "--latency-ms")]
            ended = call(*typed, "--dry-run")
            assert ended.code == 0, (typed, ended.err)
    assert not (readme_world / "zebras").exists()


def test_dry_run_shows_options_costs_and_shapes(
    call: Call, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    ended = call("supernet", "supernet.yaml", "--dry-run", "--set", "seed=12")
    assert "seed: 12" in ended.out
    assert "student: 256 subnets from 4_4_4_4_4_4_4_4" in ended.out
    assert "  model.4.weight: (1, 8, 32, 32) -> (1, 16, 16, 16)\n" in ended.out
    facts = json.loads(call("teacher", "teacher.yaml", "--dry-run", "--json").out)
    assert facts["size"] == 32
    assert facts["macs_paper"] > facts["macs"] > 0


def one_object(ended: Ended) -> dict[str, Any]:
    assert ended.code == 0, ended.err
    assert ended.out.endswith("\n")
    assert ended.out.count("\n") == 1
    content = json.loads(ended.out)
    assert isinstance(content, dict)
    return content


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        ("teacher teacher.yaml", {"run", "images", "mae", "psnr"}),
        ("supernet supernet.yaml", {"run", "images", "mae_largest", "mae_smallest"}),
        ("search search.yaml", {"run", "metric", "num_trials", "front", "chosen"}),
        (
            f"finetune run/supernet --subnet {SUBNET} --set schedule.num_images=2",
            {"run", "images", "mae_subnet"},
        ),
        (
            f"export run/supernet --subnet {SUBNET} --to pth --output {{tmp}}/latest_net_G.pth",
            {"path", "file", "num_images", "max_difference", "tolerance"},
        ),
        ("translate run/search data/test/2000.png {tmp}/out.png", {"output", "num_images"}),
    ],
)
def test_json_is_one_object_and_nothing_else(
    call: Call,
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    typed: str,
    keys: set[str],
) -> None:
    monkeypatch.chdir(world)
    content = one_object(call(*typed.format(tmp=tmp_path).split(), "--json"))
    assert keys <= content.keys()


def test_every_output_names_the_subnet_that_it_is_from(
    call: Call, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    chosen = smallest_chosen(Path("run/search"))
    quick = ("--features", "none", "--lpips", "none", "--output", tmp_path / "scores")
    commands = [
        ("translate", "run/search", "data/test/2000.png", tmp_path / "out.png"),
        ("evaluate", "run/search", "data", *quick),
        ("export", "run/search", "--to", "safetensors", "--output", tmp_path / "a.safetensors"),
    ]
    for command in commands:
        assert one_object(call(*command, "--json"))["subnet"] == chosen
        assert one_object(call(*command, "--json", "--dry-run"))["subnet"] == chosen
        assert f"subnet {chosen}" in call(*command).out
    for file in ("scores/scores.json", "a.safetensors.proof.json"):
        assert json.loads((tmp_path / file).read_text())["subnet"] == chosen
    assert chosen in (tmp_path / "scores" / "report.html").read_text()
    shown = one_object(call("demo", "run/search", "--subnet", chosen, "--dry-run", "--json"))
    assert shown["models"][0] == {"name": chosen}


def test_plain_output_names_what_was_written(
    call: Call, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    path = tmp_path / "small.safetensors"
    ended = call("export", "run/search", "--to", "safetensors", "--output", path)
    assert ended.code == 0
    assert str(path) in ended.out
    assert "on 16 real images" in ended.out
    ended = call("search", "run/search")
    assert "4 subnets evaluated" in ended.out
    assert "budget" in ended.out


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("teacher", "compress data --teacher run/teacher"),
        ("supernet", "search run/supernet --dry-run"),
        ("search", "export run/search --subnet "),
    ],
)
def test_stage_names_the_command_that_comes_next(
    call: Call, world: Path, monkeypatch: pytest.MonkeyPatch, stage: str, expected: str
) -> None:
    monkeypatch.chdir(world)
    ended = call(stage, f"{stage}.yaml")
    (line,) = [line for line in ended.out.splitlines() if line.startswith("next: ")]
    program, *words = shlex.split(line.removeprefix("next: "))
    assert program == "gancompress"
    assert " ".join(words).replace(f"{world}/", "").startswith(expected)
    assert make_parser().parse_args(words).command == words[0]
    if stage != "teacher":  # the rehearsal of a compression takes long
        assert call(*words).code == 0
    if stage == "search":
        (report,) = re.findall(r"^report: (.*)$", ended.out, re.MULTILINE)
        assert Path(report).is_file()


@pytest.mark.parametrize(
    "typed",
    [
        "export {} --to safetensors --output {tmp}/out/a.safetensors",
        "translate {} data/test/2000.png {tmp}/out",
        "profile {} --rounds 1 --size 32",
        "evaluate {} data --max-images 2 --features none --lpips none --output {tmp}/out",
        "search {} --dry-run",
    ],
)
def test_folder_of_a_compression_stands_for_its_search(
    call: Call, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    """The folder that `compress` is told to run in holds the folders of its stages."""
    monkeypatch.chdir(world)
    one, other = (
        one_object(call(*typed.format(run, tmp=tmp_path / Path(run).name).split(), "--json"))
        for run in ("run", "run/search")
    )
    assert one.keys() == other.keys()
    for key in ("num_images", "max_difference", "macs", "network", "scores", "supernet"):
        assert one.get(key) == other.get(key)
    assert [*tree(tmp_path / "run")] == [*tree(tmp_path / "search")]


def test_folder_with_weights_is_no_folder_of_a_compression(
    call: Call, world: Path, tmp_path: Path
) -> None:
    shutil.copytree(world / "run" / "search", tmp_path / "own" / "search")
    weights = tmp_path / "own" / "weights.safetensors"
    shutil.copy(world / "run" / "teacher" / "weights.safetensors", weights)
    facts = one_object(call("profile", tmp_path / "own", "--no-latency", "--json"))
    assert facts["size_of"] == "weights.safetensors"
    assert "subnet" not in facts["network"]


def test_export_lands_beside_the_model(
    call: Call, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(world / "run" / "supernet", tmp_path / "supernet")
    content = one_object(
        call("export", tmp_path / "supernet", "--subnet", SUBNET, "--to", "pth", "--json")
    )
    assert content["path"] == str(tmp_path / "supernet" / "export" / "latest_net_G.pth")
    assert (tmp_path / "supernet" / "export" / "latest_net_G.pth.proof.json").exists()


def test_seed_and_overrides_reach_the_options(
    call: Call, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    run = tmp_path / "run"
    assert call("teacher", "teacher.yaml", "--seed", "7", "--set", f"run={run}").code == 0
    assert yaml.safe_load((run / "config.yaml").read_text())["seed"] == 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_command_exits_with_75(
    call: Call, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(train, "run_teacher", lambda context: signal.raise_signal(number))
    ended = call("teacher", "any.yaml")
    assert (ended.code, ended.out) == (75, "")
    assert "rerun this command to resume" in ended.err
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.mark.parametrize(
    "text", ["[enforce fail] DefaultCPUAllocator: can't allocate memory", "CUDA out of memory."]
)
def test_too_little_memory_is_one_message(
    call: Call, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    def fail(context: object) -> None:
        raise RuntimeError(text)

    monkeypatch.setattr(train, "run_teacher", fail)
    ended = call("teacher", "any.yaml")
    assert ended.code == 2
    assert ended.err.startswith(f"MemoryError: {text}\n  Take fewer workers")
    text = "unsupported memory format option"  # an error in code: with its traceback
    with pytest.raises(RuntimeError, match="memory format"):
        call("teacher", "any.yaml")


def test_finished_supernet_is_compressed_without_its_teacher(
    call: Call, world: Path, tmp_path: Path
) -> None:
    (world / "run" / "teacher").rename(tmp_path / "away")
    try:
        ended = call("compress", world / "compress.yaml", "--set", "teacher=null", "--dry-run")
    finally:
        (tmp_path / "away").rename(world / "run" / "teacher")
    assert ended.code == 0, ended.err


def test_state_of_the_callers_generator_is_left_alone(call: Call, world: Path) -> None:
    before = torch.get_rng_state()
    call("teacher", world / "teacher.yaml", "--dry-run")
    assert torch.equal(torch.get_rng_state(), before)


# -- translate ------------------------------------------------------------------------------


def pixels(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(Image.open(path)).astype(int) for path in folder.iterdir()}


def test_run_and_its_files_translate_alike(
    call: Call, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare(call, world, tmp_path, ["safetensors", "pth"], 0)


@pytest.mark.slow
def test_onnx_file_translates_like_its_run(call: Call, world: Path, tmp_path: Path) -> None:
    compare(call, world, tmp_path, ["onnx"], 1)


def compare(call: Call, world: Path, folder: Path, kinds: list[str], levels: int) -> None:
    """Images of any size: sides that the stride does not divide among them."""
    inputs = folder / "inputs"
    inputs.mkdir()
    for path in sorted((world / "data" / "test").iterdir())[:2]:
        Image.open(path).crop((3, 1, 44, 32)).save(inputs / path.name)
    supernet = world / "run" / "supernet"
    models: dict[str, tuple[str | Path, ...]] = {"run": (supernet, "--subnet", SUBNET)}
    for kind in kinds:
        models[kind] = (folder / f"file.{kind}",)
        ended = call("export", *models["run"], "--to", kind, "--output", *models[kind])
        assert ended.code == 0, ended.err
    for name, (model, *flags) in models.items():
        ended = call("translate", model, inputs, folder / name, *flags, "--batch-size", "2")
        assert ended.code == 0, ended.err
    wanted = pixels(folder / "run")
    assert {image.shape for image in wanted.values()} == {(31, 41, 3)}
    for kind in kinds:
        found = pixels(folder / kind)
        assert found.keys() == wanted.keys()
        assert all(np.abs(found[name] - wanted[name]).max() <= levels for name in wanted)


# -- the program ----------------------------------------------------------------------------


def test_module_runs_as_a_program(tmp_path: Path) -> None:
    ended = finished("--help", cwd=tmp_path)
    assert ended.returncode == 0
    assert ended.stderr == ""
    assert all(re.search(rf"^    {command}\s", ended.stdout, re.M) for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_the_common_flags(call: Call, command: str) -> None:
    ended = call(command, "--help")
    assert ended.code == 0
    for flag in ("--json", "--seed", "--device", "--set", "--dry-run"):
        assert flag in ended.out


# -- options files --------------------------------------------------------------------------


def files(stage: str) -> list[Any]:
    paths = [
        path
        for path in sorted(OPTIONS.rglob("*.yaml"))
        if yaml.safe_load(path.read_text(encoding="utf-8"))["stage"] == stage
    ]
    large = [] if stage != "compress" else [pytest.mark.slow]  # two networks of full width each
    return [
        pytest.param(p, id=str(p.relative_to(OPTIONS)), marks=[] if "emoji" in str(p) else large)
        for p in paths
    ]


@pytest.mark.parametrize(
    "path", [*files("teacher"), *files("compress"), *files("supernet"), *files("search")]
)
def test_options_file_dry_runs_or_says_which_weights_it_lacks(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    """In an empty folder: without data sets, downloads and runs."""
    monkeypatch.chdir(tmp_path)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    ended = call(content["stage"], path, "--dry-run")
    needs_weights = content["stage"] in ("supernet", "search") or "teacher" not in content
    if content["stage"] != "teacher" and needs_weights:
        assert ended.code == 2
        assert ended.err.startswith("CheckpointError: no weights ")
    else:
        assert ended.code == 0, ended.err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("path", files("supernet"))
def test_supernet_options_fit_the_teacher_of_their_task(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    weights = Path(content["teacher"]["weights"])
    teachers = [load_options(TeacherOptions, p.values[0]) for p in files("teacher")]
    mine = [options for options in teachers if options.run == weights]
    if weights.parts[0] == "pretrained":  # in the repository
        Path("pretrained").symlink_to(REPOSITORY / "pretrained")
        assert (weights / "weights.safetensors").is_file()
    elif mine:
        rgb = mine[0].generator.model_copy(update={"input_nc": 3, "output_nc": 3})
        description = {"generator": rgb.model_dump(mode="json")}
        module = build_generator(rgb)
        save_network(weights / "weights.safetensors", module, description)
    else:
        pytest.skip(f"{weights} is a download")
    facts = one_object(call("supernet", path, "--dry-run", "--json"))
    low, high = facts["space"]["macs"]
    is_elastic = len(content["student"].get("widths", ["", ""])) > 1
    assert (facts["space"]["size"] > 1, low < high) == (is_elastic, is_elastic)
    assert high <= facts["macs"] * 1.001
