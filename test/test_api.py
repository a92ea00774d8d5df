from __future__ import annotations

import doctest
import importlib
import logging
import os
import pkgutil
import subprocess
import sys

import pytest
import torch
import tvm_ffi

import torch_tvm
from torch_tvm import _C
from torch_tvm._version import check_torch
from torch_tvm.options import Options


def in_fresh_python(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


PUBLIC = [
    "enable",
    "disable",
    "is_enabled",
    "enabled",
    "disabled",
    "to_relay",
    "relay",
    "register_operator",
    "stats",
    "reset_stats",
    "clear_cache",
    "NotConvertibleError",
    "CompileError",
]


def test_public_names() -> None:
    assert set(PUBLIC) <= set(torch_tvm.__all__)
    assert all(hasattr(torch_tvm, name) for name in torch_tvm.__all__)


@pytest.mark.parametrize("name", sorted(set(PUBLIC) - {"relay", "CompileError"}))
def test_public_names_have_an_example(name: str) -> None:
    documentation = getattr(torch_tvm, name).__doc__
    assert "Examples\n" in documentation
    assert ">>>" in documentation


@pytest.mark.parametrize(("setting", "expected"), [("0", "False"), ("1", "True")])
def test_environment_switch(setting: str, expected: str) -> None:
    program = "import torch_tvm; print(torch_tvm.is_enabled())"
    assert in_fresh_python(program, TORCH_TVM=setting) == expected


def test_import_is_enough_and_does_not_load_the_compiler() -> None:
    """`import tvm` takes as long as `import torch`, and only the first compilation needs it."""
    program = "import sys, torch_tvm; print(torch_tvm.is_enabled(), 'tvm' in sys.modules)"
    assert in_fresh_python(program, TORCH_TVM="") == "True False"


def test_enable_sets_exactly_what_it_names() -> None:
    torch_tvm.enable(opt_level=1, min_group_size=5)
    torch_tvm.enable(strict=True)
    options = _C.get_options()
    assert (options["opt_level"], options["min_group_size"], options["strict"]) == (3, 2, True)


def test_every_option_reaches_the_core() -> None:
    changed = {
        "opt_level": 0,
        "strict": True,
        "debug": True,
        "debug_runtime": True,
        "is_training": True,
        "guard": False,
        "winograd": "f2",
        "min_group_size": 7,
        "max_signatures": 3,
        "max_static_signatures": 5,
    }
    torch_tvm.enable(**changed)  # type: ignore[arg-type]
    options = _C.get_options()
    assert {name: options[name] for name in changed} == changed
    torch_tvm.enable()
    assert all(_C.get_options()[name] == getattr(Options(), name) for name in changed)


def test_target_reaches_the_core() -> None:
    torch_tvm.enable(device="llvm -mcpu=haswell", host="llvm -mcpu=haswell")
    assert '"haswell"' in _C.get_options()["target"]


def test_scopes_nest_and_inherit() -> None:
    torch_tvm.disable()
    with torch_tvm.enabled(strict=True):
        with torch_tvm.enabled(opt_level=1):
            assert _C.get_options()["strict"]
            assert _C.get_options()["opt_level"] == 1
            with torch_tvm.disabled():
                assert not torch_tvm.is_enabled()
            assert torch_tvm.is_enabled()
        assert _C.get_options()["opt_level"] == 3
    assert not torch_tvm.is_enabled()
    assert not _C.get_options()["strict"]


def test_scopes_end_by_exceptions() -> None:
    with pytest.raises(KeyError), torch_tvm.enabled(opt_level=0):
        raise KeyError
    assert _C.get_options()["opt_level"] == 3
    with pytest.raises(KeyError), torch_tvm.disabled():
        raise KeyError
    assert torch_tvm.is_enabled()


def test_off_means_no_groups() -> None:
    function = torch.jit.trace(lambda x: (x + x).relu().exp(), torch.ones(4), check_trace=False)
    with torch_tvm.disabled():
        function(torch.ones(4))
        function(torch.ones(4))
    assert torch_tvm.stats()["compiled"] == 0
    assert "tvm::" not in str(torch.jit.last_executed_optimized_graph())


def test_log_reaches_python(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "torch_tvm"):
        tvm_ffi.get_global_func("torch_tvm.log")(20, "100 % of it")
    assert caplog.record_tuples == [("torch_tvm", logging.INFO, "100 % of it")]


@pytest.mark.parametrize("version", ["2.12.1", "2.14.0+cpu", "3.13.0", "2.130.0"])
def test_other_torch_is_refused(version: str) -> None:
    with pytest.raises(
        ImportError, match=rf"needs PyTorch 2\.13, and PyTorch {version.split('+', maxsplit=1)[0]}"
    ):
        check_torch(version)


def public_modules() -> list[str]:
    names = [module.name for module in pkgutil.walk_packages(torch_tvm.__path__, "torch_tvm.")]
    return ["torch_tvm", *(name for name in names if not name.startswith("torch_tvm._C"))]


@pytest.mark.parametrize("name", public_modules())
def test_examples_in_docstrings(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
