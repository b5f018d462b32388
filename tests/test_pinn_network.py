"""The network: derivatives of its fields, and derivatives of these by its weights."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from deepcd.pde.equations.expressions import Index
from deepcd.solvers.pinn.network import Network
from deepcd.solvers.pinn.series import Series, factorial

BOUNDS = [(-2.0, 1.0), (0.0, 3.0)]
KINDS = {"box": {}, "periodic in x": {1: 3.0}, "periodic in both": {0: 3.0, 1: 3.0}}
SERIES = Series([(1, 2), (3, 0)], [(((0, 4), 1.0), ((2, 2), 2.0))], d=2)


def network(kind: str, outputs: int = 1, dtype: torch.dtype = torch.float64) -> Network:
    net = Network(BOUNDS, outputs=outputs, width=6, depth=2, periodic=KINDS[kind], harmonics=2, seed=3, dtype=dtype)
    for bias in net.biases:
        torch.nn.init.normal_(bias, generator=torch.Generator().manual_seed(1))
    return net


def points(n: int = 9) -> Tensor:
    return 3 * torch.rand(n, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64) - torch.tensor(
        [2.0, 0]
    )


def plain(net: Network, kind: str, x: Tensor, parameters: Sequence[Tensor] | None = None) -> Tensor:
    """The fields, shape (m, n), by operations that torch can differentiate any number of times."""
    given = list(net.parameters()) if parameters is None else parameters
    weights, biases = given[: len(given) // 2], given[len(given) // 2 :]
    h = torch.stack([(x[:, i] - net.centre[i]) * net.rate[i] for i in range(2) if i not in KINDS[kind]] + [x[:, 0]])[
        :-1
    ]
    waves = [2 * torch.pi * k / period * (x[:, a] - net.centre[a]) for a, period in KINDS[kind].items() for k in (1, 2)]
    if waves:
        h = torch.cat([h, torch.cos(torch.stack(waves)), torch.sin(torch.stack(waves))])
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        h = torch.tanh(weight @ h + bias[:, None])
    return weights[-1] @ h + biases[-1][:, None]


def nested(f: Tensor, x: Tensor, index: Index) -> Tensor:
    for axis, times in enumerate(index):
        for _ in range(times):
            f = torch.autograd.grad(f.sum(), x, create_graph=True)[0][:, axis]
    return f


def rows(f: Tensor, x: Tensor) -> Tensor:
    """The rows of SERIES of a field."""
    own = [nested(f, x, a) / factorial(a) for a in SERIES.rows]
    sums = [torch.stack([c * nested(f, x, a) for a, c in one]).sum(0) for one in SERIES.sums]
    return torch.stack([*own, *sums])


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_are_those_of_nested_differentiation(kind: str) -> None:
    net, x = network(kind, outputs=2), points().requires_grad_()
    got = net.series(net.inputs(x.detach(), SERIES), SERIES)
    fields = plain(net, kind, x)
    torch.testing.assert_close(net(x.detach()), fields)
    for ours, field in zip(got, fields, strict=True):
        torch.testing.assert_close(ours, rows(field, x), rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("kind", ["periodic in x", "periodic in both"])
def test_fields_are_periodic_whatever_the_weights_are(kind: str) -> None:
    net, x = network(kind), points()
    for axis, period in KINDS[kind].items():
        shifted = x.clone()
        shifted[:, axis] += period
        torch.testing.assert_close(net(shifted), net(x))
        assert not torch.allclose(net(x + 0.3), net(x))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_by_all_weights_are_those_of_nested_differentiation(kind: str) -> None:
    net, x = network(kind, outputs=2), points().requires_grad_()
    ours = net.series(net.inputs(x.detach(), SERIES), SERIES)
    theirs = torch.stack([rows(field, x) for field in plain(net, kind, x)])
    gradients = [torch.autograd.grad((one**2).mean(), list(net.parameters())) for one in (ours, theirs)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def jacobian(net: Network, x: Tensor, cotangent: Tensor, scale: Tensor) -> Tensor:
    fields = net.inputs(x, SERIES)
    _, tape = net.run(fields, SERIES)
    out = torch.full((sum(p.numel() for p in net.parameters()), len(x)), torch.nan, dtype=fields.dtype)
    net.jacobian(tape, net.pull(tape, cotangent, SERIES), scale, out)
    return out


@pytest.mark.parametrize("n", [5, 300])  # a block of the kernel has 128
@pytest.mark.parametrize("kind", KINDS)
def test_jacobian_is_that_of_jacrev(kind: str, n: int) -> None:
    net, x = network(kind), points(n)
    weights = torch.randn(len(SERIES), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    scale = torch.rand(n, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    got = jacobian(net, x, weights[None, :, None].expand(1, -1, n).contiguous(), scale)
    few = torch.arange(n)[:: max(1, n // 4)]

    def residuals(*parameters: Tensor) -> Tensor:
        at = x[few].clone().requires_grad_()
        return scale[few] * (weights @ rows(plain(net, kind, at, parameters)[0], at))

    parameters = tuple(p.detach() for p in net.parameters())
    parts = torch.autograd.functional.jacobian(residuals, parameters)
    layers = len(parameters) // 2
    wanted = [parts[k + offset].reshape(len(few), -1) for k in range(layers) for offset in (0, layers)]
    torch.testing.assert_close(got[:, few].T, torch.cat(wanted, dim=1), rtol=1e-9, atol=1e-9)


def test_single_precision_agrees_to_its_digits() -> None:
    double, single, x = network("periodic in x"), network("periodic in x", dtype=torch.float32), points()
    wanted = double.series(double.inputs(x, SERIES), SERIES)
    got = single.series(single.inputs(x.float(), SERIES), SERIES)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), wanted, rtol=0, atol=1e-4 * float(wanted.detach().abs().max()))


def test_seeds_decide_the_weights() -> None:
    a, b, c = (torch.cat([p.ravel() for p in Network([(0, 1)], seed=s).parameters()]) for s in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
