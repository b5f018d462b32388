"""DeepCD(device="cuda") where there is no device, and that nothing of it is loaded on the processor."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import cuda_traffic
from deepcd import DeepCD
from deepcd.solvers.backends.arrays import is_on_device
from deepcd.solvers.backends.cuda import device as cuda

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") != "0"


@pytest.mark.skipif(SIMULATED, reason="the simulator is a device")
def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "find_spec", lambda _: None)
    with pytest.raises(RuntimeError, match=r'numba-cuda is not installed \(pip install "deepcd\[cuda\]"\)'):
        DeepCD(device="cuda")


@pytest.mark.skipif(SIMULATED, reason="the simulator is a device")
def test_a_missing_driver_or_device_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba.cuda

    monkeypatch.setattr(cuda, "find_spec", lambda _: True)
    monkeypatch.setattr(
        numba.cuda, "gpus", _Gpus(numba.cuda.cudadrv.error.CudaSupportError("Error at driver init:\n\nno"))
    )
    with pytest.raises(RuntimeError, match="no CUDA driver: no"):
        DeepCD(device="cuda")
    monkeypatch.setattr(numba.cuda, "gpus", [])
    with pytest.raises(RuntimeError, match="no CUDA device"):
        DeepCD(device="cuda")
    monkeypatch.setattr(numba.cuda, "gpus", [0])
    monkeypatch.setattr(numba.cuda, "get_current_device", lambda: SimpleNamespace(name="a device"))
    assert cuda.require() == "a device"


class _Gpus:
    def __init__(self, error: Exception) -> None:
        self._error = error

    def __iter__(self) -> Any:
        raise self._error


def test_what_cannot_work_is_refused_before_a_device_is_looked_for() -> None:
    with pytest.raises(ValueError, match="device must be 'cpu' or 'cuda', got 'gpu'"):
        DeepCD(device="gpu")  # type: ignore[arg-type]
    known = "'auto', 'learned-multigrid', 'geometric-multigrid', 'jacobi'"
    with pytest.raises(ValueError, match=f"on a CUDA device there are {known}, not 'direct'"):
        DeepCD(device="cuda", preconditioner="direct")


def test_other_objects_are_taken_for_what_they_are() -> None:
    A, v = np.eye(2), [1.0, 2.0]
    assert cuda.matrix_to_host(A) is A
    assert not is_on_device(A)
    np.testing.assert_array_equal(cuda.to_host(v), v)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state:UserWarning")
def test_tensors_on_the_processor_are_no_matter_of_cuda() -> None:
    import torch

    A = torch.tensor([[4.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    x = DeepCD.solve(A, torch.tensor([1.0, 2.0], dtype=torch.float64)).x
    np.testing.assert_allclose(x, [1 / 11, 7 / 11], rtol=1e-12)
    assert cuda.matrix_to_host(A) is A
    found = cuda.matrix_to_host(A.to_sparse_csr())
    np.testing.assert_array_equal(found.toarray(), A.numpy())


def test_a_solve_on_the_processor_loads_nothing_for_cuda() -> None:
    program = (
        "import sys, numpy as np\n"
        "from deepcd import DeepCD\n"
        "from deepcd.pde import domain, poisson\n"
        "A = poisson(domain((6, 5, 7), walls='air')).A\n"
        "for name in ('learned-multigrid', 'jacobi', 'auto'):\n"
        "    assert DeepCD(preconditioner=name).solve(A, np.ones(210)).info == 0\n"
        "own = [m for m in sys.modules if m.startswith('deepcd.') and 'cuda' in m]\n"
        "print(own + [m for m in ('numba_cuda', 'numba.cuda', 'cuda.bindings') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert told.strip() == "[]"


def test_the_traffic_table_can_be_printed() -> None:
    told = subprocess.run([sys.executable, cuda_traffic.__file__], check=True, capture_output=True, text=True).stdout
    assert "in all:   74.0   66.0" in told
