"""Several processes that `torchrun` starts, on one host or on several; one process without it.

Every function also works where there is one process, and does nothing then. The first rank
decides, reads states and writes; what it decides reaches the others as a message, so nothing
depends on a clock, a processor or a file system that ranks might share.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gancompress.errors import ConfigError, GanCompressError

T = TypeVar("T")


def under_torchrun() -> bool:
    """Whether `torchrun` has started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ and dist.is_available()


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """All ranks of `torchrun` joined while the block runs; nothing where there are none.

    CPU tensors go through gloo, and those on GPUs through NCCL, unless ranks share a GPU.

    Args:
        device: Where this rank computes.
    """
    if not under_torchrun() or dist.is_initialized():
        yield
        return
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        if int(os.environ.get("LOCAL_WORLD_SIZE", "1")) <= torch.cuda.device_count():
            backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend)
    try:
        yield
    finally:
        dist.destroy_process_group()


def choose_device(name: torch.device | str) -> torch.device:
    """The device of a name; `auto` is a GPU where there is one, another one for each rank.

    Raises:
        ConfigError: It does not exist here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--device {name} cannot be used here: {reason}") from None
    if device.type == "cuda" and device.index is None:
        number = int(os.environ.get("LOCAL_RANK", "0"))  # set by torchrun
        return torch.device("cuda", number % torch.cuda.device_count())
    return device


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first_here() -> bool:
    """Whether this is the first process of its host."""
    return world_size() == 1 or os.environ.get("LOCAL_RANK", "0") == "0"


@contextmanager
def _exchange() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # the back ends raise it, or a class of their own under it
        raise GanCompressError(
            f"another process has ended, or cannot be reached: "
            f"{str(error).splitlines()[0]}\n  The last saved state is kept; rerun this command to "
            "resume."
        ) from None


def agreed(decide: Callable[[], T]) -> T:
    """What the first rank decides, on all of them; what it refuses ends all of them.

    The others raise SystemExit with the error's exit code, as the first one says why.
    """
    if world_size() == 1:
        return decide()
    answer: list[Any] = [None, None]
    error: GanCompressError | None = None
    if rank() == 0:
        try:
            answer[0] = decide()
        except GanCompressError as refusal:
            error, answer[1] = refusal, refusal.exit_code
    with _exchange():
        dist.broadcast_object_list(answer, src=0)
    if error is not None:
        raise error
    if answer[1] is not None:
        raise SystemExit(answer[1])
    decided: T = answer[0]
    return decided


def shared(error: GanCompressError) -> BaseException:
    """To be raised where all ranks fail alike: the first one reports it, the others just end."""
    return error if rank() == 0 else SystemExit(error.exit_code)


@contextmanager
def on_first_rank(make: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """A context that only the first rank enters; if that is refused, all of them end."""
    with ExitStack() as stack:
        agreed(lambda: stack.enter_context(make()))
        yield


def exchanged(value: T) -> list[T]:
    """The values of all ranks, in their order."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    with _exchange():
        dist.all_gather_object(values, value)
    return values


def any_rank(flag: bool) -> bool:
    """Whether the flag is set on some rank."""
    return any(exchanged(flag))


def averaged(values: Mapping[str, float]) -> dict[str, float]:
    """Means over all ranks."""
    if world_size() == 1:
        return dict(values)
    total = torch.tensor(list(values.values()), dtype=torch.float64)
    with _exchange():
        dist.all_reduce(total)
    return dict(zip(values, (total / world_size()).tolist(), strict=True))


def gradients_of(optimisers: Iterable[torch.optim.Optimizer]) -> list[Tensor]:
    """All gradients that there are of what the optimisers train."""
    groups = (group for optimiser in optimisers for group in optimiser.param_groups)
    return [p.grad for group in groups for p in group["params"] if p.grad is not None]


def average_gradients(optimisers: Iterable[torch.optim.Optimizer]) -> None:
    """Replace the gradients of all parameters by their means over all ranks, in one message.

    Losses are means over the images of a rank and all ranks have equally many, so these are the
    gradients of the whole batch. A parameter without a gradient has none on any rank.
    """
    if world_size() == 1:
        return
    found = gradients_of(optimisers)
    flat = torch.cat([gradient.flatten() for gradient in found])
    with _exchange():
        dist.all_reduce(flat)
    flat /= world_size()
    pieces = flat.split([gradient.numel() for gradient in found])
    torch._foreach_copy_(found, [p.view_as(g) for p, g in zip(pieces, found, strict=True)])


class _Sum(torch.autograd.Function):
    """Sum over all ranks; so is its gradient, as every rank's loss depends on every summand."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        with _exchange():
            dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradients[0])


def _total(x: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(x)
    return total


def whole_batch(x: Tensor) -> Tensor:
    """Items of all ranks in the order of the batch, (N, ...) -> (ranks * N, ...)."""
    if world_size() == 1:
        return x
    others = x.new_zeros((world_size(), *x.shape))
    others[rank()] = x
    return _total(others).flatten(0, 1)


def own_share(x: Tensor) -> Tensor:
    """This rank's items of a whole batch, (ranks * N, ...) -> (N, ...)."""
    return x.chunk(world_size())[rank()]


def share_of(batch_size: int) -> int:
    """Items of a batch that every rank has.

    Raises:
        ConfigError: Ranks cannot have equally many.
    """
    if batch_size % world_size():
        raise shared(
            ConfigError(
                f"schedule.batch_size={batch_size} is that of all processes together: make it a "
                f"multiple of their number, {world_size()}"
            )
        )
    return batch_size // world_size()


class _WholeBatches(TorchFunctionMode):
    """Batch norms and dropout as if this rank had the whole batch."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("training"):
            if func is F.batch_norm:
                names = ("weight", "bias", "momentum", "eps")
                return _batch_norm(*args, *(kwargs[name] for name in names))
            if func in (F.dropout, F.dropout2d):
                x = args[0]
                mask = func(x.new_ones((world_size() * len(x), *x.shape[1:])), **kwargs)
                return x * own_share(mask)
        return func(*args, **kwargs)


def whole_batches() -> AbstractContextManager[object]:
    """Context of a training step, in which ranks compute what one process would.

    Batch norms normalise by mean and variance of the batches of all ranks, and so do their running
    statistics. Dropout draws its numbers for all of them, so that image k of a batch has the same
    ones whoever it belongs to; random generators must agree for that.
    """
    return _WholeBatches() if world_size() > 1 else nullcontext()


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """`F.batch_norm` in training, with statistics of all ranks.

    Source: Ioffe & Szegedy, Batch Normalization, ICML 2015, algorithm 1.
    """
    dims = [dim for dim in range(x.ndim) if dim != 1]
    shape = [-1 if dim == 1 else 1 for dim in range(x.ndim)]
    count = world_size() * x.numel() // x.shape[1]
    values = x.float()
    mean = _total(values.sum(dims)) / count
    centred = values - mean.view(shape)
    var = _total(centred.square().sum(dims)) / count
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * count / max(count - 1, 1)).to(running_var.dtype), momentum)
    out = centred * (var + eps).rsqrt().view(shape)
    if weight is not None:
        out = out * weight.view(shape)
    if bias is not None:
        out = out + bias.view(shape)
    return out.to(x.dtype)
