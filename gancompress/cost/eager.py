"""Times of subnets in eager PyTorch, split by running their graph node by node."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from gancompress.cost.latency import Clock, time_calls
from gancompress.cost.steps import plan_of
from gancompress.cost.survey import Bench
from gancompress.cost.table import Floats
from gancompress.elastic import Subnet, Supernet
from gancompress.elastic.graph import trace_graph
from gancompress.runtimes.threads import pinned_threads

WARMUP = 2  # calls that are not timed


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

    @torch.inference_mode()
    def split(self, subnets: Sequence[Subnet], rounds: int) -> Floats:
        """See `Bench`."""
        times = np.zeros((len(subnets), rounds + WARMUP, len(self.plan.steps)))
        graphs = [trace_graph(self._module(subnet)) for subnet in subnets]
        with pinned_threads(self.threads):
            for number in range(rounds + WARMUP):
                for n in _turns(len(subnets), number):
                    times[n, number] = self._run(graphs[n])
        return times[:, WARMUP:]

    def _run(self, graph: fx.GraphModule) -> Floats:
        timer = _Timer(graph, self.plan.places, self.clock, self.wait)
        timer.run(self.image)
        return 1e3 * np.array([timer.seconds.get(n, 0.0) for n in range(len(self.plan.steps))])

    def total(self, subnets: Sequence[Subnet], rounds: int) -> Floats:
        """See `Bench`."""
        calls = {str(n): self._call(self._module(subnet)) for n, subnet in enumerate(subnets)}
        with pinned_threads(self.threads):
            timings = time_calls(calls, rounds, WARMUP, self.clock)
        return np.array([timings.rounds_ms[name] for name in calls])

    def _call(self, module: nn.Module) -> Callable[[], object]:
        def call() -> Tensor:
            out: Tensor = module(self.image)
            self.wait()
            return out

        return call


def _turns(number: int, round_number: int) -> Sequence[int]:
    """The order of a round: every other one is reversed, so that drift favours nobody."""
    return range(number) if round_number % 2 == 0 else range(number - 1, -1, -1)


class _Timer(fx.Interpreter):
    """Runs a graph and adds up the seconds of every step."""

    def __init__(
        self,
        graph: fx.GraphModule,
        places: Mapping[str, int],
        clock: Clock,
        wait: Callable[[], None],
    ) -> None:
        super().__init__(graph)
        self.places, self.clock, self.wait = places, clock, wait
        self.seconds: dict[int, float] = {}

    def run_node(self, n: fx.Node) -> Any:
        """One node, timed where it computes."""
        if n.name not in self.places:
            return super().run_node(n)
        start = self.clock()
        result = super().run_node(n)
        self.wait()
        place = self.places[n.name]
        self.seconds[place] = self.seconds.get(place, 0.0) + self.clock() - start
        return result
