"""CUDA kernels in the simulator against their definition: the operator, the cycle's passes, CSR, vectors."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd.data import random_grid
from deepcd.solvers.grids.discovery import embed
from deepcd.solvers.grids.embedding import Embedding
from deepcd.solvers.grids.stencils import UnitStencil
from deepcd.solvers.kernels import reference
from deepcd.solvers.operators.csr import CSROperator
from deepcd.solvers.operators.unit_stencil import UnitStencilOperator
from deepcd.solvers.preconditioners.multigrid.unit_finest import FusedPair, UnitFinest
from deepcd.solvers.survey import constant_null_space

from .cuda_simulator import _simulator, both, only_simulated, vector, watched  # noqa: F401
from .cycles import Passes, close, learned, random_embedding, random_weights
from .systems import GRIDS, chambers

pytestmark = only_simulated
SHAPES = [(5, 4, 6), (3, 1, 5), (1, 1, 4), (2, 3, 1), (1, 1, 1), (7, 6), (1, 5), (4, 1)]
SEVERAL_TILES = [(9, 18, 27), (13, 260)]


# The outer iteration


@pytest.mark.parametrize("shape", [(5, 4, 6), (1, 7, 5), (6, 1, 4), (9, 7), (1, 12)], ids=str)
def test_the_operator_is_the_one_defined(shape: tuple[int, ...]) -> None:
    from deepcd.solvers.backends.cuda.stencil import CudaStencilOperator
    from deepcd.solvers.backends.cuda.vector import Sums

    (embedding, stencil), sums = random_embedding(shape), Sums()
    host = UnitStencilOperator(embedding, stencil)
    operator = CudaStencilOperator(host, sums)
    planar = len(shape) == 2
    unknown = stencil.diagonal.ravel() > 0
    cells = reference.unpad(stencil.diagonal.ravel(), host.n, planar)
    keep = cells.ravel() > 0
    A = reference.stencil(cells)[keep][:, keep].toarray()
    b, x, p, z = np.random.default_rng(0).standard_normal((4, len(A)))
    b_, x_, p_, z_ = (operator.embed(vector(v, sums)) for v in (b, x, p, z))
    np.testing.assert_array_equal(b_.host(), host.embed(b))
    np.testing.assert_array_equal(operator.extract(b_).host(), b)
    p_, z_, r_ = p_.astype(np.float32), z_.astype(np.float32), b_.astype(np.float32)

    square = operator.residual(b_, x_, r_)
    np.testing.assert_allclose(r_.host()[unknown], b - A @ x, rtol=6e-8, atol=1e-12)
    assert square == pytest.approx((b - A @ x) @ (b - A @ x))
    assert operator.norm(r_) ** 2 == pytest.approx(square)

    operator.workspace(type("M", (), {"zeros": lambda _: None})())
    product = operator.conjugate(z_, -0.5, p_)
    np.testing.assert_allclose(p_.host()[unknown], z - 0.5 * p, atol=3e-7)
    p = p_.host()[unknown].astype(float)
    assert product == pytest.approx(p @ A @ p, rel=1e-6)
    np.testing.assert_allclose(operator.image(p_).host()[unknown], A @ p, atol=1e-12)
    np.testing.assert_allclose(operator.image(x_).host()[unknown], A @ x, atol=1e-12)
    assert operator.overlap(p_, z_) == pytest.approx(p @ A @ z, rel=1e-6)

    r = r_.host()[unknown].astype(float)
    square = operator.step(0.3, p_, x_, r_)
    np.testing.assert_allclose(x_.host()[unknown], x + 0.3 * p, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(r_.host()[unknown], r - 0.3 * (A @ p), rtol=6e-8, atol=1e-12)
    assert square == pytest.approx((r - 0.3 * (A @ p)) @ (r - 0.3 * (A @ p)))
    for v in (b_, x_, p_, r_, operator.image(p_)):
        assert not v.host()[~unknown].any()
    y = vector(x, sums)
    operator.spread(x_, 2.0, y)
    np.testing.assert_allclose(y.host(), x + 2.0 * x_.host()[unknown], rtol=1e-14)


def test_a_first_step_reads_neither_direction_nor_iterate_before() -> None:
    A, _, B, N = both(*random_embedding((5, 4, 6)))
    sums, drawn = B.sums, np.random.default_rng(0).standard_normal((2, A.embedding.position.size))
    z, r = (A.embed(v).astype(np.float32) for v in drawn)
    _, x, p, *_ = B.workspace(N)
    inner = slice(A.s[0], -A.s[0])
    for v in (x, p):  # nothing writes the planes around the box
        v.array[inner] = np.full(v.size - 2 * A.s[0], np.nan, v.dtype)
    before = p.array
    assert B.conjugate(vector(z, sums), 0.0, p) == pytest.approx(float(z @ A.image(z)), rel=1e-6)
    assert p.array is not before
    np.testing.assert_array_equal(p.host(), z)
    r_ = vector(r, sums)
    B.step(0.3, p, x, r_, first=True)
    np.testing.assert_allclose(x.host(), 0.3 * z.astype(float), rtol=1e-14)


@pytest.mark.parametrize("shape", [(6, 3, 4), (7, 6)], ids=str)
def test_constants_on_sealed_chambers_are_removed_on_the_device(shape: tuple[int, ...]) -> None:
    embedding, stencil = embed(chambers(shape))
    assert stencil.sealed.any()
    assert not stencil.sealed.all()
    A, _, B, _ = both(embedding, stencil)
    for dtype in (np.float32, np.float64):
        v: Any = A.embed(np.random.default_rng(0).standard_normal(embedding.position.size)).astype(dtype)
        v_ = vector(v, B.sums)
        with watched() as log:
            assert B.project(v_)
        assert log.to_host == []
        A.project(v)
        np.testing.assert_allclose(v_.host(), v, rtol=1e-6 if dtype == np.float32 else 1e-13, atol=1e-7)


def test_sums_do_not_depend_on_the_order_in_which_threads_run() -> None:
    A, _, B, N = both(*embed(random_grid("mixed-walls", (7, 6, 8), np.random.default_rng(2))))
    r = vector(A.embed(np.random.default_rng(0).standard_normal(A.embedding.position.size)).astype(np.float32), B.sums)
    z = N.zeros()
    first = N.apply(r, z), z.host().tobytes(), B.dot(r, z)
    for _ in range(5):
        assert (N.apply(r, z), z.host().tobytes(), B.dot(r, z)) == first


# The cycle


@functools.cache
def definition(shape: tuple[int, ...], fill: float) -> tuple[Embedding, UnitStencil, list[reference.LevelMatrices]]:
    (embedding, stencil), planar = random_embedding(shape, fill), len(shape) == 2
    diagonal = reference.unpad(stencil.diagonal.ravel(), embedding.n, planar)
    return embedding, stencil, reference.learned_levels(diagonal, planar, random_weights(len(shape), 0.15), 1)


def passes(shape: tuple[int, ...], fill: float) -> tuple[Passes, Any, Any]:
    """Return the definition's side and the device's, with many levels and no limit on smoothers."""
    embedding, stencil, levels = definition(shape, fill)
    _, M, B, N = both(embedding, stencil, random_weights(len(shape), 0.15), coarsest=1, bound=np.inf)
    return Passes(M, levels, len(shape) == 2), N, B.sums


def put(array: Any, v: Any) -> None:
    """Write a NumPy vector into a part of an array on the device."""
    array.copy_to_device(np.asarray(v, dtype=np.float32))


@pytest.mark.parametrize("fill", [0.75, 0.98])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_down_and_up_on_the_finest_level(shape: tuple[int, ...], fill: float) -> None:
    own, N, sums = passes(shape, fill)
    top = N._levels[0]
    A, G, T, _ = own.levels[0]
    assert T is not None
    for _ in range(2):  # the second time in used memory
        b, e = own.vector(0), own.vector(1)
        r, z = vector(own.flat(0, b), sums), N.zeros()
        N.descend(r)
        down = G @ b
        close(N._smoothed.copy_to_host(), own.flat(0, down))
        close(top.r.copy_to_host(), own.flat(1, T.T @ (b - A @ down)))
        put(top.z, own.flat(1, own.psi(1) * e))
        product = N.ascend(r, z)
        up = down + T @ e
        up = up + G.T @ (b - A @ up)
        close(z.host(), own.flat(0, up))
        np.testing.assert_allclose(product, r.host().astype(float) @ z.host().astype(float), rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(r.host(), own.flat(0, b))


@pytest.mark.parametrize("shape", [(5, 4, 6), (7, 1, 5), (2, 3, 1), (7, 6), (1, 5), (13, 12)], ids=str)
def test_coarse_levels_by_tiles_and_in_one_block(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    from deepcd.solvers.backends.cuda.kernels import coarse as cuda_coarse

    own, N, _ = passes(shape, 0.9)
    for depth in range(1, len(own.M.levels)):
        level, lower = N._levels[depth - 1], N._levels[depth]
        A, G, T, _ = own.levels[depth]
        assert T is not None
        b, e, first = own.vector(depth), own.vector(depth + 1), own.vector(depth)
        put(level.r, own.flat(depth, b))
        N.descend_level(level, lower, level.r)
        down = G @ b
        close(level.y.copy_to_host(), own.flat(depth, down))
        close(lower.r.copy_to_host(), own.flat(depth + 1, T.T @ (b - A @ down)))
        put(lower.z, own.flat(depth + 1, own.psi(depth + 1) * e))
        up = down + T @ e
        up = up + G.T @ (b - A @ up)
        N.ascend_level(level, lower, level.r, level.e, np.float32(1), again=True)
        close(level.e.copy_to_host(), own.flat(depth, up))
        close(level.t.copy_to_host(), own.flat(depth, b - A @ up))
        put(level.e, own.flat(depth, first))
        N.ascend_level(level, lower, level.r, level.z, np.float32(0.75), again=False)
        close(level.z.copy_to_host(), own.flat(depth, own.psi(depth) * (0.75 * up + first)))
    for limit in (0, cuda_coarse.ONE_BLOCK):
        monkeypatch.setattr(cuda_coarse, "ONE_BLOCK", limit)
        for depth in range(1, len(own.M.levels) + 1):
            b = own.vector(depth)
            put(N._levels[depth - 1].r, own.flat(depth, b))
            N.visit(depth - 1)
            M = reference.cycle(own.levels[depth:])
            once = M @ b
            twice = own.psi(depth) * (2 * once - M @ (own.levels[depth].A @ once))
            close(N._levels[depth - 1].z.copy_to_host(), own.flat(depth, twice), 3e-5)


@pytest.mark.parametrize("shape", SEVERAL_TILES, ids=str)
def test_tiles_and_shares_of_planes_meet(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the compiled cycle, whose passes are compared with their definition: the boxes are large for that."""
    from deepcd.solvers.backends.cuda import multigrid as cuda_multigrid
    from deepcd.solvers.backends.cuda.kernels import coarse as cuda_coarse
    from deepcd.solvers.backends.cuda.kernels import outer as cuda_outer

    monkeypatch.setattr(cuda_multigrid, "LEAST_PLANES", 4)
    monkeypatch.setattr(cuda_coarse, "ONE_BLOCK", 0)
    A, M, B, N = both(*random_embedding(shape, 0.97), coarsest=60)
    assert min(N._down[0], N._down[2], N._up[2]) > 1
    assert B.sums.partials.size >= np.prod(N._up) > cuda_outer.BLOCKS
    assert len(shape) == 2 or N._down[1] > 1
    assert len(M.levels) > 2
    r = A.embed(np.random.default_rng(0).standard_normal(A.embedding.position.size)).astype(np.float32)
    z, z_ = M.zeros(), N.zeros()
    product = M.apply(r, z)
    assert N.apply(vector(r, B.sums), z_) == pytest.approx(product, rel=1e-6)
    close(z_.host(), z)


@pytest.mark.parametrize("name", GRIDS)
def test_the_whole_cycle_on_boxes_of_every_kind(name: str) -> None:
    embedding, stencil = embed(GRIDS[name])
    A, M, B, N = both(embedding, stencil, coarsest=8)
    r = A.embed(np.random.default_rng(0).standard_normal(embedding.position.size)).astype(np.float32)
    A.project(r)
    z, z_ = M.zeros(), N.zeros()
    assert N.apply(vector(r, B.sums), z_) == pytest.approx(M.apply(r, z), rel=1e-5)
    close(z_.host(), z)


def test_listed_cells_find_their_place() -> None:
    from deepcd.solvers.backends.cuda.multigrid import bits, listed

    embedding, stencil = random_embedding((11, 9, 10), 0.98)
    finest = learned(embedding, stencil, random_weights(3, 0.15)).finest
    assert isinstance(finest, UnitFinest)
    pair = finest.smoothing
    assert isinstance(pair, FusedPair)
    cells, delta = listed(finest, pair)
    assert 0 < len(finest.scaling.cells) < len(cells) < finest.unknowns
    assert (np.diff(cells) > 0).all()
    mask, before = bits(cells, finest.diagonal.size)
    for e, h in enumerate(cells.tolist()):
        word, bit = divmod(h, 32)
        assert mask[word] >> bit & 1
        assert before[word] + int(mask[word] & ((1 << bit) - 1)).bit_count() == e
    assert int(sum(int(m).bit_count() for m in mask)) == len(cells)
    np.testing.assert_array_equal(delta[:7], pair.first.delta)
    np.testing.assert_array_equal(delta[7:14], pair.second.delta)
    assert np.count_nonzero(delta[14] != 1) == len(finest.scaling.ratio)


# General matrices and vectors


@pytest.mark.parametrize("n", [1, 5, 37])
def test_csr_products_and_updates(n: int) -> None:
    from deepcd.solvers.backends.cuda.csr import CudaCSROperator
    from deepcd.solvers.backends.cuda.vector import Sums

    rng, sums = np.random.default_rng(n), Sums()
    B = sp.random_array((n, n), density=0.4, rng=rng)
    A = sp.csr_array(B @ B.T + sp.eye_array(n))
    A = sp.csr_array(A - sp.diags_array(np.where(np.arange(n) == n // 2, A.diagonal(), 0)))
    A.eliminate_zeros()
    operator = CudaCSROperator(CSROperator(A), sums)
    b, x, p, z = rng.standard_normal((4, n))
    b_, x_, p_, z_ = (vector(v, sums) for v in (b, x, p, z))
    r_ = operator.zeros()
    assert operator.residual(b_, x_, r_) == pytest.approx((b - A @ x) @ (b - A @ x))
    np.testing.assert_allclose(r_.host(), b - A @ x, rtol=1e-12, atol=1e-14)
    p = z - 0.5 * p
    assert operator.conjugate(z_, -0.5, p_) == pytest.approx(p @ (A @ p))
    np.testing.assert_allclose(p_.host(), p, rtol=1e-14)
    assert operator.overlap(p_, z_) == pytest.approx((A @ p) @ z)
    r = r_.host() - 0.3 * (A @ p)
    assert operator.step(0.3, p_, x_, r_) == pytest.approx(r @ r)
    np.testing.assert_allclose(x_.host(), x + 0.3 * p, rtol=1e-13)
    np.testing.assert_allclose(r_.host(), r, rtol=1e-12, atol=1e-14)
    x_.fill(np.nan)
    operator.step(0.3, p_, x_, r_, first=True)
    np.testing.assert_allclose(x_.host(), 0.3 * p, rtol=1e-14)
    assert not operator.project(x_)


def test_null_spaces_of_general_matrices() -> None:
    from deepcd.solvers.backends.cuda.csr import CudaCSROperator
    from deepcd.solvers.backends.cuda.vector import Sums

    sums = Sums()
    A = sp.csr_array([[1.0, -1.0, 0, 0], [-1.0, 1.0, 0, 0], [0, 0, 2.0, -1.0], [0, 0, -1.0, 2.0]])
    v = np.array([3.0, 5.0, 7.0, 11.0])
    one = CSROperator(A, *constant_null_space(A, 2.2e-16))
    other = CSROperator(A, null=np.array([[1.0], [1.0], [0], [0]]) / np.sqrt(2))
    for operator in (one, other):
        v_, expected = vector(v, sums), v.copy()
        assert CudaCSROperator(operator, sums).project(v_)
        operator.project(expected)
        np.testing.assert_allclose(v_.host(), expected, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_space_of_a_device_does_what_that_of_the_host_does(dtype: Any) -> None:
    """Every operation of the contract, on both; v is float32, as the directions of a grid are beside x in float64."""
    from deepcd.solvers.backends.cuda.vector import CudaVector, Sums
    from deepcd.solvers.space import HOST, Space, space_of

    sums = Sums()
    rng = np.random.default_rng(0)
    u, v = rng.standard_normal(21), rng.standard_normal(21).astype(dtype)
    w, factor = u + 1, -2.5
    operations: dict[str, Any] = {
        "zeros": lambda s, u, v, w: s.zeros(u),
        "clear": lambda s, u, v, w: s.clear(w) or w,
        "copy": lambda s, u, v, w: s.copy(v, out=w),
        "a new copy": lambda s, u, v, w: s.copy(v),
        "cast": lambda s, u, v, w: s.cast(u, np.float32),
        "scale": lambda s, u, v, w: s.scale(factor, u),
        "scale in place": lambda s, u, v, w: s.scale(factor, w, out=w),
        "divide": lambda s, u, v, w: s.divide(w, 4.0) or w,
        "subtract": lambda s, u, v, w: s.subtract(u, v, out=w),
        "subtract from itself": lambda s, u, v, w: s.subtract(w, v, out=w),
        "combine": lambda s, u, v, w: s.combine(factor, u, 0.5, v, w),
        "combine one": lambda s, u, v, w: s.combine(1.0, u, factor, v, w),
        "combine in place": lambda s, u, v, w: s.combine(factor, u, 1.0, w, w),
        "random": lambda s, u, v, w: s.random(u, seed=3),
        "dot": lambda s, u, v, w: s.dot(u, v),
        "norm": lambda s, u, v, w: s.norm(u),
        "a large norm": lambda s, u, v, w: s.norm(s.scale(1e200, u)),
        "a small norm": lambda s, u, v, w: s.norm(s.scale(1e-200, u)),
        "an infinite norm": lambda s, u, v, w: s.norm(s.scale(np.inf, u)),
        "magnitude": lambda s, u, v, w: s.magnitude(u),
        "agree": lambda s, u, v, w: [s.agree(True), s.agree(False)],
    }
    assert {name for name in vars(Space) if not name.startswith("_")} <= {*operations, "empty"}
    for name, operation in operations.items():
        given = [vector(a, sums) for a in (u, v, w)]
        assert space_of(u) is HOST
        assert space_of(given[0]) is sums.space
        theirs = operation(HOST, u.copy(), v.copy(), w.copy())
        mine = operation(sums.space, *given)
        if isinstance(mine, CudaVector):
            assert (name, mine.dtype) == (name, theirs.dtype)
            assert all(mine is not a for a in given) or name not in {"zeros", "a new copy", "cast", "scale", "random"}
            mine = mine.host()
        np.testing.assert_allclose(mine, theirs, rtol=1e-6 if dtype == np.float32 else 1e-15, atol=1e-15, err_msg=name)
        for before, after in zip((u, v), given, strict=False):
            np.testing.assert_array_equal(before, after.host(), err_msg=name)
    spare = sums.space.empty(vector(u, sums))
    assert spare.size == 21
    assert spare.dtype == np.float64


def test_vectors_are_handles() -> None:
    from deepcd.solvers.backends.cuda.vector import CudaVector, Sums

    sums = Sums()
    u = np.random.default_rng(0).standard_normal(21)
    u_ = vector(u, sums)
    assert u_.astype(np.float32).dtype == np.float32
    assert u_.astype(np.float64, copy=False) is u_
    assert u_.any()
    assert sums.space.scale(1e-200, u_).any()
    assert not sums.space.zeros(u_).any()
    w = u_.copy()
    index = np.array([3, 0, 20])
    np.testing.assert_array_equal(w[index], u[index])
    assert w[5] == u[5]
    assert w[:] is w
    w[index] = np.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(w.host()[index], [1, 2, 3])
    np.testing.assert_array_equal(np.delete(w.host(), index), np.delete(u, index))
    w[np.array([4])] = np.array([np.nan])
    assert np.isnan(sums.space.magnitude(w))
    w.fill(np.inf)
    assert sums.space.norm(w) == np.inf
    assert isinstance(w, CudaVector)
    # No function of NumPy's takes them for arrays: none copies them to the host, or goes over their entries.
    for wrong in (lambda: u_ * 2.0, lambda: np.exp(u_), lambda: u_ + u_, lambda: u_ @ u_, lambda: u_ + 1.0):
        with pytest.raises(TypeError):
            wrong()
