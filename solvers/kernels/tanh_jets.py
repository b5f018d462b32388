"""Compiled tanh of functions that carry derivatives along, and its gradient; `deepcd.pde.problems.jets` defines it.

Fields are arrays of shape (width, 1 + d + m, n). For each unit of a layer they hold the values at n points, d first
derivatives, and m sums of second derivatives, whose axes `member` (m, d) lists. In this layout a layer is a product of
a small matrix with long rows. As array expressions, tanh takes twenty passes over memory forwards and forty backwards;
here a block of each field stays in the first-level cache until it is finished.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST

BLOCK = 256


@njit(inline="always")
def _blocks(shape):
    """Return each unit with the start of each of its blocks."""
    width, n = shape
    return [(unit, start) for unit in range(width) for start in range(0, n, BLOCK)]


@njit(cache=True, nogil=True, fastmath=FAST)
def forward(t, fields, member, out):
    """Set out to the tanh of the fields, given t (width, n), the tanh of the values."""
    m, d = member.shape
    one, two = t.dtype.type(1), t.dtype.type(2)
    slope, bend, squares = np.empty(BLOCK, t.dtype), np.empty(BLOCK, t.dtype), np.empty(BLOCK, t.dtype)
    for unit, start in _blocks(t.shape):
        length = min(BLOCK, t.shape[1] - start)
        part = slice(start, start + length)
        tanh, value = t[unit, part], out[unit, 0, part]
        for i in range(length):
            value[i] = tanh[i]
            slope[i] = one - tanh[i] * tanh[i]
            bend[i] = -two * tanh[i] * slope[i]
        for a in range(d):
            z, y = fields[unit, 1 + a, part], out[unit, 1 + a, part]
            for i in range(length):
                y[i] = slope[i] * z[i]
        for k in range(m):
            squares[:] = 0
            for a in range(d):
                if member[k, a]:
                    z = fields[unit, 1 + a, part]
                    for i in range(length):
                        squares[i] += z[i] * z[i]
            z, y = fields[unit, 1 + d + k, part], out[unit, 1 + d + k, part]
            for i in range(length):
                y[i] = slope[i] * z[i] + bend[i] * squares[i]


@njit(cache=True, nogil=True, fastmath=FAST)
def backward(t, fields, member, g, out):
    """Set out to the gradient of <g, forward> by the fields."""
    m, d = member.shape
    one, two = t.dtype.type(1), t.dtype.type(2)
    slope, bend, third = np.empty(BLOCK, t.dtype), np.empty(BLOCK, t.dtype), np.empty(BLOCK, t.dtype)
    squares, total = np.empty(BLOCK, t.dtype), np.empty(BLOCK, t.dtype)
    for unit, start in _blocks(t.shape):
        length = min(BLOCK, t.shape[1] - start)
        part = slice(start, start + length)
        tanh, gv = t[unit, part], g[unit, 0, part]
        for i in range(length):
            slope[i] = one - tanh[i] * tanh[i]
            bend[i] = -two * tanh[i] * slope[i]
            third[i] = -two * slope[i] * slope[i] - two * tanh[i] * bend[i]
            total[i] = gv[i] * slope[i]
        for a in range(d):
            z, gz, y = fields[unit, 1 + a, part], g[unit, 1 + a, part], out[unit, 1 + a, part]
            for i in range(length):
                total[i] += gz[i] * z[i] * bend[i]
                y[i] = gz[i] * slope[i]
        for k in range(m):
            squares[:] = 0
            gs = g[unit, 1 + d + k, part]
            for a in range(d):
                if member[k, a]:
                    z, y = fields[unit, 1 + a, part], out[unit, 1 + a, part]
                    for i in range(length):
                        squares[i] += z[i] * z[i]
                        y[i] += two * gs[i] * bend[i] * z[i]
            z, y = fields[unit, 1 + d + k, part], out[unit, 1 + d + k, part]
            for i in range(length):
                total[i] += gs[i] * (z[i] * bend[i] + squares[i] * third[i])
                y[i] = gs[i] * slope[i]
        first = out[unit, 0, part]
        for i in range(length):
            first[i] = total[i]
