"""How every known operation passes channel widths on.

A rule gets the walk in progress and a node, reads the layouts of the node's inputs and returns the
layout of its output. What meets an operation without a rule keeps its full width: a wrong slice
must not happen silently.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from gancompress.elastic.channels import Dims, Layout
from gancompress.elastic.graph import Operation, Shape, module_of
from gancompress.errors import TraceError

if TYPE_CHECKING:
    from gancompress.elastic.trace import Walk

ModuleRule = Callable[["Walk", fx.Node, Any], Dims]
Rule = Callable[["Walk", fx.Node], Dims]


def first_tensor(walk: Walk, node: fx.Node) -> fx.Node:
    """The node of the main input, wherever it stands among the arguments."""
    candidates = [*node.args, *node.kwargs.values()]
    for value in candidates:
        if isinstance(value, fx.Node) and walk.is_tensor(value):
            return value
    raise TraceError(f"{module_of(node)}: {node.target} has no tensor input")


def argument(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    """An argument given by position or by name; `dim` may be called `axis`, as in NumPy."""
    if len(node.args) > position:
        return node.args[position]
    if name == "dim" and "axis" in node.kwargs:
        return node.kwargs["axis"]
    return node.kwargs.get(name, default)


# ------------------------------------------------------------------------------ modules


def same_dims(walk: Walk, node: fx.Node, *_: Any) -> Dims:
    """Element-wise: everything goes through; bounds and the like may be tensors as well."""
    if sum(walk.is_tensor(value) for value in node.all_input_nodes) > 1:
        return broadcast(walk, node)
    return walk.dims[first_tensor(walk, node)]


def spatial(walk: Walk, node: fx.Node, *_: Any) -> Dims:
    """The last two dimensions may change their lengths; others go through."""
    dims = walk.dims[first_tensor(walk, node)]
    for layout in dims[-2:]:
        walk.channels.pin(layout)
    return (*dims[:-2], None, None)


def pinned(walk: Walk, node: fx.Node, *_: Any) -> Dims:
    """All inputs keep their full width; the output is fixed."""
    return walk.keep(node)


def convolution(walk: Walk, node: fx.Node, layer: Any) -> Dims:
    """Dense: a new width. With groups: that of the input, in whole groups."""
    source = first_tensor(walk, node)
    walk.pin_others(source, keep=1)
    channels_in = walk.dims[source][1]
    transposed = isinstance(layer, nn.ConvTranspose2d)
    kernel, name = layer.kernel_size[0] * layer.kernel_size[1], str(node.target)
    if layer.groups == 1:
        channels_out = walk.output_of(name, layer.out_channels)
        first, second = (channels_in, channels_out) if transposed else (channels_out, channels_in)
        walk.set_parameter(f"{name}.weight", (first, second, None, None))
        kind = "transposed" if transposed else "conv"
    else:
        group_in, group_out = (
            channels // layer.groups for channels in (layer.in_channels, layer.out_channels)
        )
        groups = walk.channels.in_units(channels_in, group_in)
        channels_out = walk.channels.repeated(groups, group_out)
        first = channels_in if transposed else channels_out
        walk.set_parameter(f"{name}.weight", (first, None, None, None))
        kind, kernel = ("transposed " if transposed else "") + "depthwise", kernel * group_in
    if layer.bias is not None:
        walk.set_parameter(f"{name}.bias", (channels_out,))
    walk.operations.append(Operation(node.name, source.name, kind, kernel, f"{name}.weight"))
    walk.layouts_of[node.name] = (channels_in, channels_out)
    return (None, channels_out, None, None)


def linear(walk: Walk, node: fx.Node, layer: Any) -> Dims:
    """A new width in the last dimension."""
    source, name = first_tensor(walk, node), str(node.target)
    dims = walk.dims[source]
    walk.pin_others(source, keep=len(dims) - 1)  # its cost counts two widths
    channels_out = walk.output_of(name, layer.out_features)
    walk.set_parameter(f"{name}.weight", (channels_out, dims[-1]))
    if layer.bias is not None:
        walk.set_parameter(f"{name}.bias", (channels_out,))
    walk.operations.append(Operation(node.name, source.name, "linear", 1, f"{name}.weight"))
    walk.layouts_of[node.name] = (dims[-1], channels_out)
    return (*dims[:-1], channels_out)


def channel_norm(walk: Walk, node: fx.Node, layer: Any) -> Dims:
    """Batch and instance norm, PReLU: one value for each channel."""
    dims = walk.dims[first_tensor(walk, node)]
    for name, tensor in walk.own_tensors(layer):
        if tensor.ndim == 1 and tensor.shape[0] > 1:
            walk.set_parameter(f"{node.target}.{name}", (dims[1],))
    return dims


def group_norm(walk: Walk, node: fx.Node, layer: Any) -> Dims:
    """One group normalises over all channels; several of them are there as a whole or not."""
    if layer.num_groups > 1:
        channels = walk.dims[first_tensor(walk, node)][1]
        walk.channels.in_units(channels, layer.num_channels // layer.num_groups)
    return channel_norm(walk, node, layer)


def layer_norm(walk: Walk, node: fx.Node, layer: Any) -> Dims:
    """Normalises over the last dimensions, however many channels these have."""
    dims = walk.dims[first_tensor(walk, node)]
    for name, _ in walk.own_tensors(layer):
        walk.set_parameter(f"{node.target}.{name}", dims[-len(layer.normalized_shape) :])
    return dims


def pixel_shuffle(walk: Walk, node: fx.Node, *layer: Any) -> Dims:
    """Every channel is made of r * r that follow one another."""
    source = first_tensor(walk, node)
    dims, before, after = walk.dims[source], walk.shapes[source.name], walk.shapes[node.name]
    channels = walk.channels.in_units(dims[-3], before[-3] // after[-3])
    return (*dims[:-3], channels, None, None)


def pixel_unshuffle(walk: Walk, node: fx.Node, *layer: Any) -> Dims:
    """Every channel becomes r * r that follow one another."""
    source = first_tensor(walk, node)
    dims, before, after = walk.dims[source], walk.shapes[source.name], walk.shapes[node.name]
    return (*dims[:-3], walk.channels.repeated(dims[-3], after[-3] // before[-3]), None, None)


def flatten_module(walk: Walk, node: fx.Node, layer: Any) -> Dims:
    """A reshape."""
    return reshape(walk, node)


ELEMENTWISE_MODULES: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.CELU, nn.SELU,
    nn.Softplus, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Mish, nn.Softsign, nn.LogSigmoid,
    nn.ReLU6, nn.Tanhshrink, nn.Softshrink, nn.Hardshrink, nn.Threshold, nn.RReLU, nn.Identity,
    nn.Dropout, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout,
)  # fmt: skip
SPATIAL_MODULES: tuple[type[nn.Module], ...] = (
    nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d, nn.ReflectionPad2d, nn.ReplicationPad2d,
    nn.ZeroPad2d, nn.ConstantPad2d, nn.CircularPad2d, nn.Upsample, nn.AvgPool2d, nn.MaxPool2d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.LPPool2d,
)  # fmt: skip


def halves(walk: Walk, node: fx.Node, *layer: Any) -> Dims:
    """GLU: the first half times the sigmoid of the second; both have one width."""
    source = first_tensor(walk, node)
    dims = list(walk.dims[source])
    dim = layer[0].dim if layer else int(argument(node, 1, "dim", -1))
    dims[dim] = walk.channels.in_equal_parts(dims[dim], 2)
    return tuple(dims)


MODULE_RULES: dict[type[nn.Module], ModuleRule] = {
    **dict.fromkeys(ELEMENTWISE_MODULES, same_dims),
    **dict.fromkeys(SPATIAL_MODULES, spatial),
    nn.Conv2d: convolution,
    nn.ConvTranspose2d: convolution,
    nn.Linear: linear,
    nn.BatchNorm2d: channel_norm,
    nn.SyncBatchNorm: channel_norm,
    nn.InstanceNorm2d: channel_norm,
    nn.PReLU: channel_norm,
    nn.GroupNorm: group_norm,
    nn.LayerNorm: layer_norm,
    nn.LocalResponseNorm: pinned,
    nn.PixelShuffle: pixel_shuffle,
    nn.PixelUnshuffle: pixel_unshuffle,
    nn.Softmax: same_dims,
    nn.LogSoftmax: same_dims,
    nn.Softmin: same_dims,
    nn.Softmax2d: same_dims,
    nn.GLU: halves,
    nn.Flatten: flatten_module,
}

# ---------------------------------------------------------------- functions and methods


def broadcast(walk: Walk, node: fx.Node) -> Dims:
    """Element-wise with broadcasting: dimensions of equal length move together."""
    shape: Shape = walk.shapes[node.name]
    result: list[Layout | None] = [None] * len(shape)
    seen = [False] * len(shape)
    for value in node.all_input_nodes:
        if not walk.is_tensor(value):
            continue
        own: Shape = walk.shapes[value.name]
        offset = len(shape) - len(own)
        for dim, length in enumerate(own):
            place, layout = offset + dim, walk.dims[value][dim]
            if length == 1 and shape[place] > 1:
                continue
            result[place] = walk.channels.tie(result[place], layout) if seen[place] else layout
            seen[place] = True
    return tuple(result)


def concatenate(walk: Walk, node: fx.Node) -> Dims:
    """Segments one after another; the other dimensions move together."""
    tensors: Sequence[fx.Node] | fx.Node = argument(node, 0, "tensors")
    if isinstance(tensors, fx.Node):  # what `chunk` gave, as a whole
        parts = walk.pieces[tensors]
        lengths: list[Shape] = walk.shapes[tensors.name]
    else:
        parts = [walk.dims[value] for value in tensors]
        lengths = [walk.shapes[value.name] for value in tensors]
    along = int(argument(node, 1, "dim", 0)) % len(walk.shapes[node.name])
    result: list[Layout | None] = list(parts[0])
    for own in parts[1:]:
        for dim, layout in enumerate(own):
            if dim != along and (result[dim] or layout):
                result[dim] = walk.channels.tie(result[dim], layout)
    if any(own[along] for own in parts):
        joined: list[int] = []
        for own, shape in zip(parts, lengths, strict=True):
            joined += own[along] or walk.pinned_layout(shape[along], node.name)
        result[along] = tuple(joined)
    return tuple(result)


def split(walk: Walk, node: fx.Node) -> Dims:
    """`chunk` and `split` in equal parts, all of one width; `unbind` of what has a fixed length."""
    source = first_tensor(walk, node)
    dims, shapes = list(walk.dims[source]), walk.shapes[node.name]
    unbinds = node.target in ("unbind", torch.unbind)
    dim = int(argument(node, 1, "dim", 0) if unbinds else argument(node, 2, "dim", 0)) % len(dims)
    layout = dims[dim]
    if unbinds:
        if layout is not None:
            return walk.keep(node)
        del dims[dim]
    elif layout is not None:
        chunks = node.target in ("chunk", torch.chunk)
        size = argument(node, 1, "split_size", argument(node, 1, "split_size_or_sections"))
        equal = len({shape[dim] for shape in shapes}) == 1
        if equal and (chunks or walk.is_share(size, layout, len(shapes))):
            dims[dim] = walk.channels.in_equal_parts(layout, len(shapes))
        else:  # lengths that are written down
            walk.channels.pin(layout)
            dims[dim] = None
    walk.pieces[node] = [tuple(dims)] * len(shapes)
    return ()


def matmul(walk: Walk, node: fx.Node) -> Dims:
    """Rows times columns: what is summed over moves together; attention for example."""
    one, other = node.args[0], argument(node, 1, "other", argument(node, 1, "mat2"))
    left, right = walk.dims[one], walk.dims[other]  # type: ignore[index]
    if len(left) < 2 or len(right) < 2:
        return walk.keep(node)
    inner = left[-1]
    if left[-1] or right[-2]:
        inner = walk.channels.tie(left[-1], right[-2])
    batch: list[Layout | None] = []
    for place in range(max(len(left), len(right)) - 2, 0, -1):
        layouts = [dims[-2 - place] for dims in (left, right) if len(dims) >= 2 + place]
        tied = len(layouts) == 2 and any(layouts)
        batch.append(walk.channels.tie(*layouts) if tied else layouts[0])
    outer = [layout for layout in (*batch, left[-2], right[-1]) if layout]
    for layout in outer[1:]:  # no more than two widths count
        walk.channels.pin(layout)
    source = first_tensor(walk, node)
    walk.operations.append(Operation(node.name, source.name, "matmul", 1, None))
    walk.layouts_of[node.name] = (inner, outer[0] if outer else None)
    return (*batch, left[-2], right[-1])


def functional_convolution(walk: Walk, node: fx.Node) -> Dims:
    """`F.conv2d` and `F.conv_transpose2d` with the weight as a value."""
    source, weight = node.args[0], argument(node, 1, "weight")
    transposed = node.target in (F.conv_transpose2d, torch.conv_transpose2d)
    bias = argument(node, 2, "bias")
    groups = argument(node, 5 if transposed else 6, "groups", 1)
    if groups != 1:
        return functional_depthwise(walk, node, groups)
    assert isinstance(source, fx.Node)
    walk.pin_others(source, keep=1)
    first, second, *rest = walk.dims[weight]
    for layout in rest:
        walk.channels.pin(layout)
    channels_in, channels_out = (first, second) if transposed else (second, first)
    if channels_in or walk.dims[source][1]:
        walk.channels.tie(walk.dims[source][1], channels_in)
    if isinstance(bias, fx.Node):
        channels_out = walk.channels.tie(channels_out, walk.dims[bias][0])
    shape: Shape = walk.shapes[weight.name]
    kind = "transposed" if transposed else "conv"
    name = str(weight.target) if weight.op == "get_attr" else None
    walk.operations.append(Operation(node.name, source.name, kind, shape[2] * shape[3], name))
    walk.layouts_of[node.name] = (walk.dims[source][1], channels_out)
    return (None, channels_out, None, None)


def functional_depthwise(walk: Walk, node: fx.Node, groups: Any) -> Dims:
    """A functional convolution with as many groups as its input has channels: blurs, say."""
    source, weight = node.args[0], argument(node, 1, "weight")
    bias = argument(node, 2, "bias")
    assert isinstance(source, fx.Node)
    channels, shape = walk.dims[source][1], walk.shapes[weight.name]
    same = walk.shapes[source.name][1] == shape[0] == walk.shapes[node.name][1]
    if not same or shape[1] != 1 or not walk.is_share(groups, channels, 1):
        return walk.keep(node)
    walk.pin_others(source, keep=1)
    if channels or walk.dims[weight][0]:
        channels = walk.channels.tie(channels, walk.dims[weight][0])
    walk.pin_others(weight, keep=0)
    if isinstance(bias, fx.Node):
        channels = walk.channels.tie(channels, walk.dims[bias][0])
    transposed = node.target in (F.conv_transpose2d, torch.conv_transpose2d)
    kind = ("transposed " if transposed else "") + "depthwise"
    walk.operations.append(Operation(node.name, source.name, kind, shape[2] * shape[3], None))
    walk.layouts_of[node.name] = (channels, channels)
    return (None, channels, None, None)


def functional_group_norm(walk: Walk, node: fx.Node) -> Dims:
    """The number of groups is written down: all of them have the same smaller width."""
    source = first_tensor(walk, node)
    dims, groups = walk.dims[source], argument(node, 1, "num_groups")
    if not isinstance(groups, int):
        return walk.keep(node)
    walk.channels.in_equal_parts(dims[1], groups)
    return functional_norm(walk, node)


def functional_norm(walk: Walk, node: fx.Node) -> Dims:
    """`F.instance_norm` and `F.batch_norm`: every vector has one value for each channel."""
    source = first_tensor(walk, node)
    dims = walk.dims[source]
    for value in node.all_input_nodes:
        if value is not source and walk.is_tensor(value):
            walk.channels.tie(dims[1], walk.dims[value][0])
    return dims


def reduce_dims(walk: Walk, node: fx.Node) -> Dims:
    """Mean, sum, variance, ...: reduced dimensions vanish or become 1."""
    source = first_tensor(walk, node)
    dims, shape = walk.dims[source], walk.shapes[source.name]
    if walk.shapes[node.name] is None or isinstance(walk.shapes[node.name], list):
        return walk.keep(node)
    over = argument(node, 1, "dim")
    if over is None or isinstance(over, bool):
        return walk.keep(node) if walk.shapes[node.name] else walk.fixed(node)
    reduced = {int(d) % len(shape) for d in ([over] if isinstance(over, int) else over)}
    if len(walk.shapes[node.name]) == len(shape):
        return tuple(None if d in reduced else layout for d, layout in enumerate(dims))
    return tuple(layout for d, layout in enumerate(dims) if d not in reduced)


def reshape(walk: Walk, node: fx.Node) -> Dims:
    """View, reshape, flatten, squeeze, unsqueeze: a dimension that stays whole keeps its layout."""
    source = first_tensor(walk, node)
    dims, before, after = walk.dims[source], walk.shapes[source.name], walk.shapes[node.name]
    result: list[Layout | None] = [None] * len(after)
    for ins, outs in _chunks(before, after):
        if len(ins) == 1 and len(outs) == 1:
            result[outs[0]] = dims[ins[0]]
            if _is_constant(node, before[ins[0]]):
                walk.channels.pin(dims[ins[0]])
        elif len(outs) == 1:
            if isinstance(_length(node, outs[0]), int):  # which a narrower one does not have
                for dim in ins:
                    walk.channels.pin(dims[dim])
            result[outs[0]] = _merged(walk, [dims[d] for d in ins], [before[d] for d in ins])
        elif len(ins) == 1 and dims[ins[0]]:
            moving = [dim for dim in outs if not isinstance(_length(node, dim), int)]
            if len(moving) != 1:
                walk.keep(node)
                continue
            first, last = (
                math.prod(after[d] for d in outs if d < moving[0]),
                math.prod(after[d] for d in outs if d > moving[0]),
            )
            whole = walk.whole_of(_length(node, moving[0]), first * last)
            if whole:
                walk.channels.tie(dims[ins[0]], whole)
            part = walk.channels.in_equal_parts(dims[ins[0]], first)
            result[moving[0]] = walk.channels.in_units(part, last)
        elif any(dims[dim] for dim in ins):
            walk.keep(node)
    for dim, layout in enumerate(result):
        walk.agree(_length(node, dim), layout)
    return tuple(result)


def _merged(walk: Walk, layouts: list[Layout | None], lengths: list[int]) -> Layout | None:
    """Several dimensions as one: blocks of the later ones, as often as the earlier ones say."""
    moving = [place for place, layout in enumerate(layouts) if layout]
    if len(moving) != 1:
        for layout in layouts:
            walk.channels.pin(layout)
        return None
    place = moving[0]
    blocks = walk.channels.repeated(layouts[place], math.prod(lengths[place + 1 :]))
    return (blocks or ()) * math.prod(lengths[:place])


def _length(node: fx.Node, dim: int) -> Any:
    """What a view says of the length of one of its dimensions; -1 where that follows."""
    if node.target not in ("view", "reshape", torch.reshape):
        return None
    given = node.args[1] if len(node.args) == 2 else node.args[1:]
    sizes = given if isinstance(given, list | tuple) else [given]
    return None if sizes[dim] == -1 else sizes[dim]


def _is_constant(node: fx.Node, length: int) -> bool:
    """Whether the width stands as a number in a view, which would fail for a narrower one."""
    if node.target in ("squeeze", "unsqueeze", "flatten", torch.flatten, torch.unsqueeze):
        return False
    sizes = [a for arg in node.args[1:] for a in (arg if isinstance(arg, list | tuple) else [arg])]
    return length > 1 and length in [s for s in sizes if isinstance(s, int)]


def _chunks(before: Shape, after: Shape) -> list[tuple[list[int], list[int]]]:
    """Smallest runs of dimensions (lengths of 1 left out) with the same number of elements."""
    ins = [d for d, length in enumerate(before) if length != 1]
    outs = [d for d, length in enumerate(after) if length != 1]
    chunks: list[tuple[list[int], list[int]]] = []
    while ins and outs:
        left, right = [ins.pop(0)], [outs.pop(0)]
        product_in, product_out = before[left[0]], after[right[0]]
        while product_in != product_out:
            if product_in < product_out:
                left.append(ins.pop(0))
                product_in *= before[left[-1]]
            else:
                right.append(outs.pop(0))
                product_out *= after[right[-1]]
        chunks.append((left, right))
    return chunks


def expand(walk: Walk, node: fx.Node) -> Dims:
    """Stretches dimensions of length 1; `expand_as` ties the rest to the other tensor."""
    if node.target in ("expand_as", "view_as", "type_as"):
        return broadcast(walk, node)
    source = first_tensor(walk, node)
    dims = walk.dims[source]
    for layout, length in zip(dims, walk.shapes[source.name], strict=True):
        if layout and _is_constant(node, length):
            walk.channels.pin(layout)
    lead = len(walk.shapes[node.name]) - len(dims)
    return (*([None] * lead), *dims)


def permute(walk: Walk, node: fx.Node) -> Dims:
    """Dimensions in another order."""
    dims = walk.dims[first_tensor(walk, node)]
    if node.target in ("transpose", torch.transpose):
        order = list(range(len(dims)))
        one, other = int(argument(node, 1, "dim0")), int(argument(node, 2, "dim1"))
        order[one], order[other] = order[other], order[one]
    else:
        given = node.args[1:] if len(node.args) != 2 else node.args[1]
        order = [int(d) for d in (given if isinstance(given, list | tuple) else [given])]  # type: ignore[arg-type]
    return tuple(dims[d] for d in order)


def index(walk: Walk, node: fx.Node) -> Dims:
    """`x[...]`: whole slices keep their layout, all other indexing keeps the full width."""
    source, key = node.args[0], node.args[1]
    assert isinstance(source, fx.Node)
    if source in walk.pieces:
        return _pick(walk, node, source, key)
    if not walk.is_tensor(source):
        return walk.fixed(node)
    dims = walk.dims[source]
    if any(walk.is_tensor(value) for value in node.all_input_nodes if value is not source):
        return walk.keep(node)
    keys = list(key) if isinstance(key, tuple) else [key]
    keys += [slice(None)] * (len(dims) - len([k for k in keys if k is not None]))
    if any(k is Ellipsis for k in keys) or len(keys) != len(dims):
        return pinned(walk, node)
    result: list[Layout | None] = []
    for layout, item in zip(dims, keys, strict=True):
        if item == slice(None):
            result.append(layout)
            continue
        walk.channels.pin(layout)
        if not isinstance(item, int):
            result.append(None)
    return tuple(result)


def _pick(walk: Walk, node: fx.Node, source: fx.Node, key: Any) -> Dims:
    """One of several tensors, or some of them."""
    if isinstance(key, int):
        return walk.pieces[source][key]
    walk.pieces[node] = walk.pieces[source][key]
    return ()


def pad(walk: Walk, node: fx.Node) -> Dims:
    """`F.pad` of the two spatial dimensions; anything wider is fixed."""
    widths = argument(node, 1, "pad")
    if isinstance(widths, list | tuple) and len(widths) <= 4:
        return spatial(walk, node)
    return pinned(walk, node)


UNARY_FUNCTIONS: tuple[Any, ...] = (
    F.relu, F.relu6, F.leaky_relu, F.elu, F.celu, F.selu, F.gelu, F.silu, F.mish, F.hardswish,
    F.hardsigmoid, F.hardtanh, F.softplus, F.tanh, F.sigmoid, F.dropout, F.dropout2d,
    torch.relu, torch.tanh, torch.sigmoid, torch.clamp, torch.abs,
    torch.exp, torch.log, torch.sqrt, torch.rsqrt, torch.square, torch.neg, torch.clone,
    torch.sin, torch.cos, torch.erf, torch.floor, torch.round, operator.neg, operator.pos, abs,
    torch.zeros_like, torch.ones_like, torch.clip, F.logsigmoid, F.softsign, F.tanhshrink,
    F.softshrink, F.hardshrink, F.threshold, F.rrelu, F.alpha_dropout, F.feature_alpha_dropout,
    F.relu_, F.leaky_relu_, F.elu_, F.hardtanh_, torch.relu_, torch.rand_like,
    torch.randn_like, torch.sign, torch.reciprocal, torch.log1p, torch.expm1,
)  # fmt: skip
SPATIAL_FUNCTIONS: tuple[Any, ...] = (
    F.interpolate, F.upsample, F.avg_pool2d, F.max_pool2d, F.adaptive_avg_pool2d,
    F.adaptive_max_pool2d,
)  # fmt: skip
UNARY_METHODS = (
    "relu", "relu_", "tanh", "tanh_", "sigmoid", "sigmoid_", "clamp", "clamp_", "clip", "abs",
    "exp", "log", "sqrt", "rsqrt", "square", "neg", "clone", "contiguous", "detach", "float",
    "to", "type", "half", "bfloat16", "double", "cuda", "cpu", "requires_grad_", "clamp_min",
    "clamp_max", "round", "floor", "sign", "reciprocal", "sin", "cos", "neg_", "abs_", "exp_",
    "sqrt_", "square_", "erf", "log1p", "expm1", "type", "zero_", "fill_",
)  # fmt: skip
BINARY_FUNCTIONS: tuple[Any, ...] = (
    operator.add, operator.iadd, operator.sub, operator.isub, operator.mul, operator.imul,
    operator.truediv, operator.itruediv, operator.pow, torch.add, torch.sub, torch.mul, torch.div,
    torch.true_divide, torch.pow, torch.maximum, torch.minimum, torch.where, torch.lerp,
    torch.addcmul, operator.gt, operator.lt, operator.ge, operator.le,
)  # fmt: skip
BINARY_METHODS = (
    "add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_", "pow", "pow_", "maximum",
    "minimum", "lerp", "type_as", "expand_as", "true_divide",
)  # fmt: skip

FUNCTION_RULES: dict[Any, Rule] = {
    **dict.fromkeys(UNARY_FUNCTIONS, same_dims),
    **dict.fromkeys(SPATIAL_FUNCTIONS, spatial),
    **dict.fromkeys(BINARY_FUNCTIONS, broadcast),
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), concatenate),
    **dict.fromkeys((torch.matmul, torch.bmm, operator.matmul), matmul),
    **dict.fromkeys((torch.softmax, F.softmax, F.log_softmax, torch.log_softmax), same_dims),
    **dict.fromkeys((torch.chunk, torch.split, torch.unbind), split),
    F.pixel_shuffle: pixel_shuffle,
    F.pixel_unshuffle: pixel_unshuffle,
    F.group_norm: functional_group_norm,
    F.glu: halves,
    **dict.fromkeys(
        (F.conv2d, F.conv_transpose2d, torch.conv2d, torch.conv_transpose2d),
        functional_convolution,
    ),
    **dict.fromkeys((F.instance_norm, F.batch_norm), functional_norm),
    **dict.fromkeys((torch.mean, torch.sum, torch.var, torch.std, torch.amax), reduce_dims),
    **dict.fromkeys((torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze), reshape),
    **dict.fromkeys((torch.permute, torch.transpose), permute),
    **dict.fromkeys((F.layer_norm, torch.flip, torch.roll), pinned),
    F.pad: pad,
    operator.getitem: index,
}
METHOD_RULES: dict[str, Rule] = {
    **dict.fromkeys(UNARY_METHODS, same_dims),
    **dict.fromkeys(BINARY_METHODS, broadcast),
    **dict.fromkeys(("mean", "sum", "var", "std", "amax"), reduce_dims),
    **dict.fromkeys(("view", "reshape", "flatten", "squeeze", "unsqueeze"), reshape),
    **dict.fromkeys(("permute", "transpose"), permute),
    **dict.fromkeys(("chunk", "split", "unbind"), split),
    **dict.fromkeys(("matmul", "bmm"), matmul),
    **dict.fromkeys(("softmax", "log_softmax"), same_dims),
    **dict.fromkeys(("flip", "roll", "repeat"), pinned),
    "expand": expand,
}
