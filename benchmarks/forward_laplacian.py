"""How much faster is a training step with derivatives carried forward than with nested automatic differentiation?

    python -m benchmarks.forward_laplacian [--points 2000] [--repeats 30] [--threads 1]

A step computes the mean of (Laplacian u + u)^2 over the points and its gradient by all parameters, for networks
2-30-30-30-1 and 10-64-64-64-1 in float64 and float32. The Laplacian is computed in three ways, which are checked to
agree:

nested    gradient of sum u with its graph, then d backward passes for the diagonal of the Hessian, as most codes do
batched   the same with the d backward passes in one (``is_grads_batched``), which is faster for large d
forward   `Network.jet`

The ratio compares the third way with the faster of the other two. Seconds are medians; the ways take turns.
"""

from __future__ import annotations

import argparse
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.problems import save_results
from deepcd.pinn import Network

CASES = ((2, 30, torch.float64), (2, 30, torch.float32), (10, 64, torch.float64), (10, 64, torch.float32))


def nested(net: Network, x: Tensor) -> Tensor:
    x = x.requires_grad_()
    u = net(x)
    (gradient,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    terms = [torch.autograd.grad(gradient[:, a].sum(), x, create_graph=True)[0][:, a] for a in range(x.shape[1])]
    return torch.stack(terms).sum(0) + u


def batched(net: Network, x: Tensor) -> Tensor:
    x = x.requires_grad_()
    u = net(x)
    (gradient,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    d = x.shape[1]
    directions = torch.eye(d, dtype=x.dtype)[:, None].expand(d, *x.shape)
    (rows,) = torch.autograd.grad(gradient, x, directions, create_graph=True, is_grads_batched=True)
    return rows.diagonal(dim1=0, dim2=2).sum(1) + u


def forward(net: Network, x: Tensor) -> Tensor:
    u = net.jet(x.detach(), (tuple(range(x.shape[1])),))
    return u.second[0] + u.value


WAYS: dict[str, Callable[[Network, Tensor], Tensor]] = {"nested": nested, "batched": batched, "forward": forward}


def step(way: str, net: Network, x: Tensor) -> tuple[float, float]:
    """Return the loss and the seconds of one step."""
    net.zero_grad(set_to_none=True)
    start = time.perf_counter()
    loss = (WAYS[way](net, x) ** 2).mean()
    loss.backward()
    return loss.item(), time.perf_counter() - start


def main() -> None:
    """Print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows: list[dict[str, Any]] = []
    for d, width, dtype in CASES:
        net = Network([(-1, 1)] * d, width=width, dtype=dtype)
        generator = torch.Generator().manual_seed(0)
        x = 2 * torch.rand(args.points, d, generator=generator, dtype=dtype) - 1
        losses = {way: step(way, net, x)[0] for way in WAYS}
        assert np.ptp(list(losses.values())) <= 1e-3 * abs(losses["nested"]), losses
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(args.repeats):
            for way in WAYS:
                seconds[way].append(step(way, net, x)[1])
        row: dict[str, Any] = {way: float(np.median(values)) for way, values in seconds.items()}
        row |= {"d": d, "width": width, "dtype": str(dtype).removeprefix("torch."), "points": args.points}
        row["ratio"] = min(row["nested"], row["batched"]) / row["forward"]
        rows.append(row)
        times = ", ".join(f"{way} {1e3 * row[way]:.1f} ms" for way in WAYS)
        print(f"d = {d}, {row['dtype']}: {times}, ratio {row['ratio']:.2f}", flush=True)
    print("saved", save_results("forward-laplacian", rows, threads=args.threads, repeats=args.repeats))


if __name__ == "__main__":
    main()
