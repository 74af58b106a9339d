"""Layers that take their width from their input, and modules that take their shape from tensors."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

from gancompress.elastic.graph import Example, Inputs, call_with, empty_inputs, inputs_of
from gancompress.elastic.kernels import own_padding
from gancompress.errors import CheckpointError


class _DepthwiseConv2d(nn.Conv2d):
    """A depth-wise convolution with as many groups as its weight has filters."""

    def forward(self, input: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            around = self._reversed_padding_repeated_twice
            input, padding = F.pad(input, around, mode=self.padding_mode), (0, 0)
        return F.conv2d(
            input, self.weight, self.bias, self.stride, padding, self.dilation, len(self.weight)
        )


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
        return F.conv_transpose2d(
            input, self.weight, self.bias, self.stride, padding, self.output_padding,
            self.groups, self.dilation,
        )  # fmt: skip


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


_WIDTHS: dict[type[nn.Module], str] = {  # the attribute that says how many channels come out
    nn.Conv2d: "out_channels",
    nn.ConvTranspose2d: "out_channels",
    nn.Linear: "out_features",
    nn.BatchNorm2d: "num_features",
    nn.InstanceNorm2d: "num_features",
    nn.GroupNorm: "num_channels",
}


def is_depthwise(layer: nn.Module) -> bool:
    """Whether a layer is a convolution with one filter for each channel."""
    return (
        isinstance(layer, nn.Conv2d)
        and layer.groups > 1
        and layer.groups == layer.in_channels == layer.out_channels
    )


def elastic_twin(module: nn.Module, kernels: Collection[str] = ()) -> nn.Module:
    """A copy that shares all parameters and buffers, and whose layers accept narrower ones.

    Args:
        module: The generator.
        kernels: Names of convolutions that accept smaller kernels.
    """
    tensors = [*module.parameters(), *module.buffers()]
    twin = copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
    for name, layer in twin.named_modules():
        if type(layer) is nn.InstanceNorm2d:
            layer.__class__ = _InstanceNorm2d
        elif name in kernels:
            transposed = isinstance(layer, nn.ConvTranspose2d)
            layer.__class__ = _CroppedConvTranspose2d if transposed else _CroppedConv2d
        elif type(layer) is nn.Conv2d and is_depthwise(layer):
            layer.__class__ = _DepthwiseConv2d
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
        layer.in_channels = layer.weight.shape[0]
        layer.out_channels = layer.weight.shape[1] * layer.groups
    elif is_depthwise(layer):
        assert isinstance(layer, nn.Conv2d)
        layer.in_channels = layer.out_channels = layer.groups = layer.weight.shape[0]
    elif isinstance(layer, nn.Conv2d):
        layer.out_channels = layer.weight.shape[0]
        layer.in_channels = layer.weight.shape[1] * layer.groups
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, nn.BatchNorm2d | nn.InstanceNorm2d):
        own = layer.weight if layer.weight is not None else layer.running_mean
        layer.num_features = layer.num_features if own is None else len(own)
    elif isinstance(layer, nn.GroupNorm) and layer.weight is not None:
        layer.num_channels = layer.weight.shape[0]
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

    norms = [m for m in module.modules() if isinstance(m, nn.InstanceNorm2d | nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(note) for norm in norms]
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
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    on_meta = {name: tensor.to("meta") for name, tensor in tensors.items()}
    try:
        functional_call(module, on_meta, args, kwargs)
    except Exception:  # some forwards use tensors that are no parameters: slower, but takes those
        with FakeTensorMode(allow_non_fake_inputs=True):
            args, kwargs = call_with(empty)
            module(*args, **kwargs)
