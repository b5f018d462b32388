"""What holds at the ends of a box: its short forms, the numbers that finite volumes need, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deepcd.pde import Grid
from deepcd.pde.boundaries import End, ends, ends_of

DIRICHLET, NEUMANN = End("dirichlet", 1.0), End("robin", 0.0)


def test_short_forms() -> None:
    assert ends("dirichlet", 2) == ((DIRICHLET, DIRICHLET),) * 2
    assert ends(("robin", 2.0), 3) == ((End("robin", 2.0),) * 2,) * 3
    assert ends(["periodic", "neumann"], 2) == (None, (NEUMANN, NEUMANN))
    assert ends(("dirichlet", "neumann"), 2) == ((DIRICHLET, DIRICHLET), (NEUMANN, NEUMANN))
    assert ends([("dirichlet", "neumann"), (("robin", 1), "dirichlet"), ("robin", np.float64(3))], 3) == (
        (DIRICHLET, NEUMANN),
        (End("robin", 1.0), DIRICHLET),
        (End("robin", 3.0), End("robin", 3.0)),
    )


def test_walls_of_a_grid() -> None:
    cells = np.zeros((3, 4), dtype=np.uint8)
    walls = ["periodic", ("air", "solid")]
    assert ends_of(Grid(cells, walls)) == (None, (End("dirichlet", 2.0), NEUMANN))
    assert ends_of(Grid(cells, walls, air_at="face")) == (None, (DIRICHLET, NEUMANN))


def test_robin_lies_between_neumann_and_dirichlet() -> None:
    resistance = np.array([0.5, 2.0, np.inf])
    t, s = NEUMANN.exchange(resistance)
    assert (t.tolist(), s.tolist()) == ([0, 0, 0], [1, 1, 1])
    t, s = End("robin", 1e12).exchange(resistance)
    np.testing.assert_allclose(t, DIRICHLET.exchange(resistance)[0], rtol=1e-11)
    np.testing.assert_allclose(s * 1e12, DIRICHLET.exchange(resistance)[1], rtol=1e-11)
    assert DIRICHLET.exchange(resistance)[0].tolist() == [2.0, 0.5, 0.0]


@pytest.mark.parametrize(
    ("boundary", "message"),
    [
        ("noflux", r'each end is "dirichlet", "neumann" or .*got \'noflux\''),
        (["neumann", "wall"], "got 'wall'"),
        (["neumann", ("dirichlet", "periodic")], "got 'periodic'"),
        (["neumann", ("dirichlet", "neumann", "neumann")], "got .'dirichlet', 'neumann', 'neumann'"),
        (["neumann", 3], "got 3"),
        (0.0, "got 0.0"),
        (["neumann"], r"one entry per axis \(2\), got 1"),
        (["neumann"] * 3, r"one entry per axis \(2\), got 3"),
        (("robin", -1.0), r"alpha of a Robin condition must be finite and not negative, got -1.0"),
        (("robin", np.nan), "got nan"),
        (("robin", "neumann"), "got 'neumann'"),
    ],
)
def test_what_is_refused(boundary: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ends(boundary, 2)
