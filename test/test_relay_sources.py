"""The PyTorch sources of the programs that TVM 0.19 printed: `to_relay` emits the operators that TVM's own frontend did."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import relay_eval
import torch
from convert_checks import assert_same, check_relay, flatten, operators
from test_compiler_golden import INDEX, inputs_of, program

import torch_tvm

SOURCES = {entry["name"]: str(entry["torch"]) for entry in INDEX if "torch" in entry}
# Operators that only TVM's frontend emitted, operators that only `to_relay` emits, and why.
DIFFERENCES: dict[str, tuple[dict[str, int], dict[str, int], str]] = {
    "add_alpha": ({}, {"multiply": 1}, "TVM's frontend took no notice of alpha"),
    "scalar_ops": ({"multiply": 1}, {}, "TVM's frontend multiplied 1 by alpha, a product of two constants"),
    "if_script": ({"multiply": 1}, {}, "TVM's frontend multiplied 1 by alpha, a product of two constants"),
    "conv_depthwise_stride": (
        {"reshape": 1},
        {},
        "TVM's frontend changed the weight's shape to that of a kernel of layout (channels, multiplier)",
    ),
    "linear_3d": (
        {"broadcast_to": 2, "reshape": 3, "transpose": 1, "nn.batch_matmul": 1, "squeeze": 1},
        {"nn.dense": 1},
        "nn.dense takes operands of any rank",
    ),
    "bmm": ({"broadcast_to": 2, "reshape": 3, "squeeze": 1}, {}, "they change no shape"),
    "matmul_4d": ({"broadcast_to": 2, "squeeze": 1}, {}, "they change no shape"),
    "shapes": ({"repeat": 1}, {"broadcast_to": 1}, "expand is broadcast_to, which copies nothing"),
    "slicing": (
        {"take": 1},
        {"strided_slice": 1, "squeeze": 1},
        "x[:, -1] is a slice; take is for indices that are data",
    ),
    "reductions": ({}, {"cast": 1}, "argmax gives int64 in PyTorch, int32 in Relay"),
    "unary": ({"power": 1}, {"multiply": 2}, "x ** 3 is x * x * x, as in eager PyTorch"),
    "sorting": ({"gather": 1}, {"sort": 1}, "values come from sort, not from indices that are gathered"),
    "creation": (
        {"arange": 1, "zeros_like": 1, "full": 1},
        {},
        "what depends on no input is a constant, and zeros_like is `full`",
    ),
    "padding": ({"nn.pad": 1}, {"nn.mirror_pad": 1}, "Relay's operator for reflection is nn.mirror_pad"),
    "casts": ({}, {"not_equal": 1}, "TVM's frontend took Tensor.bool() for no operation"),
}


def load(name: str, folder: Path) -> Any:
    """Import a source and give its function or module; scripting reads the file."""
    path = folder / f"golden_{name}.py"
    path.write_text(
        f"import torch\nimport torch.nn.functional as F\nfrom torch import nn\n\n{SOURCES[name]}\n"
    )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not SOURCES[name].startswith("class "):
        return getattr(module, name)
    made = getattr(module, SOURCES[name].split()[1].partition("(")[0])().eval()
    return torch.jit.script(made) if name == "if_script" else made


@pytest.mark.parametrize("name", SOURCES)
def test_source(name: str, tmp_path: Path) -> None:
    fn, golden = load(name, tmp_path), program(name)
    inputs = inputs_of(golden)
    converted = torch_tvm.to_relay(fn, inputs)
    check_relay(converted)
    theirs, ours = Counter(operators(golden)), Counter(operators(converted))
    only_theirs, only_ours, _ = DIFFERENCES.get(name, ({}, {}, ""))
    assert (dict(theirs - ours), dict(ours - theirs)) == (only_theirs, only_ours)
    for sign in (1, -1):
        values = [tensor * sign for tensor in inputs] if name == "if_script" else inputs
        with torch.no_grad():
            expected = flatten(fn(*values))
        got = relay_eval.evaluate(converted, values)
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert_same(one, other)


def test_every_difference_has_a_program() -> None:
    assert set(DIFFERENCES) <= set(SOURCES)
    assert len(SOURCES) == 28
