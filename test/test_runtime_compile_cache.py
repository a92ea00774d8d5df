"""The compile cache is a C++ template of the core: its test is C++ too, run under ThreadSanitizer."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

HERE = Path(__file__).parent


def test_compile_cache(tmp_path: Path) -> None:
    program = str(tmp_path / "compile_cache")
    command = [
        os.environ.get("CXX", "g++"),
        "-std=c++20",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-O1",
        "-g",
        "-pthread",
    ]
    command += ["-fsanitize=thread", f"-I{HERE.parent / 'csrc'}", "-o", program]
    subprocess.run([*command, str(HERE / "test_runtime_compile_cache.cpp")], check=True, timeout=300)
    # `make asan` preloads the other sanitizer, and there can be only one.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    # ThreadSanitizer may refuse a kernel's address randomisation; without it the layout is as it expects.
    for prefix in [], ["setarch", "-R"]:
        ran = subprocess.run(
            [*prefix, program], env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        if "unexpected memory mapping" not in ran.stderr:
            break
    assert (ran.returncode, ran.stdout) == (0, "ok\n"), ran.stdout + ran.stderr
