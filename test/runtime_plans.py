"""Plans for the runtime's tests, from small kernels that TVM builds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tvm
import tvm_ffi
from tvm import te

from torch_tvm.runtime import ALIGNMENT, Buffer, PackedPart, Plan, Step

Shape = Sequence[int]


def build(
    name: str, inputs: Sequence[Any], outputs: Sequence[Any], *, parallel: bool = False
) -> tvm_ffi.Function:
    """Compile the tensor expression as a kernel of that name; its outermost loop is parallel on demand."""
    function = te.create_prim_func([*inputs, *outputs]).with_attr("global_symbol", name)
    schedule = tvm.s_tir.Schedule(tvm.IRModule({name: function}))
    if parallel:
        for output in outputs:
            schedule.parallel(schedule.get_loops(schedule.get_sblock(output.op.name, name))[0])
    return tvm.tirx.build(schedule.mod, target="llvm")[name]


@functools.cache
def pointwise(
    name: str,
    count: int,
    shape: tuple[int, ...],
    compute: Callable[..., Any],
    dtype: str = "float32",
    parallel: bool = False,
) -> tvm_ffi.Function:
    """A kernel `output[i] = compute(input_0[i], ...)` on `count` inputs."""
    inputs = [te.placeholder(shape, dtype, name=f"input_{i}") for i in range(count)]
    output = te.compute(shape, lambda *i: compute(*(x(*i) for x in inputs)), name="output")
    return build(name, inputs, [output], parallel=parallel)


def add(a: Any, b: Any) -> Any:
    return a + b


def multiply(a: Any, b: Any) -> Any:
    return a * b


def double(a: Any) -> Any:
    return a + a


def multiply_add(shape: Shape, dtype: str = "float32", **fields: Any) -> Plan:
    """`inputs[0] * inputs[1] + inputs[2]`, with the product in the arena."""
    extents = tuple(shape)
    buffers = [Buffer("input", shape, dtype, index=i) for i in range(3)]
    buffers += [Buffer("output", shape, dtype, index=0), Buffer("arena", shape, dtype)]
    steps = [
        Step("multiply", pointwise("multiply", 2, extents, multiply, dtype), [0, 1, 4]),
        Step("add", pointwise("add", 2, extents, add, dtype), [4, 2, 3]),
    ]
    return Plan(
        "multiply_add",
        buffers,
        steps,
        num_inputs=3,
        num_outputs=1,
        arena_bytes=bytes_of(shape, dtype),
        **fields,
    )


def one_step(
    name: str, function: Any, inputs: Sequence[Shape], output: Shape, dtype: str = "float32"
) -> Plan:
    """One kernel from inputs to one output."""
    buffers = [Buffer("input", shape, dtype, index=i) for i, shape in enumerate(inputs)]
    buffers.append(Buffer("output", output, dtype, index=0))
    step = Step(name, function, range(len(buffers)))
    return Plan(name, buffers, [step], num_inputs=len(inputs), num_outputs=1)


def doubled_weight(shape: Shape) -> Plan:
    """`inputs[0] + 2 * weights[0] + weights[1]`; the doubling is packing."""
    extents = tuple(shape)
    buffers = [
        Buffer("input", shape, "float32", index=0),
        Buffer("output", shape, "float32", index=0),
        Buffer("weight", shape, "float32", index=0),
        Buffer("packed", shape, "float32"),
        Buffer("weight", shape, "float32", index=1),
        Buffer("arena", shape, "float32"),
    ]
    add_kernel = pointwise("add", 2, extents, add)
    return Plan(
        "doubled_weight",
        buffers,
        [Step("add_packed", add_kernel, [0, 3, 5]), Step("add_bias", add_kernel, [5, 4, 1])],
        packing_steps=[Step("double", pointwise("double", 1, extents, double), [2, 3])],
        num_inputs=1,
        num_weights=2,
        num_outputs=1,
        arena_bytes=bytes_of(shape, "float32"),
        packed_parts=[PackedPart(f"double {shape}", [0], 0, aligned(bytes_of(shape, "float32")), [0])],
    )


def aligned(size: int) -> int:
    """Round up to what packed parts are multiples of."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def bytes_of(shape: Shape, dtype: str) -> int:
    """Size of a tensor."""
    count = functools.reduce(lambda a, b: a * b, shape, 1)
    return int(count * tvm.DataType(dtype).bits // 8)
