"""Small systems at once: the ordinary answer in one call, and the ordinary way wherever that is not plain."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd import DeepCD, Solution, Status
from deepcd.pde import domain
from deepcd.solvers import deepcd as front
from deepcd.solvers.backends.backend import find
from deepcd.solvers.options import Options
from deepcd.solvers.small import solve_small

from .systems import dominant, line, sealed, square

OPTIONS: dict[str, Any] = {"rtol": None, "atol": 0.0, "maxiter": None, "callback": None, "timeout": None}


def options(tol: float = 1e-10, **given: Any) -> Options:
    return Options.of(tol, **{"residuals": None, **OPTIONS, **given})


def small(A: Any, b: Any, given: Options | None = None) -> Solution | None:
    return solve_small(A, b, options() if given is None else given, find("cpu"))


def random_positive(n: int, seed: int, density: float) -> sp.csr_array:
    rng = np.random.default_rng(seed)
    A = sp.random_array((n, n), density=density, rng=rng, data_sampler=rng.standard_normal)
    A = sp.csr_array(A + A.T)
    A = sp.csr_array(A + sp.diags_array(abs(A).sum(axis=1) + 0.5))
    A.sort_indices()
    A.eliminate_zeros()
    A.indptr, A.indices = A.indptr.astype(np.int32), A.indices.astype(np.int32)
    return A


MATRICES = {
    "line": line(30),
    "square": square(14),
    "part diagonal": sp.block_diag([line(9), sp.diags_array(np.arange(1.0, 20.0))], format="csr"),
    "random": random_positive(200, 0, 0.01),
    "scales": dominant(40, decades=4, entries=1),
    "limit": random_positive(500, 1, 0.001),
}


@pytest.mark.parametrize("name", MATRICES)
def test_the_answer_is_the_ordinary_one(name: str) -> None:
    A = MATRICES[name]
    b = np.random.default_rng(0).standard_normal(A.shape[0])
    kept = A.copy(), b.copy()
    found = small(A, b)
    assert found is not None
    ordinary = DeepCD("direct").solve(A, b, 1e-10)
    assert found.status is Status.CONVERGED
    np.testing.assert_allclose(found.x, ordinary.x, atol=1e-8 * float(abs(ordinary.x).max()))
    left = float(np.linalg.norm(b - A @ found.x))
    assert found.residuals.tolist() == pytest.approx([np.linalg.norm(b), left], rel=1e-9, abs=1e-12)
    assert (found.iterations, found.preconditioner, len(found.attempts)) == (1, "direct", 1)
    np.testing.assert_array_equal(DeepCD.solve(A, b, 1e-10).x, found.x)
    assert (kept[0] != A).nnz == 0
    np.testing.assert_array_equal(b, kept[1])


def changed(at: int, value: float) -> sp.csr_array:
    A = line(25)
    A.data[at] = value
    return A


def dense(row: int, column: int, value: float) -> sp.csr_array:
    A = line(25).toarray()
    A[row, column] = value
    return sp.csr_array(A)


def outcome(A: Any, b: Any) -> Any:
    try:
        solution = DeepCD.solve(A, b, 1e-10)
    except (TypeError, ValueError) as error:
        return str(error)
    return solution.status, solution.x.tolist()


@pytest.mark.parametrize(
    "A",
    [
        -line(25), sp.csr_array(line(25) - 2 * sp.eye_array(25)), changed(1, -0.5), changed(1, 0.0), dense(3, 3, 0.0),
        dense(0, 20, 0.1), line(25).astype(np.float32), changed(1, math.nan), changed(0, math.inf),
    ],
)  # fmt: skip
def test_what_is_not_plainly_regular_takes_the_ordinary_way(A: sp.csr_array, monkeypatch: pytest.MonkeyPatch) -> None:
    b = np.ones(25)
    found = outcome(A, b)
    monkeypatch.setattr(front, "solve_small", lambda *given: None)
    assert outcome(A, b) == found


def unsorted(A: sp.csr_array) -> sp.csr_array:
    A = A.copy()
    A.indices[:2], A.data[:2] = A.indices[1::-1].copy(), A.data[1::-1].copy()
    return A


def with_zeros(A: sp.csr_array) -> sp.csr_array:
    row, column = A.tocoo().coords
    data, zeros = A.tocoo().data, np.arange(5)
    where = np.r_[row, zeros], np.r_[column, zeros + 9]
    return sp.coo_array((np.r_[data, 0 * zeros], where), shape=A.shape).tocsr()


def long_indices(A: sp.csr_array) -> sp.csr_array:
    return sp.csr_array((A.data, A.indices.astype(np.int64), A.indptr.astype(np.int64)), shape=A.shape)


@pytest.mark.parametrize(
    "form",
    [
        lambda A: A.tocsc(), lambda A: A.tocoo(), lambda A: A.toarray(), lambda A: A.toarray().tolist(), unsorted,
        with_zeros, long_indices, sp.csr_matrix, lambda A: A.astype(int),
    ],
)  # fmt: skip
def test_the_form_of_a_matrix_does_not_matter(form: Callable[[sp.csr_array], Any]) -> None:
    A, b = line(25), np.random.default_rng(0).standard_normal(25)
    found = small(form(A), b)
    assert found is not None
    np.testing.assert_array_equal(found.x, DeepCD.solve(A, b, 1e-10).x)


@pytest.mark.parametrize(
    "form", [np.ndarray.tolist, lambda b: b[:, None], lambda b: np.repeat(b, 2)[::2], lambda b: b.astype(int)]
)
def test_the_form_of_a_vector_does_not_matter(form: Callable[[np.ndarray], Any]) -> None:
    A, b = line(25), np.arange(1.0, 26.0)
    found = small(A, form(b))
    assert found is not None
    np.testing.assert_array_equal(found.x, DeepCD.solve(A, b, 1e-10).x)


def test_singular_dense_and_large_matrices_take_the_ordinary_way() -> None:
    rng = np.random.default_rng(0)
    singular = sealed(line(30))
    assert small(singular, singular @ rng.standard_normal(singular.shape[0])) is None
    nearly = [sp.csr_array(singular + shift * sp.eye_array(30)) for shift in (1e-13, 1e-5)]
    assert small(nearly[0], nearly[0] @ np.ones(30)) is None
    assert small(nearly[1], nearly[1] @ np.ones(30)) is not None
    full = rng.standard_normal((120, 120))
    assert small(sp.csr_array(full @ full.T + 120 * np.eye(120)), np.ones(120)) is None
    assert small(line(501), np.ones(501)) is None
    assert small(sp.eye_array(5, format="csr"), np.ones(5)) is None
    assert small(sp.csr_array((0, 0)), np.ones(0)) is None


def test_what_else_is_asked_for_takes_the_ordinary_way() -> None:
    A, b = line(9), np.ones(9)
    assert small(A, b) is not None
    assert small(A, b, options(callback=lambda x: None)) is None
    assert small(A, np.ones((9, 2))) is None
    assert small(A, 0 * b) is None
    assert small(A, b, options(1e-30)) is None
    assert small(A, b, options(atol=10.0)) is None
    assert small(domain((3, 3), walls="air"), b) is None
    with pytest.raises(ValueError, match="b must have shape"):
        small(A, b[:8])
    with pytest.raises(ValueError, match="b must be finite"):
        small(A, b * math.nan)
    with pytest.raises(ValueError, match="A must be a square matrix"):
        small(np.ones((3, 2)), b)


def test_the_history_is_filled() -> None:
    history: list[float] = [7.0]
    solution = DeepCD.solve(line(9), np.ones(9), 1e-8, residuals=history)
    assert history == solution.residuals.tolist()
    assert len(history) == 2
