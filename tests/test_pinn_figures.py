"""Pictures of runs: panels for what is known, nothing outside the domain, and curves along one axis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from deepcd import pinn
from deepcd.solvers.pinn import figures

SMALL: dict[str, Any] = {"steps": 2, "period": 1, "turn": 1, "points": 60, "width": 6, "depth": 1, "sampler": "sobol"}
SQUARE = pinn.box(x=(0, 1), y=(0, 1))
L = pinn.polygon((0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2))


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "SIDE", 21)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are written, in their order: solution, history and samples."""
    found: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, target: Any, **options: Any) -> None:
        found.append(figure)
        save(figure, target, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return found


def panels(figure: Figure) -> dict[str, Axes]:
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}


def words(figure: Figure) -> str:
    return figure.get_suptitle()


def test_without_a_solution_the_residual_is_shown(drawn: list[Figure], tmp_path: Path) -> None:
    problem = pinn.Problem(
        lambda t, x, u: u.t + u * u.x - 0.1 * u.xx, pinn.box(t=(0, 1), x=(-1, 1), periodic="x"), start=lambda x: -x
    )
    run = pinn.solve(problem, **SMALL)
    written = figures.draw(tmp_path, run)
    assert [path.name for path in written] == ["solution.png", "history.png", "samples.png", "samples.gif"]
    for path in written:
        with Image.open(path) as image:
            assert np.ptp(np.asarray(image.convert("L"))) > 100
    solution, history, samples = drawn[:3]
    assert set(panels(solution)) == {"u", "size of the residual"}
    assert "u_t + u u_x - 0.1 u_xx = 0" in words(solution)
    assert "residual" in words(solution)
    assert panels(solution)["u"].get_aspect() == "auto"
    assert "2 steps" in words(history)
    (axes,) = history.axes
    labels = [str(line.get_label()) for line in axes.lines]
    assert labels == ["loss", "loss on held-out points", "mean r², uniform points", "largest r² there"]
    assert np.asarray(axes.lines[0].get_xdata()).tolist() == [row["seconds"] for row in run.history]
    assert set(panels(samples)) == {"round 1", "round 2"}


def test_several_fields_have_rows_and_errors(drawn: list[Figure], tmp_path: Path) -> None:
    run = pinn.solve(
        lambda x, y, u, v: [u.x - v.y, u.y + v.x],
        SQUARE,
        pinn.on(SQUARE.boundary, lambda x, y, u, v: [u - x, v - y]),
        fields="uv",
        solution=lambda x, y: [x, y],
        **SMALL,
    )
    figures.draw(tmp_path, run)
    assert set(panels(drawn[0])) == {"u", "v", "error of u", "error of v", "size of the residual"}
    assert "relative l2" in words(drawn[0])
    assert "error" in [line.get_label() for line in drawn[1].axes[0].lines]


def test_at_most_three_fields_are_drawn(drawn: list[Figure], tmp_path: Path) -> None:
    run = pinn.solve(
        lambda x, y, a, b, c, d: [a.x - b, b.y - c, c - d, d - a.y], SQUARE, fields="abcd", **SMALL | {"sampler": "aas"}
    )
    figures.draw(tmp_path, run)
    assert set(panels(drawn[0])) == {"a", "b", "c", "size of the residual", "density of the points, uniform = 1"}


def test_what_is_outside_stays_white(drawn: list[Figure], tmp_path: Path) -> None:
    run = pinn.solve(lambda x, y, u: u.xx + u.yy + 1, L, pinn.on(L.boundary, lambda u: u), **SMALL)
    figures.draw(tmp_path, run)
    for axes in panels(drawn[0]).values():
        mask = np.ma.getmaskarray(np.ma.asarray(axes.images[0].get_array()))
        assert axes.get_aspect() == 1
        assert mask[12:, 12:].all()
        assert not mask[:10].any()
        assert not mask[:, :10].any()


def test_with_time_and_a_plane_the_last_time_is_shown(drawn: list[Figure], tmp_path: Path) -> None:
    domain = pinn.box(t=(0, 3)) * L
    run = pinn.solve(lambda t, x, y, u: u.t - u.xx - u.yy, domain, start=lambda x, y: x * y, **SMALL)
    figures.draw(tmp_path, run)
    axes = panels(drawn[0])["u"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x", "y")
    assert words(drawn[0]).endswith("at t = 3")
    at = np.array([[3.0, 0.5, 1.5]])
    np.testing.assert_allclose(np.ma.asarray(axes.images[0].get_array())[15, 5], run.predict(at)[0])


def test_one_axis_gives_curves(drawn: list[Figure], tmp_path: Path) -> None:
    run = pinn.solve(
        lambda x, u: u.x + u, pinn.box(x=(0, 2)), start=lambda: 1.0, solution=lambda x: torch.exp(-x), **SMALL
    )
    written = figures.draw(tmp_path, run)
    assert [path.name for path in written] == ["solution.png", "history.png", "samples.png"]
    shown = panels(drawn[0])
    assert set(shown) == {"u", "error of u", "size of the residual"}
    (line,) = shown["u"].lines
    np.testing.assert_array_equal(line.get_ydata(), run.predict(np.linspace(0, 2, 21)[:, None]))
    assert len(drawn[2].axes[0].lines) == 2


def test_unknowns_have_a_panel_with_their_deviation(drawn: list[Figure], tmp_path: Path) -> None:
    run = pinn.solve(
        lambda x, u, k: u.x + k * u,
        pinn.box(x=(0, 1)),
        pinn.observe([[0.5], [1.0]], u=[0.61, 0.37], sigma=0.01),
        start=lambda: 1.0,
        unknowns={"k": 0.5},
        **SMALL,
    )
    figures.draw(tmp_path, run)
    axes = panels(drawn[1])["unknowns"]
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [row["unknown: k"] for row in run.history])
    text = axes.get_legend_handles_labels()[1][0]
    assert text == f"k = {run.unknowns['k']:.6g} ± {run.deviation['k']:.1g}"
