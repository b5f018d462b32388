"""Approximate Cholesky factors of diagonally dominant matrices, by sampled elimination."""
from __future__ import annotations
from typing import Any
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from deepcd.solvers.kernels import approximate_cholesky as passes

Vector = NDArray[np.floating[Any]]


def factors(A: sp.csr_array, seed: int, copies: int, eps: float):
    n, nnz = A.shape[0], A.nnz
    state = np.zeros(passes.STATES, dtype=np.int64)
    records = np.empty(8 * n, dtype=np.int32)
    arena = np.empty(4 * (2 * nnz + passes.SLACK * n + 64), dtype=np.int32)
    diagonal = np.empty(n)
    state[passes.END] = passes.read(
        A.indptr, A.indices, A.data, eps, copies, records, records.view(np.float64), arena, arena.view(np.float64), diagonal
    )
    queue, cells = np.empty(passes.BUCKETS, dtype=np.int32), np.empty(4 * n + 64, dtype=np.int32)
    passes.begin(records, queue, cells, state)
    work = (np.empty(n + 1, dtype=np.int64), np.empty(n + 1), np.empty(n + 1), np.empty(n + 1, dtype=np.int32),
        np.empty((2, 2 * n + 8), dtype=np.int64), np.empty(2 * n + 8))
    order, heavy = np.empty((2, n), dtype=np.int32)
    heaviest, inverses = np.empty((2, n))
    starts = np.zeros(n + 1, dtype=np.int64)
    rows, values = np.empty(nnz, dtype=np.int32), np.empty(nnz, dtype=np.float32)
    while True:
        graph = records, records.view(np.float64), arena, arena.view(np.float64)
        short = passes.eliminate(np.uint64(seed), copies, graph, diagonal, queue, cells, state, work, order, starts, rows, values, heavy, heaviest, inverses)
        if short == passes.FINISHED:
            break
        if short == passes.ARENA_FULL:
            arena = _larger(arena)
        elif short == passes.CELLS_FULL:
            cells = _larger(cells)
        else:
            rows, values = _larger(rows), _larger(values)
    used = state[passes.USED]
    rows, values = rows[:used], values[:used]
    passes.renumber(order, np.empty(n, dtype=np.int32), heavy, rows)
    return order, starts, rows, values, heavy, heaviest, inverses


def _larger(a):
    b = np.empty(2 * a.size + 1024, dtype=a.dtype)
    b[: a.size] = a
    return b


class ApproximateCholesky:
    name = "approximate-cholesky"
    symmetric = linear = True

    def __init__(self, A, seed=0, copies=1, eps=2.2e-16):
        self._factors = factors(A, seed, copies, eps)
        self._y = np.empty(A.shape[0])
        self.work = 3.0
    def zeros(self):
        return np.zeros(self._y.size)
    def apply(self, r, z):
        return passes.apply(*self._factors, self._y, r, z)
