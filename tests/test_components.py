"""Components from runs, against those that SciPy finds cell by cell."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from deepcd.solvers.kernels.components import find_runs, label_runs


@pytest.mark.parametrize("fill", [0.0, 0.2, 0.35, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("shape", [(9, 8, 7), (1, 12, 5), (30, 30), (1, 40)])
def test_runs_make_the_components_that_cells_make(shape: tuple[int, ...], fill: float) -> None:
    cells = np.random.default_rng(round(100 * fill)).random(shape) < fill
    box = np.pad(cells, 1).astype(np.uint8)
    strides = tuple(math.prod(box.shape[axis + 1 :]) for axis in range(box.ndim - 1))
    starts, ends = find_runs(box.ravel())
    label = np.full(starts.size, -1, dtype=np.int32)
    count = label_runs(starts, ends, strides, label)
    wanted, components = ndimage.label(cells)
    assert count == components
    np.testing.assert_array_equal(np.repeat(label, ends - starts) + 1, wanted[cells])


def test_a_spiral_is_one_component() -> None:
    """Runs whose connection is seen late."""
    text = ["#######", "#.....#", "#.###.#", "#.#.#.#", "#.#...#", "#.#####"]
    cells = np.array([[c == "#" for c in row] for row in text])
    box = np.pad(cells, 1).astype(np.uint8)
    starts, ends = find_runs(box.ravel())
    label = np.empty(starts.size, dtype=np.int32)
    assert label_runs(starts, ends, (box.shape[1],), label) == ndimage.label(cells)[1] == 1
