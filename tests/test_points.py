"""Points of the rows of a matrix, as callers give them: what is taken, and what is refused with which words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deepcd import DeepCD
from deepcd.solvers.points import as_points, is_of_simplices

from .meshes import mesh


def test_points_of_any_kind_of_number_are_taken() -> None:
    rows = [[0, 1], [2, 3], [4, 5]]
    for given in (rows, np.array(rows, dtype=np.float32), np.asfortranarray(rows)):
        points = as_points(given, 3)
        assert points.dtype == np.float64
        assert points.flags.c_contiguous
        np.testing.assert_array_equal(points, rows)


@pytest.mark.parametrize(
    ("points", "error", "words"),
    [
        (np.zeros((4, 2)), ValueError, r"shape \(6, 2\) or \(6, 3\), a row for each row of A, got \(4, 2\)$"),
        (np.zeros(6), ValueError, r"got \(6,\)"),
        (np.zeros((6, 1)), ValueError, r"got \(6, 1\)"),
        (np.zeros((6, 4)), ValueError, r"got \(6, 4\)"),
        (np.zeros((2, 6)), ValueError, "give points.T"),
        (np.zeros((3, 3)), ValueError, "2 unknowns for each node.*rigid_body_modes"),
        (np.array([[0.0, 1.0]] * 5 + [[2.0, np.nan]]), ValueError, r"finite, got nan at points\[5, 1\]"),
        (np.zeros((6, 2), dtype=complex), TypeError, "points must be real"),
        ([["a", "b"]] * 6, TypeError, "points"),
        (None, None, ""),
    ],
)
def test_what_is_refused(points: Any, error: type[Exception] | None, words: str) -> None:
    A = np.diag(np.full(6, 2.0)) - np.diag(np.ones(5), 1) - np.diag(np.ones(5), -1)
    if error is None:
        assert DeepCD.solve(A, np.ones(6), points=points).info == 0
        return
    with pytest.raises(error, match=words):
        DeepCD.solve(A, np.ones(6), points=points)
    with pytest.raises(error, match=words):
        DeepCD().setup(A, points=points)


def test_lengths_of_rows_tell_simplices_from_grids() -> None:
    from deepcd.pde import domain, poisson

    A, points = mesh(30)
    assert is_of_simplices(A, points)
    A, points = mesh(8, 3)
    assert is_of_simplices(A, points)
    for shape in ((30, 30), (10, 10, 10)):
        A = poisson(domain(shape, walls="air")).A
        assert not is_of_simplices(A, np.argwhere(np.ones(shape)).astype(float))
