"""Files of ours: safetensors with a JSON header, written whole or not at all."""

from __future__ import annotations

import io
import json
import os
import pickletools
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gancompress.errors import CheckpointError
from gancompress.hashes import ROOM, SEAL, check_archive, check_seal, sealed
from gancompress.headers import check_header
from gancompress.paths import sync_folder

HEADER = "gancompress"
FORMAT = 1
Json = dict[str, Any]

# of a file of weights; the largest generators have a few thousand tensors
MAX_TENSORS = 20_000
OTHER_PARTS = 100  # of an archive; PyTorch writes half a dozen that are no tensors
MAX_TEXT = 8 << 20  # bytes that say what the tensors are
MAX_OPCODES = 1_000_000  # of the pickle in a file from before PyTorch 1.6; a tensor takes about 30
EXPANSION = 4  # tensors that share memory: how much more they may be than the file has bytes


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
        sync_folder(path.parent)
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
    metadata = {HEADER: json.dumps({SEAL: ROOM, "format": FORMAT, **header})}
    write_atomic(path, sealed(save(plain, metadata=metadata)))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], Json]:
    """Tensors and header of a safetensors file; floating tensors come back as float32.

    Raises:
        CheckpointError: The file is missing, damaged, has other content than was written, or holds
            values that are not finite.
    """
    try:
        with open(path, "rb") as raw:
            size = int.from_bytes(raw.read(8), "little")
        if MAX_TEXT < size <= path.stat().st_size:  # what is longer than the file is damaged
            raise CheckpointError(f"{path}: a header of {size} bytes; {MAX_TEXT} are the most")
        check_seal(path)
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(HEADER, "{}")
            names = list(file.keys())
            _refuse_many(len(names), path)
            tensors = {name: file.get_tensor(name) for name in names}
    except FileNotFoundError:
        raise CheckpointError(f"no weights {path}") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file: {error}") from None
    try:
        content = json.loads(header)
    except (ValueError, RecursionError):
        content = None
    content = check_header(content, path)
    content.pop(SEAL, None)
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

    Neither reading it nor copying its tensors takes much more memory than the file is long.

    Raises:
        CheckpointError: The file is missing, damaged, wants to run code, or is far larger in memory
            than on the disk.
    """
    try:
        _refuse_inflated_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError(f"no weights {path}") from None
    except Exception as error:  # unpickling damaged bytes raises many types
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "weights_only" in str(error) or "Weights only" in reason:
            reason = _why_unread(str(error))  # torch advises to run what is in the file
        raise CheckpointError(f"{path}: not a readable checkpoint of tensors: {reason}") from None
    _refuse_inflated_tensors(content, path)
    return content


def _why_unread(said: str) -> str:
    """What a file holds instead of tensors, by PyTorch's error."""
    found = re.search(r"GLOBAL ([\w.]+)", said)
    if found is None:
        return "damaged, or with objects that only code in the file could make"
    return (
        f"it holds objects of {found[1]}, which only code could make, as a whole module does that "
        "was saved with torch.save(net)\n"
        "  Save the tensors alone, where that class is: torch.save(net.state_dict(), 'net.pth')."
    )


def _refuse_many(count: int, path: Path) -> None:
    if count > MAX_TENSORS:
        raise CheckpointError(f"{path}: {count} tensors; {MAX_TENSORS} are the most")


def _refuse_inflated_archive(path: Path) -> None:
    """Raise where parts of a file will be larger in memory than on the disk; none is read."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        directory = _directory_size(file, size)
        if directory is None:
            _refuse_long_pickle(file, path)
            return
        # some 100 bytes for each part; the directory is read whole before it can be counted
        if directory > MAX_TEXT:
            raise CheckpointError(
                f"{path}: a directory of {directory} bytes; {MAX_TEXT} are the most"
            )
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
    _refuse_many(len(parts) - OTHER_PARTS, path)
    if any(part.filename.endswith("/constants.pkl") for part in parts):
        raise CheckpointError(
            f"{path}: not a readable checkpoint of tensors: a TorchScript program, which is code\n"
            "  Save its tensors alone: torch.save(torch.jit.load(FILE).state_dict(), 'net.pth')."
        )
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise CheckpointError(
            f"{path}: its parts are compressed, which PyTorch never does\n"
            "  Save it again with torch.save."
        )
    if sum(part.file_size for part in parts) > size:
        raise CheckpointError(f"{path}: its parts are larger than the file")
    if any(part.filename.endswith("data.pkl") and part.file_size > MAX_TEXT for part in parts):
        raise CheckpointError(f"{path}: its data.pkl is above {MAX_TEXT} bytes")
    check_archive(path)


def _directory_size(file: BinaryIO, size: int) -> int | None:
    """Bytes of a zip file's directory; None for what is no zip file.

    Source: APPNOTE.TXT of the ZIP format, 4.3.14 to 4.3.16.
    """
    file.seek(0)
    if file.read(4) != b"PK\3\4":  # PyTorch tells the two kinds of files apart so
        return None
    file.seek(max(0, size - (1 << 16) - 22))
    tail = file.read()
    end = tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) < end + 22:
        return 0  # damaged: reading it will say so
    directory: int = struct.unpack_from("<I", tail, end + 12)[0]
    wide = tail.rfind(b"PK\6\6", 0, end)
    if directory == 0xFFFFFFFF and 0 <= wide <= len(tail) - 48:
        directory = struct.unpack_from("<Q", tail, wide + 40)[0]
    return directory


def _refuse_long_pickle(file: BinaryIO, path: Path) -> None:
    """Raise where the pickles in a file of PyTorch before 1.6 would make too many objects."""
    file.seek(0)
    count = 0
    try:
        for _ in range(5):  # magic number, version, machine, content, names of the storages
            for _ in pickletools.genops(file):
                count += 1
                if count > MAX_OPCODES:
                    raise CheckpointError(f"{path}: a pickle of more than {MAX_OPCODES} steps")
    except ValueError:
        pass  # no pickle, or a damaged one: reading it will say so


def _refuse_inflated_tensors(content: Any, path: Path) -> None:
    """Raise where tensors repeat or invent memory, as expanded, sparse and meta ones do."""
    limit = EXPANSION * path.stat().st_size
    seen: set[int] = set()
    waiting = [content]
    count = total = 0
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):  # counted as often as it is named: copies will be made
            count, total = count + 1, total + value.numel() * value.element_size()
            _refuse_many(count, path)
            plain = value.layout == torch.strided and value.device.type == "cpu"
            if not plain or value.is_quantized:
                raise CheckpointError(f"{path} holds tensors that are sparse, quantised or empty")
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise CheckpointError(
                    f"{path}: a tensor of shape {tuple(value.shape)} repeats itself"
                )
            if total > limit:
                raise CheckpointError(f"{path}: its tensors are far larger than the file")
        elif isinstance(value, Mapping | list | tuple | set) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, Mapping) else value


def save_state(path: Path, state: Json) -> None:
    """Write a training state (nested dicts and lists of tensors and numbers) atomically."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomic(path, buffer.getvalue())
