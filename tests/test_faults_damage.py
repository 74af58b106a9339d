"""Bits that change on the disk, a few at a time, in every kind of file of ours (fault 11)."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gancompress.checkpoint.files import load_pickle, load_tensors, save_tensors, write_atomic
from gancompress.checkpoint.run import RunFolder, read_splits
from gancompress.cli.main import main
from gancompress.demo.folder import publish
from gancompress.elastic import Subnet
from gancompress.errors import CheckpointError, ConfigError
from gancompress.hashes import check_archive, check_seal
from gancompress.runtimes import OnnxGenerator
from gancompress.search.log import TrialLog
from gancompress.search.trials import Trial
from gancompress.training.stages import _keep_teacher
from runs import load_network, search_options, write_graph, write_tiny

FLIPS = 120


def weights(folder: Path) -> Path:
    return write_tiny(folder / "weights.safetensors")


def state(folder: Path) -> Path:
    run = RunFolder(folder)
    run.save_state({"images": 8, "task": {"weight": torch.rand(300), "moments": [torch.ones(40)]}})
    return run.state


def graph(folder: Path) -> Path:
    return write_graph(folder / "tiny.onnx", '{"stride": 2}')


def image_of(path: Path) -> Any:
    """What a graph makes of a fixed image."""
    x = np.linspace(-1, 1, 3 * 8 * 8, dtype=np.float32).reshape(1, 3, 8, 8)
    return OnnxGenerator(path, 1).translate(x).tolist()


def same(one: Any, other: Any) -> bool:
    """Whether nested containers hold equal tensors and values."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def flipped(content: bytes, rng: random.Random) -> bytes:
    """The content with one bit turned."""
    changed = bytearray(content)
    changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(changed)


@pytest.mark.parametrize(
    ("write", "read"),
    [(weights, load_tensors), (state, load_pickle), (graph, image_of)],
    ids=["weights", "state", "graph"],
)
def test_fault_11_no_flipped_bit_changes_what_is_loaded(
    write: Callable[[Path], Path],
    read: Callable[[Path], Any],
    tmp_path: Path,
    rng: random.Random,
) -> None:
    file = write(tmp_path)
    content, expected = file.read_bytes(), read(file)
    messages = []
    for _ in range(FLIPS):
        file.write_bytes(flipped(content, rng))
        try:
            assert same(read(file), expected)
        except CheckpointError as error:
            messages.append(str(error))
    assert len(messages) > FLIPS / 2
    assert all(str(file) in message for message in messages)


def test_fault_11_damage_is_named_with_both_hashes(tmp_path: Path) -> None:
    file = weights(tmp_path)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights\.safetensors has changed .* SHA-256 is"):
        load_tensors(file)


def test_the_hash_is_of_the_file_and_no_part_of_the_header(tmp_path: Path) -> None:
    path = tmp_path / "tensors.safetensors"
    save_tensors(path, {"x": torch.ones(3)}, {"answer": 42})
    assert check_seal(path)
    assert load_tensors(path)[1] == {"format": 1, "answer": 42}


def test_files_without_a_hash_are_read(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "of_others.safetensors"
    save_file({"x": torch.ones(3)}, path)
    assert not check_seal(path)
    assert load_tensors(path)[0]["x"].sum() == 3


def test_archives_that_were_written_without_checksums_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"x": torch.ones(3)}, path)
    finally:
        torch.serialization.set_crc32_options(True)
    check_archive(path)
    assert load_pickle(path)["x"].sum() == 3


# -- folders --------------------------------------------------------------------------------


def finished_run(folder: Path) -> RunFolder:
    """What a finished stage leaves, without the training."""
    run = RunFolder(folder)
    weights(folder)
    write_atomic(run.config, b"stage: teacher\nrun: r\n")
    write_atomic(run.splits, b"{}")
    write_atomic(run.samples / "00000008.png", b"picture")
    run.append_log({"images": 8, "loss": 1.0})
    run.finish({"images": 8, "mae": 0.25})
    return run


def folders(root: Path) -> Path:
    """A run, a bundle, an exported file of several parts, an archive and a log of trials."""
    finished_run(root / "run")
    publish(root / "front", {"front.json": b"{}", "models/8_8.onnx": b"network"})
    (root / "export").mkdir()
    proof: dict[str, dict[str, str]] = {"sha256": {}}
    for name, content in {"net.xml": b"<net/>", "net.bin": b"\0" * 40}.items():
        (root / "export" / name).write_bytes(content)
        proof["sha256"][name] = hashlib.sha256(content).hexdigest()
    (root / "export" / "net.xml.proof.json").write_text(json.dumps(proof))
    graph(root / "export")
    state(root / "begun")
    log = TrialLog(root / "search" / "trials.jsonl", "key")
    log.append(Trial(Subnet((8, 4)), 1000, 0.5, {"mae": 0.5}, 4))
    return root


def test_a_folder_as_it_was_written_is_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders(tmp_path)
    assert main(["verify", str(tmp_path)]) == 0
    assert f"{tmp_path}: 13 files are as they were written" in capsys.readouterr().out


def test_fault_11_verify_finds_every_file_that_is_damaged_or_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders(tmp_path)
    files = [p for p in sorted(tmp_path.rglob("*")) if p.is_file() and not p.name.startswith(".")]
    for path in files:
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        assert main(["verify", str(tmp_path)]) == 2, path
        assert str(path.parent) in capsys.readouterr().err
        path.write_bytes(content)
    for name in ("run/weights.safetensors", "run/done.json", "front/front.json", "export/net.bin"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        assert main(["verify", str(tmp_path)]) == 2
        assert f"{tmp_path / name} is missing" in capsys.readouterr().err
        (tmp_path / name).write_bytes(content)
    assert main(["verify", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []


def test_files_of_which_nothing_is_known_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished_run(tmp_path / "run")
    (run.path / "notes.txt").write_text("mine")
    assert main(["verify", str(tmp_path)]) == 0
    assert f"no hash is known of {run.path / 'notes.txt'}" in capsys.readouterr().out


def test_a_list_that_leads_out_of_its_folder_is_not_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished_run(tmp_path / "run")
    (tmp_path / "other.txt").write_text("mine")
    run.list.write_text('{"../other.txt": ["00"]}')
    assert main(["verify", str(run.path)]) == 2
    assert "is outside the folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["done.json", "splits.json"])
def test_fault_11_changed_scores_and_lists_are_not_used(name: str, tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content.replace(b"8", b"9") + b" ")
    with pytest.raises(CheckpointError, match=rf"{name} has changed since it was written"):
        run.summary() if name == "done.json" else read_splits(tmp_path)


def test_a_stage_that_starts_again_forgets_the_list_of_its_files(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    options = search_options(run.path, tmp_path)
    with run.claim(options, same=False):
        assert not run.list.exists()
        assert not run.is_done


def test_fault_5_a_supernet_does_not_go_on_with_another_teacher(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    one, other = (load_network(write_tiny(tmp_path / f"{name}.safetensors")) for name in "ab")
    _keep_teacher(run, one)
    run.save_state({"images": 2, "task": {}})
    _keep_teacher(run, other)  # the same weights
    with torch.no_grad():
        next(other.module.parameters()).flatten()[0] += 1e-6
    with pytest.raises(ConfigError, match="was started with another teacher"):
        _keep_teacher(run, other)
    run.state.unlink()  # it has not begun
    _keep_teacher(run, other)
    kept = load_network(run.path / "teacher.safetensors")
    assert same(kept.module.state_dict(), other.module.state_dict())
