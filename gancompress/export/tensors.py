"""Weights as files that PyTorch loads: ours, and those of pytorch-CycleGAN-and-pix2pix."""

from __future__ import annotations

import io
from pathlib import Path

import torch

from gancompress.checkpoint.files import write_atomic
from gancompress.checkpoint.network import Network, load_network, save_network
from gancompress.data import Generator
from gancompress.export.format import Format
from gancompress.export.job import Job
from gancompress.export.rewrites import Trial


def _write_safetensors(path: Path, job: Job) -> list[Trial]:
    header = {key: value for key, value in job.header.items() if key not in ("network", "costs")}
    save_network(path, job.network.module, job.network.description, **header)
    return []


def _write_pth(path: Path, job: Job) -> list[Trial]:
    """A bare state dict, as pytorch-CycleGAN-and-pix2pix and gan-compression load it."""
    buffer = io.BytesIO()
    state = job.network.module.state_dict()
    torch.save({name: tensor.detach().cpu() for name, tensor in state.items()}, buffer)
    write_atomic(path, buffer.getvalue())
    return []


def _read(path: Path, network: Network) -> Generator:
    return load_network(path, network.description.get("module")).module


SAFETENSORS = Format(".safetensors", _write_safetensors, _read, tolerance=0.0)
PTH = Format(".pth", _write_pth, _read, tolerance=0.0)
