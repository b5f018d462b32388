"""A preconditioner of one vector on several that interleave."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd.solvers.preconditioners.algebraic_multigrid import AlgebraicMultigrid
from deepcd.solvers.preconditioners.by_columns import ByColumns
from deepcd.solvers.preconditioners.identity import Identity


@pytest.mark.parametrize("k", [1, 3])
def test_each_column_is_what_the_preconditioner_makes_of_it(k: int) -> None:
    A = sp.diags_array([-1.0, 2.5, -1.0], offsets=[-1, 0, 1], shape=(200, 200), format="csr")
    M = AlgebraicMultigrid(A)
    together = ByColumns(M, k)
    r, q = np.random.default_rng(0).standard_normal((2, 200, k))
    z = together.zeros()
    products = together.apply(r.ravel(), q.ravel(), z)
    for j in range(k):
        own = M.zeros()
        M.apply(r[:, j].copy(), q[:, j].copy(), own)
        np.testing.assert_allclose(z.reshape(200, k)[:, j], own, rtol=1e-6)
    np.testing.assert_allclose(products, [r.ravel() @ z, q.ravel() @ z], rtol=1e-6)


def test_it_is_described_as_what_it_applies() -> None:
    M = Identity(5)
    together = ByColumns(M, 2)
    assert (together.name, together.symmetric, together.work, str(together)) == ("none", True, 1.0, str(M))


def test_an_application_allocates_no_vector() -> None:
    together = ByColumns(Identity(10_000), 4)
    r, z = np.ones(40_000), together.zeros()
    together.apply(r, r, z)
    tracemalloc.start()
    together.apply(r, r, z)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000
