"""One line on one's own data: what is derived from a folder and a teacher."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import make_paired, make_unpaired, picture, write_image
from safetensors.torch import load_file
from torch import nn

from gancompress.checkpoint.network import save_network
from gancompress.checkpoint.run import RunFolder
from gancompress.cli.main import main
from gancompress.config import load_compression
from gancompress.errors import CheckpointError, ConfigError, DataError
from gancompress.pipeline import compression
from gancompress.pipeline.derive import PRESETS, derive_compression, look_at
from runs import Crash, crash, write_teacher


def make_inputs(root: Path, count: int = 8, size: int = 32) -> Path:
    """A folder of images and nothing else."""
    for index in range(count):
        write_image(root / f"{index}.png", picture(index, size))
    return root


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A generator as pytorch-CycleGAN-and-pix2pix stores it."""
    tensors = load_file(write_teacher(tmp_path / "own.safetensors"))
    torch.save(tensors, tmp_path / "latest_net_G.pth")
    return tmp_path / "latest_net_G.pth"


def test_kind_count_and_size_are_read_from_the_folder(tmp_path: Path) -> None:
    found = look_at(make_paired(tmp_path / "pairs", 6, 48))
    assert (found.mode, found.count, found.side) == ("paired", 6, 48)
    found = look_at(make_paired(tmp_path / "two", 6, 48, folders=("{}A", "{}B")))
    assert (found.mode, found.count, found.side) == ("paired", 6, 48)
    found = look_at(make_unpaired(tmp_path / "sets", 6, 9, 40))
    assert (found.mode, found.count, found.side) == ("unpaired", 9, 40)
    found = look_at(make_inputs(tmp_path / "photos", 5, 40))
    assert (found.mode, found.count, found.side) == ("inputs", 5, 40)


def test_images_that_are_no_pairs_are_refused(tmp_path: Path) -> None:
    make_inputs(tmp_path / "data" / "train")
    with pytest.raises(DataError, match=r"train/0\.png is 32x32, which is not a side-by-side pair"):
        look_at(tmp_path / "data")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no data of a known kind\n  unpaired: trainA"):
        look_at(tmp_path / "empty")


def test_options_of_all_stages_follow_from_data_and_teacher(
    tmp_path: Path, checkpoint: Path
) -> None:
    root = make_paired(tmp_path / "mine", 6, 50)
    overrides = ["data.direction=BtoA", "search.budgets=[4M]", f"run={tmp_path / 'out'}"]
    options = derive_compression(root, checkpoint, "standard", 3, overrides)
    assert options.teacher is None
    assert options.supernet.teacher.weights == checkpoint
    data = options.supernet.data
    assert (data.mode, data.direction, data.crop_size) == ("paired", "BtoA", 48)
    assert data.load_size > data.crop_size
    assert options.supernet.schedule.total_images == 3 * 6
    assert options.search.budgets == ("4M",)
    assert {options.supernet.run.parent, options.search.run.parent} == {tmp_path / "out"}
    trained = derive_compression(root, preset="quick")
    assert trained.run == Path("runs/mine")
    assert trained.teacher is not None
    assert trained.teacher.data == trained.supernet.data
    assert trained.supernet.teacher.weights == trained.teacher.run
    assert trained.supernet.schedule.total_images == PRESETS["quick"].num_images


def test_files_that_are_no_images_do_not_count(tmp_path: Path) -> None:
    root = make_paired(tmp_path / "two", 6, 48, folders=("{}A", "{}B"))
    (root / "trainA" / ".DS_Store").touch()
    assert look_at(root).mode == "paired"
    assert look_at(root, "unpaired").mode == "unpaired"


def test_losses_are_those_of_the_kind_of_data_that_is_asked_for(tmp_path: Path) -> None:
    root = make_paired(tmp_path / "two", 6, 48, folders=("{}A", "{}B"))
    options = derive_compression(root, overrides=["data.mode=unpaired"])
    assert options.supernet.loss.gan_mode == "lsgan"
    options = derive_compression(root, overrides=["supernet.loss.lambda_recon=7"])
    assert (options.supernet.loss.gan_mode, options.supernet.loss.lambda_recon) == ("hinge", 7)


def test_arrays_are_measured(tmp_path: Path) -> None:
    for side in ("trainA", "trainB"):
        (tmp_path / side).mkdir()
        for index in range(3):
            np.save(tmp_path / side / f"{index}.npy", np.zeros((24, 40, 6), np.uint8))
    found = look_at(tmp_path)
    assert (found.mode, found.count, found.side) == ("paired", 3, 24)


def narrow() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1))


def test_teacher_is_built_by_the_factory_that_the_user_names(tmp_path: Path) -> None:
    root, file, name = make_paired(tmp_path / "data"), tmp_path / "t.safetensors", "moved:make"
    save_network(file, narrow(), {"module": name})
    with pytest.raises(CheckpointError, match="asks for the function 'moved:make'"):
        derive_compression(root, file)
    mine = f"{__name__}:narrow"
    assert derive_compression(root, file, trusted=[mine]).supernet.teacher.weights == file
    options = derive_compression(root, file, overrides=[f"supernet.teacher.module={mine}"])
    assert (options.supernet.teacher.weights, options.supernet.teacher.module) == (file, mine)


def test_a_teacher_needs_both_domains(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name one with --teacher"):
        derive_compression(make_inputs(tmp_path / "photos"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset", "quik"], "unknown preset 'quik'; did you mean 'quick'?"),
        (["--epochs", "0"], "--epochs must be at least 1, not 0"),
        (["--teacher", "none.pth"], "none.pth"),
        (["--set", "data=null"], "data"),
        (["--set", "supernet=3"], "supernet"),
    ],
)
def test_mistake_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    root = make_paired(tmp_path / "data")
    assert main(["compress", str(root), *flags]) == 2
    assert message in capsys.readouterr().err


def test_flags_of_a_folder_are_refused_for_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compress", str(tmp_path / "a.yaml"), "--preset", "quick"]) == 2
    assert "--preset needs a data folder" in capsys.readouterr().err


def test_refused_compression_leaves_the_options_of_the_one_that_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = [make_paired(tmp_path / name / "images", 6) for name in "ab"]
    run = tmp_path / "run"
    first, second = (derive_compression(root, overrides=[f"run={run}"]) for root in roots)
    monkeypatch.setattr(compression, "preflight", lambda *_: None)
    with monkeypatch.context() as patch:
        patch.setattr(compression, "train_teacher", lambda *_: crash())
        with pytest.raises(Crash):
            compression.compress(first)
    assert load_compression(run / "options.yaml") == first
    RunFolder(run / "teacher").save_state({"images": 1})
    with pytest.raises(ConfigError, match="was started with other options"):
        compression.compress(second)
    assert load_compression(run / "options.yaml") == first


@pytest.mark.slow
def test_photos_and_a_checkpoint_become_a_small_generator_in_one_line(
    tmp_path: Path, checkpoint: Path
) -> None:
    root, run = make_inputs(tmp_path / "photos", 24), tmp_path / "run"
    short = [f"search.{text}" for text in ("num_trials=3", "searcher.generation=2")]
    sets = [word for text in (*short, "export=[safetensors]") for word in ("--set", text)]
    flags = ("--teacher", checkpoint, "--preset", "quick", "--epochs", 1, "--run", run)
    assert main(["compress", str(root), *map(str, flags), "--macs", "12M", *sets]) == 0
    assert list((run / "export").glob("*.safetensors"))
    assert (run / "report.html").is_file()
    assert load_compression(run / "options.yaml").supernet.data.mode == "inputs"
