"""Files of ours: safetensors with a JSON header, written whole or not at all."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gancompress.errors import CheckpointError

HEADER = "gancompress"
FORMAT = 1
Json = dict[str, Any]


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that any reader sees the old content or the new, never a part.

    The bytes go to a temporary file beside it, are flushed to the disk, and then take its name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    temporary.unlink(missing_ok=True)  # in a stranger's folder it may be a link to anywhere
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


def save_tensors(path: Path, tensors: dict[str, Tensor], header: Json) -> None:
    """Write tensors and a JSON header to a safetensors file.

    Args:
        path: The file; replaced as a whole.
        tensors: Named tensors, on any device.
        header: Whatever `load_tensors` shall give back; must be JSON.
    """
    # copies: the format refuses tensors that share memory, as tied weights do
    plain = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    metadata = {HEADER: json.dumps({"format": FORMAT, **header})}
    write_atomic(path, save(plain, metadata=metadata))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], Json]:
    """Tensors and header of a safetensors file; floating tensors come back as float32.

    Raises:
        CheckpointError: The file is missing, damaged, or holds values that are not finite.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER, "{}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(f"no weights {path}") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file: {error}") from None
    try:
        content = json.loads(header)
    except json.JSONDecodeError:
        content = None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: its '{HEADER}' header is no JSON object")
    return check_finite(tensors, path), content


def check_finite(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The same tensors with floating ones as float32.

    Raises:
        CheckpointError: A value is NaN or infinite.
    """
    checked = {}
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            tensor = tensor.float()
            if not torch.isfinite(tensor).all():
                raise CheckpointError(f"{path}: {name} holds values that are not finite")
        checked[name] = tensor
    return checked


def load_pickle(path: Path) -> Any:
    """Content of a `.pth` file, tensors and plain containers only; code in it is never run.

    Raises:
        CheckpointError: The file is missing, damaged, or wants to run code.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"no weights {path}") from None
    except Exception as error:  # unpickling damaged bytes raises many types
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "weights_only" in reason:  # torch advises to run what is in the file
            reason = "damaged, or with objects that only code in the file could make"
        raise CheckpointError(f"{path}: not a readable checkpoint of tensors: {reason}") from None


def save_state(path: Path, state: Json) -> None:
    """Write a training state (nested dicts and lists of tensors and numbers) atomically."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomic(path, buffer.getvalue())
