"""Latency tables: made on a synthetic device whose times are known, kept as files, predicting."""

from __future__ import annotations

import json
import random
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from gancompress.checkpoint.network import describe_space, save_network
from gancompress.cli import latency
from gancompress.cli.main import main
from gancompress.config import GeneratorOptions
from gancompress.cost.eager import EagerBench
from gancompress.cost.fitting import Observations, fit_entry, fit_total
from gancompress.cost.steps import Step, plan_of
from gancompress.cost.survey import Bench, SurveyOptions, choose_subnets, steady, survey
from gancompress.cost.table import Check, Device, Entry, Floats, load_device
from gancompress.elastic import Group, Parts, Subnet, Supernet
from gancompress.errors import CheckpointError, ConfigError, ExportError
from gancompress.export.bench import OnnxBench, read_profile
from gancompress.export.subnets import OnnxSubnets
from gancompress.models import build_generator

SIZE = (64, 64)
WIDTHS = (0.25, 0.5, 0.75, 1.0)


def make_net(name: str, ngf: int = 8, norm: str = "instance") -> Supernet:
    generator = build_generator(
        GeneratorOptions(input_nc=3, output_nc=3, name=name, ngf=ngf, norm=norm)
    ).eval()
    return Supernet(generator, torch.empty(1, 3, *SIZE), WIDTHS, divisor=2).eval()


@pytest.fixture(scope="module")
def net() -> Supernet:
    return make_net("resnet_6blocks")


@pytest.fixture(scope="module")
def unet() -> Supernet:
    return make_net("unet_64", ngf=4)


# ----------------------------------------------------------------- the synthetic device

CONSTANT_MS, SCALE, WATCHING_MS = 0.3, 1.1, 0.002


@dataclass
class Synthetic(Bench):
    """Every operation takes a known time, which another width may change by up to 30 %.

    Attributes:
        net: Whose subnets are run.
        roughness: Largest relative change by a width.
        pace: Slowness of the machine by round.
        outliers: Share of the times that are 20 times as long.
    """

    net: Supernet
    roughness: float = 0.3
    pace: Callable[[int], float] = lambda _: 1.0
    outliers: float = 0.0
    size: tuple[int, int] = SIZE

    def __post_init__(self) -> None:
        self.runtime, self.version, self.threads = "onnxruntime", "synthetic", 1
        self.plan = plan_of(self.net, self.size)
        self.rng = np.random.default_rng(7)

    def step_ms(self, step: Step, subnet: Subnet) -> float:
        channels = self.net.space.channels(subnet)
        ins, outs = (
            sum(p if isinstance(p, int) else channels[p.name] for p in parts.segments)
            for parts in (step.inputs, step.outputs)
        )
        quirk = zlib.crc32(f"{step.key} {ins} {outs}".encode()) / 2**31 - 1
        smooth = 0.01 + 1e-4 * ins + 2e-4 * outs + 3e-5 * ins * outs
        return smooth * (1 + self.roughness * quirk)

    def whole_ms(self, subnet: Subnet) -> float:
        return CONSTANT_MS + SCALE * sum(self.step_ms(step, subnet) for step in self.plan.steps)

    def split(self, subnets: Sequence[Subnet], rounds: int) -> Floats:
        times = [[self.step_ms(step, s) + WATCHING_MS for step in self.plan.steps] for s in subnets]
        return self.disturbed(np.repeat(np.array(times)[:, None], rounds, axis=1))

    def total(self, subnets: Sequence[Subnet], rounds: int) -> Floats:
        times = [[self.whole_ms(s)] for s in subnets]
        return self.disturbed(np.repeat(np.array(times)[:, None], rounds, axis=1))[..., 0]

    def disturbed(self, times: Floats) -> Floats:
        pace = np.array([self.pace(number) for number in range(times.shape[1])])
        hit = self.rng.random(times.shape) < self.outliers
        return times * pace[None, :, None] * np.where(hit, 20, 1)


def draft(name: str = "phone") -> Device:
    return Device(name, "onnxruntime", "synthetic", 1, {"cpu": "none"}, SIZE, ())


def measured(bench: Synthetic, options: SurveyOptions | None = None) -> Device:
    return survey(bench.net, bench, draft(), options or SurveyOptions())


@pytest.fixture(scope="module")
def device(net: Supernet) -> Device:
    return measured(Synthetic(net))


# ------------------------------------------------------------------------- the prediction


def test_held_out_networks_are_predicted_though_every_width_has_its_quirk(
    net: Supernet, device: Device
) -> None:
    bench = Synthetic(net)
    assert len(device.checks) == 30
    for check in device.checks:
        assert check.measured_ms == pytest.approx(bench.whole_ms(net.space.parse(check.subnet)))
    assert device.median_error < 0.005
    assert max(check.error for check in device.checks) < 0.02


def test_networks_with_concatenations_are_predicted(unet: Supernet) -> None:
    smooth = measured(Synthetic(unet, roughness=0.0))
    assert max(check.error for check in smooth.checks) < 0.002
    assert measured(Synthetic(unet)).median_error < 0.03


def test_a_drifting_machine_with_outliers_biases_nothing(net: Supernet) -> None:
    bench = Synthetic(net, pace=lambda n: 1.0 + 2.0 * (n % 5 in (1, 2)), outliers=0.02)
    device = measured(bench)
    subnets = [net.space.parse(check.subnet) for check in device.checks]
    truth = np.array([bench.whole_ms(subnet) for subnet in subnets])
    found = device.predictor(net, SIZE)(net.space.genomes(subnets))
    assert np.median(np.abs(found / truth - 1)) < 0.01


def test_a_slow_machine_is_told_from_a_slow_network() -> None:
    truth = np.array([[1.0, 2.0], [4.0, 2.0], [5.0, 5.0]])
    pace = np.array([1.0, 1.0, 1.0, 3.0, 3.0])
    times = truth[:, None] * pace[None, :, None]
    assert steady(times) == pytest.approx(truth)


def test_many_predictions_are_those_of_one_by_one(net: Supernet, device: Device) -> None:
    predict = device.predictor(net, 64)
    genomes = net.space.sample_genomes(9000, np.random.default_rng(0))
    together = predict(genomes)
    assert together.shape == (9000,)
    assert together.dtype == np.float64
    for row in (0, 1, 8191, 8192, 8999):
        assert predict(genomes[[row]])[0] == together[row]
    assert predict(genomes[:0]).shape == (0,)


def test_predictions_are_the_sum_of_the_entries(net: Supernet, device: Device) -> None:
    entries = {entry.key: entry for entry in device.entries}
    subnet = net.space.sample(random.Random(3))
    channels, total = net.space.channels(subnet), 0.0
    for step in plan_of(net, SIZE).steps:
        ins, outs = (
            sum(p if isinstance(p, int) else channels[p.name] for p in parts.segments)
            for parts in (step.inputs, step.outputs)
        )
        entry = entries[step.key]
        total += entry.ms[entry.inputs.index(ins)][entry.outputs.index(outs)]
    found = device.predictor(net, SIZE)(net.space.genomes([subnet]))[0]
    assert found == pytest.approx(device.constant_ms + device.scale * total)


def test_widths_between_knots_are_interpolated() -> None:
    entry = Entry("conv", (2, 4), (10, 20, 40), ((1.0, 2.0, 4.0), (3.0, 6.0, 12.0)))
    points = [(2, 10, 1.0), (4, 40, 12.0), (3, 10, 2.0), (2, 15, 1.5), (3, 30, 6.0)]
    outside = [(1, 10, 1.0), (2, 5, 1.0), (2, 50, 5.0), (5, 10, 4.0)]
    ins, outs, expected = (np.array(column) for column in zip(*points, *outside, strict=True))
    assert entry(ins, outs).tolist() == pytest.approx(expected.tolist())


def test_the_generator_itself_is_predicted_where_narrower_ones_were_measured() -> None:
    generator = build_generator(
        GeneratorOptions(input_nc=3, output_nc=3, name="resnet_6blocks", ngf=8)
    )
    narrow = Supernet(generator, torch.empty(1, 3, *SIZE), (0.25, 0.5), divisor=2).eval()
    bench = Synthetic(narrow, roughness=0.0)
    predict = measured(bench).predictor(narrow, SIZE)
    full = narrow.space.full()
    assert predict(narrow.space.genomes([full]))[0] == pytest.approx(bench.whole_ms(full), rel=0.02)


def test_pairs_that_were_never_seen_are_guessed_smoothly() -> None:
    ins, outs = (axis.ravel() for axis in np.meshgrid([8, 16, 24, 32], [4, 8, 12]))
    ms = 0.5 + 0.01 * ins + 0.02 * outs + 0.003 * ins * outs
    kept = np.arange(len(ms)) % 5 != 3
    entry = fit_entry("conv", Observations(ins[kept], outs[kept], ms[kept]))
    assert entry(ins, outs).tolist() == pytest.approx(ms.tolist(), rel=1e-4)


def test_many_channel_numbers_share_a_few_knots() -> None:
    ins = np.arange(1, 101)
    entry = fit_entry("between", Observations(ins, np.ones_like(ins), 0.01 * ins))
    assert len(entry.inputs) == 16
    assert entry(ins, np.ones_like(ins)).tolist() == pytest.approx((0.01 * ins).tolist(), rel=1e-3)


def test_scale_and_constant_are_found_and_leave_half_of_every_network() -> None:
    sums = np.array([1.0, 2.0, 5.0])
    assert fit_total(sums, 0.4 + 1.5 * sums) == pytest.approx((0.4, 1.5))
    assert fit_total(sums, 2 * sums - 0.5) == pytest.approx((-0.5, 2.0))
    constant, scale = fit_total(sums, 3 * sums - 2.5)
    assert constant == 0.0
    assert scale > 0


# ------------------------------------------------------------------- what is measured


def test_all_pairs_of_widths_of_every_operation_meet_in_the_design(net: Supernet) -> None:
    plan = plan_of(net, SIZE)
    choice = choose_subnets(net, plan, SurveyOptions(seed=3))
    rows = [net.space.channels(subnet) for subnet in net.space.subnets(choice.design)]
    full = net.space.dimensions
    lengths = {group: len(d.choices) for d in full for group in d.members}
    for step in plan.steps:
        segments = (*step.inputs.segments, *step.outputs.segments)
        groups = {segment.name for segment in segments if isinstance(segment, Group)}
        met = {tuple(row[group] for group in sorted(groups)) for row in rows}
        assert len(met) == np.prod([lengths[group] for group in groups])
    assert 24 <= len(choice.design) <= 40


def test_held_out_subnets_are_others_and_the_seed_decides(net: Supernet) -> None:
    plan = plan_of(net, SIZE)
    choices = [choose_subnets(net, plan, SurveyOptions(seed=seed)) for seed in (1, 1, 2)]
    known = {tuple(row) for row in choices[0].design.tolist()}
    others = {tuple(row) for row in choices[0].held_out.tolist()}
    assert len(others) == 30
    assert not known & others
    for name in ("design", "held_out"):
        one, same, other = (getattr(choice, name) for choice in choices)
        assert np.array_equal(one, same)
        assert not np.array_equal(one, other)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_tiny_spaces_are_measured_too(count: int) -> None:
    generator = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1))
    widths = (0.25, 0.5, 1.0)[-count:]
    net = Supernet(generator, torch.empty(1, 3, *SIZE), widths, divisor=2)
    device = measured(Synthetic(net, roughness=0.0))
    assert net.space.size == count
    assert len(device.checks) == max(0, count - 2)
    assert device.is_trusted is (count == 3)
    largest = net.space.genomes([net.space.largest()])
    assert device.predictor(net, SIZE)(largest)[0] > 0


def test_steps_name_what_is_between_layers(net: Supernet, unet: Supernet) -> None:
    keys = [step.key for step in plan_of(net, SIZE).steps]
    assert keys[:3] == [
        "between 64x64 70x70 ReflectionPad2d from 3",
        "conv 7x7 70x70 64x64 from 3",
        "between 64x64 64x64 InstanceNorm2d ReLU",
    ]
    assert keys[-2:] == ["conv 7x7 70x70 64x64 to 3", "between 64x64 64x64 Tanh from 3"]
    assert "between 16x16 18x18 InstanceNorm2d add ReflectionPad2d" in keys
    key = "between 32x32 32x32 InstanceNorm2d cat ReLU"
    step = next(step for step in plan_of(unet, SIZE).steps if step.key == key)
    assert step.outputs == Parts((unet.traced.groups[0], *step.inputs.segments))


def test_eager_times_are_split_by_node(net: Supernet) -> None:
    ticks = iter(range(10**9))
    bench = EagerBench(net, (16, 16), 1, clock=lambda: next(ticks) / 1e3)
    subnets = [net.space.smallest(), net.space.largest()]
    split, total = bench.split(subnets, 3), bench.total(subnets, 3)
    assert split.shape == (2, 3, len(bench.plan.steps))
    assert total == pytest.approx(np.ones((2, 3)))
    for step, ms in zip(bench.plan.steps, split.transpose(2, 0, 1), strict=True):
        words = [w for w in step.key.partition(" from ")[0].split()[3:] if w != "to"]
        count = len(words) if step.key.startswith("between") else 1
        assert ms == pytest.approx(np.full((2, 3), count))  # one tick for each node


# ------------------------------------------------------------------------------- files


def test_a_table_is_the_same_after_saving(device: Device, tmp_path: Path, net: Supernet) -> None:
    path = tmp_path / "deep" / "phone.json"
    device.save(path)
    loaded = load_device(path)
    assert loaded == device
    genomes = net.space.sample_genomes(50, np.random.default_rng(0))
    one, other = (d.predictor(net, SIZE)(genomes) for d in (device, loaded))
    assert np.array_equal(one, other)


def spoiled(content: dict[str, Any], key: str, value: Any) -> str:
    return json.dumps({**content, key: value})


DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], str], str]] = {
    "cut": (lambda c: json.dumps(c)[:200], "not a readable latency table"),
    "list": (lambda _: "[1, 2]", "not a latency table"),
    "foreign": (lambda _: '{"conv": 3}', "not a latency table"),
    "newer": (lambda c: spoiled(c, "format", "gancompress latency table 9"), "not a latency table"),
    "no entries": (lambda c: spoiled(c, "entries", None), "entries"),
    "infinite": (lambda c: spoiled(c, "constant_ms", float("inf")), "damaged latency table"),
    "no scale": (lambda c: spoiled(c, "scale", 0), "scale positive"),
    "name": (lambda c: spoiled(c, "name", "a@b"), "'a@b' is not a valid device name"),
    "ragged": (
        lambda c: spoiled(c, "entries", [{**c["entries"][0], "ms": [[1.0], [2.0, 3.0]]}]),
        "is not a table of times",
    ),
    "negative": (
        lambda c: spoiled(
            c, "entries", [{"key": "k", "inputs": [1], "outputs": [1], "ms": [[-1]]}]
        ),
        "is not a table of times",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_file_is_one_message(
    damage: str, device: Device, tmp_path: Path
) -> None:
    path = tmp_path / "phone.json"
    device.save(path)
    spoil, message = DAMAGES[damage]
    path.write_text(spoil(json.loads(path.read_text())))
    with pytest.raises(CheckpointError, match=message) as error:
        load_device(path)
    assert str(error.value).startswith(str(path))


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`gancompress latency RUN --device-name NAME`"):
        load_device(tmp_path / "none.json")


def test_an_operation_that_was_not_measured_is_named(
    net: Supernet, unet: Supernet, device: Device
) -> None:
    measure = "Measure this supernet: gancompress latency RUN --device-name phone"
    for other, size in ((net, 32), (unet, 64)):
        with pytest.raises(ConfigError, match="has never been measured") as error:
            device.predictor(other, size)
        assert measure in str(error.value)


def test_widths_beyond_those_measured_are_refused(device: Device) -> None:
    message = r"'.*' was measured with 2 to 8 channels, not 4 to 16 channels"
    with pytest.raises(ConfigError, match=message):
        device.predictor(make_net("resnet_6blocks", ngf=16), SIZE)


def test_a_table_serves_another_supernet_with_the_same_operations(device: Device) -> None:
    deeper = make_net("resnet_9blocks")
    bench = Synthetic(deeper)
    subnet = deeper.space.largest()
    found = device.predictor(deeper, SIZE)(deeper.space.genomes([subnet]))[0]
    assert found == pytest.approx(bench.whole_ms(subnet), rel=0.03)


def test_a_table_that_misses_says_so(device: Device) -> None:
    assert device.is_trusted
    assert device.doubt is None
    wrong = replace(device, checks=tuple(Check("8_8", 10.0, 10.0 + n) for n in (1.1, -1.2, 1.5)))
    assert wrong.median_error == pytest.approx(0.12)
    assert not wrong.is_trusted
    assert "missed 3 held-out subnets by a median 12.0% (accepted: 10%)" in str(wrong.doubt)
    assert "never compared" in str(replace(device, checks=()).doubt)


# ------------------------------------------------------------------------ ONNX Runtime


def event(name: str, op: str, ts: int, dur: int) -> dict[str, Any]:
    return {"cat": "Node", "name": name + "_kernel_time", "ts": ts, "dur": dur,
            "args": {"op_name": op}}  # fmt: skip


RUN = [
    event("step0.Pad0", "Pad", 0, 1),
    event("ReorderInput", "ReorderInput", 1, 2),
    event("step1.Conv1.0_nchwc", "Conv", 2, 10),
    event("ReorderOutput_token_3", "ReorderOutput", 3, 3),
    event("step2.Relu2", "Relu", 4, 4),
    event("step4.Relu5.0_nchwc", "FusedConv", 5, 20),  # named after the activation it took in
    event("ReorderOutput_token_4", "ReorderOutput", 6, 5),
]


def test_profiles_are_split_with_the_nodes_that_the_runtime_put_in() -> None:
    second = [{**e, "ts": e["ts"] + 100, "dur": 2 * e["dur"]} for e in RUN]
    noise = [{"cat": "Session", "name": "model_run", "ts": 0, "dur": 99}]
    content = json.dumps([*second, *noise, *RUN]).encode()  # in no order
    expected = np.array([3, 10, 7, 20, 5]) / 1e3
    assert read_profile(content, 2, 5) == pytest.approx(np.stack([expected, 2 * expected]))
    with pytest.raises(ExportError, match="a profile of 3 runs has 14 nodes"):
        read_profile(content, 3, 5)


def separable() -> nn.Module:
    """Depth-wise and point-wise convolutions, norms without parameters, reflected borders."""
    layers = [nn.Conv2d(3, 16, 3, 2, 1), nn.InstanceNorm2d(16), nn.ReLU(), nn.ReflectionPad2d(1)]
    layers += [nn.Conv2d(16, 16, 3, groups=16), nn.InstanceNorm2d(16), nn.Conv2d(16, 8, 1)]
    return nn.Sequential(*layers, nn.PReLU(8), nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Tanh())


def unet_with_batch_norms() -> nn.Module:
    unet = build_generator(
        GeneratorOptions(input_nc=3, output_nc=3, name="unet_64", ngf=4, norm="batch")
    )
    for layer in unet.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean)
    return unet


@pytest.mark.slow
@pytest.mark.parametrize("make", [separable, unet_with_batch_norms])
def test_sliced_models_compute_the_subnets_images(make: Callable[[], nn.Module]) -> None:
    net = Supernet(make().eval(), torch.empty(1, 3, *SIZE), WIDTHS, divisor=2).eval()
    models = OnnxSubnets(net, 64)
    x = torch.rand(1, 3, *SIZE) * 2 - 1
    for subnet in (net.space.smallest(), net.space.sample(random.Random(5))):
        session = onnxruntime.InferenceSession(models._sliced(subnet).SerializeToString())
        out = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])
        assert (out - net(x, subnet).detach()).abs().max() < 1e-4
    steps = [node.name.partition(".")[0] for node in models._widest[frozenset()].model.graph.node]
    assert set(steps) == {f"step{number}" for number in expected_steps(net)}


def expected_steps(net: Supernet) -> set[int]:
    """Steps that are left when batch norms are folded into the layers before them."""
    folded = ("BatchNorm2d", "from", "to")
    steps = enumerate(step.key.split() for step in plan_of(net, SIZE).steps)
    return {n for n, (kind, _, _, *what) in steps if kind != "between" or not_only(what, folded)}


def not_only(words: list[str], silent: tuple[str, ...]) -> bool:
    return any(word not in silent and not word.isdecimal() for word in words)


@pytest.mark.slow
def test_a_tiny_supernet_is_really_measured() -> None:
    net = make_net("resnet_6blocks", ngf=16)
    bench = OnnxBench(net, 4, SIZE, threads=1)
    device = survey(net, bench, draft(), SurveyOptions(rounds=5, num_held_out=5))
    assert {entry.key for entry in device.entries} == {step.key for step in bench.plan.steps}
    assert len(device.checks) == 5
    assert all(check.measured_ms > 0 and check.predicted_ms > 0 for check in device.checks)
    ends = net.space.genomes([net.space.smallest(), net.space.largest()])
    small, large = device.predictor(net, SIZE)(ends)
    assert 0 < small < large
    entries = {entry.key: entry for entry in device.entries}
    for step in bench.plan.steps:
        assert min(map(min, entries[step.key].ms)) > 0, step.key


# ------------------------------------------------------------------------ the command


@pytest.fixture
def run(net: Supernet, tmp_path: Path) -> Path:
    """A file with a supernet."""
    description = {"generator": {"name": "resnet_6blocks", "input_nc": 3, "output_nc": 3, "ngf": 8}}
    path = tmp_path / "run" / "weights.safetensors"
    save_network(
        path, net.generator, description, space=describe_space(net.space), image_size=SIZE[0]
    )
    return path.parent


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setattr(sys, "path", [*sys.path])  # the program adds the working folder

    def command(*arguments: str | Path) -> int:
        return main(["latency", *map(str, arguments), "--threads", "1"])

    return command


def use(monkeypatch: pytest.MonkeyPatch, **trouble: Any) -> None:
    """Let the command measure the synthetic device."""

    def make(target: latency.Target) -> Bench:
        return Synthetic(target.net, size=target.size, **trouble)

    monkeypatch.setitem(latency.BENCHES, "onnxruntime", make)


def test_the_command_writes_the_table(
    run: Path, call: Callable[..., int], monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch)
    assert call(run, "--device-name", "phone", "--seed", "4") == 0
    out = capsys.readouterr().out
    path = run / "devices" / "phone.json"
    device = load_device(path)
    assert f"{path}: {len(device.entries)} operations" in out
    assert "30 held-out subnets" in out
    assert f"median error {device.median_error:.1%}" in out
    assert (device.name, device.size, device.details["seed"]) == ("phone", SIZE, 4)
    assert device.is_trusted


def test_a_table_not_to_be_trusted_is_written_and_flagged(
    run: Path, call: Callable[..., int], monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch)
    monkeypatch.setattr(
        Synthetic, "whole_ms", lambda _, s: float(zlib.crc32(str(s).encode()) % 97 + 3)
    )
    assert call(run, "--device-name", "tv", "--output", run / "tv.json", "--json") == 0
    captured = capsys.readouterr()
    content = json.loads(captured.out)
    assert content["is_trusted"] is False
    assert content["median_error"] > 0.1
    assert "the latency table of tv is not to be trusted" in captured.err
    assert not load_device(run / "tv.json").is_trusted


def test_a_dry_run_measures_nothing(
    run: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(run, "--device-name", "phone", "--dry-run") == 0
    assert "would measure them and write" in capsys.readouterr().out
    assert not (run / "devices").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--device-name", "a=b"], "'a=b' is not a valid device name"),
        (["--device-name", "a", "--rounds", "1"], "--rounds must be at least 3, not 1"),
        (["--device-name", "a", "--size", "30"], "multiples of 4, not 30"),
        (["--device-name", "a", "--runtime", "onnx"], "unknown runtime 'onnx'"),
        (["--device-name", "a", "--set", "x=1"], "--set has no effect on this command"),
    ],
)
def test_mistakes_are_one_message(
    flags: list[str],
    message: str,
    run: Path,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(run, *flags) == 2
    assert message in capsys.readouterr().err
