"""Options files and `--set` overrides become checked sections; every mistake is one message."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from gancompress.config.reading import parse_yaml, read_yaml, shown
from gancompress.config.schema import CompressOptions, Section
from gancompress.errors import ConfigError
from gancompress.tables import suggest

S = TypeVar("S", bound=Section)


def load_options(kind: type[S], path: Path, overrides: list[str] | None = None) -> S:
    """Read an options file.

    Args:
        kind: The stage's section class.
        path: A YAML file.
        overrides: `a.b=c` texts that replace values; `c` is read as YAML.

    Raises:
        ConfigError: The file is missing or malformed, a key is unknown, or a value is out of range.
    """
    return build(kind, _read_mapping(path), str(path), overrides)


def load_compression(path: Path, overrides: list[str] | None = None) -> CompressOptions:
    """Read the options of all stages, each in a section or in a file of its own.

    Args:
        path: A YAML file.
        overrides: As for `load_options`; `stage=FILE` names the file of a stage.

    Raises:
        ConfigError: As for `load_options`, of any of the files.
    """
    raw, inner = _read_mapping(path), []
    for text in overrides or []:
        if "." in text.partition("=")[0]:
            inner.append(text)
        else:
            override(raw, text)
    for stage in ("teacher", "supernet", "search"):
        file = raw.get(stage)
        if isinstance(file, str):
            raw[stage] = _read_mapping(path.parent / file)
    return build(CompressOptions, raw, str(path), inner)


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        raw = read_yaml(path)
    except FileNotFoundError:
        raise ConfigError(f"no options file {path}") from None
    return as_mapping(raw, str(path))


def as_mapping(raw: Any, source: str) -> dict[str, Any]:
    """What was read, if it is a mapping.

    Raises:
        ConfigError: It is something else.
    """
    if not isinstance(raw, dict):
        raise ConfigError(f"{source}: options are a mapping of keys, not {shown(raw)}")
    return raw


def build(kind: type[S], raw: Any, source: str, overrides: list[str] | None = None) -> S:
    """Check a raw mapping against a section class; `source` names it in errors.

    Raises:
        ConfigError: It is no mapping, a key is unknown, or a value is out of range.
    """
    raw = as_mapping(raw, source)
    for text in overrides or []:
        override(raw, text)
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(_explain(kind, error, source)) from None
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def dump_options(options: Section) -> str:
    """The resolved options as YAML text."""
    return yaml.safe_dump(options.model_dump(mode="json"), sort_keys=False)


class Change(NamedTuple):
    """A value that differs between two resolved options."""

    key: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.key}: {self.before} -> {self.after}"


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[Change]:
    """Every value that differs between two resolved options, with keys such as `data.root`."""
    changes = []
    for key in dict.fromkeys([*old, *new]):
        name, before, after = f"{prefix}{key}", old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            changes += differences(before, after, f"{name}.")
        elif before != after:
            changes.append(Change(name, before, after))
    return changes


def override(raw: dict[str, Any], text: str) -> None:
    """Replace one value of a mapping, as `a.b=c` says.

    Raises:
        ConfigError: The text is malformed, or `a` is a value.
    """
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set takes key=value, not '{text}'")
    *sections, last = key.split(".")
    target = raw
    for section in sections:
        inner = target.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {text}: '{section}' is a value, not a section")
        target = inner
    target[last] = parse_yaml(value, f"--set {key}")


def _explain(kind: type[BaseModel], error: ValidationError, source: str) -> str:
    lines = []
    for problem in error.errors():
        path = [str(part) for part in problem["loc"]]
        key = ".".join(path)
        if problem["type"] == "extra_forbidden":
            known = _keys_beside(kind, path)
            hint = suggest(path[-1], known)
            if hint:
                parent = ".".join(path[:-1])
                hint = hint.replace("'", f"'{parent}." if parent else "'", 1)
            lines.append(f"{source}: unknown key '{key}'{hint}")
        elif problem["type"] == "missing":
            lines.append(f"{source}: '{key}' is required")
        else:
            lines.append(f"{source}: {key}: {problem['msg']}, got {shown(problem['input'])}")
    return "\n".join(lines)


def _keys_beside(kind: type[BaseModel], path: list[str]) -> list[str]:
    for part in path[:-1]:
        field = kind.model_fields.get(part)
        if field is None:
            return []
        options = [field.annotation, *get_args(field.annotation)]
        inner = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
        if not inner:
            return []
        kind = inner[0]
    return list(kind.model_fields)
