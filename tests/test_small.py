"""Small systems at once: the ordinary answer in one call, and the ordinary way wherever that is not plain."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd import DeepCD, Status
from deepcd.solvers import deepcd as front
from deepcd.solvers.options import Options
from deepcd.solvers.small import solve_small

from .systems import dominant, line, sealed, square

OPTIONS: dict[str, Any] = {"rtol": None, "atol": 0.0, "maxiter": None, "callback": None, "timeout": None}


def options(tol: float = 1e-10, **given: Any) -> Options:
    return Options.of(tol, **{"residuals": None, **OPTIONS, **given})


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
    "one": sp.csr_array([[4.0]]),
    "line": line(30),
    "square": square(14),
    "diagonal": sp.csr_array(sp.diags_array(np.arange(1.0, 20.0))),
    "random": random_positive(200, 0, 0.01),
    "scales": dominant(40, decades=4, entries=1),
    "limit": random_positive(500, 1, 0.001),
}


@pytest.mark.parametrize("name", MATRICES)
def test_the_answer_is_the_ordinary_one(name: str) -> None:
    A = MATRICES[name]
    b = np.random.default_rng(0).standard_normal(A.shape[0])
    kept = A.copy(), b.copy()
    found = solve_small(A, b, options())
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


def negative(A: sp.csr_array) -> sp.csr_array:
    return -A


def indefinite(A: sp.csr_array) -> sp.csr_array:
    return sp.csr_array(A - 2 * sp.eye_array(A.shape[0]))


def changed(at: int, value: float) -> Callable[[sp.csr_array], sp.csr_array]:
    def change(A: sp.csr_array) -> sp.csr_array:
        A.data[at] = value
        return A

    return change


def unsorted(A: sp.csr_array) -> sp.csr_array:
    A.indices[:2], A.data[:2] = A.indices[1::-1].copy(), A.data[1::-1].copy()
    return A


def twice(A: sp.csr_array) -> sp.csr_array:
    A.indices[1] = 0
    return A


def out_of_range(A: sp.csr_array) -> sp.csr_array:
    A.indices[1] = 99
    return A


def without_a_diagonal_entry(A: sp.csr_array) -> sp.csr_array:
    dense = A.toarray()
    dense[3, 3] = 0
    return sp.csr_array(dense)


def one_sided(A: sp.csr_array) -> sp.csr_array:
    dense = A.toarray()
    dense[0, 20] = 0.1
    return sp.csr_array(dense)


@pytest.mark.parametrize(
    "spoil",
    [
        negative, indefinite, changed(1, -0.5), changed(1, 0.0), changed(1, math.nan), changed(0, math.inf), unsorted,
        twice, out_of_range, without_a_diagonal_entry, one_sided,
    ],
)  # fmt: skip
def test_what_is_not_in_order_takes_the_ordinary_way(
    spoil: Callable[[sp.csr_array], sp.csr_array], monkeypatch: pytest.MonkeyPatch
) -> None:
    A, b = spoil(line(25)), np.ones(25)
    assert solve_small(A, b, options()) is None

    def outcome() -> Any:
        try:
            solution = DeepCD.solve(A.copy(), b, 1e-10)
        except ValueError as error:
            return str(error)
        return solution.status, solution.x.tolist()

    found = outcome()
    monkeypatch.setattr(front, "solve_small", lambda *given: None)
    assert outcome() == found


def test_singular_dense_and_large_matrices_take_the_ordinary_way() -> None:
    rng = np.random.default_rng(0)
    singular = sealed(line(30))
    assert solve_small(singular, singular @ rng.standard_normal(singular.shape[0]), options()) is None
    nearly = [sp.csr_array(singular + shift * sp.eye_array(30)) for shift in (1e-13, 1e-5)]
    assert solve_small(nearly[0], nearly[0] @ np.ones(30), options()) is None
    assert solve_small(nearly[1], nearly[1] @ np.ones(30), options()) is not None
    full = rng.standard_normal((120, 120))
    assert solve_small(sp.csr_array(full @ full.T + 120 * np.eye(120)), np.ones(120), options()) is None
    assert solve_small(line(501), np.ones(501), options()) is None


def test_what_else_is_asked_for_takes_the_ordinary_way() -> None:
    A, b = line(9), np.ones(9)
    assert solve_small(A, b, options()) is not None
    assert solve_small(A, b, options(callback=lambda x: None)) is None
    assert solve_small(A.toarray(), b, options()) is None
    assert solve_small(A.astype(np.float32), b.astype(np.float32), options()) is None
    assert solve_small(A, b.tolist(), options()) is None
    assert solve_small(A, b[:, None], options()) is None
    assert solve_small(A, b[:8], options()) is None
    assert solve_small(A, 0 * b, options()) is None
    assert solve_small(A, b * math.nan, options()) is None
    assert solve_small(A, b, options(1e-30)) is None
    assert solve_small(A, b, options(atol=10.0)) is None


def test_the_history_is_filled() -> None:
    history: list[float] = [7.0]
    solution = DeepCD.solve(line(9), np.ones(9), 1e-8, residuals=history)
    assert history == solution.residuals.tolist()
    assert len(history) == 2


def test_strided_vectors() -> None:
    b = np.arange(1.0, 19.0)[::2]
    found = DeepCD.solve(line(9), b, 1e-10)
    assert np.linalg.norm(b - line(9) @ found.x) <= 1e-10 * np.linalg.norm(b)
