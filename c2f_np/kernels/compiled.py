"""What the compiled loops are made with: ``njit`` with a cache on disk, rows in registers, rows asked for before they are used.

Compiled code is kept in the user's cache folder, or in memory where nothing can be written. The folder belongs to one state of
the kernels' sources, whose digest is part of its name: Numba itself does not see edits of a module that a kernel imports. A
NUMBA_CACHE_DIR that is set is respected. Nothing is ever written beside the sources.

*Rows in registers.* An array from ``np.empty`` lives on the heap, where every addition is a load and a store. A short array on
the stack, ``carray(stack_pointer(like, width), (width,))`` with a width known at compile time, is summed in vector registers.

*Vector instructions.* The compiler unrolls a loop over a few numbers before it looks for vector instructions, and then finds
none. So a kernel says for one number what is added to a row, and :func:`row_sum` writes the instructions for the whole row.

*Asking ahead.* A sparse product reads rows in an order that no hardware prefetcher can guess, and waits for each. The column
numbers of the entries to come are known, though: asking for their rows some entries ahead hides most of the wait.

Where Numba does not compile (``NUMBA_DISABLE_JIT=1``), a row in registers is an ordinary array, NumPy adds the rows, and nothing
is asked for.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
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


def row_sum(formula: Callable) -> Callable:
    """A function that adds to a row, entry by entry, what `formula` says for one entry.

    From ``formula(total, weight, x)`` it is ``add(total, weight, X, i, width)``, with row i of X; from
    ``formula(total, weight, x, y)`` it is ``add(total, weight, X, i, Y, j, width)``, with row j of Y as well. Matrices are
    C-contiguous, and `width` is a compile-time constant: that of the rows, or 0 for any.
    """
    if config.DISABLE_JIT:
        return partial(_add_with_numpy, formula)
    if formula.__code__.co_argcount == 3:

        @intrinsic(prefer_literal=True)
        def add(typing_context, total, weight, X, i, width):
            return _row_sum(formula, total, weight, (X,), (i,), width)

    else:

        @intrinsic(prefer_literal=True)
        def add(typing_context, total, weight, X, i, Y, j, width):
            return _row_sum(formula, total, weight, (X, Y), (i, j), width)

    return add


def _add_with_numpy(formula, total, weight, *rows_and_width) -> None:
    *rows, _ = rows_and_width
    total[:] = formula(total, weight, *(X[i] for X, i in zip(rows[::2], rows[1::2], strict=True)))


def _row_sum(formula, total, weight, matrices, rows, width):
    """Signature and code generator of :func:`row_sum`."""
    if not isinstance(width, types.IntegerLiteral):
        return None
    if any(each.layout != "C" or not isinstance(each.dtype, types.Float) for each in (total, *matrices)):
        return None

    def generate(context, builder, signature, arguments):
        into, factor, *given, _ = arguments
        into = context.make_array(total)(context, builder, into)
        factor = context.cast(builder, factor, weight, total.dtype)
        d = ir.Constant(ir.IntType(64), width.literal_value) if width.literal_value else builder.extract_value(into.shape, 0)
        zero, starts = ir.Constant(d.type, 0), []
        for matrix, row, array, number in zip(matrices, rows, given[::2], given[1::2], strict=True):
            offset = builder.mul(context.cast(builder, number, row, types.intp), d)
            stored = context.get_data_type(matrix.dtype)
            starts.append((builder.gep(context.make_array(matrix)(context, builder, array).data, [offset]), stored))

        def add(first, n: int) -> None:
            """To the n entries from `first` on."""
            places = [(into.data, factor.type), *starts]
            old, *read = (_Entries.load(builder, builder.gep(start, [first]), kind, n, factor.type) for start, kind in places)
            old.store(formula(old, _Entries.repeated(builder, factor, n), *read))

        if width.literal_value:
            for first, n in _pieces(width.literal_value):
                add(ir.Constant(ir.IntType(64), first), n)
        else:
            whole = builder.and_(d, ir.Constant(d.type, -LANE))
            with cgutils.for_range_slice(builder, zero, whole, ir.Constant(d.type, LANE), inc=True) as (first, _):
                add(first, LANE)
            for n in (8, 4, 2, 1):
                with builder.if_then(builder.icmp_unsigned("!=", builder.and_(d, ir.Constant(d.type, n)), zero)):
                    add(builder.and_(d, ir.Constant(d.type, -2 * n)), n)
        return context.get_dummy_value()

    given = [part for pair in zip(matrices, rows, strict=True) for part in pair]
    return types.void(total, weight, *given, width), generate


def _pieces(width: int) -> Iterator[tuple[int, int]]:
    """Where the pieces of a row begin, and their lengths: of a whole register, then of half as much, and so on."""
    first, n = 0, LANE
    while first < width:
        while n > width - first:
            n //= 2
        yield first, n
        first += n


def _size(kind) -> int:
    """Bytes of a number of an LLVM type, or of an entry of a vector of them."""
    return 8 if isinstance(getattr(kind, "element", kind), ir.DoubleType) else 4


@dataclass
class _Entries:
    """Entries of a row in a register, while a kernel is compiled. Calculating with them writes the instructions that do it."""

    builder: ir.IRBuilder
    value: Any
    place: Any = None

    @classmethod
    def load(cls, builder: ir.IRBuilder, place, stored, n: int, number) -> _Entries:
        """`n` of them from `place`, where they have the type `stored`, converted to the type `number`."""
        if n > 1:
            place = builder.bitcast(place, ir.VectorType(stored, n).as_pointer())
        value = builder.load(place, align=_size(stored))
        if stored != number:
            kind = ir.VectorType(number, n) if n > 1 else number
            value = (builder.fpext if _size(stored) < _size(number) else builder.fptrunc)(value, kind)
        return cls(builder, value, place)

    @classmethod
    def repeated(cls, builder: ir.IRBuilder, value, n: int) -> _Entries:
        if n > 1:
            number, nothing = ir.IntType(32), ir.Constant(ir.VectorType(value.type, n), ir.Undefined)
            one = builder.insert_element(nothing, value, ir.Constant(number, 0))
            value = builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(number, n), [0] * n))
        return cls(builder, value)

    def store(self, new: _Entries) -> None:
        """`new` where these came from."""
        self.builder.store(new.value, self.place, align=_size(new.value.type))

    def __add__(self, other):
        return self._with("fadd", other)

    def __sub__(self, other):
        return self._with("fsub", other)

    def __mul__(self, other):
        return self._with("fmul", other)

    def __rsub__(self, other: float):
        kind = self.value.type
        repeated = [ir.Constant(kind.element, other)] * kind.count if isinstance(kind, ir.VectorType) else other
        return _Entries(self.builder, ir.Constant(kind, repeated))._with("fsub", self)

    def _with(self, instruction: str, other: _Entries) -> _Entries:
        return _Entries(self.builder, getattr(self.builder, instruction)(self.value, other.value))


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
