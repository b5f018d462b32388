"""Geometric multigrid on a grid whose faces have weights of their own.

Coarse operators and transfers come from eliminating cells axis by axis (`kernels/faces/elimination.py`), those axes
are halved along which cells are coupled strongly, and smoothing is a Chebyshev polynomial in D^-1 A. That is all of the
classical cycle; in the learned one, networks correct the coarse operators and their smoothers by factors
(`face_factors.py`). Nothing depends on the scale or the contrast of the weights.
"""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.solvers.kernels.faces import forming, levels, waves
from deepcd.solvers.kernels.faces.levels import Memory
from deepcd.solvers.kernels.faces.records import F32, Around, Faces, Grid, ShortFaces
from deepcd.solvers.kernels.lanes import shortened
from deepcd.solvers.kernels.team import Team
from deepcd.solvers.learned.face_architecture import KINDS
from deepcd.solvers.preconditioners.multigrid.face_factors import Network, networks_of, with_factors
from deepcd.solvers.preconditioners.multigrid.face_levels import Coarser, FaceLevel, coarsen

COARSEST = 600  # largest box, in cells, that is solved exactly
# Smoothing steps before and after the correction, and the eigenvalues of D^-1 A that they are to reduce. In two
# dimensions coarse levels are a third of the work, and shorter polynomials are worth more there.
STEPS, RANGE = 4, (2 / 12, 2.0)
FLAT_STEPS, FLAT_RANGE = 2, (2 / 8, 2.0)
# Lanczos steps for the largest eigenvalue of a cycle, and how many times as large it may be: on the largest of the
# coarse levels, where steps are dear, and on the others.
LANCZOS, SURELY = (5, 8), (1.15, 1.07)
REACTION = 1e-4  # share of every diagonal entry in no face from which on coarse levels have little left to correct
CLOSELY = 24  # steps where the few have found that it is above two
SOUND = 0.5  # ratio of a resistor network's weight to a coarse face's above which no cycle has an eigenvalue near two
NULL = 1e-13  # eigenvalue of the scaled operator of the coarsest level up to which it is zero but for rounding
LOOSE = 1e-10  # share of the diagonal, of a component, that tells extra diagonal from rounding


def chebyshev(steps: int, low: float, high: float) -> F32:
    """Return the step lengths of the polynomial that is smallest on an interval of eigenvalues.

    Examples
    --------
    >>> [round(float(step), 3) for step in chebyshev(2, 0.25, 2.0)]
    [0.573, 1.975]
    """
    roots = (high + low) / 2 + (high - low) / 2 * np.cos(np.pi * (2 * np.arange(steps) + 1) / (2 * steps))
    return (1 / roots).astype(np.float32)


class FaceCycle:
    """M of a multigrid cycle on face weights: one cycle on the finest level, two on each of the others.

    Parameters
    ----------
    grid : Grid
        The finest box.
    faces : Faces
        Its operator.
    threads : int, default 1
    coarsest : int, optional
        Largest number of cells of a box that is solved exactly.
    parameters : dict of str to ndarray, optional
        Parameters of the networks as they are stored; without them the cycle is the classical one.
    sealed : ndarray of int32, flat on the padded box, optional
        Numbers of the components whose rows sum to zero, -1 elsewhere. Needed where there are other components beside
        them: on coarse levels these are not always apart, and what then couples them must not decide on a constant.

    Attributes
    ----------
    name : str
        "learned-multigrid", or "geometric-multigrid" if there are no networks, or they would not help: the classical
        cycle is as good where a reaction acts in every cell and where an axis is coupled weakly, and takes over where a
        coarse operator came out too small.
    failing : float
        Share of the face weights of the second level where strong faces are not those of any grid of its cells.
    """

    flat = FLAT_STEPS, FLAT_RANGE  # the smoothing of coarse levels in two dimensions
    symmetric = linear = True
    work = 4.0  # passes over the finest level: down, up, and the outer two

    def __init__(
        self,
        grid: Grid,
        faces: Faces,
        threads: int = 1,
        *,
        coarsest: int = COARSEST,
        parameters: dict[str, Any] | None = None,
        sealed: NDArray[np.int32] | None = None,
    ) -> None:
        self.grid, self.omegas = grid, chebyshev(STEPS, *RANGE)
        self.fields: ShortFaces | Around = short(faces)
        self._set_up(faces, coarsest, parameters, sealed)
        self._allocate(threads)

    def _set_up(
        self, faces: Faces, coarsest: int, parameters: dict[str, Any] | None, sealed: NDArray[np.int32] | None
    ) -> None:
        """Make the coarse levels; networks have nothing to do where a reaction acts in every cell."""
        reacts = forming.dominance(faces.extra, faces.inverse) >= REACTION
        networks = [] if parameters is None or reacts else networks_of(parameters)
        self._coarsen(FaceLevel.of(self.grid, faces, sealed), coarsest, networks)

    def _coarsen(self, level: FaceLevel, coarsest: int, networks: list[Network]) -> None:
        """Make the coarse levels, without networks where theirs do not allow second visits of full weight.

        Nor are they asked where cells are coupled so that an axis is left as it is at first: the second level is large
        then, and the classical cycle as good.
        """
        steps: list[Coarser] = []
        now = level
        while now.cells > coarsest or not steps:
            coarse = coarsen(now, keep=bool(networks))
            if not all(coarse.halved[axis] for axis in range(3) if now.grid.n[axis] > 1) and not steps:
                networks = []
            steps.append(with_factors(coarse, networks[min(len(steps), KINDS - 1)]) if networks else coarse)
            now = steps[-1].level
        self.name = "learned-multigrid" if networks else "geometric-multigrid"
        self.codes, self.failing = steps[0].codes, steps[0].failing
        self.memory_map = _laid_out(steps, *self.flat)
        for depth in reversed(range(len(steps) - 1)):
            if not networks and sum(steps[depth + 1].halved) == 1 and steps[depth + 1].ratio >= SOUND:
                self.memory_map.weights[depth] = 0  # the next level is half as large, and as good as this one
                continue
            if networks or min(step.ratio for step in steps[depth + 1 :]) < SOUND:
                self.memory_map.weights[depth] = self._second_visit(depth)
            if networks and self.memory_map.weights[depth] < 1:
                self._coarsen(level, coarsest, [])
                return

    def _allocate(self, threads: int) -> None:
        """Make work vectors and threads."""
        self._below = box_of(self.memory_map.table[0])
        self._coarse = levels.vectors_of(self.memory_map.table[0], self.memory_map.pool)
        self._team = Team(threads, self.grid.n[0], self.fields.extra.size)
        entries = (3 * self.omegas.size + levels.SPARE) * self.grid.s[0]
        self._rings = [(np.zeros(entries, dtype=np.float32),) for _ in range(self._team.threads)]
        self._smoothed = self.zeros()

    def _second_visit(self, depth: int) -> float:
        """Return as much weight for the second cycle M of a level as positive definiteness allows.

        Both make (1 + w) M - w M A M, which is positive definite while w (t - 1) < 1 for the largest eigenvalue t of
        M A: up to two with the full weight one.
        """
        deep = min(depth, 1)
        largest = SURELY[deep] * self._largest_eigenvalue(depth, LANCZOS[deep])
        if largest <= 2:
            return 1.0
        largest = SURELY[1] * self._largest_eigenvalue(depth, CLOSELY)
        return 1 / max(largest - 1, 1.0) if math.isfinite(largest) else 0.0

    def _largest_eigenvalue(self, depth: int, steps: int) -> float:
        """Return what some steps of Lanczos find of the largest eigenvalue of M A of a level, one cycle."""
        alphas, betas = np.zeros(steps), np.zeros(steps)
        done = levels.tridiagonalise(self.memory_map, depth, alphas, betas)
        if not done:
            return math.inf
        tridiagonal = np.diag(alphas[:done]) + np.diag(betas[1:done], 1) + np.diag(betas[1:done], -1)
        return float(np.linalg.eigvalsh(tridiagonal)[-1])

    def __str__(self) -> str:
        boxes = [self.grid, *map(box_of, self.memory_map.table)]
        sizes = ", ".join("x".join(str(k) for k in box.n if k > 1) or "1" for box in boxes)
        memory, unknowns = self.memory(), max(int(np.count_nonzero(self.fields.inverse)), 1)
        return (
            f"{self.name}, {len(boxes)} levels: {sizes}; the last solved exactly "
            f"({len(self.memory_map.cells)} unknowns)\n"
            f"{self.work:g} passes over the finest grid per iteration, outer loop included; "
            f"{memory / 2**20:.1f} MiB, {memory / unknowns:.0f} bytes per unknown"
        )

    def memory(self) -> int:
        """Return the bytes of all arrays, the weights of the faces included."""
        arrays = {id(a): a.nbytes for a in (*self.fields, *self.codes, *self.memory_map, self._smoothed)}
        return sum(arrays.values()) + sum(own.nbytes for (own,) in self._rings)

    def twin(self, threads: int) -> Self:
        """Return the same M with work vectors and threads of its own."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.memory_map = self.memory_map._replace(pool=self.memory_map.pool.copy())
        twin._allocate(threads)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        kept = ("name", "grid", "fields", "codes", "failing", "omegas", "memory_map")
        return {name: self.__dict__[name] for name in kept} | {"threads": self._team.threads}

    def __setstate__(self, state: dict[str, Any]) -> None:
        threads = state.pop("threads")
        self.__dict__.update(state)
        self._allocate(threads)

    def zeros(self) -> F32:
        """Return a zero vector of the kind that `apply` writes: float32 on the padded box."""
        return np.zeros(self.fields.extra.size, dtype=np.float32)

    def apply(self, r: F32, z: F32) -> float:
        """Set z to M r and return r.z."""
        team, place = self._team, (self.grid, self.fields, self.omegas, r, self._smoothed)
        bounds = team.halved if self.codes.near0.size else team.bounds
        where = (self.codes, self._below)
        team.run(waves.descend, *place, *where, self._coarse.r, scratch=self._rings, bounds=bounds)
        levels.visit(self.memory_map, 0)
        return float(sum(team.run(waves.ascend, *place, z, *where, self._coarse.z, scratch=self._rings)))


def short(faces: Faces) -> ShortFaces:
    """Return an operator of bfloat16 numbers, which a cycle may be off by: each is rounded by 1 / 256 at most.

    In difference form that is as if the coefficient were another one, so no eigenvalue changes by more.
    """
    w0, w1, w2, extra, inverse = faces
    first = shortened(w0)
    middle = first if w1 is w0 else shortened(w1)
    return ShortFaces(first, middle, shortened(w2), shortened(extra), shortened(inverse))


def box_of(row: NDArray[np.int64]) -> Grid:
    """Return the box of a coarse level as numbers of Python."""
    n, s, wrap = levels.grid_of(row.tolist())
    return Grid(n, s, wrap)


def _laid_out(steps: list[Coarser], flat_steps: int, flat_range: tuple[float, float]) -> Memory:
    """Return the coarse levels in memory."""
    rows, ends = [], (0, 0, 0)
    steps_down, interval = (flat_steps, flat_range) if steps[0].level.grid.s[1] == 0 else (STEPS, RANGE)
    for step, under in zip(steps, [*steps[1:], None], strict=True):
        lengths = [0] * 6 if under is None else [code.size for code in under.codes]
        row = levels.row_of(step.level.grid, steps_down, ends, lengths)
        rows.append(row)
        ends = row[levels.FIELDS_END], row[levels.END], row[levels.CODES_END]
    table = np.array(rows, dtype=np.int64)
    fields, codes = np.zeros(ends[0], dtype=np.uint16), np.zeros(ends[2], dtype=np.uint8)
    for row, step, under in zip(rows, steps, [*steps[1:], None], strict=True):
        for place, own in zip(levels.faces_of(row, fields), short(step.level.faces), strict=True):
            place[:] = own
        for code, given in zip(levels.codes_of(row, codes), under.codes if under else (), strict=False):
            code[:] = given
    pool = np.zeros(ends[1], dtype=np.float32)
    omegas = np.tile(chebyshev(steps_down, *interval), (len(rows), 1))
    cells, inverse = exact_inverse(steps[-1].level)
    return Memory(table, omegas, np.ones(len(rows), dtype=np.float32), fields, pool, codes, cells, inverse)


def exact_inverse(level: FaceLevel) -> tuple[NDArray[np.int64], F32]:
    """Return the unknowns of a level, and the dense pseudo-inverse of its operator on these.

    The operator is scaled to unit diagonal first, which takes contrasts out. Components without extra diagonal lose
    their constant: with V their null vectors, normalised, the pseudo-inverse of the scaled operator B is
    (B + V V')^-1 - V V'. So do those cells that stand for a sealed component of the finest level, whatever couples them
    to others.
    """
    cells = np.flatnonzero(level.diagonal > 0)
    if not cells.size:
        return cells, np.zeros((0, 0), dtype=np.float32)
    low, high, weights = _couplings(level, cells)
    extra = level.faces.extra[cells].astype(np.float64)
    graph = sp.coo_array((weights, (low, high)), shape=(cells.size, cells.size)).toarray()
    dense = -(graph + graph.T)
    diagonal = extra - dense.sum(axis=1)
    root = np.sqrt(diagonal)
    dense[np.diag_indices_from(dense)] = diagonal
    dense /= root * root[:, None]
    component = sp.csgraph.connected_components(sp.csr_array(graph), directed=False)[1]
    sizes = np.bincount(component, weights=diagonal)
    loses = (np.bincount(component, weights=extra) <= LOOSE * sizes)[component]
    if level.sealed is not None and (label := level.sealed[cells]).max() >= 0:
        component = np.where(label < 0, component, component.size + label)
        loses |= label >= 0
        sizes = np.bincount(component, weights=diagonal)
    null = np.where(loses, root / np.sqrt(sizes[component]), 0.0)
    constants = np.where(component == component[:, None], null * null[:, None], 0.0)
    if level.sealed is not None:  # null vectors of the finest level, but not quite of this one
        dense -= constants @ dense
        dense -= dense @ constants
    dense += constants
    factor, fault = scipy.linalg.lapack.dpotrf(dense.T, lower=True)
    if fault:
        values, vectors = np.linalg.eigh(dense)
        sound = values > NULL
        inverse = (vectors[:, sound] / values[sound]) @ vectors[:, sound].T
    else:
        upper = scipy.linalg.lapack.dpotri(factor, lower=True, overwrite_c=True)[0].T
        inverse = np.triu(upper) + np.triu(upper, 1).T
    inverse -= constants
    inverse /= root * root[:, None]
    return cells, np.ascontiguousarray(inverse, dtype=np.float32)


def _couplings(level: FaceLevel, cells: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
    """Return the faces between the unknowns of a level: both their numbers, and the weight."""
    (n, s, wrap), f = level.grid, level.faces
    number = np.full(level.diagonal.size, -1)
    number[cells] = np.arange(cells.size)
    plane, row = np.divmod(cells, s[0])
    place = np.stack([plane - 1, row // s[1] - 1 if s[1] else np.zeros_like(row), (row % s[1] if s[1] else row) - 1])
    low, high, weights = [], [], []
    for axis, (w, stride) in enumerate(zip((f.w0, f.w1, f.w2), (*s, 1), strict=True)):
        if n[axis] == 1:
            continue
        at_end = place[axis] == n[axis] - 1
        other = np.where(at_end, cells - (n[axis] - 1) * stride, cells + stride)
        kept = (w[cells] > 0) & (number[other] >= 0) & (number[other] != number[cells]) & (wrap[axis] | ~at_end)
        low.append(number[cells[kept]])
        high.append(number[other[kept]])
        weights.append(w[cells[kept]].astype(np.float64))
    return np.concatenate(low), np.concatenate(high), np.concatenate(weights)
