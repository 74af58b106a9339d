"""MODEL of every command and of `load_generator`: from what a user names to what computes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from gancompress.checkpoint.models import load_model, run_stage, supernet_of
from gancompress.checkpoint.network import Network, as_supernet, load_network
from gancompress.elastic import Supernet
from gancompress.errors import ConfigError
from gancompress.runtimes import FILES, FileGenerator


@dataclass(frozen=True)
class Model:
    """What a user says of one MODEL.

    Attributes:
        path: A run folder of any stage, a checkpoint of ours or of anyone's (`.safetensors`,
            `.pth`), or an exported file (a suffix of `FILES`).
        subnet: Config string of a subnet of a supernet or search; by default the largest of a
            supernet, and of a search the best under its smallest budget.
        factory: `package.module:factory` for the tensors of a network that is not ours.
        trusted: Further factories, for files that ask for one; a file alone has none imported.
        allow_code: Whether the maker of a `.pt2` file is trusted: reading it can run any code.
    """

    path: Path
    subnet: str | None = None
    factory: str | None = None
    trusted: Collection[str] = ()
    allow_code: bool = False

    @property
    def is_exported(self) -> bool:
        """Whether it is a file that runs by itself."""
        return self.path.suffix in FILES and self.path.is_file()

    def open(self, threads: int | None = None, calibrate: bool = True) -> Network | FileGenerator:
        """The generator; the header of either names the subnet that was taken, if there is any.

        Args:
            threads: Of an exported file's computation; the runtime's choice by default.
            calibrate: Give a subnet batch statistics of its own; costs need none.

        Raises:
            CheckpointError: The weights cannot be used; or code would have to be run that nobody
                has allowed.
            ConfigError: There is no such model, or the subnet or factory is not for it.
            SpaceError: The subnet does not belong to the supernet.
        """
        if not self.path.exists():
            raise ConfigError(f"no model {self.path}")
        if not self.is_exported:
            return load_model(self.path, self.subnet, self.factory, calibrate, self.trusted)
        if self.subnet is not None or self.factory is not None:
            raise ConfigError(f"{self.path} contains one network; omit --subnet and --module")
        return FILES[self.path.suffix](self.path, threads, self.allow_code)

    def stored(self) -> Network:
        """What the run or checkpoint holds: a supernet as a whole, where `open` gives one subnet.

        Raises:
            CheckpointError: The weights cannot be used.
            ConfigError: There is no such model, or it is an exported file.
        """
        self.refuse_exported()
        if not self.path.exists():
            raise ConfigError(f"no model {self.path}")
        return load_network(self.path, self.factory, trusted=self.trusted)

    def supernet(self) -> tuple[Supernet, Network, Path]:
        """The supernet of a supernet, search or finetune; what its file says; its run folder.

        Raises:
            CheckpointError: There is none, or its weights cannot be used.
            ConfigError: There is no such model, or its folder is damaged.
        """
        derived = run_stage(self.path) in ("search", "finetune")
        folder = supernet_of(self.path) if derived else self.path
        network = Model(folder, None, None, self.trusted).stored()
        return as_supernet(network), network, folder

    def refuse_exported(self) -> None:
        """Raise for a file that has no weights to take out.

        Raises:
            ConfigError: It is an exported file.
        """
        if self.is_exported:
            raise ConfigError(
                f"{self.path} is an exported file; name the run or checkpoint that it was made of"
            )

    def network(self) -> Network:
        """The generator in PyTorch; see `open` and `refuse_exported`."""
        self.refuse_exported()
        opened = self.open()
        assert isinstance(opened, Network)
        return opened
