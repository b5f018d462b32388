"""A solver for ``skfem.solve``, which tells deepcd what it knows of a basis: where unknowns lie, how bodies move."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepcd.pde.extras import require
from deepcd.pde.rigid_bodies import rigid_body_modes
from deepcd.solvers.deepcd import DeepCD
from deepcd.solvers.fem.solving import solve_at
from deepcd.solvers.solution import Solution

F64 = NDArray[np.float64]


class NotSolvedError(RuntimeError):
    """A system was not solved to the tolerance.

    Attributes
    ----------
    solution : Solution
        What there is, with its status and the last iterate.
    """

    def __init__(self, solution: Solution) -> None:
        super().__init__(
            f"the system was not solved to the tolerance ({solution.status.name}, {solution.iterations} iterations of "
            f"{solution.preconditioner}): {solution.message}"
        )
        self.solution = solution


def solver(
    basis: Any,
    *,
    I: Any = None,  # noqa: E741 # scikit-fem's name
    D: Any = None,
    method: DeepCD | None = None,
    tol: float = 1e-8,
    **options: Any,
) -> Callable[..., F64]:
    """Return a solver for ``skfem.solve(A, b, solver=...)`` and systems of a basis.

    It hands on where the degrees of freedom lie, if the basis is scalar and nodal. For vectors of such elements
    (``ElementVector``) it hands on the rigid-body modes, with which smoothed aggregation solves elasticity.

    Parameters
    ----------
    basis : skfem.CellBasis
        The basis that A was assembled on.
    I, D : ndarray of int, skfem.DofsView or dict of these, optional
        The degrees of freedom that are kept or eliminated: what ``skfem.condense`` was given, one of both. Without
        either, A has a row for every degree of freedom of the basis, as it has after ``skfem.enforce``.
    method : DeepCD, optional
        Default: ``DeepCD()``.
    tol : float, default 1e-8
        Relative tolerance of the true residual.
    **options
        Further options of ``DeepCD.solve``, such as maxiter; those given to ``skfem.solve`` come before them.

    Returns
    -------
    callable
        ``solve(A, b, **options)`` returns x, shape (n,).

    Raises
    ------
    TypeError, ValueError
        If both or neither of I and D are given where one is needed, or A is not of the size that they leave.
    NotSolvedError
        By the solver, if a system is not solved to the tolerance: scikit-fem sees x alone, and could not tell.

    Examples
    --------
    >>> import skfem
    >>> import deepcd.skfem
    >>> from skfem.models.poisson import laplace, unit_load
    >>> basis = skfem.Basis(skfem.MeshTri().refined(4), skfem.ElementTriP1())
    >>> D = basis.get_dofs()
    >>> system = skfem.condense(laplace.assemble(basis), unit_load.assemble(basis), D=D)
    >>> solve = deepcd.skfem.solver(basis, D=D)
    >>> x = skfem.solve(*system, solver=solve)
    """
    require("skfem", extra="fem", by="deepcd.skfem.solver")
    if I is not None and D is not None:
        raise ValueError("give either I or D, as to skfem.condense, not both")
    points, modes = _knowledge(basis)
    kept = _kept(basis.N, I, D)
    chosen = DeepCD() if method is None else method
    given = {"tol": tol} | options

    def solve(A: Any, b: Any, **more: Any) -> F64:
        if not isinstance(b, np.ndarray):
            raise TypeError(
                "deepcd solves A x = b with an array b; for eigenvalue problems, where skfem.solve hands over a second "
                "matrix, take another solver"
            )
        rows = _rows(A.shape[0], basis.N, kept)
        own = {} if modes is None else {"B": modes[rows]}
        where = None if points is None else points[rows]
        solution = solve_at(where, chosen, A, b, **(own | given | more))
        if solution.info != 0:
            raise NotSolvedError(solution)
        return np.asarray(solution.x, dtype=np.float64)

    return solve


def _rows(n: int, count: int, kept: NDArray[np.int64] | None) -> NDArray[np.int64] | slice:
    """Return which of all degrees of freedom are the rows of a matrix."""
    if n == count:
        return slice(None)
    if kept is None:
        raise ValueError(
            f"A has {n} rows, but the basis has {count} degrees of freedom: say which of them skfem.condense left, by "
            "deepcd.skfem.solver(basis, D=...) or (basis, I=...) with what it was given"
        )
    if n != kept.size:
        raise ValueError(
            f"A has {n} rows, but I or D leave {kept.size} of the {count} degrees of freedom of the basis: give the "
            "solver the same I or D as skfem.condense"
        )
    return kept


def _kept(count: int, I: Any, D: Any) -> NDArray[np.int64] | None:  # noqa: E741
    """Return the degrees of freedom that are rows, in the order of `skfem.condense`."""
    if I is not None:
        return _flat("I", I, count)
    return None if D is None else np.setdiff1d(np.arange(count), _flat("D", D, count))


def _flat(name: str, given: Any, count: int) -> NDArray[np.int64]:
    """Return degrees of freedom as an array, from any form that scikit-fem takes them in."""
    parts: list[ArrayLike] = list(given.values()) if isinstance(given, Mapping) else [given]
    arrays = [np.asarray(part.flatten() if hasattr(part, "flatten") else part).ravel() for part in parts]
    if isinstance(given, Mapping):
        arrays = [np.unique(np.concatenate(arrays))] if arrays else [np.empty(0, dtype=np.int64)]
    numbers = arrays[0]
    if numbers.dtype.kind not in "iu" and numbers.size:
        raise TypeError(f"{name} must be numbers of degrees of freedom, got an array of type {numbers.dtype}")
    if numbers.size and (numbers.min() < 0 or numbers.max() >= count):
        raise ValueError(f"{name} must be numbers from 0 to {count - 1}, got {numbers.min()} to {numbers.max()}")
    return numbers.astype(np.int64)


def _knowledge(basis: Any) -> tuple[F64 | None, F64 | None]:
    """Return where the degrees of freedom lie, if they are values of a scalar, and the rigid-body modes of a vector."""
    from skfem import ElementVector

    places = getattr(basis, "doflocs", None)
    if places is None or len(places) not in (2, 3) or not np.isfinite(places).all():
        return None, None
    if _is_nodal(basis.elem):
        return np.ascontiguousarray(places.T), None
    d = len(places)
    if isinstance(basis.elem, ElementVector) and basis.elem.dim == d and _is_nodal(basis.elem.elem):
        return None, rigid_body_modes(places[:, ::d].T)
    return None, None


def _is_nodal(element: Any) -> bool:
    """Return whether degrees of freedom are values at their points: basis functions are 1 at their own, 0 at others."""
    from skfem.element import ElementH1

    if not isinstance(element, ElementH1):
        return False
    X = np.asarray(element.doflocs, dtype=np.float64)
    values = [np.broadcast_to(element.lbasis(X.T, i)[0], len(X)) for i in range(len(X))]
    return bool(np.allclose(values, np.eye(len(X)), atol=1e-12))
