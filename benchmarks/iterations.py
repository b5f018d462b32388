"""How many iterations do the learned and the classical multigrid need, on which domains, at which sizes?

    python benchmarks/iterations.py main          the four families and pure Neumann, 64^3 and 128^3, two right-hand sides, 1e-6
    python benchmarks/iterations.py large         the same at 256^3, one instance
    python benchmarks/iterations.py tight         tolerance 1e-10 at 96^3 and 128^3
    python benchmarks/iterations.py unseen        families that were not trained on, 64^3
    python benchmarks/iterations.py trained       the other families of the training distribution, 64^3
    python benchmarks/iterations.py shapes        100 x 37 x 61 and 2D 1024^2 with obstacles
    python benchmarks/iterations.py ablation      the networks' outputs frozen at their mean, 64^3

Every count is of iterations to a true relative residual, recomputed from the sparse matrix. Test domains come from seeds that training does not use.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from problems import MAIN_FAMILIES, embedding_of, save_results, solve, test_rhs, test_system

from deepcd.data import HELD_OUT, TRAINING
from deepcd.data.weight_files import load
from deepcd.solvers.preconditioners.geometric_multigrid import GeometricMultigrid
from deepcd.solvers.preconditioners.learned_multigrid import LearnedMultigrid

SWEEPS = {"V(1,1)": 1, "V(2,2)": 2}
OTHERS = tuple(name for name in TRAINING if name not in MAIN_FAMILIES)
STUDIES: dict[str, dict[str, Any]] = {
    "main": {"families": MAIN_FAMILIES, "shapes": [(64,) * 3, (128,) * 3], "instances": 3},
    "large": {"families": MAIN_FAMILIES, "shapes": [(256,) * 3], "instances": 1},
    "tight": {"families": MAIN_FAMILIES, "shapes": [(96,) * 3, (128,) * 3], "instances": 1, "tol": 1e-10},
    "unseen": {"families": tuple(HELD_OUT), "shapes": [(64,) * 3], "instances": 5},
    "trained": {"families": OTHERS, "shapes": [(64,) * 3], "instances": 3},
    "shapes": {"families": ("open-top", "free-surface", "pure-neumann"), "shapes": [(100, 37, 61), (1024, 1024)], "instances": 2},
    "ablation": {"families": MAIN_FAMILIES, "shapes": [(64,) * 3], "instances": 3, "frozen": True},
}


def frozen(weights: dict[str, Any], ndim: int) -> dict[str, Any]:
    """Return weights whose networks answer their mean output over training domains, whatever they see."""
    import torch

    from deepcd.solvers.training.network import LearnedMultigrid as Network
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
    for name in totals:
        result[f"{name}.4.weight"][:] = 0
        result[f"{name}.4.bias"][:] = (totals[name] / counted[name]).numpy()
    return result


def main() -> None:
    """Print and save the table of one study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--weights", default=None, help="a weight file to study instead of the shipped ones")
    args = parser.parse_args()
    study = STUDIES[args.study]
    tol = study.get("tol", 1e-6)
    rows = []
    for shape in study["shapes"]:
        ndim = len(shape)
        weights = dict(load(args.weights, f"learned-multigrid-{ndim}d/1")[0])
        variants = {"learned": weights} | ({"frozen": frozen(weights, ndim)} if study.get("frozen") else {})
        for family in study["families"]:
            for instance in range(study["instances"]):
                system = test_system(family, shape, instance)
                embedding = embedding_of(system)
                methods: dict[str, Any] = {}
                for name, parameters in variants.items():
                    methods[name] = lambda p=parameters, e=embedding: LearnedMultigrid(e, p)
                for name, sweeps in SWEEPS.items():
                    methods[name] = lambda k=sweeps, e=embedding: GeometricMultigrid(e, k)
                for name, build in methods.items():
                    start = time.perf_counter()
                    M = build()
                    setup = time.perf_counter() - start
                    for kind in ("random", "smooth"):
                        run = solve(system, embedding, M, test_rhs(system, kind, instance), tol)
                        rows.append(
                            {"family": family, "shape": shape, "instance": instance, "unknowns": system.A.shape[0], "rhs": kind, "method": name,
                             "work": M.work, "setup_s": round(setup, 4), "solve_s": round(run.seconds, 4),
                             "iterations": run.iterations, "residual": run.residual, "converged": run.converged}
                        )  # fmt: skip
                found = {(r["method"], r["rhs"]): r for r in rows[-2 * len(methods) :]}
                cells = "  ".join(
                    f"{name} {found[name, 'random']['iterations']:3d} /{found[name, 'smooth']['iterations']:3d}"
                    f"{'' if found[name, 'random']['converged'] and found[name, 'smooth']['converged'] else ' not converged'}"
                    for name in methods
                )
                print(f"{'x'.join(map(str, shape)):>13} {family:13s} {instance}  {cells}", flush=True)
    for name in {r["method"]: None for r in rows}:
        counts = [r["iterations"] for r in rows if r["method"] == name]
        work = next(r["work"] for r in rows if r["method"] == name)
        print(f"{name}: iterations mean {np.mean(counts):.2f}, largest {max(counts)}; {work:g} passes over the finest grid per iteration")
    print("saved", save_results(f"iterations-{args.study}", rows, tol=tol))


if __name__ == "__main__":
    main()
