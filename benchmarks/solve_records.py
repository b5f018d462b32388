"""Did a change alter an answer? A pytest plugin that records every solve of a test run, and a comparison of two runs.

    python -m pytest -p benchmarks.solve_records --record-solves before.json
    python -m pytest -p benchmarks.solve_records --record-solves after.json
    python -m benchmarks.solve_records before.json after.json

The solves of a test are recorded in order, under the name of the test: status, iterations, preconditioner, and digests
of x and of the residuals. Two records agree only if they are equal to the last bit.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

_records: dict[str, list[list[Any]]] = defaultdict(list)
_current = [""]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-solves", metavar="FILE", help="write what every solve of this run came to")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--record-solves"):
        import deepcd

        # `DeepCD.solve` and `System.solve` both end there.
        deepcd.System.solve_with = _recorded(deepcd.System.solve_with)  # type: ignore[method-assign]
        # The module `deepcd.solvers.cg` is hidden by the function of its name.
        module: Any = importlib.import_module("deepcd.solvers.cg")
        solvers: Any = importlib.import_module("deepcd.solvers")
        deepcd.cg = module.cg = solvers.cg = _recorded(sys.modules["deepcd.solvers.cg"].cg)


def pytest_runtest_logstart(nodeid: str) -> None:
    _current[0] = nodeid


def pytest_unconfigure(config: pytest.Config) -> None:
    if config.getoption("--record-solves"):
        Path(config.getoption("--record-solves")).write_text(json.dumps(_records, indent=0))


def _recorded(solve: Any) -> Any:
    @functools.wraps(solve)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        solution = solve(*args, **kwargs)
        x: Any = solution.x
        x = x.copy_to_host() if hasattr(x, "copy_to_host") else x
        digests = [_digest(v) for v in (x, solution.residuals)]
        record = [solution.status.name, len(solution.residuals) - 1, solution.preconditioner, *digests]
        _records[_current[0]].append(record)
        return solution

    return recorded


def _digest(v: Any) -> str:
    content = v.tobytes() if hasattr(v, "tobytes") else repr(v).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("before", "after"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args()
    before, after = (json.loads(path.read_text()) for path in (args.before, args.after))
    common = sorted(before.keys() & after.keys())
    differing = [name for name in common if before[name] != after[name]]
    for name in differing:
        print(name)
        for k, (old, new) in enumerate(zip(before[name], after[name], strict=False)):
            if old != new:
                print(f"    solve {k}: {old[:3]} -> {new[:3]}")
        if len(before[name]) != len(after[name]):
            print(f"    {len(before[name])} solves -> {len(after[name])}")
    solves = sum(len(before[name]) for name in common)
    print(
        f"{solves} solves in {len(common)} tests of both runs, {len(differing)} tests differ; "
        f"{len(before) - len(common)} tests only before, {len(after) - len(common)} only after"
    )
    return bool(differing)


if __name__ == "__main__":
    raise SystemExit(main())
