"""Relay operators that move, index, sort or create data compute what PyTorch's do."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from compiler_cases import check, rand

from torch_tvm import relay

call = relay.Call


def test_shapes() -> None:
    x = rand(2, 3, 4)
    slices = {"begin": [0, 1], "end": [2, 3], "strides": [1, 1], "axes": [0, 2]}
    pair = lambda x: [x, call("nn.relu", [x])]  # noqa: E731
    check(
        [
            ("reshape", lambda x: call("reshape", [x], {"newshape": [0, -1]}), lambda x: x.reshape(2, 12)),
            (
                "view of result",
                lambda x: call("reshape", [call("exp", [x])], {"newshape": [-1]}),
                lambda x: x.exp().flatten(),
            ),
            (
                "transpose",
                lambda x: call("transpose", [x], {"axes": [2, 0, 1]}),
                lambda x: x.permute(2, 0, 1),
            ),
            ("reverse axes", lambda x: call("transpose", [x], {"axes": None}), lambda x: x.permute(2, 1, 0)),
            (
                "expand_dims",
                lambda x: call("expand_dims", [x], {"axis": -1, "num_newaxis": 2}),
                lambda x: x[..., None, None],
            ),
            (
                "squeeze",
                lambda x: call("squeeze", [call("reshape", [x], {"newshape": [2, 1, 12, 1]})]),
                lambda x: x.reshape(2, 12),
            ),
            (
                "broadcast",
                lambda x: call("broadcast_to", [x], {"shape": [5, 2, 3, 4]}),
                lambda x: x.expand(5, 2, 3, 4),
            ),
            (
                "concatenate",
                lambda x: call("concatenate", [relay.Tuple(pair(x))], {"axis": -1}),
                lambda x: torch.cat([x, x.relu()], -1),
            ),
            (
                "stack",
                lambda x: call("stack", [relay.Tuple(pair(x))], {"axis": 1}),
                lambda x: torch.stack([x, x.relu()], 1),
            ),
            ("slice", lambda x: call("strided_slice", [x], slices), lambda x: x[0:2, :, 1:3]),
            (
                "slice with step",
                lambda x: call(
                    "strided_slice", [x], {"begin": [-1], "end": [-5], "strides": [-2], "axes": [2]}
                ),
                lambda x: x.flip(2)[..., ::2],
            ),
            (
                "slice by size",
                lambda x: call(
                    "strided_slice",
                    [x],
                    {"begin": [1], "end": [-1], "strides": [1], "axes": [1], "slice_mode": "size"},
                ),
                lambda x: x[:, 1:],
            ),
            (
                "empty slice",
                lambda x: call("strided_slice", [x], {"begin": [1], "end": [1], "strides": [1], "axes": [1]}),
                lambda x: x[:, 1:1],
            ),
            ("tile", lambda x: call("tile", [x], {"reps": [2, 1, 3]}), lambda x: x.repeat(2, 1, 3)),
            (
                "repeat",
                lambda x: call("repeat", [x], {"repeats": 2, "axis": 1}),
                lambda x: x.repeat_interleave(2, 1),
            ),
            ("reverse", lambda x: call("reverse", [x], {"axis": 1}), lambda x: x.flip(1)),
            (
                "split",
                lambda x: relay.TupleGetItem(call("split", [x], {"indices_or_sections": 3, "axis": 1}), 1),
                lambda x: x[:, 1:2],
            ),
            (
                "split at",
                lambda x: relay.TupleGetItem(
                    call("split", [x], {"indices_or_sections": [1, 3], "axis": 2}), 1
                ),
                lambda x: x[..., 1:3],
            ),
            (
                "layout",
                lambda x: call(
                    "layout_transform",
                    [call("expand_dims", [x], {"axis": 0})],
                    {"src_layout": "NCHW", "dst_layout": "NHWC"},
                ),
                lambda x: x[None].permute(0, 2, 3, 1),
            ),
            (
                "moved twice",
                lambda x: call(
                    "transpose",
                    [
                        call(
                            "reshape",
                            [call("transpose", [x], {"axes": [1, 0, 2]})],
                            {"newshape": [4, 6]},
                        )
                    ],
                    {"axes": [1, 0]},
                ),
                lambda x: x.permute(1, 0, 2).reshape(4, 6).T,
            ),
            ("input", lambda x: x, lambda x: x),
            ("flatten", lambda x: call("nn.batch_flatten", [x]), lambda x: x.flatten(1)),
            (
                "where slices",
                lambda x: call(
                    "add",
                    [
                        call("transpose", [x], {"axes": [1, 0, 2]}),
                        call("reshape", [x], {"newshape": [3, 2, 4]}),
                    ],
                ),
                lambda x: x.permute(1, 0, 2) + x.reshape(3, 2, 4),
            ),
        ],
        [x],
    )


def test_padding_and_resizing() -> None:
    x = rand(1, 2, 5, 6)
    width = {"pad_width": [[0, 0], [0, 0], [2, 0], [1, 3]]}
    zero = relay.const(0)
    resize = {"size": [10, 12], "roi": [0.0] * 4, "rounding_method": "", "cubic_alpha": -0.75}
    nearest = {**resize, "method": "nearest_neighbor", "coordinate_transformation_mode": "asymmetric"}
    check(
        [
            (
                "constant",
                lambda x: call("nn.pad", [x, relay.const(1.5)], width),
                lambda x: F.pad(x, (1, 3, 2, 0), value=1.5),
            ),
            (
                "reflect",
                lambda x: call("nn.pad", [x, zero], {**width, "pad_mode": "reflect"}),
                lambda x: F.pad(x, (1, 3, 2, 0), "reflect"),
            ),
            (
                "edge",
                lambda x: call("nn.pad", [x, zero], {**width, "pad_mode": "edge"}),
                lambda x: F.pad(x, (1, 3, 2, 0), "replicate"),
            ),
            (
                "mirror",
                lambda x: call("nn.mirror_pad", [x], {**width, "mode": "REFLECT"}),
                lambda x: F.pad(x, (1, 3, 2, 0), "reflect"),
            ),
            (
                "bilinear",
                lambda x: call("image.resize2d", [x], resize),
                lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
            ),
            (
                "nearest",
                lambda x: call("image.resize2d", [x], nearest),
                lambda x: F.interpolate(x, scale_factor=2),
            ),
            (
                "shuffle",
                lambda x: call(
                    "nn.depth_to_space",
                    [call("tile", [x], {"reps": [1, 2, 1, 1]})],
                    {"block_size": 2, "mode": "CRD"},
                ),
                lambda x: F.pixel_shuffle(x.repeat(1, 2, 1, 1), 2),
            ),
        ],
        [x],
    )


def test_indexing() -> None:
    table, index = rand(7, 5), torch.tensor([[0, 4, 3], [2, 2, 1]])
    square = rand(4, 4)
    last = relay.const(-1)
    check(
        [
            (
                "embedding",
                lambda t, i, s: call("take", [t, i], {"axis": 0}),
                lambda t, i, s: F.embedding(i, t),
            ),
            (
                "select",
                lambda t, i, s: call("take", [t, last], {"axis": 1, "mode": "wrap"}),
                lambda t, i, s: t[:, -1],
            ),
            (
                "gather",
                lambda t, i, s: call("gather", [t, call("transpose", [i], {"axes": None})], {"axis": 1}),
                lambda t, i, s: t.gather(1, i.T),
            ),
            ("adv_index", lambda t, i, s: call("adv_index", [relay.Tuple([t, i])]), lambda t, i, s: t[i]),
            (
                "one_hot",
                lambda t, i, s: call(
                    "one_hot", [i, relay.const(1.0), relay.const(0.0)], {"depth": 7, "dtype": "float32"}
                ),
                lambda t, i, s: F.one_hot(i, 7).float(),
            ),
            (
                "triu",
                lambda t, i, s: call("trilu", [s, relay.const(1, "int64")], {"upper": True}),
                lambda t, i, s: s.triu(1),
            ),
            (
                "tril",
                lambda t, i, s: call("trilu", [s, relay.const(0, "int64")], {"upper": False}),
                lambda t, i, s: s.tril(),
            ),
            ("cumsum", lambda t, i, s: call("cumsum", [t], {"axis": 1}), lambda t, i, s: t.cumsum(1)),
            (
                "einsum",
                lambda t, i, s: call("einsum", [relay.Tuple([s, s])], {"equation": "ij,kj->ik"}),
                lambda t, i, s: s @ s.T,
            ),
        ],
        [table, index, square],
    )


def test_sorting() -> None:
    x = rand(4, 9)
    top = lambda i: lambda x: relay.TupleGetItem(call("topk", [x], {"k": 3, "dtype": "int64"}), i)  # noqa: E731
    check(
        [
            ("sort", lambda x: call("sort", [x], {"axis": 1}), lambda x: x.sort(1).values),
            (
                "argsort",
                lambda x: call("argsort", [x], {"axis": 1, "is_ascend": False, "dtype": "int32"}),
                lambda x: x.argsort(1, True).int(),
            ),
            ("topk values", top(0), lambda x: x.topk(3).values),
            ("topk indices", top(1), lambda x: x.topk(3).indices),
        ],
        [x],
    )


def test_creation() -> None:
    x = rand(2, 3)
    zero, one, end = (relay.const(v, "int64") for v in (0, 1, 5))
    check(
        [
            (
                "full",
                lambda x: call("full", [relay.const(7.5)], {"shape": [2, 3], "dtype": "float32"}),
                lambda x: torch.full((2, 3), 7.5),
            ),
            (
                "zeros",
                lambda x: call("zeros", [], {"shape": [2], "dtype": "int64"}),
                lambda x: torch.zeros(2, dtype=torch.int64),
            ),
            ("ones", lambda x: call("ones", [], {"shape": [], "dtype": "float32"}), lambda x: torch.ones(())),
            (
                "arange",
                lambda x: call(
                    "arange", [zero, end, one], {"start": zero, "stop": end, "step": one, "dtype": "int64"}
                ),
                lambda x: torch.arange(5),
            ),
            (
                "used",
                lambda x: call(
                    "multiply", [x, call("full", [relay.const(2.0)], {"shape": [2, 3], "dtype": "float32"})]
                ),
                lambda x: x * 2,
            ),
        ],
        [x],
    )
