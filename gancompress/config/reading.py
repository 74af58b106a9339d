"""YAML and JSON from files that may be damaged or a stranger's: plain content or one message."""

from __future__ import annotations

import json
import os
import reprlib
from pathlib import Path
from typing import Any

import yaml

from gancompress.errors import ConfigError

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxother, _SHORT.maxstring = 2, 80, 80


def read_yaml(path: Path) -> Any:
    """Content of a YAML file.

    Raises:
        ConfigError: It cannot be read.
        FileNotFoundError: There is none.
    """
    return parse_yaml(_text(path, "YAML"), str(path))


def parse_yaml(text: str, source: str) -> Any:
    """Content of a YAML text; `source` is what errors call it.

    Raises:
        ConfigError: It is malformed, or holds a text that no name of a file can have.
    """
    try:
        content = yaml.safe_load(text)
    except Exception as error:  # what a malformed date, number or nesting raises is up to Python
        raise ConfigError(f"{source}: not readable as YAML: {error}") from None
    _refuse_odd_texts(content, source)
    return content


def read_json(path: Path) -> Any:
    """Content of a JSON file.

    Raises:
        ConfigError: It cannot be read.
        FileNotFoundError: There is none.
    """
    try:
        return json.loads(_text(path, "JSON"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not readable as JSON: {error}") from None


def _text(path: Path, language: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as {language}: {error}") from None


def shown(value: object) -> str:
    """A value for an error, cut short; of any size, and it may contain itself."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python writes no decimal number of thousands of digits
        return "a huge number"


def _refuse_odd_texts(content: Any, source: str) -> None:
    waiting, seen = [("", content)], set[int]()
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, str):
            try:
                odd = b"\0" in os.fsencode(value)
            except UnicodeEncodeError:
                odd = True
            if odd:
                raise ConfigError(f"{source}: {key}: impossible characters in {shown(value)}")
        elif isinstance(value, dict | list) and id(value) not in seen:
            seen.add(id(value))
            items = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += [(f"{key}.{name}".lstrip("."), inner) for name, inner in items]
