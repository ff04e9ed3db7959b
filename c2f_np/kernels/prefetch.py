"""Asking for a row of a matrix before it is needed.

A sparse product reads rows in an order that no hardware prefetcher can guess, and waits for each. The column numbers of the
entries to come are known, though: asking for their rows some entries ahead hides most of the wait.
Where Numba does not compile, nothing is asked for.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, config, types
from numba.extending import intrinsic

_CACHE_LINE = 64  # bytes


@intrinsic(prefer_literal=True)
def prefetch_row(typing_context, X, row, width):
    """Ask for row `row` of the C-contiguous matrix `X`, which has `width` columns; `width` must be a compile-time constant."""
    if not isinstance(width, types.IntegerLiteral) or not isinstance(row, types.Integer):
        return None

    def generate(context, builder, signature, arguments):
        size = width.literal_value * context.get_abi_sizeof(context.get_data_type(X.dtype))
        byte, number = ir.IntType(8), ir.IntType(32)
        matrix = context.make_array(X)(context, builder, arguments[0])
        index = context.cast(builder, arguments[1], row, types.intp)
        address = builder.bitcast(matrix.data, byte.as_pointer())
        address = builder.gep(address, [builder.mul(index, ir.Constant(index.type, size))])
        kind = ir.FunctionType(ir.VoidType(), [byte.as_pointer(), number, number, number])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        to_read, keep, data = (ir.Constant(number, value) for value in (0, 3, 1))
        for offset in range(0, size, _CACHE_LINE):
            line = builder.gep(address, [ir.Constant(ir.IntType(64), offset)])
            builder.call(prefetch, [line, to_read, keep, data])
        return context.get_dummy_value()

    return types.void(X, row, width), generate


if config.DISABLE_JIT:

    def prefetch_row(X, row, width):
        """Nothing, in plain Python."""
