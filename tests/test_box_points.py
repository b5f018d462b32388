"""Points of boxes: random ones inside, nodes of grids, and bounds that are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from deepcd.pde.problems import problem
from deepcd.pde.regions.sampling import as_box, in_box, tensor_grid


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_random_points_are_in_the_box_and_reproducible() -> None:
    bounds = [(0.0, 4.0), (-1.0, 1.0)]
    x = in_box(bounds, 1000, seeded(1))
    assert x.dtype == torch.float64
    np.testing.assert_allclose(x.amin(0), [0, -1], atol=0.02)
    np.testing.assert_allclose(x.amax(0), [4, 1], atol=0.02)
    assert torch.equal(x, in_box(bounds, 1000, seeded(1)))
    assert not torch.equal(x, in_box(bounds, 1000, seeded(2)))
    with pytest.raises(ValueError, match="positive number of points, got 0"):
        in_box(bounds, 0, seeded(1))


def test_a_grid_needs_nodes_for_every_axis() -> None:
    assert tensor_grid([(0, 1), (0, 2)], (3, 2))[3].tolist() == [0.5, 2]
    with pytest.raises(ValueError, match="zip"):
        tensor_grid([(0, 1), (0, 2)], (3,))


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ([[0, 1], [1, 0]], "low < high"),
        ([[0, 1], [0, np.inf]], "finite"),
        ([[0, 1], [np.nan, 1]], "finite"),
        ([0, 1], "pair per axis"),
        (np.empty((0, 2)), "pair per axis"),
    ],
)
def test_a_box_that_is_none_is_refused(bounds: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_box(bounds)


def test_bounds_of_a_problem_are_fixed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        problem("wave").bounds[0, 0] = 5
