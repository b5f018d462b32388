"""Whole solves on the simulated CUDA device against those on the processor; what they launch, transfer and touch."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from benchmarks import cuda_traffic
from deepcd import DeepCD, Status
from deepcd.pde import Grid, domain, poisson
from deepcd.solvers.backends.cuda import device
from deepcd.solvers.grids.discovery import embed
from deepcd.solvers.preconditioners.multigrid.levels import COARSEST

from .cuda_simulator import FAMILIES, _simulator, both, grid_of, only_simulated, solve_exactly, vector, watched  # noqa: F401
from .systems import chambers
from .test_cuda_ptx import COARSE, FINEST, OUTER, VISIT, typed

pytestmark = only_simulated


def system(family: str, shape: tuple[int, ...]) -> tuple[sp.csr_array, Any]:
    A = poisson(grid_of(family, shape)).A
    return A, A @ np.random.default_rng(1).standard_normal(A.shape[0])


def difference(x: Any, y: Any) -> float:
    return float(np.linalg.norm(x - y) / np.linalg.norm(y))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((12, 12, 12), np.float32),
        ((20, 20, 20), np.float32),
        ((13, 11, 14), np.float64),
        ((21, 34), np.float32),
    ],
    ids=str,
)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_iterations_and_the_same_answer(family: str, shape: tuple[int, ...], dtype: Any) -> None:
    A, b = system(family, shape)
    A, b = A.astype(dtype), b.astype(dtype)
    tol = 1e-5 if dtype == np.float32 else 1e-8
    host = DeepCD(preconditioner="learned-multigrid").solve(A, b, tol)
    solution = DeepCD(device="cuda").solve(A, b, tol)
    assert (solution.info, host.info) == (0, 0)
    assert solution.iterations == host.iterations
    assert solution.x.dtype == dtype
    assert difference(solution.x, host.x) < 1e-5
    np.testing.assert_allclose(solution.residuals[:-1], host.residuals[:-1], rtol=1e-2)
    assert np.linalg.norm(b - A.astype(float) @ solution.x.astype(float)) <= tol * np.linalg.norm(b)


def test_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    solve_exactly(30, monkeypatch)
    A = poisson(domain((80, 3), walls=[("solid", "air"), "solid"])).A
    b = np.cos(np.arange(A.shape[0]) / 100)
    host = DeepCD(preconditioner="learned-multigrid").solve(A, b)
    solution = DeepCD(device="cuda").solve(A, b)
    assert (solution.info, solution.iterations) == (0, host.iterations)
    assert difference(solution.x, host.x) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_levels_that_no_block_takes_at_once(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepcd.solvers.backends.cuda.kernels import coarse as cuda_coarse

    solve_exactly(30, monkeypatch)
    monkeypatch.setattr(cuda_coarse, "ONE_BLOCK", 0)
    A, b = system(family, (12, 9, 14))
    host = DeepCD(preconditioner="learned-multigrid").solve(A, b)
    solution = DeepCD(device="cuda").solve(A, b)
    assert solution.info == 0
    assert solution.iterations == host.iterations
    assert difference(solution.x, host.x) < 1e-5


@pytest.mark.parametrize("keep", [0, 2])
def test_other_numbers_of_directions_run_on_the_device_too(keep: int) -> None:
    A, b = system("mixed-walls", (6, 5, 7))
    host = DeepCD(preconditioner="learned-multigrid", keep=keep).solve(A, b, 1e-9)
    solution = DeepCD(device="cuda", keep=keep).solve(A, b, 1e-9)
    assert (solution.info, solution.iterations) == (0, host.iterations)
    assert difference(solution.x, host.x) < 1e-8


def test_tight_tolerances_are_met_by_recomputed_residuals() -> None:
    A, b = system("open-top", (8, 7, 9))
    solution = DeepCD(device="cuda").solve(A, b, 1e-12)
    assert solution.info == 0
    assert np.linalg.norm(b - A @ solution.x) <= 1e-12 * np.linalg.norm(b)


def test_rows_on_their_own_starts_and_callbacks() -> None:
    cells = np.zeros((6, 5, 7), dtype=int)
    cells[2] = cells[:, 2] = 1
    cells[0, 0, 1] = cells[1, 0, 0] = cells[0, 1, 0] = 1  # a cell that only walls of air touch
    A = poisson(Grid(cells, walls="air")).A
    b = np.random.default_rng(0).standard_normal(A.shape[0])
    own = DeepCD(device="cuda").setup(A)
    assert "rows without off-diagonal entries, solved on their own: " in str(own)
    host = DeepCD(preconditioner="learned-multigrid").solve(A, b)
    assert difference(own.solve(b).x, host.x) < 1e-5
    told: list[Any] = []
    start = host.x + 0.1
    solution = own.solve(b, x0=start, callback=told.append)
    assert (solution.info, len(told)) == (0, solution.iterations)
    assert all(isinstance(x, np.ndarray) and x.shape == b.shape for x in told)
    np.testing.assert_allclose(told[-1], solution.x, rtol=1e-6)
    np.testing.assert_array_equal(start, host.x + 0.1)
    assert own.solve(b, callback=lambda _: True, maxiter=5).status is Status.CALLBACK
    assert own.solve(b, 1e-12, maxiter=1).status is Status.MAXITER
    assert not own.solve(np.zeros_like(b)).x.any()


def test_negative_definite_and_singular_systems() -> None:
    A, b = system("mixed-walls", (5, 4, 6))
    assert difference(DeepCD(device="cuda").solve(-A, b).x, DeepCD.solve(-A, b).x) < 1e-5
    grid = chambers((6, 3, 4))
    A = poisson(grid).A
    b = A @ np.random.default_rng(0).standard_normal(A.shape[0])
    own = DeepCD(device="cuda").setup(grid)
    assert difference(own.solve(b, 1e-8).x, DeepCD(preconditioner="learned-multigrid").solve(A, b, 1e-8).x) < 1e-6
    assert own.solve(b + 1.0).status is Status.INCONSISTENT
    start = np.random.default_rng(1).standard_normal(b.size)
    solution = own.solve(b, 1e-8, x0=start)
    assert solution.info == 0
    assert np.linalg.norm(b - A @ solution.x) <= 1e-8 * np.linalg.norm(b)
    assert "on a CUDA device" in str(own)


def test_general_matrices_by_jacobi() -> None:
    rng = np.random.default_rng(0)
    B = sp.random_array((40, 40), density=0.1, rng=rng)
    A = sp.csr_array(B @ B.T + sp.eye_array(40))
    b = rng.standard_normal(40)
    solver = DeepCD(device="cuda", preconditioner="jacobi")
    host, solution = DeepCD(preconditioner="jacobi").solve(A, b, 1e-9), solver.solve(A, b, 1e-9)
    assert (solution.info, solution.preconditioner) == (0, "jacobi")
    assert abs(solution.iterations - host.iterations) <= 1  # rounding decides
    assert difference(solution.x, host.x) < 1e-7
    with pytest.raises(ValueError, match='preconditioner="jacobi" takes any A'):
        DeepCD(device="cuda").setup(A)
    own = solver.setup(A)
    own.update(2 * A)
    assert difference(own.solve(b, 1e-9).x, host.x / 2) < 1e-7
    fault = solver.solve(sp.csr_array([[1.0, 2.0], [2.0, -1.0]]), [1.0, 1.0])
    assert fault.status is Status.INDEFINITE_MATRIX


def test_what_a_device_does_not_do_is_refused() -> None:
    A, b = system("mixed-walls", (5, 4, 6))
    own = DeepCD(device="cuda").setup(A)
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        copy.deepcopy(own)
    with pytest.raises(ValueError, match="on a CUDA device: use it through solve"):
        own.aspreconditioner()
    with pytest.raises(ValueError, match=r"b must have shape"):
        own.solve(np.stack([b, b], axis=1))
    with pytest.raises(ValueError, match="b must be finite"):
        own.solve(b * np.nan)


# Arrays that lie on the device


class OnDevice:
    """An array as torch or CuPy would hand it over."""

    def __init__(self, v: Any) -> None:
        from numba import cuda

        self.__cuda_array_interface__ = {"version": 3}
        self.array = cuda.to_device(v)
        self.shape = v.shape


def on_device(v: Any) -> Any:
    """Return an array on the device."""
    return OnDevice(v)


class SparseTensor:
    """A matrix as torch's sparse CSR tensors have it."""

    layout = "torch.sparse_csr"

    def __init__(self, A: sp.csr_array) -> None:
        self.shape, self._arrays = A.shape, [OnDevice(v) for v in (A.data, A.indices, A.indptr)]

    def values(self) -> OnDevice:
        return self._arrays[0]

    def col_indices(self) -> OnDevice:
        return self._arrays[1]

    def crow_indices(self) -> OnDevice:
        return self._arrays[2]


class CupyMatrix:
    """A matrix as CuPy has it."""

    def __init__(self, A: sp.csr_array) -> None:
        self.shape = A.shape
        self.data, self.indices, self.indptr = (OnDevice(v) for v in (A.data, A.indices, A.indptr))


@pytest.fixture
def interface(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator has no memory of a device to look into."""
    monkeypatch.setattr(device, "view", lambda v: v.array)


@pytest.mark.usefixtures("interface")
@pytest.mark.parametrize("wrap", [SparseTensor, CupyMatrix])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_lies_on_the_device_stays_there(dtype: Any, wrap: Any) -> None:
    A, b = system("free-surface", (7, 6, 8))
    A, b = A.astype(dtype), b.astype(dtype)
    own = DeepCD(device="cuda").setup(wrap(A))
    right = on_device(b)
    with watched() as log:
        solution: Any = own.solve(right, 1e-5)
    assert max(log.to_host) == 8  # single sums
    expected = DeepCD(preconditioner="learned-multigrid").solve(A, b, 1e-5)
    assert (solution.info, solution.iterations) == (0, expected.iterations)
    x: Any = solution.x
    assert type(x) is type(right.array)
    assert solution.x.dtype == dtype
    assert difference(x.copy_to_host(), expected.x) < 1e-5
    np.testing.assert_array_equal(right.array.copy_to_host(), b)
    told: list[Any] = []
    own.solve(on_device(b[:, None]), 1e-5, callback=told.append)
    assert all(type(x) is type(right.array) for x in told)


@pytest.mark.usefixtures("interface")
def test_a_torch_tensor_comes_back_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    A, b = system("open-top", (4, 5, 6))
    tensor = type("Tensor", (OnDevice,), {"__module__": "torch", "device": "cuda:0"})
    monkeypatch.setattr(torch, "as_tensor", lambda v, device: ("a tensor", type(v), device))
    x: Any = DeepCD(device="cuda").solve(A, tensor(b)).x
    assert x == ("a tensor", type(tensor(b).array), "cuda:0")


@pytest.mark.usefixtures("interface")
def test_malformed_arrays_on_the_device_are_refused() -> None:
    A, b = system("open-top", (4, 5, 6))
    own = DeepCD(device="cuda").setup(A)
    with pytest.raises(TypeError, match="b on a CUDA device must be float32 or float64, got int64"):
        own.solve(on_device(np.ones(A.shape[0], dtype=np.int64)))
    with pytest.raises(ValueError, match="b must have shape"):
        own.solve(on_device(b[:-1]))
    with pytest.raises(ValueError, match="b must be finite"):
        own.solve(on_device(np.where(np.arange(b.size) == 3, np.nan, b)))
    with pytest.raises(TypeError, match=r"b lies on a CUDA device: solve there with DeepCD\(device=\"cuda\"\)"):
        DeepCD.solve(A, on_device(b))
    with pytest.raises(TypeError, match="A lies on a CUDA device"):
        DeepCD.solve(SparseTensor(A), b)


# What an iteration costs


def test_kernels_are_launched_with_the_types_that_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those in `test_cuda_ptx.py`."""
    from deepcd.solvers.backends.cuda.kernels import coarse as cuda_coarse

    compiled = {
        (f"cuda_{where}.{name}", *(str(typed(t)) for t in signature))
        for where, table in {"outer": OUTER, "finest": FINEST, "coarse": {**COARSE, **VISIT}}.items()
        for name, signatures in table.items()
        for signature in signatures
    }
    solve_exactly(30, monkeypatch)
    launched: set[Any] = set()
    for family, shape, dtype, limit in [
        ("open-top", (6, 7, 5), np.float32, 0), ("pure-neumann", (9, 12), np.float64, 0),
        ("free-surface", (6, 5, 7), np.float64, 8192),
    ]:  # fmt: skip
        monkeypatch.setattr(cuda_coarse, "ONE_BLOCK", limit)
        A, b = system(family, shape)
        with watched() as log:
            DeepCD(device="cuda").solve(A.astype(dtype), b.astype(dtype), 1e-9, x0=b.astype(dtype))
            DeepCD(device="cuda", preconditioner="jacobi").solve(A.astype(dtype), b.astype(dtype), maxiter=2)
        launched |= log.types
    assert launched <= compiled
    unseen = {name for name, *_ in compiled} - {name for name, *_ in launched}
    assert unseen <= {"cuda_outer.largest"}  # of vectors whose squares leave the range of float64


def test_an_iteration_waits_for_three_sums_and_nothing_else() -> None:
    A, b = system("mixed-walls", (6, 5, 7))
    own = DeepCD(device="cuda").setup(A)
    with watched() as one:
        own.solve(b, 1e-30, maxiter=1)
    with watched() as two:
        own.solve(b, 1e-30, maxiter=2)
    assert Counter(two.to_host) - Counter(one.to_host) == Counter({8: 3})


@pytest.mark.parametrize(("coarsest", "limit"), [(600, 8192), (30, 8192), (30, 500), (30, 0)])
def test_launches_are_those_of_the_traffic_model(coarsest: int, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepcd.solvers.backends.cuda.kernels import coarse as cuda_coarse

    shape = (12, 11, 10)
    solve_exactly(coarsest, monkeypatch)
    monkeypatch.setattr(cuda_coarse, "ONE_BLOCK", limit)
    monkeypatch.setattr(cuda_traffic, "COARSEST", coarsest)
    monkeypatch.setattr(cuda_traffic, "ONE_BLOCK", limit)
    A, _, B, N = both(*embed(domain(shape, walls="air")))
    r = vector(A.embed(np.ones(A.embedding.position.size)).astype(np.float32), B.sums)
    _, x, p, _, z = B.workspace(N)
    with watched() as log:
        N.apply(r, z)
        B.conjugate(z, 0.5, p)
        B.step(0.1, p, x, r)
    assert len(log.launches) == cuda_traffic.traffic(shape).launches
    assert log.to_host == [8] * cuda_traffic.traffic(shape).transfers


def test_the_model_has_the_limits_of_the_code() -> None:
    from deepcd.solvers.backends.cuda.kernels import coarse as cuda_coarse

    assert (cuda_traffic.COARSEST, cuda_traffic.ONE_BLOCK) == (COARSEST, cuda_coarse.ONE_BLOCK)
    finest = cuda_traffic.traffic((128, 128, 128)).finest
    assert finest <= sum(cuda_traffic.CPU.values()) == 74


def test_kernels_touch_what_the_traffic_model_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries of arrays over the box of a level, each counted once for being read and once for being written."""
    from deepcd.solvers.backends.cuda.kernels import coarse as cuda_coarse

    solve_exactly(30, monkeypatch)
    monkeypatch.setattr(cuda_coarse, "ONE_BLOCK", 0)
    A, M, B, N = both(*embed(domain((12, 12, 12), walls="air")))
    r = vector(A.embed(np.ones(12**3)).astype(np.float32), B.sums)
    _, x, p, _, z = B.workspace(N)
    level, lower = N._levels[:2]
    with watched(touches=True) as log:
        N.descend(r)
        N.ascend(r, z)
        B.conjugate(z, 0.5, p)
        B.step(0.1, p, x, r)
        N.descend_level(level, lower, level.r)
    kernels = {"down": "cuda_finest.descend", "up": "cuda_finest.ascend"}
    for name, model in cuda_traffic.FINEST.items():
        kernel = kernels.get(name, f"cuda_outer.{name}")
        flags = cuda_traffic.FLAGS if name in kernels else 0
        assert log.bytes(kernel, *M.finest.box) == model.own - flags
        assert log.bytes(kernel, level.n, level.s) == model.below
    assert log.bytes("cuda_coarse.descend", level.n, level.s) == cuda_traffic.COARSE["down"].own
    assert log.bytes("cuda_coarse.descend", lower.n, lower.s) == cuda_traffic.COARSE["down"].below
    for again, name in ((True, "up, first visit"), (False, "up, second visit")):
        right, out = (level.r, level.e) if again else (level.t, level.z)
        with watched(touches=True) as log:
            N.ascend_level(level, lower, right, out, np.float32(1), again=again)
        assert log.bytes("cuda_coarse.ascend", level.n, level.s) == cuda_traffic.COARSE[name].own
        assert log.bytes("cuda_coarse.ascend", lower.n, lower.s) == cuda_traffic.COARSE[name].below
