"""Runs: what they learn, how they resume, what they refuse."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import pi, sin

from deepcd import pinn
from deepcd.data import weight_files
from deepcd.solvers.pinn import checkpoints
from deepcd.solvers.pinn.terms import Term

SMALL: dict[str, Any] = {
    "points": 60, "boundary": 15, "period": 10, "turn": 2, "width": 8, "depth": 2, "warmup": 20, "steps": 60,
}  # fmt: skip


def heat(**statement: Any) -> pinn.Problem:
    """A rod that cools, with its solution."""
    D = pinn.box(t=(0, 1), x=(0, 1))
    return pinn.Problem(
        lambda t, x, u: u.t - 0.1 * u.xx,
        D,
        pinn.on(["x-", "x+"], lambda u: u),
        start=lambda x: sin(pi * x),
        solution=lambda t, x: torch.exp(-0.1 * pi**2 * t) * sin(pi * x),
        name="heat",
        **statement,
    )


@pytest.mark.parametrize("optimizer", pinn.OPTIMIZERS)
def test_every_optimizer_learns(optimizer: str) -> None:
    given = {**SMALL, "steps": 30 if optimizer == "gauss-newton" else 200, "rate": 1e-2}
    run = pinn.solve("diffusion", sampler="rad", optimizer=optimizer, **given)
    assert run.steps >= given["steps"]
    assert run.error() < 0.5 * run.history[0]["error"]
    assert run.error() == run.history[-1]["error"]


class TestGaussNewton:
    def test_a_rod_that_cools(self) -> None:
        run = pinn.solve(heat(), points=300, boundary=60, width=10, depth=2, steps=60)
        assert run.error() < 1e-6
        assert run.residual_rms < 1e-4

    def test_polygons_with_three_kinds_of_conditions(self) -> None:
        L = pinn.polygon((0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2))

        def known(x: Any, y: Any) -> Any:
            return torch.exp(x) * sin(y) + x * x

        def flux(x: Any, y: Any, n: Any) -> Any:
            return known(x, y).x * n.x + known(x, y).y * n.y

        run = pinn.solve(
            lambda u: u.xx + u.yy - 2,
            L,
            pinn.on(L[0, 1, 2], lambda x, y, u: u - known(x, y)),
            pinn.on(L[3, 4], lambda x, y, u, n: u.n - flux(x, y, n)),
            pinn.on(L[5], lambda x, y, u, n: u.n + 3 * u - flux(x, y, n) - 3 * known(x, y)),
            solution=known,
            points=400,
            boundary=60,
            width=10,
            depth=2,
            steps=60,
        )
        assert run.error() < 1e-4

    def test_systems(self) -> None:
        D = pinn.box(x=(0, 1), y=(0, 1))

        def known(x: Any, y: Any) -> Any:
            return sin(pi * x) * torch.cos(y), x * y**2

        def force(u: Any, v: Any) -> list[Any]:
            return [(2 * u.x + v.y).x + 0.5 * (u.y + v.x).y, 0.5 * (u.y + v.x).x + (u.x + 2 * v.y).y]

        run = pinn.solve(
            lambda x, y, u, v: [a - b for a, b in zip(force(u, v), force(*known(x, y)), strict=True)],
            D,
            pinn.on(D.boundary, lambda x, y, u, v: [u - known(x, y)[0], v - known(x, y)[1]]),
            fields="uv",
            solution=known,
            points=300,
            boundary=60,
            width=10,
            depth=2,
            steps=40,
        )
        assert run.error() < 1e-3
        assert run.predict([[0.5, 0.5], [0.2, 0.1]]).shape == (2, 2)
        assert run.residual([[0.5, 0.5]]).shape == (1, 2)

    def test_third_derivatives_and_periods(self) -> None:
        run = pinn.solve(
            lambda t, x, u: u.t + u.xxx / 50,
            pinn.box(t=(0, 1), x=(-pi, pi), periodic="x"),
            start=lambda x: 1.0 * sin(x),
            solution=lambda t, x: sin(x + t / 50),
            points=200,
            width=8,
            depth=2,
            steps=40,
        )
        assert run.error() < 1e-6
        left, right = run.predict([[0.3, -pi], [0.3, pi]])
        assert left == pytest.approx(right, abs=1e-12)

    def test_unknowns_with_their_deviations(self) -> None:
        generator = np.random.default_rng(0)
        x = generator.uniform(0, 1, (20, 2))
        u = np.exp(-0.37 * pi**2 * x[:, 0]) * np.sin(pi * x[:, 1])

        def fitted(noise: float) -> pinn.Run:
            seen = u + noise * generator.standard_normal(20)
            observed = pinn.observe(x, u=seen, sigma=noise) if noise else pinn.observe(x, u=seen)
            return pinn.solve(
                lambda t, x, u, k: u.t - k * u.xx,
                pinn.box(t=(0, 1), x=(0, 1)),
                pinn.on(["x-", "x+"], lambda u: u),
                observed,
                start=lambda x: sin(pi * x),
                unknowns={"k": 1.0},
                points=300,
                boundary=60,
                width=10,
                depth=2,
                steps=80,
            )

        exact = fitted(0.0)
        assert exact.unknowns["k"] == pytest.approx(0.37, abs=1e-5)
        assert exact.deviation == {}
        noisy = fitted(0.01)
        assert 1e-3 < noisy.deviation["k"] < 3e-2
        assert abs(noisy.unknowns["k"] - 0.37) < 4 * noisy.deviation["k"]


def test_self_scaled_broyden_solves_diffusion() -> None:
    run = pinn.solve("diffusion", sampler="sobol", optimizer="ssbroyden", points=100, width=12, depth=2, steps=900)
    assert run.error() < 1e-4


def test_what_it_returns() -> None:
    run = pinn.solve("one_peak", sampler="aas", **SMALL)
    x = np.random.default_rng(0).uniform(-1, 1, (7, 2))
    assert run.predict(x).dtype == np.float64
    assert run.predict(x).shape == run.residual(x).shape == (7,)
    np.testing.assert_allclose(run.predict([[1.0, 0.3], [0.2, -1.0]]), 0, atol=1e-15)
    row = run.history[-1]
    assert {"steps", "seconds", "sampler seconds", "loss", "held-out loss", "error", "mean square"} <= row.keys()
    assert row["largest square"] >= row["mean square"] > 0
    assert len(run.film) == len(run.history) == 6


def test_derivatives_are_predicted() -> None:
    run = pinn.solve(heat(), **SMALL)
    x = np.array([[0.3, 0.4], [0.6, 0.2]])
    h = 1e-4
    by_difference = (run.predict(x + np.array([0, h])) - 2 * run.predict(x) + run.predict(x - np.array([0, h]))) / h**2
    np.testing.assert_allclose(run.predict(x, "u.xx"), by_difference, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(run.predict(x, "u.t") - 0.1 * run.predict(x, "u.xx"), run.residual(x), atol=1e-12)
    np.testing.assert_array_equal(run.predict(x, "u"), run.predict(x))
    for what in ("v", "u.y", "v.x"):
        with pytest.raises(ValueError, match="'"):
            run.predict(x, what)


def test_the_start_is_met_exactly() -> None:
    run = pinn.solve(heat(), **{**SMALL, "steps": 2})
    x = np.linspace(0, 1, 5)
    np.testing.assert_allclose(run.predict(np.stack([0 * x, x], 1)), np.sin(pi * x), atol=1e-15)


def test_the_returned_iterate_is_the_lowest_on_held_out_points() -> None:
    """Later iterates are worse here, because the equation is turned into another one."""
    values = []

    def spoil(run: pinn.Run) -> None:
        values.append(run.history[-1]["held-out loss"])
        if len(values) == 3:
            run.objective.load(run.objective.theta + 1.0)  # far away; some steps do not bring it back

    run = pinn.solve(heat(), callback=spoil, **{**SMALL, "steps": 32})
    best = run.objective.mean_square(run.objective.placed(run.problem.domain.points(500, torch.Generator()), None, [
        one.part.points(50, torch.Generator()) for one in run.problem.terms if one.part is not None
    ]))  # fmt: skip
    assert best < 100 * values[2]


class TestReplacement:
    @pytest.mark.parametrize("sampler", ["aas", "das"])
    def test_flows_retain_what_is_above_average(self, sampler: str) -> None:
        run = pinn.solve("one_peak", sampler=sampler, **SMALL)
        size, leaving = run.objective.sizes(), run._leaving()
        assert leaving.sum() == 12
        assert size[leaving].max() <= size.mean()

    def test_others_replace_the_oldest(self) -> None:
        run = pinn.solve("one_peak", sampler="sobol", **SMALL)
        assert run._leaving().nonzero()[:, 0].tolist() == list(range(12))

    def test_what_keeps_its_points_chooses_itself(self) -> None:
        assert pinn.solve("one_peak", sampler="r3", **SMALL)._leaving().all()
        assert pinn.solve("one_peak", sampler="aas", share=1.0, **SMALL)._leaving().all()


def test_a_solution_that_is_not_known_is_not_asked_for() -> None:
    run = pinn.solve(lambda x, u: u.xx + 1, pinn.box(x=(0, 1)), pinn.on(["x-", "x+"], lambda u: u), **SMALL)
    assert "error" not in run.history[-1]
    np.testing.assert_allclose(run.predict([[0.5]]), 0.125, atol=1e-3)


def test_the_film_stays_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepcd.solvers.pinn.run.FILM", 4)
    run = pinn.solve("diffusion", sampler="uniform", optimizer="adam", **{**SMALL, "steps": 300})
    assert sorted(run.film) == list(range(0, 30, 8))


@pytest.mark.parametrize("sampler", pinn.SAMPLERS)
def test_resumes_bit_for_bit(sampler: str, tmp_path: Path) -> None:
    whole = pinn.solve("burgers", sampler=sampler, **SMALL)
    pinn.solve("burgers", sampler=sampler, out=tmp_path, callback=lambda run: len(run.history) == 3, **SMALL)
    rest = pinn.solve("burgers", sampler=sampler, out=tmp_path, resume=True, **SMALL)
    assert [row["error"] for row in rest.history] == [row["error"] for row in whole.history]
    for a, b in zip(rest.network.parameters(), whole.network.parameters(), strict=True):
        assert torch.equal(a, b)
    assert sorted(rest.film) == sorted(whole.film)


@pytest.mark.parametrize("stop", [1, 3])  # within Adam's share, and beyond
@pytest.mark.parametrize("optimizer", pinn.OPTIMIZERS)
def test_so_does_every_optimizer(optimizer: str, stop: int, tmp_path: Path) -> None:
    options = {**SMALL, "sampler": "r3", "optimizer": optimizer}
    whole = pinn.solve("gaussian_2d", **options)
    pinn.solve("gaussian_2d", out=tmp_path, callback=lambda run: len(run.history) == stop, **options)
    rest = pinn.solve("gaussian_2d", out=tmp_path, resume=True, **options)
    assert [row["loss"] for row in rest.history] == [row["loss"] for row in whole.history]


def test_and_unknowns_on_a_polygon(tmp_path: Path) -> None:
    L = pinn.polygon((0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2))
    seen = pinn.observe([[0.5, 0.5], [1.5, 0.5]], u=[0.1, 0.1], sigma=0.01)

    def run(**options: Any) -> pinn.Run:
        walls = pinn.on(L.boundary, lambda u: u)
        return pinn.solve(lambda u, k: k * (u.xx + u.yy) + 1, L, walls, seen, unknowns={"k": 1.0}, **SMALL, **options)

    whole = run()
    run(out=tmp_path, callback=lambda run: len(run.history) == 2)
    rest = run(out=tmp_path, resume=True)
    assert rest.unknowns == whole.unknowns
    assert rest.deviation == whole.deviation


def test_killed_and_resumed(tmp_path: Path) -> None:
    code = (
        "import sys, torch; from deepcd import pinn; from deepcd.solvers.pinn import training;"
        "training.CHECKPOINT_SECONDS = 0.0;"
        "torch.set_num_threads(1);"
        "run = pinn.solve('one_peak', sampler='r3', out=sys.argv[1], resume=sys.argv[2] == 'y',"
        f" **{SMALL | {'steps': 150}});"
        "print(run.history[-1]['loss'])"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(folder: Path, resume: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, str(folder), resume]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    def steps(file: Path) -> int:
        return int(weight_files.load(file, None)[0]["run.steps"])

    whole, _ = start(tmp_path / "whole", "n").communicate(timeout=300)
    killed, file = start(tmp_path / "killed", "n"), tmp_path / "killed" / checkpoints.NAME
    limit = time.monotonic() + 300
    while not (file.exists() and steps(file) >= 50):
        assert time.monotonic() < limit
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert steps(file) < 150
    rest, _ = start(tmp_path / "killed", "y").communicate(timeout=300)
    assert whole.strip()
    assert rest == whole


class TestSettings:
    def test_those_that_the_problem_recommends_are_the_defaults(self) -> None:
        small: dict[str, Any] = {"width": 8, "points": 40, "callback": lambda run: True}
        run = pinn.solve("two_peaks", **small)
        assert run.settings == pinn.RunSettings(width=8, points=40, sampler_options={"replay": 0.0})
        other = pinn.solve(heat(recommended={"depth": 2, "steps": 4}), **small)
        assert other.settings == pinn.RunSettings(width=8, points=40, depth=2, steps=4, budget=None)

    def test_optimisers_are_chosen_by_size(self) -> None:
        def chosen(equation: Any, **settings: Any) -> str:
            run = pinn.solve(equation, steps=1, points=20, boundary=20, sampler="sobol", **settings)
            return run.settings.optimizer

        assert chosen(heat()) == "gauss-newton"
        assert chosen(heat(), width=60, warmup=0) == "ssbroyden"
        assert chosen("gaussian_8d") == "gauss-newton"
        many: dict[str, Any] = {f"x{i}": (-1, 1) for i in range(12)}
        assert chosen(lambda u: u.d("x0", "x0") - 1, domain=pinn.box(**many), warmup=0) == "ssbroyden"

    def test_networks_grow_with_the_budget(self) -> None:
        def shape(budget: float) -> tuple[int, int]:
            settings = pinn.solve(
                heat(), budget=budget, callback=lambda run: True, sampler="sobol", turn=1, period=1
            ).settings
            return settings.width, settings.points

        assert shape(60.0) > shape(5.0)

    def test_a_budget_in_seconds_ends_a_run(self) -> None:
        begun = time.monotonic()
        run = pinn.solve(heat(), **{**SMALL, "steps": None}, budget=1.0)
        assert 1.0 <= run.seconds < 4.0
        assert time.monotonic() - begun < 20.0

    def test_options_of_the_sampler(self, tmp_path: Path) -> None:
        small = {**SMALL, "sampler": "aas", "steps": 20}
        published = pinn.solve("two_peaks", **small)
        plain, other = (pinn.solve("two_peaks", **small, sampler_options={"replay": share}) for share in (0.0, 0.9))
        assert published.history[-1]["loss"] == plain.history[-1]["loss"] != other.history[-1]["loss"]
        rad = pinn.solve("two_peaks", **{**small, "sampler": "rad"}, out=tmp_path, sampler_options={"pool": 500})
        assert rad.sampler.probes == 500
        other_options = {**small, "sampler": "rad", "sampler_options": {"pool": 501}}
        with pytest.raises(ValueError, match=r"sampler_options = \{'pool': 500\}, not \{'pool': 501\}"):
            pinn.solve("two_peaks", **other_options, out=tmp_path, resume=True)
        with pytest.raises(TypeError, match="replays"):
            pinn.solve("two_peaks", **small, sampler_options={"replays": 0.5})
        with pytest.raises(ValueError, match="sampler_options are for a sampler that is given by name"):
            pinn.solve("two_peaks", **{**small, "sampler": rad.sampler}, sampler_options={"pool": 500})


class TestBadInput:
    def test_unknown_names_list_the_known(self) -> None:
        with pytest.raises(ValueError, match=r"'one_peek'; known: .*one_peak.*burgers"):
            pinn.solve("one_peek")
        with pytest.raises(ValueError, match=r"'rda'; known: .*rad"):
            pinn.solve("one_peak", sampler="rda")
        with pytest.raises(ValueError, match="'sgd'; known: gauss-newton, ssbroyden"):
            pinn.solve("one_peak", optimizer="sgd")

    @pytest.mark.parametrize(
        ("name", "value"),
        [("budget", 0), ("steps", 0), ("points", 0), ("seed", -1), ("rate", 0.0), ("period", 0), ("share", 0.0)],
    )
    def test_numbers(self, name: str, value: float) -> None:
        with pytest.raises(ValueError, match=f"{name} must be"):
            pinn.solve("one_peak", **{name: value})  # type: ignore[arg-type]

    def test_statements_are_complete(self) -> None:
        D = pinn.box(x=(0, 1))
        with pytest.raises(TypeError, match="an equation needs a domain"):
            pinn.solve(lambda x, u: u.xx)
        with pytest.raises(ValueError, match="a problem has its domain and conditions"):
            pinn.solve("burgers", D)
        with pytest.raises(ValueError, match="Gauss-Newton needs float64"):
            pinn.solve("burgers", optimizer="gauss-newton", single=True)

    def test_other_settings_are_not_resumed(self, tmp_path: Path) -> None:
        pinn.solve("diffusion", sampler="uniform", out=tmp_path, **SMALL)
        with pytest.raises(ValueError, match="width = 8, not 9"):
            pinn.solve("diffusion", sampler="uniform", out=tmp_path, resume=True, **{**SMALL, "width": 9})
        with pytest.raises(FileExistsError, match="resume that run"):
            pinn.solve("diffusion", sampler="uniform", out=tmp_path, **SMALL)
        with pytest.raises(weight_files.WeightFileError, match="cannot be read"):
            pinn.solve("diffusion", sampler="uniform", out=tmp_path / "other", resume=True, **SMALL)

    def test_checkpoints_of_another_version_are_not_resumed(self, tmp_path: Path) -> None:
        pinn.solve("diffusion", sampler="uniform", out=tmp_path, **SMALL)
        tensors, record = weight_files.load(tmp_path / checkpoints.NAME, checkpoints.ARCHITECTURE)
        weight_files.save(tmp_path / checkpoints.NAME, tensors, record | {"architecture": "pinn/1"})
        with pytest.raises(ValueError, match="holds 'pinn/1', but this version resumes"):
            pinn.solve("diffusion", sampler="uniform", out=tmp_path, resume=True, **SMALL)

    @pytest.mark.parametrize("optimizer", ["gauss-newton", "adam", "lbfgs", "ssbroyden"])
    @pytest.mark.parametrize("sampler", ["uniform", "rad"])
    def test_nan_keeps_the_last_checkpoint(
        self, sampler: str, optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("deepcd.solvers.pinn.training.CHECKPOINT_SECONDS", 0.0)

        rounds, plain = 0, Term.residuals

        def count(run: pinn.Run) -> None:
            nonlocal rounds
            rounds += 1

        def residuals(self: Term, *given: Any) -> torch.Tensor:
            return plain(self, *given) * (torch.nan if rounds == 3 else 1.0)

        monkeypatch.setattr(Term, "residuals", residuals)
        options = {**SMALL, "sampler": sampler, "optimizer": optimizer}
        with pytest.raises(pinn.NotFiniteError, match=r"the equation of 'heat' is not finite at t = 0\.\d+, x = "):
            pinn.solve(heat(), out=tmp_path, callback=count, **options)
        assert len(weight_files.load(tmp_path / checkpoints.NAME, None)[1]["history"]) == 3

    def test_points(self) -> None:
        run = pinn.solve(heat(), sampler="uniform", **{**SMALL, "steps": 1})
        with pytest.raises(ValueError, match=r"shape \(n, 2\), a column for each of t, x, got \(3,\)"):
            run.predict([0.0, 1.0, 2.0])
        with pytest.raises(ValueError, match="finite"):
            run.predict([[0.0, np.nan]])
