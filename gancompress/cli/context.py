"""What all commands share: flags, output, device."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gancompress.errors import ConfigError
from gancompress.paths import FACTORY

if TYPE_CHECKING:
    import torch

    from gancompress.checkpoint.resolve import Model


@dataclass
class Context:
    """One call of the program.

    Attributes:
        args: Parsed flags.
        device: Where to compute.
    """

    args: argparse.Namespace
    device: torch.device

    def say(self, text: str) -> None:
        """Print for people; silent under `--json`."""
        if not self.args.json and speaks():
            print(text, flush=True)

    def suggest(self, *words: str | Path) -> None:
        """Print the command that a user is likely to want next."""
        self.say(f"next: {shlex.join(['gancompress', *map(str, words)])}")

    def result(self, content: dict[str, Any]) -> None:
        """The one JSON object on standard output under `--json`."""
        if self.args.json and speaks():
            print(json.dumps(content), flush=True)

    def overrides(self) -> list[str]:
        """`--set` texts, with `--seed` among them."""
        texts = list(self.args.set)
        if self.args.seed is not None:
            texts.append(f"seed={self.args.seed}")
        return texts


def speaks() -> bool:
    """Whether this process may print: of all ranks that `torchrun` starts only the first."""
    return os.environ.get("RANK", "0") == "0"


def check_modules(args: argparse.Namespace) -> None:
    """Refuse what cannot be the name of a function, whether or not a file asks for it.

    Raises:
        ConfigError: A `--module` is malformed.
    """
    for name in getattr(args, "module", []):
        if not FACTORY.fullmatch(name):
            raise ConfigError(f"--module '{name}' is not a factory; write package.module:factory")


RANGES = {
    "port": (0, 65_535),
    "seed": (0, 2**63 - 1),
    "size": (1, 16_384),
    "ngf": (1, 4096),
    "threads": (1, 1024),
    "workers": (1, 1024),
    "batch_size": (1, 65_536),
}
"""What flags with a number take; others 1 to 2147483647."""


def check_numbers(args: argparse.Namespace) -> None:
    """Refuse numbers that are out of range, whatever the command would do with them.

    Raises:
        ConfigError: One is.
    """
    for name, value in vars(args).items():
        low, high = RANGES.get(name, (1, 2**31 - 1))
        if isinstance(value, int) and not isinstance(value, bool) and not low <= value <= high:
            bound = f"at least {low}" if value < low else f"at most {high}"
            raise ConfigError(f"--{name.replace('_', '-')} must be {bound}, not {value}")


def model_of(args: argparse.Namespace) -> Model:
    """MODEL and the flags that belong to it.

    The first `--module` is for tensors that ask for nothing.
    """
    from gancompress.checkpoint.resolve import Model  # imports PyTorch

    factory, subnet = next(iter(args.module), None), getattr(args, "subnet", None)
    return Model(args.model, subnet, factory, args.module, getattr(args, "allow_code", False))


def warn(text: str) -> None:
    """A line on standard error."""
    print(text, file=sys.stderr, flush=True)


def existing(path: Path, what: str) -> Path:
    """The path if it exists.

    Raises:
        ConfigError: It does not.
    """
    if not path.exists():
        raise ConfigError(f"no {what} {path}")
    return path
