"""What error does another library's network reach in the same time?

    python -m benchmarks.pinn_peers [--problems burgers allen_cahn ...] [--budget 30] [--seeds 3] [--first 0]

DeepXDE (Lu, Meng, Mao, Karniadakis, SIAM Review 63, 2021) on the equations of `deepcd.pinn.PROBLEMS`, with the same
ansatz as a hard constraint, float64, a tanh network of three layers of thirty units, 4,000 points of a Hammersley
sequence, Adam for a fifth of the time and L-BFGS for the rest, as its examples do.

jinns (Gangloff and Jouvin, 2024, `pip install jinns`), where it is installed, by its natural gradients, which it
recommends as the default, with the network of deepcd, five layers of fourteen units, 4,000 points of a Sobol sequence,
float64 and a line search. The ridge (1e-5 by default) was chosen for each problem among powers of ten on seed 100. The
seconds in which JAX compiles are not counted.

deepcd runs in the same process with its defaults. Seconds are CPU seconds on one thread; errors are relative L2 on the
grid of the problem.
"""

from __future__ import annotations

import argparse
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("DDE_BACKEND", "pytorch")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import importlib.util
import time
from collections.abc import Callable
from math import pi
from typing import Any

import numpy as np
import torch

from benchmarks.pinn_accuracy import measured
from benchmarks.problems import save_results, saved_rows
from deepcd import pinn

POINTS = 4_000
LAYERS = [2, 30, 30, 30, 1]
ADAM = 0.2  # share of the time
RIDGE = {"burgers": 1e-5, "allen_cahn": 1e-6, "wave": 0.1}  # of the natural gradients of jinns
FEW, SOME = 2, 12  # iterations of two runs of jinns whose difference is the time of an iteration


def equations(dde: Any) -> dict[str, tuple[Callable[..., Any], Callable[..., Any]]]:
    """Return residual and hard constraint of each problem in DeepXDE's terms; columns are x and t."""

    def d(u: Any, x: Any, axis: int) -> Any:
        return dde.grad.jacobian(u, x, i=0, j=axis)

    def dd(u: Any, x: Any, axis: int) -> Any:
        return dde.grad.hessian(u, x, i=axis, j=axis)

    def burgers(x: Any, u: Any) -> Any:
        return d(u, x, 1) + u * d(u, x, 0) - 0.01 / pi * dd(u, x, 0)

    def allen_cahn(x: Any, u: Any) -> Any:
        return d(u, x, 1) - 0.001 * dd(u, x, 0) - 5 * (u - u**3)

    def wave(x: Any, u: Any) -> Any:
        return dd(u, x, 1) - 4 * dd(u, x, 0)

    def zero_ends(x: Any, u: Any) -> Any:
        return x[:, 1:] * (1 - x[:, :1] ** 2) * u - torch.sin(pi * x[:, :1])

    def fixed_ends(x: Any, u: Any) -> Any:
        return x[:, :1] ** 2 * torch.cos(pi * x[:, :1]) + x[:, 1:] * (1 - x[:, :1] ** 2) * u

    def at_rest(x: Any, u: Any) -> Any:
        y, t = x[:, :1], x[:, 1:]
        return torch.sin(pi * y) + 0.5 * torch.sin(4 * pi * y) + 4 * t**2 * y * (1 - y) * u

    return {"burgers": (burgers, zero_ends), "allen_cahn": (allen_cahn, fixed_ends), "wave": (wave, at_rest)}


def by_deepxde(name: str, seed: int, budget: float) -> dict[str, Any]:
    """Return the error of DeepXDE after some CPU seconds."""
    import deepxde as dde

    class Until(dde.callbacks.Callback):  # type: ignore[misc] # DeepXDE has no types
        """Stop a training at a time of the process."""

        def __init__(self, end: float) -> None:
            super().__init__()
            self.end = end

        def on_epoch_end(self) -> None:
            self.model.stop_training = time.process_time() >= self.end

    dde.config.set_default_float("float64")
    dde.config.set_random_seed(seed)
    problem = pinn.problem(name)
    equation, constraint = equations(dde)[name]
    low, high = problem.bounds[problem.axes.index("x")]
    geometry = dde.geometry.GeometryXTime(dde.geometry.Interval(low, high), dde.geometry.TimeDomain(0, 1))
    begun = time.process_time()
    data = dde.data.TimePDE(geometry, equation, [], num_domain=POINTS, train_distribution="Hammersley")
    network = dde.nn.FNN(LAYERS, "tanh", "Glorot uniform")
    network.apply_output_transform(constraint)
    model = dde.Model(data, network)
    model.compile("adam", lr=1e-3)
    model.train(iterations=10**7, callbacks=[Until(begun + ADAM * budget)], display_every=10**8, verbose=0)
    dde.optimizers.set_LBFGS_options(maxcor=100, ftol=0, gtol=0, maxiter=10**7)
    dde.optimizers.config.LBFGS_options["iter_per_step"] = 50  # between two calls of the callback; 1,000 by default
    model.compile("L-BFGS")
    model.train(callbacks=[Until(begun + budget)], display_every=10**8, verbose=0)
    seconds = time.process_time() - begun
    grid = problem.grid()
    u = model.predict(grid[:, [problem.axes.index("x"), problem.axes.index("t")]])[:, 0]
    error = problem.error(u[None], problem.exact(grid))
    parameters = sum(p.numel() for p in network.parameters())
    return {
        "problem": name,
        "library": "deepxde",
        "seed": seed,
        "budget": budget,
        "seconds": seconds,
        "error": error,
    } | {"parameters": parameters}


def by_jinns(name: str, seed: int, budget: float) -> dict[str, Any]:
    """Return the error of jinns after as many iterations as fit into some CPU seconds."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import jinns

    jax.config.update("jax_enable_x64", True)

    def zero_ends(x: Any, u: Any, params: Any) -> Any:
        return x[0] * (1 - x[1] ** 2) * u - jnp.sin(pi * x[1])

    def fixed_ends(x: Any, u: Any, params: Any) -> Any:
        return x[1] ** 2 * jnp.cos(pi * x[1]) + x[0] * (1 - x[1] ** 2) * u

    def at_rest(x: Any, u: Any, params: Any) -> Any:
        t, y = x
        return jnp.sin(pi * y) + 0.5 * jnp.sin(4 * pi * y) + 4 * t**2 * y * (1 - y) * u

    def of(value: Callable[[Any], Any], x: Any) -> Any:
        u: Any = value(x)
        u_t, u_x = jax.grad(value)(x)
        along = lambda axis: jax.grad(lambda z: jax.grad(value)(z)[axis])(x)[axis]  # noqa: E731
        if name == "burgers":
            return u_t + u * u_x - 0.01 / pi * along(1)
        return u_t - 0.001 * along(1) - 5 * (u - u**3) if name == "allen_cahn" else along(0) - 4 * along(1)

    class Equation(jinns.loss.PDENonStatio):  # type: ignore[misc] # jinns has no types
        def equation(self, t_x: Any, u: Any, params: Any) -> Any:
            return jnp.atleast_1d(of(lambda z: jnp.squeeze(u(z, params)), t_x))

    width, depth = pinn.RunSettings.width, pinn.RunSettings.depth
    hidden = [((eqx.nn.Linear, width if k else 2, width), (jax.nn.tanh,)) for k in range(depth)]
    u, weights = jinns.nn.PINN_MLP.create(
        key=jax.random.PRNGKey(seed),
        eqx_list=(*(one for pair in hidden for one in pair), (eqx.nn.Linear, width, 1)),
        eq_type="PDENonStatio",
        output_transform={"burgers": zero_ends, "allen_cahn": fixed_ends, "wave": at_rest}[name],
    )
    params = jinns.parameters.Params(nn_params=weights, eq_params={})
    problem = pinn.problem(name)
    (low, high), (begin, end) = (tuple(map(float, problem.bounds[problem.axes.index(axis)])) for axis in "xt")
    data = jinns.data.CubicMeshPDENonStatio(
        key=jax.random.PRNGKey(seed + 1), n=POINTS, nb=2, ni=2, dim=1, min_pts=(low,), max_pts=(high,), tmin=begin,
        tmax=end, method="sobol",
    )  # fmt: skip
    weight = jinns.loss.LossWeightsPDENonStatio(dyn_loss=1.0)
    loss = jinns.loss.LossPDENonStatio(u=u, dynamic_loss=Equation(), loss_weights=weight, params=params)

    def solved(iterations: int) -> tuple[Any, float]:
        begun = time.process_time()
        found = jinns.solve(
            n_iter=iterations, init_params=params, data=data, loss=loss, print_loss_every=10**9, verbose=False,
            optimizer=jinns.optimizers.vanilla_ngd(gram_reg=RIDGE[name]),
        )  # fmt: skip
        return found[0], time.process_time() - begun

    few, some = solved(FEW)[1], solved(SOME)[1]
    each = max(some - few, 1e-3) / (SOME - FEW)
    iterations = max(round(budget / each), 1)
    found, seconds = solved(iterations)
    grid = problem.grid()
    points = jnp.array(grid[:, [problem.axes.index("t"), problem.axes.index("x")]])
    values = np.array(jax.vmap(lambda z: jnp.squeeze(u(z, found)))(points))
    return {
        "problem": name,
        "library": "jinns",
        "seed": seed,
        "budget": budget,
        "seconds": seconds - (few - FEW * each),
        "error": problem.error(values[None], problem.exact(grid)),
        "steps": iterations,
    }


def main() -> None:
    """Print and save the errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", default=["burgers", "allen_cahn", "wave"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--budget", type=float, default=30.0, help="CPU seconds")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        row for row in saved_rows("pinn-peers") if row["budget"] != args.budget or row["problem"] not in args.problems
    ]
    for name in args.problems:
        for seed in range(args.first, args.first + args.seeds):
            ours = measured(name, seed, args.budget)
            del ours["curve"]
            found = [ours | {"library": "deepcd"}, by_deepxde(name, seed, args.budget)]
            if importlib.util.find_spec("jinns"):
                found.append(by_jinns(name, seed, args.budget))
            for row in found:
                rows.append(row)
                print(
                    f"{name:12s} {row['library']:8s} seed {seed}: {row['error']:.2e} after {row['seconds']:.1f} CPU s",
                    flush=True,
                )
                save_results("pinn-peers", rows)
        for library in ("deepcd", "deepxde", "jinns"):
            errors = [row["error"] for row in rows if (row["problem"], row["library"]) == (name, library)]
            if not errors:
                continue
            print(f"{name:12s} {library:8s} median {np.median(errors):.2e}", flush=True)


if __name__ == "__main__":
    main()
