"""Samplers in DeepXDE's and PINA's training: which points the libraries train on. Skipped where they are missing."""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepcd.solvers.pinn.adapters.turns import Turns
from deepcd.solvers.pinn.samplers import SAMPLERS, Sampler, sampler

os.environ.setdefault("DDE_BACKEND", "pytorch")  # read when DeepXDE is imported

BOX = [(-1.0, 1.0), (0.0, 3.0)]
PEAK = (0.5, 2.0)
QUICK: dict[str, dict[str, Any]] = {
    **{name: {"pool": 3_000} for name in ("rar-g", "rar-d", "rad")},
    **{name: {"steps": 20, "batch": 300} for name in ("das", "das-g", "aas")},
}
MOVING = [name for name in SAMPLERS if name != "vrba"]


def make(name: str) -> Sampler:
    one = sampler(name, BOX, seed=1, **QUICK.get(name, {}))
    if "steps" in QUICK.get(name, {}):
        one.probes = 1_000
    return one


def source(x: Any, y: Any) -> Any:
    """Nearly all of the residual of an untrained network: a bump at PEAK."""
    return 100 * torch.exp(-20 * ((x - PEAK[0]) ** 2 + (y - PEAK[1]) ** 2))


def near(x: Any) -> float:
    return float((((np.asarray(x) - PEAK) ** 2).sum(axis=1) < 0.2).mean())


UNIFORM = math.pi * 0.2 / 6  # share of the box that counts as near


class Spy(Sampler):
    """Uniform points, probes of a known density, and a memory of what it was told."""

    probes = 7

    def __init__(self) -> None:
        super().__init__(BOX, seed=3)
        self.told: list[tuple[Tensor, Tensor, Tensor]] = []

    def sample(self, n: int) -> tuple[Tensor, Tensor]:
        return self.uniform(n)

    def probe(self) -> tuple[Tensor, Tensor]:
        return self.uniform(self.probes)[0], torch.linspace(-3, 2, self.probes, dtype=torch.float64)

    def _learn(self, x: Tensor, log_density: Tensor, size: Tensor) -> dict[str, float]:
        self.told.append((x, log_density, size))
        return {}


class TestTurns:
    def test_the_residuals_of_several_pdes_are_added_in_squares(self) -> None:
        spy = Spy()
        x = Turns(spy).points(5, lambda x: torch.stack([x[:, 0], -x[:, 1]], dim=1))
        assert x.shape == (5, 2)
        ((probes, log_density, size),) = spy.told
        torch.testing.assert_close(size, (probes**2).sum(dim=1).sqrt())
        torch.testing.assert_close(log_density, torch.linspace(-3, 2, 7, dtype=torch.float64))

    def test_many_probes_are_asked_for_in_parts(self) -> None:
        lengths: list[int] = []
        Turns(sampler("rad", BOX, pool=25_000)).points(5, lambda x: lengths.append(len(x)) or x)  # type: ignore[func-returns-value]
        assert lengths == [10_000, 10_000, 5_000]

    @pytest.mark.parametrize("name", ["uniform", "sobol"])
    def test_no_residual_is_asked_for_without_probes(self, name: str) -> None:
        turns = Turns(make(name))
        first, second = (turns.points(20, lambda _: pytest.fail("asked for a residual")) for _ in range(2))
        assert not torch.isclose(first, second).any()

    @pytest.mark.parametrize("name", MOVING)
    def test_samplers_work_where_another_device_is_the_default(self, name: str) -> None:
        turns = Turns(make(name))
        with torch.device("meta"):  # as DeepXDE does with a GPU
            x = turns.points(50, lambda x: x)
        assert x.device.type == "cpu"

    def test_refuses_what_is_no_sampler_or_moves_nothing(self) -> None:
        with pytest.raises(TypeError, match=r"must be a Sampler, as of deepcd.pinn.sampler, got 'aas'"):
            Turns("aas")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="VRBA weights points"):
            Turns(make("vrba"))


def test_importing_deepcd_imports_neither_library() -> None:
    program = "import sys, deepcd, deepcd.solvers.pinn; print({'deepxde', 'pina', 'lightning'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert found.strip() == "set()"


@pytest.mark.parametrize(
    ("library", "arguments", "advice"),
    [
        ("deepxde", (), r'DeepXDE, which is not installed: pip install "deepcd\[adapters\]"'),
        ("pina", ("D",), r'PINA 0.3, which is not installed: pip install "deepcd\[adapters\]"'),
    ],
)
class TestMissing:
    def test_the_error_says_what_to_install(
        self, library: str, arguments: tuple[str, ...], advice: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in [name for name in sys.modules if name.split(".")[0] == library] or [library]:
            monkeypatch.setitem(sys.modules, name, None)
        spec = importlib.util.find_spec(f"deepcd.solvers.pinn.adapters.{library}")
        assert spec is not None
        assert spec.origin is not None
        names = runpy.run_path(spec.origin)  # leaves the module alone that others have imported
        (adapter,) = (value for name, value in names.items() if name in ("DeepXDESampler", "PINASampler"))
        with pytest.raises(ImportError, match=advice) as caught:
            adapter(Spy(), *arguments)
        assert isinstance(caught.value.__cause__, ModuleNotFoundError)


@pytest.fixture(scope="module")
def dde() -> Any:
    library = pytest.importorskip("deepxde")
    if library.backend.backend_name != "pytorch":
        pytest.skip(f"DeepXDE was imported with the backend {library.backend.backend_name}")
    return library


def moving(one: Sampler, period: int = 100) -> Any:
    from deepcd.solvers.pinn.adapters.deepxde import DeepXDESampler

    return DeepXDESampler(one, period)


def bump(x: Tensor, _: Tensor) -> Tensor:
    return source(x[:, :1], x[:, 1:])


def heat_data(dde: Any, pde: Callable[..., Any] | None = None, **options: Any) -> Any:
    """u_t = u_xx + a bump, with points on the walls, at the initial time, and between."""

    def equation(x: Tensor, u: Tensor) -> Tensor:
        return dde.grad.jacobian(u, x, j=1) - dde.grad.hessian(u, x, i=0, j=0) - bump(x, u)

    area = dde.geometry.GeometryXTime(dde.geometry.Interval(-1, 1), dde.geometry.TimeDomain(0, 3))
    walls = dde.icbc.DirichletBC(area, lambda _: 0, lambda _, on: on)
    start = dde.icbc.IC(area, lambda _: 0, lambda _, on: on)
    options = {"num_domain": 200, "num_boundary": 30, "num_initial": 20, **options}
    return dde.data.TimePDE(area, pde or equation, [walls, start], **options)


def model_of(dde: Any, data: Any, *, outputs: int = 1, optimizer: str = "adam") -> Any:
    dde.config.set_random_seed(0)
    model = dde.Model(data, dde.nn.FNN([data.geom.dim, 8, 8, outputs], "tanh", "Glorot normal"))
    model.compile(optimizer, **({"lr": 1e-5} if optimizer == "adam" else {}), verbose=0)
    return model


def train(dde: Any, model: Any, callback: Any, iterations: int | None = 5) -> list[NDArray[np.float32]]:
    """Train and return the points of each iteration."""
    seen = []

    class Watch(dde.callbacks.Callback):  # type: ignore[misc]
        def on_batch_end(self) -> None:
            seen.append(self.model.train_state.X_train.copy())

    model.train(iterations=iterations, callbacks=[Watch(), callback], verbose=0)
    return seen


GEOMETRIES = ("square", "L-shape", "disk", "ellipse", "triangle", "rectangle minus disk", "ball", "tube", "space-time")


def geometry_of(dde: Any, kind: str) -> tuple[Any, list[tuple[float, float]]]:
    """A geometry of DeepXDE, and a box around it."""
    g, square = dde.geometry, [(-1.0, 1.0), (-1.0, 1.0)]
    if kind == "L-shape":
        return g.Polygon([[0, 0], [1, 0], [1, -1], [-1, -1], [-1, 1], [0, 1]]), square
    if kind == "ellipse":  # DeepXDE's bounding box of it is wrong
        return g.Ellipse([0, 0], 1, 0.5), [(-1, 1), (-0.5, 0.5)]
    if kind == "rectangle minus disk":
        return g.CSGDifference(g.Rectangle([-1, -1], [1, 1]), g.Disk([0, 0], 0.4)), square
    if kind == "ball":
        return g.Hypersphere([0, 0, 0, 0.1], 1), [*square, *square[:1], (-0.9, 1.1)]
    if kind == "tube":
        return g.GeometryXTime(g.Disk([0, 0], 1), g.TimeDomain(0, 2)), [*square, (0, 2)]
    if kind == "space-time":
        return g.GeometryXTime(g.Interval(-1, 1), g.TimeDomain(0, 1)), [(-1, 1), (0, 1)]
    if kind == "triangle":
        return g.Triangle([-1, -1], [1, -1], [0, 1]), [(-1.2, 1.2), (-1, 1)]
    return g.Disk([0, 0], 1) if kind == "disk" else g.Rectangle([-1, -1], [1, 1]), square


class TestDeepXDE:
    def test_interior_points_move_after_each_period_and_the_others_stay(self, dde: Any) -> None:
        data = heat_data(dde)
        before, on = data.train_x.copy(), len(data.train_x_bc)
        model = model_of(dde, data)
        seen = train(dde, model, moving(make("uniform"), 2))
        assert len(seen) == 5
        interior = np.zeros(len(before), dtype=bool)
        interior[on:] = (np.abs(before[on:, 0]) < 1) & (before[on:, 1] > 0)
        assert 190 < interior.sum() <= 200
        stay = before[on:][~interior[on:]]
        np.testing.assert_array_equal(seen[0], before)
        np.testing.assert_array_equal(seen[1], before)
        np.testing.assert_array_equal(seen[2], seen[3])
        for points in (seen[2], seen[4], data.train_x):
            assert points.shape == before.shape
            np.testing.assert_array_equal(points[:on], before[:on])
            np.testing.assert_array_equal(points[on : on + len(stay)], stay)
        sets = [{tuple(point) for point in points[-int(interior.sum()) :]} for points in (before, seen[2], seen[4])]
        assert len(set.union(*sets)) == sum(map(len, sets))

    @pytest.mark.parametrize("name", MOVING)
    def test_every_sampler_keeps_the_number_of_points(self, dde: Any, name: str) -> None:
        data = heat_data(dde)
        seen = train(dde, model_of(dde, data), moving(make(name), 1), 4)
        assert {points.shape for points in seen} == {seen[0].shape}
        assert not np.array_equal(seen[0], seen[-1])

    @pytest.mark.parametrize("name", ["rad", "r3", "das", "aas"])
    def test_points_go_to_the_residual(self, dde: Any, name: str) -> None:
        data = heat_data(dde)
        seen = train(dde, model_of(dde, data), moving(make(name), 1), 7)
        assert near(seen[0][-195:]) < 1.5 * UNIFORM
        assert near(seen[-1][-195:]) > 2.5 * UNIFORM

    def test_the_sampler_is_told_the_residuals_at_its_probes_with_their_density(self, dde: Any) -> None:
        def system(x: Tensor, u: Tensor) -> list[Tensor]:
            first = dde.grad.jacobian(u, x, i=0, j=0) - 3 * u[:, 1:]
            return [first, dde.grad.hessian(u, x, component=1, i=1, j=1) + x[:, :1]]

        spy, model = Spy(), model_of(dde, heat_data(dde, system, num_boundary=0), outputs=2)
        model.data.bcs = []
        train(dde, model, moving(spy, 3), 3)
        ((x, log_density, size),) = spy.told
        torch.testing.assert_close(log_density, torch.linspace(-3, 2, 7, dtype=torch.float64))

        def u(point: Tensor) -> Tensor:
            return model.net(point[None].float())[0]

        for point, told in zip(x, size, strict=True):
            first = torch.autograd.functional.jacobian(u, point)[0, 0] - 3 * u(point)[1]
            curvature = torch.autograd.functional.hessian(lambda p: u(p)[1], point)[1, 1]
            assert float(torch.hypot(first, curvature + point[0]).detach()) == pytest.approx(float(told), rel=1e-4)

    def test_a_second_training_goes_on_with_the_points_of_the_first(self, dde: Any) -> None:
        model, callback = model_of(dde, heat_data(dde)), moving(make("uniform"), 4)
        first = train(dde, model, callback, 6)
        second = train(dde, model, callback, 6)
        np.testing.assert_array_equal(first[5], second[1])  # two iterations of the period are over, two to come
        assert not np.isin(second[2][-150:], first[5][-150:]).any()
        assert second[2].shape == first[0].shape

    def test_lbfgs_takes_a_period_in_iterations(self, dde: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in (("maxiter", 30), ("iter_per_step", 10)):
            monkeypatch.setitem(dde.optimizers.LBFGS_options, name, value)
        model = model_of(dde, heat_data(dde), optimizer="L-BFGS")
        seen = train(dde, model, moving(make("uniform"), 20), None)
        assert len(seen) == 3
        np.testing.assert_array_equal(seen[0], seen[1])
        assert not np.array_equal(seen[1], seen[2])

    def test_conditions_can_be_drawn_again_by_the_resampler_of_deepxde(self, dde: Any) -> None:
        data = heat_data(dde)
        resampler = dde.callbacks.PDEPointResampler(period=2, pde_points=False, bc_points=True)
        model, numbers = model_of(dde, data), list(data.num_bcs)
        model.train(iterations=5, callbacks=[moving(make("uniform"), 1), resampler], verbose=0)
        assert data.num_bcs == numbers

    def test_another_resampler_of_pde_points_is_named(self, dde: Any) -> None:
        model = model_of(dde, heat_data(dde))
        callbacks = [dde.callbacks.PDEPointResampler(period=1), moving(make("uniform"), 2)]
        with pytest.raises(RuntimeError, match="leave out other resamplers"):
            model.train(iterations=3, callbacks=callbacks, verbose=0)

    def test_data_that_do_not_take_the_points_are_named(self, dde: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        data = heat_data(dde)
        monkeypatch.setattr(data, "replace_with_anchors", lambda _: None)
        with pytest.raises(RuntimeError, match="TimePDE did not take the new points"):
            train(dde, model_of(dde, data), moving(make("uniform"), 1), 1)

    @pytest.mark.parametrize("kind", GEOMETRIES)
    def test_points_move_within_any_geometry(self, dde: Any, kind: str) -> None:
        geometry, box = geometry_of(dde, kind)
        kind_of_data = dde.data.TimePDE if hasattr(geometry, "timedomain") else dde.data.PDE
        data = kind_of_data(geometry, lambda x, u: u + x[:, :1], [], anchors=geometry.random_points(120))
        model = model_of(dde, data)
        seen = train(dde, model, moving(sampler("rad", box, pool=2_000), 1), 3)
        assert {points.shape for points in seen} == {seen[0].shape}
        assert len({tuple(point) for points in seen for point in points}) > 2.5 * len(seen[0])
        space = getattr(geometry, "geometry", geometry)
        for points in seen:
            assert space.inside(points[:, : space.dim]).all()

    @pytest.mark.parametrize("name", ["uniform", "sobol", "rar-g", "r3", "das-g", "aas"])
    def test_each_kind_of_sampler_keeps_to_the_geometry(self, dde: Any, name: str) -> None:
        disk = dde.geometry.Disk([0, 1.5], 1)
        data = dde.data.PDE(disk, bump, [], num_domain=100)
        seen = train(dde, model_of(dde, data), moving(make(name), 1), 3)
        assert {points.shape for points in seen} == {seen[0].shape}
        assert disk.inside(seen[-1]).all()
        assert not np.array_equal(seen[0], seen[-1])

    def test_a_smaller_box_refines_a_part_of_the_geometry(self, dde: Any) -> None:
        geometry, _ = geometry_of(dde, "L-shape")
        data = dde.data.PDE(geometry, bump, [], num_domain=100)
        corner = sampler("uniform", [(-0.2, 0.2), (-0.2, 0.2)], inside=lambda x: x[:, 0] < 0.1)
        seen = train(dde, model_of(dde, data), moving(corner, 1), 2)
        assert geometry.inside(seen[-1]).all()
        assert (np.abs(seen[-1]) <= 0.2).all()
        assert 0 < seen[-1][:, 0].max() < 0.1, "what the sampler's own domain leaves out stays out"

    def test_a_geometry_that_the_box_does_not_fit_is_refused_before_the_training(self, dde: Any) -> None:
        disk = dde.data.PDE(dde.geometry.Disk([0, 1.5], 1.5), bump, [], num_domain=50)
        for box in ([(2, 3), (0, 3)], [(0, 3), (-1, 1)], [(0, 2), (0, 3)]):
            with pytest.raises(ValueError, match=r"the sampler's box .* must hold the whole domain, or lie within"):
                moving_on(moving(sampler("uniform", box)), disk)
        line = dde.data.PDE(dde.geometry.Interval(-1, 1), bump, [], num_domain=50)
        with pytest.raises(ValueError, match="the sampler has 2 axes, but the geometry 1"):
            moving_on(moving(make("uniform")), line)
        with pytest.raises(ValueError, match="check that its axes are in the order of the points'"):
            moving_on(moving(sampler("uniform", BOX[::-1])), heat_data(dde))

    def test_a_geometry_that_cannot_be_drawn_from_is_refused_before_the_training(self, dde: Any) -> None:
        points = np.random.default_rng(0).uniform((-1, 0), (1, 3), (50, 2))
        cloud = dde.geometry.PointCloud(points, boundary_points=points[:1] - 5)
        with pytest.raises(ValueError, match="none of 65,536 points of the box"):
            moving_on(moving(make("uniform")), dde.data.PDE(cloud, bump, [], num_domain=50))
        thin = dde.data.PDE(dde.geometry.Rectangle([-1, 0], [1, 0.002]), bump, [], num_domain=50)
        with pytest.raises(ValueError, match=r"an acceptance rate of 0.0006.* where 20,000 points are wanted"):
            moving_on(moving(sampler("rad", BOX, pool=20_000)), thin)
        with pytest.raises(ValueError, match="n must not exceed the 30 candidates of an update, got"):
            moving_on(moving(sampler("rad", BOX, pool=30)), heat_data(dde))

    def test_a_sampler_that_leaves_the_geometry_is_named(self, dde: Any) -> None:
        class Stubborn(Spy):
            def sample(self, n: int) -> tuple[Tensor, Tensor]:
                return self.bounds.T[:1].expand(n, 2), torch.zeros(n)

        disk = dde.data.PDE(dde.geometry.Disk([0, 1.5], 1), bump, [], num_domain=50)
        with pytest.raises(ValueError, match=r"Stubborn returned the point \[-1.0, 0.0\], where its `inside` is False"):
            train(dde, model_of(dde, disk), moving(Stubborn(), 1), 1)

    def test_data_without_movable_points_are_refused(self, dde: Any) -> None:
        area = dde.geometry.Rectangle([-1, 0], [1, 3])
        with pytest.raises(ValueError, match="give num_domain"):
            moving_on(moving(Spy()), dde.data.PDE(area, bump, [], num_boundary=20))
        x = np.zeros((3, 2))
        with pytest.raises(TypeError, match=r"must be a deepxde\.data\.PDE or TimePDE with a pde, got DataSet"):
            moving_on(moving(Spy()), dde.data.DataSet(x, x, x, x))
        fractional = dde.data.FPDE(dde.geometry.Interval(-1, 1), bump, 1.5, [], [8], num_domain=5)
        with pytest.raises(TypeError, match="got FPDE"):
            moving_on(moving(Spy()), fractional)

    def test_a_residual_that_is_not_finite_is_named_with_its_point(self, dde: Any) -> None:
        data = heat_data(dde, lambda x, u: torch.where(x[:, :1] < 0, math.inf, u))
        with pytest.raises(ValueError, match=r"residual must be finite, but is not at point \[-"):
            train(dde, model_of(dde, data), moving(make("rad"), 1), 1)

    def test_a_period_is_a_positive_integer(self, dde: Any) -> None:
        with pytest.raises(ValueError, match="period must be at least 1, got 0"):
            moving(Spy(), 0)


def moving_on(callback: Any, data: Any) -> None:
    """Begin a training without a network."""

    class Model:
        train_state = type("State", (), {"iteration": 0})

    Model.data = data  # type: ignore[attr-defined]
    callback.set_model(Model())
    callback.on_train_begin()


@pytest.fixture(scope="module")
def pina() -> Any:
    library = pytest.importorskip("pina")
    for part in ("domain", "equation.zoo", "model", "operator", "optim", "problem", "solver"):
        importlib.import_module(f"pina.{part}")
    return library


def refining(one: Sampler, every: int = 1, condition: str = "D") -> Any:
    from deepcd.solvers.pinn.adapters.pina import PINASampler

    return PINASampler(one, condition, sample_every=every)


def heat_problem(pina: Any, equation: Any = None, *, domain: Any = None, outputs: tuple[str, ...] = ("u",)) -> Any:
    """The same equation; PINA sorts the labels of its points, so that time comes first in them."""
    x_and_time = domain or pina.domain.CartesianDomain({"x": [-1, 1], "t": [0, 3]})
    wall = pina.domain.CartesianDomain({"x": -1.0, "t": [0, 3]})

    def heat(x: Any, u: Any) -> Any:
        change = pina.operator.grad(u, x, d=["t"]) - pina.operator.laplacian(u, x, d=["x"])
        return change.as_subclass(Tensor) - source(x.extract("x"), x.extract("t")).as_subclass(Tensor)

    class Heat(pina.problem.TimeDependentProblem, pina.problem.SpatialProblem):  # type: ignore[misc]
        output_variables = list(outputs)  # noqa: RUF012
        spatial_domain = pina.domain.CartesianDomain({"x": [-1, 1]})
        temporal_domain = pina.domain.CartesianDomain({"t": [0, 3]})
        domains = {"D": x_and_time, "wall": wall}  # noqa: RUF012
        conditions = {  # noqa: RUF012
            "D": pina.Condition(domain="D", equation=equation or pina.equation.Equation(heat)),
            "wall": pina.Condition(domain="wall", equation=pina.equation.zoo.FixedValue(0.0)),
        }

    torch.manual_seed(0)
    problem = Heat()
    problem.discretise_domain(200, domains="D")
    problem.discretise_domain(30, domains="wall")
    return problem


def fit(pina: Any, problem: Any, callback: Any, epochs: int = 5, **options: Any) -> list[dict[str, Tensor]]:
    """Train and return the points of each epoch, those of D with space first."""
    seen: list[dict[str, Tensor]] = []

    class Watch(importlib.import_module("lightning.pytorch").Callback):  # type: ignore[misc]
        def on_train_epoch_start(self, *_: Any) -> None:
            seen.append({})

        def on_train_batch_start(self, _: Any, __: Any, batch: Any, index: int) -> None:
            for name, points in batch:
                x = points["input"].extract(["x", "t"]).detach().as_subclass(Tensor).clone()
                seen[-1][name] = torch.cat([seen[-1].get(name, x[:0]), x])

    size = len(problem.output_variables)
    network = pina.model.FeedForward(2, size, inner_size=8)
    optimizer = pina.optim.TorchOptimizer(torch.optim.Adam, lr=1e-5)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = pina.Trainer(
        pina.solver.PhysicsInformedSingleModelSolver(problem, network, optimizer=optimizer),
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[Watch(), callback],
        **quiet,
        **options,
    )
    trainer.train()
    assert len(seen) == epochs
    return seen


def rows(x: Tensor) -> set[tuple[float, ...]]:
    return {tuple(point) for point in x.tolist()}


DOMAINS = ("ellipsoid", "simplex", "union", "difference", "exclusion", "intersection", "one's own")


def domain_of(pina: Any, kind: str) -> Any:
    """A domain of PINA within BOX."""
    of = pina.domain
    corners = [pina.LabelTensor(torch.tensor([point]), ["t", "x"]) for point in ((0.0, -1.0), (0.0, 1.0), (3.0, 0.0))]
    disk, simplex = of.EllipsoidDomain({"x": [-1, 1], "t": [0, 3]}), of.SimplexDomain(corners)
    low, left = of.CartesianDomain({"x": [-1, 1], "t": [0, 1]}), of.CartesianDomain({"x": [-1, 0], "t": [0, 3]})

    class Upper(of.CartesianDomain):  # type: ignore[misc, name-defined]
        def is_inside(self, point: Any, check_border: bool = False) -> bool:
            return bool(super().is_inside(point, check_border) and (point.extract("t") > 1).all())

    return {
        "ellipsoid": disk,
        "simplex": simplex,
        "union": of.Union([low, left]),
        "difference": of.Difference([disk, of.Union([low, left])]),
        "exclusion": of.Exclusion([low, left, simplex]),
        "intersection": of.Intersection([disk, left]),
        "one's own": Upper({"x": [-1, 1], "t": [0, 3]}),
    }[kind]


class TestPINA:
    @pytest.mark.parametrize("batches", [{}, {"batch_size": 40}, {"batch_size": 40, "automatic_batching": True}])
    def test_points_move_after_each_period_and_the_others_stay(self, pina: Any, batches: dict[str, Any]) -> None:
        seen = fit(pina, heat_problem(pina), refining(make("uniform"), 2), 6, **batches)
        sets = [rows(epoch["D"]) for epoch in seen]
        assert {len(points) for points in sets} == {200}
        assert sets[0] == sets[1] == sets[2]  # PINA counts from zero: the first move is after epoch 2
        assert sets[3] == sets[4]
        assert len(sets[0] | sets[3] | sets[5]) == 600
        assert all(rows(epoch["wall"]) == rows(seen[0]["wall"]) for epoch in seen)

    @pytest.mark.parametrize("name", MOVING)
    def test_every_sampler_keeps_the_number_of_points(self, pina: Any, name: str) -> None:
        seen = fit(pina, heat_problem(pina), refining(make(name)), 4)
        assert {epoch["D"].shape for epoch in seen} == {(200, 2)}
        assert not torch.equal(seen[0]["D"], seen[-1]["D"])
        low, high = torch.tensor(BOX).T
        assert all(((epoch["D"] >= low) & (epoch["D"] <= high)).all() for epoch in seen)

    @pytest.mark.parametrize("name", ["rad", "r3", "das", "aas"])
    def test_points_go_to_the_residual(self, pina: Any, name: str) -> None:
        seen = fit(pina, heat_problem(pina), refining(make(name)), 8)
        assert near(seen[0]["D"]) < 2 * UNIFORM
        assert near(seen[-1]["D"]) > 2.5 * UNIFORM

    def test_points_of_the_validation_stay(self, pina: Any) -> None:
        problem = heat_problem(pina)
        before = problem.discretised_domains["D"].extract(["x", "t"]).as_subclass(Tensor)
        seen = fit(pina, problem, refining(make("uniform")), 3, train_size=0.75, val_size=0.25)
        assert len(seen[0]["D"]) == len(seen[2]["D"]) == 150
        assert not rows(seen[2]["D"]) & rows(before)
        now = problem.conditions["D"].data.input.extract(["x", "t"]).as_subclass(Tensor)
        assert rows(now) == (rows(before) - rows(seen[0]["D"])) | rows(now) - rows(before)
        assert len(rows(now) & rows(before)) == 50

    def test_the_sampler_is_told_the_residuals_at_its_probes_with_their_density(self, pina: Any) -> None:
        def system(x: Any, u: Any) -> Any:
            both = [u.extract("u") * 3 - x.extract("t"), u.extract("v") + x.extract("x") ** 2]
            return torch.cat([part.as_subclass(Tensor) for part in both], dim=1)

        spy, problem = Spy(), heat_problem(pina, pina.equation.Equation(system), outputs=("u", "v"))
        del problem.conditions["wall"], problem.domains["wall"]
        seen: list[tuple[Tensor, Tensor]] = []
        callback = refining(spy)

        def watched(current: Any, name: str, solver: Any, sample: Any = callback.sample) -> Any:
            points = sample(current, name, solver)
            x, _, _ = spy.told[-1]
            inputs = pina.LabelTensor(x.float(), ["x", "t"])
            seen.append((x, solver.forward(inputs).detach().as_subclass(Tensor)))
            return points

        callback.sample = watched
        fit(pina, problem, callback, 2)
        ((x, log_density, size),) = spy.told
        torch.testing.assert_close(log_density, torch.linspace(-3, 2, 7, dtype=torch.float64))
        _, u = seen[0]
        expected = torch.hypot(3 * u[:, 0] - x[:, 1], u[:, 1] + x[:, 0] ** 2)
        torch.testing.assert_close(size, expected, rtol=1e-4, atol=1e-5)

    def test_loading_again_is_left_as_it_was(self, pina: Any) -> None:
        loads = []
        problem = heat_problem(pina)
        original = pina.DataModule.train_dataloader

        class Counted(pina.DataModule):  # type: ignore[misc]
            def train_dataloader(self) -> Any:
                loads.append(1)
                return original(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pina.DataModule, "train_dataloader", Counted.train_dataloader)
            fit(pina, problem, refining(make("uniform"), 3), 9)
        assert len(loads) == 3  # at the start, after epoch 3, and after epoch 6

    @pytest.mark.parametrize("kind", DOMAINS)
    def test_many_points_are_told_apart_as_pina_does_it(self, pina: Any, kind: str) -> None:
        from deepcd.solvers.pinn.adapters.pina_domains import extent, inside

        domain, axes = domain_of(pina, kind), ["x", "t"]
        low, high = extent(domain, axes).T
        x = (low + (high - low) * torch.rand(300, 2, generator=torch.Generator().manual_seed(0))).float()
        x[:2] = torch.tensor([[-1.0, 1.0], [0.0, 0.0]])  # on borders
        held = inside(domain, x, axes)
        assert held.tolist() == [bool(domain.is_inside(pina.LabelTensor(point[None], axes))) for point in x]
        assert 0 < held.double().mean() < 1

    def test_points_of_a_simplex_are_inside_whatever_the_order_of_its_labels(self, pina: Any) -> None:
        from deepcd.solvers.pinn.adapters.pina_domains import inside

        corners = [
            pina.LabelTensor(torch.tensor([point]), ["x", "t"]) for point in ((-1.0, 0.0), (1.0, 0.0), (0.0, 3.0))
        ]
        simplex = pina.domain.SimplexDomain(corners)
        points = simplex.sample(100).extract(["x", "t"]).as_subclass(Tensor)
        assert inside(simplex, points, ["x", "t"]).all()  # PINA's own `is_inside` denies it for most of them

    @pytest.mark.parametrize("kind", DOMAINS[:-1])
    def test_points_move_within_any_domain(self, pina: Any, kind: str) -> None:
        domain = domain_of(pina, kind)
        seen = fit(pina, heat_problem(pina, domain=domain), refining(sampler("rad", BOX, pool=500)), 3)
        assert {epoch["D"].shape for epoch in seen} == {(200, 2)}
        assert not rows(seen[0]["D"]) & rows(seen[2]["D"])
        assert all(domain.is_inside(pina.LabelTensor(point[None], ["x", "t"])) for point in seen[2]["D"][::5])

    def test_a_domain_that_the_box_does_not_fit_is_refused(self, pina: Any) -> None:
        with pytest.raises(
            ValueError, match=r"the sampler's box \[\[0.0, 3.0\], \[-1.0, 1.0\]\] must hold the whole domain"
        ):
            fit(pina, heat_problem(pina), refining(sampler("uniform", BOX[::-1])))
        with pytest.raises(ValueError, match="the sampler has 1 axes, but the problem 2: x, t"):
            fit(pina, heat_problem(pina), refining(sampler("uniform", BOX[:1])))
        with pytest.raises(ValueError, match=r"none of 65,536 points of the box .* a domain that has a volume"):
            fit(pina, heat_problem(pina), refining(make("uniform"), condition="wall"))
        shell = pina.domain.EllipsoidDomain({"x": [-1, 1], "t": [0, 3]}, sample_surface=True)
        with pytest.raises(ValueError, match="none of 65,536 points of the box"):
            fit(pina, heat_problem(pina, domain=shell), refining(make("uniform")))

    def test_an_unknown_condition_is_refused(self, pina: Any) -> None:
        with pytest.raises(RuntimeError, match="Unknown condition 'inside'"):
            fit(pina, heat_problem(pina), refining(make("uniform"), condition="inside"))

    def test_a_residual_that_is_not_finite_is_named_with_its_point(self, pina: Any) -> None:
        broken = pina.equation.Equation(lambda x, u: torch.where(x.extract("x") < 0, math.inf, u))
        with pytest.raises(ValueError, match=r"residual must be finite, but is not at point \[-"):
            fit(pina, heat_problem(pina, broken), refining(make("rad")))

    def test_a_period_is_a_positive_integer(self, pina: Any) -> None:
        with pytest.raises(ValueError, match="sample_every must be at least 1, got 0"):
            refining(Spy(), 0)
