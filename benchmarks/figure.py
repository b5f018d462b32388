"""Draw the iteration counts that benchmarks/iterations.py saved.

    python -m benchmarks.figure

The left panel has the mean iterations to 1e-6 per family at 64^3, for families that were trained on and for others,
learned and classical. The right panel has the same against the size of the box.
"""

from __future__ import annotations

import json
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.problems import MAIN_FAMILIES, RESULTS

COLOURS = {"learned": "#c8102e", "frozen": "#e8a0aa", "V(2,2)": "#1f6fb2", "V(1,1)": "#9bbfdd"}
LABELS = {
    "learned": "learned",
    "frozen": "learned, outputs frozen at their mean",
    "V(2,2)": "geometric V(2,2)",
    "V(1,1)": "geometric V(1,1)",
}


def rows(*studies: str) -> list[dict[str, Any]]:
    """Return the saved rows of studies."""
    return [row for study in studies for row in json.loads((RESULTS / f"iterations-{study}.json").read_text())["rows"]]


def mean(found: list[dict[str, Any]], method: str, **wanted: Any) -> float:
    """Return the mean iterations of a method over the rows that have the wanted entries; nan if none converged."""
    own = [r for r in found if r["method"] == method and all(r[k] == v for k, v in wanted.items())]
    return float(np.mean([r["iterations"] for r in own])) if own and all(r["converged"] for r in own) else float("nan")


def main() -> None:
    """Draw benchmarks/results/iterations.png."""
    found = rows("main", "trained", "unseen")
    frozen = rows("ablation")
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5), width_ratios=(2.2, 1), layout="constrained")
    families = list(dict.fromkeys(r["family"] for r in found))
    at = np.arange(len(families))
    for offset, method in enumerate(("learned", "V(2,2)", "V(1,1)")):
        heights = [mean(found, method, family=f, shape=[64] * 3) for f in families]
        left.bar(at + 0.27 * (offset - 1), heights, 0.27, color=COLOURS[method], label=LABELS[method])
    marks = [mean(frozen, "frozen", family=f) for f in families]
    left.plot(at - 0.27, marks, "_", color="black", ms=9, label=LABELS["frozen"])
    for x, family in zip(at, families, strict=True):
        if np.isnan(mean(found, "learned", family=family, shape=[64] * 3)):
            left.text(x, 5, "none in 200", rotation=90, ha="center", va="bottom")
    unseen = len({r["family"] for r in rows("unseen")})
    left.axvspan(len(families) - unseen - 0.5, len(families) - 0.5, color="0.93", zorder=0)
    left.text(len(families) - unseen - 0.4, 150, "not trained on", va="top")
    left.set_yscale("log")
    left.set_yticks([4, 6, 10, 20, 50, 100], labels=["4", "6", "10", "20", "50", "100"])
    left.minorticks_off()
    left.set_ylim(3, 200)
    left.set_xlim(-0.6, len(families) - 0.4)
    left.set_xticks(at, families, rotation=50, ha="right")
    left.set_title(r"Mean iterations to $10^{-6}$, $64^3$ boxes")
    left.legend(loc="upper left", frameon=False)
    left.grid(axis="y", alpha=0.3)
    sized = rows("main", "large")
    sizes = (64, 128, 256)
    for method in ("learned", "V(2,2)", "V(1,1)"):
        for family in MAIN_FAMILIES:
            counts = [mean(sized, method, family=family, shape=[n] * 3) for n in sizes]
            right.plot(sizes, counts, "o-", color=COLOURS[method], lw=1, ms=4, alpha=0.8)
    right.set_xscale("log", base=2)
    right.set_xticks(sizes, labels=[f"${n}^3$" for n in sizes])
    right.set_ylim(0, 12)
    right.set_title("Growth with the size, main families")
    right.grid(alpha=0.3)
    path = RESULTS / "iterations.png"
    figure.savefig(path, dpi=110)
    print("drawn", path)


if __name__ == "__main__":
    main()
