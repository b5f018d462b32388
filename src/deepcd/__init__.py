"""deepcd: learned solvers for scientific computing.

>>> import numpy as np, scipy.sparse as sp
>>> from deepcd import DeepCD
>>> A = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(9, 9), format="csr")
>>> x, info = DeepCD.solve(A, np.ones(9), tol=1e-6)
>>> info
0
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepcd import data as data
    from deepcd import optim as optim
    from deepcd import pde as pde
    from deepcd import pinn as pinn
    from deepcd import skfem as skfem
    from deepcd import solvers as solvers
    from deepcd.solvers.cg import cg as cg
    from deepcd.solvers.deepcd import DeepCD as DeepCD
    from deepcd.solvers.solution import Solution as Solution
    from deepcd.solvers.solution import Status as Status
    from deepcd.solvers.system import System as System

    __version__: str

_HOMES = {
    "DeepCD": "deepcd.solvers.deepcd",
    "System": "deepcd.solvers.system",
    "Solution": "deepcd.solvers.solution",
    "Status": "deepcd.solvers.solution",
    "cg": "deepcd.solvers.cg",
}
_MODULES = ("data", "optim", "pde", "pinn", "skfem", "solvers")

__all__ = [
    "DeepCD",
    "Solution",
    "Status",
    "System",
    "__version__",
    "cg",
    "data",
    "optim",
    "pde",
    "pinn",
    "skfem",
    "solvers",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562): ``import deepcd`` itself loads nothing."""
    value: Any
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"deepcd.{name}")
    elif name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            value = version("deepcd")
        except PackageNotFoundError:  # run from a source tree that is not installed
            value = "0+unknown"
    else:
        raise AttributeError(f"module 'deepcd' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
