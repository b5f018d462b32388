"""Sparse factors as a preconditioner: the inverse or the pseudo-inverse of A, and a refusal where A is indefinite."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd.solvers.preconditioners.direct import Direct, NotPositiveDefiniteError
from deepcd.solvers.preconditioners.factors import plan

from .systems import SYSTEMS, dominant, line, path, square, weighted

SINGLE = float(np.finfo(np.float32).eps)
DEFINITE = [name for name, case in SYSTEMS.items() if case.sign == 1 and not case.nullity]
SINGULAR = [name for name, case in SYSTEMS.items() if case.sign == 1 and case.nullity and not case.empty_rows]
INDEFINITE = [name for name, case in SYSTEMS.items() if case.sign == 0]


@pytest.fixture(autouse=True, params=["band", "sparse", "supernodal"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Small matrices are narrow bands; everything holds for sparse factors of both kinds, too."""
    if request.param != "band":
        monkeypatch.setattr(plan, "WIDEST", -1)
    if request.param == "supernodal":
        monkeypatch.setattr(plan, "DENSE", -1)
    return str(request.param)


def apply(M: Direct, r: np.ndarray) -> np.ndarray:
    z = np.full_like(M.zeros(), np.nan)
    assert M.apply(r, z) == pytest.approx(r @ z)
    return z


def paths(*lengths: int) -> sp.csr_array:
    return sp.csr_array(sp.block_diag([path(n) for n in lengths]))


@pytest.mark.parametrize("name", DEFINITE)
def test_a_definite_matrix_is_inverted(name: str) -> None:
    A = SYSTEMS[name].A
    M = Direct(A)
    v = np.random.default_rng(0).standard_normal(A.shape[0])
    scaling = np.sqrt(A.diagonal())
    np.testing.assert_allclose(scaling * apply(M, A @ v), scaling * v, rtol=1e-9, atol=1e-9 * abs(scaling * v).max())
    assert M.null.shape == (A.shape[0], 0)


@pytest.mark.parametrize("name", SINGULAR)
def test_a_null_space_is_found_and_left_out(name: str) -> None:
    A, expected = SYSTEMS[name].A, SYSTEMS[name].null()
    M = Direct(A)
    assert M.null.shape == expected.shape
    np.testing.assert_allclose(M.null @ M.null.T, expected @ expected.T, atol=1e-9)
    r = np.random.default_rng(0).standard_normal(A.shape[0])
    z = apply(M, r)
    np.testing.assert_allclose(z, np.linalg.pinv(A.toarray(), rcond=1e-10, hermitian=True) @ r, rtol=1e-6, atol=1e-8)
    assert abs(M.null.T @ z).max() <= 1e-12 * np.linalg.norm(z)


@pytest.mark.parametrize("lengths", [(2,), (2, 2, 2), (3,) * 4, (4, 3, 2, 5, 6), (2,) * 20])
def test_several_null_vectors(lengths: tuple[int, ...]) -> None:
    """More than four take a second round; two unknowns per component leave hardly anything else."""
    A = paths(*lengths)
    M = Direct(A)
    assert M.null.shape == (A.shape[0], len(lengths))
    np.testing.assert_allclose(M.null.T @ M.null, np.eye(len(lengths)), atol=1e-12)
    np.testing.assert_allclose(A @ M.null, 0, atol=1e-12)


def test_a_null_vector_that_is_not_the_constant() -> None:
    A, null = weighted(8)
    found = Direct(A).null
    assert found.shape == (64, 1)
    assert abs(found[:, 0] @ null) == pytest.approx(np.linalg.norm(null), rel=1e-12)


@pytest.mark.parametrize("name", INDEFINITE)
def test_an_indefinite_matrix_is_named(name: str) -> None:
    with pytest.raises(NotPositiveDefiniteError, match="negative pivot"):
        Direct(SYSTEMS[name].A)


def test_a_pivot_of_zero_hides_no_negative_one() -> None:
    """Where it is zero to the last bit, rows are exchanged, and the signs of the pivots tell nothing any more."""
    A = np.array([[1.0, 0, -1, 0], [0, 1, 1, -1], [-1, 1, 1, 0], [0, -1, 0, 1]])
    with pytest.raises(NotPositiveDefiniteError):
        Direct(sp.csr_array(A))


def test_one_negative_eigenvalue_among_many_is_found() -> None:
    lowest = np.linalg.eigvalsh(line(30).toarray())[0]
    assert Direct(line(30) - 0.999 * lowest * sp.eye_array(30)).null.size == 0
    with pytest.raises(NotPositiveDefiniteError):
        Direct(sp.csr_array(line(30) - 1.001 * lowest * sp.eye_array(30)))


@pytest.mark.parametrize("decades", [20.0, 100.0])
def test_bad_scaling_does_no_harm(decades: float) -> None:
    A = dominant(60, decades=decades)
    M = Direct(A)
    assert M.null.size == 0
    b = A.diagonal() ** 0.5 * np.random.default_rng(0).standard_normal(60)
    scaling = A.diagonal() ** -0.5
    np.testing.assert_allclose(scaling * (A @ apply(M, b)), scaling * b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["dominant", "chambers"])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda M: pickle.loads(pickle.dumps(M))])
def test_copies_and_pickles_answer_alike(name: str, duplicate: object) -> None:
    A = SYSTEMS[name].A
    M = Direct(A)
    assert callable(duplicate)
    twin = duplicate(M)
    assert twin._factors is not M._factors
    np.testing.assert_array_equal(twin._factors.pivots, M._factors.pivots)
    r = np.random.default_rng(0).standard_normal(A.shape[0])
    np.testing.assert_array_equal(apply(twin, r), apply(M, r))


def test_what_counts_as_negative_depends_on_the_precision_of_the_entries() -> None:
    A = sp.csr_array(path(40) - 1e-6 * sp.eye_array(40))
    with pytest.raises(NotPositiveDefiniteError):
        Direct(A)
    M = Direct(A, SINGLE)
    constant = np.full(40, 40**-0.5)
    assert M.null.shape == (40, 1)
    assert abs(M.null[:, 0] @ constant) == pytest.approx(1, rel=1e-4)
    with pytest.raises(NotPositiveDefiniteError):
        Direct(sp.csr_array(path(40) - 1e-2 * sp.eye_array(40)), SINGLE)


def test_a_pivot_that_rounding_may_have_made_is_not_divided_by() -> None:
    A = sp.csr_array(path(40) + 1e-7 * sp.eye_array(40))
    constant = np.full(40, 40**-0.5)
    assert constant @ apply(Direct(A), constant) == pytest.approx(1e7, rel=1e-4)
    assert constant @ apply(Direct(A, SINGLE), constant) < 1e5


def test_is_described(kind: str) -> None:
    expected = {"band": "tridiagonal factors, 5", "sparse": "sparse factors, 5", "supernodal": "supernodal factors, 9"}
    assert str(Direct(line(3))) == f"direct: {expected[kind]} entries, of 3 unknowns"


@pytest.mark.parametrize("name", ["tridiagonal", "sparse", "supernodal"])
def test_an_entry_without_its_mirror_image_does_no_harm(name: str) -> None:
    """Rounding may leave one of two entries that cancel, and the other is zero and not stored."""
    n = {"tridiagonal": 30, "sparse": 12, "supernodal": 40}[name]
    A = sp.csr_array(line(n)) if name == "tridiagonal" else sp.csr_array(square(n))
    lone = sp.csr_array((np.full(9, 1e-17), (np.arange(9), np.arange(9) + n // 2 + 1)), shape=A.shape)
    B = sp.csr_array(A + lone)
    B.sort_indices()
    b = np.random.default_rng(0).standard_normal(A.shape[0])
    z = apply(Direct(B), b)
    np.testing.assert_allclose(A @ z, b, atol=1e-10)
