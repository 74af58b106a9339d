"""Peak memory of activations, by hand and as the allocator of a real run saw it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from gancompress.config import GeneratorOptions
from gancompress.cost import peak_activation_bytes
from gancompress.errors import TraceError
from gancompress.models import GENERATORS, build_generator

SIDE = 16
PLANE = 4 * SIDE * SIDE  # bytes of one channel in fp32
Forward = Callable[[Tensor], Tensor]


class Calls(nn.Module):
    """A module that computes a function."""

    def __init__(self, function: Forward) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Residual(nn.Module):
    """x + body(x)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


def conv(channels_in: int, channels_out: int) -> nn.Module:
    return nn.Conv2d(channels_in, channels_out, 1)


PEAKS: dict[str, tuple[nn.Module, int]] = {  # channels alive at the worst moment, input included
    "input and output": (conv(3, 8), 3 + 8),
    "what was used is freed": (nn.Sequential(conv(3, 2), conv(2, 8), conv(8, 2)), 3 + 8 + 2),
    "two activations": (nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 1)), 3 + 8 + 8),
    "in place": (nn.Sequential(conv(3, 8), nn.ReLU(inplace=True), conv(8, 1)), 3 + 8 + 1),
    "views": (
        nn.Sequential(conv(3, 8), Calls(lambda x: x.flatten(2).transpose(1, 2)[:, ::2])),
        3 + 8,
    ),
    "residual": (
        nn.Sequential(conv(3, 4), Residual(nn.Sequential(conv(4, 5), conv(5, 4)))),
        3 + 4 + 5 + 4,
    ),
    "concatenation": (
        nn.Sequential(conv(3, 4), Calls(lambda x: torch.cat([x, x.relu()], 1))),
        3 + 4 + 4 + 8,
    ),
    "a running module holds its argument": (
        nn.Sequential(conv(3, 8), nn.Sequential(conv(8, 1), conv(1, 1), conv(1, 9))),
        3 + 8 + 1 + 9,
    ),
}
every_peak = pytest.mark.parametrize("case", PEAKS.values(), ids=PEAKS)


@every_peak
def test_peak_is_the_worst_moment(case: tuple[nn.Module, int]) -> None:
    module, channels = case
    assert peak_activation_bytes(module, (1, 3, SIDE, SIDE)) == channels * PLANE
    assert peak_activation_bytes(module, (2, 3, SIDE, 3 * SIDE)) == 6 * channels * PLANE


@contextmanager
def silent() -> Iterator[None]:
    """Nothing reaches the process's standard error, to which the profiler's library writes."""
    before, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nothing)


def allocated(module: nn.Module, x: Tensor) -> int:
    """Most bytes that PyTorch's allocator had given out during a real run, and the input's."""
    with silent(), torch.inference_mode():
        module(x)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            module(x)
    events = profiler.profiler.kineto_results.events()
    events = [event for event in events if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak + x.nbytes


@pytest.mark.parametrize("case", ["views", "concatenation", "residual"])
def test_peak_is_what_the_allocator_gave_out(case: str) -> None:
    """Of layers whose kernels need no memory beside their output."""
    body = Calls(lambda x: torch.cat([x, nn.functional.pad(x, (0, 0, 1, 1)).relu()[:, :, 1:-1]], 1))
    modules: dict[str, nn.Module] = {
        "views": Calls(lambda x: (x * 2).flatten(1).view_as(x) + x.transpose(2, 3)),
        "concatenation": nn.Sequential(body, nn.ReLU(inplace=True), body, nn.Tanh()),
        "residual": nn.Sequential(Residual(nn.Sequential(nn.ReLU(), nn.Tanh())), nn.Sigmoid()),
    }
    x = torch.randn(1, 3, 64, 64)
    assert peak_activation_bytes(modules[case], tuple(x.shape)) == allocated(modules[case], x)


@pytest.mark.parametrize("name", ["resnet_6blocks", "mobile_resnet_6blocks", "unet_64"])
def test_generators_take_at_least_the_peak_in_a_real_run(name: str) -> None:
    """Convolutions also take memory of their own, which is the kernel's business."""
    module = build_generator(GeneratorOptions(input_nc=3, output_nc=3, name=name, ngf=16)).eval()
    x = torch.randn(1, 3, 128, 128)
    peak = peak_activation_bytes(module, tuple(x.shape))
    assert peak <= allocated(module, x) < 3 * peak


def test_peak_of_a_resnet_is_at_full_resolution() -> None:
    """The stem's output twice as the norm leaves it and padded, beside the image."""
    side = 64
    module = build_generator(
        GeneratorOptions(input_nc=3, output_nc=3, name="resnet_6blocks", ngf=8)
    ).eval()
    held = 3 * side**2 + 8 * side**2 + 8 * (side + 6) ** 2
    assert peak_activation_bytes(module, (1, 3, side, side)) == 4 * held


def test_parameters_and_their_views_are_no_activations() -> None:
    class Shuffled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 3000))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.weight.t()[:3].reshape(-1)[:1]

    assert peak_activation_bytes(Shuffled(), (1, 3, SIDE, SIDE)) == 6 * PLANE + 9 * 4


@pytest.mark.parametrize("name", GENERATORS)
def test_nothing_is_changed_by_asking(name: str) -> None:
    norm = {"norm": "batch"} if "norm" in GENERATORS[name].takes else {}
    options = GeneratorOptions.model_validate(
        {"name": name, "input_nc": 3, "output_nc": 3, "ngf": 2, **norm}
    )
    module = build_generator(options).eval()
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    first = peak_activation_bytes(module, (1, 3, 256, 256))
    assert first == peak_activation_bytes(module, (1, 3, 256, 256)) > 0
    assert all(torch.equal(tensor, before[key]) for key, tensor in module.state_dict().items())


def test_size_that_does_not_fit_is_refused() -> None:
    module = build_generator(GeneratorOptions(input_nc=3, output_nc=3, name="unet_64", ngf=2))
    with pytest.raises(TraceError, match="cannot take an input of shape"):
        peak_activation_bytes(module, (1, 3, 48, 48))
