"""Peak memory of a generator's activations: its forward is run on shapes, nothing is computed."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gancompress.elastic.graph import empty_input
from gancompress.errors import TraceError


def peak_activation_bytes(module: nn.Module, shape: tuple[int, ...]) -> int:
    """Most bytes of activations that live at one time, parameters not among them.

    Every operation of the real forward is seen, as PyTorch runs it eagerly for inference: the
    input lives all the time, a value for as long as anything refers to it (the arguments of a
    module that is running, too), and views and in-place layers take no memory of their own. What
    an operation allocates for itself and frees before it returns (workspaces and reordered copies
    of convolutions, temporaries inside a norm's kernel) is not counted.

    Args:
        module: The generator, in evaluation mode; on any device.
        shape: (N, C, H, W) of the input.

    Raises:
        TraceError: The generator does not accept this shape.
    """
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    live = _LiveStorages()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.inference_mode():
            fakes: dict[str, Tensor] = {}
            for name, tensor in tensors.items():
                fakes[name] = mode.from_tensor(tensor)
            x = empty_input(module, shape)
            live.ignore(fakes.values())
            live.add(x)
            with live:
                functional_call(module, fakes, (x,))
    except Exception as error:  # the forward is the user's code: anything can be raised
        reason = str(error).partition("\n")[0]
        raise TraceError(
            f"the generator cannot take an input of shape {shape}: {reason}"
        ) from error
    return live.peak


class _LiveStorages(TorchDispatchMode):
    """Follows every storage that an operation makes until the last reference to it is gone.

    Attributes:
        live: Bytes now.
        peak: Most bytes so far.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peak = 0
        self._ignored: list[torch.UntypedStorage] = []
        self._known: dict[int, Any] = {}

    def ignore(self, tensors: Iterable[Tensor]) -> None:
        """Parameters: they and views of them are not counted."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            self._ignored.append(storage)  # kept alive, so that its address stays its own
            self._known[storage._cdata] = None

    def add(self, tensor: Tensor) -> None:
        """Count a tensor's storage, once."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self.live += size
        self.peak = max(self.peak, self.live)
        self._known[key] = weakref.ref(storage, self._forget(key, size))

    def _forget(self, key: int, size: int) -> Callable[[object], None]:
        def forget(_: object) -> None:
            self.live -= size
            del self._known[key]

        return forget

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the operation and count what it returns."""
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self.add(value)
        return result
