"""Matrices from practice to 1e-8: those in tests/matrices, and those that PyAMG ships."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyamg
import pytest
import scipy.sparse as sp

from deepcd import DeepCD
from deepcd.data.matrix_files import read_matrix
from deepcd.solvers.solution import Status

FOLDER = Path(__file__).parent / "matrices"
FILES = ("494_bus", "bcsstk01", "bcsstk16", "gr_30_30", "mesh1e1", "pts5ldd03")
EXAMPLES = ("airfoil", "bar", "knot", "local_disc_galerkin_diffusion", "unit_cube", "unit_square")
SINGULAR = ("unit_square",)  # the constant is in its null space

LARGE = ("bcsstk16", "local_disc_galerkin_diffusion", "bar")
NAMES = [pytest.param(name, marks=pytest.mark.compiled) if name in LARGE else name for name in FILES + EXAMPLES]


def matrix(name: str) -> sp.csr_array:
    if name in FILES:
        return read_matrix(FOLDER / f"{name}.mtx.gz")
    return sp.csr_array(pyamg.gallery.load_example(name)["A"])


def test_every_file_is_tested_and_has_its_source() -> None:
    assert {path.name.removesuffix(".mtx.gz") for path in FOLDER.glob("*.gz")} == set(FILES)
    sources = (FOLDER / "README.md").read_text()
    assert all(f"| {name} |" in sources for name in FILES)


@pytest.mark.parametrize("preconditioner", ["auto", "pyamg-sa", "pyamg-rs"])
@pytest.mark.parametrize("name", NAMES)
def test_converges_to_1e_8(name: str, preconditioner: str) -> None:
    A = matrix(name)
    n = A.shape[0]
    smooth = np.ones(n) if name not in SINGULAR else np.linspace(-1, 1, n) - np.linspace(-1, 1, n).mean()
    for b in (smooth, A @ np.random.default_rng(0).standard_normal(n)):
        solution = DeepCD(preconditioner=preconditioner, threads=1).solve(A, b, 1e-8)
        assert solution.status is Status.CONVERGED
        assert np.linalg.norm(b - A @ solution.x) <= 1e-8 * np.linalg.norm(b)
        assert solution.iterations <= 100


@pytest.mark.parametrize("name", SINGULAR)
def test_what_has_no_solution_is_named(name: str) -> None:
    A = matrix(name)
    solution = DeepCD(threads=1).solve(A, np.ones(A.shape[0]), 1e-8)
    assert solution.status is Status.INCONSISTENT
    assert solution.info != 0
