"""Which solvers report success for a wrong answer? Nasty inputs for SciPy, PyAMG and deepcd, in two sizes.

    python -m benchmarks.fails_safely                     all cases, 20 x 20 and 64 x 64 x 64
    python -m benchmarks.fails_safely --shape 20 20       one size; the saved rows of others are kept
    python -m benchmarks.fails_safely --only "NaN in b"   one case

Each solver runs in a process of its own, restarted when it crashes or takes longer than --limit seconds. All get the
same tolerance and the same limit of iterations: SciPy's default of 10 n at 400 unknowns, and 1,000 at 64^3, where
plain conjugate gradients need 160 on the clean system. A verdict rests on the residual recomputed in extended
precision from the caller's arrays (`verification.py`) and is one of:

right answer    x meets the tolerance, and the solver says so
right status    the system is not solved, and the solver's message is true and useful: an exception for what is not a
                linear system, the cause by name or in a warning, or "not converged" where the system is merely hard
misleading      the solver did not solve a solvable system, failed without naming the cause, returned NaN, changed its
                input, or returned its input
wrong success   the solver says success, but x does not solve the system
hang or crash   any other exception, a dead process, or no answer in time

After lineax's `benchmarks/gmres_fails_safely.py`.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import multiprocessing as mp
import time
import warnings
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from benchmarks import verification
from benchmarks.nasty_inputs import NastyInput, cases
from benchmarks.problems import save_results, saved_rows

VERDICTS = ("right answer", "right status", "misleading", "wrong success", "hang or crash")
SHAPES = ((20, 20), (64, 64, 64))
HINTS = ("indefinite", "definite", "singular", "symmetric", "breakdown", "nan", "inf")


@dataclasses.dataclass(frozen=True)
class Said:
    """The answer of a solver.

    Attributes
    ----------
    x, info
        The pair that it returned, or None if it raised.
    status : str
        Name of its status, if it has one.
    error : BaseException, optional
        The exception that it raised.
    hints : tuple of str
        Warnings that name a cause.
    """

    x: Any = None
    info: int | None = None
    status: str = ""
    error: BaseException | None = None
    hints: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.error is not None:
            return f"{type(self.error).__name__}: {str(self.error)[:60]}"
        return " ".join([f"info={self.info}", self.status, *(hint.strip()[:60] for hint in self.hints[:1])])


def scipy_cg(problem: NastyInput, options: dict[str, Any]) -> Any:
    from scipy.sparse.linalg import cg

    return cg(problem.A, problem.b, rtol=problem.tol, atol=problem.atol, **options)


def pyamg_cg(problem: NastyInput, options: dict[str, Any]) -> Any:
    from pyamg.krylov import cg

    return cg(problem.A, problem.b, tol=problem.tol, **options)


def pyamg_sa(problem: NastyInput, options: dict[str, Any]) -> Any:
    from pyamg import smoothed_aggregation_solver

    hierarchy = smoothed_aggregation_solver(problem.A)
    if problem.afterwards is not None:
        problem.afterwards(problem.A)
    return hierarchy.solve(problem.b, tol=problem.tol, accel="cg", return_info=True, **options)


def deepcd_solve(problem: NastyInput, options: dict[str, Any]) -> Any:
    from deepcd import DeepCD

    system = DeepCD().setup(problem.A)
    if problem.afterwards is not None:
        problem.afterwards(problem.A)
    return system.solve(problem.b, problem.tol, atol=problem.atol, **options)


def deepcd_cg(problem: NastyInput, options: dict[str, Any]) -> Any:
    from deepcd import cg

    return cg(problem.A, problem.b, rtol=problem.tol, atol=problem.atol, **options)


SOLVERS: dict[str, Callable[[NastyInput, dict[str, Any]], Any]] = {
    "scipy.cg": scipy_cg,
    "pyamg.cg": pyamg_cg,
    "pyamg SA + cg": pyamg_sa,
    "deepcd.cg": deepcd_cg,
    "DeepCD.solve": deepcd_solve,
}
WITH_SETUP = ("pyamg SA + cg", "DeepCD.solve")
WITHOUT_ATOL = ("pyamg.cg", "pyamg SA + cg")


def ask(solver: Callable[[NastyInput, dict[str, Any]], Any], problem: NastyInput, most: int) -> Said:
    """Run a solver on a problem, with warnings and exceptions caught."""
    options: dict[str, Any] = {"maxiter": most if problem.maxiter is None else problem.maxiter}
    options |= {name: value for name in ("x0", "callback") if (value := getattr(problem, name)) is not None}
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="warn"):
        warnings.simplefilter("always")
        try:
            answer = solver(problem, options)
        except (Exception, KeyboardInterrupt) as error:
            return Said(error=error)
    texts = [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)]
    hints = tuple(text for text in texts if any(hint in text.lower().split() for hint in HINTS))
    status = getattr(answer, "status", None)
    return Said(answer[0], int(answer[1]), "" if status is None else status.name, hints=hints)


def verdict(problem: NastyInput, said: Said, original: Any = None, intact: bool = True) -> str:
    """Judge the answer to a problem.

    Parameters
    ----------
    problem : NastyInput
    said : Said
    original : sparse matrix, optional
        A as it was at the setup, if it has been changed since; x may solve either of them.
    intact : bool
        Whether A, b and x0 are unchanged.
    """
    if said.error is not None:
        if problem.propagates is not None and isinstance(said.error, problem.propagates):
            return "right status"
        if isinstance(said.error, ValueError | TypeError):
            return "right status" if problem.refusal else "misleading"
        return "hang or crash"
    if said.info == 0:
        if not _solves(problem, said.x, original):
            return "wrong success"
        shared = isinstance(problem.b, np.ndarray) and np.shares_memory(said.x, problem.b)
        return "misleading" if shared or not intact else "right answer"
    x = np.asarray(said.x)
    if not (intact and problem.statuses and np.isfinite(x).all()):
        return "misleading"
    if said.status:
        return "right status" if said.status in problem.statuses else "misleading"
    if set(problem.statuses) & {"MAXITER", "ATTAINABLE_ACCURACY", "CALLBACK"}:
        return "right status"  # "not converged" is the whole truth
    return "right status" if said.hints or (said.info or 0) < 0 else "misleading"


def _solves(problem: NastyInput, x: Any, original: Any) -> bool:
    tol, atol = (0.0 if math.isnan(value) else max(value, 0.0) for value in (problem.tol, problem.atol))
    try:
        return any(verification.meets(A, problem.b, x, tol, atol) for A in (problem.A, original) if A is not None)
    except (ValueError, TypeError):  # the shapes do not fit, or there is text instead of numbers
        return False


def judge(name: str, shape: tuple[int, ...], case: str, problem: NastyInput, most: int) -> dict[str, Any]:
    """Return one row of the table."""
    inputs = (problem.b, *(() if problem.x0 is None else (problem.x0,)))
    before = verification.fingerprint(*inputs, *(() if problem.afterwards else (problem.A,)))
    original = problem.A.copy() if problem.afterwards is not None else None
    start = time.perf_counter()
    said = ask(SOLVERS[name], problem, most)
    seconds = time.perf_counter() - start
    after = verification.fingerprint(*inputs, *(() if problem.afterwards else (problem.A,)))
    if name.startswith("pyamg") and not np.any(problem.b):
        problem = dataclasses.replace(problem, atol=problem.tol)  # documented: tol is absolute where b is zero
    size = "x".join(map(str, shape))
    row = {"shape": size, "case": case, "solver": name, "said": str(said), "seconds": round(seconds, 3)}
    return row | {"verdict": verdict(problem, said, original, before == after)}


def work(name: str, connection: Connection) -> None:
    """Answer requests (shape, case, most iterations) until None comes: the body of a solver's process."""
    made: dict[tuple[int, ...], Any] = {}
    while (request := connection.recv()) is not None:
        shape, case, most = request
        if shape not in made:
            made = {shape: cases(shape)}  # only one size at a time is kept, since they are large
        problem = made[shape][case]()
        connection.send("ready")
        connection.send(judge(name, shape, case, problem, most))


class Worker:
    """A solver in a process of its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._start()

    def _start(self) -> None:
        context = mp.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(self.name, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def run(self, shape: tuple[int, ...], case: str, most: int, limit: float) -> dict[str, Any]:
        """Return the row of a case, whatever happens."""
        self._connection.send((shape, case, most))
        said = f"no answer within {limit:.0f} s"
        try:
            if self._connection.poll(300) and self._connection.recv() == "ready" and self._connection.poll(limit):
                row: dict[str, Any] = self._connection.recv()
                return row
        except (EOFError, ConnectionError):
            self._process.join()
            said = f"the process died, exit code {self._process.exitcode}"
        self._process.kill()
        self._start()
        row = {"shape": "x".join(map(str, shape)), "case": case, "solver": self.name}
        return row | {"said": said, "seconds": limit, "verdict": "hang or crash"}

    def stop(self) -> None:
        self._connection.send(None)
        self._process.join()


def applies(name: str, problem: NastyInput) -> bool:
    """Return whether a solver takes the arguments of a problem: PyAMG has no atol, and only two have a setup."""
    return not (problem.atol and name in WITHOUT_ATOL) and not (problem.afterwards and name not in WITH_SETUP)


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return the tables for the README: counts by solver and size, then each wrong success."""
    lines: list[str] = []
    for shape in dict.fromkeys(row["shape"] for row in rows):
        lines += [f"| {shape} | " + " | ".join(VERDICTS) + " |", "|---" * (len(VERDICTS) + 1) + "|"]
        for name in dict.fromkeys(row["solver"] for row in rows):
            count = Counter(row["verdict"] for row in rows if row["solver"] == name and row["shape"] == shape)
            lines.append(f"| {name} | " + " | ".join(str(count[verdict]) for verdict in VERDICTS) + " |")
        lines.append("")
    lines += ["| wrong success | at | who |", "|---|---|---|"]
    wrong: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["verdict"] == "wrong success":
            wrong.setdefault((row["case"], row["shape"]), []).append(row["solver"])
    lines += [f"| {case} | {shape} | {', '.join(names)} |" for (case, shape), names in wrong.items()]
    return "\n".join(lines)


def main() -> None:
    """Print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs="+", action="append", help="default: 20 20 and 64 64 64")
    parser.add_argument("--only", action="append", help="names of cases; default: all")
    parser.add_argument("--solver", action="append", choices=SOLVERS, help="default: all")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds that a solver may take")
    arguments = parser.parse_args()
    names = arguments.solver or list(SOLVERS)
    workers = {name: Worker(name) for name in names}
    rows: list[dict[str, Any]] = []
    for shape in [tuple(shape) for shape in arguments.shape or SHAPES]:
        most = 10 * math.prod(shape) if math.prod(shape) < 10_000 else 1_000
        for case, make in cases(shape).items():
            if arguments.only and case not in arguments.only:
                continue
            problem = make()
            print(f"\n{case}, {'x'.join(map(str, shape))}", flush=True)
            for name in names:
                if applies(name, problem):
                    row = workers[name].run(shape, case, most, arguments.limit)
                    rows.append(row)
                    print(f"  {name:14s} {row['verdict']:14s} {row['seconds']:7.2f} s  {row['said']}", flush=True)
    for worker in workers.values():
        worker.stop()
    print("\n" + markdown(rows))
    if not arguments.only:
        done = {(row["shape"], row["solver"]) for row in rows}
        rows += [row for row in saved_rows("fails_safely") if (row["shape"], row["solver"]) not in done]
        print("saved", save_results("fails_safely", rows, tolerance=1e-8, limit=arguments.limit))


if __name__ == "__main__":
    main()
