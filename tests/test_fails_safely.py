"""The benchmark of nasty inputs: its verdicts on planted liars, and the solvers on a tiny lattice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from benchmarks.fails_safely import SOLVERS, Said, applies, ask, judge, markdown, verdict
from benchmarks.lattices import among, lattice
from benchmarks.nasty_inputs import NastyInput, cases

pytestmark = pytest.mark.filterwarnings("ignore:the matrix subclass")

SHAPE = (8, 7)
A = lattice(SHAPE, "dirichlet")
b = np.ones(A.shape[0])
x = np.linalg.solve(A.toarray(), b)


class TestVerdict:
    def test_success(self) -> None:
        assert verdict(NastyInput(A, b), Said(x, 0)) == "right answer"
        for lie in (0 * b, x * (1 + 2e-8), x + np.eye(1, len(b))[0] * 1e-7, np.full_like(b, np.nan), x[:-1]):
            assert verdict(NastyInput(A, b), Said(lie, 0)) == "wrong success"
        assert verdict(NastyInput(A, b, maxiter=0, refusal=True), Said(0 * b, 0)) == "wrong success"
        assert verdict(NastyInput(A, b, np.nan, refusal=True), Said(x * 1.1, 0)) == "wrong success"

    def test_success_where_none_is_possible(self) -> None:
        singular = lattice(SHAPE, "neumann")
        problem = NastyInput(singular, b, statuses=("INCONSISTENT",))
        assert verdict(problem, Said(np.linalg.lstsq(singular.toarray(), b)[0], 0)) == "wrong success"

    def test_status(self) -> None:
        named = NastyInput(-A, b, statuses=("INDEFINITE_MATRIX",))
        assert verdict(named, Said(x, -1, "INDEFINITE_MATRIX")) == "right status"
        assert verdict(named, Said(x, 4000, "MAXITER")) == "misleading"
        assert verdict(named, Said(x, 4000)) == "misleading"
        assert verdict(named, Said(x, 4000, hints=("Indefinite matrix",))) == "right status"
        assert verdict(named, Said(x * np.nan, -1, "INDEFINITE_MATRIX")) == "misleading"
        assert verdict(NastyInput(A, b), Said(x, 500, "MAXITER")) == "misleading"
        assert verdict(NastyInput(A, b, 1e-16, statuses=("ATTAINABLE_ACCURACY",)), Said(x, 500)) == "right status"

    def test_exceptions(self) -> None:
        assert verdict(NastyInput(A, b[:-1], refusal=True), Said(error=ValueError("b"))) == "right status"
        assert verdict(NastyInput(A, b), Said(error=ValueError("b"))) == "misleading"
        assert verdict(NastyInput(A, b[:-1], refusal=True), Said(error=IndexError())) == "hang or crash"
        raising = NastyInput(A, b, propagates=OSError, refusal=True)
        assert verdict(raising, Said(error=OSError())) == "right status"
        assert verdict(NastyInput(A, b), Said(error=KeyboardInterrupt())) == "hang or crash"

    def test_input_returned_or_changed(self) -> None:
        zero = np.zeros(len(b))
        assert verdict(NastyInput(A, zero), Said(zero, 0)) == "misleading"
        assert verdict(NastyInput(A, zero), Said(zero.copy(), 0)) == "right answer"
        assert verdict(NastyInput(A, b), Said(x, 0), intact=False) == "misleading"

    def test_a_matrix_changed_on_the_way_may_be_either(self) -> None:
        assert verdict(NastyInput(2 * A, b, afterwards=print), Said(x, 0), original=A) == "right answer"
        assert verdict(NastyInput(2 * A, b, afterwards=print), Said(x / 2, 0), original=A) == "right answer"
        assert verdict(NastyInput(2 * A, b, afterwards=print), Said(x / 3, 0), original=A) == "wrong success"


def test_a_liar_among_the_solvers_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def liar(problem: NastyInput, options: dict[str, Any]) -> Any:
        return np.zeros(len(problem.b)), 0

    monkeypatch.setitem(SOLVERS, "liar", liar)
    rows = [judge("liar", SHAPE, name, make(), 100) for name, make in cases(SHAPE).items() if not make().afterwards]
    honest = {row["case"] for row in rows if row["verdict"] != "wrong success"}
    # Zero is the answer of these few: b is zero, or the tolerance allows anything.
    dry = "checkerboard of walls, half of it dry"
    assert honest <= {"b = 0", "b = 0, x0 not", "tol = 10", "atol = Inf", "0 x 0", dry}
    assert "| liar |" in markdown(rows)
    assert "| NaN in b | 8x7 | liar |" in markdown(rows)


def test_scipy_is_caught_and_cleared() -> None:
    """Facts about SciPy that the benchmark was written after."""
    pytest.importorskip("scipy", minversion="1.12")
    problems = cases(SHAPE)
    caught = {
        name: judge("scipy.cg", SHAPE, name, problems[name](), 560)["verdict"] for name in ("maxiter = 0", "int A")
    }
    assert caught == {"maxiter = 0": "wrong success", "int A": "right answer"}


@pytest.mark.parametrize("name", ["DeepCD.solve", "deepcd.cg"])
def test_no_wrong_success_on_a_tiny_lattice(name: str) -> None:
    wrong = []
    for case, make in cases(SHAPE).items():
        problem = make()
        if applies(name, problem):
            row = judge(name, SHAPE, case, problem, 560)
            if row["verdict"] in ("wrong success", "hang or crash"):
                wrong.append((case, row["said"]))
    assert wrong == []


def test_inputs() -> None:
    walls = np.ones((3, 3), dtype=bool)
    walls[1, 1] = False
    ring = among(walls).toarray()
    assert ring.shape == (8, 8)
    np.testing.assert_array_equal(ring.sum(axis=1), 0)
    np.testing.assert_array_equal(np.diag(ring), 2)
    torus = lattice((4, 3), "periodic").toarray()
    np.testing.assert_array_equal(torus.sum(axis=1), 0)
    assert np.linalg.eigvalsh(cases(SHAPE)["one negative eigenvalue"]().A.toarray())[0] < 0
    assert np.linalg.eigvalsh(cases(SHAPE)["one negative eigenvalue"]().A.toarray())[1] > 0
    assert sp.issparse(cases(SHAPE)["explicit zeros"]().A)
    assert cases(SHAPE)["explicit zeros"]().A.nnz > A.nnz
    assert not cases(SHAPE)["unsorted indices"]().A.has_sorted_indices
    assert len(cases(SHAPE)) > 120


def test_warnings_and_exceptions_are_taken_down() -> None:
    said = ask(SOLVERS["pyamg.cg"], NastyInput(-A, b), 100)
    assert said.info is not None
    assert said.info < 0
    assert any("ndefinite" in hint for hint in said.hints)
    assert isinstance(ask(SOLVERS["scipy.cg"], NastyInput(A, b[:-1]), 100).error, ValueError)
