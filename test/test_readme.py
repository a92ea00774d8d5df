"""Every Python example of the README runs, each in a process of its own."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from torch_tvm.options import Options

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_examples_are_found() -> None:
    assert len(EXAMPLES) == README.count("```python") >= 4


@pytest.mark.parametrize("index", range(len(EXAMPLES)))
def test_example(index: int, tmp_path: Path) -> None:
    program = tmp_path / "example.py"  # a file, because torch.jit.script reads the source
    program.write_text(EXAMPLES[index])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", program],
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def test_options_table_is_complete() -> None:
    table = dict(re.findall(r"^\| `(\w+)` \| `?([^`|]+?)`? \|", README, re.MULTILINE))
    options = Options()
    expected = {field.name: getattr(options, field.name) for field in dataclasses.fields(Options)}
    assert table == {
        name: f'"{value}"' if isinstance(value, str) else str(value) for name, value in expected.items()
    }


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\S+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
