"""Ritz vectors of a symmetric matrix, and the mixtures of them that the DCDM network was trained on.

Lanczos with full re-orthogonalisation (Golub and Van Loan, Matrix Computations, 4th ed., section 10.3). The mixtures
are those of Kaneda et al. ("A Deep Conjugate Direction Method for Iteratively Solving Linear Systems", ICML 2023) as
their released code makes them: the lower part of the Ritz spectrum gets nine times the amplitude of the rest.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal

F64 = NDArray[np.float64]
LEAST = 1e-8  # smallest Ritz value that counts, relative to the largest; lower ones belong to the null space


class Ritz(NamedTuple):
    """Ritz pairs in ascending order of their values.

    Attributes
    ----------
    values : ndarray of float64, shape (m,)
        Ritz values.
    vectors : ndarray of float64, shape (m, n)
        Ritz vectors, as orthonormal rows.
    """

    values: F64
    vectors: F64


def ritz_pairs(A: Any, count: int, rng: np.random.Generator, lowest: int | None = None) -> Ritz:
    """Return Ritz pairs of the Krylov space of A and A g, g white noise, without those of the null space.

    If only the lowest pairs are asked for, the space starts with g itself, since A g hardly contains their vectors.

    Parameters
    ----------
    A : sparse array or LinearOperator, shape (n, n)
        Symmetric positive semidefinite.
    count : int
        Dimension of the Krylov space; it is smaller if the space ends earlier.
    rng : numpy.random.Generator
        Source of the random numbers.
    lowest : int, optional
        Number of pairs to return, those of the lowest values; default: all.

    Returns
    -------
    Ritz
        Computing it takes memory for ``count`` times n float64 numbers.

    Raises
    ------
    ValueError
        If a number is below 1, or A is zero.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from deepcd.data.ritz_vectors import ritz_pairs
    >>> A = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(30, 30), format="csr")
    >>> values, vectors = ritz_pairs(A, 30, np.random.default_rng(0))
    >>> values.shape, bool(np.allclose(A @ vectors[0], values[0] * vectors[0]))
    ((30,), True)
    """
    n = A.shape[0]
    if count < 1 or (lowest is not None and lowest < 1):
        raise ValueError(f"count and lowest must be at least 1, got {count} and {lowest}")
    count = min(count, n)
    q = rng.standard_normal(n)
    image = A @ q
    if not np.linalg.norm(image) > 0:
        raise ValueError("A is zero, and has no Ritz vectors but those of its null space")
    if lowest is None:
        q = image
    length = float(np.linalg.norm(q))
    basis = np.empty((count, n))
    alpha, beta = np.zeros(count), np.zeros(count)
    size = 0.0
    for j in range(count):
        basis[j] = q / length
        q = A @ basis[j]
        alpha[j] = basis[j] @ q
        for _ in range(2):  # twice is enough (Giraud, Langou, Rozloznik and van den Eshof, Numer. Math. 101, 2005)
            q -= (basis[: j + 1] @ q) @ basis[: j + 1]
        length = beta[j] = float(np.linalg.norm(q))
        size = max(size, abs(alpha[j]), length)
        if length <= 1e-12 * size:  # the space is invariant
            count = j + 1
            break
    values, mixing = eigh_tridiagonal(alpha[:count], beta[: count - 1])
    first = int(np.searchsorted(values, LEAST * values[-1]))
    last = count if lowest is None else min(count, first + lowest)
    return Ritz(values[first:last], mixing[:, first:last].T @ basis[:count])


def mixtures(
    ritz: Ritz, number: int, rng: np.random.Generator, low: float = 0.55, amplitude: float = 9.0
) -> NDArray[np.float32]:
    """Return vectors of length one, mixed of Ritz vectors with normally distributed coefficients.

    Parameters
    ----------
    ritz : Ritz
        The Ritz pairs.
    number : int
        Number of vectors.
    rng : numpy.random.Generator
        Source of the random numbers.
    low : float, default 0.55
        Share of the pairs, lowest values first, whose coefficients are larger.
    amplitude : float, default 9.0
        Factor by which these coefficients are larger.

    Returns
    -------
    ndarray of float32, shape (number, n)

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from deepcd.data.ritz_vectors import mixtures, ritz_pairs
    >>> A, rng = sp.diags_array(np.arange(1.0, 41.0), format="csr"), np.random.default_rng(0)
    >>> b = mixtures(ritz_pairs(A, 20, rng), 3, rng)
    >>> b.shape, np.linalg.norm(b, axis=1).round(3).tolist()
    ((3, 40), [1.0, 1.0, 1.0])
    """
    m = len(ritz.values)
    coefficients = rng.standard_normal((number, m))
    coefficients[:, : round(low * m)] *= amplitude
    coefficients /= np.linalg.norm(coefficients, axis=1, keepdims=True)  # the vectors are orthonormal
    return (coefficients @ ritz.vectors).astype(np.float32)
