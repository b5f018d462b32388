"""Is a success ever wrong, or a status untrue? A thousand random systems, each answer verified independently.

    python -m benchmarks.soak                             systems 0 .. 999, under ten minutes on one core
    python -m benchmarks.soak --first 417 --count 1       one of them again, alone

The systems come from `random_systems.py`, where their truth is known by construction. The requirements on DeepCD.solve
and deepcd.cg are:

- ``info == 0`` only with an x that meets the tolerance (`verification.py`): the exit status is 1 if one does not;
- a solvable system whose tolerance rounding allows is solved, unless the limit of iterations was small;
- every other ending has a status that is true of that very system;
- the residual reported is that of x, x is no worse than the start, and the input is left as it was.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import verification
from benchmarks.problems import save_results
from benchmarks.random_systems import RandomSystem, draw

Solver = Callable[[RandomSystem], Any]

SLOW = 60.0  # seconds above which a solve counts as a failure
TRUE = {  # statuses, besides convergence, that are true of a system, by its truth
    "negative": {"INDEFINITE_MATRIX"},
    "inconsistent": {"INCONSISTENT"},
    "indefinite": {"INDEFINITE_MATRIX"},
    "nonsymmetric": {"NONSYMMETRIC"},
    "empty row": {"ZERO_DIAGONAL", "INCONSISTENT"},
}
# Plain conjugate gradients do not probe A, so their statuses may say less than the whole truth.
TRUE_OF_CG = {truth: {"BREAKDOWN", "MAXITER"} for truth in ("nonsymmetric", "inconsistent", "empty row")}


def front_door(system: RandomSystem) -> Any:
    from deepcd import DeepCD

    return DeepCD(system.preconditioner, threads=1).solve(system.A, system.b, system.tol, **system.options)


def plain_cg(system: RandomSystem) -> Any:
    from deepcd import cg

    # DeepCD.solve's own limit is used, because 10 n iterations take minutes for n = 15,000.
    options = {"maxiter": min(10 * system.A.shape[0], 10_000)} | system.options
    return cg(system.A, system.b, rtol=system.tol, **options)


SOLVERS: dict[str, Solver] = {"DeepCD.solve": front_door, "deepcd.cg": plain_cg}


def attainable(system: RandomSystem, x: Any) -> float:
    """Return the residual that rounding may leave, with x and the entries of A rounded to their own precision."""
    eps = float(np.finfo(np.float32 if np.asarray(x).dtype == np.float32 else np.float64).eps)
    return 1e3 * verification.rounding_level(system.A, system.b, x, eps)


def hard_for_cg(system: RandomSystem) -> bool:
    """Return whether plain conjugate gradients may need more than a third of their 10 n iterations."""
    n = system.A.shape[0]
    if n > 400:
        return True
    matrix = verification.plain(system.A)
    values = np.linalg.eigvalsh(matrix.toarray() / max(np.abs(matrix.data).max(initial=0), 1e-300))
    positive = values[values > 1e-13 * values[-1]]
    return not len(positive) or bool(np.sqrt(positive[-1] / positive[0]) * np.log(2e3 / system.tol) > 3 * n)


def judge(system: RandomSystem, name: str, solver: Solver) -> tuple[str, str]:
    """Solve a system; return the name of the answer's fault, empty if there is none, and the answer as text."""
    given = [system.A, system.b, *(value for key, value in system.options.items() if key == "x0")]
    before = verification.fingerprint(*given)
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            answer = solver(system)
    except Exception as error:
        return f"raised {type(error).__name__}", traceback.format_exc(limit=-2)
    seconds = time.perf_counter() - start
    said = f"{answer.status.name}, info={answer.info}, {len(answer.residuals) - 1} iterations, {seconds:.2f} s"
    if answer.detail:
        said += f", {answer.detail}"
    if verification.fingerprint(*given) != before:
        return "input changed", said
    if any(isinstance(value, np.ndarray) and np.shares_memory(answer.x, value) for value in given):
        return "input returned", said
    x, b = np.asarray(answer.x), np.asarray(system.b)
    if x.shape not in (b.shape, b.shape[: 1 if b.size == len(b) else 2]):
        return "x is of the wrong shape", said
    if not np.isfinite(x).all():
        return "wrong success" if answer.info == 0 else "x is not finite", said
    atol = system.options.get("atol", 0.0)
    if (answer.info == 0) != (answer.status.name == "CONVERGED"):
        return "info and status disagree", said
    if answer.info == 0 and not verification.meets(system.A, b, x, system.tol, atol):
        true, bound = verification.residual_norms(system.A, b, x), verification.targets(b, system.tol, atol)
        return "wrong success", f"{said}, residual {true} for {bound}"
    if seconds > SLOW:
        return "slow", said
    if wrong := _reported(system, answer):
        return wrong, said
    if answer.info == 0 or answer.status.name in _true_statuses(system, name, answer, atol):
        return "", said
    return f"{answer.status.name} is not true", said


def _true_statuses(system: RandomSystem, name: str, answer: Any, atol: float) -> set[str]:
    true = set(TRUE.get(system.truth, set()))
    if name == "deepcd.cg":
        true |= TRUE_OF_CG.get(system.truth, set())
    if system.truth == "nonsymmetric":
        matrix = verification.plain(system.A)  # beyond 400 unknowns, p.Ap <= 0 has to be believed
        if system.A.shape[0] > 400 or np.linalg.eigvalsh((matrix + matrix.T).toarray())[0] <= 0:
            true.add("INDEFINITE_MATRIX")
    if (verification.plain(system.A).diagonal() == 0).any():
        true.add("ZERO_DIAGONAL")
    target = float(verification.targets(system.b, system.tol, atol).min())
    if system.truth in ("solvable", "negative"):
        rounding = attainable(system, answer.x)
        if target <= rounding and float(verification.residual_norms(system.A, system.b, answer.x).max()) <= rounding:
            true.add("ATTAINABLE_ACCURACY")
    unaided = name == "deepcd.cg" or system.preconditioner == "none"
    if "maxiter" in system.options or (unaided and hard_for_cg(system)):
        true.add("MAXITER")
    return true


def _reported(system: RandomSystem, answer: Any) -> str:
    """Compare the residuals that the solver reports with the true ones; return the name of a fault or nothing."""
    if np.ndim(system.b) > 1:
        return ""  # the reported residuals are those of all columns together
    true = float(verification.residual_norms(system.A, system.b, answer.x)[0])
    level = attainable(system, answer.x)
    # Without convergence the solver returns its best iterate, so its residual is the last one or the smallest one.
    reported = np.array([answer.residuals[-1], min(answer.residuals)])[: 1 if answer.info == 0 else 2]
    if not (np.abs(reported - true) <= 1e-3 * true + level).any():
        return "reports a residual that is not that of x"
    first = float(verification.norms(system.b)[0])
    if "x0" in system.options:
        first = float(verification.residual_norms(system.A, system.b, system.options["x0"])[0])
    if true > first * (1 + 1e-6) + level:
        return "x is worse than the start"
    return ""


def soak(first: int, count: int, solvers: dict[str, Solver], progress: Any = sys.stderr) -> list[dict[str, Any]]:
    """Solve systems first .. first + count - 1 with every solver and return a row for each answer."""
    rows: list[dict[str, Any]] = []
    start = time.perf_counter()
    for seed in range(first, first + count):
        system = draw(seed)
        for name, solver in solvers.items():
            if name == "deepcd.cg" and np.ndim(system.b) > 1 and np.shape(system.b)[1] > 1:
                continue  # SciPy's signature is for one right-hand side
            failure, said = judge(system, name, solver)
            rows.append({"seed": seed, "solver": name, "truth": system.truth, "failure": failure, "said": said})
            if failure:
                print(f"\r{name}: {failure}\n    {system}\n    {said}", file=progress)
        failures = sum(bool(row["failure"]) for row in rows)
        seconds = time.perf_counter() - start
        print(f"\r{seed - first + 1} of {count} systems, {failures} failures, {seconds:.0f} s", end="", file=progress)
        progress.flush()
    print(file=progress)
    return rows


def main() -> None:
    """Print and save the counts; exit with 1 on any wrong success."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0, help="seed of the first system")
    parser.add_argument("--count", type=int, default=1000, help="how many")
    parser.add_argument("--solver", action="append", choices=SOLVERS, help="default: both")
    arguments = parser.parse_args()
    chosen = {name: SOLVERS[name] for name in arguments.solver or SOLVERS}
    rows = soak(arguments.first, arguments.count, chosen)
    for name in chosen:
        answers = [row for row in rows if row["solver"] == name]
        endings = Counter(row["said"].split(",")[0] for row in answers if not row["failure"])
        print(f"{name}: {len(answers)} systems,", ", ".join(f"{n} {ending}" for ending, n in endings.most_common()))
        for failure, n in Counter(row["failure"] for row in answers if row["failure"]).most_common():
            seeds = [str(row["seed"]) for row in answers if row["failure"] == failure]
            print(f"    {n} {failure}: systems {' '.join(seeds[:20])}{' ...' if n > 20 else ''}")
    if arguments.count >= 1000:
        print("saved", save_results("soak", rows, first=arguments.first, count=arguments.count))
    sys.exit(any(row["failure"] == "wrong success" for row in rows))


if __name__ == "__main__":
    main()
