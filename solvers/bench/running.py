"""One run of the benchmark after the other, each in a process of its own, which can be timed out and weighed."""

from __future__ import annotations

import json
import logging
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from deepcd.data.files import replace
from deepcd.solvers.arguments import count, tolerance
from deepcd.solvers.bench.memory import forget_peak, peak
from deepcd.solvers.bench.methods import METHODS, absent
from deepcd.solvers.bench.problems import PROBLEMS

LOG = logging.getLogger("deepcd")
Row = dict[str, Any]
WARM = 16  # cells per edge of what is solved first, so that nothing is compiled or imported while the clock runs
REPEATS, ENOUGH = 5, 1.0  # a system is solved so often, or for so many seconds: the medians count
MOST_POINTS = 400  # of a residual curve that is kept


def check(problems: Sequence[str], sizes: Sequence[int], methods: Sequence[str], tol: float) -> None:
    """Refuse what cannot be run, with a ValueError that lists what can."""
    for kind, names, known in (("problem", problems, PROBLEMS), ("method", methods, METHODS)):
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            raise ValueError(f"unknown {kind} {', '.join(unknown) or '(none)'}; known: {', '.join(known)}")
    if not sizes:
        raise ValueError("give at least one size, in cells per edge")
    for size in sizes:
        count("size", size, least=8)
    tolerance("tol", tol)


def run(
    problems: Sequence[str],
    sizes: Sequence[int],
    methods: Sequence[str],
    tol: float,
    *,
    threads: int = 1,
    timeout: float = 300.0,
) -> Iterator[Row]:
    """Yield a row per problem, size and method, failures included.

    Parameters
    ----------
    problems, methods : sequence of str
        Keys of `PROBLEMS` and `METHODS`.
    sizes : sequence of int
        Cells per edge, at least 8.
    tol : float
        Of the true relative residual.
    threads : int, default 1
    timeout : float, default 300
        Seconds after which a run is given up, assembly of the problem included.

    Yields
    ------
    dict
        problem, size, method, tol, unknowns, iterations (of a sequence of systems the most), setup_s, solve_s (sums,
        each system with the median of its runs), peak_bytes (above what was there before), residual (true; the
        largest), status, residuals (of the first system, relative to b). Where there is no number it is None.
    """
    check(problems, sizes, methods, tol)
    for problem in problems:
        for size in sizes:
            for method in methods:
                row: Row = dict.fromkeys(
                    ("problem", "size", "method", "tol", "unknowns", "iterations", "setup_s", "solve_s", "peak_bytes",
                     "residual", "status", "residuals")
                )  # fmt: skip
                row |= {"problem": problem, "size": size, "method": method, "tol": tol}
                reason = absent(method)
                if reason:
                    yield row | {"status": f"not installed: {reason}"}
                else:
                    yield row | _in_child(_measure, (problem, size, method, tol, threads), timeout)


def save(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as a JSON array, whole or not at all."""
    finite = json.loads(json.dumps(list(rows)), parse_constant=lambda _: None)
    replace(path, (json.dumps(finite, indent=1, allow_nan=False) + "\n").encode())


def _in_child(task: Callable[..., Row], arguments: tuple[Any, ...], timeout: float) -> Row:
    """Run a task in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(theirs, task, arguments), daemon=True)
    child.start()
    assert child.pid is not None
    theirs.close()
    try:
        if not ours.poll(timeout):
            return {"status": f"timeout after {timeout:g} s"}
        return dict(ours.recv())
    except EOFError:
        child.join()
        return {"status": f"died with exit code {child.exitcode}: out of memory?"}
    finally:
        with suppress(ProcessLookupError):  # there is no group yet, or no longer
            os.killpg(child.pid, signal.SIGKILL)
        child.kill()
        child.join()


def _end_with_parent() -> None:
    """End this process, and those that it started, when the one that started it has ended, however that came about."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.killpg(0, signal.SIGKILL)


def _answer(connection: Connection, task: Callable[..., Row], arguments: tuple[Any, ...]) -> None:
    os.setpgrp()  # hypre and PETSc run in programs of their own, which have to end when this one is ended
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        row = task(*arguments)
    except Exception as error:  # a row that says so is what the benchmark is for
        row = {"status": f"failed: {type(error).__name__}: {str(error)[:300]}"}
    connection.send(row)


def _measure(problem: str, size: int, method: str, tol: float, threads: int) -> Row:
    """Solve the systems of a problem one after the other."""
    solve = METHODS[method]
    for warm in PROBLEMS[problem](WARM):
        solve(warm, tol, threads)
        break
    total: Row = {"unknowns": 0, "iterations": 0, "setup_s": 0.0, "solve_s": 0.0, "peak_bytes": 0, "residual": 0.0}
    curve: list[float] = []
    for system in PROBLEMS[problem](size):
        system.operator  # noqa: B018  # the box is there before the clock starts
        before = forget_peak()
        answer = solve(system, tol, threads)
        grown = peak() - before if answer.peak_bytes is None else answer.peak_bytes
        times = [(answer.setup, answer.solve)]
        while len(times) < REPEATS and np.sum(times) < ENOUGH:
            again = solve(system, tol, threads)
            times.append((again.setup, again.solve))
        setup, iterating = np.median(times, axis=0)
        residual = system.judge(answer.x)
        curve = curve or _thinned(answer.residuals)
        total["unknowns"] = max(total["unknowns"], len(system.b))
        total["iterations"] = max(total["iterations"], answer.iterations)
        total["setup_s"] += float(setup)
        total["solve_s"] += float(iterating)
        total["peak_bytes"] = max(total["peak_bytes"], grown)
        total["residual"] = max(total["residual"], residual if math.isfinite(residual) else math.inf)
    status = "converged" if total["residual"] <= tol else "not converged"
    return {**total, "status": status, "residuals": curve}


def _thinned(curve: Sequence[float]) -> list[float]:
    """Return at most so many of the points, evenly spread, the last among them; three digits each."""
    stride = max(1, -(-len(curve) // MOST_POINTS))
    return [float(f"{value:.3g}") for value in [*curve[: len(curve) - 1 : stride], *curve[-1:]]]
