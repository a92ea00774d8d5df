"""A converter in another C++ library, built against the headers and the library that the package has."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import torch
import tvm_ffi
from torch import Tensor
from torch.utils.cpp_extension import include_paths, library_paths

import torch_tvm


@pytest.fixture(scope="module", autouse=True)
def plugin(tmp_path_factory: pytest.TempPathFactory) -> None:
    library = str(tmp_path_factory.mktemp("plugin") / "plugin.so")
    core = Path(torch_tvm.get_library())
    includes = [torch_tvm.get_include(), str(Path(tvm_ffi.__file__).parent / "include"), *include_paths()]
    command = [os.environ.get("CXX", "g++"), "-std=c++20", "-O0", "-shared", "-fPIC", "-fvisibility=hidden"]
    command += [f"-I{folder}" for folder in includes]
    command += [str(Path(__file__).parent / "plugin.cpp"), "-o", library]
    command += [f"-L{folder}" for folder in (str(core.parent), *library_paths())]
    command += [f"-l:{core.name}", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{core.parent}"]
    subprocess.run(command, check=True, timeout=300)
    torch.ops.load_library(library)


def cubes(x: Tensor) -> Tensor:
    return torch.ops.torch_tvm_test_plugin.cube(x, 0.5).relu()


def test_its_operator_is_compiled() -> None:
    torch_tvm.enable(strict=True)
    x = torch.randn(5, 7)
    torch.testing.assert_close(torch.jit.trace(cubes, (x,))(x), cubes(x))
    assert torch_tvm.stats()["compiled"] == 1


def test_its_operator_in_relay() -> None:
    relay_function = torch_tvm.to_relay(cubes, (torch.randn(5, 7),))
    assert relay_function.astext().count("multiply(") == 2


def test_its_refusal_names_the_operator() -> None:
    with pytest.raises(torch_tvm.NotConvertibleError, match="plugin::cube.*x has no floating point dtype"):
        torch_tvm.to_relay(cubes, (torch.ones(3, dtype=torch.int32),))
