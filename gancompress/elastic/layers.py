"""Layers that take their width from their input, and modules that take their shape from tensors."""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.func import functional_call

from gancompress.elastic.graph import Example, Inputs, call_with, empty_inputs, inputs_of
from gancompress.elastic.kernels import own_padding
from gancompress.errors import CheckpointError

logger = logging.getLogger(__name__)


def _group_size(layer: nn.Conv2d | nn.ConvTranspose2d) -> int:
    """Channels that each group of a convolution reads."""
    if isinstance(layer, nn.ConvTranspose2d):
        return layer.in_channels // layer.groups
    return layer.weight.shape[1]


class _GroupedConv2d(nn.Conv2d):
    """A convolution with as many groups as its input has of the size that they read."""

    def forward(self, input: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            around = self._reversed_padding_repeated_twice
            input, padding = F.pad(input, around, mode=self.padding_mode), (0, 0)
        return F.conv2d(
            input, self.weight, self.bias, self.stride, padding, self.dilation,
            input.shape[1] // _group_size(self),
        )  # fmt: skip


def _output_padding(
    layer: nn.ConvTranspose2d, input: Tensor, output_size: list[int] | None, padding: Any
) -> Any:
    """What a transposed convolution adds on one side, with this padding and its weight's kernel."""
    stride: Any = layer.stride
    dilation: Any = layer.dilation
    kernel = list(layer.weight.shape[2:])
    return layer._output_padding(input, output_size, stride, padding, kernel, 2, dilation)


class _GroupedConvTranspose2d(nn.ConvTranspose2d):
    """The same, transposed."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        padding: Any = self.padding  # a transposed one has numbers only
        more = _output_padding(self, input, output_size, padding)
        return F.conv_transpose2d(
            input, self.weight, self.bias, self.stride, padding, more,
            input.shape[1] // _group_size(self), self.dilation,
        )  # fmt: skip


class _CroppedConv2d(nn.Conv2d):
    """A convolution that pads as little as the kernel of its weight needs."""

    def forward(self, input: Tensor) -> Tensor:
        padding, rest = own_padding(self, self.weight.shape[-1])
        input = F.pad(input, (-rest,) * 4) if rest else input
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, (padding,) * 4, mode=self.padding_mode), 0
        groups = len(self.weight) if self.groups > 1 else 1
        return F.conv2d(input, self.weight, self.bias, self.stride, padding, self.dilation, groups)


class _CroppedConvTranspose2d(nn.ConvTranspose2d):
    """The same, transposed."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        padding, _ = own_padding(self, self.weight.shape[-1])
        more = _output_padding(self, input, output_size, (padding, padding))
        return F.conv_transpose2d(
            input, self.weight, self.bias, self.stride, padding, more, self.groups, self.dilation
        )


class _InstanceNorm2d(nn.InstanceNorm2d):
    """Instance norm of however many channels come."""

    def forward(self, input: Tensor) -> Tensor:
        use_input_stats = self.training or not self.track_running_stats
        return F.instance_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            use_input_stats,
            self.momentum if self.momentum is not None else 0.0,
            self.eps,
        )


class _GroupNorm(nn.GroupNorm):
    """Group norm of however many whole groups come."""

    def forward(self, input: Tensor) -> Tensor:
        groups = _num_groups(self, input.shape[1])
        return F.group_norm(input, groups, self.weight, self.bias, self.eps)


def _num_groups(layer: nn.GroupNorm, channels: int) -> int:
    """Groups of the layer's size among so many channels; one stays one."""
    size = layer.num_channels // layer.num_groups
    return 1 if layer.num_groups == 1 else channels // size


class _LayerNorm(nn.LayerNorm):
    """Layer norm of however many channels come."""

    def forward(self, input: Tensor) -> Tensor:
        shape = input.shape[-len(self.normalized_shape) :]
        return F.layer_norm(input, shape, self.weight, self.bias, self.eps)


_WIDTHS: dict[type[nn.Module], str] = {  # the attribute that says how many channels come out
    nn.Conv2d: "out_channels",
    nn.ConvTranspose2d: "out_channels",
    nn.Linear: "out_features",
    nn.BatchNorm2d: "num_features",
    nn.InstanceNorm2d: "num_features",
    nn.GroupNorm: "num_channels",
}


_TWINS: dict[type[nn.Module], type[nn.Module]] = {
    nn.InstanceNorm2d: _InstanceNorm2d,
    nn.GroupNorm: _GroupNorm,
    nn.LayerNorm: _LayerNorm,
}


def elastic_twin(module: nn.Module, kernels: Collection[str] = ()) -> nn.Module:
    """A copy that shares all parameters and buffers, and whose layers accept narrower ones.

    Args:
        module: The generator.
        kernels: Names of convolutions that accept smaller kernels.
    """
    tensors = [*module.parameters(), *module.buffers()]
    twin = copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
    for name, layer in twin.named_modules():
        if type(layer) in _TWINS:
            layer.__class__ = _TWINS[type(layer)]
        elif name in kernels:
            transposed = isinstance(layer, nn.ConvTranspose2d)
            layer.__class__ = _CroppedConvTranspose2d if transposed else _CroppedConv2d
        elif type(layer) is nn.Conv2d and layer.groups > 1:
            layer.__class__ = _GroupedConv2d
        elif type(layer) is nn.ConvTranspose2d and layer.groups > 1:
            layer.__class__ = _GroupedConvTranspose2d
    return twin


def fit(module: nn.Module, tensors: Mapping[str, Tensor], example: Example) -> None:
    """Give a module these parameters and buffers, and every layer the widths that follow.

    Args:
        module: Changed in place.
        tensors: All parameters and buffers by name; shapes may be narrower than the module's.
        example: The shape (N, C, H, W) of an input that it accepts, or that of each by name, to set
            norms without parameters.

    Raises:
        CheckpointError: A name is missing or unknown, or the widths do not fit together.
    """
    names = module.state_dict().keys()  # without buffers that files leave out
    own = {n: t for n, t in (*module.named_parameters(), *module.named_buffers()) if n in names}
    counters = {n for n in own if n.endswith("num_batches_tracked")}  # old files have none
    missing = sorted(own.keys() - tensors.keys() - counters)
    unknown = sorted(tensors.keys() - names)  # second names of shared tensors are known
    ranks = [n for n in own.keys() & tensors.keys() if own[n].ndim != tensors[n].ndim]
    if missing or unknown or ranks:
        listed = [f"missing {n}" for n in missing] + [f"unknown {n}" for n in unknown]
        listed += [f"{n} is {tuple(tensors[n].shape)}, not {tuple(own[n].shape)}" for n in ranks]
        more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
        raise CheckpointError(f"tensors do not fit: {'; '.join(listed[:5])}{more}")
    for name, old in own.items():
        if name not in tensors:
            continue
        path, _, leaf = name.rpartition(".")
        owner = module.get_submodule(path)
        tensor = tensors[name].detach().clone().to(device=old.device, dtype=old.dtype)
        if isinstance(old, nn.Parameter):
            owner._parameters[leaf] = nn.Parameter(tensor, old.requires_grad)
        else:
            owner._buffers[leaf] = tensor
    for name, layer in module.named_modules():
        _fit_layer(layer)
        _check_layer(layer, name)
    _fit_norms(module, inputs_of(module, example))


def _fit_layer(layer: nn.Module) -> None:
    if isinstance(layer, nn.ConvTranspose2d):
        if layer.groups > 1:
            layer.groups = layer.weight.shape[0] // _group_size(layer)
        layer.in_channels = layer.weight.shape[0]
        layer.out_channels = layer.weight.shape[1] * layer.groups
    elif isinstance(layer, nn.Conv2d):
        if layer.groups > 1:  # each makes as many channels as before
            layer.groups = layer.weight.shape[0] // (layer.out_channels // layer.groups)
        layer.out_channels = layer.weight.shape[0]
        layer.in_channels = layer.weight.shape[1] * layer.groups
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, nn.BatchNorm2d | nn.InstanceNorm2d):
        own = layer.weight if layer.weight is not None else layer.running_mean
        layer.num_features = layer.num_features if own is None else len(own)
    elif isinstance(layer, nn.GroupNorm) and layer.weight is not None:
        width = layer.weight.shape[0]
        layer.num_groups, layer.num_channels = _num_groups(layer, width), width
    elif isinstance(layer, nn.LayerNorm) and layer.weight is not None:
        layer.normalized_shape = tuple(layer.weight.shape)
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = layer.weight.numel()


def _check_layer(layer: nn.Module, name: str) -> None:
    """Refuse what a run on shapes does not see: vectors of another length, another kernel.

    Raises:
        CheckpointError: A tensor of this layer does not fit the others.
    """
    width = next((getattr(layer, _WIDTHS[kind]) for kind in _WIDTHS if isinstance(layer, kind)), 0)
    for leaf in ("weight", "bias", "running_mean", "running_var"):
        tensor = getattr(layer, leaf, None)
        if width and tensor is not None and tensor.ndim == 1 and len(tensor) != width:
            raise CheckpointError(f"{name}.{leaf} has {len(tensor)} values for {width} channels")
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        kernel = tuple(layer.weight.shape[2:])
        if kernel != layer.kernel_size:
            raise CheckpointError(f"{name}.weight has kernel {kernel}, not {layer.kernel_size}")


def _fit_norms(module: nn.Module, inputs: Inputs) -> None:
    """Run on shapes alone; a norm without parameters takes its width from what it is given."""

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.InstanceNorm2d | nn.BatchNorm2d)
        width = inputs[0].shape[1]
        own = layer.weight if layer.weight is not None else layer.running_mean
        if own is not None and len(own) != width:
            raise CheckpointError(f"a norm of {len(own)} channels is given {width}")
        layer.num_features = width

    def note_bare(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(layer, nn.GroupNorm):
            width = inputs[0].shape[1]
            layer.num_groups, layer.num_channels = _num_groups(layer, width), width
        elif isinstance(layer, nn.LayerNorm):
            layer.normalized_shape = tuple(inputs[0].shape[-len(layer.normalized_shape) :])

    norms = [m for m in module.modules() if isinstance(m, nn.InstanceNorm2d | nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(note) for norm in norms]
    hooks += [
        norm.register_forward_pre_hook(note_bare)
        for norm in module.modules()
        if isinstance(norm, nn.GroupNorm | nn.LayerNorm) and norm.weight is None
    ]
    training = module.training
    try:
        _run_on_shapes(module.eval(), inputs)
    except Exception as error:
        raise CheckpointError(f"the widths of these tensors do not fit together: {error}") from None
    finally:
        module.train(training)
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def _run_on_shapes(module: nn.Module, inputs: Inputs) -> None:
    """Run the forward without computing anything."""
    empty = empty_inputs(module, inputs)
    args, kwargs = call_with({name: x.to("meta") for name, x in empty.items()})
    on_meta = {  # every module once: with two names it would keep the replaced tensors
        f"{path}.{leaf}".lstrip("."): tensor.to("meta")
        for path, layer in module.named_modules()
        for leaf, tensor in (*layer._parameters.items(), *layer._buffers.items())
        if tensor is not None
    }
    try:
        functional_call(module, on_meta, args, kwargs, tie_weights=False)
        return
    except Exception as error:  # whatever somebody's forward raises
        logger.debug("%s does not run on the meta device: %s", type(module).__name__, error)
    try:  # some forwards use tensors that are no parameters: slower, but takes those
        args, kwargs = call_with(empty)
        with FakeTensorMode(allow_non_fake_inputs=True):
            module(*args, **kwargs)
    except DataDependentOutputException:  # it decides on values
        args, kwargs = call_with({name: torch.zeros_like(x) for name, x in empty.items()})
        module(*args, **kwargs)
