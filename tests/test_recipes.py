"""Every preconditioner that DeepCD knows, on every matrix of the table in `systems.py`.

`--device cuda` runs those that there are on a CUDA device, or on numba's simulator; `--dtype float32` rounds matrices
and right-hand sides.
"""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd import DeepCD, Status, System
from deepcd.solvers.backends.backend import find
from deepcd.solvers.grids.stencils import FaceStencil, UnitStencil
from deepcd.solvers.recipes import RECIPES

from .systems import SYSTEMS, Case, relative, values

NAMES = ("auto", *(name for name, recipe in RECIPES.items() if not recipe.needs_points))


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_table_says_what_is_true(system: str) -> None:
    case, found = SYSTEMS[system], values(system)
    A, largest = case.A, np.abs(found).max()
    assert abs(A - A.T).max() <= 1e-15 * largest
    negative, positive = (found < -1e-12 * largest).any(), (found > 1e-12 * largest).any()
    assert case.sign == (0 if negative and positive else -1 if negative else 1)
    assert case.nullity == case.null().shape[1]
    assert case.empty_rows == bool((abs(A).sum(axis=1) == 0).any())
    if case.grid or case.faces:
        operator = DeepCD("geometric-multigrid").setup(A)._structure.on_grid
        assert operator is not None
        assert isinstance(operator.stencil, FaceStencil if case.faces else UnitStencil)
    else:
        with pytest.raises(ValueError, match="no grid"):
            DeepCD("geometric-multigrid").setup(A)


def suits(name: str, case: Case) -> bool:
    """Return whether the matrix has the grid that a preconditioner needs."""
    return case.grid or (case.faces and (name == "auto" or (name in RECIPES and RECIPES[name].takes_faces)))


def set_up(name: str, A: sp.csr_array, device: Any, *, grid: bool, faces: bool = False) -> System | None:
    """Set up, or make sure that what a preconditioner is not made for is refused, and return None."""
    recipe = RECIPES["learned-multigrid" if name == "auto" else name]
    if not find(device).runs(recipe):
        with pytest.raises(ValueError, match="on a CUDA device there are"):
            DeepCD(name, threads=1, device=device)
        return None
    solver = DeepCD(name, threads=1, device=device)
    if grid and not faces and device != "cpu" and name == "geometric-multigrid":
        with pytest.raises(ValueError, match='there is "learned-multigrid" for it'):
            solver.setup(A)
        return None
    if grid or not recipe.needs_grid or (name == "auto" and device == "cpu"):
        return solver.setup(A)
    with pytest.raises(ValueError, match=r"there is no grid behind A: .* takes any A"):
        solver.setup(A)
    return None


def rounded(case: Case, k: int, dtype: type) -> tuple[sp.csr_array, np.ndarray]:
    """Return A and right-hand sides as they are in a precision."""
    return case.A.astype(dtype), case.right_hand_sides(k).astype(dtype)


def tolerance(dtype: type) -> float:
    """Return a tolerance that the precision allows."""
    return 1e-8 if dtype == np.float64 else 1e-4


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("name", NAMES)
def test_solves_or_says_why_not(name: str, system: str, device: str, dtype: type) -> None:
    case = SYSTEMS[system]
    A, B = rounded(case, 3, dtype)
    prepared = set_up(name, A, device, grid=suits(name, case), faces=case.faces)
    if prepared is None:
        return
    A, tol = A.astype(np.float64), tolerance(dtype)
    # Boxes of this size are nothing that the published network was trained for: a few steps of it are looked at.
    patient = name != "dcdm" and name not in case.slow
    if device != "cpu":
        with pytest.raises(ValueError, match="solve for one column at a time"):
            prepared.solve(B, tol)
    for b in (B[:, 0], B) if device == "cpu" else (B[:, 0],):
        solution = prepared.solve(b, tol, maxiter=None if patient else 3)
        assert solution.x.shape == b.shape
        assert solution.x.dtype == dtype
        assert np.isfinite(solution.x).all()
        wanted = {Status.CONVERGED} if case.sign else {Status.CONVERGED, Status.INDEFINITE_MATRIX}
        if not patient:
            wanted |= {Status.MAXITER}
        if dtype == np.float32 and not case.single:
            wanted |= {Status.ATTAINABLE_ACCURACY}
        assert solution.status in wanted, solution.message
        assert relative(A, solution.x, b) <= (1.0 if solution.info else tol)
        assert "replaced" not in solution.detail or not case.sign


@pytest.mark.parametrize("system", [name for name, case in SYSTEMS.items() if case.nullity])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "dcdm"])  # see above
def test_names_what_has_no_solution(name: str, system: str, device: str, dtype: type) -> None:
    case = SYSTEMS[system]
    if dtype == np.float32 and not case.single:
        pytest.skip("rounded to float32, the matrix is regular")
    A, B = rounded(case, 1, dtype)
    prepared = set_up(name, A, device, grid=suits(name, case), faces=case.faces)
    if prepared is None:
        return
    null = case.null()
    b = B[:, 0] + (null[:, 0] * np.linalg.norm(B)).astype(dtype)
    solution = prepared.solve(b, tolerance(dtype))
    assert solution.status in (Status.INCONSISTENT, *([Status.ZERO_DIAGONAL] if case.empty_rows else []))
    assert solution.info != 0
    if solution.status is Status.ZERO_DIAGONAL:
        assert solution.iterations == 0
        return
    left = np.linalg.norm(b - A.astype(np.float64) @ solution.x.astype(np.float64))
    assert left <= (1 + 1e-4) * np.linalg.norm(null.T @ b), "a least-squares solution"


@pytest.mark.parametrize("name", NAMES)
def test_is_known_by_its_name(name: str, device: str) -> None:
    system = set_up(name, SYSTEMS["square"].A, device, grid=True)
    if system is not None:
        automatic = "direct" if device == "cpu" else "learned-multigrid"
        assert system.preconditioner == (automatic if name == "auto" else name)
        assert f"preconditioner: {system.preconditioner}" in str(system)


@pytest.mark.parametrize("name", NAMES)
def test_copies_and_updates_answer_alike(name: str, device: str, dtype: type) -> None:
    A, B = rounded(SYSTEMS["channel"], 1, dtype)
    system = set_up(name, A, device, grid=True)
    if system is None:
        return

    def answer(one: System) -> np.ndarray:
        return one.solve(B[:, 0], 1e-4, maxiter=5).x

    expected = answer(system)
    twins: list[Any] = []
    if device == "cpu":
        twins = [copy.copy(system), copy.deepcopy(system), pickle.loads(pickle.dumps(system))]
    else:
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            copy.copy(system)
    for _ in range(2):
        for twin in twins:
            np.testing.assert_array_equal(answer(twin), expected)
        system.update(A * 2)  # of which the twins do not know
    np.testing.assert_allclose(2 * answer(system), expected, atol=1e-6 * np.abs(expected).max())
