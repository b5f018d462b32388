"""Hypothesis strategies for linear systems: symmetric positive (semi)definite matrices, right-hand sides and options.

What shrinks is structure: sides, obstacles, seeds and exponents. Numbers come from the seeds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

Vector = NDArray[np.float64]

seeds = st.integers(0, 2**32 - 1)
tolerances = st.integers(3, 14).map(lambda digits: 10.0**-digits)
exponents = st.integers(-300, 300)


def symmetric(off: sp.csr_array, extra: Vector) -> sp.csr_array:
    """Return the Laplacian of the graph with weights -off, plus a diagonal."""
    return sp.csr_array(sp.diags_array(extra - off.sum(axis=1)) + off)


@st.composite
def grids(draw: st.DrawFn, most: int = 7, open_top: bool | None = None) -> sp.csr_array:
    """Return the Laplacian of the fluid cells of a small grid with obstacles; without an open top it is singular.

    Obstacles may be all around every cell: see `has_couplings`.
    """
    shape = draw(st.lists(st.integers(2, most), min_size=2, max_size=3).map(tuple))
    fluid = ~draw(hnp.arrays(bool, shape, elements=st.booleans(), fill=st.just(False)))
    if not fluid.any():
        fluid[...] = True
    number = np.cumsum(fluid).reshape(shape) - 1
    pairs = []
    for axis in range(len(shape)):
        low = np.take(number, range(shape[axis] - 1), axis)
        high = np.take(number, range(1, shape[axis]), axis)
        both = np.take(fluid, range(shape[axis] - 1), axis) & np.take(fluid, range(1, shape[axis]), axis)
        pairs.append((low[both], high[both]))
    i, j = (np.concatenate(side) for side in zip(*pairs, strict=True))
    n = int(fluid.sum())
    off = sp.coo_array((-np.ones(2 * len(i)), (np.r_[i, j], np.r_[j, i])), shape=(n, n))
    extra = np.zeros(n)
    if draw(st.booleans()) if open_top is None else open_top:
        extra[number[..., -1][fluid[..., -1]]] = 1.0
    return symmetric(sp.csr_array(off), extra)


@st.composite
def graphs(draw: st.DrawFn, most: int = 60) -> sp.csr_array:
    """Return the Laplacian of a random connected graph with weights from 1e-2 to 1e2 and a few nodes held."""
    n, rng = draw(st.integers(2, most)), np.random.default_rng(draw(seeds))
    i, j = np.r_[np.arange(1, n), rng.integers(0, n, n)], np.r_[rng.integers(0, np.arange(1, n)), rng.integers(0, n, n)]
    keep = i != j
    upper = sp.coo_array((-(10 ** rng.uniform(-2, 2, keep.sum())), (i[keep], j[keep])), shape=(n, n))
    return symmetric(sp.csr_array(upper + upper.T), np.where(rng.random(n) < 0.2, 1.0, 0.0) + np.eye(1, n)[0])


@st.composite
def spectra(draw: st.DrawFn, most: int = 30) -> sp.csr_array:
    """Return a full matrix with eigenvalues from 1 down to 1e-6."""
    n, rng = draw(st.integers(1, most)), np.random.default_rng(draw(seeds))
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    A = (Q * 10 ** -rng.uniform(0, draw(st.integers(0, 6)), n)) @ Q.T
    return sp.csr_array((A + A.T) / 2)


def grams(most: int = 40) -> st.SearchStrategy[sp.csr_array]:
    """Return B'B + 0.1 I of random sparse B: off-diagonal entries of both signs."""

    def make(n: int, seed: int) -> sp.csr_array:
        rng = np.random.default_rng(seed)
        B = sp.random_array((n, n), density=min(1.0, 3 / n), rng=rng, data_sampler=rng.standard_normal)
        return sp.csr_array(B.T @ B + 0.1 * sp.eye_array(n))

    return st.builds(make, st.integers(1, most), seeds)


@st.composite
def permuted(draw: st.DrawFn, matrices: st.SearchStrategy[sp.csr_array]) -> sp.csr_array:
    """Return a matrix with its unknowns in another order."""
    A = draw(matrices)
    order = np.random.default_rng(draw(seeds)).permutation(A.shape[0])
    return sp.csr_array(A[order][:, order])


@st.composite
def scaled(draw: st.DrawFn, matrices: st.SearchStrategy[sp.csr_array]) -> sp.csr_array:
    """Return D A D for a diagonal D of powers of two, from 1/8 to 8."""
    A = draw(matrices)
    D = sp.diags_array(2.0 ** np.random.default_rng(draw(seeds)).integers(-3, 4, A.shape[0]))
    return sp.csr_array(D @ A @ D)


def definite() -> st.SearchStrategy[sp.csr_array]:
    """Return positive definite matrices of every kind."""
    kinds = st.one_of(graphs(), spectra(), grams(), grids(open_top=True).filter(is_definite))
    return st.one_of(kinds, permuted(kinds), scaled(kinds))


def semidefinite() -> st.SearchStrategy[sp.csr_array]:
    """Return matrices that may be singular, by parts of a grid that no air touches."""
    return st.one_of(definite(), grids(), permuted(grids()))


def has_couplings(A: sp.csr_array) -> bool:
    """Whether an off-diagonal entry is not zero: without any there is no grid, and nothing to solve but a division."""
    return bool((A - sp.diags_array(A.diagonal())).count_nonzero())


def is_definite(A: sp.csr_array) -> bool:
    """Whether the lowest eigenvalue is well above zero."""
    return bool(np.linalg.eigvalsh(A.toarray())[0] > 1e-8)


@st.composite
def right_hand_sides(draw: st.DrawFn, A: sp.csr_array, consistent: bool = False) -> Vector:
    """Return b: random, smooth, of one entry, or A times something, which has a solution whatever A is."""
    n, rng = A.shape[0], np.random.default_rng(draw(seeds))
    image: Vector = A @ rng.standard_normal(n)
    if consistent:
        return image
    kinds = [image, rng.standard_normal(n), np.ones(n), np.eye(1, n, n // 2)[0], np.sin(np.arange(n) / 7.0)]
    return kinds[draw(st.integers(0, len(kinds) - 1))]


@st.composite
def options(draw: st.DrawFn, n: int) -> dict[str, Any]:
    """Return some of x0, atol and maxiter."""
    given: dict[str, Any] = {}
    if draw(st.booleans()):
        start = np.random.default_rng(draw(seeds)).standard_normal(n)
        given["x0"] = start * 10.0 ** draw(st.integers(-3, 8))
    if draw(st.booleans()):
        given["atol"] = 10.0 ** -draw(st.integers(0, 12))
    if draw(st.booleans()):
        given["maxiter"] = draw(st.integers(1, 30))
    return given
