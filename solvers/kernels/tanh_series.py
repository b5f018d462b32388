"""Compiled tanh of truncated Taylor series, and its adjoint: a list of instructions, run on one block after the other.

`deepcd.solvers.pinn.series` writes the instructions and says what they compute. Arrays are of shape (width, rows, n):
for each unit of a layer, the coefficients of its series at n points, so that a layer is a product of a small matrix
with long rows. A block of each row stays in the first-level cache until it is finished.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST

BLOCK = 128
BEGIN, PAIR, START, ADD, BEND = range(5)


@njit(cache=True, nogil=True, fastmath=FAST)
def run(x, w, code, factors, slots, out):
    """Set rows of out by instructions on x, on w, which is the tanh of the series, and on v = 1 - w^2.

    BEGIN slot row: v[slot] = -2 w[0] w[row]; PAIR slot i j: v[slot] += factor w[i] w[j]; START row: out[row] =
    x[row] v[0]; ADD row i slot: out[row] += factor x[i] v[slot]; BEND row i j: out[row] -= 2 factor w[0] x[i] w[j], which is
    ADD for a coefficient of first order of v.

    Forwards x is the series before the tanh, and out is w, whose first row, the tanh of the values, is there already.
    Backwards x is the cotangent of w, and out is that of the series before the tanh.
    """
    width, _, n = x.shape
    v = np.empty((slots, BLOCK), x.dtype)
    one, two = x.dtype.type(1), x.dtype.type(2)
    for unit in range(width):
        for start in range(0, n, BLOCK):
            length = min(BLOCK, n - start)
            stop = start + length
            t, v0 = w[unit, 0, start:stop], v[0]
            for i in range(length):
                v0[i] = one - t[i] * t[i]
            for k in range(len(code)):
                kind, target, first, second = code[k]
                c = x.dtype.type(factors[k])
                if kind == ADD:
                    y, a, b = out[unit, target, start:stop], x[unit, first, start:stop], v[second]
                    for i in range(length):
                        y[i] += c * (a[i] * b[i])
                elif kind == BEND:
                    c *= -two
                    y, a, b = out[unit, target, start:stop], x[unit, first, start:stop], w[unit, second, start:stop]
                    for i in range(length):
                        y[i] += c * (t[i] * (a[i] * b[i]))
                elif kind == START:
                    y, a = out[unit, target, start:stop], x[unit, target, start:stop]
                    for i in range(length):
                        y[i] = a[i] * v0[i]
                elif kind == BEGIN:
                    y, a = v[target], w[unit, first, start:stop]
                    for i in range(length):
                        y[i] = -two * (t[i] * a[i])
                else:
                    y, a, b = v[target], w[unit, first, start:stop], w[unit, second, start:stop]
                    for i in range(length):
                        y[i] += c * (a[i] * b[i])
