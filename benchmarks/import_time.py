"""How long does `import deepcd` take, compared with its requirements, and which heavy libraries does it load?

    python -m benchmarks.import_time [--repeats 9]

Each import runs in a process of its own, and all of them take turns. Seconds are those of the process, the start of
Python included; bytecode exists before. `import deepcd` loads nothing before one of its names is used, so the first
name is measured as well; that is the time to compare.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

import numpy as np

from benchmarks.problems import save_results

STATEMENTS = {
    "nothing": "pass",
    "numpy, scipy.sparse": "import numpy, scipy.sparse",
    "deepcd": "import deepcd",
    "DeepCD": "from deepcd import DeepCD",
}
HEAVY = ("torch", "numba", "pyamg", "matplotlib", "meshio", "zuko", "rich", "typer")


def run(statement: str) -> float:
    """Return the seconds of a Python process that executes a statement."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def imported(statement: str) -> list[str]:
    """Return the heavy libraries that a statement loads."""
    code = f"{statement}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


def main() -> None:
    """Print and save the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    heavy = {name: imported(statement) for name, statement in STATEMENTS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(args.repeats):
        for name, statement in STATEMENTS.items():
            seconds[name].append(run(statement))
    rows = []
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    for name, values in seconds.items():
        print(f"{name:20s} {medians[name]:.3f} s  loads {', '.join(heavy[name]) or 'none'} of {', '.join(HEAVY)}")
        rows.append({"statement": STATEMENTS[name], "seconds": medians[name], "all": values, "loads": heavy[name]})
    for name in ("deepcd", "DeepCD"):
        ratio = medians[name] / medians["numpy, scipy.sparse"]
        print(f"{STATEMENTS[name]!r} takes {ratio:.2f} times as long as numpy and scipy.sparse")
    print("saved", save_results("import-time", rows, repeats=args.repeats))


if __name__ == "__main__":
    main()
