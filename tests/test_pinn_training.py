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

from deepcd import pinn
from deepcd.data import weight_files
from deepcd.pde.problems import Problem
from deepcd.solvers.pinn import checkpoints

SMALL: dict[str, Any] = {"points": 60, "period": 10, "width": 8, "depth": 2, "warmup": 20, "budget": 60}


@pytest.mark.parametrize("optimizer", pinn.OPTIMIZERS)
def test_every_optimizer_learns(optimizer: str) -> None:
    run = pinn.solve("diffusion", sampler="rad", optimizer=optimizer, **{**SMALL, "budget": 200, "rate": 1e-2})
    assert run.history[-1]["gradients"] >= 200
    assert run.error() < 0.5 * run.history[0]["error"]
    assert run.error() == run.history[-1]["error"]


def test_self_scaled_broyden_solves_diffusion() -> None:
    run = pinn.solve("diffusion", sampler="sobol", optimizer="ssbroyden", points=100, width=12, depth=2, budget=900)
    assert run.error() < 1e-4


def test_what_it_returns() -> None:
    run = pinn.solve("one_peak", sampler="aas", **SMALL)
    x = np.random.default_rng(0).uniform(-1, 1, (7, 2))
    assert run.predict(x).dtype == np.float64
    assert run.predict(x).shape == run.residual(x).shape == (7,)
    np.testing.assert_allclose(run.predict([[1.0, 0.3], [0.2, -1.0]]), 0, atol=1e-15)
    row = run.history[-1]
    assert {"gradients", "seconds", "sampler seconds", "loss", "error", "mean square", "largest square"} <= row.keys()
    assert row["largest square"] >= row["mean square"] > 0
    assert len(run.film) == len(run.history) == 6


def test_the_film_stays_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepcd.solvers.pinn.run.FILM", 4)
    run = pinn.solve("diffusion", sampler="uniform", **{**SMALL, "budget": 300})
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


def test_killed_and_resumed(tmp_path: Path) -> None:
    code = (
        "import sys, torch; from deepcd import pinn; from deepcd.solvers.pinn import training;"
        "training.CHECKPOINT_SECONDS = 0.0;"
        "torch.set_num_threads(1);"
        "run = pinn.solve('one_peak', sampler='r3', out=sys.argv[1], resume=sys.argv[2] == 'y',"
        f" **{SMALL | {'budget': 150}});"
        "print(run.history[-1]['loss'])"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(folder: Path, resume: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, str(folder), resume]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    whole, _ = start(tmp_path / "whole", "n").communicate(timeout=300)
    killed, file = start(tmp_path / "killed", "n"), tmp_path / "killed" / checkpoints.NAME
    limit = time.monotonic() + 300
    while not (file.exists() and int(weight_files.load(file, None)[0]["gradients"]) >= 50):
        assert time.monotonic() < limit
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert int(weight_files.load(file, None)[0]["gradients"]) < 150
    rest, _ = start(tmp_path / "killed", "y").communicate(timeout=300)
    assert whole.strip()
    assert rest == whole


class TestSettings:
    @pytest.mark.parametrize("name", ["two_peaks", "gaussian_10d", "wave"])
    def test_those_that_the_problem_recommends_are_the_defaults(self, name: str) -> None:
        small: dict[str, Any] = {"width": 8, "points": 40, "callback": lambda run: True}
        run, given = pinn.solve(name, **small), pinn.solve(name, budget=30, optimizer="adam", **small)
        recommended = {k: v for k, v in run.problem.recommended.items() if k not in ("samplers", *small)}
        defaults = vars(pinn.RunSettings(width=8, points=40))
        options = {"sampler_options": {"replay": 0.0} if name == "two_peaks" else {}}
        assert vars(run.settings) == defaults | recommended | options
        assert vars(given.settings) == vars(run.settings) | {"budget": 30, "optimizer": "adam"}

    def test_options_of_the_sampler(self, tmp_path: Path) -> None:
        small = {**SMALL, "sampler": "aas", "budget": 20}
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
        with pytest.raises(ValueError, match="'sgd'; known: adam, soap, lbfgs, ssbroyden"):
            pinn.solve("one_peak", optimizer="sgd")

    @pytest.mark.parametrize(
        ("name", "value"), [("budget", 0), ("points", 0), ("seed", -1), ("rate", 0.0), ("period", 0)]
    )
    def test_numbers(self, name: str, value: float) -> None:
        with pytest.raises(ValueError, match=f"{name} must be"):
            pinn.solve("one_peak", **{name: value})  # type: ignore[arg-type]

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
        tensors, record = weight_files.load(tmp_path / checkpoints.NAME, "pinn/2")
        weight_files.save(tmp_path / checkpoints.NAME, tensors, record | {"architecture": "pinn/1"})
        with pytest.raises(ValueError, match="holds 'pinn/1', but this version resumes 'pinn/2' only"):
            pinn.solve("diffusion", sampler="uniform", out=tmp_path, resume=True, **SMALL)

    @pytest.mark.parametrize("optimizer", ["adam", "lbfgs", "ssbroyden"])
    @pytest.mark.parametrize("sampler", ["uniform", "rad"])
    def test_nan_keeps_the_last_checkpoint(
        self, sampler: str, optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("deepcd.solvers.pinn.training.CHECKPOINT_SECONDS", 0.0)
        sound = pinn.problem("diffusion")
        rounds = 0

        def count(run: pinn.Run) -> None:
            nonlocal rounds
            rounds += 1

        def residual(x: Any, u: Any) -> torch.Tensor:
            return sound.residual(x, u) * (torch.nan if rounds == 3 else 1.0)

        broken = Problem(**{**vars(sound), "residual": residual})
        options = {**SMALL, "sampler": sampler, "optimizer": optimizer}
        with pytest.raises(pinn.NotFiniteError, match=r"the PDE of diffusion is not finite at \{'t': 0\.\d+, 'x': "):
            pinn.solve(broken, out=tmp_path, callback=count, **options)
        assert len(weight_files.load(tmp_path / checkpoints.NAME, None)[1]["history"]) == 3

    def test_points(self) -> None:
        run = pinn.solve("diffusion", sampler="uniform", **{**SMALL, "budget": 1})
        with pytest.raises(ValueError, match=r"shape \(n, 2\), got \(3,\)"):
            run.predict([0.0, 1.0, 2.0])
        with pytest.raises(ValueError, match="finite"):
            run.predict([[0.0, np.nan]])
