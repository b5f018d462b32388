"""What every test runs under: reproducible Hypothesis, no screen, and compiled kernels unless they are switched off."""

from __future__ import annotations

import os

import matplotlib as mpl
import pytest
import torch
from hypothesis import settings

mpl.use("Agg")
torch.set_num_threads(1)  # the networks of the tests are so small that threads wait for one another
# The first call of a kernel compiles it, which is no fault of the example that made it.
settings.register_profile("deepcd", deadline=None, derandomize="CI" in os.environ, print_blob=True)
settings.load_profile("deepcd")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what is too slow as plain Python where the compiler is switched off."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
        for item in items:
            if item.get_closest_marker("compiled"):
                item.add_marker(pytest.mark.skip(reason="needs the compiler, NUMBA_DISABLE_JIT is set"))
