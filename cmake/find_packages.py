"""Print the folders of torch and tvm_ffi, separated by a semicolon (a CMake list).

Nothing is imported: under pip's build isolation both packages are hidden from sys.path, and sysconfig's purelib
still names the environment that they are installed in.
"""

import importlib.util
import re
import sysconfig
from pathlib import Path

VERSION_FILE = Path(__file__).parent.parent / "torch_tvm" / "_version.py"


def find(name: str) -> Path:
    """Return the folder of an installed package, by preference of the one that Python would import."""
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.origin:
        return Path(spec.origin).parent
    for scheme in ("purelib", "platlib"):
        folder = Path(sysconfig.get_path(scheme), name)
        if folder.is_dir():
            return folder
    raise SystemExit(f"torch_tvm builds against the installed {name}, and none was found: install it first")


def assigned(file: Path, name: str) -> str:
    """Return the string that a Python file assigns to a name."""
    match = re.search(rf"^{name}\s*=\s*['\"]([^'\"]+)['\"]", file.read_text(), re.MULTILINE)
    if match is None:
        raise SystemExit(f"{file} does not assign a string to {name}")
    return match.group(1)


def find_torch() -> Path:
    """Return the folder of torch, which has to be of the one release that torch_tvm is written for."""
    folder = find("torch")
    needed = assigned(VERSION_FILE, "TORCH_RELEASE")
    found = assigned(folder / "version.py", "__version__")
    if ".".join(found.split(".")[:2]) != needed:
        raise SystemExit(
            f"torch_tvm needs PyTorch {needed}, and PyTorch {found} is installed in {folder}: "
            f"`pip install 'torch=={needed}.*'`, then build again"
        )
    return folder


print(f"{find_torch()};{find('tvm_ffi')}", end="")
