"""Bits that change on the disk, a few at a time, in every kind of file of ours (fault 11)."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gancompress.checkpoint.files import load_pickle, load_tensors, save_tensors
from gancompress.checkpoint.run import RunFolder
from gancompress.errors import CheckpointError
from gancompress.export.onnx import onnx_model, write_onnx
from gancompress.hashes import check_archive, check_seal
from gancompress.runtimes import OnnxGenerator
from runs import tiny_generator, write_tiny

FLIPS = 120


def weights(folder: Path) -> Path:
    return write_tiny(folder / "weights.safetensors")


def state(folder: Path) -> Path:
    run = RunFolder(folder)
    run.save_state({"images": 8, "task": {"weight": torch.rand(300), "moments": [torch.ones(40)]}})
    return run.state


def graph(folder: Path) -> Path:
    path = folder / "tiny.onnx"
    write_onnx(path, onnx_model(tiny_generator().eval(), (1, 3, 32, 32), 2, {"stride": 2}))
    return path


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
