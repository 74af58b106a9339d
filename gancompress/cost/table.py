"""Latency tables: what operations take on a device, and from that what any subnet takes there."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from gancompress.checkpoint.files import write_atomic
from gancompress.config import read_json
from gancompress.cost.steps import plan_of
from gancompress.elastic import Parts, Supernet
from gancompress.elastic.costs import Size
from gancompress.elastic.space import Genomes
from gancompress.errors import CheckpointError, ConfigError

FORMAT = "gancompress latency table 1"
TRUSTED = 0.10  # largest median relative error of a table that says nothing about itself
CHUNK = 8192  # genomes worked on at a time: their columns stay in the cache
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Floats: TypeAlias = npt.NDArray[np.float64]
Predictor: TypeAlias = Callable[[Genomes], Floats]
"""From genomes (K, D) to milliseconds for one image (K,)."""


@dataclass(frozen=True)
class Entry:
    """What one kind of operation takes, at knots between which it is interpolated linearly.

    Attributes:
        key: See `gancompress.cost.steps.Step`.
        inputs: Numbers of input channels, ascending.
        outputs: Numbers of output channels, ascending; (1,) where there is no such choice.
        ms: Milliseconds for one image, a row for each of `inputs`, a column for each of `outputs`.
    """

    key: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    ms: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        table = np.array(self.ms, np.float64) if len(set(map(len, self.ms))) == 1 else np.empty(0)
        axes = (self.inputs, self.outputs)
        rising = all(list(axis) == sorted(set(axis)) and min(axis) >= 1 for axis in axes if axis)
        finite = bool(np.isfinite(table).all() and (table >= 0).all())
        if table.shape != (len(self.inputs), len(self.outputs)) or not (rising and finite):
            raise ValueError(f"entry '{self.key}' is not a table of times over ascending channels")

    @cached_property
    def table(self) -> Floats:
        """`ms` as an array (inputs, outputs)."""
        return np.array(self.ms, np.float64)

    def __call__(self, inputs: npt.NDArray[np.int64], outputs: npt.NDArray[np.int64]) -> Floats:
        """Milliseconds, (K,).

        Narrower than the narrowest knot counts as the narrowest; beyond the widest the last slope
        goes on.

        Args:
            inputs: Numbers of input channels, (K,).
            outputs: Numbers of output channels, (K,).
        """
        row, down = _bracket(self.inputs, inputs)
        column, right = _bracket(self.outputs, outputs)
        flat, width = self.table.ravel(), len(self.outputs)
        corner = row * width + column
        below = width if len(self.inputs) > 1 else 0
        beside = 1 if width > 1 else 0
        near = flat[corner] + right * (flat[corner + beside] - flat[corner])
        far = flat[corner + below]
        far = far + right * (flat[corner + below + beside] - far)
        result: Floats = np.maximum(near + down * (far - near), 0.0)
        return result


def _bracket(
    knots: tuple[int, ...], values: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], Floats]:
    """The knot below each value, and the way to the next one, from 0 (beyond the last: above 1)."""
    if len(knots) == 1:
        return np.zeros(len(values), np.int64), np.zeros(len(values))
    numbers = np.arange(int(values.max(initial=0)) + 1)
    below = np.clip(np.searchsorted(knots, numbers, "right") - 1, 0, len(knots) - 2)
    start, stop = np.array(knots)[below], np.array(knots)[below + 1]
    way = np.maximum((numbers - start) / (stop - start), 0.0)
    return below[values], way[values]


@dataclass(frozen=True)
class Check:
    """A subnet that the table was not made from.

    Attributes:
        subnet: Its text form.
        measured_ms: End to end, median.
        predicted_ms: By the table.
    """

    subnet: str
    measured_ms: float
    predicted_ms: float

    @property
    def error(self) -> float:
        """|predicted - measured| / measured."""
        return abs(self.predicted_ms - self.measured_ms) / self.measured_ms


@dataclass(frozen=True)
class Device:
    """A device, and what operations take on it in one runtime.

    Latency of a subnet = `constant_ms` + `scale` * sum of its operations' entries (see `whole`).

    Attributes:
        name: Of the device; letters, digits, '.', '_' and '-'.
        runtime: "onnxruntime" or "eager".
        runtime_version: Of the runtime.
        threads: That it computed with.
        machine: Facts about the machine, for people.
        size: (height, width) of the image.
        entries: What operations take.
        constant_ms: What every call takes besides; negative where watching took time.
        scale: From the sum of single operations to a whole network.
        checks: Held-out subnets, measured and predicted.
        details: How it was measured, for people.
    """

    name: str
    runtime: str
    runtime_version: str
    threads: int
    machine: Mapping[str, str]
    size: tuple[int, int]
    entries: tuple[Entry, ...]
    constant_ms: float = 0.0
    scale: float = 1.0
    checks: tuple[Check, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_device_name(self.name)
        if not np.isfinite([self.constant_ms, self.scale]).all() or self.scale <= 0:
            raise ValueError("constant_ms and scale must be finite, and scale positive")

    @property
    def median_error(self) -> float:
        """Median relative error over the held-out subnets; infinite without any."""
        errors = [check.error for check in self.checks]
        return float(np.median(errors)) if errors else float("inf")

    @property
    def is_trusted(self) -> bool:
        """Whether the median error is at most 10 %."""
        return self.median_error <= TRUSTED

    @property
    def doubt(self) -> str | None:
        """Why its predictions should not be trusted, or None."""
        if self.is_trusted:
            return None
        what = f"it missed {len(self.checks)} held-out subnets by a median {self.median_error:.1%}"
        if not self.checks:
            what = "it was never compared with held-out subnets"
        return (
            f"the latency table of {self.name} is not to be trusted: {what} "
            f"(accepted: {TRUSTED:.0%})\n"
            "  Measure again when nothing else runs: gancompress latency RUN "
            f"--device-name {self.name}"
        )

    def predictor(self, net: Supernet, size: Size) -> Predictor:
        """Latency of many subnets of a supernet.

        Args:
            net: The supernet; it need not be the one that was measured, if the table has all its
                operations.
            size: Of the image.

        Returns:
            A function from genomes (K, D) to milliseconds (K,); some million subnets a second.

        Raises:
            ConfigError: An operation of the supernet is missing in the table, or was measured
                with other widths only; names the first one.
            TraceError: The generator does not accept this size.
        """
        space, tables = net.space, self._tables(net, size)

        def predict(genomes: Genomes) -> Floats:
            space.check_genomes(genomes)
            result = np.empty(len(genomes), np.float64)
            for start in range(0, len(genomes), CHUNK):
                rows = np.asfortranarray(genomes[start : start + CHUNK])
                total = np.zeros(len(rows), np.float64)
                for (ins, outs), table in tables.items():
                    cells = space.count_channels(ins, rows) * table.shape[1]
                    total += table.ravel()[cells + space.count_channels(outs, rows)]
                result[start : start + CHUNK] = self.whole(total)
            return result

        return predict

    def whole(self, total: Floats) -> Floats:
        """Milliseconds of whole networks from sums of entries, (K,).

        A negative constant (profilers slow down what they watch) takes away half at most.
        """
        scaled = self.scale * total
        result: Floats = np.maximum(self.constant_ms + scaled, scaled / 2)
        return result

    def _tables(self, net: Supernet, size: Size) -> dict[tuple[Parts, Parts], Floats]:
        """Milliseconds of all operations between the same two dimensions, by channel numbers.

        Returns:
            By parts of inputs and outputs: (1 + full input channels, 1 + full output channels).
        """
        entries = {entry.key: entry for entry in self.entries}
        tables: dict[tuple[Parts, Parts], Floats] = {}
        ends = net.space.genomes([net.space.smallest(), net.space.largest(), net.space.full()])
        for step, count in Counter(plan_of(net, size).steps).items():
            if step.key not in entries:
                raise self._missing(step.key, "has never been measured")
            entry = entries[step.key]
            most = []
            for parts, knots in ((step.inputs, entry.inputs), (step.outputs, entry.outputs)):
                low, high, widest = net.space.count_channels(parts, ends).tolist()
                if low < knots[0] or high > knots[-1]:
                    known, wanted = _span(knots[0], knots[-1]), _span(low, high)
                    raise self._missing(step.key, f"was measured with {known}, not {wanted}")
                most.append(widest)
            ins, outs = np.indices((most[0] + 1, most[1] + 1))
            table = count * entry(ins.ravel(), outs.ravel()).reshape(ins.shape)
            key = (step.inputs, step.outputs)
            tables[key] = tables[key] + table if key in tables else table
        return tables

    def _missing(self, key: str, what: str) -> ConfigError:
        return ConfigError(
            f"the latency table of {self.name} does not cover this supernet: '{key}' {what}\n"
            f"  Measure this supernet: gancompress latency RUN --device-name {self.name}"
        )

    def save(self, path: Path) -> None:
        """Write the table as JSON; `load_device` reads it."""
        content = {"format": FORMAT, **asdict(self)}
        content["median_error"] = self.median_error if self.checks else None
        content["is_trusted"] = self.is_trusted
        write_atomic(path, (json.dumps(content, indent=1) + "\n").encode())


def _span(low: int, high: int) -> str:
    return f"{low} channels" if low == high else f"{low} to {high} channels"


def check_device_name(name: str) -> str:
    """The name, if costs and files can be called by it.

    Raises:
        ConfigError: It has other characters than letters, digits, '.', '_' and '-'.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"'{name}' is not a valid device name: letters, digits, '.', '_' and '-' are allowed"
        )
    return name


def load_device(path: Path) -> Device:
    """Read a latency table, made here or on any other machine.

    Raises:
        ConfigError: There is no such file.
        CheckpointError: It is damaged, or no latency table.
    """
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise ConfigError(
            f"no latency table {path}\n  `gancompress latency RUN --device-name NAME` writes one."
        ) from None
    except ConfigError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise CheckpointError(f"{path}: not a readable latency table: {reason}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a latency table ('format' is not '{FORMAT}')")
    try:
        return TypeAdapter(Device).validate_python(content)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "the table"
        raise CheckpointError(f"{path}: damaged latency table: {where}: {problem['msg']}") from None
