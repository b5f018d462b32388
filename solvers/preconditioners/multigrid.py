"""The multigrid cycle on a padded box that the learned and the classical preconditioner share.

One V step from the finest level, every coarser level visited twice (z + M (r - A z), a W-cycle), the coarsest solved
by its dense pseudo-inverse. Symmetric as long as post-smoothing is the transpose of pre-smoothing. See Briggs, Henson
and McCormick, A Multigrid Tutorial (SIAM 2000), chapter 3.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.kernels import coarse, cycle, setup
from deepcd.solvers.kernels.team import Team

F32 = NDArray[np.float32]
Box = tuple[int, int, int]
NOWHERE = np.zeros(0, dtype=np.float32)
RINGS = 4  # sets of three planes that a pass keeps
CACHE = 7 << 19  # bytes of them that a thread's share of the processor's cache holds; more rows are taken in tiles
COARSEST = 600  # cells of a box that is solved exactly: a dense matrix of 1.4 MB, cheaper than another level
SMALLEST_DIAGONAL = 1e-6  # times the nominal face weight: below, a coarse cell is no unknown


@dataclass
class Taps:
    """Interpolation to the next finer level: per axis the weights of the own and of the next coarse cell."""

    near: F32
    far: F32

    @classmethod
    def of(cls, q: float, n: Box) -> Taps:
        """Return (1 - q, q) for every axis that is halved, (1, 0) for axes of one cell."""
        far = np.array([q if k > 1 else 0.0 for k in n], dtype=np.float32)
        return cls(np.float32(1) - far, far)


@dataclass
class CoarseLevel:
    """A level with face weights; arrays are flat padded boxes of float32."""

    n: Box
    s: tuple[int, int]
    nominal: tuple[float, float, float]  # face weight per axis in an undisturbed interior
    capacity: float  # finest cells in one cell
    # Needed for the set-up only
    volume: F32
    dirichlet: F32
    inside: F32  # (3, box): face weights inside the cells
    inverse: F32  # of the diagonal
    # Parts of the pool, see `kernels/cycle.py`
    diagonal: F32 = field(init=False)
    w: F32 = field(init=False)  # (3, box)
    a: F32 = field(init=False)
    c: F32 = field(init=False)  # (3, box)
    phi: F32 = field(init=False)
    psi: F32 = field(init=False)
    r: F32 = field(init=False)
    z: F32 = field(init=False)
    t: F32 = field(init=False)
    e: F32 = field(init=False)
    y: F32 = field(init=False)
    taps: Taps = field(init=False)  # to the next coarser level
    team: Team = field(init=False)
    scratch: list[tuple[F32, ...]] = field(init=False)  # per thread: rings of planes, a row, a row per coarse row

    @property
    def strides(self) -> Box:
        """Flat distance of neighbours per axis, 0 where there are none."""
        return self.s[0], self.s[1], 1

    @property
    def size(self) -> int:
        """Entries of the padded box."""
        return (self.n[0] + 2) * self.s[0]

    def finish(self) -> None:
        """Form the diagonal from face and Dirichlet weights."""
        smallest = np.float32(SMALLEST_DIAGONAL * max(self.nominal))
        setup.form_diagonal(self.strides, self.w, self.dirichlet, smallest, self.diagonal, self.inverse)
        self.diagonal[self.inverse == 0] = 0


def shared(threads: int, n: Box, s: tuple[int, int], sets: int) -> tuple[Team, list[tuple[F32, ...]]]:
    """Return the threads for a box and, for each, its scratch: sets of three planes, a row, a row per coarse row."""
    team, row = Team(threads, n[0], (n[0] + 2) * s[0]), n[2] + 4
    shapes = (sets, 3, s[0] + s[1] + 4), (row,), ((n[1] + 1) // 2 + 2, row)
    scratch = [tuple(np.zeros(shape, dtype=np.float32) for shape in shapes) for _ in range(team.threads)]
    return team, scratch


def coarser(n: Box, nominal: tuple[float, float, float], capacity: float, planar: bool) -> tuple[CoarseLevel, Box]:
    """Return the next coarser level of a box, its sums zero and its fields still missing, and the steps to it.

    A step is 2 where the axis is halved, 1 where it has one cell.
    """
    m = ((n[0] + 1) // 2, (n[1] + 1) // 2, (n[2] + 1) // 2)
    step = (min(n[0], 2), min(n[1], 2), min(n[2], 2))
    ms = (m[2] + 2, 0) if planar else ((m[1] + 2) * (m[2] + 2), m[2] + 2)
    total, size = math.prod(step), (m[0] + 2) * ms[0]
    nominal = tuple(w * total / k / (2 if k == 2 else 1) for w, k in zip(nominal, step, strict=True))  # type: ignore[assignment]
    volume, dirichlet, inverse = (np.zeros(size, dtype=np.float32) for _ in range(3))
    inside = np.zeros((3, size), dtype=np.float32)
    return CoarseLevel(m, ms, nominal, capacity * total, volume, dirichlet, inside, inverse), step


def halve_faces(level: CoarseLevel, step: Box, dirichlet: float) -> None:
    """Turn summed face weights into coarse ones: half along halved axes, which doubles the distance."""
    for axis in range(3):
        if step[axis] == 2:
            level.w[axis] *= np.float32(0.5)
    level.dirichlet *= np.float32(dirichlet)


class Multigrid:
    """A cycle over a hierarchy; subclasses build the levels and say how to smooth.

    Parameters
    ----------
    n, s : tuple of int
        Cells and strides of the finest box.
    diagonal : uint8, flat padded box
    threads : int
    """

    name = "multigrid"
    symmetric = linear = True
    work = 4.0  # passes: down, up, and the outer two
    sweeps = 0  # of Gauss-Seidel; 0: a smoother of its own

    def __init__(self, n: Box, s: tuple[int, int], diagonal: NDArray[np.uint8], threads: int) -> None:
        self.n, self.s, self.diagonal = n, s, diagonal
        self.threads = threads
        self.levels: list[CoarseLevel] = []
        self.phi = np.float32(1)
        self.starts, self.cells = np.zeros(n[0] * n[1] + 1, dtype=np.int64), np.zeros(0, dtype=np.int64)
        self.ratio = np.zeros(0, dtype=np.float32)
        self.listed = 0  # cells of the finest level with coefficients of their own
        self.taps = Taps.of(0.25, n)
        self.allocate()

    def __str__(self) -> str:
        sizes = [tuple(k for k in self.n if k > 1), *(tuple(k for k in level.n if k > 1) for level in self.levels)]
        boxes = ", ".join("x".join(map(str, size)) or "1" for size in sizes)
        unknowns = max(int(np.count_nonzero(self.diagonal)), 1)
        return (
            f"{self.name}, {len(sizes)} levels: {boxes}; the last solved exactly ({len(self.exact_cells)} unknowns)\n"
            f"{self.work:g} passes over the finest grid per iteration, outer loop included; "
            f"{self.listed / unknowns:.0%} of its cells have coefficients of their own; "
            f"{self.memory() / 2**20:.1f} MiB, {self.memory() / unknowns:.0f} bytes per unknown"
        )

    def memory(self) -> int:
        """Return the bytes of all arrays that the cycle keeps."""
        own = [a for a in vars(self).values() if isinstance(a, np.ndarray)]
        return sum(a.nbytes for a in own) + sum(a.nbytes for scratch in self.scratch for a in scratch)

    def coarsen(self, dirichlet: float) -> Iterator[tuple[int, CoarseLevel, Box]]:
        """Form coarser levels until the box is small enough to be solved exactly.

        Parameters
        ----------
        dirichlet : float
            Share of the summed Dirichlet weights that a coarser level keeps.

        Yields
        ------
        depth : int
        level : CoarseLevel
            With face and Dirichlet weights; the caller completes it before the next one is formed from it.
        step : tuple of int
            Cells of the finer level that make one, per axis.
        """
        chain = [coarser(self.n, (1.0, 1.0, 1.0), 1.0, planar=self.s[1] == 0)]
        while math.prod(chain[-1][0].n) > COARSEST:
            above = chain[-1][0]
            chain.append(coarser(above.n, above.nominal, above.capacity, planar=self.s[1] == 0))
        end, rows = 0, []
        for level, _ in chain:
            row, end = cycle.layout(level.n, level.s, end)
            rows.append(row)
        self.levels = [level for level, _ in chain]
        self.table, self.pool = np.array(rows, dtype=np.int64), np.zeros(end, dtype=np.float32)
        self.bind()
        for depth, (level, step) in enumerate(chain):
            sums = (level.n, level.s, step, level.volume, level.dirichlet, level.inside, level.w)
            if depth == 0:
                setup.aggregate_stencil(self.n, self.s, self.diagonal, *sums)
            else:
                above = self.levels[depth - 1]
                setup.aggregate_faces(above.n, above.s, above.w, above.volume, above.dirichlet, *sums)
            halve_faces(level, step, dirichlet)
            yield depth, level, step

    def list_cells(self, cells: NDArray[np.int64], ratio: F32) -> None:
        """Name the cells whose transfer scaling differs from the interior's, ascending, and by what factor."""
        self.starts, self.cells, self.ratio = self.by_rows(cells), (cells % self.s[0]).astype(np.int32), ratio
        self.listed = len(cells)

    def by_rows(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where the cells of each row begin among some that ascend, and where the last row's end."""
        i, j = np.divmod(np.arange(self.n[0] * self.n[1] + 1), self.n[1])
        return np.searchsorted(cells, (i + 1) * self.s[0] + (j + 1) * self.s[1])

    def allocate(self) -> None:
        """Make the work vectors of the finest level and of its threads."""
        self.team, self.scratch = shared(self.threads, self.n, self.s, RINGS)
        self.smoothed = np.zeros(self.diagonal.size, dtype=np.float32)
        plane = 4 * 3 * RINGS * self.s[0]
        self.tile = max(8, min(self.n[1], CACHE * self.n[1] // plane) // 2)

    def twin(self, threads: int) -> Self:
        """Return the same M with work vectors and threads of its own."""
        twin = copy.copy(self)
        twin.threads, twin.pool = threads, self.pool.copy()
        twin.allocate()
        twin.bind()
        return twin

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is part of the pool."""
        levels = [copy.copy(level) for level in self.levels]
        for level in levels:
            for name in (*cycle.FIELDS, "scratch"):
                vars(level).pop(name, None)
        return {**vars(self), "levels": levels}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        self.bind()

    def zeros(self) -> F32:
        """Return a zero vector of the kind that `apply` writes: float32 on the padded box."""
        return np.zeros(self.diagonal.size, dtype=np.float32)

    def finish(self) -> None:
        """Solve the coarsest level exactly and weigh the second visits of the others."""
        last = self.levels[-1]
        self.exact_cells = np.flatnonzero(last.diagonal)
        self.exact = pseudo_inverse(last, self.exact_cells)
        self.numbers = np.array([[*level.taps.near, *level.taps.far, 1] for level in self.levels], dtype=np.float32)
        for level in self.levels:
            level.volume = level.dirichlet = level.inside = level.inverse = NOWHERE
        for depth in reversed(range(len(self.levels) - 1)):
            self._weigh_second_visit(depth)

    def bind(self) -> None:
        """Let the levels' fields be those parts of the pool."""
        for level, row in zip(self.levels, self.table.tolist(), strict=True):
            for name, start in zip(cycle.FIELDS, row[6:], strict=False):
                if name in cycle.AXES:
                    setattr(level, name, self.pool[start : start + 3 * level.size].reshape(3, level.size))
                else:
                    setattr(level, name, self.pool[start : start + level.size])
            level.team, level.scratch = shared(self.threads, level.n, level.s, cycle.SETS)

    def _weigh_second_visit(self, depth: int) -> None:
        """Give the second cycle M of a coarse level as much weight as positive definiteness allows.

        Both visits make (1 + w) M - w M A M, which is positive definite while w (t - 1) < 1 for the largest eigenvalue
        t of M A: up to two with the full weight one, and for every t with some weight.
        """
        level = self.levels[depth]
        largest = largest_eigenvalue(level, partial(self.cycle, depth), CYCLE_STEPS)
        largest *= 2 / LARGEST  # at least, since the estimate is low
        if largest > 2:
            self.numbers[depth, 6] = 1 / (largest - 1)

    def apply(self, r: F32, z: F32) -> float:
        """Set z to M r and return r.z."""
        self.descend(r)
        coarse.scale(self.levels[0].psi, self.levels[0].r)
        self.visit(0)
        return self.ascend(r, z)

    def visit(self, depth: int) -> None:
        """Set z of a level to psi times what two cycles, or the exact solution on the last one, make of its r."""
        if self.levels[depth].team.threads == 1 or depth == len(self.levels) - 1 or self.sweeps:
            cycle.visit(self.table, self.numbers, self.pool, self.exact_cells, self.exact, self.sweeps, depth)
        else:
            self.visit_shared(depth)

    def visit_shared(self, depth: int) -> None:
        """Do by several threads what `kernels.cycle.visit` does."""
        raise NotImplementedError

    def cycle(self, depth: int, r: F32, out: F32) -> None:
        """Set `out` to M r on a coarse level."""
        level, lower = self.levels[depth], self.levels[depth + 1]
        self.descend_level(level, lower, r, out)
        self.visit(depth + 1)
        self.ascend_level(level, lower, r, out)

    def descend(self, r: F32) -> None:
        """Pre-smooth on the finest level from zero into `smoothed`; leave P' phi (r - A z) in r of the second level."""
        raise NotImplementedError

    def ascend(self, r: F32, z: F32) -> float:
        """Add the correction that waits in the second level to `smoothed`, post-smooth into z, and return r.z."""
        raise NotImplementedError

    def descend_level(self, level: CoarseLevel, lower: CoarseLevel, r: F32, out: F32) -> None:
        """Pre-smooth on a coarse level from zero, in y or out; leave psi P' phi (r - A z) in r of the next level."""
        raise NotImplementedError

    def ascend_level(self, level: CoarseLevel, lower: CoarseLevel, r: F32, out: F32) -> None:
        """Add the correction that waits in the next level and post-smooth into `out`."""
        raise NotImplementedError


ONE, HALF, ZERO = np.float32(1), np.float32(0.5), np.float32(0)
SMOOTHER_STEPS, CYCLE_STEPS = 10, 4  # of Lanczos, after which the estimates are at most a tenth low
LARGEST = 1.7  # that an estimate may reach; below 2 the cycle is positive definite


def largest_eigenvalue(level: CoarseLevel, apply: Callable[[F32, F32], object], steps: int) -> float:
    """Estimate the largest eigenvalue of B A on a coarse level, B positive definite; `apply(x, y)` sets y to B x.

    A few Lanczos steps on A B in the inner product of B (Golub and Van Loan, Matrix Computations, 4th ed., section
    10.1), from a fixed start. Not on B A in that of A: on sealed chambers a constant, invisible there, would grow
    from step to step until it drowns the rest.
    """
    v = np.random.default_rng(0).random(level.size, dtype=np.float32)
    v -= HALF
    v *= level.diagonal > 0
    image, w, before = (np.zeros_like(v) for _ in range(3))
    alphas: list[float] = []
    betas: list[float] = []
    while len(alphas) < steps:
        apply(v, image)
        norm = math.sqrt(max(float(np.dot(v, image)), 0.0))
        if norm <= 1e-4 * max(alphas, default=0.0):
            break
        betas.append(norm)
        coarse.sweep(level.n, level.s, ZERO, image, ONE, level.diagonal, -ONE, level.w, image, w)
        alphas.append(float(np.dot(w, image)) / norm**2)
        coarse.orthogonalise(np.float32(1 / norm), np.float32(alphas[-1]), np.float32(norm), v, before, w)
    off = betas[1 : len(alphas)]
    return float(np.linalg.eigvalsh(np.diag(alphas) + np.diag(off, 1) + np.diag(off, -1))[-1]) if alphas else 0.0


def limit_smoother(level: CoarseLevel) -> float:
    """Scale S of a coarse level so that the largest eigenvalue of S A stays below two; return its estimate before."""

    def smooth(x: F32, y: F32) -> None:
        coarse.sweep(level.n, level.s, ZERO, x, ONE, level.a, ONE, level.c, x, y)

    largest = largest_eigenvalue(level, smooth, SMOOTHER_STEPS)
    if largest > LARGEST:
        level.a *= np.float32(LARGEST / largest)
        level.c *= np.float32(LARGEST / largest)
    return largest


def pseudo_inverse(level: CoarseLevel, cells: NDArray[np.intp]) -> F32:
    """Return the dense pseudo-inverse of a level's operator on its unknowns.

    Components without Dirichlet data lose their constant: (A + s V V')^-1 - V V' / s with V their normalised constants.
    """
    import scipy.linalg
    import scipy.sparse

    number = np.full(level.size, -1)
    number[cells] = np.arange(len(cells))
    if not len(cells):
        return np.zeros((0, 0), dtype=np.float32)
    dense = np.diag(level.diagonal[cells].astype(float))
    pairs = []
    for axis, stride in enumerate(level.strides):
        if stride:
            low = cells[(level.w[axis, cells] > 0) & (number[np.minimum(cells + stride, number.size - 1)] >= 0)]
            i, j = number[low], number[low + stride]
            dense[i, j] = dense[j, i] = -level.w[axis, low]
            pairs.append((i, j))
    i, j = np.concatenate(pairs, axis=1)
    graph = scipy.sparse.coo_array((np.ones(len(i)), (i, j)), shape=dense.shape)
    _, label = scipy.sparse.csgraph.connected_components(graph, directed=False)
    anchored = np.bincount(label, weights=level.dirichlet[cells], minlength=1) > SMALLEST_DIAGONAL * max(level.nominal)
    constants = np.zeros_like(dense)
    for component in np.flatnonzero(~anchored[: label.max(initial=-1) + 1]):
        members = np.flatnonzero(label == component)
        constants[np.ix_(members, members)] = 1 / len(members)
    scale = 2 * max(level.nominal)
    shifted = dense + scale * constants
    factor, fault = scipy.linalg.lapack.dpotrf(shifted.T, lower=True)  # .T in the order of LAPACK, or it would copy
    if fault:  # Dirichlet data so weak that rounding outweighs them: what they leave is a null vector
        values, vectors = np.linalg.eigh(shifted)
        sound = values > SMALLEST_DIAGONAL * values[-1]
        inverse = (vectors[:, sound] / values[sound]) @ vectors[:, sound].T
        inverse = (inverse + inverse.T) / 2
    else:  # half the work of other factors
        upper = scipy.linalg.lapack.dpotri(factor, lower=True, overwrite_c=True)[0].T
        inverse = np.triu(upper)
        inverse += np.triu(upper, 1).T
    inverse -= constants / scale
    return np.ascontiguousarray(inverse, dtype=np.float32)
