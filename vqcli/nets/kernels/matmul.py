"""Products of small matrices by one large one, at the speed of the caches.

One symbol at a time means few rows, for which libraries of linear algebra are slow to start, and for which loops in
numba keep their sums in memory. Here a tile of sums stays in vector registers while the matrix streams by: numba
takes it as LLVM code, so that no compiler has to be installed.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from vqcli.nets.kernels.jit import compiled

# Sums in registers: 4 vectors for each row of the tile, of the 32 (AVX-512) or 16 registers.
_FEATURES = llvmlite.binding.get_host_cpu_features()
_WIDE = bool(_FEATURES.get("avx512f", False))
LANES, ROWS = (16, 4) if _WIDE else (8, 2)
VECTORS = 4
PANEL = LANES * VECTORS  # columns of a tile
# Whether the processor converts float16 to float32; without that every number would cost a function call.
_HALVES = bool(_FEATURES.get("f16c", False)) or platform.machine() in ("aarch64", "arm64")


def padded(columns: int) -> int:
    """The number of columns that whole panels have."""
    return -(-columns // PANEL) * PANEL


def panels(matrix: np.ndarray, half: bool = False) -> np.ndarray:
    """The matrix [n, columns] as `add_product` reads it, front to back: [padded(columns) / PANEL, n, PANEL].

    It begins at a multiple of 64 bytes, as vectors that straddle cache lines take twice the time. It is float32, or
    with `half` the bits of float16 as int16, which numba knows: half as much to read, the same sums. Processors that
    do not know float16 get its values as float32.
    """
    n, columns = matrix.shape
    wide = np.pad(matrix, ((0, 0), (0, padded(columns) - columns))).reshape(n, -1, PANEL).swapaxes(0, 1)
    if not half:
        return aligned(wide)
    rounded = wide.astype(np.float16)
    return aligned(np.ascontiguousarray(rounded).view(np.int16), np.int16) if _HALVES else aligned(rounded)


def aligned(array: np.ndarray, kind: type = np.float32) -> np.ndarray:
    """A copy, in float32 or another kind, that begins at a multiple of 64 bytes."""
    size = np.dtype(kind).itemsize
    room: np.ndarray = np.empty(array.size + 64 // size, kind)
    begin = -room.ctypes.data % 64 // size
    copy = room[begin : begin + array.size].reshape(array.shape)
    copy[...] = array
    return copy


def _tile(rows: int, unroll: int = 4) -> Callable[..., None]:
    """tile(Y, m, p, X, W): add rows m .. m + rows - 1 of X @ W to Y, in the columns of panel p.

    W holds float32, or float16 as int16.
    """
    lane = ir.FloatType()
    vector = ir.VectorType(lane, LANES)
    i32, i64 = ir.IntType(32), ir.IntType(64)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        Y, X, W = (
            cgutils.create_struct_proxy(signature.args[k])(context, builder, value=arguments[k]) for k in (0, 3, 4)
        )
        first, panel = arguments[1], arguments[2]
        n = cgutils.unpack_tuple(builder, W.shape)[1]
        half = signature.args[4].dtype == types.int16
        stored, size = (ir.VectorType(ir.HalfType(), LANES), 2) if half else (vector, 4)

        def row(array: Any, index: ir.Value) -> ir.Value:
            """The address of array[index]."""
            stride = cgutils.unpack_tuple(builder, array.strides)[0]
            return builder.add(builder.ptrtoint(array.data, i64), builder.mul(stride, index))

        def pointer(base: ir.Value, index: ir.Value, kind: ir.Type, size: int = 4) -> ir.Value:
            """The address of number `index` after base, of so many bytes each."""
            return builder.inttoptr(builder.add(base, builder.mul(index, i64(size))), kind.as_pointer())

        column = builder.mul(panel, i64(PANEL))
        targets = [
            pointer(row(Y, builder.add(first, i64(m))), builder.add(column, i64(v * LANES)), vector)
            for m in range(rows)
            for v in range(VECTORS)
        ]
        inputs = [row(X, builder.add(first, i64(m))) for m in range(rows)]
        weights = row(W, panel)
        sums = [cgutils.alloca_once(builder, vector) for _ in targets]  # becomes registers
        for total, target in zip(sums, targets, strict=True):
            builder.store(builder.load(target, align=4), total)

        def step(i: ir.Value) -> None:
            """Add X[:, i] * W[i]."""
            begin = builder.mul(i, i64(PANEL))
            w = [
                builder.load(pointer(weights, builder.add(begin, i64(v * LANES)), stored, size), align=size)
                for v in range(VECTORS)
            ]
            if half:
                w = [builder.fpext(part, vector) for part in w]
            for m in range(rows):
                x = builder.load(pointer(inputs[m], i, lane), align=4)
                one = builder.insert_element(ir.Constant(vector, ir.Undefined), x, i32(0))
                spread = ir.Constant(ir.VectorType(i32, LANES), [0] * LANES)
                x = builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), spread)
                for v in range(VECTORS):
                    total = sums[m * VECTORS + v]
                    product = builder.fmul(x, w[v], flags=["contract"])
                    builder.store(builder.fadd(builder.load(total), product, flags=["contract"]), total)

        whole = builder.sdiv(n, i64(unroll))
        with cgutils.for_range(builder, whole) as loop:
            for u in range(unroll):
                step(builder.add(builder.mul(loop.index, i64(unroll)), i64(u)))
        with cgutils.for_range(builder, n, start=builder.mul(whole, i64(unroll))) as loop:
            step(loop.index)
        for total, target in zip(sums, targets, strict=True):
            builder.store(builder.load(total), target, align=4)
        return context.get_dummy_value()

    @intrinsic
    def tile(typing_context: Any, Y: Any, m: Any, p: Any, X: Any, W: Any) -> Any:
        return types.void(Y, types.intp, types.intp, X, W), generate

    return tile


_one_row, _many_rows = _tile(1), _tile(ROWS)


@compiled
def add_product(Y: np.ndarray, X: np.ndarray, W: np.ndarray) -> None:
    """Y += X @ W for Y [M, padded columns], X [M, n], W from `panels`; rows of X and Y are contiguous floats.

    X may be narrower than n: a row is then read on into those after it. So the rows of an image [W, C] serve as
    the windows of a convolution, without a copy. Nothing is checked.
    """
    M = Y.shape[0]
    whole = M - M % ROWS
    for p in range(W.shape[0]):
        for m in range(0, whole, ROWS):
            _many_rows(Y, m, p, X, W)
        for m in range(whole, M):
            _one_row(Y, m, p, X, W)
