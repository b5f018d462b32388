"""Sparse systems of stated problems: orders of accuracy, what is read of a statement, and what is refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg
import torch
from torch import cos, exp, sin

from deepcd import pinn
from deepcd.pde.equations.systems import EllipticSystem
from deepcd.pde.regions.meshing import meshed
from deepcd.pde.regions.triangles import bisected, ears
from deepcd.solvers.pinn import reference

STAR = pinn.level_set(lambda x, y: (x**2 + y**2).sqrt() - 0.7 - 0.15 * cos(5 * torch.atan2(y, x)), x=(-1, 1), y=(-1, 1))
BOX = pinn.box(x=(0, 1), y=(0, 2))
BENT = pinn.polygon((-1, -1), (1, -1.2), (1.1, 0), (0, 0), (0.2, 1), (-1, 1))
HOLED = BOX - pinn.level_set(lambda x, y: (x - 0.5) ** 2 + (y - 1) ** 2 - 0.09, x=(0, 1), y=(0, 2))
L_SHAPE = pinn.polygon((-1, -1), (1, -1), (1, 0), (0, 0), (0, 1), (-1, 1))
SQUARE = pinn.box(x=(0, 1), y=(0, 1))


def exact(x: Any, y: Any) -> Any:
    return sin(2 * x) * exp(y) + x * y


def flux(x: Any, y: Any, u: Any) -> tuple[Any, Any]:
    """Return K grad u, for a full matrix K that varies."""
    return (2 + x * y) * u.x + (x / 2 + 0.2) * u.y, (x / 2 + 0.2) * u.x + (3 + y) * u.y


def left(x: Any, y: Any, u: Any) -> Any:
    p, q = flux(x, y, u)
    return p.x + q.y - (1 + x**2) * u


def equation(x: Any, y: Any, u: Any) -> Any:
    return left(x, y, u - exact(x, y))


def held(x: Any, y: Any, u: Any) -> Any:
    return u - exact(x, y)


def insulated(x: Any, y: Any, u: Any, n: Any) -> Any:
    p, q = flux(x, y, u - exact(x, y))
    return n.x * p + n.y * q


def cooled(x: Any, y: Any, u: Any, n: Any) -> Any:
    return -3 * (insulated(x, y, u, n) + (2 + y) * (u - exact(x, y)))


def solved(system: EllipticSystem) -> Any:
    return scipy.sparse.linalg.spsolve(system.A.tocsc(), system.b)


def error(problem: pinn.Problem, n: int, solution: Callable[..., Any] = exact) -> float:
    system = problem.system(n)
    x = problem.domain.points(2_000, torch.Generator().manual_seed(0))
    difference = system.values(x.numpy(), solved(system)) - solution(*x.T).numpy()
    return float(np.sqrt((difference**2).mean()))


class TestAccuracy:
    @pytest.mark.parametrize(
        ("domain", "parts", "n"),
        [
            (BOX, [BOX["x-"], BOX["x+", "y-"], BOX["y+"]], 12),
            (BENT, [BENT[0], BENT[1:3], BENT.elsewhere], 32),
            (STAR, [STAR.where(lambda x: x < -0.1), STAR.where(lambda x: x > 0.2), STAR.elsewhere], 24),
            (HOLED, [HOLED["x-", "x+"], HOLED["y-", "y+"], HOLED["surface"]], 24),
        ],
        ids=["box", "polygon", "star", "box with a hole"],
    )
    def test_a_full_matrix_and_three_kinds_of_conditions_have_order_two(
        self, domain: Any, parts: list[Any], n: int
    ) -> None:
        kinds: tuple[Callable[..., Any], ...] = (held, insulated, cooled)
        conditions = [pinn.on(part, kind) for part, kind in zip(parts, kinds, strict=True)]
        problem = pinn.Problem(equation, domain, *conditions)
        coarse, fine = error(problem, n), error(problem, 2 * n)
        assert fine < 0.02
        assert np.log2(coarse / fine) > 1.7

    def test_prescribed_values_on_curved_and_cut_boundaries_have_order_two(self) -> None:
        for domain in (STAR, SQUARE - pinn.box(x=(0.313, 0.71), y=(0.42, 0.77))):
            problem = pinn.Problem(equation, domain, pinn.on(domain.boundary, held))
            assert np.log2(error(problem, 20) / error(problem, 40)) > 1.8

    def test_a_box_in_space(self) -> None:
        D = pinn.box(x=(0, 1), y=(0, 1), z=(0, 0.5))

        def u_exact(x: Any, y: Any, z: Any) -> Any:
            return sin(x + 2 * y) * exp(z)

        def residual(x: Any, y: Any, z: Any, u: Any) -> Any:
            v = u - u_exact(x, y, z)
            return ((1 + z) * v.x).x + v.yy + v.zz + 0.3 * v.xy

        problem = pinn.Problem(
            residual,
            D,
            pinn.on(D["z-", "y+"], lambda x, y, z, u: u - u_exact(x, y, z)),
            pinn.on(D["z+"], lambda x, y, z, u: (u - u_exact(x, y, z)).z),
            pinn.on(
                D.elsewhere,
                lambda x, y, z, u, n: (
                    n.x * ((1 + z) * (u - u_exact(x, y, z)).x + 0.15 * (u - u_exact(x, y, z)).y)
                    + n.y * ((u - u_exact(x, y, z)).y + 0.15 * (u - u_exact(x, y, z)).x)
                    + (u - u_exact(x, y, z))
                ),
            ),
        )
        assert np.log2(error(problem, 6, u_exact) / error(problem, 12, u_exact)) > 1.7

    def test_an_l_shape_with_a_mixed_derivative_agrees_with_finite_differences(self) -> None:
        problem = pinn.Problem(
            lambda x, y, u: ((1 + x**2) * u.x).x + ((1 + x**2) * u.y).y - u.xy / 2 + 1,
            L_SHAPE,
            pinn.on(L_SHAPE.boundary, lambda u: u),
        )
        system = problem.system(96)
        points, expected = by_differences(96)
        u = system.values(points, solved(system))
        assert np.linalg.norm(u - expected) < 5e-3 * np.linalg.norm(expected)

    def test_what_is_linear_is_met_exactly_whatever_the_sign_and_scale_of_residuals(self) -> None:
        for sign in (1, -5):
            problem = pinn.Problem(
                lambda u, sign=sign: sign * (u.xx + u.yy),
                BENT,
                pinn.on(BENT[0], lambda x, y, u: 2 * (u - x - 3 * y)),
                pinn.on(BENT.elsewhere, lambda u, n: -(u.n - n.x - 3 * n.y)),
            )
            assert error(problem, 5, lambda x, y: x + 3 * y) < 1e-10

    def test_nothing_flows_through_an_axis_of_rotation(self) -> None:
        D = pinn.box(r=(0, 1), z=(0, 0.5))
        for others in (["r-"], ["r-", "z-", "z+"]):
            rest = [] if len(others) > 1 else [pinn.on(D.elsewhere, lambda u: u.n)]
            problem = pinn.Problem(
                lambda r, u: (r * u.r).r + (r * u.z).z + r,
                D,
                pinn.on("r+", lambda u: u),
                pinn.on(others, lambda r, u: u.n),
                *rest,
            )
            assert error(problem, 24, lambda r, z: (1 - r**2) / 4) < 2e-3

    def test_tests_that_hold_on_the_curved_boundary_only_are_understood(self) -> None:
        disc = pinn.level_set(lambda x, y: x**2 + y**2 - 1, x=(-1, 1), y=(-1, 1))
        rim = disc.where(lambda x, y: x**2 + y**2 > 1 - 1e-6)
        problem = pinn.Problem(lambda u: u.xx + u.yy + 1, disc, pinn.on(rim, lambda u: u))
        assert error(problem, 50, lambda x, y: (1 - x**2 - y**2) / 4) < 1e-3


def by_differences(m: int) -> tuple[Any, Any]:
    """Solve the problem of the L-shape by central differences; return nodes and values."""
    h = 2 / m
    c = np.linspace(-1, 1, m + 1)
    X, Y = np.meshgrid(c, c, indexing="ij")
    inner = (abs(X) < 1 - 1e-9) & (abs(Y) < 1 - 1e-9) & ~((X > -1e-9) & (Y > -1e-9))
    number = np.full(X.shape, -1)
    number[inner] = np.arange(inner.sum())
    i, j = np.nonzero(inner)
    east, west, middle = (1 + (c[i] + shift) ** 2 for shift in (h / 2, -h / 2, 0))
    stencil = {(0, 0): -(east + west + 2 * middle), (1, 0): east, (-1, 0): west, (0, 1): middle, (0, -1): middle}
    stencil |= {(a, b): np.full(len(i), -a * b / 8) for a in (1, -1) for b in (1, -1)}
    entries = [(weights, number[i, j], number[i + a, j + b]) for (a, b), weights in stencil.items()]
    value, row, column = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    known = column >= 0
    A = sp.coo_array((value[known], (row[known], column[known])), shape=(len(i), len(i))).tocsc()
    return np.stack([c[i], c[j]], axis=1), scipy.sparse.linalg.spsolve(A, np.full(len(i), -(h**2)))


class TestSystem:
    def test_the_matrix_is_symmetric_and_definite(self) -> None:
        problem = pinn.Problem(
            equation, STAR, pinn.on(STAR.where(lambda x: x < 0), held), pinn.on(STAR.elsewhere, cooled)
        )
        A, b, points = problem.system(12)
        assert (A != A.T).nnz == 0
        assert np.linalg.eigvalsh(A.toarray()).min() > 0
        assert len(points) == len(b) == A.shape[0]

    def test_without_anything_that_holds_u_the_constant_is_in_the_null_space(self) -> None:
        system = pinn.Problem(lambda u: u.xx + u.yy, BENT, pinn.on(BENT.boundary, lambda u: u.n)).system(8)
        assert abs(system.A @ np.ones(len(system.b))).max() < 1e-12

    def test_an_ansatz_is_left_out_where_conditions_are_stated(self) -> None:
        plain = pinn.Problem(equation, SQUARE, pinn.on(SQUARE.boundary, held))
        bound = pinn.Problem(equation, SQUARE, pinn.on(SQUARE.boundary, held), ansatz=lambda x, u: x * u)
        assert (plain.system(6).A != bound.system(6).A).nnz == 0

    def test_values_outside_are_refused(self) -> None:
        system = pinn.Problem(equation, SQUARE, pinn.on(SQUARE.boundary, held)).system(6)
        with pytest.raises(ValueError, match=r"\[3.0, 0.5\] is outside"):
            system.values([[0.5, 0.5], [3.0, 0.5]], np.zeros(len(system.b)))
        with pytest.raises(ValueError, match="shape"):
            system.values([0.5, 0.5], np.zeros(len(system.b)))


def stated(residual: Callable[..., Any], domain: Any = SQUARE, *conditions: Any, **options: Any) -> pinn.Problem:
    return pinn.Problem(residual, domain, *(conditions or [pinn.on(domain.boundary, lambda u: u)]), **options)


class TestRefusals:
    @pytest.mark.parametrize(
        ("residual", "match"),
        [
            (lambda u: u.xx + u.yy + 3 * u.x, "advection term 3 u_x"),
            (lambda x, u: (1 + x) * u.xx + u.yy, "advection term -u_x"),
            (lambda u: u.xx + u.yy + 9 * u, "reaction 9 u .* Helmholtz"),
            (lambda u: -u.xx - u.yy - 9 * u, "reaction -9 u .* Helmholtz"),
            (lambda u: u.xx + u.yy - u**3, "not linear in u:"),
            (lambda u: u.xx + u.yy - torch.round(u), "not linear in u. round"),
            (lambda u: (u * u.x).x + u.yy, "not linear in u"),
            (lambda u: u.xxxx + u.yyyy, "u_xxxx"),
            (lambda u: u.xx - u.yy, "not elliptic: their matrix"),
            (lambda x, u: ((x - 0.5) * u.x).x + u.yy, "not elliptic: their matrix"),
            (lambda u: u.x - u.yy, "time derivative u_x"),
            (lambda u: u.xx + u.y, "derivative u_y, without a second one"),
            (lambda u: u.xx, "no second derivative along y"),
        ],
    )
    def test_equations(self, residual: Callable[..., Any], match: str) -> None:
        with pytest.raises(ValueError, match=match):
            stated(residual).system(4)

    @pytest.mark.parametrize(
        ("residual", "match"),
        [
            (lambda u: u.x, "not along the flux"),
            (lambda u: torch.where(u.frame.axis("x") > 0.5, u, u.n), "not along the flux"),
            (lambda u: u.n - 2 * u, "feeds the flux"),
            (lambda u: u**2 - 1, "not linear in u"),
            (lambda u: u.xx, "only first derivatives"),
            (lambda u, n: u - n.x, "depends on the normal"),
            (lambda u: [u, u.n], "2 residuals"),
        ],
    )
    def test_conditions(self, residual: Callable[..., Any], match: str) -> None:
        with pytest.raises(ValueError, match=match):
            stated(lambda u: u.xx + u.yy, SQUARE, pinn.on(SQUARE.boundary, residual)).system(4)

    @pytest.mark.parametrize(
        ("parts", "match"),
        [
            (["x-", "x+", "y-"], r"y\+ has no condition:"),
            (
                ["x-", "x+", "y-", SQUARE["y+"].where(lambda x: x < 0.5)],
                r"y\+ has no condition for \d\d% of its points",
            ),
            (["x-", SQUARE.boundary], "x- has more than one condition"),
        ],
    )
    def test_gaps_and_overlaps(self, parts: list[Any], match: str) -> None:
        conditions = [pinn.on(part, lambda u: u) for part in parts]
        with pytest.raises(ValueError, match=match):
            stated(lambda u: u.xx + u.yy, SQUARE, *conditions).system(4)

    def test_problems_of_another_kind(self) -> None:
        plane = pinn.box(t=(0, 1), x=(0, 1))
        ring = pinn.box(x=(0, 1), y=(0, 1), periodic="x")
        ball = pinn.level_set(lambda x, y, z: x**2 + y**2 + z**2 - 1, x=(-1, 1), y=(-1, 1), z=(-1, 1))
        seen = pinn.observe([[0.5, 0.5]], u=[1.0])
        edge = pinn.on(SQUARE.boundary, lambda u: u)
        for problem, match in (
            (
                stated(lambda u: u.t - u.xx, plane, pinn.on(plane["x-", "x+"], lambda u: u), start=lambda x: x),
                "a start",
            ),
            (stated(lambda u, v: [u.xx + v, v.yy + u], fields="uv"), "2 equations for the fields u, v"),
            (stated(lambda u, a: a * u.xx + u.yy, SQUARE, edge, seen, unknowns={"a": 1.0}), "a is to be computed"),
            (stated(lambda u: u.xx + u.yy, SQUARE, edge, seen), "observations"),
            (pinn.Problem(lambda u: u.xx + u.yy, SQUARE, ansatz=lambda x, u: x * u), "the ansatz"),
            (stated(lambda u: u.xx + u.yy, ring), "periodic along x"),
            (stated(lambda u: u.xx + u.yy + u.zz, ball), "only a box"),
            (stated(lambda u: u.xx, pinn.box(x=(0, 1))), "two or three axes"),
        ):
            with pytest.raises(ValueError, match=match):
                problem.system(4)

    def test_numbers_of_cells(self) -> None:
        for n in (1, 2.5, True):
            with pytest.raises(ValueError, match="n must be an integer from 2 up"):
                stated(lambda u: u.xx + u.yy).system(n)  # type: ignore[arg-type]


class TestMeshes:
    @pytest.mark.parametrize("domain", [BENT, STAR, HOLED, BOX], ids=["polygon", "star", "hole", "box"])
    def test_cells_fill_the_domain_and_none_is_thin(self, domain: Any) -> None:
        mesh = meshed(domain, 40).mesh
        a, b, c = mesh.p[:, mesh.t].transpose(1, 2, 0)
        sides = np.stack([((p - q) ** 2).sum(axis=1) for p, q in ((a, b), (b, c), (c, a))])
        area = abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
        # The volumes of domains without a formula are estimated.
        assert area.sum() == pytest.approx(domain.volume, rel=5e-3)
        assert (area / sides.max(axis=0)).min() > 0.05
        assert sides.max() < 2 * 1.7**2 * (2.2 / 40) ** 2

    def test_a_polygon_of_many_sides_has_no_more_cells_than_its_area_asks_for(self) -> None:
        turn = np.linspace(0, 2 * np.pi, 200, endpoint=False)
        mesh = meshed(pinn.polygon(*zip(np.cos(turn), np.sin(turn), strict=True)), 100).mesh
        assert np.pi * 50**2 < 1.1 * mesh.nvertices < 2 * np.pi * 50**2

    def test_facets_of_a_polygon_lie_on_their_sides(self) -> None:
        cells = meshed(BENT, 8)
        for k, piece in enumerate(BENT.pieces):
            x, normal = piece.sample(1, torch.Generator().manual_seed(0))
            own = cells.pieces == k
            np.testing.assert_allclose(cells.normals[own], np.repeat(normal.numpy(), own.sum(), axis=0), atol=1e-12)
            np.testing.assert_allclose((cells.middles[own] - x.numpy()) @ normal[0].numpy(), 0, atol=1e-12)

    def test_corners_on_a_line_and_spirals_are_triangulated(self) -> None:
        flat = np.array([[0, 0], [1, 0], [2, 0], [2, 1], [2, 2], [1, 2], [0, 2], [0, 1.0]])
        turn = np.linspace(0, 3 * np.pi, 40)
        wound = np.stack([np.cos(turn), np.sin(turn)], axis=1)
        spiral = np.vstack([wound * (1 + 0.3 * turn[:, None]), (wound * (1.2 + 0.3 * turn[:, None]))[::-1]])
        for corners in (flat, flat[::-1], spiral):
            triangles = ears(corners)
            a, b, c = corners[triangles].swapaxes(0, 1)
            areas = ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
            following = np.roll(corners, -1, axis=0)
            whole = abs((corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]).sum()) / 2
            assert areas.min() > 0
            assert areas.sum() == pytest.approx(whole)

    def test_bisection_leaves_no_hanging_node(self) -> None:
        points, triangles = bisected(BENT.corners, ears(BENT.corners), 0.1)
        edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
        distinct, count = np.unique(edges, axis=0, return_counts=True)
        assert np.hypot(*(points[distinct[:, 0]] - points[distinct[:, 1]]).T).max() <= 0.1
        once = points[distinct[count == 1]].mean(axis=1)
        along = np.roll(BENT.corners, -1, axis=0) - BENT.corners
        offset = once[:, None] - BENT.corners
        assert abs(offset[..., 0] * along[:, 1] - offset[..., 1] * along[:, 0]).min(axis=1).max() < 1e-12


class TestRuns:
    @pytest.fixture
    def small(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        monkeypatch.setattr(reference, "UNKNOWNS", 3_000)
        return {"steps": 10, "points": 200, "width": 8, "depth": 2, "sampler": "sobol"}

    @pytest.mark.compiled
    def test_errors_are_measured_against_a_reference(self, small: dict[str, Any]) -> None:
        statement: tuple[Any, ...] = (equation, SQUARE, pinn.on(SQUARE.boundary, held))
        run, judged = pinn.solve(*statement, **small), pinn.solve(*statement, **small, solution=exact)
        assert run.reference_error is None
        assert run.error() == pytest.approx(judged.error(), abs=2e-3)
        assert run.reference_error is not None
        assert 0 < run.reference_error < 2e-3
        assert judged.reference_error is None

    def test_why_there_is_none(self, small: dict[str, Any]) -> None:
        for residual, condition, match in (
            (lambda u: u.xx + u.yy - u**2, lambda u: u, "no solution is known.*not linear in u"),
            (lambda u: u.xx + u.yy, lambda u: u.n, "no solution is known.*only up to a constant"),
        ):
            run = pinn.solve(residual, SQUARE, pinn.on(SQUARE.boundary, condition), **small)
            with pytest.raises(ValueError, match=match):
                run.error()

    def test_advice_is_given_where_no_network_is_needed(
        self, small: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, logger="deepcd"):
            pinn.solve(lambda u: u.xx + u.yy - u**2, SQUARE, pinn.on(SQUARE.boundary, lambda u: u - 1), **small)
            assert "linear and elliptic" not in caplog.text
            pinn.solve(lambda u: u.xx + u.yy - u, SQUARE, pinn.on(SQUARE.boundary, lambda u: u - 1), **small)
            assert "linear and elliptic" in caplog.text
