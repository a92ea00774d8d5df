"""What a matrix product computes: sizes, and where its operands and its result lie."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from torch_tvm.kernels.matrix_view import MatrixView


@dataclass(frozen=True)
class Matmul:
    """C[batch, m, n] = sum over k of A[batch, m, k] B[batch, k, n].

    Parameters
    ----------
    a, b, c
        Where the operands and the result lie. Axes: "m" and "k", "k" and "n", "m" and "n", and batch axes; `a` and
        `b` may lack batch axes of `c`, then they are the same for all indices of them.
    packed
        Whether the kernel's second parameter is what `build_pack` makes of `b`.
    dtype
        Of all three, and of the sums.
    quads
        Whether an element of the operands, of int32, is four bytes (quads.py): unsigned ones of A, signed ones of B.

    Examples
    --------
    `F.linear` of 128 x 768 with a weight of 3072 x 768:

    >>> from torch_tvm.kernels.matmul_shape import Matmul
    >>> from torch_tvm.kernels.matrix_view import MatrixView
    >>> linear = Matmul(
    ...     MatrixView((128, 768), ("m", "k")),
    ...     MatrixView((3072, 768), ("n", "k")),
    ...     MatrixView((128, 3072), ("m", "n")),
    ...     packed=True,
    ... )
    >>> linear.m, linear.n, linear.k
    (128, 3072, 768)
    """

    a: MatrixView
    b: MatrixView
    c: MatrixView
    packed: bool = False
    dtype: str = "float32"
    quads: bool = False

    def __post_init__(self) -> None:
        """Check that the three views agree."""
        sizes = {**self.a.extents, **self.b.extents, **self.c.extents}
        for view, axes in ((self.a, {"m", "k"}), (self.b, {"k", "n"}), (self.c, {"m", "n"})):
            extents = view.extents
            if not axes <= set(extents) or any(size != sizes[axis] for axis, size in extents.items()):
                raise ValueError(f"expected axes {axes} of extents {sizes} in {view}")
            batch = set(extents) - axes
            if batch - set(self.batch):
                raise ValueError(f"{view} has batch axes that the result {self.c} lacks")
        if any(size < 1 for size in sizes.values()):
            raise ValueError(f"expected extents of at least 1, got {sizes}")
        if self.c.inner not in ("m", "n"):
            raise ValueError(f"m or n must be contiguous in the result, got {self.c}")
        if self.packed and self.c.inner != "n":
            raise ValueError(f"n must be contiguous in the result of packed weights, got {self.c}")
        if self.quads and self.dtype != "int32":
            raise ValueError(f"products of bytes are summed in int32, got {self.dtype}")

    @property
    def m(self) -> int:
        """Rows of the result."""
        return self.c.extents["m"]

    @property
    def n(self) -> int:
        """Columns of the result."""
        return self.c.extents["n"]

    @property
    def k(self) -> int:
        """Terms of each sum."""
        return self.a.extents["k"]

    @property
    def batch(self) -> dict[str, int]:
        """Batch axes and their sizes, in the order of the result."""
        return {axis: size for axis, size in self.c.extents.items() if axis not in ("m", "n")}

    @property
    def flops(self) -> int:
        """Floating-point operations of the product."""
        return 2 * self.m * self.n * self.k * math.prod(self.batch.values())

    def mirrored(self) -> Matmul:
        """Return the same product as C' = B' A', with m and n exchanged."""
        swap = {"m": "n", "n": "m"}
        if self.quads:
            raise ValueError("the operands of a product of bytes cannot be exchanged: one is signed")
        return Matmul(self.b.renamed(swap), self.a.renamed(swap), self.c.renamed(swap), False, self.dtype)

    def with_contiguous_rows(self) -> Matmul:
        """Return the product as the loops run over it.

        "n" is contiguous in the result, and a batch axis that `b` lacks is more rows of m, so that weights are read
        once for the whole batch.
        """
        product = self if self.c.inner == "n" else self.mirrored()
        for axis in reversed(product.batch):
            a, c = product.a.merged(axis, "m"), product.c.merged(axis, "m")
            if axis not in product.b.extents and a is not None and c is not None and c.inner == "n":
                product = dataclasses.replace(product, a=a, c=c)
        return product
