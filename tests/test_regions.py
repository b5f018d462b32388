"""Domains of networks: what is inside, where random points of the boundary lie and how densely, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from deepcd.pde import Mesh, MeshError, box_mesh, icosphere, torus
from deepcd.pde.regions import Domain, body, box, level_set, polygon
from deepcd.pde.regions.binding import bound
from deepcd.pde.regions.drawing import numbers

L_SHAPE = ((0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2))
L_AREA, L_LENGTH = 3.0, 8.0


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(*points: tuple[float, ...]) -> Tensor:
    return torch.tensor(points, dtype=torch.float64)


def disc(radius: float = 1.0, left: float = -1.5) -> Domain:
    return level_set(lambda x, y: x**2 + y**2 - radius**2, x=(left, 1.5), y=(-1.5, 1.5))


def star(x: Tensor, y: Tensor) -> Tensor:
    return torch.sqrt(x * x + y * y) - 0.7 - 0.15 * torch.cos(5 * torch.atan2(y, x))


@cache
def ball() -> Domain:
    return body(icosphere(2))


MADE: dict[str, Callable[[], Domain]] = {
    "interval": lambda: box(x=(0, 1)),
    "box": lambda: box(t=(0, 1), x=(-1, 3)),
    "L": lambda: polygon(*L_SHAPE),
    "clockwise L": lambda: polygon(*L_SHAPE[::-1]),
    "disc": disc,
    "star": lambda: level_set(star, x=(-1, 1), y=(-1, 1)),
    "cut disc": lambda: disc(left=-0.5),
    "moving disc": lambda: level_set(lambda t, x: (x - t) ** 2 - 0.25, t=(0, 1), x=(-1, 2)),
    "ball": ball,
    "inverted torus": lambda: body(Mesh(torus(1, 0.4, 24, 12).vertices, torus(1, 0.4, 24, 12).triangles[:, ::-1])),
    "L by difference": lambda: box(x=(0, 2), y=(0, 2)) - box(x=(1, 2), y=(1, 2)),
    "L by union": lambda: box(x=(0, 2), y=(0, 1)) | box(x=(0, 1), y=(1, 2)),
    "ring": lambda: disc() - disc(0.5),
    "lens": lambda: disc() & level_set(lambda x, y: (x - 1) ** 2 + y**2 - 1, x=(-0.5, 2.5), y=(-1.5, 1.5)),
    "prism": lambda: box(t=(0, 2)) * polygon(*L_SHAPE),
    "hollow cube": lambda: box(x=(-2, 2), y=(-2, 2), z=(-2, 2)) - ball(),
}


def largest_gap(values: Tensor, distribution: Callable[[Tensor], Tensor]) -> float:
    """The statistic of Kolmogorov and Smirnov, times the root of n; above 1.95 with a probability of 0.001."""
    u, n = distribution(values).sort().values, len(values)
    return float((u - (torch.arange(n) + 0.5) / n).abs().max()) * n**0.5


@pytest.mark.parametrize("name", MADE)
class TestEach:
    def test_points_are_inside_and_the_volume_is_theirs(self, name: str) -> None:
        domain = MADE[name]()
        x = domain.points(300, seeded())
        low, high = torch.tensor(domain.bounds).T
        assert x.shape == (300, len(domain.axes))
        assert x.dtype == torch.float64
        assert domain.inside(x).all()
        assert torch.equal(x, domain.points(300, seeded()))
        candidates = low + (high - low) * torch.rand(20_000, len(low), dtype=torch.float64, generator=seeded(1))
        share = domain.inside(candidates).double().mean()
        assert float(share * (high - low).prod()) == pytest.approx(domain.volume, rel=0.06)
        assert domain.is_box == bool(share == 1)

    def test_the_boundary_separates_inside_from_outside(self, name: str) -> None:
        domain = MADE[name]()
        x, normal = domain.boundary.points(400, seeded())
        assert x.shape == normal.shape == (400, len(domain.axes))
        assert torch.allclose(normal.norm(dim=1), torch.ones(400, dtype=torch.float64))
        assert domain.inside(x - 1e-6 * normal).double().mean() > 0.99  # but near corners
        assert domain.inside(x + 1e-6 * normal).double().mean() < 0.01
        assert all(torch.equal(a, b) for a, b in zip(domain.boundary.points(400, seeded()), (x, normal), strict=True))

    def test_the_divergence_theorem_holds_on_the_boundary(self, name: str) -> None:
        """The mean of (x - c) n times the measure is d times the volume, so measures, densities and normals fit."""
        domain = MADE[name]()
        d = len(domain.axes)
        x, normal = domain.boundary.points(8000, seeded(2))
        measure = sum(piece.measure for piece in domain.pieces)
        flux = ((x - torch.tensor(domain.bounds.mean(axis=1))) * normal).sum(dim=1) * measure
        assert float(flux.mean()) == pytest.approx(d * domain.volume, rel=0.02, abs=5 * float(flux.std()) / 8000**0.5)


class TestBoxes:
    def test_faces_have_names_measures_and_normals(self) -> None:
        domain = box(t=(0, 1), x=(-1, 3), y=(0, 2))
        assert [(piece.name, piece.measure) for piece in domain.pieces] == [
            ("t-", 8), ("t+", 8), ("x-", 2), ("x+", 2), ("y-", 4), ("y+", 4),
        ]  # fmt: skip
        x, normal = domain["x-", "x+"].points(10, seeded())
        assert sorted(x[:, 1].tolist()) == [-1] * 5 + [3] * 5
        assert torch.equal(normal[:, 1], (x[:, 1] - 1) / 2)
        assert not domain.bounds.flags.writeable

    def test_periodic_axes_have_no_ends(self) -> None:
        for periodic in ("xy", ["x", "y"], ("y", "x")):
            assert box(t=(0, 1), x=(0, 1), y=(0, 1), periodic=periodic).periodic == ("x", "y")
        domain = box(t=(0, 1), x1=(0, 1), periodic="x1")
        assert domain.boundary.names == ("t-", "t+")
        with pytest.raises(ValueError, match=r"no piece 'x1-'; its pieces are t-, t\+ \(x1 periodic\)"):
            domain["x1-"]
        with pytest.raises(ValueError, match="no piece of the boundary is left of none"):
            box(x=(0, 1), periodic="x").boundary.points(1, seeded())

    def test_an_interval_has_two_ends(self) -> None:
        domain = box(x=(0, 1))
        assert [piece.measure for piece in domain.pieces] == [1, 1]
        x, normal = domain.boundary.points(4, seeded())
        assert sorted(zip(x[:, 0].tolist(), normal[:, 0].tolist(), strict=True)) == [(0, -1)] * 2 + [(1, 1)] * 2

    @pytest.mark.parametrize("ends", [(1, 0), (0, 0), (0, np.inf), (np.nan, 1), (0, 1, 2), 3, ("a", "b")])
    def test_an_axis_is_two_finite_numbers_in_order(self, ends: Any) -> None:
        with pytest.raises(ValueError, match=r"x must be \(low, high\), two finite numbers with low < high, got"):
            box(t=(0, 1), x=ends)

    def test_refuses_no_axis_and_unknown_periodic_ones(self) -> None:
        with pytest.raises(ValueError, match="at least one axis"):
            box()
        with pytest.raises(ValueError, match="periodic must be names of axes, which are t, x; got 'xq'"):
            box(t=(0, 1), x=(0, 1), periodic="xq")


class TestPolygons:
    @pytest.mark.parametrize("corners", [L_SHAPE, L_SHAPE[::-1]])
    def test_piece_k_joins_corners_k_and_k_plus_1(self, corners: tuple[tuple[float, float], ...]) -> None:
        domain = polygon(*corners)
        assert domain.volume == L_AREA
        for k, (a, b) in enumerate(zip(corners, (*corners[1:], corners[0]), strict=True)):
            x, normal = domain[k].points(50, seeded())
            start, side = rows(a), rows(b) - rows(a)
            along = ((x - start) * side).sum(dim=1) / side.square().sum()
            assert torch.allclose(x, start + along[:, None] * side)
            assert 0 <= float(along.min()) < 0.1
            assert 0.9 < float(along.max()) <= 1
            assert torch.allclose((normal * side).sum(dim=1), torch.zeros(50, dtype=torch.float64))

    def test_pieces_are_chosen_by_number_and_range(self) -> None:
        domain = polygon(*L_SHAPE)
        assert domain[0, 1, 2, 1].names == (0, 1, 2)
        assert domain[[3, 4]].names == (3, 4)
        assert domain[1:4].names == (1, 2, 3)
        assert domain[4:].names == (4, 5)
        for wrong, said in ((6, "no piece 6;"), ("x-", "no piece 'x-';"), (slice(7, 9), "with a number in")):
            with pytest.raises(ValueError, match=f"{said}.*its pieces are 0, 1, 2, 3, 4, 5"):
                domain[wrong]

    def test_a_side_may_have_corners_on_it(self) -> None:
        assert polygon((0, 0), (1, 0), (2, 0), (0, 2)).volume == 2

    @pytest.mark.parametrize(
        ("corners", "said"),
        [
            (((0, 0), (1, 0)), "at least three corners"),
            (([(0, 0), (1, 0), (0, 1)],), "given one by one"),
            (((0, 0), (1, 0), (0, np.nan)), "finite"),
            (((0, 0), (1, 0), (1, 0), (0, 1)), r"the corner \(1, 0\) of the polygon is there twice in a row"),
            (((0, 0), (1, 1), (2, 2)), "lie on"),
            (((0, 0), (2, 0), (1, 0), (1, 1)), r"at its corner \(2, 0\) lie on one another"),
            (((0, 0), (1, 1), (1, 0), (0, 1)), "sides 0 and 2 of the polygon.* cross or touch"),
            (((0, 0), (2, 0), (2, 2), (1, 0), (0, 2)), "sides 0 and 2 of the polygon.* cross or touch"),
        ],
    )
    def test_refuses_what_is_no_simple_polygon(self, corners: Any, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            polygon(*corners)

    def test_refuses_names_that_are_not_two(self) -> None:
        for axes in ("xx", "xyz", ("x", "1")):
            with pytest.raises(ValueError, match="axes must be 2 different names, such as 'xy'"):
                polygon(*L_SHAPE, axes=axes)


class TestLevelSets:
    @pytest.mark.parametrize("name", ["disc", "ring"])
    def test_a_circle_is_drawn_uniformly(self, name: str) -> None:
        x, normal = MADE[name]()["surface"].points(20_000, seeded(3))
        assert torch.allclose(x.norm(dim=1), torch.ones(1, dtype=torch.float64), atol=1e-9)
        assert torch.allclose(x, normal, atol=1e-9)
        assert largest_gap(torch.atan2(x[:, 1], x[:, 0]), lambda angle: (angle + pi) / (2 * pi)) < 1.95

    @pytest.mark.parametrize("unit", [1.0, 1000.0])
    def test_an_ellipse_is_drawn_uniformly_in_length_whatever_the_units(self, unit: float) -> None:
        domain = level_set(lambda x, y: (x / unit) ** 2 / 4 + y**2 - 1, x=(-2.5 * unit, 2.5 * unit), y=(-2.5, 2.5))
        t = np.linspace(-pi, pi, 100_001)
        speed = np.hypot(2 * unit * np.sin(t), np.cos(t))
        length = np.concatenate([[0], np.cumsum((speed[1:] + speed[:-1]) / 2) * (t[1] - t[0])])
        assert domain.pieces[0].measure == pytest.approx(length[-1], rel=0.02)
        x, _ = domain["surface"].points(20_000, seeded(4))
        angle = torch.atan2(x[:, 1], x[:, 0] / (2 * unit))
        assert largest_gap(angle, lambda a: torch.tensor(np.interp(a, t, length / length[-1]))) < 1.95

    def test_a_sphere_is_drawn_uniformly(self) -> None:
        domain = level_set(lambda x, y, z: (x**2 + y**2 + z**2).sqrt() - 1, x=(-2, 2), y=(-2, 2), z=(-2, 2))
        assert domain.pieces[0].measure == pytest.approx(4 * pi, rel=0.02)
        x, _ = domain["surface"].points(10_000, seeded(5))
        assert largest_gap(x[:, 2], lambda z: (z + 1) / 2) < 1.95  # Archimedes

    def test_density_reaches_the_ends_of_the_box(self) -> None:
        domain = level_set(lambda x, y: y - x - 0.2, x=(0, 1), y=(0, 1))
        x, _ = domain["surface"].points(20_000, seeded(6))
        assert largest_gap(x[:, 0], lambda a: a / 0.8) < 1.95

    def test_faces_of_the_box_that_it_meets_are_pieces(self) -> None:
        domain = MADE["cut disc"]()
        assert domain.boundary.names == ("surface", "x-")
        assert domain.pieces[1].measure == pytest.approx(2 * 0.75**0.5, rel=0.02)
        x, normal = domain["x-"].points(100, seeded())
        assert (x[:, 1].abs() < 0.75**0.5).all()
        assert normal[0].tolist() == [-1, 0]
        assert level_set(lambda x: x - 2, x=(0, 1)).boundary.names == ("x-", "x+")

    def test_a_wavy_channel_is_periodic(self) -> None:
        domain = level_set(lambda x, y: y - 1 - 0.1 * torch.cos(2 * pi * x), x=(0, 1), y=(0, 2), periodic="x")
        assert domain.periodic == ("x",)
        assert domain.boundary.names == ("surface", "y-")

    @pytest.mark.parametrize(
        ("phi", "said"),
        [
            (lambda x, z: x + z, "phi has an argument 'z', which is none of x, y"),
            (lambda x, y: x**2 + 1, "the domain has no points: none of 65,536 with x from -1 to 1, y from 0 to 1"),
            (lambda x, y: torch.sqrt(x) - y, "it is NaN at x = -"),
            (
                lambda x, y: (x + y)[:, None],
                r"one real number per point, a tensor of shape .* got torch.float64 of shape",
            ),
            (lambda x, y: x < y, "got torch.bool"),
            (lambda x, y: -1.0, "got -1.0"),
            (lambda x, y: torch.full_like(x, -1), "phi has no gradient"),
            (lambda x, y: torch.sign(x - 0.1), "changes its sign, but has no gradient there"),
        ],
    )
    def test_refuses_what_is_no_level_set(self, phi: Callable[..., Tensor], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            level_set(phi, x=(-1, 1), y=(0, 1))


class TestBodies:
    def test_membership_is_that_of_the_mesh(self) -> None:
        mesh = torus(1, 0.4, 24, 12)
        low, high = (torch.tensor(ends) for ends in mesh.bounds)
        x = low + (high - low) * torch.rand(2000, 3, dtype=torch.float64, generator=seeded())
        inside = mesh.shape().contains(list(x.numpy().T))
        assert body(mesh).inside(x).tolist() == inside.tolist()

    def test_triangles_are_drawn_in_proportion_to_their_area(self) -> None:
        domain = body(box_mesh((0, 0, 0), (1, 2, 3)), axes=("x1", "x2", "x3"))
        x, normal = domain["surface"].points(22_000, seeded())
        counts = [int((normal[:, k] == sign).sum()) for k in range(3) for sign in (-1, 1)]
        assert np.allclose(counts, [6000, 6000, 3000, 3000, 2000, 2000], atol=300)
        top = x[normal[:, 2] == 1]
        assert (top[:, 2] == 3).all()
        assert largest_gap(top[:, 0], lambda a: a) < 1.95
        assert largest_gap(top[:, 1], lambda a: a / 2) < 1.95

    def test_a_file_is_read_and_a_flaw_is_told(self, tmp_path: Path) -> None:
        brick = box_mesh((0, 0, 0), (1, 1, 1))
        corners = brick.vertices[brick.triangles]
        facets = "".join(
            "facet normal 0 0 0\nouter loop\n"
            + "".join(f"vertex {x} {y} {z}\n" for x, y, z in triangle)
            + "endloop\nendfacet\n"
            for triangle in corners
        )
        (tmp_path / "brick.stl").write_text(f"solid brick\n{facets}endsolid brick\n")
        assert body(tmp_path / "brick.stl").volume == 1
        with pytest.raises(MeshError, match="mesh: is open: 3 edges"):
            body(Mesh(brick.vertices, brick.triangles[1:]))
        with pytest.raises(TypeError, match="mesh must be a Mesh or the path of a file, got 3"):
            body(3)  # type: ignore[arg-type]


class TestCombinations:
    @pytest.mark.parametrize("name", ["L by difference", "L by union"])
    def test_faces_that_coincide_count_once_or_vanish(self, name: str) -> None:
        domain = MADE[name]()
        assert domain.volume == pytest.approx(L_AREA, rel=0.001)
        assert sum(piece.measure for piece in domain.pieces) == pytest.approx(L_LENGTH, rel=0.01)

    def test_names_are_kept_and_get_a_prime_where_they_clash(self) -> None:
        names = [piece.name for piece in MADE["L by difference"]().pieces]
        assert names == ["x-", "x+", "y-", "y+", "x-'", "y-'"]
        ring = MADE["ring"]()
        assert ring.boundary.names == ("surface", "surface'")
        x, normal = ring["surface'"].points(100, seeded())
        assert torch.allclose(normal, -2 * x, atol=1e-8)
        hole = polygon((0.2, 0.2), (0.4, 0.2), (0.2, 0.4))
        square = box(x=(0, 1), y=(0, 1))
        assert (polygon(*L_SHAPE) - hole).boundary.names == (0, 1, 2, 3, 4, 5, "0'", "1'", "2'")
        twice = square - box(x=(0.1, 0.2), y=(0.1, 0.2)) - box(x=(0.6, 0.7), y=(0.1, 0.2))
        assert twice.boundary.names[4::4] == ("x-'", "x-''")

    def test_a_periodic_channel_keeps_its_axis_around_an_obstacle(self) -> None:
        channel = box(x=(-2, 2), y=(-2, 2), periodic="x")
        domain = channel - disc()
        assert domain.periodic == ("x",)
        assert domain.boundary.names == ("y-", "y+", "surface")
        rod = box(x=(-2, 2), y=(-0.5, 0.5))
        assert (channel - rod).boundary.names == ("y-", "y+", "y-'", "y+'")
        for wrong in (lambda: channel | rod, lambda: rod - channel):
            with pytest.raises(ValueError, match="the axis x must be periodic with the same ends in both"):
                wrong()

    def test_a_product_has_the_pieces_of_both(self) -> None:
        domain = MADE["prism"]()
        assert domain.axes == ("t", "x", "y")
        assert domain.volume == 2 * L_AREA
        assert domain.boundary.names == ("t-", "t+", 0, 1, 2, 3, 4, 5)
        assert [piece.measure for piece in domain.pieces] == [3, 3, 4, 2, 2, 2, 2, 4]
        x, normal = domain["t+"].points(100, seeded())
        assert (x[:, 0] == 2).all()
        assert polygon(*L_SHAPE).inside(x[:, 1:]).all()
        assert normal[0].tolist() == [1, 0, 0]
        both = box(t=(0, 1)) * box(x=(0, 1), periodic="x")
        assert both.is_box
        assert both.periodic == ("x",)
        assert (polygon(*L_SHAPE) * polygon(*L_SHAPE, axes="zw")).boundary.names[5:7] == (5, "0'")

    def test_refuses_what_does_not_fit(self) -> None:
        square = box(x=(0, 1), y=(0, 1))
        with pytest.raises(ValueError, match="must have the same axes in the same order, not x, y and y, x"):
            square | box(y=(0, 1), x=(0, 1))
        with pytest.raises(ValueError, match="must have different axes, but both have x"):
            square * box(x=(0, 1))
        other: Any = 3
        for wrong in (lambda: square - other, lambda: square * other):
            with pytest.raises(TypeError, match="with a domain only, got 3"):
                wrong()
        with pytest.raises(ValueError, match="the domain has no points"):
            square - box(x=(-1, 2), y=(0, 1))
        with pytest.raises(ValueError, match="no points in common: x from 0 to 1, y from 0 to 1, and x from 2"):
            square & box(x=(2, 3), y=(0, 1))


class TestParts:
    square = box(x=(0, 1), y=(0, 1))

    def test_pieces_get_numbers_in_proportion(self) -> None:
        x, _ = polygon(*L_SHAPE).boundary.points(800, seeded())
        on_sides = [(x[:, 1] == 0), (x[:, 0] == 2), (x[:, 1] == 1) & (x[:, 0] > 1), (x[:, 0] == 0)]
        assert [int(side.sum()) for side in on_sides] == [200, 100, 100, 200]
        drawn = np.array([numbers([1.0, 2.0], 1, seeded(k)) for k in range(300)])
        assert (drawn.sum(axis=1) == 1).all()
        assert 60 < drawn[:, 0].sum() < 140, "what is left over is random"

    def test_arguments_of_a_test_name_coordinates(self) -> None:
        part = self.square.where(lambda y, x, limit=0.5: (y < limit) & (x > 0))
        x, _ = part.points(1000, seeded())
        assert (x[:, 1] < 0.5).all()
        assert (x[:, 0] > 0).all()
        shares = [float((x[:, 1] == 0).double().mean()), float((x[:, 0] == 1).double().mean())]
        assert shares == pytest.approx([2 / 3, 1 / 3], abs=0.05)
        x, _ = self.square["x-"].where(lambda y: y > 0.5).where(lambda y: y < 0.6).points(50, seeded())
        assert ((x[:, 1] > 0.5) & (x[:, 1] < 0.6) & (x[:, 0] == 0)).all()

    def test_elsewhere_is_what_the_others_leave(self) -> None:
        warm, floor = self.square.where(lambda x: x > 0.5), self.square["y-"]
        rest = self.square.elsewhere
        assert rest.elsewhere
        with pytest.raises(ValueError, match=r"elsewhere on the boundary x-, x\+, y-, y\+ is what other conditions"):
            rest.points(1, seeded())
        left = rest.less([warm, floor, self.square.elsewhere])
        assert not left.elsewhere
        assert left.names == ("x-", "x+", "y+")
        x, _ = left.points(600, seeded())
        assert (x[:, 0] <= 0.5).all()
        assert float((x[:, 0] == 0).double().mean()) == pytest.approx(2 / 3, abs=0.06)
        assert ((x[:, 0] == 0) | (x[:, 1] == 1)).all()
        with pytest.raises(ValueError, match="another domain"):
            rest.less([box(x=(0, 1), y=(0, 1)).boundary])

    def test_the_first_and_last_time_can_be_left_out(self) -> None:
        assert MADE["prism"]().boundary.without("t").names == (0, 1, 2, 3, 4, 5)
        assert MADE["moving disc"]().boundary.without("t").names == ("surface",)
        assert polygon(*L_SHAPE).boundary.without("x").names == (0, 1, 2, 3, 4, 5)
        two = box(t=(0, 1), x=(0, 1)) | box(t=(0, 1), x=(2, 3))
        assert two.boundary.without("t").names == ("x-", "x+", "x-'", "x+'")
        with pytest.raises(ValueError, match="the domain has no axis 'z'; its axes are t, x"):
            two.boundary.without("z")

    @pytest.mark.parametrize(
        ("test", "said"),
        [
            (lambda z: z > 0, "the test of where has an argument 'z', which is none of x, y"),
            (lambda x: x, "the test of where must return a bool per point"),
            (lambda x: True, "got True"),
            (lambda x: (x > 0).any(), "must return a bool per point"),
        ],
    )
    def test_a_test_that_cannot_be_asked_is_refused_at_once(self, test: Callable[..., Tensor], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            self.square.where(test)
        with pytest.raises(RuntimeError, match="ambiguous"):
            self.square.where(lambda x: 0 < x < 1)

    def test_a_part_without_points_says_so(self) -> None:
        with pytest.raises(ValueError, match="boundary x- where tests hold is empty: none of 100,000 candidates"):
            self.square["x-"].where(lambda y: y > 2).points(1, seeded())
        everything = self.square.elsewhere.less([self.square.boundary])
        with pytest.raises(ValueError, match=r"no piece of the boundary is left of x-, x\+, y-, y\+"):
            everything.points(1, seeded())
        for n in (0, -1):
            for draw in (self.square.points, self.square.boundary.points, disc().points):
                with pytest.raises(ValueError, match="n must be a positive number of points"):
                    draw(n, seeded())


class TestBinding:
    def test_arguments_bind_by_name(self) -> None:
        def both(b: int, /, a: int, *rest: int, scale: int = 10, **more: int) -> tuple[int, ...]:
            return a, b, scale, *rest, *more.values()

        assert bound(both, {"a": 1, "b": 2, "c": 3}, "f") == (1, 2, 10)
        assert bound(both, {"a": 1, "b": 2, "scale": 3}, "f") == (1, 2, 3)
        assert bound(partial(both, 7), {"a": 1}, "f") == (1, 7, 10)

    def test_refuses_what_does_not_tell_its_arguments(self) -> None:
        with pytest.raises(TypeError, match="phi must be a function of x, y, got 3"):
            bound(3, {"x": 0, "y": 0}, "phi")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="phi does not tell the names of its arguments"):
            bound(torch.sin, {"x": 0, "y": 0}, "phi")
        with pytest.raises(ValueError, match=r"^phi has an argument 'z', which is none of x, y$"):
            bound(lambda x, z: x + z, {"x": 0, "y": 0}, "phi")


def test_points_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"points must have the shape \(n, 2\), got \(4, 3\)"):
        disc().inside(torch.zeros(4, 3, dtype=torch.float64))
    assert disc().inside(rows((np.nan, 0.0), (5.0, 0.0), (0.3, 0.3))).tolist() == [False, False, True]
    assert disc().inside(torch.zeros(0, 2, dtype=torch.float64)).shape == (0,)
