"""An argument x that is no axis: the tuple of all coordinates but t."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deepcd.pde.equations.conditions import on
from deepcd.pde.equations.statements import Problem
from deepcd.pde.equations.text import written
from deepcd.pde.regions import box
from deepcd.pde.regions.binding import bound, coordinates

CUBE = box(a=(0, 1), b=(0, 1), c=(0, 1))


def test_functions_of_a_problem_get_the_coordinates_of_space_as_one() -> None:
    domain = box(t=(0, 1), x1=(0, 1), x2=(0, 2))
    heat = Problem(
        lambda x, u: u.t - sum(u.d(axis, axis) for axis in ("x1", "x2")) + x[1],
        domain,
        on(domain["x1-"], lambda x, u: u - len(x)),
        start=lambda x: x[0] * x[1],
        solution=lambda t, x: t + 10 * x[0] + 100 * x[1],
    )
    assert heat.title == "u_t - (u_x1x1 + u_x2x2) + x2 = 0"
    assert written(heat.values()[0]) == "t u + x1 x2"
    assert written(heat.terms[1].residuals[0]) == "t u + x1 x2 - 2"
    np.testing.assert_array_equal(heat.exact(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])), [[321, 654]])


def test_parts_are_chosen_by_all_coordinates() -> None:
    far = CUBE.where(lambda x: sum(xi**2 for xi in x) > 2)
    x, _ = far.points(100, torch.Generator().manual_seed(0))
    assert float((x**2).sum(1).min()) > 2


@pytest.mark.parametrize("axes", ["x", "tx", "xy"])
def test_an_axis_called_x_stays_one(axes: str) -> None:
    assert coordinates(axes, range(len(axes))) == {axis: k for k, axis in enumerate(axes)}


def test_a_field_called_x_stays_one() -> None:
    oscillator = Problem(lambda t, x: x.tt + x, box(t=(0, 1)), fields="x")
    motion = Problem(lambda a, x: x.aa - a, CUBE, fields="x")
    assert (oscillator.title, motion.title) == ("x_tt + x = 0", "x_aa - a = 0")


def test_time_alone_has_no_place() -> None:
    with pytest.raises(ValueError, match="the equation has an argument 'x', which is none of t, u"):
        Problem(lambda x, u: u.t - x, box(t=(0, 1)))


def test_other_names_are_refused_as_ever() -> None:
    with pytest.raises(ValueError, match="phi has an argument 'y', which is none of a, b, x"):
        bound(lambda y: y, coordinates("ab", (1, 2)), "phi")
