"""Training of the factors of multigrid on face weights: the cycle is the solver's, and so are its derivatives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deepcd.data import weight_files
from deepcd.data.random_coefficients import random_coefficients
from deepcd.solvers.kernels.lanes import shortened, widened
from deepcd.solvers.preconditioners.multigrid.face_cycle import FaceCycle
from deepcd.solvers.training import face_samples, faces
from deepcd.solvers.training.face_network import FaceNetwork, TorchLevel
from deepcd.solvers.training.face_samples import padded, random_sample
from deepcd.solvers.training.faces import train_faces, unrolled

SHAPES = [(14, 11), (9, 8, 10)]


def answering(ndim: int, seed: int = 0, hidden: int = 6) -> FaceNetwork:
    """Return networks that answer something."""
    torch.manual_seed(seed)
    net = FaceNetwork(ndim, hidden)
    for name, parameter in net.named_parameters():
        if ".4.weight" in name:
            torch.nn.init.normal_(parameter, std=0.2)
        elif ".4.bias" in name:
            torch.nn.init.constant_(parameter, -0.1)
    return net


def parameters_of(net: FaceNetwork) -> dict[str, Any]:
    return {name: value.detach().numpy() for name, value in net.state_dict().items()}


def as_stored(level: TorchLevel) -> TorchLevel:
    """Return a level with the weights that a cycle keeps of it."""

    def stored(field: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(widened(shortened(field.detach().numpy())))

    w0, w1, w2, extra = map(stored, level.weights)
    return replace(level, weights=(w0, w1, w2, extra), inverse=stored(level.inverse))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_cycle_is_the_solvers(shape: tuple[int, ...]) -> None:
    rng, net = np.random.default_rng(1), answering(len(shape))
    grid, given = padded(random_coefficients("log-normal 4/2", shape, rng))
    r = (rng.standard_normal(given.extra.size) * (given.inverse > 0)).astype(np.float32)
    cycle = FaceCycle(grid, given, coarsest=12, parameters=parameters_of(net))
    cycle.memory_map.weights[:] = 1
    z = cycle.zeros()
    cycle.apply(r, z)
    levels = [as_stored(level) for level in net.setup(grid, given, 12)]
    assert len(levels) == 1 + len(cycle.memory_map.table) >= 3
    np.testing.assert_allclose(net.cycle(levels, torch.from_numpy(r)).detach(), z, atol=3e-6 * abs(z).max())


@pytest.mark.parametrize(("shape", "coarsest"), [((14, 11), 12), ((17, 16, 18), 100)], ids=str)
@pytest.mark.parametrize("depth", [1, -1])
def test_derivatives_are_those_of_the_cycle(shape: tuple[int, ...], coarsest: int, depth: int) -> None:
    """Directional derivatives with respect to the logarithms of a level's factors, by differences in float64."""
    rng, net = np.random.default_rng(2), answering(len(shape))
    grid, given = padded(random_coefficients("boxes", shape, rng))
    levels = net.setup(grid, given, coarsest)
    assert len(levels) >= 3
    r, s = (torch.from_numpy(rng.standard_normal(given.extra.size) * (given.inverse > 0)) for _ in range(2))

    def value(fields: dict[str, torch.Tensor], exact: torch.Tensor | None) -> torch.Tensor:
        level = levels[depth]
        level.weights = tuple(fields[name] for name in ("w0", "w1", "w2", "extra"))  # type: ignore[assignment]
        level.inverse = fields["inverse"]
        if exact is not None:
            assert level.exact is not None
            level.exact = level.exact[0], exact
        return s @ net.cycle(levels, r)

    for level in levels:  # in float64 throughout
        level.weights = tuple(w.detach().double() for w in level.weights)  # type: ignore[assignment]
        level.inverse = level.inverse.detach().double()
        for transfer in level.transfers:
            transfer.near, transfer.far = transfer.near.double(), transfer.far.double()
    level = levels[depth]
    names, stored = ("w0", "w1", "w2", "extra"), [*level.weights, level.inverse]
    base = dict(zip((*names, "inverse"), stored, strict=True))
    if len(shape) == 2:
        base["w1"] = base["w0"]
    change = {name: torch.from_numpy(rng.uniform(-1, 1, own.numel())) for name, own in base.items()}
    if len(shape) == 2:
        change["w1"] = change["w0"]

    def at(t: torch.Tensor) -> dict[str, torch.Tensor]:
        fields = {name: own * torch.exp(t * change[name]) for name, own in base.items()}
        if len(shape) == 2:
            fields["w1"] = fields["w0"]
        return fields

    def exactly(t: float) -> torch.Tensor | None:
        return None if level.exact is None else dense_inverse(level, at(torch.tensor(t, dtype=torch.float64)))

    for under in levels:
        if under.exact is not None:
            under.exact = under.exact[0], dense_inverse(under, dict(zip(names, under.weights, strict=True)))
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    value(at(t), exactly(0.0)).backward()
    h = 1e-4
    with torch.no_grad():
        up, down = (value(at(torch.tensor(x, dtype=torch.float64)), exactly(x)) for x in (h, -h))
    assert t.grad is not None
    assert t.grad.item() == pytest.approx((up - down).item() / (2 * h), rel=1e-5)


def dense_inverse(level: Any, fields: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the inverse of a level's operator on its unknowns."""
    cells = level.exact[0].numpy()
    size, columns = level.inverse.numel(), []
    was = level.weights
    level.weights = tuple(fields[name].detach() for name in ("w0", "w1", "w2", "extra"))
    for cell in cells:
        unit = torch.zeros(size, dtype=torch.float64)
        unit[cell] = 1
        columns.append(level.image(unit).numpy()[cells])
    level.weights = was
    return torch.from_numpy(np.linalg.inv(np.stack(columns, axis=1)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_unrolled_steps_are_conjugate_gradients(shape: tuple[int, ...]) -> None:
    rng, net = np.random.default_rng(3), answering(len(shape))
    weights = random_coefficients("sealed log-normal 2/2", shape, rng)
    grid, given = padded(weights)
    levels = net.setup(grid, given, 12)
    size = given.extra.size
    unknown = given.inverse > 0
    ones = torch.from_numpy((unknown / np.sqrt(unknown.sum())).astype(np.float32))[None]
    b = torch.from_numpy((rng.standard_normal(size) * unknown).astype(np.float32))
    b = b - ones.T @ (ones @ b)
    with torch.no_grad():
        history, r = unrolled(net, levels, ones, b, 4)
    assert [h.item() for h in history] == sorted((h.item() for h in history), reverse=True)
    assert history[-1].item() < 0.1
    assert r.norm().item() / b.norm().item() == pytest.approx(history[-1].item(), rel=1e-5)


def test_samples_are_compatible_and_normalised() -> None:
    sealed = 0
    for seed in range(12):
        sample = random_sample(2, np.random.default_rng(seed))
        diagonal = 1 / sample.faces.inverse[sample.faces.inverse > 0]
        assert diagonal.max() == pytest.approx(1, rel=1e-5)
        assert sample.b.norm() > 0
        assert abs(sample.constants @ sample.b).sum() <= 1e-4 * sample.b.norm()
        sealed += len(sample.constants)
    assert sealed  # some operators are singular


class TestWeights:
    @pytest.fixture(autouse=True)
    def tiny(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(face_samples, "random_shape", lambda ndim, rng: (24, 20) if ndim == 2 else (9, 8, 10))

    def run(self, out: Path, ndim: int = 2, **options: Any) -> dict[str, np.ndarray]:
        train_faces(ndim, out, **{"steps": 4, "hidden": 4, "progress": False} | options)
        return weight_files.load(out, f"face-multigrid-{ndim}d/1")[0]

    @pytest.mark.parametrize("ndim", [2, 3])
    def test_weights_and_record(self, tmp_path: Path, ndim: int) -> None:
        weights = self.run(tmp_path / "w.safetensors", ndim, seed=3)
        net = FaceNetwork(ndim, 4)
        assert {k: v.shape for k, v in weights.items()} == {k: tuple(v.shape) for k, v in net.state_dict().items()}
        assert any(weights["kinds.1.4.bias"])
        record = weight_files.load(tmp_path / "w.safetensors", None)[1]
        assert (record["seed"], record["steps"], record["hidden"], record["steps_skipped"]) == (3, 4, 4, 0)
        assert record["distribution"]["families"].keys() == face_samples.SHARES.keys()

    def test_a_run_in_two_parts_gives_the_same_weights(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = self.run(tmp_path / "whole")
        calls: list[None] = []
        original = faces.sample_loss

        def interrupted(*arguments: Any) -> Any:
            calls.append(None)
            if len(calls) == 4:
                raise KeyboardInterrupt
            return original(*arguments)

        from deepcd.solvers.training import training

        monkeypatch.setattr(training, "CHECKPOINT_STEPS", 1)
        monkeypatch.setattr(faces, "sample_loss", interrupted)
        with pytest.raises(KeyboardInterrupt):
            self.run(tmp_path / "parts")
        monkeypatch.setattr(faces, "sample_loss", original)
        parts = self.run(tmp_path / "parts", resume=True)
        assert all(np.array_equal(whole[name], parts[name]) for name in whole)

    def test_other_arguments_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="ndim must be 2 or 3, got 4"):
            self.run(tmp_path / "w", 4)
        self.run(tmp_path / "first")
        with pytest.raises(ValueError, match=r"face-multigrid-2d/1"):
            train_faces(3, tmp_path / "second", steps=1, start=tmp_path / "first", progress=False)

    def test_it_learns(self, tmp_path: Path) -> None:
        self.run(tmp_path / "w", steps=60, batch=2, hidden=8, rate=1e-2)
        log = weight_files.load(tmp_path / "w.checkpoint", None)[0]["log.loss"]
        assert log[-20:].mean() < log[:20].mean() - 0.05
