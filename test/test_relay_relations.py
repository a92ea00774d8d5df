"""Type relations: what Relax infers for the operators that it has too, and what TVM 0.19 rejects."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_compiler_golden import INDEX, program
from tvm import tirx

import torch_tvm
from torch_tvm import relay
from torch_tvm.compiler.operators import LOWERINGS
from torch_tvm.compiler.relay_to_relax import relay_to_relax
from torch_tvm.relay.relations import RELATIONS


def relax_types(function: relay.Function) -> list[tuple[list[int], str]]:
    """Types of the results, inferred by TVM through Relax."""
    results = (
        function.ret_type.fields if isinstance(function.ret_type, relay.TupleType) else [function.ret_type]
    )
    orders = [list(range(len(param.type_annotation.shape))) for param in function.params]
    module = relay_to_relax(function, len(orders), orders, [list(range(len(ty.shape))) for ty in results])
    types = module["main"].ret_ty.fields
    return [
        ([int(d) if isinstance(d, tirx.IntImm) else -1 for d in ty.shape.values], str(ty.dtype))
        for ty in types
    ]


def stated(function: relay.Function) -> list[tuple[list[int], str]]:
    results = (
        function.ret_type.fields if isinstance(function.ret_type, relay.TupleType) else [function.ret_type]
    )
    return [(list(ty.shape), str(ty.dtype)) for ty in results]


STRAIGHT = [entry["name"] for entry in INDEX if "built" not in entry["name"] and entry["name"] != "if_script"]


@pytest.mark.parametrize("name", STRAIGHT)
def test_golden_programs_have_the_types_of_relax(name: str) -> None:
    function = relay.check(program(name))
    assert stated(function) == relax_types(function)


def layers(x: torch.Tensor, weight: torch.Tensor, volume: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return (
        F.conv2d(x, weight, stride=2, padding=(1, 2), dilation=(2, 1)),
        F.conv_transpose2d(x, weight.transpose(0, 1), stride=2, padding=1, output_padding=1),
        F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
        F.avg_pool3d(volume, 2),
        F.adaptive_avg_pool3d(volume, (2, 1, 3)),
        F.adaptive_max_pool2d(x, 3),
        F.pixel_shuffle(x, 2),
        F.interpolate(volume, scale_factor=2.0, mode="trilinear"),
        F.grid_sample(x, torch.zeros(2, 5, 6, 2), align_corners=False),
        F.group_norm(x, 2),
        F.instance_norm(x),
        F.softmax(x, 1),
    )


def places(x: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return (
        x[index],
        x.gather(0, index.unsqueeze(1)),
        x.scatter_add(0, index.unsqueeze(1), x[:, :1]),
        F.one_hot(index, 4),
        torch.searchsorted(x.sort(1)[0], x),
        x.cumsum(1),
        x.cumprod(0),
        *x.topk(2, 1),
        x.argsort(0),
        *x.max(0),
        x.roll(1, 0),
        x.flip(0),
        x.tile(2, 3),
        x.repeat_interleave(2, 1),
        torch.einsum("ij,kj->ik", x, x),
        x.std(0),
        torch.stack([x, x], 1),
        *x.split([1, 2], 1),
        x.any(1),
    )


@pytest.mark.parametrize(
    ("fn", "inputs"),
    [
        (layers, [torch.rand(2, 4, 8, 9), torch.rand(3, 4, 3, 2), torch.rand(1, 2, 4, 6, 5)]),
        (places, [torch.rand(4, 3), torch.tensor([0, 2, 1, 3])]),
    ],
    ids=["layers", "places"],
)
def test_emitted_programs_have_the_types_of_relax(fn: Any, inputs: list[torch.Tensor]) -> None:
    function = relay.check(torch_tvm.to_relay(fn, inputs))
    assert stated(function) == relax_types(function)
    assert stated(function) == [
        (list(tensor.shape), str(tensor.dtype).removeprefix("torch.")) for tensor in fn(*inputs)
    ]


def test_what_can_be_compiled_has_a_type_relation() -> None:
    assert set(LOWERINGS) <= set(RELATIONS)


TYPED = {
    # operator with operands of these types and attributes: the type of its result
    "reshape(%a, newshape=[0, -1])": "Tensor[(2, 12), float32]",
    "reshape(%a, newshape=[-2])": "Tensor[(2, 3, 4), float32]",
    "reshape(%a, newshape=[-3, 0])": "Tensor[(6, 4), float32]",
    "reshape(%a, newshape=[-4, 1, -1, -2])": "Tensor[(1, 2, 3, 4), float32]",
    "strided_slice(%a, begin=[-1, 3], end=[9, -9], strides=[1, -2], axes=[0, 2])": "Tensor[(1, 3, 2), float32]",
    'strided_slice(%a, begin=[1, 0], end=[-1, 2], strides=[], slice_mode="size", axes=None)': (
        "Tensor[(1, 2, 4), float32]"
    ),
    'layout_transform(%i, src_layout="NCHW", dst_layout="NCHW2c")': "Tensor[(1, 2, 6, 6, 2), float32]",
    "nn.upsampling(%i, scale_h=2f, scale_w=1.5f)": "Tensor[(1, 4, 12, 9), float32]",
    "argwhere(%a)": "Tensor[(?, 3), int32]",
    "shape_of(%a)": "Tensor[(3), int32]",
    'qnn.quantize(%a, 0.5f, 3, out_dtype="uint8", axis=1)': "Tensor[(2, 3, 4), uint8]",
    'qnn.dequantize(%q, 0.5f, 3, out_dtype="float32")': "Tensor[(2, 8), float32]",
    'qnn.requantize(%q, 0.5f, 3, 0.25f, 0, out_dtype="int8")': "Tensor[(2, 8), int8]",
    'qnn.dense(%q, %w, 3, 0, 0.5f, 0.25f, units=4, out_dtype="int32")': "Tensor[(2, 4), int32]",
    "qnn.add(%q, %q, 0.5f, 3, 0.5f, 3, 1f, 0)": "Tensor[(2, 8), uint8]",
    "qnn.concatenate((%q, %q), (1f, 1f), (0, 0), 1f, 0, axis=1)": "Tensor[(2, 16), uint8]",
    'vision.roi_align(%i, %r, pooled_size=[2, 3], spatial_scale=1f, attrs_type_key="relay.attrs.ROIAlignAttrs")': (
        "Tensor[(5, 4, 2, 3), float32]"
    ),
    'dyn.zeros(%s, shape=None, dtype="float32")': "Tensor[(?, ?), float32]",
    "nn.relu(%y)": "Tensor[(?, 3), float32]",
    "sum(%y, axis=[1])": "Tensor[(?), float32]",
    "concatenate((%y, %y))": "Tensor[(?, 3), float32]",
}
REJECTED = {
    "reshape(%a, newshape=[5, -1])": r"expected a shape for 24 elements, got newshape=\[5, -1\]",
    "transpose(%a, axes=[0, 0, 1])": "expected axes to name each axis once",
    "squeeze(%a, axis=[1])": "expected size 1 on axis 1, got 3",
    "split(%a, indices_or_sections=2, axis=1)": "expected 2 equal parts of 3 elements",
    "concatenate((%a, %q))": "expected tensors of one dtype, got float32, uint8",
    "broadcast_to(%a, shape=[2, 3, 5])": r"broadcasts to, got \(2, 3, 5\)",
    "gather(%a, %a, axis=0)": "expected signed integers as indices, got float32",
    'take(%a, %q, axis=0, mode="wrong")': "expected mode to be 'clip', 'wrap', 'fast', got 'wrong'",
    "topk(%a, k=9)": "expected k to be at most 4, got 9",
    "all(%a)": "expected bool, got float32",
    "nn.dense(%a, %a, units=None)": "expected operand 1 of rank 2",
    "nn.batch_matmul(%a, %a)": "expected operands that sum over one size, got 4 and 3",
    "nn.conv2d(%i, transpose(%i, axes=[1, 0, 2, 3]))": "expected size 4 on axis I of the weight, got 1",
    "nn.max_pool2d(%i, pool_size=[9, 9])": "expected a window that fits into 6 elements of axis H",
    "nn.pad(%a, 0f, pad_width=[[0, 0]])": "expected pad_width of 3 pairs",
    "nn.softmax(%a, axis=3)": r"expected axis in \[-3, 3\), got 3",
    'qnn.quantize(%a, 0.5f, 3f, out_dtype="uint8")': "expected the dtype of operand 2 to be 'int32', got 'float32'",
    'qnn.quantize(%a, 0.5f, 3, out_dtype="float16")': "expected out_dtype to be",
    "nn.layer_norm(%a, %s, %s)": "expected operands of one dtype, got float32 and int64",
    "one_hot(%q, 1f, 0f, depth=0)": "expected depth above 0, got 0",
}
PARAMS = (
    "fn (%a: Tensor[(2, 3, 4), float32], %i: Tensor[(1, 4, 6, 6), float32], %q: Tensor[(2, 8), uint8], "
    "%w: Tensor[(4, 8), int8], %r: Tensor[(5, 5), float32], %s: Tensor[(2), int64], %y: Tensor[(?, 3), float32])"
)


@pytest.mark.parametrize("call", TYPED)
def test_results(call: str) -> None:
    assert repr(relay.check(f"{PARAMS} {{ {call} }}").ret_type) == TYPED[call]


@pytest.mark.parametrize("call", REJECTED)
def test_rejected_calls(call: str) -> None:
    with pytest.raises(relay.TypeInferenceError, match=rf"line 1, column \d+: .*(?:{REJECTED[call]})"):
        relay.check(f"{PARAMS} {{ {call} }}")


def test_objects_are_checked_too() -> None:
    x, y = (relay.Var(name, relay.TensorType((2,), "float32")) for name in "xy")
    with pytest.raises(relay.TypeInferenceError, match="variable '%y' is bound nowhere in the function"):
        relay.check(relay.Function([x], relay.add(x, y)))
    body = relay.Let(y, relay.exp(x), relay.Let(y, relay.exp(x), y))
    with pytest.raises(relay.TypeInferenceError, match="variable '%y' is bound twice"):
        relay.check(relay.Function([x], body))
    with pytest.raises(relay.TypeInferenceError, match=r"expected operands of one dtype.*\(at net\.py:3:4\)"):
        wrong = relay.add(x, relay.const(1, "int64"), span=relay.Span("net.py", 3, 4))
        relay.check(relay.IRModule.from_expr(relay.Function([x], wrong)))
    with pytest.raises(TypeError, match="expected an expression or a module, got int"):
        relay.check(3)
