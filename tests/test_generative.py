"""Densities that a residual has trained, against what they are to be: solutions of the inner problems on a grid."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch
from numpy.typing import NDArray

from deepcd.solvers.pinn.samplers import AAS, DAS

F64 = NDArray[np.float64]
BOUNDS = [(-1.0, 1.0), (-1.0, 1.0)]
SIDE = 64  # cells along each side of the grid
CENTRES = -1 + (2 * np.arange(SIDE) + 1) / SIDE
GRID = np.stack(np.meshgrid(CENTRES, CENTRES, indexing="ij"), axis=-1).reshape(-1, 2)
# Eigenvalues of minus the Laplacian on the grid, with normal derivatives zero, in the basis of cosines.
WAVES = (2 * SIDE / 2 * np.sin(np.pi * np.arange(SIDE) / (2 * SIDE))) ** 2
MINUS_LAPLACIAN = WAVES[:, None] + WAVES[None]


def squares(x: F64) -> F64:
    """A residual squared, its mean over the box about one."""
    near, far = ((x - c) ** 2 for c in ((0.4, 0.3), (-0.5, -0.2)))
    return 8 * np.exp(-12 * near.sum(-1)) + 5 * np.exp(-20 * far.sum(-1))


def unconstrained(q: F64, stiffness: float) -> F64:
    """rho of mean one with 2 stiffness (-Laplacian) rho = q - mean q and no flux: positivity left out of account."""
    modes = scipy.fft.dctn(q, norm="ortho")
    modes[0, 0] = 0
    modes[MINUS_LAPLACIAN > 0] /= 2 * stiffness * MINUS_LAPLACIAN[MINUS_LAPLACIAN > 0]
    return 1 + scipy.fft.idctn(modes, norm="ortho")


def constrained(q: F64, stiffness: float, floor: float) -> F64:
    """The maximiser of mean(q rho - stiffness |grad rho|^2) over rho >= floor of mean one: accelerated projection."""
    step = 1 / (2 * stiffness * MINUS_LAPLACIAN.max())
    rho = before = np.ones_like(q)
    for k in range(20_000):
        ahead = rho + k / (k + 3) * (rho - before)
        modes = scipy.fft.dctn(ahead, norm="ortho") * (2 * stiffness * MINUS_LAPLACIAN)
        free = ahead + step * (q - scipy.fft.idctn(modes, norm="ortho"))
        ordered = np.sort(free - floor, axis=None)[::-1]
        shifts = (np.cumsum(ordered) - (1 - floor) * q.size) / np.arange(1, q.size + 1)
        shift = shifts[np.flatnonzero(ordered > shifts)[-1]]
        before, rho = rho, floor + np.maximum(free - floor - shift, 0)
        if np.abs(rho - before).max() < 1e-7:
            break
    return rho


def trained(sampler: AAS | DAS, updates: int) -> F64:
    """The density after updates with a fixed residual, on the grid; the learning rate falls on the way."""
    optimizer = sampler._adam
    rate = optimizer.param_groups[0]["lr"]
    for k in range(updates):
        optimizer.param_groups[0]["lr"] = rate * (1 - k / updates) + rate / 50
        x, log_density = sampler.probe()
        sampler.update(x, log_density, torch.from_numpy(np.sqrt(squares(x.numpy()))))
    with torch.no_grad():
        return sampler.density(torch.from_numpy(GRID).float()).numpy().astype(float).reshape(SIDE, SIDE)


def total_variation(a: F64, b: F64) -> float:
    return 0.5 * float(np.abs(a - b).mean())


Q = squares(GRID).reshape(SIDE, SIDE)
Q = Q / Q.mean()


def test_the_oracles_agree_where_positivity_is_inactive() -> None:
    rho = unconstrained(Q, 2.0)
    assert rho.min() > 0.05
    np.testing.assert_allclose(constrained(Q, 2.0, 0.05), rho, atol=1e-3)
    assert constrained(Q, 0.1, 0.05).min() == pytest.approx(0.05)


@pytest.mark.parametrize(("stiffness", "updates"), [(2.0, 20), (0.1, 35)])  # positivity is inactive, and active
def test_aas_finds_the_density_of_its_inner_problem(stiffness: float, updates: int) -> None:
    exact = constrained(Q, stiffness, 0.05)
    sampler = AAS(BOUNDS, seed=1, steps=20, floor=0.05, stiffness=4 * stiffness, memory=0.9, rate=1e-2)
    rho = trained(sampler, updates)
    assert rho.mean() == pytest.approx(1, abs=5e-3)
    distance = total_variation(rho, exact)
    assert distance <= 0.05, distance
    assert total_variation(np.ones_like(rho), exact) > 2 * distance


def test_das_finds_the_normalised_square_of_the_residual() -> None:
    sampler = DAS(BOUNDS, seed=1, steps=20, floor=0.02, rate=1e-2)
    rho = trained(sampler, 20)
    distance = total_variation(rho, Q)
    assert distance <= 0.05, distance


def test_the_gradient_of_the_max_step_is_that_of_the_expectation() -> None:
    """The score-function gradient E_p[q grad log p], by quadrature, against finite differences of E_p[q]."""
    sampler = AAS(BOUNDS, seed=0, steps=30, rate=1e-2)
    for _ in range(3):
        x, log_density = sampler.probe()
        sampler.update(x, log_density, torch.from_numpy(np.sqrt(squares(x.numpy()))))
    sampler.flow.double()
    grid, q = torch.from_numpy(GRID), torch.from_numpy(Q.ravel())
    parameter = list(sampler.flow.parameters())[-1]
    uniform = torch.ones(len(q), dtype=torch.float64)

    def expectation() -> torch.Tensor:
        return (sampler.density(grid) * q).mean()

    (wanted,) = torch.autograd.grad(
        (sampler.density(grid).detach() * q * sampler.density(grid).log()).mean(), parameter
    )
    sampler._stiffness = 1e-300  # nothing but the mean of q under p
    (got,) = torch.autograd.grad(-sampler._loss(grid.clone(), uniform, q), parameter)
    torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-12)
    index = int(got.abs().argmax())
    with torch.no_grad():
        values = []
        for sign in (1, -1):
            parameter.view(-1)[index] += sign * 1e-5
            values.append(expectation().item())
            parameter.view(-1)[index] -= sign * 1e-5
    assert got.view(-1)[index].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4)


def test_a_constant_beta_flattens_with_the_residual() -> None:
    """p answers r^2 linearly: a hundred times smaller, and it is nearly uniform."""
    peaks = []
    for scale in (1.0, 0.01):
        sampler = AAS(BOUNDS, seed=2, steps=20, floor=0.05, beta=0.2, rate=1e-2)
        for _ in range(6):
            x, log_density = sampler.probe()
            sampler.update(x, log_density, torch.from_numpy(np.sqrt(scale * squares(x.numpy()))))
        with torch.no_grad():
            peaks.append(sampler.density(torch.from_numpy(GRID).float()).max().item())
    assert peaks[0] > 3
    assert peaks[1] < 1.5
