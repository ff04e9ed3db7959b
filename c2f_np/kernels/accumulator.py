"""A short array on the stack, of a width known at compile time, which the compiler can keep in registers.

An array from ``np.empty`` lives on the heap, where every addition is a load and a store. With this one a row of 64
or 128 numbers is summed in vector registers: a sparse product then takes about two thirds of the time.

Kernels write ``carray(stack_pointer(like, width), (width,))``. Where Numba does not compile (``NUMBA_DISABLE_JIT=1``), that is an
ordinary array.
"""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, config, types
from numba.extending import intrinsic


@intrinsic(prefer_literal=True)
def stack_pointer(typing_context, like, width):
    """Pointer to `width` numbers of the dtype of the array `like`; `width` must be a compile-time constant."""
    if not isinstance(width, types.IntegerLiteral):
        return None
    dtype, size = like.dtype, width.literal_value

    def generate(context, builder, signature, arguments):
        return cgutils.alloca_once(builder, context.get_data_type(dtype), size=ir.Constant(ir.IntType(64), size))

    return types.CPointer(dtype)(like, width), generate


carray = numba.carray

if config.DISABLE_JIT:

    def stack_pointer(like, width):
        """The array itself, in plain Python."""
        return np.empty(width, like.dtype)

    def carray(array, shape):
        """What :func:`stack_pointer` has made."""
        return array
