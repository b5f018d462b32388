"""The systems of the benchmark of "auto": each is what its name says, at any size."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.auto_systems import ENTRIES, NamedSystem, systems

ONE_OF_EACH = list({system.generator: system for system in systems()}.values())
FEW = 200


def test_names_are_unique_and_sizes_go_from_100_to_a_million() -> None:
    found = systems()
    assert len({system.name for system in found}) == len(found) >= 66
    assert (found[0].size, found[-1].size) == (100, 1_000_000)
    assert len(ONE_OF_EACH) == len(ENTRIES)


@pytest.mark.parametrize("system", ONE_OF_EACH, ids=lambda system: system.name)
def test_is_symmetric_semidefinite_and_has_a_solution(system: NamedSystem) -> None:
    A, b, tol = system(FEW)
    n = A.shape[0]
    assert A.shape == (n, n)
    assert b.shape == (n,)
    assert A.dtype == b.dtype == np.float64
    assert A.indices.dtype == A.indptr.dtype == np.int32
    assert 0 < tol <= 1e-6
    if system.kind == "practice":
        assert n == system.size
    else:
        assert 0.4 * FEW <= n <= 3.5 * FEW  # of few cells, the rounding of the sides is coarse
    if n > 1000:
        assert abs(A - A.T).max() <= 1e-12 * abs(A).max()
        return
    dense = A.toarray()
    if system.name.startswith("left in columns"):  # symmetric but for the rows of the identity
        alone = np.diff(A.indptr) == 1
        dense[:, alone] = dense[alone] = 0
        dense[alone, alone] = 1
    assert np.abs(dense - dense.T).max() <= 1e-11 * np.abs(dense).max()
    values, vectors = np.linalg.eigh(dense)
    assert values[0] >= -1e-14 * n * values[-1]
    singular = np.abs(A @ np.ones(n)).max() <= 1e-12 * np.abs(A.data).max()
    assert singular == (values[0] <= 1e-13 * values[-1])
    if singular:
        assert values[1] > 1e-10 * values[-1]
        assert abs(vectors[:, 0] @ b) <= 1e-12 * np.linalg.norm(b)


def test_a_seed_draws_the_same_and_another_one_another() -> None:
    first, again, other = (systems(seed)[-1](FEW) for seed in (0, 0, 1))
    assert (first[0] != again[0]).nnz == 0
    assert np.array_equal(first[1], again[1])
    assert first[1].shape != other[1].shape or not np.array_equal(first[1], other[1])
