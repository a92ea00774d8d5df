"""Matrix products and convolutions."""

from __future__ import annotations

from torch_tvm.relay.ty import TensorType, Type

from .registry import ANY, CallSite, agree, larger, relation, times


def dense_shape(call: CallSite) -> list[int]:
    """Give the shape of x * transpose(w), w of (units, k)."""
    call.demand(call.rank() >= 1, f"expected operand 0 of rank 1 or more, got {call.types[0]!r}")
    *leading, inner = call.shape()
    units, weight_inner = call.demand_rank(2, 1)
    demand_inner(call, inner, weight_inner)
    return [*leading, _units(call, units)]


def demand_inner(call: CallSite, a: int, b: int) -> None:
    """Demand that the dims agree that a product sums over."""
    fits = agree(a, b) if call.attributes.get("units") is None else call.sizes.unify(a, b) is not None
    call.demand(fits, f"expected operands that sum over one size, got {a} and {b}")


def _units(call: CallSite, found: int) -> int:
    units = call.attr("units")
    if units is None:
        return found
    call.demand(call.sizes.unify(units, found) is not None, f"expected units={found}, got units={units}")
    return int(units)


@relation("nn.dense")
def _dense(call: CallSite) -> Type:
    call.one_dtype(0, 1)
    return TensorType(dense_shape(call), call.dtype_attr("out_dtype"))


@relation("nn.matmul")
def _matmul(call: CallSite) -> Type:
    call.one_dtype(0, 1)
    call.demand(call.rank() >= 1, f"expected operand 0 of rank 1 or more, got {call.types[0]!r}")
    a, b = call.shape(), call.demand_rank(2, 1)
    if call.attr("transpose_a"):
        call.demand(len(a) >= 2, f"expected operand 0 of rank 2 or more, got {call.types[0]!r}")
        a[-2:] = a[:-3:-1]
    b = b[::-1] if call.attr("transpose_b") else b
    demand_inner(call, a[-1], b[0])
    return TensorType([*a[:-1], _units(call, b[1])], call.dtype_attr("out_dtype"))


def batch_matmul_shape(call: CallSite) -> list[int]:
    """Give the shape of products of matrices, one by one."""
    (batch_a, m, k), (batch_b, k_b, n) = call.demand_rank(3), call.demand_rank(3, 1)
    m, k = (k, m) if call.attr("transpose_a") else (m, k)
    k_b, n = (n, k_b) if call.attr("transpose_b") else (k_b, n)
    demand_inner(call, k, k_b)
    message = f"expected one number of matrices, or 1, got {batch_a} and {batch_b}"
    call.demand(agree(batch_a, batch_b) or 1 in (batch_a, batch_b), message)
    return [larger(batch_a, batch_b), m, n]


@relation("nn.batch_matmul")
def _batch_matmul(call: CallSite) -> Type:
    call.one_dtype(0, 1)
    return TensorType(batch_matmul_shape(call), call.dtype_attr("out_dtype"))


def by_letter(call: CallSite, index: int, layout: str) -> dict[str, int]:
    """Give the sizes of an operand by the letters of its layout."""
    if not layout.isalpha() or len(set(layout)) != len(layout):
        raise NotImplementedError(f"the blocked layout {layout!r} has no type relation")
    return dict(zip(layout, call.demand_rank(len(layout), index), strict=True))


def in_layout(sizes: dict[str, int], layout: str) -> list[int]:
    """Give sizes in the order of a layout."""
    if set(layout) != set(sizes):
        raise TypeError(f"expected a layout of the axes {''.join(sizes)}, got {layout!r}")
    return [sizes[letter] for letter in layout]


def spatial_axes(layout: str) -> str:
    """Give the letters of the spatial axes, from the outermost to the innermost in space."""
    return "".join(letter for letter in "DHW" if letter in layout)


def padding_sums(call: CallSite, count: int) -> list[int]:
    """Give the padding of both sides of each spatial axis: one number, one for each axis, or one for each side."""
    padding = call.attr("padding")
    message = f"expected padding of 1, {count} or {2 * count} numbers, got {padding}"
    call.demand(len(padding) in (1, count, 2 * count), message)
    if len(padding) == 1:
        padding = padding * count
    if len(padding) == count:
        padding = [*padding, *padding]
    return [a + b for a, b in zip(padding[:count], padding[count:], strict=True)]


def per_axis(call: CallSite, name: str, count: int) -> list[int]:
    """Give an attribute that holds one number for each spatial axis."""
    values = call.attr(name)
    call.demand(len(values) == count, f"expected {name} of {count} numbers, got {values}")
    call.demand(name == "output_padding" or min(values) > 0, f"expected {name} above 0, got {values}")
    return list(values)


def _demand_weight(call: CallSite, data: dict[str, int], weight: dict[str, int], channels: int) -> None:
    """Demand the weight's two channel axes, which stand for (O, I) and, transposed, for (I, O)."""
    groups, transposed = call.attr("groups"), call.name.endswith("_transpose")
    inputs = data["C"]
    if inputs == ANY:
        return
    call.demand(inputs % groups == 0, f"expected channels in {groups} groups, got {inputs}")
    if transposed:
        wanted = {"I": inputs, "O": channels // groups}
    else:
        wanted = {"O": channels, "I": inputs // groups}
        depthwise = groups > 1 and groups == inputs == weight["O"]
        if depthwise and call.attr("channels") is not None:
            wanted = {"O": inputs, "I": channels // inputs}
    for letter, size in wanted.items():
        call.demand(
            agree(weight[letter], size),
            f"expected size {size} on axis {letter} of the weight, got {weight[letter]} in {call.types[1]!r}",
        )


def convolution_shape(call: CallSite) -> list[int]:
    """Give the shape of a convolution, or of a transposed one."""
    layout, transposed = call.attr("data_layout"), call.name.endswith("_transpose")
    data, weight = by_letter(call, 0, layout), by_letter(call, 1, call.attr("kernel_layout"))
    space = spatial_axes(layout)
    kernel = [weight[letter] for letter in space]
    given = call.attr("kernel_size")
    message = f"expected kernel_size={kernel} as of the weight, got {given}"
    call.demand(given is None or all(map(agree, given, kernel)), message)
    channels = call.attr("channels")
    if channels is None:
        channels = weight["O"]
    _demand_weight(call, data, weight, channels)
    strides, dilation = per_axis(call, "strides", len(space)), per_axis(call, "dilation", len(space))
    padding = padding_sums(call, len(space))
    extra = per_axis(call, "output_padding", len(space)) if transposed else [0] * len(space)
    result = {"N": data["N"], "C": channels}
    for i, letter in enumerate(space):
        extent, size = (kernel[i] - 1) * dilation[i] + 1, data[letter]
        if ANY in (size, kernel[i]):
            result[letter] = ANY
        elif transposed:
            result[letter] = strides[i] * (size - 1) + extent - padding[i] + extra[i]
        else:
            result[letter] = (size + padding[i] - extent) // strides[i] + 1
        call.demand(
            result[letter] >= ANY, f"expected a kernel that fits into axis {letter} of {size} elements"
        )
    return in_layout(result, call.attr("out_layout") or layout)


@relation(*[f"nn.conv{rank}d{kind}" for rank in (1, 2, 3) for kind in ("", "_transpose")])
def _convolution(call: CallSite) -> Type:
    call.one_dtype(0, 1)
    return TensorType(convolution_shape(call), call.dtype_attr("out_dtype"))


@relation("nn.deformable_conv2d")
def _deformable(call: CallSite) -> Type:
    data, weight = call.demand_rank(4), call.demand_rank(4, 2)
    strides, dilation = per_axis(call, "strides", 2), per_axis(call, "dilation", 2)
    padding, kernel, offset = padding_sums(call, 2), weight[2:], call.demand_rank(4, 1)
    call.one_of("data_layout", call.attr("data_layout"), "NCHW")
    sizes = [
        ANY
        if ANY in (size, kernel[i])
        else (size + padding[i] - (kernel[i] - 1) * dilation[i] - 1) // strides[i] + 1
        for i, size in enumerate(data[2:])
    ]
    call.demand_shape(1, [offset[0], times([2 * call.attr("deformable_groups"), *kernel]), *sizes])
    return TensorType([data[0], weight[0], *sizes], call.dtype_attr("out_dtype"))
