from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

import torch_tvm
from torch_tvm._version import TORCH_RELEASE

ROOT = Path(__file__).parent.parent
PACKAGE = Path(torch_tvm.__file__).parent
CORE = PACKAGE / "lib" / "libtorch_tvm.so"
FIND_PACKAGES = ROOT / "cmake" / "find_packages.py"

try:
    import tomllib
except ImportError:  # Python 3.10
    from pip._vendor import tomli as tomllib  # type: ignore[no-redef]


def output(*command: str | Path, **keywords: object) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, **keywords).stdout  # type: ignore[call-overload]


def test_core_is_free_of_python() -> None:
    symbols = output("nm", "-D", "--undefined-only", CORE).split()
    assert any("torch" in symbol for symbol in symbols)
    assert [symbol for symbol in symbols if re.match(r"_?Py[A-Z_]", symbol) or "pybind11" in symbol] == []
    libraries = output("ldd", CORE)
    assert "libtorch_cpu" in libraries
    assert "libpython" not in libraries
    assert "libtorch_python" not in libraries


def test_core_loads_without_python() -> None:
    """All that the core needs is found by its own RPATH: a C++ program can load it."""
    assert "not found" not in output("ldd", CORE)


def test_build_never_installs_torch() -> None:
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert all(not requirement.startswith("torch") for requirement in requirements)


def test_build_finds_the_installed_packages() -> None:
    torch_folder, ffi_folder = output(sys.executable, FIND_PACKAGES).split(";")
    assert Path(torch_folder) == Path(torch.__file__).parent
    assert (Path(ffi_folder) / "include" / "tvm" / "ffi").is_dir()


def test_build_refuses_another_torch(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").touch()
    (tmp_path / "torch" / "version.py").write_text("__version__ = '2.12.1+cpu'\n")
    done = subprocess.run(
        [sys.executable, FIND_PACKAGES],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert f"needs PyTorch {TORCH_RELEASE}, and PyTorch 2.12.1+cpu is installed" in done.stderr


def test_requirements_are_pinned() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    requirements = [line for line in lines if line and not line.startswith("#")]
    assert f"torch=={torch.__version__.split('+')[0]}" in requirements
    assert [line for line in requirements if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


@pytest.fixture(scope="module", params=["--no-build-isolation", "--use-pep517"])
def wheel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    output(sys.executable, "-m", "pip", "wheel", "--no-deps", request.param, "-w", folder, ROOT)
    return next(folder.glob("*.whl"))


@pytest.mark.package
def test_wheel(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path)
    assert "torch_tvm/lib/libtorch_tvm.so" in names
    assert any(re.fullmatch(r"torch_tvm/_C\..*\.so", name) for name in names)
    in_tree = {str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*.py")}
    assert in_tree <= set(names)
    assert [name for name in names if not name.startswith("torch_tvm")] == []
    for library in ("_C*.so", "lib/libtorch_tvm.so"):
        path = next((tmp_path / "torch_tvm").glob(library))
        runpath = re.search(r"R(?:UN)?PATH.*\[(.*)\]", output("readelf", "-d", path))
        assert runpath is not None
        assert all(part.startswith("$ORIGIN") for part in runpath.group(1).split(":"))
