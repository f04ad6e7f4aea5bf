"""ICU's word boundaries by its C interface: text as UTF-16 in, where each segment ends out.

icu4py makes a Python string of each segment, which takes as long as ICU does to find it. Its library brings ICU with
it, and ICU's own functions are called in there, in a loop that is machine code. Where they cannot be found (another
build of icu4py) the answer is None, and `marco_data.words` asks icu4py. Both are one ICU: the answers are the same.
"""

import ctypes
from functools import cache
from typing import Any, NamedTuple

import icu4py
import numpy as np
import numpy.typing as npt
from icu4py import breakers
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types

from marco_data.kernels.compiled import borrowing
from marco_data.kernels.memory import intrinsic
from marco_data.kernels.words import Places

_WORDS = 1  # UBRK_WORD
_DONE = -1  # UBRK_DONE


class _Functions(NamedTuple):
    """Of ICU's `ubrk.h`."""

    open: Any
    close: Any
    next: int  # its address


@cache
def _functions() -> _Functions | None:
    try:
        library = ctypes.CDLL(breakers.__file__)  # what it is linked to is searched too
        opened, closed, following = (
            library[f"ubrk_{name}_{icu4py.icu_version.split('.')[0]}"] for name in ("open", "close", "next")
        )
    except (AttributeError, OSError):
        return None
    opened.restype, closed.restype = ctypes.c_void_p, None
    opened.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int32, ctypes.POINTER(ctypes.c_int)]
    closed.argtypes = [ctypes.c_void_p]
    return _Functions(opened, closed, int(ctypes.cast(following, ctypes.c_void_p).value or 0))


def segment_ends(units: npt.NDArray[np.uint16], locale: str) -> Places | None:
    """Where each segment of `units` ends, ascending; None where ICU's functions cannot be called."""
    functions = _functions()
    if functions is None:
        return None
    status = ctypes.c_int(0)
    breaker = functions.open(_WORDS, locale.encode(), units.ctypes.data, len(units), ctypes.byref(status))
    if status.value > 0 or not breaker:  # below: a warning, that the locale has no rules of its own
        return None
    try:
        ends = np.empty(len(units), np.int32)
        return ends[: _fill(functions.next, breaker, ends)]
    finally:
        functions.close(breaker)


@intrinsic
def _next(context: Any, function: Any, breaker: Any) -> Any:
    """function(breaker) of two addresses."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.IntType(32), [pointer]).as_pointer()
        return builder.call(builder.inttoptr(arguments[0], kind), [builder.inttoptr(arguments[1], pointer)])

    return types.int32(types.int64, types.int64), generate


@borrowing
def _fill(function: int, breaker: int, ends: Places) -> int:
    n = 0
    while True:
        end = _next(function, breaker)
        if end == _DONE:
            return n
        ends[n] = end
        n += 1
