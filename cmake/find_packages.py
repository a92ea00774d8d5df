"""Print the folders of torch and tvm_ffi, separated by a semicolon (a CMake list)."""

import importlib.util
import os
import sysconfig


def find(name: str) -> str:
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.origin:
        return os.path.dirname(spec.origin)
    for scheme in ("purelib", "platlib"):
        folder = os.path.join(sysconfig.get_path(scheme), name)
        if os.path.isdir(folder):
            return folder
    raise SystemExit(f"torch_tvm builds against the installed {name}, and none was found: install it first")


print(f"{find('torch')};{find('tvm_ffi')}", end="")
