"""Grids with face weights on the simulated CUDA device: the operator, the cycle, and whole solves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd import DeepCD, Status
from deepcd.pde import Grid, poisson
from deepcd.solvers.grids.faces import discover_faces
from deepcd.solvers.kernels.faces.records import Faces
from deepcd.solvers.kernels.faces.reference import Weights
from deepcd.solvers.kernels.lanes import widened
from deepcd.solvers.operators.face_stencil import FaceStencilOperator
from deepcd.solvers.preconditioners.multigrid import face_cycle
from deepcd.solvers.preconditioners.multigrid.face_cycle import FaceCycle

from .cuda_simulator import _simulator, only_simulated, vector, watched  # noqa: F401
from .faces import Shape, Wrap, compiled, padded
from .systems import relative
from .test_cuda_ptx import FACES, OUTER, typed
from .test_face_stencil import matrix

pytestmark = only_simulated

BOXES: tuple[tuple[Shape, Wrap], ...] = (
    ((6, 5, 7), (False, False, False)),
    ((5, 1, 9), (False, False, False)),
    ((4, 5, 6), (True, True, True)),
    ((7, 1, 5), (True, False, True)),
)


def log_normal(n: Shape, wrap: Wrap, *, holes: float = 0.0, stretched: bool = False) -> Weights:
    """Return log-normal weights, zero around cells that are holes; `stretched`, the last axis is coupled weakly."""
    rng = np.random.default_rng(3)
    solid, w = rng.random(n) < holes, []
    for axis in range(3):
        own = np.exp(rng.standard_normal(n)) * ~(solid | np.roll(solid, -1, axis))
        if n[axis] == 1 or not wrap[axis]:
            own[(slice(None),) * axis + (slice(-1, None),)] = 0
        w.append((own * (0.02 if stretched and axis == 2 else 1)).astype(np.float32).astype(float))
    extra = np.where(rng.random(n) < 0.1, 1.0, 0.0) * ~solid
    return Weights((w[0], w[1], w[2]), extra, wrap)


@pytest.mark.parametrize(("n", "wrap"), BOXES, ids=str)
@pytest.mark.parametrize("kind", ["full", "holed and stretched"])
def test_the_cycle_is_that_of_the_processor(n: Shape, wrap: Wrap, kind: str) -> None:
    from deepcd.solvers.backends.cuda.face_cycle import CudaFaceCycle, uploaded
    from deepcd.solvers.backends.cuda.vector import Sums

    grid, faces = compiled(log_normal(n, wrap, holes=0.0 if kind == "full" else 0.2, stretched=kind != "full"))
    M, sums = FaceCycle(grid, faces, coarsest=8), Sums()
    assert len(M.memory_map.table) > 1
    assert (M.codes.near2.size > 0) == (kind == "full")
    M.memory_map.weights[:] = 0.7  # which would be one here, nearly always
    N = CudaFaceCycle(M, uploaded(Faces(*map(widened, M.fields))), sums)
    unknown = faces.inverse > 0
    r: Any = padded(np.random.default_rng(2).standard_normal(n)) * unknown
    z, own = M.zeros(), N.zeros()
    for _ in range(2 if kind == "full" else 1):  # the second time in used memory
        rz = M.apply(r, z)
        assert N.apply(vector(r, sums), own) == pytest.approx(rz, rel=1e-5)
    np.testing.assert_allclose(own.host()[unknown], z[unknown], atol=1e-5 * abs(z).max())
    assert not own.host()[padded(np.ones(n)) == 0].any()
    assert str(N) == f"{M}; on a CUDA device"


def test_launches_and_bytes_of_a_cycle_are_those_that_are_documented() -> None:
    from deepcd.solvers.backends.cuda.face_cycle import CudaFaceCycle, uploaded
    from deepcd.solvers.backends.cuda.vector import Sums

    grid, faces = compiled(log_normal((6, 6, 6), (False, False, False)))
    M, sums = FaceCycle(grid, faces, coarsest=8), Sums()
    N = CudaFaceCycle(M, uploaded(faces), sums)
    r, z, out, top = vector(faces.inverse, sums), N.zeros(), N.zeros(), N._finest
    assert len(N._levels) == 2
    with watched() as log:
        N.apply(r, z)
    # A cycle on the finest level; two on the next one with a residual and a sum; two exact solutions; the sum of r.z.
    assert len(log.launches) == 15 + (2 * 15 + 2) + 2 + 2
    for name, expected, run in (
        ("begin", 12, lambda: top.begin(r)),
        ("residual", 28, lambda: top.residual(r, z, out)),
        ("relax", 32, lambda: top._step(np.float32(1), r, z, out)),
    ):
        with watched(touches=True) as log:
            run()
        if name != "begin":
            assert log.launches == [f"cuda_faces.{name}"]
        assert log.bytes(f"cuda_faces.{name}", grid.n, grid.s) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(
    "A",
    [matrix((4, 5, 6)), matrix((6, 9), periodic=(0, 1)), matrix((4, 3, 5), holes=0.2, periodic=(1,))],
    ids=["box", "periodic", "holes"],
)
def test_the_operator_is_that_of_the_processor(A: sp.csr_array) -> None:
    from deepcd.solvers.backends.cuda.csr import CudaMatrix
    from deepcd.solvers.backends.cuda.face_cycle import uploaded
    from deepcd.solvers.backends.cuda.face_stencil import CudaFaceStencilOperator
    from deepcd.solvers.backends.cuda.vector import Sums

    embedding, stencil = discover_faces(A)
    host, sums = FaceStencilOperator(embedding, stencil, A), Sums()
    own = CudaFaceStencilOperator(host, uploaded(stencil.faces), CudaMatrix(A, sums), sums)
    b, x, p, z = np.random.default_rng(1).standard_normal((4, embedding.position.size))
    b_, x_ = (own.embed(vector(v, sums)) for v in (b, x))
    p_, z_, r_ = (own.embed(vector(v, sums)).astype(np.float32) for v in (p, z, b))
    box: Any = [host.embed(v) for v in (b, x, p, z, b)]
    short: Any = [v.astype(np.float32) for v in box[2:]]
    assert own.residual(b_, x_, r_) == pytest.approx(host.residual(box[0], box[1], short[2]), rel=1e-12)
    np.testing.assert_allclose(r_.host(), short[2], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(own.image(x_).host(), host.image(box[1]), rtol=1e-13, atol=1e-13)
    own.workspace(type("M", (), {"zeros": lambda _: None})())
    for beta in (0.0, 0.25):
        assert own.conjugate(z_, beta, p_) == pytest.approx(host.conjugate(short[1], beta, short[0]), rel=1e-5)
        cells = embedding.position
        np.testing.assert_allclose(p_.host()[cells], short[0][cells], rtol=1e-6)
        assert own.overlap(p_, z_) == pytest.approx(host.overlap(short[0], short[1]), rel=1e-5)
        first = beta == 0
        expected = host.step(0.3, short[0], box[1], short[2], first=first)
        assert own.step(0.3, p_, x_, r_, first=first) == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose(x_.host()[cells], box[1][cells], rtol=1e-6)
        np.testing.assert_allclose(r_.host(), short[2], atol=1e-5)


KINDS = {
    "3D with holes": matrix((6, 7, 6), holes=0.2, walls=0.1),
    "2D periodic, float32": matrix((12, 11), periodic=(1,)).astype(np.float32),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_iterations_and_the_same_answer(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    defaults: Any = FaceCycle.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "coarsest", 40)
    monkeypatch.setattr(face_cycle, "short", lambda faces: faces)  # weights of the finest level as on the device
    A, tol = KINDS[kind], 1e-6
    b = (A @ np.random.default_rng(1).standard_normal(A.shape[0])).astype(A.dtype)
    host = DeepCD(preconditioner="learned-multigrid").solve(A, b, tol)
    own = DeepCD(device="cuda").setup(A)
    with watched() as log:
        solution = own.solve(b, tol)
    assert (solution.info, host.info) == (0, 0)
    assert (solution.iterations, solution.preconditioner) == (host.iterations, host.preconditioner)
    assert solution.x.dtype == A.dtype
    assert relative(A.astype(float), solution.x, b) <= tol
    np.testing.assert_allclose(solution.residuals[:-1], host.residuals[:-1], rtol=1e-2)
    table = {f"cuda_faces.{name}": [kinds] for name, kinds in FACES.items()}
    table |= {f"cuda_outer.{name}": signatures for name, signatures in OUTER.items()}
    compiled_ones = {(name, *map(str, map(typed, kinds))) for name, all_of in table.items() for kinds in all_of}
    assert log.types <= compiled_ones
    assert {f"cuda_faces.{name}" for name in FACES} <= {name for name, *_ in log.types}


def test_closed_boxes_signs_and_what_has_no_solution() -> None:
    A = matrix((4, 4, 3), walls=0.0)
    b = A @ np.random.default_rng(0).standard_normal(A.shape[0])
    own = DeepCD(device="cuda", preconditioner="geometric-multigrid").setup(-A)
    solution = own.solve(b, 1e-6)
    assert solution.info == 0
    assert relative(-A, solution.x, b) <= 1e-6
    assert own.solve(b + 1.0).status is Status.INCONSISTENT
    assert "on a CUDA device" in str(own)


def test_equal_couplings_are_refused_by_name() -> None:
    A = poisson(Grid(np.zeros((4, 4, 4), dtype=int), walls="air")).A
    with pytest.raises(ValueError, match='there is "learned-multigrid" for it, not "geometric-multigrid"'):
        DeepCD(device="cuda", preconditioner="geometric-multigrid").setup(A)
