"""All coarse levels of a cycle in one compiled call: every level is visited twice, the last one solved exactly.

Levels lie in memory as `kernels/layout.py` says. There is one visitor per kind of smoother, since each of them lets its
passes leave different vectors behind.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from deepcd.pde.kernels.boxes import FAST
from deepcd.solvers.kernels import coarse, gauss_seidel, layout
from deepcd.solvers.kernels.layout import WEIGHT
from deepcd.solvers.kernels.records import Transfer

_box_of, _fields_of, _scratch_of = (njit(f) for f in (layout.box_of, layout.fields_of, layout.scratch_of))
_coefficients_of, _below_of = njit(layout.coefficients_of), njit(layout.below_of)


@njit(cache=True, nogil=True, fastmath=FAST)
def _solve(cells, inverse, psi, r, t, z):
    """z <- psi inverse r on some cells; t is scratch."""
    m = np.uint64(cells.size)
    for j in range(m):
        t[j] = r[cells[j]]
    for k in range(m):
        total = np.float32(0)
        for j in range(m):
            total += inverse[k, j] * t[j]
        z[cells[k]] = psi[cells[k]] * total


@njit(cache=True, nogil=True)
def _transfer(memory, depth):
    """Return how a level is connected with the next one, and the vectors of that one."""
    box, taps = _box_of(memory.table[depth + 1]), memory.numbers[depth]
    return Transfer(box.n, box.s, taps[:3], taps[3:6]), _below_of(memory.table[depth + 1], memory.pool)


@njit(cache=True, nogil=True)
def visit(memory, depth):
    """z of a level <- psi times what two cycles, or on the last level the exact solution, make of its r.

    The cycles smooth with (a, c) of each level.
    """
    box, level = _box_of(memory.table[depth]), _fields_of(memory.table[depth], memory.pool)
    if depth == memory.table.shape[0] - 1:
        _solve(memory.cells, memory.inverse, level.psi, level.r, level.t, level.z)
        return
    (transfer, below), own = _transfer(memory, depth), _coefficients_of(level)
    scratch, m, weight = _scratch_of(memory.table[depth], memory.pool), transfer.n, memory.numbers[depth, WEIGHT]
    coarse.descend(box, own, level.r, level.y, transfer, below.psi, below.r, scratch, 0, m[0])
    visit(memory, depth + 1)
    coarse.turn(
        box, own, level.r, level.y, level.e, level.t, level.z, transfer, below.z, below.psi, below.r, scratch, 0, m[0]
    )
    visit(memory, depth + 1)
    coarse.ascend(box, own, level.t, level.z, level.y, transfer, below.z, scratch, 0, box.n[0])
    coarse.combine(weight, level.e, level.psi, level.y, level.z)


@njit(cache=True, nogil=True)
def visit_red_black(memory, sweeps, depth):
    """Do the same with so many Gauss-Seidel sweeps; in the place of `a` there is the inverse of the diagonal."""
    box, level = _box_of(memory.table[depth]), _fields_of(memory.table[depth], memory.pool)
    if depth == memory.table.shape[0] - 1:
        _solve(memory.cells, memory.inverse, level.psi, level.r, level.t, level.z)
        return
    (transfer, below), own = _transfer(memory, depth), _coefficients_of(level)
    scratch, weight = _scratch_of(memory.table[depth], memory.pool), memory.numbers[depth, WEIGHT]
    for again in range(2):
        right, out, left = (level.t, level.z, level.t[:0]) if again else (level.r, level.e, level.t)
        gauss_seidel.descend_coarse(box, own, sweeps, right, out, transfer, below.psi, below.r, scratch)
        visit_red_black(memory, sweeps, depth + 1)
        gauss_seidel.ascend_coarse(box, own, sweeps, right, out, transfer, below.z, left, scratch)
    coarse.combine(weight, level.e, level.psi, level.z, level.z)
