"""Training: it learns, its steps are those of its seed, and it can be stopped anywhere and continued bit for bit."""

from __future__ import annotations

import copy
import errno
import io
import logging
import math
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch
from rich.console import Console

from deepcd.data import weight_files
from deepcd.solvers.training import checkpoints, figure, losses, samples, train, training
from deepcd.solvers.training import progress as progress_module
from deepcd.solvers.training.checkpoints import Log, Settings, State
from deepcd.solvers.training.network import LearnedMultigrid

SHAPES = {2: ((9, 10), 2), 3: ((4, 6, 5), 1)}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes of two levels."""
    monkeypatch.setattr(samples, "random_shape", lambda ndim, rng: SHAPES[ndim])


@pytest.fixture
def keep_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "KEEP_EVERY", 3)


def run(out: Path, ndim: int = 2, **options: Any) -> dict[str, np.ndarray]:
    """Train a small network quietly and return its weights."""
    train(ndim, out, **{"steps": 6, "hidden": 4, "progress": False} | options)
    return weight_files.load(out, f"learned-multigrid-{ndim}d/1")[0]


def checkpoint(out: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    return weight_files.load(checkpoints.path_for(out), None)


def assert_equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], strict=True)


class Stop(Exception):
    """What ends a run in a test."""


def stopping_at(step: int, monkeypatch: pytest.MonkeyPatch, action: Any) -> None:
    """Do something in the middle of a step."""
    original, calls = training.sample_loss, []

    def wrapped(*arguments: Any) -> Any:
        calls.append(None)
        if len(calls) == step + 1:
            action()
        return original(*arguments)

    monkeypatch.setattr(training, "sample_loss", wrapped)


def test_importing_the_package_of_training_loads_no_torch() -> None:
    program = (
        "import sys\n"
        "import deepcd, deepcd.solvers.training as t\n"
        "print('torch' in sys.modules, 'train' in dir(t), hasattr(t, 'nothing'), t.train.__name__)"
    )
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert shown.stdout.split() == ["False", "True", "False", "train"]


class TestWeights:
    @pytest.mark.parametrize("ndim", [2, 3])
    def test_weights_and_record(self, tmp_path: Path, ndim: int) -> None:
        out = tmp_path / "w.safetensors"
        weights = run(out, ndim, seed=7)
        net = LearnedMultigrid(ndim, 4)
        assert {k: v.shape for k, v in weights.items()} == {k: tuple(v.shape) for k, v in net.state_dict().items()}
        assert {v.dtype for v in weights.values()} == {np.dtype(np.float32)}
        _, record = weight_files.load(out, None)
        assert (record["seed"], record["steps"], record["hidden"], record["threads"]) == (7, 6, 4, 1)
        assert (record["rate"], record["steps_skipped"]) == (3e-3, 0)
        assert record["seconds"] > 0
        assert re.fullmatch("unknown|[0-9a-f]{40}(-dirty)?", record["commit"])
        assert record["versions"]["torch"] == torch.__version__
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
        threads, before = torch.get_num_threads(), torch.get_rng_state()
        first = run(tmp_path / "a", seed=1, threads=2)
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.get_num_threads() == threads
        torch.manual_seed(2)
        assert_equal(first, run(tmp_path / "b", seed=1, threads=2))
        other = run(tmp_path / "c", seed=2)
        assert not np.array_equal(first["fine.0.weight"], other["fine.0.weight"])

    def test_what_a_seed_draws_stays(self, tmp_path: Path) -> None:
        """The loop written out: shipped weights can be made again only as long as it does not change."""
        torch.manual_seed(5)
        net = LearnedMultigrid(2, 4)
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
                loss = loss + 4 * losses.spectral_excess(net, levels, rng, 1.75)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
        assert_equal(run(tmp_path / "w", seed=5), {name: value.numpy() for name, value in net.state_dict().items()})

    @pytest.mark.compiled
    def test_it_learns(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(samples, "random_shape", lambda ndim, rng: ((16, 16), 4))
        trained, untrained = LearnedMultigrid(2, 16), LearnedMultigrid(2, 16)
        weights = run(tmp_path / "w", steps=60, seed=1, hidden=16, rate=1e-2)
        trained.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})

        def held_out(net: LearnedMultigrid) -> float:
            with torch.no_grad():
                return float(
                    np.mean([losses.sample_loss(net, np.random.default_rng((99, n)), 4, False)[1][-1] for n in range(20)])
                )

        assert held_out(trained) < held_out(untrained) - 0.5


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
        original = training.sample_loss

        def spoiled(net: LearnedMultigrid, rng: np.random.Generator, unroll: int, penalised: bool) -> Any:
            loss, residuals, shape = original(net, rng, unroll, penalised)
            return loss * float("nan") if penalised else loss, residuals, shape

        monkeypatch.setattr(training, "sample_loss", spoiled)
        weights = run(tmp_path / "w")
        assert all(np.isfinite(value).all() for value in weights.values())
        tensors, _ = checkpoint(tmp_path / "w")
        assert tensors["log.skipped"].tolist() == [0, 4]
        assert tensors["log.step"].tolist() == [1, 2, 3, 5]
        assert tensors["adam.step.tap"] == 4
        assert weight_files.load(tmp_path / "w", None)[1]["steps_skipped"] == 2

    def test_boxes_of_one_level_teach_nothing_and_do_no_harm(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(samples, "random_shape", lambda ndim, rng: ((5, 4), 2))
        weights = run(tmp_path / "w", steps=2)
        assert_equal(weights, {k: v.numpy() for k, v in _seeded(0).state_dict().items()})

    def test_a_disk_that_fills_up_ends_nothing_but_the_checkpoints(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep_often: None, caplog: pytest.LogCaptureFixture
    ) -> None:
        original, calls = checkpoints.save, []

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
            train(**{"ndim": 2, "out": tmp_path / "w", "steps": 1} | change)
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


def _seeded(seed: int) -> LearnedMultigrid:
    torch.manual_seed(seed)
    return LearnedMultigrid(2, 4)


@pytest.mark.parametrize(
    ("step", "rate", "unroll"),
    [(0, 1e-5 + 3e-3 / 50, 3), (199, None, 3), (200, None, 4), (499, None, 4), (500, 1.51e-3, 6), (999, 1e-5, 6)],
)
def test_schedule(step: int, rate: float | None, unroll: int) -> None:
    lr, count = training.schedule(step, 1000, 3e-3)
    assert count == unroll
    assert rate is None or lr == pytest.approx(rate, rel=1e-3)


def test_unrolling_starts_like_steepest_descent_and_lowers_the_residual() -> None:
    rng = np.random.default_rng(0)
    net, batch = _seeded(0), samples.random_batch(2, rng)
    levels = net.setup(batch.fluid, batch.dirichlet, batch.ids, batch.patterns)
    b = samples.random_rhs(batch, rng)
    history, r = losses.unrolled(net, levels, batch, b, 8)
    assert [h.shape for h in history] == [(2,)] * 8
    true = (losses.dot(r, r) / losses.dot(b, b)).flatten().sqrt()
    torch.testing.assert_close(history[-1], true)
    assert (history[-1] < 1e-2).all()


def test_the_penalty_is_the_excess_of_the_largest_eigenvalue() -> None:
    rng = np.random.default_rng(0)
    net, batch = _seeded(0), samples.random_batch(2, rng)
    levels = net.setup(batch.fluid, batch.dirichlet, batch.ids, batch.patterns)
    level, largest = levels[0], []
    n = level.mask[0].numel()
    for number in range(len(level.mask)):
        basis = torch.zeros(n, *level.mask.shape[1:]).flatten(1).fill_diagonal_(1).reshape(n, *level.mask.shape[1:])
        one = copy.copy(level)
        for name in ("diagonal", "a"):
            setattr(one, name, getattr(level, name)[number : number + 1].expand(n, -1, -1, -1).contiguous())
        for name in ("faces", "c"):
            fields = [w[number : number + 1].expand(n, -1, -1, -1).contiguous() for w in getattr(level, name)]
            setattr(one, name, fields)
        SA = losses.smooth(one, losses.apply(one, basis)).flatten(1)
        largest.append(float(torch.linalg.eigvals(SA.detach().double()).real.max()))
    expected = float(np.mean(np.maximum(np.array(largest) - 0.5, 0) ** 2))
    penalty = losses.spectral_excess(net, levels[:1] + levels[-1:], rng, 0.5)
    assert float(penalty.detach()) == pytest.approx(expected, rel=0.25)
    assert float(penalty.detach()) <= expected * 1.001
    assert float(losses.spectral_excess(net, levels, rng, 2.0 * max(largest)).detach()) == 0


class TestProgress:
    def test_lines_go_to_the_log_where_there_is_no_terminal(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: Any
    ) -> None:
        monkeypatch.setattr(progress_module, "EVERY", 2)
        caplog.set_level(logging.INFO, "deepcd")
        run(tmp_path / "w", steps=5, progress=True)
        lines = [record.getMessage() for record in caplog.records if record.name == "deepcd"]
        assert [line.split(":")[0] for line in lines] == ["step 2 of 5", "step 4 of 5", "step 5 of 5"]
        for word in ("log10|r| ", "loss ", "rate ", "steps/s", " left"):
            assert word in lines[0]
        assert capfd.readouterr() == ("", "")

    @pytest.fixture
    def terminal(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
        stream = io.StringIO()
        console = Console(file=stream, force_terminal=True, width=80)
        monkeypatch.setattr(progress_module, "Console", lambda stderr: console)
        yield stream

    def test_a_bar_on_a_terminal(self, tmp_path: Path, terminal: io.StringIO) -> None:
        run(tmp_path / "w", steps=3, progress=True)
        shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
        for word in ("3/3", "log10|r| ", "loss ", "rate ", "steps/s", "0:00:00"):
            assert word in shown
        assert "…" not in shown  # it fits

    def test_no_bar_if_not_wanted(self, tmp_path: Path, terminal: io.StringIO) -> None:
        run(tmp_path / "w", steps=1, progress=False)
        assert terminal.getvalue() == ""


class TestFigure:
    def log(self, steps: int) -> Log:
        unrolled = [3 if 5 * s < steps else 6 for s in range(steps)]
        residuals = [[-1.0 - n for n in range(u)] for u in unrolled]
        return Log(list(range(steps)), [-float(u) for u in unrolled], residuals, [(1, 4, 4, 4)] * steps)

    @pytest.mark.parametrize("steps", [0, 1, 300])
    def test_a_picture_of_any_length(self, tmp_path: Path, steps: int) -> None:
        figure.draw(tmp_path / "f.png", self.log(steps), Settings(3, 300, 0, 32, 3e-3))
        assert os.listdir(tmp_path) == ["f.png"]
        assert matplotlib.image.imread(tmp_path / "f.png").shape == (462, 1100, 4)

    def test_curves_are_the_log(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        drawn: list[tuple[Any, Any]] = []
        monkeypatch.setattr(figure, "_curve", lambda axes, x, y, colour, label: drawn.append((x.tolist(), y.tolist())))
        figure.draw(tmp_path / "f.png", self.log(10), Settings(3, 10, 0, 32, 3e-3))
        assert drawn[0] == ([1, 2], [-3.0, -3.0])
        assert drawn[1] == (list(range(3, 11)), [-6.0] * 8)
        assert drawn[2] == (list(range(1, 11)), [-1.0] * 10)
        assert drawn[7] == (list(range(3, 11)), [-6.0] * 8)

    def test_the_picture_before_stays_where_the_new_one_fails(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "f.png"
        path.write_bytes(b"old")

        def broken(self: Any, to: Path, **_: Any) -> None:
            to.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "full")

        monkeypatch.setattr(figure.Figure, "savefig", broken)
        with pytest.raises(OSError, match="full"):
            figure.draw(path, Log(), Settings(3, 1, 0, 32, 3e-3))
        assert path.read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["f.png"]


def test_state_counts_skipped_steps_too() -> None:
    net = _seeded(0)
    state = State(Settings(2, 10, 0, 4, 3e-3), net, torch.optim.Adam(net.parameters()))
    rate = training.advance(state)
    assert (state.step, state.log.step) == (1, [0])
    assert rate == training.schedule(0, 10, 3e-3)[0]
