"""A family and a discriminator that `toys` registers go the whole way, like the built-in ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import make_paired
from toys import ToyDiscriminator, ToyGenerator

from gancompress.checkpoint.network import load_discriminator, load_network, load_supernet
from gancompress.cli.main import main
from gancompress.config import DiscriminatorOptions
from gancompress.models import compared_layers
from runs import write_compress

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compression of a toy teacher: two trainings, a search, two formats of file."""
    folder = tmp_path_factory.mktemp("toys")
    options = write_compress(
        folder,
        make_paired(folder / "data", 32),
        "teacher.generator={name: toy, ngf: 8, depth: 3}",
        "teacher.discriminator={name: toy, ndf: 8}",
        "supernet.loss.terms={discriminator: 1.0}",
        "search.budgets=[0.7M]",
    )
    assert main(["compress", str(options), "--device", "cpu"]) == 0
    return folder / "run"


def test_toy_is_trained_distilled_searched_and_exported(run: Path) -> None:
    teacher = load_network(run / "teacher")
    assert isinstance(teacher.module, ToyGenerator)
    assert teacher.description["generator"]["depth"] == 3
    assert teacher.stride == 2
    net, _ = load_supernet(run / "supernet")
    assert [d.members for d in net.space.dimensions] == [
        ("down.0",),
        ("inner.0.0", "inner.1.0", "inner.2.0"),
    ]
    (exported,) = (run / "export").glob("*.safetensors")
    assert (run / "export" / exported.name).with_suffix(".onnx").exists()
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    small = load_network(exported).module
    with torch.inference_mode():
        assert torch.equal(small(x), net.eval()(x, net.space.parse(exported.stem)))


def test_toy_discriminator_is_kept_with_its_teacher(run: Path) -> None:
    judge = load_discriminator(run / "teacher" / "discriminator.safetensors")
    assert isinstance(judge.module, ToyDiscriminator)
    assert judge.options == DiscriminatorOptions(name="toy", ndf=8)
    assert compared_layers(judge.module) == ["inner"]
