"""Rows of a block of few columns as small vectors in a processor's registers, for compiled passes.

A block of shape (n, k) is a flat array in C order. `load` takes a row of it, which is added, subtracted and multiplied,
by numbers and by other rows, and `store` puts one back. In plain Python a row is a NumPy array; for the compiler it is
LLVM's vector <k x double>, so that one instruction serves all columns. Written as a loop over the columns the same is
several times slower: numba does not let LLVM look for vectors in code without loops, and a loop as short as this is
unrolled before the other search begins; sums that are kept in an array wait for memory.

How many columns there are is said by `lanes`, a tuple of that length with any content: a type for the compiler.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import lower_builtin, models, register_model, type_callable
from numpy.typing import NDArray

Row = Any  # NDArray[np.float64] of shape (k,) in plain Python


def lanes(k: int) -> tuple[int, ...]:
    """Return what tells kernels that there are k columns."""
    return (0,) * k


def load(v: NDArray[Any], i: int, lanes: tuple[int, ...]) -> Row:
    """Return row i of a block of float32 or float64, in float64."""
    return v[int(i) * len(lanes) : (int(i) + 1) * len(lanes)].astype(np.float64)


def store(v: NDArray[Any], i: int, row: Row) -> None:
    """Set row i of a block of float64."""
    v[int(i) * row.size : (int(i) + 1) * row.size] = row


def zero(lanes: tuple[int, ...]) -> Row:
    """Return a row of zeros."""
    return np.zeros(len(lanes))


def choose(sign: Row, positive: Row, other: Row) -> Row:
    """Return a row of the entries of `positive` where sign is larger than zero, and of `other` elsewhere."""
    return np.where(sign > 0, positive, other)


class RowType(types.Type):  # type: ignore[misc]
    """What the compiler calls a row of k columns."""

    def __init__(self, k: int) -> None:
        self.k = k
        super().__init__(name=f"Row({k})")


@register_model(RowType)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, row: RowType) -> None:
        super().__init__(manager, row, _vector(row.k))


_FAST = ("contract", "reassoc", "nsz")  # as in `boxes.FAST`


def _vector(k: int, entry: Any = None) -> Any:
    return ir.VectorType(entry or ir.DoubleType(), k)


def _entry(block: Any) -> tuple[Any, int]:
    """Return the type of a block's entries and their size in bytes: a row begins at no rounder address than they."""
    return (ir.FloatType(), 4) if block.dtype == types.float32 else (ir.DoubleType(), 8)


def _pointer(context: Any, builder: Any, block: Any, index: Any, k: int, args: Any) -> Any:
    """Return the address of a row of a block; `block` and `index` are types, `args` the values."""
    first = builder.mul(context.cast(builder, args[1], index, types.intp), context.get_constant(types.intp, k))
    data = context.make_array(block)(context, builder, args[0]).data
    return builder.bitcast(builder.gep(data, [first]), ir.PointerType(_vector(k, _entry(block)[0])))


def _spread(builder: Any, value: Any, k: int) -> Any:
    """Return a row whose entries are all the same."""
    undefined = ir.Constant(_vector(k), ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(_vector(k, ir.IntType(32)), [0] * k))


@type_callable(load)
def _(context):
    def typed(v, i, lanes):
        return RowType(len(lanes)) if isinstance(v, types.Array) else None

    return typed


@lower_builtin(load, types.Array, types.Integer, types.UniTuple)
def _(context, builder, signature, args):
    v, i, lanes = signature.args
    row = builder.load(_pointer(context, builder, v, i, len(lanes), args), align=_entry(v)[1])
    return builder.fpext(row, _vector(len(lanes))) if v.dtype == types.float32 else row


@type_callable(store)
def _(context):
    def typed(v, i, row):
        return types.void if v.dtype == types.float64 else None

    return typed


@lower_builtin(store, types.Array, types.Integer, RowType)
def _(context, builder, signature, args):
    v, i, row = signature.args
    builder.store(args[2], _pointer(context, builder, v, i, row.k, args), align=8)
    return context.get_dummy_value()


@type_callable(zero)
def _(context):
    return lambda lanes: RowType(len(lanes))


@lower_builtin(zero, types.UniTuple)
def _(context, builder, signature, args):
    return ir.Constant(_vector(signature.return_type.k), [0.0] * signature.return_type.k)


@type_callable(choose)
def _(context):
    return lambda sign, positive, other: sign


@lower_builtin(choose, RowType, RowType, RowType)
def _(context, builder, signature, args):
    none = ir.Constant(_vector(signature.return_type.k), [0.0] * signature.return_type.k)
    return builder.select(builder.fcmp_ordered(">", args[0], none), args[1], args[2])


def _arithmetic(instruction, *functions):
    """Teach the compiler an operation on two rows, or on a number and a row."""

    def typed(context):
        def result(u, v):
            fits = isinstance(v, RowType) and (u == v or isinstance(u, types.Float))
            return v if fits else None

        return result

    def generate(context, builder, signature, args):
        u, v = signature.args
        left = args[0]
        if not isinstance(u, RowType):
            left = _spread(builder, context.cast(builder, left, u, types.float64), v.k)
        return getattr(builder, instruction)(left, args[1], flags=_FAST)

    for function in functions:
        type_callable(function)(typed)
        for left in (RowType, types.Float):
            lower_builtin(function, left, RowType)(generate)


_arithmetic("fadd", operator.add, operator.iadd)
_arithmetic("fsub", operator.sub, operator.isub)
_arithmetic("fmul", operator.mul)
