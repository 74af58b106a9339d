"""Other runtimes give the scores of eager PyTorch, and nothing else depends on them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import make_paired, picture
from scipy.stats import kendalltau
from torch import Tensor, nn

from gancompress.elastic import Supernet
from gancompress.errors import ConfigError, ExportError
from gancompress.export.subnets import OnnxSubnets
from gancompress.metrics.distances import RealSet
from gancompress.models import init_weights
from gancompress.runtimes import RUNTIMES, OnnxRuntime, Run, load_runtime
from gancompress.search import Evaluator, stage
from gancompress.search.compiled import (
    CompiledSubnets,
    Workload,
    accelerated,
    compile_subnets,
    frozen,
)
from gancompress.search.quality import Quality, load_quality
from runs import (
    TINY_SPACE,
    Crash,
    at_call,
    crash,
    search,
    search_options,
    supernet_options,
    train_supernet,
    write_tiny,
)

CPU = torch.device("cpu")
SIZE = (32, 32)
COUNT = 20
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is an extra"
)
both = pytest.mark.parametrize(
    "name", ["onnxruntime", pytest.param("openvino", marks=needs_openvino)]
)


class Small(nn.Module):
    """A generator whose last convolution has few channels."""

    def __init__(self, norm: type[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, stride=2, padding=1), norm(8), nn.ReLU()),
            *(nn.Conv2d(8, 12, 3, padding=1), norm(12), nn.ReLU()),
            *(nn.ConvTranspose2d(12, 8, 4, stride=2, padding=1), norm(8), nn.ReLU()),
            *(nn.ReflectionPad2d(3), nn.Conv2d(8, 3, 7), nn.Tanh()),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


def make_net(
    norm: type[nn.Module] = nn.InstanceNorm2d, *, kernels: tuple[int, ...] = ()
) -> Supernet:
    torch.manual_seed(1)
    generator = init_weights(Small(norm), gain=0.2).eval()
    return Supernet(generator, torch.empty(1, 3, *SIZE), (0.5, 1.0), 4, kernels=kernels).eval()


@pytest.fixture(scope="module")
def net() -> Supernet:
    return make_net()


@pytest.fixture(scope="module")
def models(net: Supernet) -> OnnxSubnets:
    return OnnxSubnets(net, 2)


def images(count: int = COUNT) -> Tensor:
    pixels = np.stack([picture(index, SIZE[0]) for index in range(count)])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def evaluator(net: Supernet, quality: Quality | None = None) -> Evaluator:
    quality = quality or load_quality("teacher_mae")
    real = None if quality.network is None else RealSet(quality.network(255 - images()))
    return Evaluator(net, lambda x: -x, images(), None, 2, CPU, quality=quality, known_real=real)


def compiled(models: OnnxSubnets, name: str) -> CompiledSubnets:
    runtime = load_runtime(name, threads=torch.get_num_threads())
    return CompiledSubnets(models, runtime, SIZE, runtime)


@both
def test_scores_are_those_of_eager(net: Supernet, models: OnnxSubnets, name: str) -> None:
    for subnet in (net.space.smallest(), net.space.largest()):
        slow = evaluator(net).measure(subnet)
        fast = replace(evaluator(net), compiled=compiled(models, name)).measure(subnet)
        assert fast.scores == pytest.approx(slow.scores, rel=1e-4)
        assert fast.values == pytest.approx(slow.values, rel=1e-3)


@both
def test_a_distance_between_sets_is_that_of_eager(
    net: Supernet, models: OnnxSubnets, name: str
) -> None:
    quality = load_quality("fid[tiny]", {"tiny": "test_features:Tiny"})
    slow, runtime = evaluator(net, quality), load_runtime(name)
    fast = slow.compiled_as(CompiledSubnets(models, runtime, SIZE, runtime))
    assert fast.runtime == runtime.label  # the features, too
    subnet = net.space.largest()
    assert fast.measure(subnet).loss == pytest.approx(slow.measure(subnet).loss, rel=1e-4)


@both
def test_numbers_do_not_depend_on_threads(net: Supernet, models: OnnxSubnets, name: str) -> None:
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            made = replace(evaluator(net), compiled=compiled(models, name))
            found.append(made.outputs(net.space.largest()))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


def test_images_come_in_their_order(net: Supernet, models: OnnxSubnets) -> None:
    fast = replace(evaluator(net), compiled=compiled(models, "onnxruntime"))
    whole = fast.outputs(net.space.largest())
    turned = replace(fast, inputs=fast.inputs.flip(0), _references={})
    assert torch.equal(turned.outputs(net.space.largest()), whole.flip(0))


def test_the_fast_model_computes_the_image_by_blocks(net: Supernet, models: OnnxSubnets) -> None:
    import onnx

    subnet = net.space.smallest()
    content = models.fast_model(subnet, SIZE)
    assert "DepthToSpace" in {node.op_type for node in onnx.load_from_string(content).graph.node}
    x = torch.rand(3, 3, *SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        found = OnnxRuntime().open(content)(x.numpy())
        assert torch.allclose(torch.from_numpy(found), net(x, subnet), atol=1e-4)


@both
def test_an_error_of_the_runtime_is_one_message(models: OnnxSubnets, name: str) -> None:
    run = compiled(models, name)(models.net.space.smallest())
    with pytest.raises(ExportError, match=rf"(?s)^{name} .* cannot run .*--runtime eager"):
        run(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ExportError, match="cannot run this network"):
        load_runtime(name).open(b"no model")


# -- which runtime --------------------------------------------------------------------------


def work(net: Supernet, count: int = 10_000, device: torch.device = CPU) -> Workload:
    return Workload(net, 2, SIZE, count, device)


def test_auto_is_onnx_runtime_where_that_pays(net: Supernet) -> None:
    assert compile_subnets(work(net, 1), "auto", "float32") is None
    found = compile_subnets(work(net), "auto", "float32")
    assert found is not None
    assert found.runtime.label.startswith("onnxruntime ")


def test_auto_is_eager_where_another_would_judge_other_images(
    net: Supernet, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrated = make_net(nn.BatchNorm2d)
    assert compile_subnets(work(calibrated), "auto", "float32") is None
    assert compile_subnets(work(make_net(kernels=(3, 7))), "auto", "float32") is None
    assert compile_subnets(work(net, device=torch.device("cuda")), "auto", "float32") is None
    monkeypatch.setattr(OnnxSubnets, "_agrees", lambda *_: False)
    assert compile_subnets(work(net), "auto", "float32") is None
    with pytest.raises(ExportError, match="slices of the exported supernet are not its subnets"):
        compile_subnets(work(net), "onnxruntime", "float32")


def test_a_runtime_that_cannot_do_it_is_refused(net: Supernet) -> None:
    with pytest.raises(ConfigError, match="statistics of batch norms are calibrated"):
        compile_subnets(work(make_net(nn.BatchNorm2d)), "onnxruntime", "float32")
    for name, precision in (("onnxruntime", "float32"), ("auto", "bfloat16")):
        with pytest.raises(ConfigError, match="its kernels or resolutions are elastic"):
            compile_subnets(work(make_net(kernels=(3, 7))), name, precision)
    with pytest.raises(ConfigError, match="runs on the CPU, and this search on cuda"):
        compile_subnets(work(net, device=torch.device("cuda")), "onnxruntime", "float32")
    with pytest.raises(ConfigError, match=r"eager with precision=float32\."):
        compile_subnets(work(net, device=torch.device("cuda")), "openvino", "bfloat16")
    for name in ("auto", "eager", "onnxruntime"):
        with pytest.raises(ConfigError, match="precision=bfloat16 needs --runtime openvino"):
            compile_subnets(work(net), name, "bfloat16")


def test_openvino_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match=r"openvino is not installed\n.*pip install"):
        load_runtime("openvino")


@needs_openvino
def test_bfloat16_is_refused_where_the_processor_has_none() -> None:
    import openvino

    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert load_runtime("openvino", "bfloat16").label.endswith(" bfloat16")
    else:
        with pytest.raises(ConfigError, match="this one does not\n  Use float32"):
            load_runtime("openvino", "bfloat16")


# -- networks of scores ---------------------------------------------------------------------


class Branch(nn.Module):
    """Its graph depends on the values, so no exporter can write it."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if float(x.sum()) > 0 else x.amax((2, 3))


class Shifted(OnnxRuntime):
    """A runtime that computes something else."""

    def open(self, model: bytes) -> Run:
        run = super().open(model)
        return lambda *inputs: run(*inputs) * 1.001


class NotANumber(OnnxRuntime):
    """A runtime that computes nothing."""

    def open(self, model: bytes) -> Run:
        run = super().open(model)
        return lambda *inputs: run(*inputs) * np.nan


def small_network() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(*layers, nn.Flatten()).eval()


def test_a_network_that_is_not_the_same_elsewhere_stays_in_eager() -> None:
    x = torch.rand(1, 3, 16, 16)
    assert frozen(load_runtime("onnxruntime"), Branch(), x) is None
    assert frozen(Shifted(), small_network(), x) is None
    assert frozen(NotANumber(), small_network(), x) is None


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_runs_elsewhere_too() -> None:
    """The published Inception is TorchScript."""
    network, x = small_network(), torch.rand(4, 3, 16, 16)
    scripted = nn.Sequential(torch.jit.script(network)).eval()
    run = frozen(load_runtime("onnxruntime"), scripted, x[:1])
    assert run is not None
    with torch.inference_mode():
        assert torch.allclose(run(x), network(x), atol=1e-5)


class Unit(nn.Module):
    """Channels of length 1 at every place, as LPIPS compares them; 0 where all of them are 0."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x)
        return x / (torch.sqrt(torch.sum(x**2, dim=1, keepdim=True)) + 1e-10)


def test_small_constants_are_kept() -> None:
    x = torch.randn(1, 3, 8, 8)
    run = frozen(load_runtime("onnxruntime"), Unit(), x)
    assert run is not None
    x[..., :4] = -1
    assert torch.allclose(run(x), Unit()(x), atol=1e-6)


def test_lpips_runs_elsewhere_too(shared: Path) -> None:
    path = str(shared / "weights/alexnet_features.pth")
    name = "teacher_lpips[alex]"
    slow, fast = (load_quality(name, {"alex": path}) for _ in range(2))
    fast = accelerated(fast, load_runtime("onnxruntime"), (64, 64))
    assert not fast.is_eager
    pixels = torch.from_numpy(np.stack([picture(i, 64) for i in range(5)])).permute(0, 3, 1, 2)
    assert slow.per_image is not None
    assert fast.per_image is not None
    expected = slow.per_image(pixels, 255 - pixels)
    assert torch.allclose(fast.per_image(pixels, 255 - pixels), expected, rtol=1e-4)


# -- whole searches -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def supernet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("runtimes")
    teacher = write_tiny(folder / "teacher.safetensors")
    root = make_paired(folder / "data", 48)
    quick = ("schedule.num_images=2", "schedule.num_images_decay=0", "loss.lambda_gan=0")
    train_supernet(supernet_options(root, folder / "supernet", teacher, *TINY_SPACE, *quick), CPU)
    return folder / "supernet"


@pytest.mark.slow
def test_a_search_in_another_runtime_repeats_resumes_and_finds_the_same(
    supernet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its trials are its own."""
    sets = ("num_trials=40", "searcher.name=random", "runtime=onnxruntime")
    whole = search(search_options(tmp_path / "whole", supernet, *sets), CPU)
    assert any(not trial.complete for trial in whole.trials)
    options = search_options(tmp_path / "stopped", supernet, *sets)
    with monkeypatch.context() as patch:
        at_call(patch, Evaluator, "measure", 23, crash)
        with pytest.raises(Crash):
            search(options, CPU)
    assert search(options, CPU) == whole
    count = len((tmp_path / "stopped" / "trials.jsonl").read_text().splitlines())
    eager = search(search_options(tmp_path / "stopped", supernet, *sets[:2], "runtime=eager"), CPU)
    assert len((tmp_path / "stopped" / "trials.jsonl").read_text().splitlines()) == 2 * count
    assert eager.runtime == "eager"
    assert [t.subnet for t in eager.front] == [t.subnet for t in whole.front]
    for one, other in zip(whole.trials, eager.trials, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-4)


class Rounded(OnnxRuntime):
    """Stands for a processor that computes in bfloat16."""

    def __init__(self, precision: str, threads: int) -> None:
        super().__init__("float32", threads)
        self.precision, self.label = precision, f"rounded {precision}"

    def open(self, model: bytes) -> Run:
        run = super().open(model)
        if self.precision == "float32":
            return run
        return lambda *inputs: torch.from_numpy(run(*inputs)).bfloat16().float().numpy()


@pytest.mark.slow
@pytest.mark.parametrize(
    "metric", [(), ("metric=kid[tiny]", "features={tiny: test_features:Tiny}")]
)
def test_a_search_in_bfloat16_says_how_its_ranks_agree(
    supernet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metric: tuple[str, ...]
) -> None:
    """Features are computed so as well, and the answers are scored in float32."""
    monkeypatch.setitem(RUNTIMES, "openvino", Rounded)
    sets = ("num_trials=20", "searcher.name=random", "runtime=openvino", "racing=false", *metric)
    exact = search(search_options(tmp_path / "exact", supernet, *sets), CPU)
    found = search(search_options(tmp_path / "low", supernet, *sets, "precision=bfloat16"), CPU)
    assert exact.precision == {}
    assert found.runtime == "rounded bfloat16"
    losses = [[trial.loss for trial in result.trials[:16]] for result in (exact, found)]
    assert losses[0] != losses[1]
    assert found.precision["subnets"] == 16
    assert found.precision["kendall_tau"] == pytest.approx(kendalltau(*losses).statistic)
    rescored = {trial.subnet: trial.loss for trial in exact.trials}
    rescored |= {answer.uniform: answer.uniform_estimate.value for answer in exact.answers}
    for answer, other in zip(found.answers, exact.answers, strict=True):
        assert answer.estimate.value == pytest.approx(rescored[answer.trial.subnet], rel=1e-6)
        assert answer.uniform_estimate == other.uniform_estimate


@pytest.mark.slow
def test_processes_with_another_runtime_find_what_one_finds(supernet: Path, tmp_path: Path) -> None:
    sets = ("num_trials=6", "searcher.name=random", "runtime=onnxruntime")
    alone = search(search_options(tmp_path / "alone", supernet, *sets), CPU)
    several = search_options(tmp_path / "several", supernet, *sets, "workers=2")
    assert search(several, CPU) == alone


def test_ranks_that_would_mix_scores_are_refused(
    supernet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide = stage.agreed

    def as_the_first_rank(asked: Callable[[], object]) -> object:
        found = decide(asked)
        return "onnxruntime 0.1" if found == "eager" else found

    monkeypatch.setattr(stage, "agreed", as_the_first_rank)
    with pytest.raises(ConfigError, match=r"with eager, the first one with onnxruntime 0\.1"):
        search(search_options(tmp_path, supernet), CPU)


IN_ANOTHER_ORDER = """
import gc, signal
from gancompress.runtimes import load_runtime

signal.signal(signal.SIGTERM, lambda *_: print("handled"))
runtimes = [load_runtime("openvino") for _ in range(3)]
for _ in range(3):
    del runtimes[0]
    gc.collect()
    signal.raise_signal(signal.SIGTERM)
"""


def test_signals_are_handled_after_openvino_has_gone() -> None:
    pytest.importorskip("openvino", reason="needs the optional package openvino")
    ended = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", IN_ANOTHER_ORDER], capture_output=True
    )
    assert (ended.returncode, ended.stdout) == (0, b"handled\n" * 3)
