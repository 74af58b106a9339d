"""`gancompress verify`: whether files are those that were written, by all hashes that are known."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from gancompress.cli.context import Context, existing
from gancompress.errors import CheckpointError, ConfigError
from gancompress.hashes import (
    LIST,
    PROOF,
    check_archive,
    check_hashes,
    check_proof,
    check_seal,
    read_list,
)
from gancompress.paths import inside
from gancompress.search.log import TRIALS_FILE, damaged_lines


def run_verify(context: Context) -> None:
    """Compare every file of a folder with the hashes that lists, proofs and files hold."""
    folder = existing(context.args.folder, "folder")
    if not folder.is_dir():
        raise ConfigError(f"{folder} is a file; name the folder that it is in")
    checked, problems = set[Path](), []
    for path, problem in _findings(folder):
        checked.add(path)
        if problem is not None:
            problems.append(problem)
    others = [path for path in _files(folder) if path not in checked and not _is_hidden(path)]
    for path in others:
        context.say(f"no hash is known of {path}")
    context.result({"checked": len(checked), "unknown": len(others), "problems": problems})
    if problems:
        raise CheckpointError("\n".join(problems))
    context.say(f"{folder}: {len(checked)} files are as they were written")


def _files(folder: Path) -> list[Path]:
    """All files below a folder; nothing is followed out of it."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name == LIST or path.name.endswith(PROOF)


def _findings(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """Every file of which something is known, and what is wrong with it."""
    for path in _files(folder):
        try:
            if path.name == LIST:
                yield from _listed(path)
            elif path.name.endswith(PROOF):
                proven = check_proof(path.with_name(path.name.removesuffix(PROOF)))
                yield from ((file, None) for file in proven)
            elif _check_own(path):
                yield path, None
        except (CheckpointError, ConfigError, OSError, ValueError, zipfile.BadZipFile) as error:
            yield path, str(error) if str(path.parent) in str(error) else f"{path}: {error}"


def _listed(path: Path) -> Iterator[tuple[Path, str | None]]:
    for name, accepted in read_list(path).items():
        file = inside(path.parent, name)
        try:
            check_hashes(file, accepted)
        except CheckpointError as error:
            yield file, str(error)
        else:
            yield file, None


def _check_own(path: Path) -> bool:
    """Compare a file with hashes of its own, if it has any."""
    if path.suffix in (".safetensors", ".onnx"):
        return check_seal(path)
    if path.suffix in (".pt", ".pth", ".pt2") and zipfile.is_zipfile(path):
        check_archive(path)
        return True
    if path.name == TRIALS_FILE:
        damaged = damaged_lines(path)
        if damaged:
            raise CheckpointError(f"{path}: {damaged} lines are damaged; the others are used")
        return True
    return False
