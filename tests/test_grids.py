"""Grids: what a cell may be, what lies beyond the walls, and what is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from deepcd.pde import Cell, Grid


@pytest.mark.parametrize("shape", [(7, 5), (1, 9), (7, 5, 3), (9, 1, 4), (1, 1, 1)])
def test_any_size_per_axis(shape: tuple[int, ...]) -> None:
    grid = Grid(np.zeros(shape, dtype=np.uint8))
    assert grid.shape == shape
    assert grid.unknowns == np.prod(shape)
    assert grid.padded().shape == tuple(n + 2 for n in shape)


def test_counts_fluid_only() -> None:
    grid = Grid([[Cell.FLUID, Cell.SOLID, Cell.AIR], [Cell.FLUID, Cell.FLUID, Cell.SOLID]])
    assert grid.unknowns == 3
    np.testing.assert_array_equal(grid.fluid, [[True, False, False], [True, True, False]])


@pytest.mark.parametrize(
    ("walls", "pairs"),
    [
        ("solid", (("solid", "solid"), ("solid", "solid"))),
        ("air", (("air", "air"), ("air", "air"))),
        (["air", "solid"], (("air", "air"), ("solid", "solid"))),
        (["air", ("solid", "air")], (("air", "air"), ("solid", "air"))),
        ((["air", "solid"], "solid"), (("air", "solid"), ("solid", "solid"))),
    ],
)
def test_walls_short_forms(walls: object, pairs: object) -> None:
    assert Grid(np.zeros((2, 3)), walls=walls).walls == pairs  # type: ignore[arg-type]


def test_padded_ring_holds_the_walls() -> None:
    cells = np.array([[0, 1, 2], [2, 0, 1]])
    padded = Grid(cells, walls=[("air", "solid"), ("solid", "air")]).padded()
    np.testing.assert_array_equal(
        padded,
        [
            [1, 2, 2, 2, 1],
            [1, 0, 1, 2, 2],
            [1, 2, 0, 1, 2],
            [1, 1, 1, 1, 1],
        ],
    )


def test_is_immutable_and_owns_its_cells() -> None:
    cells = np.zeros((3, 3), dtype=np.uint8)
    grid = Grid(cells)
    cells[0, 0] = Cell.SOLID
    assert grid.unknowns == 9
    with pytest.raises(ValueError, match="read-only"):
        grid.cells[0, 0] = Cell.SOLID
    with pytest.raises(dataclasses.FrozenInstanceError):
        grid.spacing = 2.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cells": np.zeros(4)}, r"2D or 3D.*\(4,\)"),
        ({"cells": np.zeros((2, 2, 2, 2))}, "2D or 3D"),
        ({"cells": np.zeros((0, 3))}, "non-empty"),
        ({"cells": np.full((2, 2), 3)}, "0 .fluid., 1 .solid. and 2 .air."),
        ({"cells": np.full((2, 2), np.nan)}, "0 .fluid."),
        ({"cells": np.full((2, 2), -1)}, "0 .fluid."),
        ({"spacing": 0.0}, "spacing .* got 0.0"),
        ({"spacing": np.inf}, "spacing"),
        ({"spacing": np.nan}, "spacing"),
        ({"air_at": "node"}, "air_at .* 'node'"),
        ({"walls": "water"}, "'water'"),
        ({"walls": ["solid"]}, r"one entry per axis \(2\), got 1"),
        ({"walls": ["solid", ("air", "air", "air")]}, "pair"),
        ({"walls": ["solid", ("air", "water")]}, "'water'"),
    ],
)
def test_malformed_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Grid(**{"cells": np.zeros((2, 2)), **arguments})  # type: ignore[arg-type]
