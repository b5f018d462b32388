"""Training of the DCDM network: its losses and right-hand sides by definition, its steps those of its seed."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from typer.testing import CliRunner

from deepcd.cli import app
from deepcd.data import weight_files
from deepcd.pde import Grid, ball, box, domain, poisson
from deepcd.solvers.conjugate_directions import conjugate_directions
from deepcd.solvers.grids.discovery import embed
from deepcd.solvers.grids.embedding import Embedding, padded
from deepcd.solvers.learned.dcdm_network import DCDMNetwork
from deepcd.solvers.operators.csr import CSROperator
from deepcd.solvers.training import checkpoints, dcdm, training
from deepcd.solvers.training.checkpoints import State
from deepcd.solvers.training.dcdm import KINDS, LOSSES, PAPER, Box, DCDMSettings, Source, residuals, train_dcdm
from deepcd.solvers.training.figure import draw

runner = CliRunner()

GRIDS = {
    "closed 2D": domain((6, 5)),
    "cut 2D": domain((8, 7), solid=ball((3, 4), 2), walls=["solid", ("solid", "air")]),
    "cut 3D": domain((4, 5, 3), solid=box((1, 2, 0), (3, 4, 2)), walls="air"),
}
SMALL: dict[str, Any] = {"variant": "2d", "size": 7, "ritz": 20, "batch": 3}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Rounding depends on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than the few steps of these runs."""
    monkeypatch.setattr(training, "draw", lambda *_: None)


def run(out: Path, **options: Any) -> dict[str, np.ndarray]:
    """Train the planar network quietly and return its weights."""
    train_dcdm(out, **SMALL | {"steps": 5, "progress": False} | options)
    return weight_files.load(out, "dcdm-2d/1")[0]


def checkpoint(out: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    return weight_files.load(checkpoints.path_for(out), None)


def assert_equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name, array in a.items():
        np.testing.assert_array_equal(array, b[name], strict=True)


class Stop(Exception):
    """What ends a run in a test."""


def stopping_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise in the middle of a step."""
    original, calls = Source.draw, []

    def draw(self: Source, *arguments: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == step + 1:
            raise Stop
        return original(self, *arguments)

    monkeypatch.setattr(Source, "draw", draw)


def boxed(embedding: Embedding, rows: np.ndarray) -> torch.Tensor:
    """Return vectors over the unknowns, (batch, m), as images."""
    boxes = np.zeros((len(rows), *padded(embedding.shape)), dtype=np.float32)
    boxes.reshape(len(rows), -1)[:, embedding.position] = rows
    inside = (slice(None), *(slice(1, -1) for _ in embedding.shape))
    return torch.from_numpy(boxes[inside].copy())


def unboxed(embedding: Embedding, images: torch.Tensor) -> np.ndarray:
    boxes = np.pad(images.detach().numpy(), [(0, 0), *((1, 1) for _ in embedding.shape)])
    flat = boxes.reshape(len(boxes), -1)
    outside = np.ones(flat.shape[1], dtype=bool)
    outside[embedding.position] = False
    assert not flat[:, outside].any()
    return flat[:, embedding.position].astype(float)


def scaled(grid: Grid) -> tuple[Embedding, Box, np.ndarray]:
    embedding, stencil = embed(grid)
    return embedding, Box(stencil.diagonal), poisson(grid).A.toarray() / stencil.scale


def pairs(embedding: Embedding, batch: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Return right-hand sides of length one, and directions."""
    rng = np.random.default_rng(0)
    b, q = rng.standard_normal((2, batch, len(embedding.position)))
    return b / np.linalg.norm(b, axis=1, keepdims=True), q


@pytest.mark.parametrize("name", GRIDS)
class TestBox:
    def test_multiplies_by_the_matrix(self, name: str) -> None:
        embedding, own, A = scaled(GRIDS[name])
        _, q = pairs(embedding)
        np.testing.assert_allclose(unboxed(embedding, own.apply(boxed(embedding, q))), q @ A, atol=1e-5)

    def test_losses_are_those_defined(self, name: str) -> None:
        embedding, own, A = scaled(GRIDS[name])
        b, q = pairs(embedding)
        square = np.einsum("bi,ij,bj->b", q, A, q)
        overlap = (q * b).sum(axis=1)
        expected = {
            "residual": ((b - (overlap / square)[:, None] * (q @ A)) ** 2).sum(axis=1).mean(),
            "unscaled": ((b - q @ A) ** 2).sum(axis=1).mean(),
            "energy": -(overlap**2 / square).mean(),
        }
        assert expected.keys() == set(LOSSES)
        for kind, value in expected.items():
            assert float(own.loss(boxed(embedding, b), boxed(embedding, q), kind)) == pytest.approx(value, rel=1e-5)
        assert float(own.loss(boxed(embedding, b), boxed(embedding, q))) == pytest.approx(
            expected["residual"], rel=1e-5
        )

    def test_the_length_of_a_direction_cancels_but_in_the_unscaled_loss(self, name: str) -> None:
        embedding, own, _ = scaled(GRIDS[name])
        b, q = (boxed(embedding, v) for v in pairs(embedding))
        for kind in ("residual", "energy"):
            for factor in (-0.5, 30.0):
                assert float(own.loss(b, factor * q, kind)) == pytest.approx(float(own.loss(b, q, kind)), rel=1e-4)
        assert float(own.loss(b, 30 * q, "unscaled")) > 100 * float(own.loss(b, q, "unscaled"))

    def test_the_solution_is_the_best_direction(self, name: str) -> None:
        embedding, own, A = scaled(GRIDS[name])
        b, q = pairs(embedding)
        inverse = np.linalg.pinv(A, hermitian=True)
        b = b @ A
        b /= np.linalg.norm(b, axis=1, keepdims=True)
        images, exact = boxed(embedding, b), boxed(embedding, b @ inverse)
        assert float(own.loss(images, exact, "residual")) < 1e-8
        assert float(own.loss(images, exact, "unscaled")) < 1e-8
        best = -np.einsum("bi,ij,bj->b", b, inverse, b).mean()
        assert float(own.loss(images, exact, "energy")) == pytest.approx(best, rel=1e-4)
        assert float(own.loss(images, boxed(embedding, q), "energy")) > best

    def test_what_is_outside_the_unknowns_does_not_count(self, name: str) -> None:
        embedding, own, _ = scaled(GRIDS[name])
        b, q = (boxed(embedding, v) for v in pairs(embedding))
        spoiled = q + 5 * (1 - own.unknown)
        for kind in LOSSES:
            assert torch.equal(own.loss(b, spoiled, kind), own.loss(b, q, kind))


def bent(r: Any) -> Any:
    """A direction that is no linear function of the residual."""
    return r + 0.3 * abs(r)


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("iterations", [0, 1, 2, 5])
def test_residuals_are_those_of_conjugate_directions_with_two_kept(name: str, iterations: int) -> None:
    embedding, own, A = scaled(GRIDS[name])
    b = pairs(embedding)[0] @ A

    class Bent:
        name, work = "bent", 1.0
        symmetric = linear = False

        def zeros(self) -> np.ndarray:
            return np.zeros(len(A))

        def apply(self, r: np.ndarray, z: np.ndarray) -> float:
            z[...] = bent(r)
            return float(r @ z)

    images = residuals(own, boxed(embedding, b), bent, iterations)
    for right, left in zip(b, unboxed(embedding, images), strict=True):
        expected = right
        if iterations:
            operator = CSROperator(csr_array(A))
            record = conjugate_directions(operator, right, Bent(), 0.0, maxiter=iterations, keep=2)
            assert record.residuals[-1] == min(record.residuals)  # so the last iterate is the one returned
            expected = right - A @ record.x
        np.testing.assert_allclose(left, expected / np.linalg.norm(expected), atol=1e-4)


def source(kind: str, grid: Grid | None = None, batch: int = 24) -> Source:
    return Source(
        domain((12, 11)) if grid is None else grid, DCDMSettings(kind=kind, variant="2d", ritz=30, batch=batch)
    )


def roughness(own: Source, b: torch.Tensor) -> float:
    """Return the mean of b.A b for b of length one."""
    return float((b * own.box.apply(b)).flatten(1).sum(1).mean())


class TestSource:
    @pytest.mark.parametrize("kind", KINDS)
    def test_right_hand_sides_have_length_one_and_no_null_space_part(self, kind: str) -> None:
        own = source(kind)
        b = own.draw(np.random.default_rng(0), bent)
        assert b.shape == (24, 12, 11)
        assert b.dtype == torch.float32
        np.testing.assert_allclose(b.flatten(1).norm(dim=1), 1, atol=1e-5)
        assert b.flatten(1).sum(1).abs().max() < 1e-4
        assert (b[0] - b[1]).abs().max() > 1e-3

    @pytest.mark.parametrize("kind", KINDS)
    def test_are_zero_where_there_is_no_unknown(self, kind: str) -> None:
        own = source(kind, GRIDS["cut 2D"], batch=2)
        b = own.draw(np.random.default_rng(0), bent)
        assert not (b * (1 - own.box.unknown)).any()
        unboxed(own.embedding, b)
        assert ((b != 0) == own.box.unknown.bool()).all()

    @pytest.mark.parametrize("kind", KINDS)
    def test_cells_that_are_cut_off_do_no_harm(self, kind: str) -> None:
        walls = box((2, 0), (3, 2)) | box((0, 2), (3, 3)) | box((1, 0), (2, 1)) | box((0, 1), (1, 2))
        grid = domain((8, 7), solid=walls, walls=[("air", "solid"), "solid"])
        own = source(kind, grid, batch=2)
        assert isinstance(own.embedding.rows, np.ndarray)
        b = own.draw(np.random.default_rng(0), bent)
        assert torch.isfinite(b).all()
        np.testing.assert_allclose(b.flatten(1).norm(dim=1), 1, atol=1e-5)

    def test_kinds_are_as_rough_as_they_should_be(self) -> None:
        rough = {
            kind: roughness(own, own.draw(np.random.default_rng(0), bent)) for kind in KINDS for own in [source(kind)]
        }
        assert rough["white"] == pytest.approx(4, abs=0.6)  # the mean of the eigenvalues
        assert rough["smooth"] < 0.4 * rough["white"]
        assert rough["ritz"] < 0.7 * rough["white"]
        assert abs(rough["harvested"] - rough["ritz"]) > 0.05

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_seeds_decide(self, kind: str) -> None:
        first, again, other = (source(kind, batch=2).draw(np.random.default_rng(seed), bent) for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        if kind in ("ritz", "harvested"):
            vectors = [
                Source(domain((12, 11)), DCDMSettings(kind=kind, seed=seed, ritz=5)).ritz.vectors for seed in (0, 0, 1)
            ]
            np.testing.assert_array_equal(vectors[0], vectors[1])
            assert np.abs(vectors[0] - vectors[2]).max() > 1e-3

    def test_only_harvested_ones_ask_the_network(self) -> None:
        asked: list[str] = []
        for kind in KINDS:

            def network(r: torch.Tensor, kind: str = kind) -> torch.Tensor:
                asked.append(kind)
                return r

            for seed in range(3):
                source(kind, batch=1).draw(np.random.default_rng(seed), network)
        assert set(asked) == {"harvested"}


class TestSettings:
    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"variant": "32"}, "variant must be one of '64', '128', '2d', got '32'"),
            ({"kind": "pink"}, "kind must be one of ritz, white, smooth, harvested, got 'pink'"),
            ({"loss": "l1"}, "loss must be one of residual, unscaled, energy, got 'l1'"),
            ({"steps": 0}, "steps must be at least 1"),
            ({"batch": 0}, "batch must be at least 1"),
            ({"ritz": 0}, "ritz must be at least 1"),
            ({"size": 3}, "size must be at least 4"),
            ({"seed": -1}, "seed must be"),
            ({"rate": 0.0}, "rate must be finite and positive"),
            ({"rate": math.nan}, "rate must be finite and positive"),
            ({"threads": 0}, "threads must be at least 1"),
        ],
        ids=str,
    )
    def test_bad_ones_are_refused(self, tmp_path: Path, change: dict[str, Any], says: str) -> None:
        with pytest.raises(ValueError, match=says):
            run(tmp_path / "w", **change)
        assert not list(tmp_path.iterdir())

    def test_those_of_the_paper(self) -> None:
        settings = DCDMSettings(**PAPER)
        assert (settings.size, settings.ritz, settings.rate, settings.constant) == (64, 10_000, 1e-4, True)
        assert (settings.kind, settings.loss, settings.architecture) == ("ritz", "residual", "dcdm-64/1")

    def test_unknown_ones_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(TypeError, match="hidden"):
            run(tmp_path / "w", hidden=4)


class TestTraining:
    @pytest.mark.parametrize("loss", LOSSES)
    def test_a_few_steps_reduce_the_loss(self, tmp_path: Path, loss: str) -> None:
        run(tmp_path / "w", steps=40, loss=loss, rate=5e-3, kind="ritz", batch=6)
        values = checkpoint(tmp_path / "w")[0]["log.loss"]
        first, last = values[:5].mean(), values[-5:].mean()
        assert last < first - 0.1 * abs(first)

    def test_what_a_seed_draws_stays(self, tmp_path: Path) -> None:
        """The loop written out: shipped weights can be made again only as long as it does not change."""
        grid = domain((7, 7))
        settings = DCDMSettings(**SMALL | {"steps": 5, "seed": 3})
        torch.manual_seed(3)
        net = DCDMNetwork("2d")
        optimizer, own = torch.optim.Adam(net.parameters()), Source(grid, settings)
        for step in range(5):
            fall = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / 5))
            optimizer.param_groups[0]["lr"] = 1e-3 * fall * (step + 1) / 50
            b = own.draw(np.random.default_rng((3, 2, step)), net)
            loss = own.box.loss(b, net(b))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
        assert_equal(run(tmp_path / "w", seed=3), {name: value.numpy() for name, value in net.state_dict().items()})

    def test_the_seed_decides_and_global_state_does_not(self, tmp_path: Path) -> None:
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first = run(tmp_path / "a", steps=2, seed=1)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(2)
        assert_equal(first, run(tmp_path / "b", steps=2, seed=1))
        assert not np.array_equal(first["sum.weight"], run(tmp_path / "c", steps=2, seed=2)["sum.weight"])

    def test_the_record_says_how_the_weights_came_about(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(training, "draw", draw)
        out = tmp_path / "w.safetensors"
        weights = run(out, seed=7)
        shapes = {name: tuple(value.shape) for name, value in DCDMNetwork("2d").state_dict().items()}
        assert {name: value.shape for name, value in weights.items()} == shapes
        record = weight_files.load(out, None)[1]
        expected = SMALL | {"steps": 5, "seed": 7, "kind": "ritz", "loss": "residual", "rate": 1e-3, "constant": False}
        expected |= {"architecture": "dcdm-2d/1", "start": "", "steps_skipped": 0, "threads": 1}
        assert {name: record[name] for name in expected} == expected
        assert (record["shape"], record["grid"]) == ([7, 7], "")
        assert record["seconds"] > 0
        assert re.fullmatch("unknown|[0-9a-f]{40}(-dirty)?", record["commit"])
        assert record["versions"]["torch"] == version("torch")  # without the suffix of a build from the public index
        assert len(record["log10_residuals"]) == 1
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "w.png",
            "w.safetensors",
            "w.safetensors.checkpoint",
        ]

    @pytest.mark.parametrize("loss", ["residual", "energy"])
    def test_the_log_has_the_residual_that_is_left_whatever_the_loss(self, tmp_path: Path, loss: str) -> None:
        run(tmp_path / "w", loss=loss)
        log = checkpoint(tmp_path / "w")[0]
        left = 10 ** (2 * log["log.residuals"][:, 0])
        assert np.allclose(left, log["log.loss"], rtol=1e-4) == (loss == "residual")
        assert log["log.shape"].tolist() == [[3, 1, 7, 7]] * 5

    @pytest.mark.parametrize("kind", KINDS)
    def test_every_kind_of_right_hand_side_trains_a_step(self, tmp_path: Path, kind: str) -> None:
        weights = run(tmp_path / "w", steps=1, kind=kind, seed=4)
        torch.manual_seed(4)
        before = DCDMNetwork("2d").state_dict()
        changes = [np.abs(value - before[name].numpy()).max() for name, value in weights.items()]
        assert max(changes) == pytest.approx(1e-3 / 50, rel=0.1)  # a step of Adam is as long as its rate
        assert weight_files.load(tmp_path / "w", None)[1]["kind"] == kind

    def test_the_other_networks_train_a_step(self, tmp_path: Path) -> None:
        train_dcdm(tmp_path / "w", variant="64", size=4, ritz=5, batch=2, steps=1, progress=False)
        assert checkpoint(tmp_path / "w")[0]["log.shape"].tolist() == [[2, 4, 4, 4]]
        assert weight_files.load(tmp_path / "w", "dcdm-64/1")[1]["shape"] == [4, 4, 4]

    def test_another_grid_may_be_given(self, tmp_path: Path) -> None:
        run(tmp_path / "w", grid=GRIDS["cut 2D"], steps=2)
        record = weight_files.load(tmp_path / "w", None)[1]
        assert record["shape"] == [8, 7]
        assert len(record["grid"]) == 64
        with pytest.raises(ValueError, match=r"variant '2d' is for 2 axes, .*the grid has 3"):
            run(tmp_path / "v", grid=GRIDS["cut 3D"])

    @pytest.mark.parametrize("constant", [False, True])
    def test_the_rate_warms_up_and_falls_unless_it_is_constant(self, constant: bool) -> None:
        settings = DCDMSettings(**SMALL | {"steps": 200, "rate": 2e-3, "constant": constant})
        net, own = DCDMNetwork("2d"), source("white", domain((4, 4)), batch=1)
        state = State(settings, net, torch.optim.Adam(net.parameters()))
        rates = []
        for step in (0, 24, 100, 199):
            state.step = step
            rates.append(dcdm._advance(state, own))
            assert state.optimizer.param_groups[0]["lr"] == rates[-1]
        falls = [1.0] * 4 if constant else [0.02 + 0.49 * (1 + math.cos(math.pi * k / 200)) for k in (0, 24, 100, 199)]
        expected = [2e-3 * fall * warm for fall, warm in zip(falls, (0.02, 0.5, 1, 1), strict=True)]
        np.testing.assert_allclose(rates, expected, rtol=1e-12)

    def test_steps_without_a_finite_gradient_are_skipped_and_counted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original, calls = Source.draw, []

        def spoiled(self: Source, *arguments: Any) -> torch.Tensor:
            calls.append(1)
            return original(self, *arguments) * (math.nan if len(calls) in (1, 4) else 1)

        monkeypatch.setattr(Source, "draw", spoiled)
        weights = run(tmp_path / "w")
        assert all(np.isfinite(value).all() for value in weights.values())
        log = checkpoint(tmp_path / "w")[0]
        assert (log["log.skipped"].tolist(), log["log.step"].tolist()) == ([0, 3], [1, 2, 4])
        assert weight_files.load(tmp_path / "w", None)[1]["steps_skipped"] == 2


class TestGoingOn:
    @pytest.mark.parametrize("kind", ["ritz", "harvested"])
    def test_stopping_and_resuming_changes_no_bit(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        monkeypatch.setattr(training, "CHECKPOINT_STEPS", 2)
        straight = run(tmp_path / "a", kind=kind)
        with monkeypatch.context() as patch:
            stopping_at(3, patch)
            with pytest.raises(Stop):
                run(tmp_path / "b", kind=kind)
        assert checkpoint(tmp_path / "b")[1]["step"] == 2
        assert not (tmp_path / "b").exists()
        assert_equal(straight, run(tmp_path / "b", kind=kind, resume=True))
        assert_equal(checkpoint(tmp_path / "a")[0], checkpoint(tmp_path / "b")[0])

    def test_other_settings_are_refused(self, tmp_path: Path) -> None:
        run(tmp_path / "w", steps=1)
        for change, says in (({"kind": "white"}, "kind is 'ritz', not 'white'"), ({"size": 9}, "size is 7, not 9")):
            with pytest.raises(ValueError, match=says):
                run(tmp_path / "w", steps=1, resume=True, **change)
        with pytest.raises(FileNotFoundError, match="no checkpoint"):
            run(tmp_path / "v", resume=True)

    def test_from_other_weights(self, tmp_path: Path) -> None:
        weights = run(tmp_path / "a", seed=1)
        near = run(tmp_path / "b", steps=1, seed=2, start=tmp_path / "a", rate=1e-9)
        for name, value in weights.items():
            np.testing.assert_allclose(near[name], value, atol=1e-9)
        digest = hashlib.sha256((tmp_path / "a").read_bytes()).hexdigest()
        assert weight_files.load(tmp_path / "b", None)[1]["start"] == digest

    def test_weights_of_another_network_are_no_start(self, tmp_path: Path) -> None:
        run(tmp_path / "a", steps=1)
        with pytest.raises(ValueError, match=r"holds weights of 'dcdm-2d/1', but those of 'dcdm-64/1' were asked for"):
            train_dcdm(tmp_path / "w", start=tmp_path / "a", size=4, steps=1, progress=False)
        with pytest.raises(FileNotFoundError, match="nowhere"):
            run(tmp_path / "w", start=tmp_path / "nowhere")
        assert not (tmp_path / "w").exists()


class TestCommand:
    OPTIONS = ("--variant", "2d", "--size", "6", "--steps", "2", "--ritz", "8", "--batch", "2", "--seed", "5")

    def test_writes_weights_that_solve(self, tmp_path: Path) -> None:
        from deepcd import DeepCD

        out = tmp_path / "w.safetensors"
        result = runner.invoke(app, ["train-dcdm", "--out", str(out), *self.OPTIONS, "--kind", "white"])
        assert result.exit_code == 0, result.output
        record = weight_files.load(out, "dcdm-2d/1")[1]
        assert [record[name] for name in ("size", "steps", "ritz", "batch", "seed", "kind")] == [6, 2, 8, 2, 5, "white"]
        assert_equal(
            weight_files.load(out, None)[0], run(tmp_path / "v", size=6, steps=2, ritz=8, batch=2, seed=5, kind="white")
        )
        solution = DeepCD(preconditioner="dcdm", weights=out).solve(domain((6, 6), walls="air"), np.ones(36), maxiter=2)
        assert (solution.preconditioner, solution.info) == ("dcdm", 2)

    def test_settings_of_the_paper_leave_steps_and_seed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[dict[str, Any]] = []
        monkeypatch.setattr(dcdm, "train_dcdm", lambda out, **options: calls.append({"out": out} | options))
        command = [
            "train-dcdm",
            "--out",
            str(tmp_path / "w"),
            "--steps",
            "9",
            "--seed",
            "4",
            "--paper",
            "--threads",
            "2",
        ]
        assert runner.invoke(app, command).exit_code == 0
        assert runner.invoke(app, [*command[:-3], "--resume", "--loss", "energy"]).exit_code == 0
        given = {"out": tmp_path / "w", "start": None, "steps": 9, "seed": 4, "variant": "64", "kind": "ritz"}
        given |= {"other_size": 0}
        assert calls[0] == given | PAPER | {"resume": False, "threads": 2, "loss": "residual"}
        plain = {"size": 32, "batch": 4, "rate": 1e-3, "ritz": 1000}
        assert calls[1] == given | plain | {"resume": True, "threads": 1, "loss": "energy"}

    @pytest.mark.parametrize(
        ("option", "says"),
        [
            (("--variant", "3d"), "variant must be one of '64', '128', '2d', got '3d'"),
            (("--kind", "pink"), "kind must be one of ritz"),
            (("--loss", "l1"), "loss must be one of residual"),
            (("--start", "nowhere.safetensors"), "nowhere.safetensors"),
            (("--resume",), "no checkpoint"),
        ],
    )
    def test_bad_input_ends_with_a_sentence_and_status_2(
        self, tmp_path: Path, option: tuple[str, ...], says: str
    ) -> None:
        result = runner.invoke(app, ["train-dcdm", "--out", str(tmp_path / "w"), *self.OPTIONS, *option])
        assert result.exit_code == 2
        assert says in " ".join(result.stderr.split())
        assert "Traceback" not in result.stderr
        assert not (tmp_path / "w").exists()
