"""Fixtures that many tests use."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
import toy_data  # noqa: F401  # registers its entries before tests loop over the tables
import toy_terms  # noqa: F401
import toys  # noqa: F401
from helpers import make_paired, make_unpaired
from pages import browser as browser
from pages import visit as visit

import gancompress  # noqa: F401  # before any runtime: it keeps them from reporting to anybody

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is driven in a browser, which wants the processors to itself."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.page)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Modules built in a test have the same weights in every run."""
    torch.manual_seed(0)


@pytest.fixture
def rng() -> random.Random:
    """A seeded source of subnets."""
    return random.Random(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of published weights and data beside the repository."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder shared/ beside the repository (published weights and data)")
    return SHARED


@pytest.fixture
def paired(tmp_path: Path) -> Path:
    """A paired data set: 8 train, 4 search and 4 test images of 64x32."""
    return make_paired(tmp_path / "paired")


@pytest.fixture
def two_folders(tmp_path: Path) -> Path:
    """The images of `paired`, in trainA/ trainB/ searchA/ searchB/ testA/ testB/."""
    return make_paired(tmp_path / "two_folders", folders=("{}A", "{}B"))


@pytest.fixture
def unpaired(tmp_path: Path) -> Path:
    """An unpaired data set without search folders: 8 train and 4 test images a side, 32x32."""
    return make_unpaired(tmp_path / "unpaired")
