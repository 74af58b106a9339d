"""`gancompress profile`: what it prints for which model, and what it refuses."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from helpers import existing
from onnx import TensorProto, helper, numpy_helper

from gancompress.checkpoint.network import describe_space, save_network
from gancompress.cli import profile
from gancompress.cli.main import main
from gancompress.cost import Timings
from gancompress.elastic import Supernet
from runs import TINY, load_network, tiny_generator, write_teacher, write_tiny

TEACHER = {"params": 11_378_179, "macs": 49_551_507_456, "macs_paper": 56_799_264_768}
PUBLISHED = "gan_compression_horse2zebra_compressed_net_G.pth"
COUNT = ("--no-latency", "--json")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        assert (self.code, self.err) == (0, "")
        content: dict[str, Any] = json.loads(self.out)
        return content


Call = Callable[..., Ended]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setattr(sys, "path", [*sys.path])  # the program adds the working folder

    def run(*arguments: str | Path) -> Ended:
        capsys.readouterr()
        try:
            code = main(["profile", *map(str, arguments), "--device", "cpu"])
        except SystemExit as end:  # how argparse refuses flags
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of every kind, made without training."""
    folder = tmp_path_factory.mktemp("profile")
    write_teacher(folder / "teacher" / "weights.safetensors")
    (folder / "teacher" / "config.yaml").write_text("stage: teacher\n")
    write_tiny(folder / "tiny.safetensors")
    network = load_network(folder / "teacher")
    torch.save(network.module.state_dict(), folder / "latest_net_G.pth")
    net = tiny_supernet()
    save_network(
        folder / "supernet" / "weights.safetensors", net.generator, {"module": TINY},
        space=describe_space(net.space), image_size=32,
    )  # fmt: skip
    (folder / "supernet" / "config.yaml").write_text("stage: supernet\n")
    trials = [
        {"subnet": str(subnet), "macs": net.macs(subnet, 32), "loss": 0.0, "scores": {}}
        for subnet in (net.space.smallest(), net.space.largest())
    ]
    done = {"metric": "teacher_mae", "size": 32, "trials": trials, "front": trials}
    done["chosen"] = {str(trial["macs"]): trial for trial in trials}
    (folder / "search").mkdir()
    (folder / "search" / "config.yaml").write_text(
        f"stage: search\nsupernet: {folder / 'supernet'}\n"
    )
    (folder / "search" / "done.json").write_text(json.dumps(done))
    (folder / "unfinished").mkdir()
    (folder / "unfinished" / "config.yaml").write_text(
        (folder / "search" / "config.yaml").read_text()
    )
    (folder / "emptied").mkdir()
    (folder / "emptied" / "config.yaml").write_text((folder / "search" / "config.yaml").read_text())
    (folder / "emptied" / "done.json").write_text('{"chosen": {}}')
    (folder / "mangled").mkdir()
    (folder / "mangled" / "config.yaml").write_text("stage: @teacher\n")
    for name in ("garbage.pth", "garbage.safetensors", "garbage.onnx"):
        (folder / name).write_bytes(b"no model")
    write_onnx(folder / "any.onnx", ("n", 3, "h", "w"), {"image_size": 24})
    write_onnx(folder / "fixed.onnx", (1, 3, 8, 16), {})
    return folder


def tiny_supernet() -> Supernet:
    return Supernet(tiny_generator(), torch.empty(1, 3, 32, 32), (0.5, 1.0), 1)


def write_onnx(path: Path, shape: tuple[Any, ...], header: dict[str, Any]) -> None:
    """One 1x1 convolution from 3 to 3 channels."""
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "w"], ["out"])],
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ("n", 3, "a", "b"))],
        [numpy_helper.from_array(torch.ones(3, 3, 1, 1).numpy(), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.helper.set_model_props(model, {"gancompress": json.dumps({**header, "stride": 4})})
    path.write_bytes(model.SerializeToString())


def fix_times(monkeypatch: pytest.MonkeyPatch, own: float, other: float | None = None) -> None:
    """Every image takes this many milliseconds."""

    def time_calls(calls: dict[str, Callable[[], object]], rounds: int) -> Timings:
        for run in calls.values():
            with torch.inference_mode():
                run()
        return Timings(
            {name: (t,) * rounds for name, t in zip(calls, (own, other), strict=False) if t}
        )

    monkeypatch.setattr(profile, "time_calls", time_calls)


def fix_share(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    """This process has as many processors for as long as it is timed."""
    walls = itertools.count(5.0, 10.0)
    cpu = itertools.count(1.0, 10.0 * share)
    monkeypatch.setattr(profile.time, "perf_counter", lambda: next(walls))
    monkeypatch.setattr(profile.time, "process_time", lambda: next(cpu))


# -- the counts ------------------------------------------------------------------------------


def test_teacher_has_the_published_costs(call: Call) -> None:
    found = call("--generator", "resnet_9blocks", "--ngf", "64", "--size", "256", *COUNT).json
    assert {key: found[key] for key in TEACHER} == TEACHER
    assert found["size_mb"] == pytest.approx(4 * TEACHER["params"] / 1e6)
    assert (found["size"], found["latency_ms"]) == ([256, 256], None)


@pytest.mark.parametrize(
    ("flags", "params", "macs", "macs_paper"),
    [
        (["16_16_32_16_32_32_16_16"], 0.356867, 1.846, 2.525),
        (["24_24_24_32_20_16", "--legacy"], 0.303, 1.783, 2.491),
    ],
)
def test_config_strings_have_the_published_costs(
    call: Call, flags: list[str], params: float, macs: float, macs_paper: float
) -> None:
    found = call("--config-str", *flags, *COUNT).json
    assert found["params"] == pytest.approx(1e6 * params, abs=500)
    assert found["macs"] == pytest.approx(1e9 * macs, abs=5e5)
    assert found["macs_paper"] == pytest.approx(1e9 * macs_paper, abs=5e5)
    if flags == ["16_16_32_16_32_32_16_16"]:
        assert found["params"] == 356_867


def test_published_checkpoint_needs_no_config_string(call: Call, shared: Path) -> None:
    path = existing(shared / "weights" / PUBLISHED)
    found = call(path, *COUNT).json
    assert found["params"] == 356_867
    assert [round(found[key] / 1e9, 3) for key in ("macs", "macs_paper")] == [1.846, 2.525]
    assert found["size_mb"] == path.stat().st_size / 1e6


@pytest.mark.parametrize("model", ["teacher", "teacher/weights.safetensors", "latest_net_G.pth"])
def test_run_file_and_foreign_checkpoint_cost_the_same(call: Call, world: Path, model: str) -> None:
    found = call(world / model, "--size", "32x64", *COUNT).json
    plain = call("--generator", "resnet_6blocks", "--ngf", "8", "--size", "32x64", *COUNT).json
    for key in ("params", "macs", "macs_paper", "peak_memory_mb"):
        assert found[key] == plain[key]
    file = world / model / "weights.safetensors" if model == "teacher" else world / model
    assert (found["size_mb"], found["size_of"]) == (file.stat().st_size / 1e6, file.name)


def test_subnet_of_a_run_costs_what_the_supernet_says(call: Call, world: Path) -> None:
    net = tiny_supernet()
    smallest, largest = net.space.smallest(), net.space.largest()
    for run, flags, subnet in (
        ("supernet", [], largest),
        ("supernet", ["--subnet", str(smallest)], smallest),
        ("search", [], smallest),  # the best under the smallest budget
        ("search", ["--subnet", str(largest)], largest),
    ):
        found = call(world / run, *flags, *COUNT, "--module", TINY).json
        assert (found["size"], found["params"]) == ([32, 32], net.num_parameters(subnet))
        assert found["macs_paper"] == net.macs(subnet, 32, paper=True)
        assert found["size_mb"] == 4 * net.num_parameters(subnet) / 1e6
        assert "header" in found["size_of"]


def test_network_of_the_user_is_counted(call: Call, world: Path) -> None:
    found = call(world / "tiny.safetensors", "--module", TINY, "--size", "8", *COUNT).json
    assert found["macs"] == 16 * 9 * (3 * 8 + 8 * 12 + 12 * 8) + 16 * 16 * 8 * 3
    assert found["params"] == sum(
        p.numel() for p in load_network(world / "tiny.safetensors").module.parameters()
    )


def test_onnx_file_is_counted_at_its_own_size(call: Call, world: Path) -> None:
    found = call(world / "any.onnx", *COUNT).json
    assert (found["params"], found["macs"], found["size"]) == (9, 9 * 24 * 24, [24, 24])
    assert found["peak_memory_mb"] is None
    assert found["size_mb"] == (world / "any.onnx").stat().st_size / 1e6
    assert call(world / "fixed.onnx", *COUNT).json["size"] == [8, 16]


def test_weights_beside_an_onnx_file_count_for_its_size(call: Call, world: Path) -> None:
    path = world / "split.onnx"
    model = onnx.load(world / "any.onnx")
    onnx.save(model, path, save_as_external_data=True, location="split.data", size_threshold=0)
    found = call(path, *COUNT).json
    assert (world / "split.data").stat().st_size >= 9 * 4
    assert found["size_mb"] * 1e6 == pytest.approx(
        path.stat().st_size + (world / "split.data").stat().st_size
    )
    assert (found["size_of"], found["params"]) == ("split.onnx + split.data", 9)


# -- the times -------------------------------------------------------------------------------


def test_json_has_every_field(call: Call, world: Path) -> None:
    threads = torch.get_num_threads()
    flags = ("--module", TINY, "--rounds", "2", "--threads", "1", "--json")
    found = call(world / "tiny.safetensors", *flags).json
    assert found.keys() == {
        *("model", "network", "size", "params", "macs", "macs_paper", "peak_memory_mb", "size_mb"),
        *("size_of", "threads", "runtime", "latency_ms", "latency_spread_ms", "macs_per_second"),
        "cpu_share",
    }
    assert found["latency_ms"] > 0
    assert found["latency_spread_ms"] >= 0
    assert found["macs_per_second"] == pytest.approx(1e3 * found["macs"] / found["latency_ms"])
    assert (found["threads"], torch.get_num_threads()) == (1, threads)
    assert found["runtime"] == f"eager PyTorch {torch.__version__}, cpu"
    onnx_file = call(world / "any.onnx", "--rounds", "1", "--threads", "1", "--json").json
    assert onnx_file["runtime"].startswith("ONNX Runtime ")
    assert onnx_file["latency_ms"] > 0


def test_people_read_one_aligned_table(
    call: Call, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fix_times(monkeypatch, 12.345)
    fix_share(monkeypatch, 1.0)
    ended = call(world / "teacher", "--size", "32", "--threads", "1")
    lines = ended.out.splitlines()
    start = lines[0].index(str(world))
    assert (ended.code, ended.err) == (0, "")
    assert all(line[start - 1] == " " != line[start] for line in lines)
    content = {line[:start].strip(): line[start:] for line in lines}
    assert content["params"] == "124,931"
    assert content["image"] == "32x32"
    assert content["latency"] == "12.35 ms (interquartile range 0)"
    assert content["runtime"].endswith("cpu, 1 thread")
    assert content["size"].endswith("(weights.safetensors)")


def test_spread_of_a_busy_machine_is_pointed_out(
    call: Call, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = Timings({"0": (10.0, 10.0, 14.0, 14.0, 18.0, 18.0)})
    monkeypatch.setattr(profile, "time_calls", lambda calls, rounds: times)
    out = call(world / "tiny.safetensors", "--module", TINY, "--size", "8").out
    assert "14 ms (interquartile range 8: a noisy machine)" in out


@pytest.mark.parametrize(("share", "busy"), [(0.3, True), (0.95, False), (2.0, False)])
def test_processors_that_others_had_are_pointed_out(
    call: Call, world: Path, monkeypatch: pytest.MonkeyPatch, share: float, busy: bool
) -> None:
    fix_times(monkeypatch, 1.0)
    fix_share(monkeypatch, share)
    flags = (world / "tiny.safetensors", "--module", TINY, "--size", "8")
    assert ("the machine is busy: this process had 0.3 processors" in call(*flags).out) == busy
    assert call(*flags, "--json").json["cpu_share"] == pytest.approx(share)


@pytest.mark.parametrize(
    ("other", "verdict", "ranked"),
    [
        (8.0, "2x faster (99% interval 2 to 2)", True),
        (2.0, "2x slower (speed-up 0.5, 99% interval 0.5 to 0.5)", True),
        (4.0, "within noise, cannot be told apart", False),
    ],
)
def test_two_models_are_ranked_only_outside_the_noise(
    call: Call,
    world: Path,
    monkeypatch: pytest.MonkeyPatch,
    other: float,
    verdict: str,
    ranked: bool,
) -> None:
    fix_times(monkeypatch, 4.0, other)
    own, onnx_file = world / "tiny.safetensors", world / "any.onnx"
    flags = (own, "--against", onnx_file, "--size", "32", "--module", TINY)
    assert f"{own} against {onnx_file}: {verdict}" in call(*flags).out
    found = call(*flags, "--json").json
    assert (found["speed_up"], found["is_ranked"]) == (other / 4, ranked)
    assert found["speed_up_interval"] == [other / 4, other / 4]
    assert (found["latency_ms"], found["against"]["latency_ms"]) == (4.0, other)
    assert found["against"]["macs"] == 9 * 32 * 32


def test_dry_run_counts_but_measures_nothing(
    call: Call, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile, "time_calls", None)
    ended = call(world / "tiny.safetensors", "--module", TINY, "--dry-run", "--rounds", "9")
    assert "would measure the latency in 9 rounds" in ended.out
    assert (
        call(world / "tiny.safetensors", "--module", TINY, "--dry-run", "--json").json["latency_ms"]
        is None
    )


# -- mistakes --------------------------------------------------------------------------------

MISTAKES: dict[str, str] = {
    # what is typed in the folder of `world`: the message
    "": "profile takes one of MODEL, --generator, --config-str, and none of them is given",
    "teacher --generator resnet_9blocks": "not MODEL and --generator together",
    "--generator resnet_9blocks --config-str 16_16": "not --generator and --config-str together",
    "--generator resnet_65blocks": r"unknown generator 'resnet_65blocks'; did you mean",
    "--generator resnet_9blocks --subnet 8": "--subnet belongs to MODEL; it has no",
    "--config-str 16_16_16_16_16_16 --module a:b": "--module belongs to MODEL",
    "--config-str 16_16_16_16_16_16 --norm batch": "--norm belongs to --generator",
    "teacher --legacy": "--legacy belongs to --config-str; it has no effect with MODEL",
    "teacher --ngf 8": "MODEL has its own widths",
    "--generator resnet_9blocks --ngf 0": "--ngf must be at least 1, not 0",
    "--generator resnet_9blocks --norm layer": "norm",
    "--config-str 16_16": "SpaceError: .*16_16",
    "--config-str 16_16_16_16_16_64 --ngf 32": "64.*32",
    "teacher --threads 0": "--threads must be at least 1, not 0",
    "teacher --rounds 0": "--rounds must be at least 1, not 0",
    "teacher --against tiny.safetensors --rounds 7": "at least 8 to tell two models apart, not 7",
    "teacher --size 30": r"teacher takes images .* multiples of 4, not 30x30; give another --size",
    "teacher --size 32x30": "not 32x30",
    "teacher --size 0": r"--size takes 256 or 256x512 \(height x width\), not '0'",
    "teacher --size 32x32x32": "--size takes",
    "teacher --size big": "--size takes",
    "teacher --subnet 8_8": "is not a supernet, so --subnet 8_8 has no effect",
    "supernet --module runs:tiny_generator --subnet 8_8": "SpaceError: subnet 8_8 has 2 widths",
    "unfinished": "unfinished holds no finished search",
    "emptied": r"emptied/done\.json lists no chosen subnets; name one with --subnet",
    "mangled": r"ConfigError: mangled/config\.yaml: not readable as YAML",
    "any.onnx --module a:b": "any.onnx contains one network",
    "missing": "no model missing",
    "teacher --against missing": "no model missing",
    "garbage.pth": r"CheckpointError: garbage\.pth: not a readable checkpoint",
    "garbage.safetensors": r"CheckpointError: garbage\.safetensors: not a readable",
    "garbage.onnx": r"CheckpointError: garbage\.onnx: not a readable ONNX file",
    "any.onnx --subnet 8_8": "any.onnx contains one network",
    "fixed.onnx --size 32": "was exported for images of 8x16, not 32x32",
    "teacher --set seed=1": "--set and --seed have no effect on this command",
    "teacher --rounds many": "invalid int value",
}


@pytest.mark.parametrize("typed", MISTAKES)
def test_mistake_ends_with_one_message(
    call: Call, world: Path, typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    ended = call(*typed.split(), "--json")
    assert (ended.code, ended.out) == (2, "")
    assert re.search(MISTAKES[typed], ended.err), ended.err
    assert "Traceback" not in ended.err
