"""Runs of rows that repeat one another."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd.data import random_grid
from deepcd.pde import poisson
from deepcd.solvers.kernels.repeats import end_of_run, may_repeat, runs


def repeats(A: sp.csr_array, i: int, values: bool = True) -> bool:
    """Tell by definition whether row i + 1 repeats row i."""
    if i + 1 == A.shape[0]:
        return False
    (columns, entries), (others, theirs) = ((A.indices[s], A.data[s]) for s in (row_of(A, i), row_of(A, i + 1)))
    same = columns.size == others.size and (columns + 1 == others).all()
    return bool(same and {i - 1, i + 1} <= set(columns.tolist()) and (not values or (entries == theirs).all()))


def row_of(A: sp.csr_array, i: int) -> slice:
    """Return where the entries of a row are."""
    return slice(A.indptr[i], A.indptr[i + 1])


def starts_of(A: sp.csr_array) -> list[int]:
    """Return what `runs` writes."""
    starts = np.empty(A.shape[0] + 1, dtype=np.int64)
    return starts[: runs(A.indptr, A.indices, starts) + 1].tolist()


@pytest.mark.parametrize("family", ["open-top", "pure-neumann", "porous"])
@pytest.mark.parametrize("shape", [(5, 4, 70), (9, 8, 7), (30, 41)])
def test_runs_are_those_of_the_definition(family: str, shape: tuple[int, ...]) -> None:
    A = poisson(random_grid(family, shape, np.random.default_rng(3))).A
    n = A.shape[0]
    assert starts_of(A) == [i for i in range(n + 1) if i in (0, n) or not repeats(A, i - 1, values=False)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("changed", [None, 3, 11, 12, 30, 49])
def test_values_end_a_run_where_they_are_asked_for(dtype: type, changed: int | None) -> None:
    A = sp.diags_array([-1.0, -1.0, 4.0, -1.0, -1.0], offsets=[-7, -1, 0, 1, 7], shape=(60, 60), format="csr").astype(
        dtype
    )
    if changed is not None:
        A.data[A.indptr[changed] + 1] = -2
    bits = A.data.view(np.int32 if dtype is np.float32 else np.int64)
    found, i = [], 0
    while i < A.shape[0]:
        found.append(i)
        before = int(np.searchsorted(A.indices[row_of(A, i)], i))
        i = end_of_run(A.indptr, A.indices, bits, i) if may_repeat(A.indptr, A.indices, i, before) else i + 1
    assert found == [i for i in range(A.shape[0]) if i == 0 or not repeats(A, i - 1)]


def test_rows_without_coupling_between_them_are_no_run() -> None:
    A = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-5, 0, 5], shape=(20, 20), format="csr")
    assert starts_of(A) == list(range(21))


def test_nothing_is_read_behind_the_last_entry() -> None:
    A = sp.csr_array(np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))
    assert A.indptr.tolist() == [0, 2, 4, 4]
    assert not may_repeat(A.indptr, A.indices, 1, 1)
    assert not may_repeat.py_func(A.indptr, A.indices, 1, 1)  # where an index out of range is an error
    B = sp.csr_array(np.array([[1.0, 1.0], [1.0, 1.0]]))
    assert not may_repeat.py_func(B.indptr, np.append(B.indices, [7, 7]), 1, 1)  # room behind the entries
