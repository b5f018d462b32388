"""Multilinear elements and graphs of cells that touch: known matrices, symmetry, null spaces, and families of them."""

from __future__ import annotations

import numpy as np
import pytest

from deepcd import DeepCD
from deepcd.data import WIDE, random_wide
from deepcd.pde.wide_systems import all_neighbours, elements
from tests.test_wide_discovery import elements as by_tensor_products
from tests.test_wide_discovery import neighbours


@pytest.mark.parametrize(("shape", "widths"), [((4, 5), (1.0, 3.0)), ((2, 3, 4), (0.5, 1.0, 10.0))])
def test_elements_of_one_coefficient_are_tensor_products(shape: tuple[int, ...], widths: tuple[float, ...]) -> None:
    expected = by_tensor_products(tuple(size + 1 for size in shape), widths, closed=True).toarray()
    np.testing.assert_allclose(elements(np.ones(shape), widths).toarray(), expected, atol=1e-12)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 2)])
def test_elements_add_up(shape: tuple[int, ...]) -> None:
    k = np.random.default_rng(0).random(shape)
    total = np.zeros_like(elements(k).toarray())
    for element in np.ndindex(*shape):
        one = np.zeros(shape)
        one[element] = k[element]
        own = elements(one).toarray()
        assert np.linalg.matrix_rank(own) == 2 ** len(shape) - 1
        total += own
    A = elements(k).toarray()
    np.testing.assert_allclose(A, total, atol=1e-12)
    np.testing.assert_allclose(A.sum(axis=1), 0.0, atol=1e-12)


def test_graphs_of_equal_cells_count_distances() -> None:
    A = all_neighbours(np.ones((3, 4, 5))).toarray()
    assert ((A < 0) == (neighbours((3, 4, 5)).toarray() < 0)).all()
    assert sorted(set(np.round(-(A[A < 0] ** -2.0), 9))) == [-3.0, -2.0, -1.0]
    np.testing.assert_allclose(A.sum(axis=1), 0.0, atol=1e-12)
    k = np.array([[1.0, 0.0], [3.0, 2.0]])
    np.testing.assert_allclose(all_neighbours(k).toarray()[1], 0.0)
    assert all_neighbours(k)[0, 2] == -2.0


@pytest.mark.parametrize("family", WIDE)
@pytest.mark.parametrize("shape", [(60, 50), (16, 15, 14)])
def test_families_repeat_and_are_solved_on_a_grid(family: str, shape: tuple[int, ...]) -> None:
    A, again = (random_wide(family, shape, np.random.default_rng(3)) for _ in range(2))
    assert (again != A).nnz == 0
    assert abs(A - A.T).max() <= 1e-12 * abs(A).max()
    b = A @ np.random.default_rng(4).standard_normal(A.shape[0])
    solution = DeepCD().setup(A).solve(b, 1e-6)
    assert (solution.info, solution.preconditioner[-10:]) == (0, "-multigrid")
    assert solution.iterations <= 16
    assert np.linalg.norm(b - A @ solution.x) <= 1e-6 * np.linalg.norm(b)
