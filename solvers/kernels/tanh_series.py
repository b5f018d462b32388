"""Compiled tanh of truncated Taylor series, and its adjoint: a list of instructions, run on one block after the other.

`deepcd.solvers.pinn.series` writes the instructions and says what they compute. Arrays are of shape (width, rows, n):
for each unit of a layer, the coefficients of its series at n points, so that a layer is a product of a small matrix
with long rows. A block of each row stays in the first-level cache until it is finished.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST

BLOCK = 512  # points: with fewer, to start a loop takes as long as to run it
BEGIN, PAIR, PAIRS, START, OPEN, ADD, BEND, BENDS = range(8)


@njit(cache=True, nogil=True, fastmath=FAST)
def run(x, w, code, factors, slots, out):
    """Set rows of out by instructions on x, on w, which is the tanh of the series, and on v = 1 - w^2.

    An instruction is a kind, a target, and rows i, j, k, l with the factors c and e of products; unused ones are zero:

    ===== ================================================================================================
    BEGIN v[target] = -2 w[0] w[i]
    PAIR  v[target] += c w[i] w[j]
    PAIRS v[target] += c w[i] w[j] + e w[k] w[l]
    START out[target] = x[target] v[0]
    OPEN  out[target] = x[target] v[0] - 2 w[0] c x[i] w[j]
    ADD   out[target] += c x[i] v[j]
    BEND  out[target] -= 2 w[0] c x[i] w[j], which is ADD for a coefficient of first order of v
    BENDS out[target] -= 2 w[0] (c x[i] w[j] + e x[k] w[l])
    ===== ================================================================================================

    Forwards x is the series before the tanh, and out is w, whose first row, the tanh of the values, is there already.
    Backwards x is the cotangent of w, and out is that of the series before the tanh.
    """
    width, _, n = x.shape
    v = np.empty((slots, BLOCK), x.dtype)
    one, two = x.dtype.type(1), x.dtype.type(2)
    for unit in range(width):
        xs, ws, ys = x[unit], w[unit], out[unit]
        for start in range(0, n, BLOCK):
            length = min(BLOCK, n - start)
            part = slice(start, start + length)
            t, v0 = ws[0, part], v[0]
            for i in range(length):
                v0[i] = one - t[i] * t[i]
            for line in range(len(code)):
                kind, target, j, k, m, o = code[line]
                c, e = x.dtype.type(factors[line, 0]), x.dtype.type(factors[line, 1])
                if kind == ADD:
                    y, a, b = ys[target, part], xs[j, part], v[k]
                    for i in range(length):
                        y[i] += c * (a[i] * b[i])
                elif kind == BENDS:
                    y, a, b, f, g = ys[target, part], xs[j, part], ws[k, part], xs[m, part], ws[o, part]
                    for i in range(length):
                        y[i] -= two * t[i] * (c * (a[i] * b[i]) + e * (f[i] * g[i]))
                elif kind == BEND:
                    y, a, b = ys[target, part], xs[j, part], ws[k, part]
                    for i in range(length):
                        y[i] -= two * t[i] * (c * (a[i] * b[i]))
                elif kind == OPEN:
                    y, a, b, f = ys[target, part], xs[j, part], ws[k, part], xs[target, part]
                    for i in range(length):
                        y[i] = f[i] * v0[i] - two * t[i] * (c * (a[i] * b[i]))
                elif kind == START:
                    y, a = ys[target, part], xs[target, part]
                    for i in range(length):
                        y[i] = a[i] * v0[i]
                elif kind == BEGIN:
                    y, a = v[target], ws[j, part]
                    for i in range(length):
                        y[i] = -two * (t[i] * a[i])
                elif kind == PAIR:
                    y, a, b = v[target], ws[j, part], ws[k, part]
                    for i in range(length):
                        y[i] += c * (a[i] * b[i])
                else:
                    y, a, b, f, g = v[target], ws[j, part], ws[k, part], ws[m, part], ws[o, part]
                    for i in range(length):
                        y[i] += c * (a[i] * b[i]) + e * (f[i] * g[i])
