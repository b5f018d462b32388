"""What is found out about a matrix, and that looking changes neither the matrix nor a system that refuses a new one."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd import DeepCD, Status, System
from deepcd.pde import Grid, domain, poisson
from deepcd.solvers.structure import Structure, analyse


def chain(n: int, ends: float = 1.0) -> sp.csr_array:
    """Laplacian of a path with Dirichlet weight `ends` at both ends."""
    A = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n), format="lil")
    A[0, 0] = A[-1, -1] = 1.0 + ends
    return sp.csr_array(A)


def look(A: object, preconditioner: str = "auto", **options: object) -> Structure:
    return analyse(A, DeepCD(preconditioner).config, **options)  # type: ignore[arg-type]


class TestAnalyse:
    def test_a_grid_given_to_the_last_bit_is_all_that_is_kept(self) -> None:
        A = poisson(domain((7, 6, 5), walls="air")).A
        found = look(A, "learned-multigrid")
        assert not sp.issparse(found.matrix)
        np.testing.assert_array_equal(found.entries().toarray(), A.toarray())
        assert (found.sign, found.no_grid) == (1, "")
        assert found.dtype == np.float64

    def test_few_unknowns_are_not_worth_looking_for_a_grid(self) -> None:
        found = look(poisson(domain((7, 6, 5), walls="air")).A)
        assert (found.embedding, found.no_grid) == (None, "")

    def test_why_there_is_no_grid(self) -> None:
        A = sp.csr_array(chain(3000) @ chain(3000))
        found = look(A)
        assert found.embedding is None
        assert "A[0, 2] is positive" in found.no_grid

    @pytest.mark.parametrize("copy", [True, False])
    @pytest.mark.parametrize("sign", [1.0, -1.0])
    def test_the_matrix_is_left_alone(self, copy: bool, sign: float) -> None:
        A = sp.csr_array(sign * chain(30))
        before = A.copy()
        found = look(A, "jacobi", copy=copy)
        assert found.sign == sign
        np.testing.assert_array_equal(found.entries().toarray(), chain(30).toarray())
        assert np.may_share_memory(found.entries().data, A.data) == (sign > 0 and not copy)
        for name in ("data", "indices", "indptr"):
            np.testing.assert_array_equal(getattr(A, name), getattr(before, name))

    def test_the_precision_of_the_entries(self) -> None:
        assert look(chain(30).astype(np.float32), "none").dtype == np.float32
        assert look(np.eye(3, dtype=np.float16), "none").dtype == np.float32
        assert look(np.eye(3, dtype=int), "none").dtype == np.float64

    def test_a_grid_of_cells_that_do_not_touch(self) -> None:
        grid = Grid(np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]]), walls="air")
        found = look(grid)
        assert found.embedding is None
        assert "touch" in found.no_grid
        b = np.arange(1.0, found.n + 1)
        x, info = DeepCD.solve(grid, b)
        assert info == 0
        np.testing.assert_allclose(poisson(grid).A @ x, b)


def state(system: System, b: np.ndarray) -> tuple[object, ...]:
    solution = system.solve(b, 1e-8)
    return system.A.toarray().tolist(), solution.x.tolist(), solution.status, system.preconditioner, str(system)


class TestRefusedUpdates:
    """`update` either succeeds as a whole or leaves the system as it was."""

    @pytest.mark.parametrize("preconditioner", ["learned-multigrid", "geometric-multigrid"])
    def test_no_longer_a_grid(self, preconditioner: str) -> None:
        A = poisson(domain((7, 6, 5), walls="air")).A
        b = np.random.default_rng(0).standard_normal(A.shape[0])
        system = DeepCD(preconditioner).setup(A)
        before = state(system, b)
        other = A.copy()
        other.data[3] *= 1.5
        with pytest.raises(ValueError, match="there is no grid behind A"):
            system.update(other)
        assert state(system, b) == before
        X, info = system.solve(np.stack([b, 2 * b], axis=1), 1e-8)
        assert info == 0
        np.testing.assert_allclose(A @ X[:, 1], 2 * b, atol=1e-6 * float(np.linalg.norm(b)))

    @pytest.mark.parametrize("preconditioner", ["auto", "pyamg-sa", "none", "direct"])
    def test_a_null_space_that_the_new_matrix_does_not_have(self, preconditioner: str) -> None:
        A = chain(200, ends=0.0)
        b = A @ np.random.default_rng(0).standard_normal(200)
        system = DeepCD(preconditioner).setup(A, nullspace="constant")
        before = state(system, b)
        with pytest.raises(ValueError, match="nullspace must be mapped to zero by A"):
            system.update(A + sp.eye_array(200))
        assert state(system, b) == before
        system.update(3 * A)
        assert system.solve(b, 1e-8).status is Status.CONVERGED

    def test_an_algebraic_multigrid_is_brought_up_to_date_in_a_copy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        A = sp.csr_array(sp.kron(chain(20), sp.eye_array(20)) + 0.3 * sp.kron(sp.eye_array(20), chain(20)))
        b = np.random.default_rng(0).standard_normal(400)
        system = DeepCD("pyamg-sa").setup(A)
        before = state(system, b)

        def fail(*_: object) -> None:
            raise MemoryError

        monkeypatch.setattr("deepcd.solvers.preparation.alone", fail)  # the last step, after the multigrid
        with pytest.raises(MemoryError):
            system.update(sp.csr_array(2 * A))
        monkeypatch.undo()
        assert state(system, b) == before

    @pytest.mark.parametrize(
        ("spoil", "match"),
        [
            (lambda A: A[:-1, :-1], "shape of the old one"),
            (lambda A: A + sp.csr_array(([1.0], ([0], [5])), shape=A.shape), "old pattern"),
            (lambda A: A * np.nan, "finite"),
            (lambda A: A * 1j, "real"),
            (lambda A: A.toarray()[0], "square"),
        ],
    )
    def test_what_is_malformed(self, spoil: object, match: str) -> None:
        A, b = chain(20), np.ones(20)
        system = DeepCD("jacobi").setup(A)
        before = state(system, b)
        with pytest.raises((TypeError, ValueError), match=match):
            system.update(spoil(A))  # type: ignore[operator]
        assert state(system, b) == before

    def test_a_matrix_that_cannot_be_solved_with_is_taken_and_named(self) -> None:
        A = chain(20)
        system = DeepCD("jacobi").setup(A)
        bad = A.copy()
        bad.setdiag(-1.0 + 2.0 * np.arange(20))
        system.update(bad)
        assert system.solve(np.ones(20)).status is Status.INDEFINITE_MATRIX
        system.update(A)
        assert system.solve(np.ones(20)).status is Status.CONVERGED
