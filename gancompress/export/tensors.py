"""Weights as files that PyTorch loads: ours, and those of pytorch-CycleGAN-and-pix2pix."""

from __future__ import annotations

import io
from pathlib import Path

import torch

from gancompress.checkpoint.files import write_atomic
from gancompress.checkpoint.foreign import load_foreign
from gancompress.checkpoint.network import Network, build_network, load_network, save_network
from gancompress.data import Generator
from gancompress.elastic import fit
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


def _read_safetensors(path: Path, network: Network) -> Generator:
    return load_network(path, network.description.get("module")).module


def _read_pth(path: Path, network: Network) -> Generator:
    module = build_network(network.description, str(path)).module
    fit(module, load_foreign(path), network.example_shape)
    return module.eval()


SAFETENSORS = Format(".safetensors", _write_safetensors, _read_safetensors, tolerance=0.0)
PTH = Format(".pth", _write_pth, _read_pth, tolerance=0.0)
