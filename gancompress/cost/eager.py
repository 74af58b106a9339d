"""Times of subnets in eager PyTorch, split by running their graph node by node."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from gancompress.cost.latency import Clock, pinned_threads
from gancompress.cost.steps import plan_of
from gancompress.cost.survey import Bench, take_turns
from gancompress.cost.table import Floats
from gancompress.elastic import Subnet, Supernet
from gancompress.elastic.graph import trace_graph


class EagerBench(Bench):
    """Eager PyTorch.

    Args:
        net: The supernet, on the device to be measured.
        size: (height, width) of the image.
        threads: Of PyTorch.
        clock: Where the time comes from.
    """

    def __init__(
        self, net: Supernet, size: tuple[int, int], threads: int, clock: Clock = time.perf_counter
    ) -> None:
        self.net = net
        self.runtime, self.version, self.threads = "eager", str(torch.__version__), threads
        self.plan = plan_of(net, size)
        self.clock = clock
        self.device = next(net.parameters()).device
        generator = torch.Generator().manual_seed(0)
        shape = (1, net.example_shape[1], *size)
        self.image = (2 * torch.rand(shape, generator=generator) - 1).to(self.device)
        self._module = lru_cache(maxsize=None)(self._extract)

    def _extract(self, subnet: Subnet) -> nn.Module:
        return self.net.extract(subnet).eval()

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def split(self, subnets: Sequence[Subnet], rounds: int) -> Floats:
        """See `Bench`."""
        timers = [
            _Timer(trace_graph(self._module(subnet)), self.plan.places, self.clock, self.wait)
            for subnet in subnets
        ]
        with pinned_threads(self.threads):
            take_turns([partial(timer.run, self.image) for timer in timers], rounds, self.clock)
        steps = range(len(self.plan.steps))
        times = [[[run.get(n, 0.0) for n in steps] for run in timer.runs] for timer in timers]
        counted: Floats = 1e3 * np.array(times)[:, 3::2]  # those that `take_turns` counts
        return counted

    def total(self, subnets: Sequence[Subnet], rounds: int) -> Floats:
        """See `Bench`."""
        calls = [self._call(self._module(subnet)) for subnet in subnets]
        with pinned_threads(self.threads):
            return take_turns(calls, rounds, self.clock)

    def _call(self, module: nn.Module) -> Callable[[], object]:
        def call() -> Tensor:
            out: Tensor = module(self.image)
            self.wait()
            return out

        return call


class _Timer(fx.Interpreter):
    """Runs a graph and adds up the seconds of every step, anew in every run."""

    def __init__(
        self,
        graph: fx.GraphModule,
        places: Mapping[str, int],
        clock: Clock,
        wait: Callable[[], None],
    ) -> None:
        super().__init__(graph)
        self.places, self.clock, self.wait = places, clock, wait
        self.runs: list[dict[int, float]] = []

    def run(self, *args: Any) -> Any:
        """All nodes."""
        self.runs.append({})
        return super().run(*args)

    def run_node(self, n: fx.Node) -> Any:
        """One node, timed where it computes."""
        if n.name not in self.places:
            return super().run_node(n)
        start = self.clock()
        result = super().run_node(n)
        self.wait()
        place = self.places[n.name]
        seconds = self.runs[-1]
        seconds[place] = seconds.get(place, 0.0) + self.clock() - start
        return result
