"""What trials were measured with: the key of their lines in a log.

A key is text, `name=value` for each part. Nothing in it is computed by a network: processors of
another make round otherwise, which moves a few pixels by a grey level, and their trials do go
together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from gancompress.data import ImageSet
from gancompress.data.hashing import file_digests
from gancompress.search.evaluator import Evaluator

CODE_VERSION = 5  # raised when the same images would get other scores
_SEPARATOR = "; "


def measured_with(evaluator: Evaluator) -> str:
    """The key of an evaluator's trials."""
    images = {"inputs": evaluator.inputs}
    if evaluator.truth is not None:
        images["truth"] = evaluator.truth
    images |= {f"calibration {index}": x for index, x in enumerate(evaluator.calibration)}
    parts = {
        "code": str(CODE_VERSION),
        "weights": _digest(evaluator.net.generator.state_dict()),
        "teacher": _digest(_state(evaluator.teacher)),
        "images": _digest(images, *_contents(evaluator)),
        "metric": evaluator.quality.digest.strip(),
        "runtime": evaluator.runtime,
    }
    return _SEPARATOR.join(f"{name}={value}" for name, value in parts.items())


def differences(ours: str, theirs: str) -> list[str]:
    """Which parts of two keys differ, in words; runtimes are named."""
    here, there = _parts(ours), _parts(theirs)
    if here.keys() != there.keys() or here.get("code") != there.get("code"):
        return ["code"]
    found = [name for name in here if here[name] != there[name]]
    return [
        f"runtime ({there[name]}, here {here[name]})" if name == "runtime" else name
        for name in found
    ]


def _parts(key: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in key.split(_SEPARATOR))
    return {name: value for name, _, value in pairs}


def _digest(tensors: Mapping[str, Tensor], *texts: str) -> str:
    digest = hashlib.sha256("\n".join(texts).encode())
    for name, tensor in tensors.items():
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _state(teacher: Any) -> dict[str, Tensor]:
    return teacher.state_dict() if isinstance(teacher, nn.Module) else {}


def _contents(evaluator: Evaluator) -> list[str]:
    """Digests of the real images' files, where the score compares with these."""
    targets: ImageSet | None = evaluator.targets
    if targets is None or not evaluator.quality.is_distance:
        return []
    digests = targets.digests or file_digests(targets.files)
    return [f"{targets.size} {targets.half}", *sorted(digests)]
