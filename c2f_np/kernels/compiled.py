"""What the compiled loops are made with: ``njit`` with a cache on disk, rows in registers, rows asked for before they are used.

Compiled code is kept in the user's cache folder, or in memory where nothing can be written. The folder belongs to one state of
the kernels' sources, whose digest is part of its name: Numba itself does not see edits of a module that a kernel imports. A
NUMBA_CACHE_DIR that is set is respected. Nothing is ever written beside the sources.

*Rows in registers.* An array from ``np.empty`` lives on the heap, where every addition is a load and a store. A short array on
the stack, ``carray(stack_pointer(like, width), (width,))`` with a width known at compile time, is summed in vector registers:
with 64 or 128 numbers, a sparse product then takes about two thirds of the time.

*Asking ahead.* A sparse product reads rows in an order that no hardware prefetcher can guess, and waits for each. The column
numbers of the entries to come are known, though: asking for their rows some entries ahead hides most of the wait.

Where Numba does not compile (``NUMBA_DISABLE_JIT=1``), a row in registers is an ordinary array, and nothing is asked for.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, config, types
from numba.extending import intrinsic
from platformdirs import user_cache_dir

# Between parallel loops GNU OpenMP lets idle threads spin for milliseconds. On a machine that is also doing something else they
# then take the core from the thread that has work: an epoch of 0.1 s was seen to take 3 s. To sleep at once costs a wake-up in
# every loop. So they spin for some tens of microseconds: mostly the next loop has begun by then.
# This must be set before the first parallel loop runs. What is already set is left alone.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

#: A vector register holds this many float32.
LANE = 16
_CACHE_LINE = 64  # bytes
# NUMBA_CACHE_DIR, before anything here is decorated.
_given_folder = config.CACHE_DIR
_decorating = threading.Lock()
#: What is computed entry by entry is handed to threads in blocks.
ENTRIES_OF_A_BLOCK = 1 << 14


def njit(**options: Any) -> Callable:
    """``numba.njit`` with a cache on disk, if there is a place for it."""

    def decorate(function):
        if _given_folder or config.DISABLE_JIT:
            return numba.njit(cache=True, **options)(function)
        folder = cache_folder()
        # Numba decides where code is kept when a function is decorated; other packages' functions must not move. One at a time:
        # were the setting gone while another thread's function is decorated, its code would be kept in the working directory.
        with _decorating:
            config.CACHE_DIR = folder or ""
            try:
                return numba.njit(cache=folder is not None, **options)(function)
            finally:
                config.CACHE_DIR = ""

    return decorate


@cache
def cache_folder() -> str | None:
    """Where compiled code is kept; None if no file can be made there."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    folder = os.path.join(user_cache_dir("c2f_np", appauthor=False), f"compiled-{digest.hexdigest()[:16]}")
    try:
        os.makedirs(folder, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return None
    return folder


@intrinsic(prefer_literal=True)
def stack_pointer(typing_context, like, width):
    """Pointer to `width` numbers of the dtype of the array `like`; `width` must be a compile-time constant."""
    if not isinstance(width, types.IntegerLiteral):
        return None
    dtype, size = like.dtype, width.literal_value

    def generate(context, builder, signature, arguments):
        return cgutils.alloca_once(builder, context.get_data_type(dtype), size=ir.Constant(ir.IntType(64), size))

    return types.CPointer(dtype)(like, width), generate


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


carray = numba.carray

if config.DISABLE_JIT:

    def stack_pointer(like, width):
        """The array itself, in plain Python."""
        return np.empty(width, like.dtype)

    def carray(array, shape):
        """What :func:`stack_pointer` has made."""
        return array

    def prefetch_row(X, row, width):
        """Nothing, in plain Python."""
