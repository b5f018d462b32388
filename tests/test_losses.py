"""What training minimises: residuals of true conjugate-direction iterations, and eigenvalues of S A above a limit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import cg
from torch import Tensor

from deepcd.solvers.training import losses, samples
from deepcd.solvers.training.network import CycleNetwork, LevelBatch, apply, smooth
from deepcd.solvers.training.samples import Batch


@pytest.fixture
def batch(monkeypatch: pytest.MonkeyPatch) -> Batch:
    """One domain whose unknowns all have Dirichlet data in reach."""
    monkeypatch.setattr(samples, "random_shape", lambda ndim, rng: ((9, 10), 1))
    batch = samples.random_batch(2, np.random.default_rng(0))
    assert not batch.sealed.any()
    return batch


def setup(net: CycleNetwork, batch: Batch, copies: int = 1) -> list[LevelBatch]:
    fluid, dirichlet, ids = (field.repeat(copies, 1, 1, 1) for field in (batch.fluid, batch.dirichlet, batch.ids))
    return net.setup(fluid, dirichlet, ids, batch.patterns)


def unit_vectors(batch: Batch) -> Tensor:
    n = batch.fluid.numel()
    return torch.eye(n).reshape(n, *batch.fluid.shape[1:])


def test_unrolled_residuals_are_those_of_preconditioned_conjugate_gradients(batch: Batch) -> None:
    net, fluid = CycleNetwork(2, 4), batch.fluid.flatten().bool().numpy()
    b = samples.random_rhs(batch, np.random.default_rng(1))
    with torch.no_grad():
        history, r = losses.unrolled(net, setup(net, batch), batch, b, 4)
        many = setup(net, batch, len(fluid))
        A = apply(many[0], unit_vectors(batch)).flatten(1).double().numpy()[np.ix_(fluid, fluid)]
        M = net.cycle(many, unit_vectors(batch)).flatten(1).double().numpy()[np.ix_(fluid, fluid)]
    right = b.flatten().double().numpy()[fluid]
    expected: list[float] = []
    cg(A, right, rtol=0.0, maxiter=4, M=M, callback=lambda x: expected.append(float(np.linalg.norm(right - A @ x))))
    norms = np.array([float(h) for h in history]) * np.linalg.norm(right)
    np.testing.assert_allclose(norms, expected, rtol=2e-3)
    assert float(r.norm()) == pytest.approx(norms[-1], rel=1e-5)


def test_the_penalty_is_the_excess_of_the_largest_eigenvalue(batch: Batch) -> None:
    net, rng = CycleNetwork(2, 4), np.random.default_rng(1)
    with torch.no_grad():
        net.fine[4].bias[5:9] = -0.5  # type: ignore[operator] # the second smoother is the weaker one
    levels, many = setup(net, batch), setup(net, batch, batch.fluid.numel())[0]
    with torch.no_grad():
        products = [smooth(S, apply(many, unit_vectors(batch))).flatten(1) for S in many.smoothers]
        largest, second = (float(torch.linalg.eigvals(product.double()).real.max()) for product in products)
        assert second < 0.8 * largest
        penalty = float(losses.spectral_excess([levels[0], levels[-1]], rng, second))
        assert 0.86 * largest < second + math.sqrt(penalty) <= 1.0001 * largest  # six power iterations, from below
        both = float(losses.spectral_excess([levels[0], levels[-1]], rng, 0.25))
        excess = (largest - 0.25) ** 2 + (second - 0.25) ** 2
        assert 0.74 * excess < both <= 1.0002 * excess
        assert float(losses.spectral_excess([levels[0], levels[-1]], rng, largest)) < 1e-6
