"""The version of torch_tvm, and the versions of PyTorch that it works with."""

__version__ = "0.1.0"

# The headers of TorchScript's JIT are not stable between minor releases, neither as source nor as binary.
# cmake/find_packages.py reads this line too.
TORCH_RELEASE = "2.13"


def check_torch(found: str) -> None:
    """Refuse a PyTorch that the extension was not built for.

    Parameters
    ----------
    found : str
        What ``torch.__version__`` says.

    Examples
    --------
    >>> from torch_tvm._version import check_torch
    >>> check_torch("2.13.1+cpu")
    """
    if ".".join(found.split(".")[:2]) != TORCH_RELEASE:
        raise ImportError(
            f"torch_tvm {__version__} needs PyTorch {TORCH_RELEASE}, and PyTorch {found} is installed: "
            f"`pip install 'torch=={TORCH_RELEASE}.*'`, then install torch_tvm again"
        )
