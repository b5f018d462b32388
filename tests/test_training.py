"""Training: it learns, its steps are those of its seed, and it can be stopped anywhere and continued bit for bit."""

from __future__ import annotations

import errno
import hashlib
import math
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deepcd.data import weight_files
from deepcd.solvers.training import checkpoints, losses, samples, train, training
from deepcd.solvers.training.checkpoints import CycleSettings, State
from deepcd.solvers.training.network import CycleNetwork

SHAPES = {2: ((9, 10), 2), 3: ((4, 6, 5), 1)}
WIDENED = ("fine.4", "coarse.0.4", "coarse.1.4")  # layers whose outputs are others than those of "/1"


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes of two levels."""
    monkeypatch.setattr(samples, "random_shape", lambda ndim, rng: SHAPES[ndim])


@pytest.fixture(autouse=True)
def ground() -> Iterator[None]:
    """One thread, since rounding depends on their number, and interrupts heard even in the background of a shell."""
    threads, handler = torch.get_num_threads(), signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, handler)


@pytest.fixture
def keep_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_STEPS", 3)


def run(out: Path, ndim: int = 2, **options: Any) -> dict[str, np.ndarray]:
    """Train a small network quietly and return its weights."""
    train(ndim, out, **{"steps": 6, "hidden": 4, "progress": False} | options)
    return weight_files.load(out, f"learned-multigrid-{ndim}d/2")[0]


def checkpoint(out: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    return weight_files.load(checkpoints.path_for(out), None)


def assert_equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name, array in a.items():
        np.testing.assert_array_equal(array, b[name], strict=True)


class Stop(Exception):
    """What ends a run in a test."""


def stopping_at(step: int, monkeypatch: pytest.MonkeyPatch, action: Any) -> None:
    """Do something in the middle of a step."""
    calls: list[None] = []

    def wrapped(*arguments: Any) -> Any:
        calls.append(None)
        if len(calls) == step + 1:
            action()
        return losses.sample_loss(*arguments)

    monkeypatch.setattr(training, "sample_loss", wrapped)


def test_importing_the_package_of_training_loads_no_torch() -> None:
    program = (
        "import sys\n"
        "import deepcd, deepcd.solvers.training as t\n"
        "print('torch' in sys.modules, 'train' in dir(t), hasattr(t, 'nothing'))"
    )
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert shown.stdout.split() == ["False", "True", "False"]


class TestWeights:
    @pytest.mark.parametrize("ndim", [2, 3])
    def test_weights_and_record(self, tmp_path: Path, ndim: int) -> None:
        out = tmp_path / "w.safetensors"
        weights = run(out, ndim, seed=7)
        net = CycleNetwork(ndim, 4)
        assert {k: v.shape for k, v in weights.items()} == {k: tuple(v.shape) for k, v in net.state_dict().items()}
        assert {v.dtype for v in weights.values()} == {np.dtype(np.float32)}
        _, record = weight_files.load(out, None)
        assert (record["seed"], record["steps"], record["hidden"], record["threads"]) == (7, 6, 4, 1)
        assert (record["rate"], record["steps_skipped"], record["start"]) == (3e-3, 0, "")
        assert record["seconds"] > 0
        assert re.fullmatch("unknown|[0-9a-f]{40}(-dirty)?", record["commit"])
        assert record["versions"]["torch"] == version("torch")  # without the suffix of a build from the public index
        distribution = record["distribution"]
        assert distribution["families"].keys() == samples.SHARES.keys()
        assert sum(distribution["families"].values()) == pytest.approx(1, abs=1e-3)
        assert distribution["shapes"] == {"x".join(map(str, SHAPES[ndim][0])): 1.0}
        assert distribution["edges"] == [min(SHAPES[ndim][0]), max(SHAPES[ndim][0])]
        assert len(record["log10_residuals"]) == 6
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "w.png",
            "w.safetensors",
            "w.safetensors.checkpoint",
        ]

    def test_the_seed_decides_and_global_state_does_not(self, tmp_path: Path) -> None:
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first = run(tmp_path / "a", steps=2, seed=1)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(2)
        assert_equal(first, run(tmp_path / "b", steps=2, seed=1))
        other = run(tmp_path / "c", steps=2, seed=2)
        assert not np.array_equal(first["fine.0.weight"], other["fine.0.weight"])

    def test_threads_are_those_asked_for_during_the_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before, seen = torch.get_num_threads(), []
        stopping_at(0, monkeypatch, lambda: seen.append(torch.get_num_threads()))
        run(tmp_path / "w", steps=1, threads=before + 1)
        assert seen == [before + 1]
        assert torch.get_num_threads() == before

    def test_what_a_seed_draws_stays(self, tmp_path: Path) -> None:
        """The loop written out: shipped weights can be made again only as long as it does not change."""
        torch.manual_seed(5)
        net = CycleNetwork(2, 4)
        optimizer = torch.optim.Adam(net.parameters())
        for step in range(6):
            lr = 1e-5 + 3e-3 * 0.5 * (1 + math.cos(math.pi * step / 6)) * (step + 1) / 50
            optimizer.param_groups[0]["lr"] = lr
            rng = np.random.default_rng((5, step))
            batch = samples.random_batch(2, rng)
            levels = net.setup(batch.fluid, batch.dirichlet, batch.ids, batch.patterns)
            b = samples.random_rhs(batch, rng)
            if rng.random() < 0.2:
                with torch.no_grad():
                    b = losses.unrolled(net, levels, batch, b, 3)[1]
                    b = b / (b * b).sum((1, 2, 3), keepdim=True).clamp_min(1e-30).sqrt()
            history, _ = losses.unrolled(net, levels, batch, b, [3, 3, 4, 6, 6, 6][step])
            loss = history[-1].log10().mean() + 0.3 * history[0].log10().mean()
            if step in (0, 4):
                loss = loss + 4 * losses.spectral_excess(levels, rng, 1.75)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
        assert_equal(run(tmp_path / "w", seed=5), {name: value.numpy() for name, value in net.state_dict().items()})

    @pytest.mark.compiled
    def test_it_learns(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(samples, "random_shape", lambda ndim, rng: ((16, 16), 4))
        trained, untrained = CycleNetwork(2, 16), CycleNetwork(2, 16)
        weights = run(tmp_path / "w", steps=60, seed=1, hidden=16, rate=1e-2)
        trained.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})

        def held_out(net: CycleNetwork) -> float:
            with torch.no_grad():
                return float(
                    np.mean(
                        [losses.sample_loss(net, np.random.default_rng((99, n)), 4, False)[1][-1] for n in range(20)]
                    )
                )

        assert held_out(trained) < held_out(untrained) - 0.5


def narrow(net: CycleNetwork) -> dict[str, np.ndarray]:
    """Return weights as "/1" had them: finest outputs a, c0, c1, c2, phi; coarse ones five, then the same."""
    weights = {name: value.numpy().copy() for name, value in net.state_dict().items()}
    rng = np.random.default_rng(0)
    for layer, outputs in (("fine.4", 11), ("coarse.0.4", 16), ("coarse.1.4", 16)):
        for kind in ("weight", "bias"):
            shape = weights[f"{layer}.{kind}"].shape[1:]
            weights[f"{layer}.{kind}"] = rng.standard_normal((outputs, *shape)).astype(np.float32) * np.float32(0.1)
    return weights


class TestStart:
    def test_from_weights_of_the_same_kind(self, tmp_path: Path) -> None:
        first = tmp_path / "a"
        weights = run(first, seed=1)
        tiny_rate = run(tmp_path / "b", steps=1, seed=2, start=first, rate=1e-9)
        for name, value in weights.items():
            np.testing.assert_allclose(
                tiny_rate[name], value, atol=1.01e-5
            )  # a step of Adam is as long as its rate, at least 1e-5
        digest = hashlib.sha256(first.read_bytes()).hexdigest()
        assert weight_files.load(tmp_path / "b", None)[1]["start"] == digest
        assert checkpoint(tmp_path / "b")[1]["settings"]["start"] == digest
        assert_equal(run(tmp_path / "c", steps=2, start=first), run(tmp_path / "d", steps=2, start=str(first)))
        assert not np.array_equal(
            weight_files.load(tmp_path / "c", None)[0]["tap"], run(tmp_path / "e", steps=2)["tap"]
        )

    @pytest.mark.parametrize("ndim", [2, 3])
    def test_one_smoother_becomes_two(self, tmp_path: Path, ndim: int) -> None:
        """The cycle of a "/1" file, which applied its one smoother twice, is the one that the training starts from."""
        torch.manual_seed(3)
        old, file = narrow(CycleNetwork(ndim, 4)), tmp_path / "old"
        weight_files.save(file, old, {"architecture": f"learned-multigrid-{ndim}d/1"})
        net = CycleNetwork(ndim, 4)
        settings = CycleSettings(ndim, 1, 0, 4, 3e-3)
        training._start_from(file, net, settings)
        new = {name: value.numpy() for name, value in net.state_dict().items()}
        for kind in ("weight", "bias"):
            before, after = old[f"fine.4.{kind}"], new[f"fine.4.{kind}"]
            np.testing.assert_array_equal(after[0], before[4])  # phi
            np.testing.assert_array_equal(after[1:5], before[:4])  # a, c0, c1, c2
            np.testing.assert_array_equal(after[5:9], before[:4])
            np.testing.assert_array_equal(after[9:], before[5:])  # handed down
            for k in range(2):
                before, after = old[f"coarse.{k}.4.{kind}"], new[f"coarse.{k}.4.{kind}"]
                np.testing.assert_array_equal(after[:5], before[:5])  # faces, Dirichlet, psi
                np.testing.assert_array_equal(after[5], before[9])
                np.testing.assert_array_equal(after[6:10], before[5:9])
                np.testing.assert_array_equal(after[10:], before[10:])
        same = set(new) - {f"{layer}.{kind}" for layer in WIDENED for kind in ("weight", "bias")}
        assert_equal({name: new[name] for name in same}, {name: old[name] for name in same})
        batch = samples.random_batch(ndim, np.random.default_rng(0))
        with torch.no_grad():
            finest = net.setup(batch.fluid, batch.dirichlet, batch.ids, batch.patterns)[0]
        assert torch.equal(finest.smoothers[0].a, finest.smoothers[1].a)
        run(tmp_path / "w", ndim, steps=1, start=file)  # and all of it as one

    def test_what_cannot_be_started_from(self, tmp_path: Path) -> None:
        run(tmp_path / "a", steps=1)
        weights = weight_files.load(tmp_path / "a", None)[0]
        with pytest.raises(
            ValueError, match=r"a holds 'learned-multigrid-2d/2', needed are .* 'learned-multigrid-3d/2'"
        ):
            run(tmp_path / "w", 3, start=tmp_path / "a")
        with pytest.raises(ValueError, match=r"start .*a does not fit a network with hidden=5"):
            run(tmp_path / "w", start=tmp_path / "a", hidden=5)
        with pytest.raises(ValueError, match="needed are weights of 'learned-multigrid-2d/2'"):
            run(tmp_path / "w", start=checkpoints.path_for(tmp_path / "a"))
        weight_files.save(tmp_path / "other", weights, {"architecture": "something-else/2"})
        with pytest.raises(ValueError, match="other holds 'something-else/2'"):
            run(tmp_path / "w", start=tmp_path / "other")
        (tmp_path / "text").write_text("no weights at all")
        with pytest.raises(weight_files.WeightFileError, match="text"):
            run(tmp_path / "w", start=tmp_path / "text")
        with pytest.raises(FileNotFoundError, match="nowhere"):
            run(tmp_path / "w", start=tmp_path / "nowhere")
        assert not (tmp_path / "w").exists()
        assert not checkpoints.path_for(tmp_path / "w").exists()

    def test_a_run_resumes_from_its_own_start_only(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep_often: None
    ) -> None:
        run(tmp_path / "a", steps=1, seed=1)
        run(tmp_path / "b", steps=1, seed=2)
        straight = run(tmp_path / "w", start=tmp_path / "a")
        with monkeypatch.context() as patch:

            def die() -> None:
                raise Stop

            stopping_at(4, patch, die)
            with pytest.raises(Stop):
                run(tmp_path / "v", start=tmp_path / "a")
        for other in (tmp_path / "b", None):
            with pytest.raises(ValueError, match=r"start is '[0-9a-f]{64}', not '"):
                run(tmp_path / "v", start=other, resume=True)
        assert_equal(straight, run(tmp_path / "v", start=tmp_path / "a", resume=True))


class TestResume:
    @pytest.mark.parametrize("ndim", [2, 3])
    def test_stopping_and_going_on_changes_no_bit(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep_often: None, ndim: int
    ) -> None:
        straight = run(tmp_path / "a", ndim)
        with monkeypatch.context() as patch:

            def die() -> None:
                raise Stop

            stopping_at(4, patch, die)
            with pytest.raises(Stop):
                run(tmp_path / "b", ndim)
        assert checkpoint(tmp_path / "b")[1]["step"] == 3
        assert not (tmp_path / "b").exists()
        assert_equal(straight, run(tmp_path / "b", ndim, resume=True))
        assert_equal(checkpoint(tmp_path / "a")[0], checkpoint(tmp_path / "b")[0])

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_signals_end_it_after_the_step_with_a_checkpoint(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
    ) -> None:
        def handler(*_: object) -> None:
            raise Stop

        previous = signal.signal(number, handler)
        try:
            with monkeypatch.context() as patch:
                stopping_at(1, patch, lambda: signal.raise_signal(number))
                with pytest.raises(Stop):
                    run(tmp_path / "b")
            assert signal.getsignal(number) is handler
        finally:
            signal.signal(number, previous)
        assert checkpoint(tmp_path / "b")[1]["step"] == 2
        assert_equal(run(tmp_path / "a"), run(tmp_path / "b", resume=True))

    def test_a_handler_that_returns_does_not_hide_that_it_was_stopped(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        previous = signal.signal(signal.SIGTERM, lambda *_: None)
        try:
            stopping_at(0, monkeypatch, lambda: signal.raise_signal(signal.SIGTERM))
            with pytest.raises(SystemExit) as caught:
                run(tmp_path / "b")
        finally:
            signal.signal(signal.SIGTERM, previous)
        assert caught.value.code == 128 + signal.SIGTERM
        assert not (tmp_path / "b").exists()

    def test_a_signal_in_the_last_step_loses_neither_weights_nor_signal(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stopping_at(1, monkeypatch, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "w", steps=2)
        assert weight_files.load(tmp_path / "w", None)[1]["steps"] == 2

    def test_the_second_interrupt_acts_at_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def twice() -> None:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

        stopping_at(1, monkeypatch, twice)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "b")
        assert not checkpoints.path_for(tmp_path / "b").exists()

    def test_threads_that_get_no_signals_can_train(self, tmp_path: Path) -> None:
        thread = threading.Thread(target=run, args=(tmp_path / "w",), kwargs={"steps": 1})
        thread.start()
        thread.join()
        assert (tmp_path / "w").exists()

    def test_a_finished_run_writes_its_weights_again(self, tmp_path: Path) -> None:
        weights = run(tmp_path / "w", steps=2)
        (tmp_path / "w").unlink()
        assert_equal(weights, run(tmp_path / "w", steps=2, resume=True))

    def test_other_settings_are_refused(self, tmp_path: Path) -> None:
        run(tmp_path / "w", steps=1)
        with pytest.raises(ValueError, match="seed is 0, not 1"):
            run(tmp_path / "w", steps=1, seed=1, resume=True)

    def test_overwriting_a_checkpoint_is_announced(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        run(tmp_path / "w", steps=1)
        assert not caplog.records
        run(tmp_path / "w", steps=1)
        assert "w.checkpoint will be overwritten" in caplog.text


class TestTrouble:
    def test_steps_without_a_finite_gradient_are_skipped_and_counted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def spoiled(net: CycleNetwork, rng: np.random.Generator, unroll: int, penalised: bool) -> Any:
            loss, residuals, shape = losses.sample_loss(net, rng, unroll, penalised)
            return loss * float("nan") if penalised else loss, residuals, shape

        monkeypatch.setattr(training, "sample_loss", spoiled)
        weights = run(tmp_path / "w")
        assert all(np.isfinite(value).all() for value in weights.values())
        tensors, _ = checkpoint(tmp_path / "w")
        assert tensors["log.skipped"].tolist() == [0, 4]
        assert tensors["log.step"].tolist() == [1, 2, 3, 5]
        assert tensors["adam.step.tap"] == 4
        assert weight_files.load(tmp_path / "w", None)[1]["steps_skipped"] == 2

    def test_a_disk_that_fills_up_ends_nothing_but_the_checkpoints(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep_often: None, caplog: pytest.LogCaptureFixture
    ) -> None:
        original = checkpoints.save
        calls: list[None] = []

        def filling(*arguments: Any) -> None:
            calls.append(None)
            if len(calls) == 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            original(*arguments)

        monkeypatch.setattr(checkpoints, "save", filling)
        run(tmp_path / "w")
        assert checkpoint(tmp_path / "w")[1]["step"] == 3
        assert "step 6: checkpoint or figure not written" in caplog.text

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"ndim": 1}, "ndim must be 2 or 3, got 1"),
            ({"steps": 0}, "steps must be at least 1"),
            ({"seed": -1}, "seed must be from 0"),
            ({"threads": 0}, "threads must be at least 1"),
            ({"hidden": 0}, "hidden must be at least 1"),
            ({"rate": 0.0}, "rate must be finite and positive"),
            ({"rate": float("nan")}, "rate must be finite and positive"),
        ],
        ids=str,
    )
    def test_bad_arguments(self, tmp_path: Path, change: dict[str, Any], says: str) -> None:
        with pytest.raises(ValueError, match=says):
            run(tmp_path / "w", **change)
        assert not list(tmp_path.iterdir())

    def test_bad_places(self, tmp_path: Path) -> None:
        for out in (tmp_path, tmp_path / "w.png", tmp_path / "w.checkpoint"):
            with pytest.raises(ValueError, match="out must name the weight file"):
                run(out)
        with pytest.raises(FileNotFoundError, match="cannot take"):
            run(tmp_path / "nowhere" / "w")
        with pytest.raises(FileNotFoundError, match="no checkpoint"):
            run(tmp_path / "w", resume=True)

    def test_the_commit_is_unknown_outside_a_repository_of_ours(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(training, "__file__", str(tmp_path / "training.py"))
        assert training.commit() == "unknown"
        monkeypatch.setenv("PATH", "")
        assert training.commit() == "unknown"


def _seeded(seed: int) -> CycleNetwork:
    torch.manual_seed(seed)
    return CycleNetwork(2, 4)


@pytest.mark.parametrize(
    ("step", "rate", "unroll"),
    [(0, 1e-5 + 3e-3 / 50, 3), (199, None, 3), (200, None, 4), (499, None, 4), (500, 1.51e-3, 6), (999, 1e-5, 6)],
)
def test_schedule(step: int, rate: float | None, unroll: int) -> None:
    lr, count = training.schedule(step, 1000, 3e-3)
    assert count == unroll
    assert rate is None or lr == pytest.approx(rate, rel=1e-3)


def test_state_counts_skipped_steps_too() -> None:
    net = _seeded(0)
    state = State(CycleSettings(2, 10, 0, 4, 3e-3), net, torch.optim.Adam(net.parameters()))
    rate = training.advance(state)
    assert (state.step, state.log.step) == (1, [0])
    assert rate == training.schedule(0, 10, 3e-3)[0]
