"""Where the C++ headers and the library are that converters in other libraries are built with."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def get_include() -> str:
    """Return the folder of the C++ headers, for ``#include <convert/context.h>``.

    Returns
    -------
    str
        An absolute path. PyTorch's and tvm-ffi's headers have to be on the include path too.

    Examples
    --------
    >>> from pathlib import Path
    >>> import torch_tvm
    >>> Path(torch_tvm.get_include(), "convert", "context.h").exists()
    True
    """
    installed = _PACKAGE / "include"
    return str(installed if installed.is_dir() else _PACKAGE.parent / "csrc")


def get_library() -> str:
    """Return the path of the C++ library, which a converter in another library links to.

    Returns
    -------
    str
        An absolute path; the library knows no Python.

    Examples
    --------
    >>> import torch_tvm
    >>> torch_tvm.get_library().endswith("libtorch_tvm.so")
    True
    """
    return str(_PACKAGE / "lib" / "libtorch_tvm.so")
