"""What a caller chooses: validated once, before any work; which preconditioners a back end offers; how many threads."""

from __future__ import annotations

import inspect
import math
import os
import time
from dataclasses import FrozenInstanceError, dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from deepcd import DeepCD, System
from deepcd.solvers.backends.host import Host
from deepcd.solvers.options import MOST_ITERATIONS, Config, Options, check_callback, usable_threads, with_options
from deepcd.solvers.recipes import ALGEBRAIC, AUTOMATIC, LEARNED, RECIPES, Recipe

from .systems import line


def options(tol: Any = None, **given: Any) -> Options:
    unset = dict.fromkeys(("rtol", "maxiter", "callback", "residuals", "timeout"))
    return Options.of(tol, **{**unset, "atol": 0.0, **given})


class TestOptions:
    def test_defaults(self) -> None:
        found = options()
        assert (found.tol, found.atol, found.maxiter, found.deadline) == (1e-6, 0.0, None, math.inf)

    def test_numbers_become_plain_ones(self) -> None:
        found = options(np.float32(0.5), atol=np.int64(2), maxiter=np.int64(3))
        assert [type(value) for value in (found.tol, found.atol, found.maxiter)] == [float, float, int]
        assert (found.tol, found.atol, found.maxiter) == (0.5, 2.0, 3)
        assert options(rtol=1e-3).tol == 1e-3

    def test_cannot_be_changed_afterwards(self) -> None:
        with pytest.raises(FrozenInstanceError):
            options().tol = -1.0  # type: ignore[misc]

    def test_the_deadline_counts_from_the_call(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("deepcd.solvers.options.time", SimpleNamespace(perf_counter=lambda: 7.0))
        assert (options().start, options().deadline) == (7.0, math.inf)
        assert options(timeout=2).deadline == 9.0

    def test_the_list_is_the_caller_s_own(self) -> None:
        history = [1.0]
        assert options(residuals=history).residuals is history
        with pytest.raises(TypeError, match="residuals must be a list to be filled, got tuple"):
            options(residuals=(1.0,))

    @pytest.mark.parametrize(
        ("given", "error", "match"),
        [
            ({"tol": 0.1, "rtol": 0.1}, TypeError, "two names for one tolerance"),
            ({"tol": 0.0}, ValueError, "^tol must be finite and positive"),
            ({"rtol": 0.0}, ValueError, "^rtol must be finite and positive"),
            ({"atol": -1.0}, ValueError, "atol must be finite and not negative"),
            ({"atol": None}, ValueError, "atol must be a real number"),
            ({"maxiter": 0}, ValueError, "maxiter must be at least 1"),
            ({"timeout": 0.0}, ValueError, "timeout must be finite and positive"),
            ({"timeout": math.inf}, ValueError, "timeout must be finite and positive"),
            ({"callback": 3}, TypeError, "callback must be callable, got 3"),
        ],
    )
    def test_what_is_malformed(self, given: dict[str, Any], error: type[Exception], match: str) -> None:
        with pytest.raises(error, match=match):
            options(**given)

    def test_the_limit_of_iterations(self) -> None:
        assert [options().iterations(n) for n in (0, 1, 7, 10**6)] == [1, 10, 70, MOST_ITERATIONS]
        assert [options(maxiter=5).iterations(n) for n in (0, 10**6)] == [5, 5]
        assert options(maxiter=10**6).iterations(1) == 10**6

    def test_callbacks(self) -> None:
        check_callback(None)
        check_callback(print)
        with pytest.raises(TypeError, match="callback must be callable, got 'print'"):
            check_callback("print")

    def test_a_solve_validates_them_once_before_it_looks_at_a(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = []
        of = Options.of

        def counted(*args: Any, **given: Any) -> Options:
            calls.append(time.perf_counter())
            return of(*args, **given)

        monkeypatch.setattr(Options, "of", counted)
        assert DeepCD("none").solve(line(4), np.ones(4)).info == 0
        assert len(calls) == 1
        with pytest.raises(ValueError, match="tol must be"):
            DeepCD("none").solve("no matrix at all", None, -1.0)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Few(Host):
    """The host, as if it could run a few preconditioners only."""

    names: tuple[str, ...] = ()

    def runs(self, recipe: Recipe) -> bool:
        return recipe.name in self.names


def config(*names: str, recipe: str | None = None) -> Config:
    return Config(None if recipe is None else RECIPES[recipe], None, 1, None, Few(names))


class TestConfig:
    def test_auto_is_what_the_back_end_runs_of_it(self) -> None:
        assert config("jacobi", "learned-multigrid", ALGEBRAIC.name).candidates == (LEARNED, ALGEBRAIC)
        assert config("jacobi").candidates == ()
        assert Config(None, None, 1, None, Host()).candidates == AUTOMATIC

    def test_a_recipe_that_was_named_is_the_only_candidate(self) -> None:
        assert config(ALGEBRAIC.name, recipe="jacobi").candidates == (RECIPES["jacobi"],)

    @pytest.mark.parametrize(
        ("names", "recipe", "expected"),
        [
            (("learned-multigrid",), None, False),
            (("learned-multigrid", "direct"), None, True),
            (("learned-multigrid", "jacobi"), None, False),  # which "auto" does not choose
            (("learned-multigrid", "direct"), "geometric-multigrid", False),
            ((), "jacobi", True),
        ],
    )
    def test_takes_any_matrix(self, names: tuple[str, ...], recipe: str | None, expected: bool) -> None:
        assert config(*names, recipe=recipe).takes_any_matrix is expected

    def test_what_takes_any_matrix_is_named(self) -> None:
        assert config("learned-multigrid", ALGEBRAIC.name).any_matrix == "auto"
        assert config("learned-multigrid", "jacobi", "none").any_matrix == "none"
        assert config("learned-multigrid", "deflation", "jacobi").any_matrix == "jacobi"
        assert Config(RECIPES["dcdm"], None, 1, None, Host()).any_matrix == "auto"

    def test_a_matrix_without_a_grid_is_told_of_it(self) -> None:
        from deepcd.solvers.structure import analyse

        with pytest.raises(ValueError, match='preconditioner="jacobi" takes any A'):
            analyse(line(4) @ line(4), config("learned-multigrid", "jacobi"))


class TestDocstrings:
    @pytest.mark.parametrize("method", [DeepCD.solve, System.solve])
    def test_are_completed(self, method: Any) -> None:
        text = inspect.getdoc(method)
        assert text is not None
        assert "{" not in text.replace("{ ", "")
        head, rest = text.split("Parameters\n----------\n")
        lines = rest.split("Returns\n-------\n")[0].splitlines()
        entries = [line for line in lines if line and not line.startswith(" ")]
        named = [name for entry in entries for name in entry.split(" : ")[0].split(", ")]
        assert named == _as_documented(method)
        assert all(line.startswith("    ") for line in lines if line and line not in entries)
        assert head.startswith("Solve A x = b")

    def test_only_the_place_that_is_meant_is_filled(self) -> None:
        def method() -> None:
            """Before {options} after {other}."""

        assert with_options(method) is method
        assert method.__doc__ is not None
        assert method.__doc__.startswith("Before b : array_like")
        assert method.__doc__.endswith("after {other}.")

        def silent() -> None:
            pass

        assert with_options(silent).__doc__ is None


def _as_documented(method: Any) -> list[str]:
    """Return the names of the parameters, those of the options in their order, then the others."""
    shared = ["b", "tol", "rtol", "x0", "atol", "maxiter", "callback", "residuals"]
    names = [name for name in inspect.signature(method).parameters if name != "self"]
    return [*(["A"] if "A" in names else []), *shared, *(name for name in names if name not in ("A", *shared))]


class TestThreads:
    def test_the_environment_decides(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        assert usable_threads() == 3
        assert DeepCD().config.threads == 3
        assert DeepCD(threads=2).config.threads == 2

    @pytest.mark.parametrize("value", [None, "", "0", "-2", "two", "1.5", "²"])
    def test_otherwise_the_cores_of_this_process(self, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
        if value is None:
            monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        else:
            monkeypatch.setenv("OMP_NUM_THREADS", value)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 4, 5}, raising=False)
        assert usable_threads() == 3
        monkeypatch.delattr(os, "sched_getaffinity")
        monkeypatch.setattr(os, "cpu_count", lambda: 6)
        assert usable_threads() == 6
        monkeypatch.setattr(os, "cpu_count", lambda: None)
        assert usable_threads() == 1
