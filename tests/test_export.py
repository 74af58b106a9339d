"""Exported files compute the images of the generator that they were made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from helpers import picture
from onnx import TensorProto, helper
from PIL import Image
from torch import Tensor

from gancompress.checkpoint.files import load_tensors
from gancompress.checkpoint.network import Network
from gancompress.checkpoint.resolve import Model
from gancompress.cli.main import main
from gancompress.elastic import Subnet, Supernet
from gancompress.errors import CheckpointError, ConfigError, DataError, ExportError
from gancompress.export import FORMATS, export_network
from gancompress.export.format import Format
from gancompress.export.job import Job
from gancompress.export.proof import Proof
from gancompress.export.rewrites import Trial
from gancompress.inference.resize import resize_shorter
from gancompress.runtimes import OnnxGenerator
from runs import TINY, load_network, write_teacher, write_tiny

FAMILIES: dict[str, dict[str, Any]] = {
    "tiny": {},
    "dense": {"name": "resnet_6blocks", "ngf": 4},
    "separable": {"name": "mobile_resnet_6blocks", "ngf": 4, "dropout": 0.0},
    "unet batch": {"name": "unet_64", "ngf": 4, "norm": "batch"},
    "unet instance": {"name": "unet_64", "ngf": 4, "norm": "instance"},
}
every_family = pytest.mark.parametrize("family", FAMILIES)
every_exporter_run = pytest.mark.parametrize(
    "family",
    [f if f == "tiny" else pytest.param(f, marks=pytest.mark.slow) for f in FAMILIES],
)
PTH = FORMATS["pth"]


def network_of(folder: Path, family: str) -> Network:
    """A generator as a run gives it; of a ResNet, an extracted subnet."""
    options = dict(FAMILIES[family])
    path = folder / "teacher.safetensors"
    network = load_network(write_teacher(path, **options) if options else write_tiny(path))
    if family.startswith("unet"):
        return network
    net = Supernet(network.module, torch.empty(network.example_shape), (0.5, 1.0), 1).eval()
    chosen = Subnet(tuple(d.choices[i % 2] for i, d in enumerate(net.space.dimensions)))
    network.module = net.extract(chosen).eval()
    network.header = {**network.header, "subnet": str(chosen)}
    return network


@pytest.fixture
def network(tmp_path: Path) -> Callable[[str], Network]:
    return lambda family: network_of(tmp_path, family)


def images(count: int, side: int) -> list[Tensor]:
    return [torch.from_numpy(picture(i, side)).permute(2, 0, 1) for i in range(count)]


def floats(batch: int, height: int, width: int) -> Tensor:
    """Pictures in [-1, 1], (N, 3, H, W)."""
    side = max(height, width)
    stacked = torch.stack(images(batch, side))[..., :height, :width]
    return stacked.float() / 127.5 - 1


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Network, Path]]:
    """A generator and its ONNX file; the exporter takes seconds, so it runs once for each."""
    made: dict[str, tuple[Network, Path]] = {}

    def export(family: str) -> tuple[Network, Path]:
        if family not in made:
            folder = tmp_path_factory.mktemp("onnx")
            network = network_of(folder, family)
            path = folder / "generator.onnx"
            export_network(network, "onnx", path, images(16, 64))
            made[family] = network, path
        return made[family]

    return export


# -- ONNX -----------------------------------------------------------------------------------


@every_exporter_run
def test_onnx_file_computes_the_same_at_any_batch_and_size(
    exported: Callable[[str], tuple[Network, Path]], family: str
) -> None:
    network, path = exported(family)
    run = OnnxGenerator(path, threads=1)
    assert run.stride == network.stride
    for batch in (1, 3):
        for height, width in ((64, 64), (128, 64)):
            x = floats(batch, height, width)
            with torch.no_grad():
                wanted = network.module(x)
            found = run(x)
            assert found.shape == wanted.shape
            assert float((found - wanted).abs().max()) < 1e-3
            assert float(wanted.std()) > 0.05  # a picture, not a grey area


def test_onnx_file_says_what_it_is(exported: Callable[[str], tuple[Network, Path]]) -> None:
    network, path = exported("tiny")
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [i.name for i in model.graph.input] == ["image"]
    assert [o.name for o in model.graph.output] == ["translated"]
    assert len(model.SerializeToString()) == path.stat().st_size  # nothing lies in other files
    operations = {node.op_type for node in model.graph.node}
    assert "InstanceNormalization" in operations
    assert "Loop" not in operations
    header = dict(OnnxGenerator(path).header)
    costs = header.pop("costs")
    assert costs.pop("params") == sum(p.numel() for p in network.module.parameters())
    assert costs.keys() == {"side", "macs", "macs_paper"}
    assert header == {
        "network": network.description,
        "subnet": network.header["subnet"],
        "image_size": 32,
        "inputs": {"image": "rgb"},
        "outputs": {"image": "rgb"},
        "stride": 2,
        "range": [-1, 1],
        "layout": "NCHW",
        "type": "float32",
    }


def test_proof_lies_beside_the_file(exported: Callable[[str], tuple[Network, Path]]) -> None:
    _, path = exported("tiny")
    proof = json.loads((path.parent / "generator.onnx.proof.json").read_text())
    assert proof["sha256"] == {"generator.onnx": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert proof["file"] == "generator.onnx"
    assert proof["num_images"] == 16
    assert 0 <= proof["max_difference"] <= proof["tolerance"] == 1e-3


def write_negation(path: Path, shape: tuple[int | str, ...], metadata: str | None = None) -> Path:
    """An ONNX file of somebody else's that turns an image x into -x."""
    value = helper.make_tensor_value_info("in", TensorProto.FLOAT, shape)
    result = helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)
    graph = helper.make_graph([helper.make_node("Neg", ["in"], ["out"])], "g", [value], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if metadata is not None:
        helper.set_model_props(model, {"gancompress": metadata})
    onnx.save(model, path)
    return path


def test_foreign_onnx_file_runs_without_a_header(tmp_path: Path) -> None:
    run = OnnxGenerator(write_negation(tmp_path / "neg.onnx", ("n", 3, "h", "w")))
    x = floats(2, 8, 8)
    assert torch.equal(run(x), -x)
    assert (run.header, run.shape, run.side, run.stride) == ({}, (None, 3, None, None), None, 4)


def test_onnx_file_of_one_size_says_which(tmp_path: Path) -> None:
    square = OnnxGenerator(write_negation(tmp_path / "square.onnx", ("n", 3, 18, 18)))
    assert (square.header, square.side, square.stride) == ({"image_size": 18}, 18, 2)
    oblong = OnnxGenerator(write_negation(tmp_path / "oblong.onnx", ("n", 3, 8, 16)))
    assert (oblong.header, oblong.side, oblong.stride) == ({}, None, 4)
    path = write_negation(tmp_path / "said.onnx", ("n", 3, 18, 18), '{"image_size": 9}')
    assert OnnxGenerator(path).header == {"image_size": 9}


def test_onnx_file_of_single_images_takes_batches(tmp_path: Path) -> None:
    run = OnnxGenerator(write_negation(tmp_path / "one.onnx", (1, 3, "h", "w")))
    x = floats(3, 8, 8)
    assert torch.equal(run(x), -x)


@pytest.mark.parametrize(
    ("shape", "came", "takes"),
    [
        (("n", 3, 16, 16), (1, 3, 8, 16), r"\(any, 3, 16, 16\).* \(1, 3, 8, 16\)"),
        ((2, 3, "h", "w"), (3, 3, 8, 8), r"\(2, 3, any, any\).* \(3, 3, 8, 8\)"),
        ((1, 3, 16, 16), (2, 3, 8, 8), r"\(1, 3, 16, 16\).* \(1, 3, 8, 8\)"),
        (("n", 1, "h", "w"), (1, 3, 8, 8), r"\(any, 1, any, any\).* \(1, 3, 8, 8\)"),
    ],
    ids=["size", "batch", "size in a batch", "channels"],
)
def test_images_that_an_onnx_file_does_not_take_are_refused(
    tmp_path: Path, shape: tuple[int | str, ...], came: tuple[int, ...], takes: str
) -> None:
    run = OnnxGenerator(write_negation(tmp_path / "neg.onnx", shape))
    with pytest.raises(CheckpointError, match=rf"neg\.onnx takes tensor\(float\) of shape {takes}"):
        run(torch.zeros(came))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("no json", "its metadata 'gancompress' is not a JSON object"),
        ("[4]", "its metadata 'gancompress' is not a JSON object"),
        ('{"stride": "four"}', "'stride' of its metadata is not a pixel count: 'four'"),
        ('{"stride": 0}', "'stride' of its metadata is not a pixel count: 0"),
        ('{"image_size": null}', "'image_size' of its metadata is not a pixel count: None"),
    ],
)
def test_damaged_metadata_of_an_onnx_file_is_refused(
    tmp_path: Path, metadata: str, message: str
) -> None:
    path = write_negation(tmp_path / "neg.onnx", ("n", 3, "h", "w"), metadata)
    with pytest.raises(CheckpointError, match=rf"neg\.onnx: {message}"):
        OnnxGenerator(path)


def test_onnx_file_of_something_else_than_images_is_refused(tmp_path: Path) -> None:
    path = write_negation(tmp_path / "sound.onnx", ("n", 1, "t"))
    with pytest.raises(CheckpointError, match=r"no generator with one input \(N, C, H, W\)"):
        OnnxGenerator(path)


@pytest.mark.parametrize("wrong", [("8_8", None), (None, TINY)], ids=["subnet", "module"])
def test_onnx_file_takes_neither_subnet_nor_module(
    tmp_path: Path, wrong: tuple[str | None, str | None]
) -> None:
    path = write_negation(tmp_path / "neg.onnx", ("n", 3, 16, 16))
    with pytest.raises(ConfigError, match="omit --subnet and --module"):
        Model(path, *wrong).open()
    opened = Model(path).open()
    assert isinstance(opened, OnnxGenerator)
    assert opened.side == 16


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x07\x12\x04" * 20])
def test_broken_onnx_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"broken\.onnx: not a readable ONNX file"):
        OnnxGenerator(path)
    with pytest.raises(CheckpointError, match="no model"):
        OnnxGenerator(tmp_path / "missing.onnx")


def test_translation_resizes_to_the_one_size_of_an_onnx_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_negation(tmp_path / "neg.onnx", (1, 3, 16, 16))
    for index in range(2):
        Image.fromarray(picture(index, 24)).save(tmp_path / f"{index}.png")
    arguments = ["translate", path, tmp_path, tmp_path / "out", "--batch-size", "2"]
    assert main([*map(str, arguments), "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_images"] == 2
    for index in range(2):
        (small,) = resize_shorter([Image.fromarray(picture(index, 24))], 16, "picture")
        with Image.open(tmp_path / "out" / f"{index}.png") as found:
            difference = np.asarray(found, int) - (255 - np.asarray(small, int))
        assert np.abs(difference).max() <= 1


# -- tensors --------------------------------------------------------------------------------


def as_json(proof: Proof) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(json.dumps(asdict(proof)))
    return content


def options_of(network: Network) -> dict[str, Any]:
    options: dict[str, Any] = network.description.get("generator", {})
    return options


@every_family
@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_file_of_tensors_is_exact(
    network: Callable[[str], Network], tmp_path: Path, family: str, kind: str
) -> None:
    made = network(family)
    path = tmp_path / f"file.{kind}"
    proof = export_network(made, kind, path, images(16, 64))
    assert (proof.file, proof.num_images, proof.tolerance) == (path.name, 16, 0.0)
    assert {check.kind: check.max_difference for check in proof.checks} == dict.fromkeys(
        ("real", "faint", "noise", "flat"), 0.0
    )
    assert json.loads(path.with_name(f"{path.name}.proof.json").read_text()) == as_json(proof)
    again = load_network(path, None if options_of(made) else TINY)
    x = floats(2, 64, 64)
    with torch.no_grad():
        assert torch.equal(again.module(x), made.module(x))
    assert again.stride == made.stride
    assert options_of(again).get("name") == options_of(made).get("name")


def test_safetensors_file_says_what_it_is(
    network: Callable[[str], Network], tmp_path: Path
) -> None:
    made = network("separable")
    export_network(made, "safetensors", tmp_path / "file.safetensors", images(16, 32))
    tensors, header = load_tensors(tmp_path / "file.safetensors")
    assert header == {
        "format": 1,
        "network": made.description,
        "subnet": made.header["subnet"],
        "image_size": 32,
        "inputs": {"image": "rgb"},
        "outputs": {"image": "rgb"},
    }
    assert tensors.keys() == made.module.state_dict().keys()


def test_pth_file_has_the_names_that_others_load(
    network: Callable[[str], Network], tmp_path: Path
) -> None:
    made = network("separable")
    export_network(made, "pth", tmp_path / "latest_net_G.pth", images(16, 32))
    state = torch.load(tmp_path / "latest_net_G.pth", weights_only=True)
    assert all(isinstance(value, Tensor) for value in state.values())
    blocks = {
        f"model.{block}.conv_block.{layer}.conv.{part}.{leaf}"
        for block in range(10, 16)
        for layer in (1, 6)
        for part in (0, 2)
        for leaf in ("weight", "bias")
    }
    outside = {f"model.{i}.{leaf}" for i in (1, 4, 7, 16, 19, 23) for leaf in ("weight", "bias")}
    assert state.keys() == blocks | outside


def test_dense_pth_file_has_the_names_that_others_load(
    network: Callable[[str], Network], tmp_path: Path
) -> None:
    export_network(network("dense"), "pth", tmp_path / "latest_net_G.pth", images(16, 32))
    names = torch.load(tmp_path / "latest_net_G.pth", weights_only=True).keys()
    assert {"model.10.conv_block.1.weight", "model.15.conv_block.5.bias"} <= names


# -- what is refused ------------------------------------------------------------------------


def write_corrupt(path: Path, job: Job) -> list[Trial]:
    """As a faulty exporter does: a file that loads, with one weight changed."""
    weight = job.network.module.get_parameter("model.1.weight")
    with torch.no_grad():
        weight[0, 0, 0, 0] += 1
        trials = PTH.write(path, job)
        weight[0, 0, 0, 0] -= 1
    return trials


def write_half(path: Path, job: Job) -> list[Trial]:
    trials = PTH.write(path, job)
    path.write_bytes(path.read_bytes()[:-200])
    return trials


def read_nan(path: Path, network: Network) -> Callable[[Tensor], Tensor]:
    return lambda x: network.module(x) * np.nan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"write": write_corrupt, "tolerance": 1e-3}, r"would differ from the generator by"),
        ({"write": write_half}, r"not a readable .*\n  .*file\.pth was not written"),
        ({"read": read_nan}, r"would differ from the generator by nan"),
    ],
    ids=["other weights", "unreadable", "not finite"],
)
def test_file_that_is_no_copy_never_takes_the_name(
    network: Callable[[str], Network],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    message: str,
) -> None:
    made, path = network("dense"), tmp_path / "out" / "file.pth"
    export_network(made, "pth", path, images(16, 32))
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    faulty: Format = replace(PTH, **change)
    monkeypatch.setitem(FORMATS, "pth", faulty)
    with pytest.raises(ExportError, match=message):
        export_network(made, "pth", path, images(16, 32))
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_proof_needs_images(network: Callable[[str], Network], tmp_path: Path) -> None:
    path = tmp_path / "out" / "file.pth"
    with pytest.raises(DataError, match="needs real images; none found"):
        export_network(network("dense"), "pth", path, [])
    assert not path.parent.exists()
    assert export_network(network("dense"), "pth", path, images(2, 32)).num_images == 2


def test_unknown_format_lists_what_there_is(
    network: Callable[[str], Network], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"unknown export format 'onx'; did you mean 'onnx'"):
        export_network(network("dense"), "onx", tmp_path / "file", images(16, 32))
