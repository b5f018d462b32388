"""Solids: what is open beside them, whole cells and cut ones together, and velocities that go on inside of them."""

from __future__ import annotations

import numpy as np
import pytest

from deepcd.pde import Cell, Grid, Shape, ball, box, domain, fractions, half_space
from deepcd.pde.mac import face_shapes
from deepcd.pde.solids import LEAST, Solids, corner_distance, nearer

BOX = Grid(np.zeros((9, 8)))


def test_whole_cells_stay_whole_beside_cut_ones() -> None:
    grid = domain((9, 8), solid=box((0, 0), (2, 3)))
    solids = Solids(grid, corner_distance(ball((6.2, 4.1), 1.8), grid))
    cut = fractions(ball((6.2, 4.1), 1.8), (9, 8))
    np.testing.assert_array_equal(solids.volume[:2, :3], 0.0)
    np.testing.assert_array_equal(solids.volume[3:], cut.volume[3:])
    slopes = solids.slopes()
    assert slopes[0][2, :4].tolist() == [0, 0, 0, 1]
    assert slopes[1][:3, 3].tolist() == [0, 0, 1]
    assert set(np.unique(slopes[0][[0, -1]])) == {0.0}
    held = solids.held(tuple(np.ones(shape) for shape in face_shapes(grid)))
    assert held[0][2, :4].tolist() == [0, 0, 0, 1]
    assert np.equal(solids.grid.cells, Cell.SOLID).sum() == 6 + (cut.volume == 0).sum()


def test_slivers_are_closed() -> None:
    """Along the floor nothing flows through a thousandth of a cell; from above it is a cell with one face."""
    floor = half_space((0.0, 2 - 0.5 * LEAST), (0.0, 1.0))
    solids = Solids(BOX, corner_distance(floor, BOX))
    assert np.equal(solids.grid.cells, Cell.SOLID)[0].tolist() == [True] + [False] * 7
    assert (solids.opened[0][:, 1] == 0).all()
    assert (solids.opened[0][:, 2] == 1).all()
    assert np.diff(solids.system().A.indptr).min() == 2


@pytest.mark.parametrize("shape", [None, Shape(lambda x: x[0] < 3)])
def test_what_has_no_distance_cuts_nothing(shape: Shape | None) -> None:
    assert corner_distance(shape, BOX) is None


def test_the_same_solids() -> None:
    none = np.zeros((9, 8), dtype=bool)
    distance = corner_distance(ball((4, 4), 2), BOX)
    solids = Solids(BOX, distance)
    assert solids.same(corner_distance(ball((4, 4), 2), BOX), none)
    assert not solids.same(corner_distance(ball((4, 4.01), 2), BOX), none)
    assert not solids.same(None, none)
    assert not solids.same(distance, ~none)
    assert Solids(BOX).same(None, none)
    assert not Solids(BOX).same(distance, none)


@pytest.mark.parametrize("normal", [(0.6, 0.8), (0.0, 1.0), (-1.0, 0.4)])
@pytest.mark.parametrize("moving", [False, True])
def test_a_stream_goes_on_along_the_wall(normal: tuple[float, float], moving: bool) -> None:
    """What would enter a solid is taken out, relative to its own motion; what runs along it stays."""
    unit = np.array(normal) / np.hypot(*normal)
    wall = half_space((4.6, 3.9), normal)
    own = np.array([0.2, -0.5]) if moving else np.zeros(2)
    motion = tuple(np.full(shape, v) for shape, v in zip(face_shapes(BOX), own, strict=True)) if moving else None
    solids = Solids(BOX, corner_distance(wall, BOX), motion)
    stream = np.array([0.7, 0.3])
    flow = tuple(np.full(shape, v) for shape, v in zip(face_shapes(BOX), stream, strict=True))
    result = solids.continued(flow, solids.grid, 20)
    inside = stream - unit * (unit @ (stream - own))
    for component, opened, before, after in zip(result, solids.opened, stream, inside, strict=True):
        np.testing.assert_allclose(component[opened > 0], before, rtol=0, atol=1e-14)
        np.testing.assert_allclose(component[opened == 0], after, rtol=0, atol=1e-12)


def test_of_two_solids_a_face_moves_with_the_nearer_one() -> None:
    one, other = (corner_distance(ball(c, 1.5), BOX) for c in ((2, 4), (7, 4)))
    assert one is not None
    assert other is not None
    assert nearer(one, other, 0)[:, 4].tolist() == [True] * 5 + [False] * 5
    assert nearer(other, one, 1)[:, 4].tolist() == [False] * 4 + [False] + [True] * 4


def test_a_level_set_sees_two_layers_into_a_cut_solid_and_none_into_whole_cells() -> None:
    solids = Solids(BOX, corner_distance(half_space((0.0, 4.5), (0.0, 1.0)), BOX))
    assert solids.buried[0].tolist() == [True, True] + [False] * 6
    assert [layer[0].tolist().index(True) for layer in solids.layers] == [3, 2]
    whole = Solids(domain((9, 8), solid=box((0, 0), (9, 4))))
    assert whole.buried[0].tolist() == [True] * 4 + [False] * 4
    assert whole.layers == []
