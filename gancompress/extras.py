"""Packages that an extra of this one brings, imported when they are needed."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from gancompress.errors import ConfigError


def require(module: str, extra: str) -> ModuleType:
    """The module, imported now.

    Raises:
        ConfigError: It is not installed; the message names the extra that brings it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"the package {module} cannot be imported: {error}\n"
            f"  `pip install 'gancompress[{extra}]'` brings it."
        ) from None
