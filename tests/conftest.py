"""What every test runs under: reproducible Hypothesis, no screen, and compiled kernels unless they are switched off."""

from __future__ import annotations

import os

import matplotlib as mpl
import numpy as np
import pytest
import torch
from hypothesis import settings

mpl.use("Agg")
torch.set_num_threads(1)  # the networks of the tests are so small that threads wait for one another
# The first call of a kernel compiles it, which is no fault of the example that made it.
settings.register_profile("deepcd", deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("deepcd")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let device and precision of the solver tests be chosen, and the number of random histories."""
    group = parser.getgroup("deepcd")
    group.addoption("--device", choices=["cpu", "cuda"], default="cpu", help="where test_recipes.py solves")
    group.addoption("--dtype", choices=["float64", "float32"], default="float64", help="precision of its systems")
    group.addoption("--histories", type=int, default=300, help="random histories of a system that are run")


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    """Where to solve: skips if there is no CUDA device, and no simulator of one."""
    wanted: str = request.config.getoption("device")
    if wanted == "cuda":
        from numba import cuda

        if not cuda.is_available():
            pytest.skip("there is no CUDA device: set NUMBA_ENABLE_CUDASIM=1 for the simulator")
    return wanted


@pytest.fixture(scope="session")
def dtype(request: pytest.FixtureRequest) -> type:
    """Precision of matrices and right-hand sides."""
    chosen: type = getattr(np, request.config.getoption("dtype"))
    return chosen


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what is too slow as plain Python where the compiler is switched off."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
        for item in items:
            if item.get_closest_marker("compiled"):
                item.add_marker(pytest.mark.skip(reason="needs the compiler, NUMBA_DISABLE_JIT is set"))
