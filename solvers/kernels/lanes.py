"""Sixteen numbers at a time: a vector type for loops that a compiler would not turn into vector instructions well.

Where a loop reads ten arrays, tests that none of them overlaps another take longer than a short row. Loads and stores
of `Lanes` need none, since their order is the order written down. LLVM splits them where registers are narrower.

Without a compiler the functions work on slices of arrays, which is also their definition.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, models, overload, register_model

LANES = 16
FLAGS = ("contract", "reassoc", "nsz")  # those of `deepcd.pde.kernels.boxes.FAST` that are of use here
_F32, _I32 = ir.FloatType(), ir.IntType(32)
_FLOATS, _BYTES = ir.VectorType(_F32, LANES), ir.VectorType(ir.IntType(8), LANES)
_INTEGERS, _SHORTS = ir.VectorType(_I32, LANES), ir.VectorType(ir.IntType(16), LANES)


class _Lanes(types.Type):  # type: ignore[misc]
    """Sixteen float32 numbers."""


lanes = _Lanes("lanes")


@register_model(_Lanes)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    """They lie in vector registers."""

    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _FLOATS)


def _is_lanes(*kinds: Any) -> bool:
    """Return whether all of these types are lanes."""
    return all(isinstance(kind, _Lanes) for kind in kinds)


def load(a: Any, i: Any) -> Any:
    """Return entries i .. i + 15 of an array of float32 or bfloat16 numbers, or of codes of one byte."""
    return widened(a[i : i + LANES]) if a.dtype == np.uint16 else a[i : i + LANES]


def entry(a: Any, i: Any) -> Any:
    """Return entry i of an array of float32 or bfloat16 numbers."""
    return widened(a[i : i + 1])[0] if a.dtype == np.uint16 else a[i]


def widened(short: Any) -> Any:
    """Return what bfloat16 numbers, the upper halves of the bits of float32 ones, are in float32."""
    return (short.astype(np.uint32) << np.uint32(16)).view(np.float32)


@njit(cache=True, nogil=True)
def shortened(field):
    """Return the bfloat16 numbers next to those of a float32 array without infinities; of two, the even one."""
    short, bits = np.empty(field.size, dtype=np.uint16), field.view(np.uint32)
    for k in range(np.uint64(field.size)):
        odd = (bits[k] >> np.uint32(16)) & np.uint32(1)
        short[k] = (bits[k] + np.uint32(0x7FFF) + odd) >> np.uint32(16)
    return short


def store(a: Any, i: Any, v: Any) -> None:
    """Set entries i .. i + 15 of an array."""
    a[i : i + LANES] = v


def splat(x: Any) -> Any:
    """Return a number in all lanes."""
    return np.full(LANES, x, dtype=np.float32)


def total(v: Any) -> Any:
    """Return the sum of the lanes."""
    return v.sum()


def positive(v: Any) -> Any:
    """Return what is positive of the lanes, and zero elsewhere."""
    return np.maximum(v, np.float32(0))


def evens(u: Any, v: Any) -> Any:
    """Return every second of the 32 numbers u, v, from the first on."""
    return np.concatenate([u[::2], v[::2]])


def odds(u: Any, v: Any) -> Any:
    """Return every second of the 32 numbers u, v, from the second on."""
    return np.concatenate([u[1::2], v[1::2]])


def _address(context: Any, builder: Any, kind: Any, array: Any, index: Any, vector: Any) -> Any:
    """Return the address of an entry of an array as that of a vector."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), ir.PointerType(vector))


def _loading(vector: Any, bytes_each: int, converted: Any) -> Any:
    """Return a load of sixteen numbers of some type, which are converted to float32."""

    @intrinsic
    def operation(typing: Any, a: Any, i: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array, index = arguments
            place = _address(context, builder, signature.args[0], array, index, vector)
            return converted(builder, builder.load(place, align=bytes_each))

        return lanes(a, types.uint64), generate

    return operation


def _from_codes(builder: Any, codes: Any) -> Any:
    return builder.uitofp(builder.zext(codes, _INTEGERS), _FLOATS)


def _from_halves(builder: Any, halves: Any) -> Any:
    upper = builder.shl(builder.zext(halves, _INTEGERS), ir.Constant(_INTEGERS, [16] * LANES))
    return builder.bitcast(upper, _FLOATS)


@intrinsic
def _half(typing: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        upper = builder.shl(builder.zext(arguments[0], _I32), ir.Constant(_I32, 16))
        return builder.bitcast(upper, _F32)

    return types.float32(types.uint16), generate


@intrinsic
def _store(typing: Any, a: Any, i: Any, v: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index, vector = arguments
        builder.store(vector, _address(context, builder, signature.args[0], array, index, _FLOATS), align=4)
        return context.get_dummy_value()

    return types.void(a, types.uint64, lanes), generate


@intrinsic
def _splat(typing: Any, x: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        undefined = ir.Constant(_FLOATS, ir.Undefined)
        first = builder.insert_element(undefined, arguments[0], ir.Constant(_I32, 0))
        return builder.shuffle_vector(first, undefined, ir.Constant(_INTEGERS, [0] * LANES))

    return lanes(types.float32), generate


def _binary(name: str) -> Any:
    """Return an operation on two vectors."""

    @intrinsic
    def operation(typing: Any, u: Any, v: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, name)(*arguments, flags=FLAGS)

        return lanes(lanes, lanes), generate

    return operation


def _shuffle(first: int) -> Any:
    """Return the choice of every second lane of two vectors."""

    @intrinsic
    def operation(typing: Any, u: Any, v: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.shuffle_vector(*arguments, ir.Constant(_INTEGERS, list(range(first, 2 * LANES, 2))))

        return lanes(lanes, lanes), generate

    return operation


@intrinsic
def _total(typing: Any, v: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector, width = arguments[0], LANES
        while width > 1:  # halves are added, as registers halve
            low, high = ([ir.Constant(_I32, k) for k in range(start, start + width // 2)] for start in (0, width // 2))
            pick = ir.VectorType(_I32, width // 2)
            vector = builder.fadd(
                builder.shuffle_vector(vector, vector, ir.Constant(pick, low)),
                builder.shuffle_vector(vector, vector, ir.Constant(pick, high)),
                flags=FLAGS,
            )
            width //= 2
        return builder.extract_element(vector, ir.Constant(_I32, 0))

    return types.float32(lanes), generate


@intrinsic
def _positive(typing: Any, v: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zero = ir.Constant(_FLOATS, [0.0] * LANES)
        return builder.select(builder.fcmp_ordered(">", arguments[0], zero), arguments[0], zero)

    return lanes(lanes), generate


_load_floats = _loading(_FLOATS, 4, lambda _, floats: floats)
_load_codes, _load_halves = _loading(_BYTES, 1, _from_codes), _loading(_SHORTS, 2, _from_halves)
_add, _subtract, _multiply = _binary("fadd"), _binary("fsub"), _binary("fmul")
_evens, _odds = _shuffle(0), _shuffle(1)


@overload(load)
def _loads(a, i):
    if a.dtype == types.uint8:
        return lambda a, i: _load_codes(a, i)
    if a.dtype == types.uint16:
        return lambda a, i: _load_halves(a, i)
    return lambda a, i: _load_floats(a, i)


@overload(entry)
def _entries(a, i):
    if a.dtype == types.uint16:
        return lambda a, i: _half(a[i])
    return lambda a, i: a[i]


@overload(store)
def _stores(a, i, v):
    return lambda a, i, v: _store(a, i, v)


@overload(splat)
def _splats(x):
    return lambda x: _splat(x)


@overload(total)
def _totals(v):
    return lambda v: _total(v)


@overload(positive)
def _positives(v):
    return lambda v: _positive(v)


@overload(evens)
def _evens_of(u, v):
    return lambda u, v: _evens(u, v)


@overload(odds)
def _odds_of(u, v):
    return lambda u, v: _odds(u, v)


@overload(operator.add)
def _sum(u, v):
    return (lambda u, v: _add(u, v)) if _is_lanes(u, v) else None


@overload(operator.sub)
def _difference(u, v):
    return (lambda u, v: _subtract(u, v)) if _is_lanes(u, v) else None


@overload(operator.mul)
def _product(u, v):
    return (lambda u, v: _multiply(u, v)) if _is_lanes(u, v) else None
