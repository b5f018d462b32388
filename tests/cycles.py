"""What the tests of both multigrid cycles share: small boxes of every kind, meaningless weights, M as a matrix."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.grids.embedding import Embedding, geometry
from deepcd.solvers.grids.stencils import UnitStencil
from deepcd.solvers.kernels import gauss_seidel, reference
from deepcd.solvers.operators.unit_stencil import UnitStencilOperator
from deepcd.solvers.preconditioners.multigrid.classical import classical_cycle
from deepcd.solvers.preconditioners.multigrid.coarse import RedBlackCoarse
from deepcd.solvers.preconditioners.multigrid.cycle import Cycle
from deepcd.solvers.preconditioners.multigrid.learned import learned_cycle
from deepcd.solvers.preconditioners.multigrid.unit_finest import UnitFinest


def random_weights(ndim: int, scale: float, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Return a network of narrow layers whose parameters differ from the untrained ones by noise."""
    import torch

    from deepcd.solvers.training.network import CycleNetwork as Network

    torch.manual_seed(seed)
    state = Network(ndim, hidden=6).state_dict()
    return {k: (v + scale * torch.randn(v.shape) * (0.1 if k == "tap" else 1)).numpy() for k, v in state.items()}


def random_embedding(shape: tuple[int, ...], fill: float = 0.75, seed: int = 0) -> tuple[Embedding, UnitStencil]:
    """Return a box with random holes and Dirichlet counts up to seven; with a fill near one some of it is interior."""
    rng = np.random.default_rng([seed, *shape])
    n, planar = geometry(shape)[0], len(shape) == 2
    dirichlet = rng.integers(1, 8, n) * (rng.random(n) < 0.4 * (1 - fill))
    diagonal = reference.pad(reference.stencil_diagonal(rng.random(n) < fill, dirichlet), planar)
    position = np.flatnonzero(diagonal)
    box = diagonal.reshape([k + 2 for k in shape])
    embedding = Embedding(shape, slice(None), position, np.zeros(len(position), dtype=np.int32))
    return embedding, UnitStencil(box, 1.0, np.array([False]))


def learned(embedding: Embedding, stencil: UnitStencil, weights: Any = None, threads: int = 1, **options: Any) -> Cycle:
    """Return the learned cycle for a stencil on the box of an embedding."""
    return learned_cycle(embedding.shape, stencil.diagonal, weights, threads, **options)


def classical(embedding: Embedding, stencil: UnitStencil, sweeps: int = 2, threads: int = 1, **options: Any) -> Cycle:
    """Return the classical cycle for a stencil on the box of an embedding."""
    return classical_cycle(embedding.shape, stencil.diagonal, threads, sweeps, **options)


class Passes:
    """The passes of a cycle, one by one, against the matrices of its definition.

    Parameters
    ----------
    M : Cycle
        With as many threads as are wanted.
    levels : list of reference.LevelMatrices
    planar : bool
        The box is 2D.
    """

    def __init__(self, M: Cycle, levels: list[reference.LevelMatrices], planar: bool) -> None:
        self.M, self.levels, self.planar = M, levels, planar
        self.rng = np.random.default_rng(0)

    def flat(self, depth: int, v: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return a vector over the cells of a level, the finest being number 0, on its padded box."""
        n = self.M.levels[depth - 1].box.n if depth else self.M.finest.box.n
        return reference.pad(v.reshape(n), self.planar).astype(np.float32)

    def psi(self, depth: int) -> NDArray[np.float64]:
        """Return the factor per cell between a level and the next finer one."""
        level = self.M.levels[depth - 1]
        return reference.unpad(level.fields.psi, level.box.n, self.planar).ravel().astype(float)

    def vector(self, depth: int) -> NDArray[np.float64]:
        """Return a random vector on the unknowns of a level, of numbers that float32 holds exactly."""
        unknown = self.levels[depth].A.diagonal() > 0
        return (self.rng.standard_normal(unknown.size).astype(np.float32) * unknown).astype(float)

    def check_finest(self) -> None:
        """Run down and up on the finest level."""
        M, level = self.M.finest, self.M.levels[0]
        assert isinstance(M, UnitFinest)
        top = level.fields
        A, G, T, _ = self.levels[0]
        assert T is not None
        b, e, out = self.vector(0), self.vector(1), M.zeros()
        r = self.flat(0, b)
        top.r[self.flat(1, np.ones(math.prod(level.box.n))) > 0] = np.nan
        M.descend(r, level)
        down = G @ b
        close(M.smoothed, self.flat(0, down))
        close(top.r, self.flat(1, T.T @ (b - A @ down)))
        top.z[:] = self.flat(1, self.psi(1) * e)
        product = M.ascend(r, out, level)
        up = down + T @ e
        up = up + G.T @ (b - A @ up)
        close(out, self.flat(0, up))
        np.testing.assert_allclose(product, r.astype(float) @ out.astype(float), rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(r, self.flat(0, b))

    def check_coarse(self, depth: int) -> None:
        """Run down and up on a coarse level."""
        level, lower, smoothing = self.M.levels[depth - 1], self.M.levels[depth], self.M.coarse
        own, below = level.fields, lower.fields
        A, G, T, _ = self.levels[depth]
        assert T is not None
        b, e = self.vector(depth), self.vector(depth + 1)
        down = G @ b
        up = down + T @ e
        up = up + G.T @ (b - A @ up)
        for residual_wanted in (True, False) if isinstance(smoothing, RedBlackCoarse) else (False,):
            own.r[:] = self.flat(depth, b)
            smoothing.descend(level, lower, own.r, own.e)
            close(own.e, self.flat(depth, down))
            close(below.r, self.flat(depth + 1, T.T @ (b - A @ down)))
            below.z[:] = self.flat(depth + 1, self.psi(depth + 1) * e)
            if residual_wanted:  # as the compiled visit wants it
                assert isinstance(smoothing, RedBlackCoarse)
                gauss_seidel.ascend_coarse(
                    level.box, level.coefficients, smoothing.sweeps, own.r, own.e, level.transfer(lower), below.z,
                    own.t, *level.scratch[0],
                )  # fmt: skip
                close(own.t, self.flat(depth, b - A @ up))
            else:
                smoothing.ascend(level, lower, own.r, own.e)
            close(own.e, self.flat(depth, up))
            np.testing.assert_array_equal(own.r, self.flat(depth, b))

    def check_cycle(self, depth: int) -> None:
        """Apply the cycle of a coarse level once, to a vector of its own."""
        level, b = self.M.levels[depth - 1], self.vector(depth)
        r, out = self.flat(depth, b), self.flat(depth, self.vector(depth))
        self.M.apply_below(depth - 1, r, out)
        close(out, self.flat(depth, reference.cycle(self.levels[depth:]) @ b), 3e-5)
        np.testing.assert_array_equal(r, self.flat(depth, b))
        assert not out[level.fields.diagonal == 0].any()

    def check_visit(self, depth: int) -> None:
        """Visit a coarse level twice, or solve on the coarsest, and all levels below it."""
        level, b = self.M.levels[depth - 1], self.vector(depth)
        M, A = reference.cycle(self.levels[depth:]), self.levels[depth].A
        level.fields.r[:] = self.flat(depth, b)
        self.M.visit(depth - 1)
        once = M @ b
        close(
            level.fields.z, self.flat(depth, self.psi(depth) * (2 * once - M @ (A @ once))), 3e-5
        )  # through many levels


def close(computed: NDArray[np.float32], expected: NDArray[np.float32], tolerance: float = 1e-5) -> None:
    """Compare two vectors relatively to the largest entry, zeros outside the unknowns included."""
    np.testing.assert_allclose(computed, expected, rtol=0, atol=tolerance * max(1.0, float(np.abs(expected).max())))


def dense(M: Any, embedding: Embedding, stencil: UnitStencil) -> NDArray[np.float64]:
    """Return M on the unknowns, one application per column, and check the inner products that come with them."""
    columns = []
    for p in embedding.position:
        r, z = np.zeros(stencil.diagonal.size, dtype=np.float32), M.zeros()
        r[p] = 1
        assert M.apply(r, z) == z[p]
        assert not z[stencil.diagonal.ravel() == 0].any()
        columns.append(z[embedding.position].astype(float))
    return np.stack(columns, axis=1)


def iterations(M: Any, embedding: Embedding, stencil: UnitStencil, tol: float = 1e-6, most: int = 60) -> int:
    """Solve with a random right-hand side by preconditioned conjugate gradients; return the iterations."""
    operator = UnitStencilOperator(embedding, stencil)
    b, x, p, r, z = operator.workspace(M)
    operator.embed(np.random.default_rng(1).standard_normal(len(embedding.position)), out=b)
    operator.project(b)
    r[...] = b
    first, before = operator.dot(r, r), 0.0
    for k in range(most):
        M.apply(r, z)
        operator.project(z)
        rz = operator.dot(r, z)
        energy = operator.conjugate(z, rz / before if k else 0.0, p)
        before = rz
        if operator.step(rz / energy, p, x, r) <= tol**2 * first:
            return k + 1
    return most
