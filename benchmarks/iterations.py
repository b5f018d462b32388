"""How many iterations do the learned and the classical multigrid need, on which domains, at which sizes?

    python -m benchmarks.iterations main        the main families (with pure Neumann), 64^3 and 128^3, to 1e-6
    python -m benchmarks.iterations large       the same at 256^3, one instance
    python -m benchmarks.iterations tight       tolerance 1e-10 at 96^3 and 128^3
    python -m benchmarks.iterations unseen      families that were not trained on, 64^3
    python -m benchmarks.iterations trained     the other families of the training distribution, 64^3
    python -m benchmarks.iterations shapes      100 x 37 x 61 and 1024^2, with obstacles
    python -m benchmarks.iterations ablation    the networks' outputs frozen at their mean, 64^3

Each system has two right-hand sides. Every count is of iterations to a true relative residual, recomputed from the
sparse matrix. Test domains come from seeds that training does not use.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from benchmarks.problems import MAIN_FAMILIES, save_results, solve, test_rhs, test_system
from deepcd.data import HELD_OUT, TRAINING
from deepcd.data.right_hand_sides import RHS_KINDS
from deepcd.data.weight_files import load
from deepcd.pde import PoissonSystem
from deepcd.solvers.bench.linear_problem import PressureProblem
from deepcd.solvers.preconditioners.multigrid.classical import classical_cycle
from deepcd.solvers.preconditioners.multigrid.cycle import Cycle
from deepcd.solvers.preconditioners.multigrid.learned import learned_cycle

SWEEPS = {"V(1,1)": 1, "V(2,2)": 2}
OTHERS = tuple(name for name in TRAINING if name not in MAIN_FAMILIES)
STUDIES: dict[str, dict[str, Any]] = {
    "main": {"families": MAIN_FAMILIES, "shapes": [(64,) * 3, (128,) * 3], "instances": 3},
    "large": {"families": MAIN_FAMILIES, "shapes": [(256,) * 3], "instances": 1},
    "tight": {"families": MAIN_FAMILIES, "shapes": [(96,) * 3, (128,) * 3], "instances": 1, "tol": 1e-10},
    "unseen": {"families": tuple(HELD_OUT), "shapes": [(64,) * 3], "instances": 5},
    "trained": {"families": OTHERS, "shapes": [(64,) * 3], "instances": 3},
    "shapes": {
        "families": ("open-top", "free-surface", "pure-neumann"),
        "shapes": [(100, 37, 61), (1024, 1024)],
        "instances": 2,
    },
    "ablation": {"families": MAIN_FAMILIES, "shapes": [(64,) * 3], "instances": 3, "frozen": True},
}


def frozen(weights: dict[str, Any], ndim: int) -> dict[str, Any]:
    """Return weights whose networks always return their mean output over training domains."""
    import torch

    from deepcd.solvers.training.network import CycleNetwork as Network
    from deepcd.solvers.training.samples import random_batch

    net = Network(ndim, len(weights["fine.0.bias"]))
    net.load_state_dict({k: torch.from_numpy(np.asarray(v)) for k, v in weights.items()})
    totals: dict[str, Any] = {}
    counted: dict[str, float] = {}

    def record(name: str, output: Any, where: Any) -> None:
        totals[name] = totals.get(name, 0) + output[:, where].double().sum(1)
        counted[name] = counted.get(name, 0.0) + float(where.sum())

    current: dict[str, Any] = {}

    def fine_hook(_: Any, __: Any, output: Any) -> None:
        chosen = output[current["ids"]].T
        record("fine", chosen, torch.ones(chosen.shape[1], dtype=torch.bool))

    net.fine.register_forward_hook(fine_hook)
    for k, coarse in enumerate(net.coarse):

        def coarse_hook(_: Any, inputs: Any, output: Any, name: str = f"coarse.{k}") -> None:
            record(name, output.movedim(1, 0).flatten(1), inputs[0][:, 0].flatten() > 0)

        coarse.register_forward_hook(coarse_hook)
    with torch.no_grad():
        for step in range(60):
            batch = random_batch(ndim, np.random.default_rng((12345, step)))
            current["ids"] = batch.ids[batch.ids > 0]
            net.setup(batch.fluid, batch.dirichlet, batch.ids, batch.patterns)
    result = {k: np.array(v) for k, v in weights.items()}
    for name, total in totals.items():
        result[f"{name}.4.weight"][:] = 0
        result[f"{name}.4.bias"][:] = (total / counted[name]).numpy()
    return result


def measure(system: PoissonSystem, instance: int, variants: dict[str, Any], tol: float) -> list[dict[str, Any]]:
    """Solve for both kinds of right-hand side with every method; one row per solve."""
    problems = {kind: PressureProblem(system.A, test_rhs(system, kind, instance), system.grid) for kind in RHS_KINDS}
    operator, rows = next(iter(problems.values())).operator, []
    grid = operator.embedding.shape, operator.stencil.diagonal
    builders: dict[str, Callable[[], Cycle]] = {
        **{name: partial(learned_cycle, *grid, weights) for name, weights in variants.items()},
        **{name: partial(classical_cycle, *grid, sweeps=sweeps) for name, sweeps in SWEEPS.items()},
    }
    for name, build in builders.items():
        start = time.perf_counter()
        M = build()
        setup = time.perf_counter() - start
        for kind, problem in problems.items():
            run = solve(problem, M, tol)
            row = {
                "unknowns": system.A.shape[0],
                "rhs": kind,
                "method": name,
                "work": M.work,
                "setup_s": round(setup, 4),
            }
            rows.append(row | asdict(run))
    return rows


def report(rows: list[dict[str, Any]]) -> str:
    """Return "method random / smooth" for the rows of one system, with failures marked."""
    cells = []
    for name in dict.fromkeys(r["method"] for r in rows):
        own = [r for r in rows if r["method"] == name]
        counts = " /".join(f"{r['iterations']:3d}" for r in own)
        cells.append(f"{name} {counts}" + ("" if all(r["converged"] for r in own) else " NOT CONVERGED"))
    return "  ".join(cells)


def main() -> None:
    """Print and save the table of one study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--weights", default=None, help="a weight file to study instead of the shipped ones")
    args = parser.parse_args()
    study = STUDIES[args.study]
    tol, rows = study.get("tol", 1e-6), []
    for shape in study["shapes"]:
        weights = dict(load(args.weights, f"learned-multigrid-{len(shape)}d/2")[0])
        variants = {"learned": weights} | ({"frozen": frozen(weights, len(shape))} if study.get("frozen") else {})
        for family, instance in itertools.product(study["families"], range(study["instances"])):
            found = measure(test_system(family, shape, instance), instance, variants, tol)
            print(f"{'x'.join(map(str, shape)):>13} {family:13s} {instance}  {report(found)}", flush=True)
            rows += [{"family": family, "shape": shape, "instance": instance} | row for row in found]
    for name in dict.fromkeys(r["method"] for r in rows):
        own = [r for r in rows if r["method"] == name]
        counts = [r["iterations"] for r in own]
        print(f"{name}: iterations mean {np.mean(counts):.2f}, largest {max(counts)}; {own[0]['work']:g} passes each")
    print("saved", save_results(f"iterations-{args.study}", rows, tol=tol))


if __name__ == "__main__":
    main()
