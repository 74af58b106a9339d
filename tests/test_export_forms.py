"""Graphs in bytes, half precision and int8; programs, OpenVINO files, and what a proof refuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from helpers import picture
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn

from gancompress.checkpoint.network import Network, build_network
from gancompress.cli.main import main
from gancompress.cost import Comparison
from gancompress.cost.onnx import onnx_costs
from gancompress.data import to_float, to_uint8
from gancompress.elastic import NetworkCosts
from gancompress.errors import CheckpointError, ConfigError, ExportError
from gancompress.export import (
    FORMATS,
    ExportOptions,
    export_network,
    onnx_file,
    publish,
)
from gancompress.export.graphs import with_bytes, with_narrow_weights
from gancompress.export.job import Job
from gancompress.export.onnx import onnx_model
from gancompress.export.proof import Check, Criterion, check_file
from gancompress.export.quantise import quantise
from gancompress.export.rewrites import REWRITES, Trial, merge_last_convolution, rewrite
from gancompress.runtimes import OnnxGenerator, OpenVinoGenerator
from gancompress.runtimes.program import ProgramGenerator
from runs import TINY

SIZES = ((32, 32), (64, 48), (96, 32))
Made = tuple[Network, onnx.ModelProto]


def images(count: int, side: int = 32) -> list[Tensor]:
    return [torch.from_numpy(picture(i, side)).permute(2, 0, 1) for i in range(count)]


def pixels(batch: int, height: int, width: int) -> Tensor:
    side = max(height, width)
    return torch.stack(images(batch, side))[..., :height, :width].contiguous()


def lively(network: Network) -> Network:
    """With weights that make pictures of pictures, rather than a grey area."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.module.parameters():
        scale = 0.2 if parameter.ndim > 1 else 0.1
        parameter.data = scale * torch.randn(parameter.shape, generator=generator)
    return network


def separable() -> Network:
    options = {"name": "mobile_resnet_6blocks", "ngf": 4, "input_nc": 3, "output_nc": 3}
    return lively(build_network({"generator": options}, "test"))


@pytest.fixture(scope="module")
def made() -> Made:
    """A generator with depth-wise layers and its graph; the exporter takes seconds."""
    network = separable()
    network.header["subnet"] = "s"
    return network, onnx_model(
        network.module, network.example_shape, network.stride, Job(network, []).header
    )


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    found: np.ndarray = OnnxGenerator(model.SerializeToString(), threads=1).run(x)
    return found


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Of images in [-1, 1]."""
    return float(20 * np.log10(2 / np.sqrt(np.mean((one - other) ** 2))))


# -- bytes and half precision ----------------------------------------------------------------


def test_bytes_form_gives_the_levels_of_the_float_form(made: Made) -> None:
    _, plain = made
    form = with_bytes(plain)
    onnx.checker.check_model(form, full_check=True)
    for batch, (height, width) in zip((1, 3, 1), SIZES, strict=True):
        image = pixels(batch, height, width)
        found = run(form, image.permute(0, 2, 3, 1).contiguous().numpy())
        wanted = to_uint8(torch.from_numpy(run(plain, to_float(image).numpy())))
        assert found.dtype == np.uint8
        assert found.shape == (batch, height, width, 3)
        assert np.array_equal(found, wanted.permute(0, 2, 3, 1).numpy())
        assert np.unique(found).size > 50


def test_bytes_form_is_a_callable_of_floats_too(made: Made) -> None:
    network, plain = made
    generator = OnnxGenerator(with_bytes(plain).SerializeToString(), threads=1)
    assert generator.is_bytes
    assert generator.shape == (None, 3, None, None)
    x = to_float(pixels(2, 32, 64))
    with torch.no_grad():
        wanted = to_uint8(network.module(x))
    found = generator(x)
    assert found.shape == x.shape
    assert (to_uint8(found).int() - wanted.int()).abs().max() <= 1
    assert torch.equal(to_float(to_uint8(found)), found)
    with pytest.raises(CheckpointError, match=r"graph takes tensor\(uint8\) of shape"):
        generator(torch.zeros(1, 4, 32, 32))


def test_half_weights_halve_the_file_and_change_only_what_is_rounded(made: Made) -> None:
    _, plain = made
    x = to_float(pixels(1, 32, 32)).numpy()
    half = with_narrow_weights(plain, "float16")
    onnx.checker.check_model(half, full_check=True)
    weights = sum(np.prod(t.dims) for t in plain.graph.initializer)
    saved = plain.ByteSize() - half.ByteSize()
    assert saved > 1.8 * weights - 100 * len(plain.graph.initializer)
    assert psnr(run(half, x), run(plain, x)) > 50
    rounded = onnx.ModelProto()
    rounded.CopyFrom(plain)
    for tensor in rounded.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    assert np.array_equal(run(with_narrow_weights(rounded, "float16"), x), run(rounded, x))


def test_byte_weights_quarter_the_file_and_round_to_the_channel_s_own_steps(made: Made) -> None:
    _, plain = made
    x = to_float(pixels(1, 32, 32)).numpy()
    narrow = with_narrow_weights(plain, "int8")
    onnx.checker.check_model(narrow, full_check=True)
    layers = {n.input[1]: n.op_type for n in plain.graph.node if n.op_type.startswith("Conv")}
    before = {t.name: numpy_helper.to_array(t) for t in plain.graph.initializer}
    after = {t.name: numpy_helper.to_array(t) for t in narrow.graph.initializer}
    for name, kind in layers.items():
        axis = 0 if kind == "Conv" else 1
        steps = np.moveaxis(after[f"{name}.int8"], axis, 0).reshape(before[name].shape[axis], -1)
        assert (np.abs(steps).max(1) == 127).all()
        error = np.abs(after[f"{name}.int8"] * after[f"{name}.scale"] - before[name])
        assert (error <= 0.5001 * after[f"{name}.scale"]).all()
    weights = sum(before[name].size for name in layers)
    assert plain.ByteSize() - narrow.ByteSize() > 2.8 * weights - 300 * len(before)
    assert 30 < psnr(run(narrow, x), run(plain, x)) < 90


@pytest.mark.parametrize("form", ["merged", "bytes", "half", "byte weights", "int8"])
def test_every_form_counts_the_network_s_own_costs(made: Made, tmp_path: Path, form: str) -> None:
    network, plain = made
    merged = merge_last_convolution(plain, 4)
    assert merged is not None
    change: dict[str, Callable[[], onnx.ModelProto]] = {
        "merged": lambda: merged,
        "bytes": lambda: with_bytes(merged),
        "half": lambda: with_narrow_weights(merged, "float16"),
        "byte weights": lambda: with_narrow_weights(merged, "int8"),
        "int8": lambda: quantise(merged, images(2)),
    }
    onnx.save(change[form](), tmp_path / "form.onnx")
    costs = NetworkCosts(network.module, network.example_shape)
    found = onnx_costs(tmp_path / "form.onnx", (64, 32))
    assert found.macs == costs.macs((64, 32))
    assert found.macs_paper == costs.macs((64, 32), paper=True)
    assert found.params == costs.params


# -- int8 -------------------------------------------------------------------------------------


def test_int8_has_scales_per_channel_and_leaves_the_rest_in_floats(made: Made) -> None:
    _, plain = made
    graph = quantise(plain, images(4)).graph
    makers = {name: node for node in graph.node for name in node.output}
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    depthwise = [any(a.name == "group" and a.i > 1 for a in n.attribute) for n in convolutions]
    is_int8 = [makers.get(node.input[1]) is not None for node in convolutions]
    last = len(convolutions) - 1
    assert is_int8 == [not d and n not in (0, last) for n, d in enumerate(depthwise)]
    assert sum(is_int8) == 2 + 12
    assert sum(depthwise) == 12
    for node, chosen in zip(convolutions, is_int8, strict=True):
        if chosen:
            weight, activation = (makers[node.input[place]] for place in (1, 0))
            assert weight.op_type == activation.op_type == "DequantizeLinear"
            values, scales = (stored[name] for name in weight.input[:2])
            assert values.dtype == np.int8
            assert scales.shape == (len(values),)
            assert len(np.unique(scales)) > len(scales) // 2
    for node in graph.node:
        if node.op_type in ("InstanceNormalization", "ConvTranspose"):
            assert all(stored[name].dtype == np.float32 for name in node.input[1:] if name)


def test_int8_is_close_and_smaller(made: Made) -> None:
    _, plain = made
    model = quantise(plain, images(8))
    x = to_float(torch.stack(images(12)[8:])).numpy()
    assert 25 < psnr(run(model, x), run(plain, x)) < 60  # eight bits, neither more nor less


def test_int8_needs_a_convolution_between_first_and_last() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 3))
    with pytest.raises(ExportError, match="nothing to make int8: of 2 convolutions"):
        quantise(onnx_model(module.eval(), (1, 3, 32, 32), 2, {}), images(1))


# -- rewrites ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "is_kept"),
    [
        (Comparison(1.2, 1.1, 1.3), True),
        (Comparison(1.2, 0.9, 1.5), False),
        (Comparison(0.8, 0.7, 0.9), False),
    ],
    ids=["faster", "within noise", "slower"],
)
def test_rewrite_is_kept_only_where_it_wins(made: Made, found: Comparison, is_kept: bool) -> None:
    _, plain = made
    model, trials = rewrite(plain, 4, "measured", lambda one, other: found)
    (name,) = REWRITES
    assert trials == [Trial(name, is_kept, found.speed_up, (found.low, found.high))]
    assert any(n.op_type == "DepthToSpace" for n in model.graph.node) == is_kept


def test_rewrites_without_measuring(made: Made) -> None:
    def fail(one: onnx.ModelProto, other: onnx.ModelProto) -> Comparison:
        raise AssertionError("measured")

    _, plain = made
    kept, trials = rewrite(plain, 4, "always", fail)
    assert [trial.is_kept for trial in trials] == [True]
    assert len(kept.graph.node) == len(plain.graph.node) + 1
    assert rewrite(plain, 4, "never", fail) == (plain, [])
    pooled, trials = rewrite(plain, 4, "browser", fail)
    assert trials == [Trial("norms as pooling", True)]
    assert not any(node.op_type == "InstanceNormalization" for node in pooled.graph.node)


# -- the proof --------------------------------------------------------------------------------


def kinds(module: nn.Module, run: Callable[[Tensor], Tensor]) -> dict[str, Check]:
    criterion = Criterion(1e-3)
    return {check.kind: check for check in check_file(module, run, images(16), criterion)}


def normed(eps: float) -> nn.Module:
    """One convolution and an instance norm, the same for every epsilon."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 3, 3, padding=1), nn.InstanceNorm2d(3, eps=eps), nn.Tanh())
    return nn.Sequential(*layers).eval()


def test_wrong_epsilon_of_a_norm_is_seen() -> None:
    with torch.no_grad():
        checks = kinds(normed(1e-5), normed(1e-4))
    assert not checks["faint"].holds
    assert all(check.holds for check in kinds(normed(1e-5), normed(1e-5)).values())


def test_norm_that_divides_by_nothing_is_seen() -> None:
    def broken(x: Tensor) -> Tensor:
        out = normed(1e-5)(x)
        return torch.where(x.std((1, 2, 3), keepdim=True) > 0, out, torch.nan)

    assert [kind for kind, check in kinds(normed(1e-5), broken).items() if not check.holds] == [
        "flat"
    ]


def test_flat_images_of_a_definite_network_are_judged_like_others() -> None:
    module = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)).eval()
    checks = kinds(module, lambda x: module(x) + 0.01 * (x.std() == 0))
    assert checks["flat"].accepted == 1e-3
    assert checks["flat"].note == ""
    assert not checks["flat"].holds
    assert checks["real"].holds


def test_flat_images_of_an_indefinite_network_say_why(made: Made) -> None:
    network, plain = made
    check = kinds(network.module, OnnxGenerator(plain.SerializeToString(), 1))["flat"]
    assert check.rounding_error is not None
    assert check.rounding_error > 1e-3
    assert "eager PyTorch itself errs by" in check.note


def test_proof_knows_its_sizes_and_batches() -> None:
    module = nn.Conv2d(3, 3, 1)
    for kind, check in kinds(module, module).items():
        assert check.batch_sizes == ([1] if kind == "faint" else [1, 3])
        assert check.psnr_db is None
    real = kinds(module, module)["real"]
    assert real.sizes == [(32, 32), (32, 64)]


# -- whole files ------------------------------------------------------------------------------


@pytest.fixture
def quick(made: Made, monkeypatch: pytest.MonkeyPatch) -> Network:
    """A generator whose graph is not exported again."""
    network, plain = made
    monkeypatch.setattr(onnx_file, "onnx_model", lambda *_: plain)
    return network


def test_few_images_are_told(quick: Network, tmp_path: Path) -> None:
    options = ExportOptions(rewrite="never")
    proof = export_network(quick, "onnx", tmp_path / "a.onnx", images(3), options)
    assert proof.num_images == 3
    assert proof.warning == "only 3 real images, 16 make a whole proof"
    whole = export_network(quick, "onnx", tmp_path / "a.onnx", images(16), options)
    assert whole.warning == ""


def test_int8_is_proven_on_other_images_than_it_is_calibrated_on(
    quick: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def spy(model: onnx.ModelProto, calibration: list[Tensor]) -> onnx.ModelProto:
        seen.extend(calibration)
        return quantise(model, calibration)

    monkeypatch.setattr(onnx_file, "quantise", spy)
    given = images(6)
    options = ExportOptions(rewrite="never")
    proof = export_network(quick, "onnx-int8", tmp_path / "a.onnx", given, options)
    assert [any(image is one for one in seen) for image in given] == [False, True] * 3
    assert proof.num_images == 3
    assert (proof.tolerance, proof.min_psnr_db) == (None, 25.0)
    assert proof.psnr_db is not None
    assert proof.psnr_db > 25


def test_int8_below_its_bound_is_refused(
    quick: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, options = tmp_path / "a.onnx", ExportOptions(rewrite="never")
    path.write_bytes(b"older")

    def coarse(model: onnx.ModelProto, _: list[Tensor]) -> onnx.ModelProto:
        made = onnx.ModelProto()
        made.CopyFrom(model)
        tensor = max(made.graph.initializer, key=lambda t: int(np.prod(t.dims)))
        values = -numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        return made

    monkeypatch.setattr(onnx_file, "quantise", coarse)
    with pytest.raises(ExportError, match=r"PSNR of .* dB .*accepted: 25 dB.*not written"):
        export_network(quick, "onnx-int8", path, images(4), options)
    assert [file.name for file in tmp_path.iterdir()] == ["a.onnx"]
    assert path.read_bytes() == b"older"


def test_lossy_half_weights_are_judged_by_psnr_and_exact_ones_by_difference(
    quick: Network, tmp_path: Path
) -> None:
    options = ExportOptions(weights="float16", rewrite="never")
    proof = export_network(quick, "onnx", tmp_path / "a.onnx", images(2), options)
    assert (proof.tolerance, proof.min_psnr_db) == (None, publish.NARROW_PSNR_DB["float16"])
    options = ExportOptions(weights="int8", rewrite="never")
    proof = export_network(quick, "onnx", tmp_path / "b.onnx", images(2), options)
    assert (proof.tolerance, proof.min_psnr_db) == (None, publish.NARROW_PSNR_DB["int8"])
    module = nn.Conv2d(3, 3, 3)
    assert not publish._fits_half(module)
    assert publish._fits_half(module.half().float())


def test_bytes_export_says_so_and_is_within_a_level(quick: Network, tmp_path: Path) -> None:
    options = ExportOptions(uint8=True, rewrite="always")
    proof = export_network(quick, "onnx", tmp_path / "a.onnx", images(2), options)
    assert proof.form == "uint8"
    assert proof.tolerance == pytest.approx(2 / 255, abs=1e-5)
    generator = OnnxGenerator(tmp_path / "a.onnx")
    assert (generator.header["type"], generator.header["layout"]) == ("uint8", "NHWC")
    assert generator.header["range"] == [0, 255]
    assert generator.stride == 4


@pytest.mark.parametrize("kind", ["safetensors", "pth", "pt2"])
@pytest.mark.parametrize(
    "options", [ExportOptions(uint8=True), ExportOptions(weights="float16")], ids=["u8", "half"]
)
def test_forms_of_graphs_are_refused_elsewhere(
    tmp_path: Path, kind: str, options: ExportOptions
) -> None:
    with pytest.raises(ConfigError, match=f"have no effect on --to {kind}"):
        export_network(separable(), kind, tmp_path / "file", images(1), options)
    assert not list(tmp_path.iterdir())


def test_command_refuses_a_form_before_it_loads_anything(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["export", "nowhere", "--to", "pth", "--uint8"]) == 2
    assert "they have no effect on --to pth" in capsys.readouterr().err
    assert main(["export", "nowhere", "--rewrite", "sometimes"]) == 2
    assert "unknown choice of --rewrite 'sometimes'" in capsys.readouterr().err
    assert main(["export", "nowhere", "--to", "openvino", "--rewrite", "browser"]) == 2
    assert "--rewrite browser is for --to onnx alone" in capsys.readouterr().err
    assert main(["export", "nowhere", "--weights", "int4"]) == 2
    assert "unknown choice of --weights 'int4'" in capsys.readouterr().err


def test_openvino_is_asked_for_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match=r"pip install 'gancompress\[openvino\]'"):
        export_network(separable(), "openvino", tmp_path / "a.xml", images(1))
    assert not list(tmp_path.iterdir())


# -- programs and OpenVINO ----------------------------------------------------------------------


def agree(network: Network, generator: Callable[[Tensor], Tensor]) -> None:
    """At three sizes and in batches of 1 and 3."""
    for height, width in SIZES:
        for batch in (1, 3):
            x = to_float(pixels(batch, height, width))
            with torch.no_grad():
                wanted = network.module(x)
            found = generator(x)
            assert found.shape == wanted.shape
            assert float((found - wanted).abs().max()) < 1e-3
            assert float(wanted.std()) > 0.05


def test_program_runs_at_any_size_and_batch(tmp_path: Path) -> None:
    network = lively(build_network({"module": TINY}, "test"))
    proof = export_network(network, "pt2", tmp_path / "a.pt2", images(2))
    assert proof.runtime.startswith("torch ")
    generator = ProgramGenerator(tmp_path / "a.pt2", threads=1, allow_code=True)
    agree(network, generator)
    assert (generator.stride, generator.header["network"]) == (2, {"module": TINY})
    with pytest.raises(CheckpointError, match=r"multiples of 2, not \(1, 3, 33, 32\)"):
        generator(torch.zeros(1, 3, 33, 32))
    (tmp_path / "a.pt2").write_bytes((tmp_path / "a.pt2").read_bytes()[:-300])
    with pytest.raises(CheckpointError, match=r"a\.pt2: not a readable pt2 file"):
        ProgramGenerator(tmp_path / "a.pt2", allow_code=True)


@pytest.mark.parametrize("uint8", [False, True], ids=["float", "uint8"])
def test_openvino_runs_at_any_size_and_batch(quick: Network, tmp_path: Path, uint8: bool) -> None:
    pytest.importorskip("openvino", reason="needs the optional package openvino")
    options = ExportOptions(uint8=uint8, rewrite="always")
    path = tmp_path / "a.xml"
    proof = export_network(quick, "openvino", path, images(2), options)
    assert proof.sha256.keys() == {"a.xml", "a.bin"}
    assert proof.runtime.startswith("openvino ")
    assert {file.name for file in tmp_path.iterdir()} == {"a.xml", "a.bin", "a.xml.proof.json"}
    generator = OpenVinoGenerator(path, threads=1)
    assert generator.is_bytes == uint8
    assert (generator.stride, generator.header["subnet"]) == (4, "s")
    if not uint8:
        agree(quick, generator)
    else:
        x = to_float(pixels(3, 64, 48))
        with torch.no_grad():
            wanted = to_uint8(quick.module(x)).int()
        assert (to_uint8(generator(x)).int() - wanted).abs().max() <= 1
    path.with_suffix(".bin").unlink()
    with pytest.raises(CheckpointError, match=r"a\.bin is missing"):
        OpenVinoGenerator(path)


def test_openvino_in_bfloat16_and_int8_is_close_and_says_so(quick: Network, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="needs the optional package openvino")
    x = to_float(torch.stack(images(2)))
    with torch.no_grad():
        wanted = quick.module(x).numpy()
    options = ExportOptions(rewrite="always")
    proof = export_network(quick, "openvino-int8", tmp_path / "a.int8.xml", images(4), options)
    assert (proof.num_images, proof.tolerance) == (2, None)
    assert 25 < psnr(OpenVinoGenerator(tmp_path / "a.int8.xml")(x).numpy(), wanted) < 60
    path = tmp_path / "a.bf16.xml"
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(
            ConfigError, match=r"AVX-512 BF16 or AMX.*\n  Use float32: --to openvino"
        ):
            export_network(quick, "openvino-bf16", path, images(4), options)
        return
    proof = export_network(quick, "openvino-bf16", path, images(4), options)
    assert proof.num_images == 4
    assert sorted(proof.sha256) == ["a.bf16.bin", "a.bf16.xml"]
    narrow, wide = OpenVinoGenerator(path), OpenVinoGenerator(path, precision="float32")
    assert narrow.header["precision"] == "bfloat16"
    assert 30 < psnr(narrow(x).numpy(), wanted) < 70 < psnr(wide(x).numpy(), wanted)


@pytest.mark.parametrize("kind", ["pt2", "openvino"])
def test_profile_reads_the_costs_of_exported_files(
    quick: Network, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind == "openvino":
        pytest.importorskip("openvino", reason="needs the optional package openvino")
    network = quick if kind == "openvino" else lively(build_network({"module": TINY}, "test"))
    path = tmp_path / f"a{FORMATS[kind].suffix}"
    options = ExportOptions(rewrite="always") if kind == "openvino" else None
    export_network(network, kind, path, images(1), options)
    costs = NetworkCosts(network.module, network.example_shape)
    assert (
        main(["profile", str(path), "--size", "64x32", "--no-latency", "--json", "--allow-code"])
        == 0
    )
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["params"] == sum(p.numel() for p in network.module.parameters())
    assert found["macs"] == costs.macs((64, 32))
    assert found["macs_paper"] == costs.macs((64, 32), paper=True)
