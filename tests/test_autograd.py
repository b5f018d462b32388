"""The compiled differentiable grid operations: values and gradients against plain torch expressions in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from deepcd.solvers.kernels import reference
from deepcd.solvers.kernels.records import taps
from deepcd.solvers.training.autograd import prolong, restrict, sweep

SHAPES = [(2, 4, 3, 5), (1, 5, 1, 6), (3, 1, 1, 4), (1, 2, 3, 1), (2, 1, 1, 1)]


def plain_sweep(diag: Tensor, faces: list[Tensor], x: Tensor, sign: float) -> Tensor:
    total = torch.zeros_like(x)
    for d, w in enumerate(faces, 1):
        n = x.shape[d] - 1
        low, high, face = x.narrow(d, 0, n), x.narrow(d, 1, n), w.narrow(d, 0, n)
        edge = torch.zeros_like(x.narrow(d, 0, 1))
        total = total + torch.cat([face * high, edge], d) + torch.cat([edge, face * low], d)
    return diag * x + sign * total


def plain_prolong(e: Tensor, q: Tensor, shape: tuple[int, ...]) -> Tensor:
    z = e
    for d, n in enumerate(shape, 1):
        if n > 1:
            m = z.shape[d]
            P = torch.zeros(n, m, dtype=e.dtype)
            for i in range(n):
                P = P + torch.outer(torch.eye(n, dtype=e.dtype)[i], torch.eye(m, dtype=e.dtype)[i // 2]) * (1 - q)
                side = i // 2 + (1 if i % 2 else -1)
                if 0 <= side < m:
                    P = P + torch.outer(torch.eye(n, dtype=e.dtype)[i], torch.eye(m, dtype=e.dtype)[side]) * q
            z = torch.movedim(torch.tensordot(P, z, dims=([1], [d])), 0, d)
    return z


def random_tensors(count: int, shape: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


def double(tensors: list[Tensor]) -> list[Tensor]:
    return [t.detach().double().requires_grad_() for t in tensors]


def halved(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], *((n + 1) // 2 for n in shape[1:]))


def assert_same(computed: Tensor, expected: Tensor) -> None:
    np.testing.assert_allclose(computed.detach().numpy(), expected.detach().numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_sweep(shape: tuple[int, ...], sign: float) -> None:
    v, *inputs = random_tensors(6, shape)
    for t in inputs:
        t.requires_grad_()
    exact = double(inputs)
    y, expected = sweep(inputs[0], inputs[1:4], inputs[4], sign), plain_sweep(exact[0], exact[1:4], exact[4], sign)
    assert_same(y, expected)
    (y * v).sum().backward()
    (expected * v.double()).sum().backward()
    for d, (computed, wanted) in enumerate(zip(inputs, exact, strict=True)):
        assert computed.grad is not None, d
        assert_same(computed.grad, wanted.grad if wanted.grad is not None else torch.zeros(shape))


def test_sweep_without_gradients_of_the_coefficients() -> None:
    v, diag, w0, w1, w2, x = random_tensors(6, (2, 4, 3, 5))
    x.requires_grad_()
    (sweep(diag, [w0, w1, w2], x, -1.0) * v).sum().backward()
    assert x.grad is not None
    assert_same(x.grad, plain_sweep(diag, [w0, w1, w2], v, -1.0))
    assert diag.grad is None


def test_sweep_does_not_read_the_last_faces() -> None:
    diag, w0, w1, w2, x = random_tensors(5, (1, 3, 2, 4))
    y = sweep(diag, [w0, w1, w2], x, 1.0)
    for d, w in enumerate((w0, w1, w2), 1):
        w.narrow(d, w.shape[d] - 1, 1).fill_(1e6)
    torch.testing.assert_close(sweep(diag, [w0, w1, w2], x, 1.0), y)


def test_sweep_takes_gradients_that_are_not_contiguous() -> None:
    diag, w0, w1, w2, x = random_tensors(5, (2, 3, 4, 5))
    x.requires_grad_()
    v = random_tensors(1, (5, 4, 3, 2), seed=1)[0].permute(3, 2, 1, 0)
    (sweep(diag, [w0, w1, w2], x, 1.0) * v).sum().backward()
    assert x.grad is not None
    assert_same(x.grad, plain_sweep(diag, [w0, w1, w2], v, 1.0))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_prolong(shape: tuple[int, ...]) -> None:
    (v,), (e,) = random_tensors(1, shape), random_tensors(1, halved(shape), seed=1)
    q = torch.tensor(0.2, requires_grad=True)
    e.requires_grad_()
    e64, q64 = double([e, q])
    z, expected = prolong(e, q, shape[1:]), plain_prolong(e64, q64, shape[1:])
    assert_same(z, expected)
    P = reference.interpolation(shape[1:], *reference.taps(0.2, shape[1:]))
    assert_same(z.flatten(1), torch.from_numpy((P @ e.detach().numpy().reshape(shape[0], -1).T).T))
    (z * v).sum().backward()
    if expected.requires_grad:
        (expected * v.double()).sum().backward()
    assert e.grad is not None
    assert q.grad is not None
    assert_same(e.grad, e64.grad if e64.grad is not None else v)  # an axis of one cell everywhere: P is the identity
    assert_same(q.grad, q64.grad if q64.grad is not None else torch.tensor(0.0))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_restrict_is_the_adjoint_of_prolong(shape: tuple[int, ...]) -> None:
    (r,), (e,) = random_tensors(1, shape), random_tensors(1, halved(shape), seed=1)
    r.requires_grad_()
    e.requires_grad_()
    q, q_up = (torch.tensor(0.2, requires_grad=True) for _ in range(2))
    rc = restrict(r, q)
    assert rc.shape == e.shape
    down, up = (rc * e.detach()).sum(), (prolong(e, q_up, shape[1:]) * r.detach()).sum()
    torch.testing.assert_close(down, up, rtol=1e-4, atol=1e-4)
    down.backward()
    up.backward()
    assert r.grad is not None
    assert_same(r.grad, prolong(e, q, shape[1:]))
    assert q.grad is not None
    assert q_up.grad is not None
    assert_same(q.grad, q_up.grad)


def test_gradients_against_finite_differences() -> None:
    shape = (2, 4, 3, 5)
    diag, w0, w1, w2, x, v = random_tensors(6, shape, seed=3)
    q = torch.tensor(0.15)
    inputs = [t.requires_grad_() for t in (diag, w0, w1, w2, x, q)]
    v = v.double()

    def value(d: Tensor, a: Tensor, b: Tensor, c: Tensor, u: Tensor, tap: Tensor) -> Tensor:
        y = sweep(d, [a, b, c], u, -1.0)
        return (prolong(restrict(y, tap), tap, shape[1:]).double() * v).sum()

    value(*inputs).backward()
    for k, t in enumerate(inputs):
        direction = torch.randn(t.shape, generator=torch.Generator().manual_seed(k))
        step = 0.25 if k < 5 else 0.005  # linear in all but the tap: a large step costs nothing there
        with torch.no_grad():
            up, down = (value(*(u + s * direction if u is t else u for u in inputs)) for s in (step, -step))
        assert t.grad is not None
        slope = float((t.grad.double() * direction).sum())
        assert float(up - down) / (2 * step) == pytest.approx(slope, rel=2e-3, abs=1e-3), k


@pytest.mark.parametrize("shape", [(4, 1, 3), (1, 1, 1)])
def test_taps(shape: tuple[int, ...]) -> None:
    for computed, expected in zip(taps(0.2, shape), reference.taps(0.2, shape), strict=True):
        assert computed.dtype == np.float32
        np.testing.assert_allclose(computed, expected, rtol=1e-6)
