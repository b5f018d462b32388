"""The runs of the benchmark, each in a process of its own, whose time and memory can be limited and measured."""

from __future__ import annotations

import json
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
from deepcd.solvers.arguments import tolerance
from deepcd.solvers.bench.cases import Case
from deepcd.solvers.bench.linear_problem import PressureProblem
from deepcd.solvers.bench.memory import forget_peak, peak
from deepcd.solvers.bench.methods import METHODS, Unsuited, absent

Row = dict[str, Any]
REPEATS = 5  # most solves of one system; the medians of their seconds count
ENOUGH_SECONDS = 1.0  # a system that has been solved for so long is not solved again
MOST_POINTS = 400  # upper bound for the points of a residual curve


def check(methods: Sequence[str], tol: float) -> None:
    """Refuse unknown methods and a tolerance out of range, with a ValueError that lists the names that are known."""
    unknown = [name for name in methods if name not in METHODS]
    if unknown or not methods:
        raise ValueError(f"unknown method {', '.join(unknown) or '(none)'}; known: {', '.join(METHODS)}")
    tolerance("tol", tol)


def run(
    cases: Sequence[Case], methods: Sequence[str], tol: float, *, threads: int = 1, timeout: float = 300.0
) -> Iterator[Row]:
    """Yield a row per case and method, also for runs that fail.

    Parameters
    ----------
    cases : sequence of Case
        What to solve; see `deepcd.solvers.bench.cases`.
    methods : sequence of str
        Keys of `METHODS`.
    tol : float
        Tolerance for the true relative residual.
    threads : int, default 1
        Number of threads.
    timeout : float, default 300
        Seconds after which a run is given up. They include the assembly of the problem.

    Yields
    ------
    dict
        problem, size, method, tol, unknowns, iterations (the most of a sequence of systems), setup_s and solve_s (sums
        over the systems, of medians over repeated runs), peak_bytes (above the memory in use before), residual (true;
        the largest), status, residuals (of the first system, relative to b). Numbers that are not known are None.
    """
    check(methods, tol)
    unknown = ("unknowns", "iterations", "setup_s", "solve_s", "peak_bytes", "residual", "status", "residuals")
    for case in cases:
        for method in methods:
            row = {"problem": case.problem, "size": case.size, "method": method, "tol": tol, **dict.fromkeys(unknown)}
            if reason := absent(method):
                yield row | {"status": f"not installed: {reason}"}
            else:
                yield row | _in_child(_measure, (case, method, tol, threads), timeout)


def save(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as a JSON array, one row per line, whole or not at all; NaN and infinities become null."""
    finite = json.loads(json.dumps(list(rows)), parse_constant=lambda _: None)
    replace(path, ("[\n" + ",\n".join(map(json.dumps, finite)) + "\n]\n").encode())


def _in_child(task: Callable[..., Row], arguments: tuple[Any, ...], timeout: float) -> Row:
    """Run a task in a process of its own and return its row, or one that tells what became of the process."""
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
    """Wait until the process that started this one has ended, for any reason; then end this one and its children."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.killpg(0, signal.SIGKILL)


def _answer(connection: Connection, task: Callable[..., Row], arguments: tuple[Any, ...]) -> None:
    os.setpgrp()  # hypre and PETSc run in programs of their own, which have to end together with this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        row = task(*arguments)
    except Unsuited as error:
        row = {"status": f"left out: {error}"}
    except Exception as error:  # the benchmark reports failures as rows
        row = {"status": f"failed: {type(error).__name__}: {str(error)[:300]}"}
    connection.send(row)


def _measure(case: Case, method: str, tol: float, threads: int) -> Row:
    """Solve the systems of a case one after the other."""
    solve = METHODS[method]
    solve(case.warm_up(), tol, threads)
    total: Row = {"unknowns": 0, "iterations": 0, "setup_s": 0.0, "solve_s": 0.0, "peak_bytes": 0, "residual": 0.0}
    curve: list[float] = []
    for system in case.systems():
        if isinstance(system, PressureProblem):
            system.operator  # noqa: B018  # makes the box before measurements start
        before = forget_peak()
        answer = solve(system, tol, threads)
        grown = peak() - before if answer.peak_bytes is None else answer.peak_bytes
        times = [(answer.setup, answer.solve)]
        while len(times) < REPEATS and np.sum(times) < ENOUGH_SECONDS:
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
    """Return at most `MOST_POINTS` points, evenly spread and with the last one, rounded to three digits."""
    stride = max(1, -(-len(curve) // MOST_POINTS))
    return [float(f"{value:.3g}") for value in [*curve[: len(curve) - 1 : stride], *curve[-1:]]]
