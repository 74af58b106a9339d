"""Times of subnets in ONNX Runtime, split by its own profiler: fusions and layouts included."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gancompress.cost.latency import time_calls
from gancompress.cost.steps import plan_of
from gancompress.cost.survey import Bench
from gancompress.cost.table import Floats
from gancompress.elastic import Subnet, Supernet
from gancompress.errors import ExportError
from gancompress.export.subnets import LAYERS, OnnxSubnets
from gancompress.runtimes.onnx import VERSION, open_session

WARMUP = 2  # calls that are not timed
STEP = re.compile(r"step(\d+)\.")
KERNEL = "_kernel_time"


class OnnxBench(Bench):
    """ONNX Runtime on the CPU.

    Sessions stay open, so that all subnets can take turns.

    Args:
        net: The supernet, on the CPU, in evaluation mode.
        stride: What H and W must be multiples of.
        size: (height, width) of the image.
        threads: Of each session.

    Raises:
        ExportError: The exported graph cannot be told apart into the generator's layers.
    """

    def __init__(self, net: Supernet, stride: int, size: tuple[int, int], threads: int) -> None:
        self.runtime, self.version = "onnxruntime", VERSION
        self.threads = threads
        self.plan = plan_of(net, size)
        self.models = OnnxSubnets(net, stride)
        rng = np.random.default_rng(0)
        self.image = rng.uniform(-1, 1, (1, net.example_shape[1], *size)).astype(np.float32)
        self._sessions: dict[Subnet, Any] = {}

    def split(self, subnets: Sequence[Subnet], rounds: int) -> Floats:
        """See `Bench`."""
        with tempfile.TemporaryDirectory() as folder:
            for n, subnet in enumerate(subnets):
                self._sessions[subnet] = self._open(subnet, Path(folder) / f"{n}")
            calls = self._calls(subnets)
            time_calls(calls, rounds, WARMUP)
            files = [Path(self._sessions[subnet].end_profiling()) for subnet in subnets]
            steps = len(self.plan.steps)
            times = [read_profile(file.read_bytes(), rounds + WARMUP, steps) for file in files]
        return np.stack(times)[:, WARMUP:]

    def total(self, subnets: Sequence[Subnet], rounds: int) -> Floats:
        """See `Bench`."""
        for subnet in subnets:
            if subnet not in self._sessions:
                self._sessions[subnet] = self._open(subnet, None)
        calls = self._calls(subnets)
        timings = time_calls(calls, rounds, WARMUP)
        return np.array([timings.rounds_ms[name] for name in calls])

    def _open(self, subnet: Subnet, profile: Path | None) -> Any:
        return open_session(self.models.model(subnet), self.threads, profile)

    def _calls(self, subnets: Sequence[Subnet]) -> dict[str, Callable[[], object]]:
        return {str(n): self._call(self._sessions[subnet]) for n, subnet in enumerate(subnets)}

    def _call(self, session: Any) -> Callable[[], object]:
        feed = {session.get_inputs()[0].name: self.image}
        return lambda: session.run(None, feed)


def read_profile(content: bytes, runs: int, steps: int) -> Floats:
    """Milliseconds of every step in every run of a profile by ONNX Runtime.

    Nodes that the runtime itself put in, such as changes of layout, count for what lies after
    the layer that ran last.

    Args:
        content: The file, of a model whose nodes are named as `OnnxSubnets` does.
        runs: Number of runs in it.
        steps: Number of steps.

    Returns:
        (runs, steps).

    Raises:
        ExportError: The nodes do not come as often as the runs.
    """
    events = [
        event
        for event in json.loads(content)
        if event.get("cat") == "Node" and event["name"].endswith(KERNEL)
    ]
    events.sort(key=lambda event: event["ts"])
    if not events or len(events) % runs:
        raise ExportError(f"a profile of {runs} runs has {len(events)} nodes")
    per_run = len(events) // runs
    times = np.zeros((runs, steps))
    for run in range(runs):
        _add_run(times[run], events[run * per_run : (run + 1) * per_run])
    return times


def _add_run(times: Floats, events: list[dict[str, Any]]) -> None:
    latest = -1  # the layer that ran last
    for event in events:
        match = STEP.match(event["name"])
        named = int(match[1]) if match else None
        if any(layer in event["args"]["op_name"] for layer in LAYERS):
            # fused with what follows, it has the name of that
            step = latest = latest + 2 if named is None else named - 1 + named % 2
        else:
            step = latest + 1 if named is None else named + named % 2
        times[step] += event["dur"] / 1e3
