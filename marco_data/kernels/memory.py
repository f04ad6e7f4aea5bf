"""Bytes where they lie: read, written and copied eight at a time; and how large a table of hashes is.

Numba counts negative indices from the end, and has to ask of every index whether it is one. `item` does not ask.
This module does not know what the bytes say.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba import extending, types
from numba.core import cgutils

from marco_data.kernels.compiled import borrowing, inlined

Function = TypeVar("Function", bound=Callable[..., Any])
int64: Any = np.int64  # numba takes it for Python's int, a type checker does not
Bytes = npt.NDArray[np.uint8]
SLACK = 8
"""What an array must have behind the end of what `copy` writes to it."""


def intrinsic(function: Function) -> Any:
    """Code that is written out where it is called, with the arguments behind the first."""
    return extending.intrinsic(function)


def _pointer(context: Any, builder: Any, kinds: Any, arguments: Any) -> Any:
    """Where the item arguments[1] of the array arguments[0] is."""
    at = context.cast(builder, arguments[1], kinds[1], types.intp)
    return builder.gep(context.make_array(kinds[0])(context, builder, arguments[0]).data, [at])


def _eight_bytes(builder: Any, pointer: Any) -> Any:
    return builder.bitcast(pointer, ir.IntType(64).as_pointer())


@intrinsic
def item(context: Any, array: Any, index: Any) -> Any:
    """`array[index]` of an index that is at least 0.

    Asking costs more than reading, and keeps LLVM from reading many at once: counting line feeds took ten times as
    long, XXH64 of a shingle twice.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.unpack_value(builder, array.dtype, _pointer(context, builder, signature.args, arguments))

    return array.dtype(array, index), generate


@intrinsic
def eight(context: Any, data: Any, index: Any) -> Any:
    """The bytes data[index:index + 8], which must exist, as one number, the first byte the lowest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        loaded = builder.load(_eight_bytes(builder, _pointer(context, builder, signature.args, arguments)))
        loaded.align = 1
        return loaded

    return types.uint64(data, index), generate


@intrinsic
def put_eight(context: Any, data: Any, index: Any, value: Any) -> Any:
    """Writes what `eight` reads."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = context.cast(builder, arguments[2], signature.args[2], types.uint64)
        pointer = _eight_bytes(builder, _pointer(context, builder, signature.args, arguments))
        builder.store(number, pointer).align = 1
        return context.get_dummy_value()

    return types.void(data, index, value), generate


@intrinsic
def add_eight(context: Any, target: Any, to: Any, source: Any, index: Any) -> Any:
    """target[to:to + 8] += source[index:index + 8], floats, which must exist: eight at once, whatever LLVM thinks."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds, vectors = signature.args, []
        for place in (0, 2):
            pointer = _pointer(context, builder, kinds[place : place + 2], arguments[place : place + 2])
            kind = ir.VectorType(pointer.type.pointee, 8)
            vectors.append(builder.bitcast(pointer, kind.as_pointer()))
        sums, summands = map(builder.load, vectors)
        sums.align = summands.align = 4
        if summands.type != sums.type:
            summands = builder.fpext(summands, sums.type)
        builder.store(builder.fadd(sums, summands), vectors[0]).align = 4
        return context.get_dummy_value()

    return types.void(target, to, source, index), generate


@intrinsic
def bring(context: Any, array: Any, index: Any) -> Any:
    """Asks for the memory that `array[index]` lies in, without waiting for it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bytes_, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [bytes_, number, number, number])
        fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")  # type: ignore[no-untyped-call]
        pointer = builder.bitcast(_pointer(context, builder, signature.args, arguments), bytes_)
        builder.call(fetch, [pointer, number(0), number(3), number(1)])  # to read, to keep, data
        return context.get_dummy_value()

    return types.void(array, index), generate


@inlined
def copy(data: Bytes, start: int, end: int, target: Bytes, to: int) -> int:
    """Writes data[start:end] to target[to:]; behind it. SLACK bytes behind that may be overwritten."""
    shift = to - start
    while start < end and start + 8 <= len(data):
        put_eight(target, start + shift, eight(data, start))
        start += 8
    while start < end:
        target[start + shift] = data[start]
        start += 1
    return end + shift


@borrowing
def slots_for(n: int) -> int:
    """The slots that n entries ask for: a power of two, at most half of them taken."""
    slots = 8
    while slots < 2 * n:
        slots *= 2
    return slots


@inlined
def same(data: Bytes, a: int, b: int, size: int) -> bool:
    """Whether data[a:a + size] is data[b:b + size]."""
    while size >= 8 and eight(data, a) == eight(data, b):
        a, b, size = a + 8, b + 8, size - 8
    if size >= 8:
        return False
    while size and item(data, a) == item(data, b):
        a, b, size = a + 1, b + 1, size - 1
    return size == 0


@inlined
def same_word(data: Bytes, a: int, b: int, size: int) -> bool:
    """As `same`, of at least a byte, where SLACK bytes behind each exist: without asking every byte of a short one."""
    while size > 8:
        if eight(data, a) != eight(data, b):
            return False
        a, b, size = a + 8, b + 8, size - 8
    return bool((eight(data, a) ^ eight(data, b)) << np.uint64(64 - 8 * size) == 0)
