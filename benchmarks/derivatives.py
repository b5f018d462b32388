"""How much faster is the gradient of a loss with derivatives carried forward than with nested differentiation?

    python -m benchmarks.derivatives [--points 2000] [--width 30] [--repeats 12] [--threads 1]

The loss is the mean of the squared residual of an equation over random points, for networks of depth 3 in float64, and
its gradient is by all weights and biases. Two ways are compared:

forward   the residual is traced and its derivatives are carried as a Taylor series, as `deepcd.pinn.solve` does
nested    derivatives by reverse differentiation with a graph, time and again; one backward pass gives all first
          derivatives of what it starts from, and they are shared. For the Laplacian the passes for the diagonal of the
          Hessian are also done in one (``is_grads_batched``), and the faster of the two counts

Printed are the number of coefficients that a unit carries, CPU milliseconds (the minimum of several, the ways take
turns), their ratio, and the largest difference of the gradients, relative to the largest entry of each parameter's.
"""

from __future__ import annotations

import argparse
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.problems import save_results
from deepcd.pde.equations.statements import Problem
from deepcd.pde.regions import Domain, box
from deepcd.solvers.pinn.network import Network
from deepcd.solvers.pinn.objective import Objective

D10 = box((), **{f"x{i}": (-1.0, 1.0) for i in range(10)})
TX = box(t=(0, 1), x=(-1, 1))
XY = box(x=(0, 1), y=(0, 1))

Derivative = Callable[[Tensor, int], Tensor]  # of values at points, by an axis


class Nested:
    """Derivatives by reverse differentiation; all those of one function come from one pass."""

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self._known: dict[int, tuple[Tensor, Tensor]] = {}  # the function is kept with its gradient, for its id

    def gradient(self, f: Tensor) -> Tensor:
        if id(f) not in self._known:
            self._known[id(f)] = f, torch.autograd.grad(f.sum(), self.x, create_graph=True)[0]
        return self._known[id(f)][1]

    def __call__(self, f: Tensor, axis: int) -> Tensor:
        key = (id(f) << 4) + axis
        if key not in self._known:
            self._known[key] = f, self.gradient(f)[:, axis]
        return self._known[key][1]


class Case(NamedTuple):
    """An equation as it is traced, and one or more ways to write it with nested differentiation."""

    name: str
    equation: Callable[..., Any]
    domain: Domain
    nested: tuple[Callable[[Nested, Tensor], list[Tensor]], ...]
    fields: str = "u"


def laplacian(u: Any) -> Any:
    return sum(u.d(axis, axis) for axis in D10.axes)


def batched_laplacian(d: Nested, u: Tensor) -> list[Tensor]:
    gradient = d.gradient(u[0])
    axes = gradient.shape[1]
    directions = torch.eye(axes, dtype=u.dtype)[:, None].expand(axes, *gradient.shape)
    (rows,) = torch.autograd.grad(gradient, d.x, directions, create_graph=True, is_grads_batched=True)
    return [rows.diagonal(dim1=0, dim2=2).sum(1)]


def elasticity(u: Any, v: Any) -> list[Any]:
    xx, yy, xy = 2 * u.x + v.y, u.x + 2 * v.y, 0.5 * (u.y + v.x)
    return [xx.x + xy.y, xy.x + yy.y]


def nested_elasticity(d: Nested, f: Tensor) -> list[Tensor]:
    (ux, uy), (vx, vy) = ((d(one, 0), d(one, 1)) for one in f.unbind())
    return [
        2 * d(ux, 0) + d(vx, 1) + 0.5 * (d(uy, 1) + d(vx, 1)),
        0.5 * (d(ux, 1) + d(vx, 0)) + d(ux, 1) + 2 * d(vy, 1),
    ]


def burgers(d: Nested, f: Tensor) -> list[Tensor]:
    u = f[0]
    ux = d(u, 1)
    return [d(u, 0) + u * ux - 0.003 * d(ux, 1)]


def kdv(d: Nested, f: Tensor) -> list[Tensor]:
    u = f[0]
    ux = d(u, 1)
    return [d(u, 0) + u * ux + 0.0025 * d(d(ux, 1), 1)]


def kuramoto_sivashinsky(d: Nested, f: Tensor) -> list[Tensor]:
    u = f[0]
    ux = d(u, 1)
    uxx = d(ux, 1)
    return [d(u, 0) + u * ux + uxx + d(d(uxx, 1), 1)]


def fourth_order(d: Nested, f: Tensor) -> list[Tensor]:
    utt, uxx = d(d(f[0], 0), 0), d(d(f[0], 1), 1)
    return [d(d(utt, 1), 1) + d(d(utt, 0), 0) + d(d(uxx, 1), 1)]


def plain_laplacian(d: Nested, f: Tensor) -> list[Tensor]:
    return [torch.stack([d(d(f[0], a), a) for a in range(10)]).sum(0)]


CASES = (
    Case("Burgers, u_xx", lambda u: u.t + u * u.x - 0.003 * u.xx, TX, (burgers,)),
    Case("KdV, u_xxx", lambda u: u.t + u * u.x + 0.0025 * u.xxx, TX, (kdv,)),
    Case("Kuramoto-Sivashinsky, u_xxxx", lambda u: u.t + u * u.x + u.xx + u.xxxx, TX, (kuramoto_sivashinsky,)),
    Case("u_ttxx + u_tttt + u_xxxx", lambda u: u.ttxx + u.tttt + u.xxxx, TX, (fourth_order,)),
    Case("Laplacian in 10 axes", laplacian, D10, (plain_laplacian, batched_laplacian)),
    Case("elasticity", elasticity, XY, (nested_elasticity,), fields="uv"),
)


def values(net: Network, x: Tensor) -> Tensor:
    """Return the fields at points, shape (m, n), by operations that torch can differentiate any number of times."""
    h = (x - net.centre) * net.rate
    *hidden, last = zip(net.weights, net.biases, strict=True)
    for weight, bias in hidden:
        h = torch.tanh(torch.addmm(bias, h, weight.T))
    return torch.addmm(last[1], h, last[0].T).T


def nested(residuals: Callable[[Nested, Tensor], list[Tensor]], net: Network, x: Tensor) -> None:
    """Store the gradient of the loss in the parameters."""
    net.zero_grad(set_to_none=True)
    at = x.clone().requires_grad_()
    (torch.stack(residuals(Nested(at), values(net, at))) ** 2).mean(dim=1).sum().backward()


def seconds(step: Callable[[], object]) -> float:
    start = time.thread_time()
    step()
    return time.thread_time() - start


def gradients(net: Network) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in net.parameters()]


def measured(case: Case, points: int, width: int, repeats: int) -> dict[str, Any]:
    """Return a row of the table."""
    problem = Problem(case.equation, case.domain, fields=case.fields)
    net = Network(problem.bounds, outputs=len(problem.fields), width=width)
    x = case.domain.points(points, torch.Generator().manual_seed(0))
    objective = Objective(problem, net)
    objective.place(x)
    ways: dict[str, Callable[[], object]] = {"forward": objective.backward}
    ways |= {f"nested {k}": partial(nested, residuals, net, x) for k, residuals in enumerate(case.nested)}
    found = {}
    for name, way in ways.items():
        way()
        found[name] = gradients(net)
    differences = [
        float((a - b).abs().max() / b.abs().max().clamp(min=1e-300))
        for name in ways
        for a, b in zip(found["forward"], found[name], strict=True)
    ]
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            times[name].append(seconds(way))
    forward = min(times.pop("forward"))
    other = min(min(one) for one in times.values())
    row: dict[str, Any] = {"equation": case.name, "rows": objective.rows[0], "points": points, "width": width}
    row |= {"forward": forward, "nested": other, "ratio": other / forward, "difference": max(differences)}
    return row


def main() -> None:
    """Print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=2000)
    parser.add_argument("--width", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for case in CASES:
        row = measured(case, args.points, args.width, args.repeats)
        rows.append(row)
        times = f"forward {1e3 * row['forward']:.1f} ms, nested {1e3 * row['nested']:.1f} ms, ratio {row['ratio']:.1f}"
        print(f"{case.name}: {row['rows']} rows, {times}, gradients differ by {row['difference']:.0e}", flush=True)
    print("saved", save_results("derivatives", rows, threads=args.threads, repeats=args.repeats))


if __name__ == "__main__":
    main()
