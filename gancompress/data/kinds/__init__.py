"""Kinds of data sets, each in a file of its own."""

from __future__ import annotations

from gancompress.data.kinds.inputs import Inputs
from gancompress.data.kinds.kind import DataKind
from gancompress.data.kinds.paired import Paired
from gancompress.data.kinds.unpaired import Unpaired
from gancompress.tables import lookup

DATA_KINDS: dict[str, type[DataKind]] = {
    "unpaired": Unpaired,
    "paired": Paired,
    "inputs": Inputs,
}
"""By the name in `data.mode`. Where nothing says what a folder holds, the first kind that fits."""


def data_kind(name: str) -> DataKind:
    """The kind of a name.

    Raises:
        ConfigError: There is none; the message lists those there are.
    """
    return lookup(DATA_KINDS, name, "kind of data")()


__all__ = ["DATA_KINDS", "DataKind", "data_kind"]
