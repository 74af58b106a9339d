"""What every format of the table does, and with it one that this file alone defines."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import picture, write_image
from torch import Tensor

from gancompress.checkpoint.network import Network
from gancompress.cli.main import main
from gancompress.data import Generator, to_float
from gancompress.errors import ConfigError, ExportError
from gancompress.export import FORMATS, export_network
from gancompress.export.format import Format
from gancompress.export.job import Job
from gancompress.export.rewrites import Trial
from gancompress.runtimes.openvino import require_precision
from runs import REPOSITORY, TINY, load_network, tiny_generator, write_tiny

# -- the toy entry ----------------------------------------------------------------------------


def write_arrays(path: Path, job: Job) -> list[Trial]:
    state = job.network.module.state_dict()
    with path.open("wb") as stream:
        np.savez(stream, **{name: tensor.numpy() for name, tensor in state.items()})
    return []


def read_arrays(path: Path, network: Network) -> Generator:
    with np.load(path) as arrays:
        state = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    module = tiny_generator().eval()
    module.load_state_dict(state)
    return module


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "npz", Format(".npz", write_arrays, read_arrays, tolerance=0.0))


TENSORS = ("safetensors", "pth", "npz")  # the others take an exporter, which takes seconds
every_format = pytest.mark.parametrize(
    "kind",
    [
        kind if kind in TENSORS else pytest.param(kind, marks=pytest.mark.slow)
        for kind in (*FORMATS, "npz")
    ],
)


def images(count: int, side: int = 32) -> list[Tensor]:
    return [torch.from_numpy(picture(i, side)).permute(2, 0, 1) for i in range(count)]


def skip_what_is_not_here(kind: str) -> None:
    if FORMATS[kind].runtime == "openvino":
        pytest.importorskip("openvino", reason="needs the optional package openvino")
    if kind == "openvino-bf16":
        try:
            require_precision("bfloat16")
        except ConfigError:
            pytest.skip("needs a processor that computes in bfloat16")


def contents(file: Path) -> list[bytes]:
    """A file, or what it holds as an archive."""
    if not zipfile.is_zipfile(file):
        return [file.read_bytes()]
    with zipfile.ZipFile(file) as archive:
        return [archive.read(name) for name in archive.namelist()]


# -- the contract -----------------------------------------------------------------------------


@every_format
def test_a_file_is_written_proven_and_read_again(kind: str, tmp_path: Path) -> None:
    skip_what_is_not_here(kind)
    network, entry = load_network(write_tiny(tmp_path / "tiny.safetensors")), FORMATS[kind]
    path = tmp_path / "out" / f"a{entry.suffix}"
    proof = export_network(network, kind, path, images(32 if entry.is_calibrated else 16))
    assert (proof.num_images, proof.warning) == (16, "")
    assert all(check.holds for check in proof.checks)
    files = entry.files(path)
    note = path.with_name(f"{path.name}.proof.json")
    assert {file.name for file in path.parent.iterdir()} == {f.name for f in (*files, note)}
    assert json.loads(note.read_text()) == json.loads(json.dumps(asdict(proof)))
    assert proof.sha256 == {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    here = str(REPOSITORY).encode()
    assert not any(here in content for file in files for content in contents(file))
    run = entry.read(path, network)
    for x in (torch.stack(images(3)), torch.cat(images(2), 2)[None]):
        with torch.inference_mode():
            found, wanted = run(to_float(x)), network.module(to_float(x))
        if entry.min_psnr_db is None:
            assert float((found - wanted).abs().max()) <= entry.tolerance
        else:
            error = float((found - wanted).square().mean())
            assert 10 * np.log10(4 / error) > entry.min_psnr_db - 3


@every_format
def test_a_file_that_computes_something_else_is_not_written(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_what_is_not_here(kind)
    network, entry = load_network(write_tiny(tmp_path / "tiny.safetensors")), FORMATS[kind]

    def darker(path: Path, network: Network) -> Generator:
        run = entry.read(path, network)
        return lambda x: run(x) - 1

    monkeypatch.setitem(FORMATS, kind, replace(entry, read=darker))
    path = tmp_path / "out" / f"a{entry.suffix}"
    with pytest.raises(ExportError, match="not written"):
        export_network(network, kind, path, images(4))
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("kind", TENSORS)
def test_the_command_writes_every_format(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_tiny(tmp_path / "tiny.safetensors")
    folder = tmp_path / "photos"
    for index in range(2):
        write_image(folder / f"{index}.png", picture(index, 32))
    command = ["export", str(model), "--to", kind, "--images", str(folder), "--module", TINY]
    assert main([*command, "--json"]) == 0
    path = Path(json.loads(capsys.readouterr().out)["path"])
    assert path.name.endswith(FORMATS[kind].suffix)
    assert path.is_file()


def test_an_unknown_name_is_refused_with_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", ".", "--to", "npx"]) == 2
    assert "unknown export format 'npx'; did you mean 'npz'?" in capsys.readouterr().err
