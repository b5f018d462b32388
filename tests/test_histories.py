"""Random histories of one system: set-up, updates good and bad, solves, copies, and what must hold after every step.

The model of a system is the matrix that it stands for. `python -m pytest tests/test_histories.py --histories 10000`
runs as many histories instead of a few.
"""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from benchmarks.verification import meets, rounding_level
from deepcd import DeepCD, Solution, Status, System
from deepcd.pde import Grid, domain, poisson
from deepcd.solvers.recipes import RECIPES

from .systems import with_zeros

STEPS = 9  # per history
# The network of "dcdm" costs a hundred times what the others do at this size.
KNOWN = [name for name, recipe in RECIPES.items() if not recipe.needs_points]
NAMES = [name for name in ("auto", *KNOWN) for _ in range(1 if name == "dcdm" else 4)]
ON_GRIDS = [name for name, recipe in RECIPES.items() if recipe.needs_grid]
SHAPES: tuple[tuple[int, ...], ...] = ((2, 3), (4, 5), (1, 7), (6, 6), (2, 3, 2), (3, 3, 3))

seeds = st.integers(0, 99)
factors = st.sampled_from([1.0, 3.0, 0.1, 2.0**20, 1e-12])


class Stopped(Exception):
    """Raised by a callback."""


@cache
def grid_matrix(shape: tuple[int, ...], seed: int, sealed: bool) -> sp.csr_array:
    """Return the Laplacian of a small grid with obstacles, singular if sealed."""
    rng = np.random.default_rng(seed)
    walls: Any = "solid" if sealed else [("solid", "air")] + ["solid"] * (len(shape) - 1)
    A = poisson(Grid(rng.random(shape) < rng.choice([0.0, 0.15, 0.4]), walls)).A
    return A if A.nnz > A.shape[0] else poisson(domain(shape, walls=walls)).A


def laplacian(off: sp.csr_array, held: np.ndarray) -> sp.csr_array:
    """Return the matrix with these couplings whose rows sum to `held`, which is stored even where it is zero."""
    off = sp.coo_array(off)
    rows = np.arange(off.shape[0])
    diagonal = held - np.bincount(off.row, off.data, minlength=off.shape[0])
    coordinates = np.r_[off.row, rows], np.r_[off.col, rows]
    return sp.csr_array(sp.coo_array((np.r_[off.data, diagonal], coordinates), shape=off.shape))


@cache
def path(seed: int, sealed: bool) -> sp.csr_array:
    """Return the Laplacian of a path with random weights."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 30))
    weights = -(10.0 ** rng.uniform(-1, 1, n - 1))
    off = sp.csr_array(sp.diags_array([weights, weights], offsets=[-1, 1], shape=(n, n)))
    return laplacian(off, np.zeros(n) if sealed else np.eye(1, n)[0])


@cache
def gram(seed: int) -> sp.csr_array:
    """Return a random positive definite matrix with couplings of both signs."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 25))
    B = sp.random_array((n, n), density=min(1.0, 3 / n), rng=rng, data_sampler=rng.standard_normal)
    return sp.csr_array(B.T @ B + 0.1 * sp.eye_array(n))


def off_diagonal(A: sp.csr_array) -> sp.csr_array:
    """Return the entries off the diagonal, zeros included."""
    entries = sp.coo_array(A)
    off = entries.row != entries.col
    return sp.csr_array(sp.coo_array((entries.data[off], (entries.row[off], entries.col[off])), shape=A.shape))


def with_values(A: sp.csr_array, values: sp.sparray) -> sp.csr_array:
    """Return a matrix on the pattern of A that has the values of another one there, and zeros elsewhere."""
    entries = sp.coo_array(A)
    data = np.asarray(sp.csr_array(values)[entries.row, entries.col]).ravel()
    return sp.csr_array((data.astype(np.float64), A.indices.copy(), A.indptr.copy()), shape=A.shape)


CHANGES: dict[str, Callable[[sp.csr_array, np.random.Generator], sp.sparray]] = {
    "the same": lambda A, _: A,
    "scaled": lambda A, rng: A * rng.choice([3.0, 0.25, 1e-7]),
    "plus the identity": lambda A, _: A + sp.eye_array(A.shape[0]),
    "plus a little": lambda A, rng: A + sp.diags_array(rng.uniform(0.1, 0.9, A.shape[0])),
    "made singular": lambda A, _: laplacian(-abs(off_diagonal(A)), np.zeros(A.shape[0])),
    "made regular": lambda A, _: laplacian(-abs(off_diagonal(A)), np.ones(A.shape[0])),
    "unit couplings": lambda A, _: laplacian(-1.0 * (off_diagonal(A) != 0), np.eye(1, A.shape[0])[0]),
    "scaled from both sides": lambda A, rng: (D := sp.diags_array(rng.uniform(0.5, 2, A.shape[0]))) @ A @ D,
    "negated": lambda A, _: -A,
    "indefinite": lambda A, rng: A - sp.diags_array(A.diagonal() * rng.choice([0, 1.5], A.shape[0])),
    "a zero on the diagonal": lambda A, rng: A - sp.diags_array(A.diagonal() * np.eye(1, A.shape[0])[0]),
    "without couplings": lambda A, _: sp.diags_array(A.diagonal()),
    "zero": lambda A, _: A * 0.0,
    "not symmetric": lambda A, rng: A @ sp.diags_array(rng.uniform(0.5, 2, A.shape[0])),
}

MALFORMED: dict[str, Callable[[sp.csr_array], Any]] = {
    "NaN": lambda A: sp.csr_array((np.r_[np.nan, A.data[1:]], A.indices, A.indptr), shape=A.shape),
    "infinity": lambda A: sp.csr_array((np.r_[A.data[:-1], np.inf], A.indices, A.indptr), shape=A.shape),
    "complex": lambda A: A * 1j,
    "larger": lambda A: sp.csr_array(sp.block_diag([A, np.ones((1, 1))])),
    "not square": lambda A: A[:-1],
    "another pattern": lambda A: sp.csr_array(np.ones((A.shape[0] + 1, A.shape[0] + 1))[1:, 1:] + 2 * A),
    "fewer entries": lambda A: sp.csr_array(A.shape),
    "text": lambda A: np.full(A.shape, "a"),
    "an operator": sp.linalg.aslinearoperator,
    "None": lambda A: None,
}

LAYOUTS: dict[str, Callable[[sp.csr_array], Any]] = {
    "csr": lambda A: A,
    "csc": sp.csc_array,
    "spmatrix": sp.csr_matrix,
    "int64": lambda A: sp.csr_array((A.data, A.indices.astype(np.int64), A.indptr.astype(np.int64)), shape=A.shape),
}

# name -> what is given to `solve` instead of what is right; b has n rows.
WRONG: dict[str, Callable[[np.ndarray], dict[str, Any]]] = {
    "b too long": lambda b: {"b": np.r_[b, 1.0]},
    "b with NaN": lambda b: {"b": b * np.nan},
    "b complex": lambda b: {"b": b * 1j},
    "no columns": lambda b: {"b": np.ones((len(b), 0))},
    "tol zero": lambda b: {"tol": 0.0},
    "two tolerances": lambda b: {"tol": 1e-3, "rtol": 1e-3},
    "atol negative": lambda b: {"atol": -1.0},
    "maxiter zero": lambda b: {"maxiter": 0},
    "timeout negative": lambda b: {"timeout": -1.0},
    "callback no function": lambda b: {"callback": 3},
    "residuals no list": lambda b: {"residuals": np.zeros(3)},
    "x0 too short": lambda b: {"x0": b[:-1]},
    "x0 with infinity": lambda b: {"x0": b + np.inf},
    "x0 with columns": lambda b: {"x0": np.ones((len(b), 2))},
}


@dataclasses.dataclass(frozen=True)
class Model:
    """What a system should be.

    Attributes
    ----------
    A : csr_array of float64
        The matrix that it stands for.
    dtype : dtype
        Of the matrix that was given.
    solver : DeepCD
    options : dict
        `nullspace` and `B`, as given to `setup`.
    first : csr_array of float64
        The matrix of the set-up.
    """

    A: sp.csr_array
    dtype: np.dtype[Any]
    solver: DeepCD
    options: dict[str, Any]
    first: sp.csr_array

    @property
    def n(self) -> int:
        return cast(int, self.A.shape[0])

    def is_definite(self) -> bool:
        """Whether all eigenvalues are well above zero, and what stands in the matrix is symmetric."""
        dense = self.A.toarray()
        if not np.array_equal(dense, dense.T) or not dense.any():
            return False
        values = np.linalg.eigvalsh(dense / np.abs(dense).max())
        return bool(values[0] > 1e-7 or values[-1] < -1e-7)


@cache
def fixed(n: int) -> np.ndarray:
    """Return three right-hand sides that every system of a size is asked about."""
    return np.random.default_rng(5).standard_normal((n, 3))


def contents(thing: Any) -> Any:
    """Return what an object of arrays and numbers holds, in a form that can be compared."""
    if dataclasses.is_dataclass(thing):
        return [contents(getattr(thing, field.name)) for field in dataclasses.fields(thing)]
    return (thing.dtype.str, thing.shape, thing.tobytes()) if isinstance(thing, np.ndarray) else repr(thing)


def answer(solution: Solution) -> tuple[Any, ...]:
    return solution.x.tobytes(), solution.residuals.tobytes(), solution.message, solution.preconditioner


def snapshot(system: System) -> dict[str, Any]:
    """Return all that a caller can find out about a system, a few answers and applications of M included."""
    B = fixed(system.shape[0])
    try:
        image: Any = system.aspreconditioner().matvec(B[:, 0]).tobytes()
    except ValueError as error:
        image = str(error)
    A = system.A
    return {
        "A": contents(A.data) + contents(A.indices) + contents(A.indptr),
        "grid": contents(system.embedding),
        "text": str(system),
        "facts": (system.shape, system.no_grid, system.preconditioner, system.setup_time),
        "one": answer(system.solve(B[:, 0], 1e-5, maxiter=3)),
        "block": answer(system.solve(B[:, 1:], 1e-5, maxiter=3)),
        "preconditioner": image,
    }


def same(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Compare two snapshots, one thing after the other."""
    for key, value in before.items():
        assert after[key] == value, f"{key} has changed"


def refusal(call: Callable[[], Any]) -> tuple[Any, str]:
    """Return what a call returns, and the sentence with which it refuses its arguments, or an empty one."""
    try:
        return call(), ""
    except ValueError as error:
        return None, str(error)


def copies(A: Any) -> Any:
    """Return a copy of a matrix for the system to take, and to be spoiled afterwards."""
    return copy.deepcopy(A)


def spoil(A: Any) -> None:
    """Overwrite what the caller gave: a system must not notice."""
    if sp.issparse(A):
        A.data[:] = 7
        for name in ("indices", "indptr"):
            getattr(A, name)[:] = 0


class Histories(RuleBasedStateMachine):
    """One system, a few copies of it, and the matrices that they stand for."""

    system: System
    model: Model
    counts: dict[str, int] = {}  # noqa: RUF012 - of all histories together

    def __init__(self) -> None:
        super().__init__()
        self.stored: list[tuple[System, Model, dict[str, Any]]] = []
        self.count("histories")

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    @initialize(
        name=st.sampled_from(NAMES),
        kind=st.sampled_from(["grid", "grid", "Grid", "path", "gram"]),
        shape=st.sampled_from(SHAPES),
        seed=seeds,
        sealed=st.booleans(),
        factor=factors,
        extra=st.sampled_from(["", "", "isolated", "empty", "zeros", "negative", "float32"]),
        option=st.sampled_from(["", "", "nullspace", "B"]),
        threads=st.sampled_from([1, 1, 1, 2]),
        check=st.booleans(),
    )
    def set_up(
        self,
        name: str,
        kind: str,
        shape: tuple[int, ...],
        seed: int,
        sealed: bool,
        factor: float,
        extra: str,
        option: str,
        threads: int,
        check: bool,
    ) -> None:
        """Set up a system that there is a preconditioner for."""
        if name in ON_GRIDS and kind in ("path", "gram"):
            kind = "grid"
        given: Any
        if kind == "Grid":
            given = domain(shape, walls="solid" if sealed else "air")
            A = poisson(given).A
        else:
            A = (
                grid_matrix(shape, seed, sealed)
                if kind == "grid"
                else path(seed, sealed)
                if kind == "path"
                else gram(seed)
            )
            A = A * factor
            if extra in ("isolated", "empty"):
                A = sp.csr_array(sp.block_diag([[[4.0]], A, [[0.0]] if extra == "empty" else [[2.0]]]))
            elif extra == "zeros":
                A = with_zeros(A, seed)
            elif extra == "negative":
                A = -A
            elif extra == "float32":
                A = A.astype(np.float32)
            given = copies(A)
        dtype, A = A.dtype, A.astype(np.float64)
        options: dict[str, Any] = {"check": check} if kind != "Grid" else {}
        if option == "nullspace" and kind != "Grid" and abs(A @ np.ones(A.shape[0])).max() == 0:
            options["nullspace"] = "constant"
        if option == "B":
            options["B"] = np.random.default_rng(seed).standard_normal((A.shape[0], 2))
        solver = DeepCD(name, threads=threads)
        self.system = solver.setup(given, **options)
        spoil(given)
        self.model = Model(A, dtype, solver, options, A)
        self.count(f"set up {name}")

    @rule(
        kind=st.sampled_from(sorted(CHANGES)), seed=seeds, single=st.booleans(), layout=st.sampled_from(sorted(LAYOUTS))
    )
    def update(self, kind: str, seed: int, single: bool, layout: str) -> None:
        """Give new values on the old pattern: the system becomes what a fresh one is, or stays as it is."""
        model = self.model
        A = with_values(model.A, CHANGES[kind](model.A, np.random.default_rng(seed)))
        given: Any = LAYOUTS[layout](copies(A.astype(np.float32) if single and seed % 4 == 0 else A))
        self.take(given)

    @rule()
    def update_back(self) -> None:
        """Give the values of the set-up again."""
        self.take(copies(with_values(self.model.A, self.model.first)))

    def take(self, given: Any) -> None:
        """Update with a matrix on the old pattern, and compare with a system that is set up anew."""
        model, before = self.model, snapshot(self.system)
        A, dtype = sp.csr_array(given).astype(np.float64), np.dtype(given.dtype)
        A.sort_indices()
        fresh, reason = refusal(lambda: model.solver.setup(A.astype(dtype), **model.options))
        _, refused = refusal(lambda: self.system.update(given))
        assert refused == reason, "update and set-up disagree"
        if refused:
            note(f"refused: {refused}")
            same(before, snapshot(self.system))
            self.count("updates refused")
            return
        self.count("updates")
        spoil(given)
        self.model = dataclasses.replace(model, A=A, dtype=dtype)
        system = self.system
        assert (system.preconditioner, system.no_grid) == (fresh.preconditioner, fresh.no_grid)
        assert contents(system.embedding) == contents(fresh.embedding)
        b = np.ascontiguousarray(A @ fixed(model.n)[:, 0])
        if model.solver.preconditioner != "dcdm":
            assert (fresh.solve(b).info != 0) or self.solve_and_check(b, tol=1e-6).info == 0

    @rule(kind=st.sampled_from(sorted(MALFORMED)))
    def update_with_what_is_none(self, kind: str) -> None:
        """Refuse what is no new set of values, and stay as before."""
        if kind == "another pattern" and self.model.A.nnz == self.model.n**2:
            return
        if kind == "fewer entries" and not self.model.A.nnz:
            return
        before = snapshot(self.system)
        with pytest.raises((TypeError, ValueError)):
            self.system.update(MALFORMED[kind](self.model.A))
        same(before, snapshot(self.system))
        self.count("malformed updates")

    def solve_and_check(self, b: np.ndarray, **options: Any) -> Solution:
        """Solve, and hold the answer against the model."""
        model, name, history = self.model, self.system.preconditioner, [-1.0]
        b.flags.writeable = False
        if "x0" in options:
            options["x0"].flags.writeable = False
        if model.solver.preconditioner == "dcdm":
            options["maxiter"] = min(options.get("maxiter", 3), 3)
        solution = self.system.solve(b, residuals=history, **options)
        self.count(solution.status.name)
        x, info = solution
        single = model.dtype == b.dtype == np.float32
        assert x.shape == (b.shape if b.ndim == 1 or b.shape[1] > 1 else (model.n,))
        assert x.dtype == (np.float32 if single else np.float64)
        assert np.isfinite(x).all()
        assert not any(
            np.shares_memory(x, other) for other in (b, options.get("x0"), model.A.data) if other is not None
        )
        assert history == solution.residuals.tolist()
        assert (info == 0) == (solution.status is Status.CONVERGED)
        tol, atol = options.get("tol", 1e-6), options.get("atol", 0.0)
        wide = np.asarray(b, dtype=np.float64).reshape(model.n, -1)
        X = np.asarray(x, dtype=np.float64).reshape(model.n, -1)
        for j, column in enumerate(solution.columns or (solution,)):
            left = float(np.linalg.norm(wide[:, j] - model.A @ X[:, j]))
            target, slack = max(tol * np.linalg.norm(wide[:, j]), atol), rounding_level(model.A, wide[:, j], X[:, j])
            if column.info == 0:
                assert left <= target + slack or meets(model.A, wide[:, j], X[:, j], tol, atol), "a wrong success"
            first = float(column.residuals[0])
            if column.info or not solution.columns:  # a block's columns that converge keep the residual of the loop
                said = float(column.residuals[-1])
                assert abs(said - left) <= 1e-5 * max(left, 1e-2 * first) + 10 * slack, f"{column!r}: residual {left}"
        if self.system.preconditioner != name:
            assert model.solver.preconditioner == "auto"
            assert (name in ON_GRIDS, self.system.preconditioner) == (True, "pyamg-rs")
        limited = {"maxiter", "timeout", "callback", "x0"} & options.keys()
        if not limited and not single and tol >= 1e-7 and model.is_definite():
            assert info == 0, solution.message
        return solution

    @rule(
        seed=seeds,
        k=st.sampled_from([0, 0, 1, 3]),
        tol=st.sampled_from([1e-2, 1e-6, 1e-10, 1e-15]),
        single=st.booleans(),
        atol=st.sampled_from([0.0, 0.0, 1e-3]),
        limit=st.sampled_from(["", "", "maxiter", "timeout", "x0", "far x0", "callback", "zero"]),
        reachable=st.booleans(),
    )
    def solve(self, seed: int, k: int, tol: float, single: bool, atol: float, limit: str, reachable: bool) -> None:
        """Solve for one or several right-hand sides."""
        rng, n = np.random.default_rng(seed), self.model.n
        b = rng.standard_normal((n, k) if k else n)
        if reachable:
            b = np.ascontiguousarray(self.model.A @ b)
        if limit == "zero":
            b[...] = 0.0
        if single:
            b = b.astype(np.float32)
        options: dict[str, Any] = {"tol": tol, "atol": atol}
        if limit == "maxiter":
            options["maxiter"] = 1 + seed % 4
        elif limit == "timeout":
            options["timeout"] = 1e-9
        elif limit in ("x0", "far x0"):
            options["x0"] = rng.standard_normal(b.shape) * (1e6 if limit == "far x0" else 1.0)
        elif limit == "callback":
            options["callback"] = lambda _: True
        self.solve_and_check(b, **options)

    @rule(kind=st.sampled_from(sorted(WRONG)))
    def solve_with_wrong_arguments(self, kind: str) -> None:
        """Refuse them, and stay as before."""
        before, history = snapshot(self.system), [-1.0]
        b = fixed(self.model.n)[:, 0]
        arguments: dict[str, Any] = {"b": b, "residuals": history} | WRONG[kind](b)
        with pytest.raises((TypeError, ValueError)):
            self.system.solve(**arguments)
        assert history == [-1.0]
        same(before, snapshot(self.system))
        self.count("wrong solves")

    @rule(columns=st.booleans(), act=st.sampled_from(["raise", "solve", "update", "precondition", "copy", "go on"]))
    def solve_with_a_callback_that_interferes(self, columns: bool, act: str) -> None:
        """Let the callback's error through, and stay as before."""
        before, history = snapshot(self.system), [-1.0]
        system, model, called, B = self.system, self.model, [], fixed(self.model.n)
        b = B[:, 1:] if columns else B[:, 0]
        try:
            M: Any = system.aspreconditioner()
        except ValueError:
            M = None

        def callback(x: np.ndarray) -> None:
            called.append(x)
            if act == "raise" or (act == "precondition" and M is None):
                raise Stopped
            if act == "copy":
                twin = copy.deepcopy(system)
                same({**before, "facts": None}, {**snapshot(twin), "facts": None})
                raise Stopped
            try:
                if act == "update":
                    system.update(copies(model.A))
                elif act == "precondition":
                    M.matvec(B[:, 0])
                else:
                    system.solve(B[:, 0])
            except RuntimeError:
                if act == "go on":
                    return
                raise
            raise AssertionError("the system took a call while it was busy")

        try:
            system.solve(b, 1e-5, maxiter=3, residuals=history, callback=callback)
        except (Stopped, RuntimeError):
            assert act != "go on"
            assert history == [-1.0]
        else:
            assert act == "go on" or not called
        same(before, snapshot(system))
        self.count(f"callbacks that {act}" if called else "callbacks not called")

    @rule(how=st.sampled_from(["copy", "deepcopy", "pickle"]), which=st.booleans())
    def duplicate(self, how: str, which: bool) -> None:
        """Go on with the copy or with the original; what is left behind must not notice."""
        twin: System
        if how == "pickle":
            twin = pickle.loads(pickle.dumps(self.system))
        else:
            twin = copy.copy(self.system) if how == "copy" else copy.deepcopy(self.system)
        before = snapshot(self.system)
        same(before, snapshot(twin))
        left, self.system = (self.system, twin) if which else (twin, self.system)
        self.stored = [*self.stored[-1:], (left, self.model, before)]
        self.count("copies")

    @precondition(lambda self: self.stored)
    @rule()
    def go_back(self) -> None:
        """Go on with a system that was left behind, after a look at whether it is as it was."""
        system, model, before = self.stored.pop()
        same(before, snapshot(system))
        self.stored.append((self.system, self.model, snapshot(self.system)))
        self.system, self.model = system, model

    @rule(seed=seeds)
    def precondition(self, seed: int) -> None:
        """Apply the preconditioner: symmetric if A is, or refused."""
        try:
            M = self.system.aspreconditioner()
        except ValueError:
            return
        u, v = np.random.default_rng(seed).standard_normal((2, self.model.n))
        zu, zv = M.matvec(u), M.matvec(v)
        size = np.linalg.norm(u) * np.linalg.norm(zv) + np.linalg.norm(v) * np.linalg.norm(zu)
        assert abs(u @ zv - v @ zu) <= 1e-4 * size or (self.model.A != self.model.A.T).nnz
        self.count("applications")

    @invariant()
    def stands_for_the_matrix(self) -> None:
        """The matrix of the system is the model's, to the last bit."""
        if hasattr(self, "model"):
            A = self.system.A
            assert A.shape == self.system.shape == self.model.A.shape
            assert A.dtype == np.float64
            assert (A != self.model.A).nnz == 0
            assert str(self.system).startswith(f"System of {self.model.n} unknowns")

    def teardown(self) -> None:
        """Look at what was left behind."""
        for system, model, before in self.stored:
            same(before, snapshot(system))
            assert (system.A != model.A).nnz == 0


few = settings(stateful_step_count=STEPS, suppress_health_check=list(HealthCheck))


@pytest.mark.compiled
def test_random_histories(request: pytest.FixtureRequest) -> None:
    wanted = request.config.getoption("histories")
    Histories.counts.clear()
    run_state_machine_as_test(Histories, settings=settings(few, max_examples=wanted))
    print(Histories.counts)
    assert Histories.counts["histories"] >= wanted


class TestUpdateIsAtomic:
    def test_what_is_no_grid_is_refused_and_forgotten(self) -> None:
        A = poisson(domain((8, 9), walls="air")).A
        system = DeepCD("geometric-multigrid").setup(A)
        before = snapshot(system)
        with pytest.raises(ValueError, match="no grid"):
            system.update(A - sp.diags_array(np.linspace(0.1, 0.9, A.shape[0])))
        same(before, snapshot(system))
        assert (system.A != A).nnz == 0
        B = fixed(A.shape[0])
        for b in (B[:, 0], B):
            solution = system.solve(b, 1e-8)
            assert solution.info == 0
            assert (np.linalg.norm(b - A @ solution.x, axis=0) <= 1e-8 * np.linalg.norm(b, axis=0)).all()

    @pytest.mark.parametrize("name", ["auto", "pyamg-sa", "jacobi"])
    def test_a_null_space_that_the_new_matrix_lacks_is_refused(self, name: str) -> None:
        A = path(0, True)
        system = DeepCD(name).setup(A, nullspace="constant")
        before = snapshot(system)
        regular = A + sp.eye_array(A.shape[0])
        with pytest.raises(ValueError, match="nullspace must be mapped to zero by A"):
            system.update(regular)
        same(before, snapshot(system))
        system.update(2 * A)
        assert (system.A != 2 * A).nnz == 0
        assert system.solve(A @ fixed(A.shape[0])[:, 0], 1e-8).info == 0

    def test_automatic_choice_follows_the_values(self) -> None:
        """A grid of more unknowns than are solved directly, no grid, and the grid again."""
        A = poisson(domain((48, 48), walls="air")).A
        system = DeepCD(threads=1).setup(A)
        before = snapshot(system)
        assert system.preconditioner == "learned-multigrid"
        b, other = fixed(A.shape[0])[:, 0], A.copy()
        other[0, 1] = other[1, 0] = 0.5
        system.update(other)
        assert system.preconditioner in ("ssor", "direct")
        assert system.embedding is None
        assert system.no_grid
        x, info = system.solve(b, 1e-8)
        assert info == 0
        assert np.linalg.norm(b - other @ x) <= 1e-8 * np.linalg.norm(b)
        system.update(A)
        after = snapshot(system)
        for key in ("A", "grid", "one", "block", "preconditioner"):
            assert after[key] == before[key]
