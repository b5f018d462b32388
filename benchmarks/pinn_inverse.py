"""How well is an unknown parameter found, and do its stated deviations hold?

    python -m benchmarks.pinn_inverse [--draws 100] [--first 0]

Heat conduction u_t = k u_xx in a rod with k = 0.37: twenty readings at random places and times, exact ones and such
with errors of standard deviation 0.01, where u is at most 1. For each draw of places and errors, the network and k are
computed together, and k is compared with its true value in units of its own standard deviation.
"""

from __future__ import annotations

import argparse
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import time
from typing import Any

import numpy as np
import torch
from torch import pi, sin

from benchmarks.problems import save_results
from deepcd import pinn

TRUE, READINGS, NOISE = 0.37, 20, 0.01


def fitted(draw: int, noise: float, **settings: Any) -> pinn.Run:
    """Return the run for one draw of readings."""
    generator = np.random.default_rng(draw)
    x = generator.uniform(0, 1, (READINGS, 2))
    u = np.exp(-TRUE * np.pi**2 * x[:, 0]) * np.sin(np.pi * x[:, 1]) + noise * generator.standard_normal(READINGS)
    return pinn.solve(
        lambda t, x, u, k: u.t - k * u.xx,
        pinn.box(t=(0, 1), x=(0, 1)),
        pinn.on(["x-", "x+"], lambda u: u),
        pinn.observe(x, u=u, sigma=noise or None),
        start=lambda x: sin(pi * x),
        unknowns={"k": 1.0},
        seed=draw,
        **{"points": 500, "boundary": 100, "width": 10, "depth": 2, "steps": 100, **settings},
    )


def main() -> None:
    """Print and save errors, and the share of draws within two deviations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="the first draw")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    draws = range(args.first, args.first + args.draws)
    for noise, chosen in ((0.0, draws[:5]), (NOISE, draws)):
        for draw in chosen:
            begun = time.process_time()
            run = fitted(draw, noise)
            k, deviation = run.unknowns["k"], run.deviation.get("k", 0.0)
            row = {"noise": noise, "draw": draw, "k": k, "deviation": deviation, "seconds": time.process_time() - begun}
            rows.append(row)
            far = f", {abs(k - TRUE) / deviation:.2f} deviations off" if deviation else ""
            print(
                f"noise {noise}, draw {draw}: k = {k:.9f} +- {deviation:.4f}{far}, {row['seconds']:.1f} s", flush=True
            )
        own = [row for row in rows if row["noise"] == noise]
        errors = np.array([abs(row["k"] - TRUE) for row in own])
        print(f"noise {noise}: median error {np.median(errors):.1e}, largest {errors.max():.1e}")
    noisy = [row for row in rows if row["noise"]]
    within = sum(abs(row["k"] - TRUE) <= 2 * row["deviation"] for row in noisy)
    print(f"within two deviations: {within} of {len(noisy)}")
    print("saved", save_results("pinn-inverse", rows, within=within))


if __name__ == "__main__":
    main()
