"""Compiled derivatives of residuals by the weights of a layer, for each point on its own."""

from __future__ import annotations

from numba import njit

from deepcd.pde.kernels.boxes import FAST

BLOCK = 128


@njit(cache=True, nogil=True, fastmath=FAST)
def products(g, f, scale, out):
    """Set out[u k + j, i] to scale[i] times the sum over rows c of g[u, c, i] f[j, c, i].

    Parameters
    ----------
    g : array, shape (units, rows, n)
        Cotangents of what a layer computes.
    f : array, shape (k, rows, n)
        What enters it.
    scale : array, shape (n,)
    out : array, shape (units k, n)
    """
    units, rows, n = g.shape
    inputs = f.shape[0]
    for start in range(0, n, BLOCK):
        length = min(BLOCK, n - start)
        stop = start + length
        s = scale[start:stop]
        for u in range(units):
            for j in range(inputs):
                y, a, b = out[u * inputs + j, start:stop], g[u, 0, start:stop], f[j, 0, start:stop]
                for i in range(length):
                    y[i] = a[i] * b[i]
                for c in range(1, rows):
                    a, b = g[u, c, start:stop], f[j, c, start:stop]
                    for i in range(length):
                        y[i] += a[i] * b[i]
                for i in range(length):
                    y[i] *= s[i]
