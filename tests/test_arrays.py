"""Arrays of other libraries: torch on the CPU, pandas, masked arrays, and what is no array of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import deepcd
from benchmarks.lattices import chain, lattice
from deepcd import DeepCD
from deepcd.solvers.arguments import as_csr, as_vector
from deepcd.solvers.backends.arrays import as_given, is_tensor

A = sp.csr_array(lattice((6, 7), "dirichlet") + sp.diags_array(np.linspace(0, 1, 42)))
N = A.shape[0]
RIGHT = np.random.default_rng(0).standard_normal(N)
EXACT = np.linalg.solve(A.toarray(), RIGHT)
KINDS = ("dense", "csr", "csc", "coo", "coo, not coalesced")


def tensor_of(matrix: sp.csr_array, kind: str) -> Any:
    torch = pytest.importorskip("torch")
    dense = torch.from_numpy(matrix.toarray())
    if kind == "coo, not coalesced":
        entries = matrix.tocoo()
        where = torch.from_numpy(np.tile(np.stack(entries.coords).astype(np.int64), 2))
        values = torch.from_numpy(np.r_[entries.data, 2 * entries.data] / 3)
        return torch.sparse_coo_tensor(where, values, matrix.shape)
    convert = {"csr": dense.to_sparse_csr, "csc": dense.to_sparse_csc, "coo": dense.to_sparse}
    return dense if kind == "dense" else convert[kind]()


@pytest.fixture(name="torch")
def _torch() -> Any:
    return pytest.importorskip("torch")


@pytest.mark.filterwarnings("ignore:.*(in beta state|invariant checks)")
class TestTensors:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("solve", [DeepCD(threads=1).solve, deepcd.cg], ids=["DeepCD", "cg"])
    def test_are_matrices(self, kind: str, solve: Any, torch: Any) -> None:
        T = tensor_of(A, kind)
        for b in (RIGHT, torch.from_numpy(RIGHT)):
            solution = solve(T, b, rtol=1e-10)
            assert solution.info == 0
            assert type(solution.x) is type(b)
            np.testing.assert_allclose(np.asarray(solution.x), EXACT, atol=1e-8)
        assert (abs(as_csr(T)[0] - A)).max() <= 1e-15

    @pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32", "int64"])
    def test_have_the_precisions_that_arrays_have(self, precision: str, torch: Any) -> None:
        dtype = getattr(torch, precision)
        small = torch.from_numpy(chain(5).toarray()).to(dtype)
        for T in (small, small.to_sparse_csr()):
            matrix, kind = as_csr(T)
            np.testing.assert_array_equal(matrix.toarray(), chain(5).toarray())
            assert kind == (np.float64 if precision == "int64" else np.float32)
        v = as_vector("b", torch.arange(3).to(dtype), 3)
        np.testing.assert_array_equal(v, [0, 1, 2])

    def test_share_their_memory(self, torch: Any) -> None:
        b = torch.from_numpy(RIGHT.copy())
        assert np.shares_memory(as_vector("b", b, N), b.numpy())
        assert is_tensor(b)
        assert is_tensor(torch.nn.Parameter(b))
        assert not is_tensor(RIGHT)
        x = np.ones(2)
        assert np.shares_memory(as_given(x, b).numpy(), x)
        assert as_given(x, RIGHT) is x

    @pytest.mark.parametrize("kind", KINDS)
    def test_belong_to_the_caller(self, kind: str, torch: Any) -> None:
        T = tensor_of(A, kind)
        system = DeepCD("jacobi", threads=1).setup(T)
        values = T if kind == "dense" else T._values() if kind.startswith("coo") else T.values()
        values.mul_(2)
        assert abs(system.A - A).max() <= 1e-15
        assert torch.count_nonzero(values)

    def test_start_a_solve_and_follow_it(self, torch: Any) -> None:
        seen: list[Any] = []
        b = torch.from_numpy(RIGHT)
        for solve in (DeepCD("jacobi", threads=1).solve, deepcd.cg):
            solution = solve(A, b, rtol=1e-10, x0=torch.from_numpy(EXACT), callback=seen.append)
            assert solution.iterations == 0
            solve(A, b, rtol=1e-6, callback=seen.append)
        assert seen
        assert all(isinstance(x, torch.Tensor) for x in seen)

    def test_of_several_columns(self, torch: Any) -> None:
        B = torch.from_numpy(np.stack([RIGHT, 2 * RIGHT], axis=1))
        solution = DeepCD(threads=1).solve(A, B, 1e-10)
        assert isinstance(solution.x, torch.Tensor)
        assert all(isinstance(column.x, torch.Tensor) for column in solution.columns)
        np.testing.assert_allclose(solution.x[:, 1], 2 * EXACT, atol=1e-8)

    def test_are_refused_where_gradients_would_be_lost(self, torch: Any) -> None:
        b = torch.from_numpy(RIGHT).requires_grad_()
        for solve in (DeepCD(threads=1).solve, deepcd.cg):
            with pytest.raises(TypeError, match=r"^b requires a gradient, .* pass b.detach\(\)$"):
                solve(A, b)
            with pytest.raises(TypeError, match=r"^A requires a gradient, .* pass A.detach\(\)$"):
                solve(torch.from_numpy(A.toarray()).requires_grad_(), RIGHT)
        assert DeepCD(threads=1).solve(A, b.detach()).info == 0

    def test_of_other_forms_are_refused(self, torch: Any) -> None:
        dense = torch.eye(4, dtype=torch.float64)
        with pytest.raises(TypeError, match="A must be a dense, CSR, CSC or COO tensor, got sparse_bsr"):
            as_csr(dense.to_sparse_bsr((2, 2)))
        with pytest.raises(ValueError, match=r"A must have two axes, both of them sparse, got .*\(4, 4\)"):
            as_csr(dense.to_sparse(1))
        with pytest.raises(TypeError, match="A lies on the device meta: copy it to the CPU"):
            as_csr(dense.to("meta"))
        with pytest.raises(TypeError, match="b must be a vector of real numbers, got a sparse one"):
            as_vector("b", torch.ones(4).to_sparse(), 4)

    def test_of_complex_numbers(self, torch: Any) -> None:
        v = np.array([1 + 2j, 3.0])
        np.testing.assert_array_equal(as_vector("b", torch.from_numpy(v).conj(), 2, real=False), v.conj())


class TestPandas:
    def test_entries_count_by_position(self) -> None:
        pd = pytest.importorskip("pandas")
        for b in (
            pd.Series(RIGHT),
            pd.Series(RIGHT, index=np.arange(N)[::-1]),
            pd.DataFrame({"b": RIGHT}),
            pd.Series(RIGHT, index=[f"row {i}" for i in range(N)]),
        ):
            solution = DeepCD(threads=1).solve(A, b, 1e-10)
            assert isinstance(solution.x, np.ndarray)
            np.testing.assert_allclose(solution.x, EXACT, atol=1e-8)


class TestMasks:
    def test_nothing_masked_is_taken(self) -> None:
        b = np.ma.array(RIGHT, mask=np.zeros(N, dtype=bool))
        np.testing.assert_allclose(DeepCD(threads=1).solve(A, b, 1e-10).x, EXACT, atol=1e-8)
        np.testing.assert_allclose(deepcd.cg(A, np.ma.array(RIGHT), rtol=1e-10).x, EXACT, atol=1e-8)

    def test_what_is_masked_is_named(self) -> None:
        b = np.ma.array(RIGHT, mask=np.arange(N) == 5)
        for solve in (DeepCD(threads=1).solve, deepcd.cg):
            with pytest.raises(ValueError, match=r"^b must have no masked entries, got one at b\[5\]: fill them first"):
                solve(A, b)
            with pytest.raises(ValueError, match=r"^A must have no masked entries, got one at A\[0, 1\]"):
                solve(np.ma.masked_equal([[2.0, 1.0], [1.0, 2.0]], 1.0), [1.0, 1.0])


@pytest.mark.parametrize(
    ("v", "error", "told"),
    [
        (None, TypeError, "got None"),
        ({"a": 1}, TypeError, "got a dict"),
        ({1.0, 2.0}, TypeError, "got a set"),
        ((i for i in range(3)), TypeError, "got a generator"),
        ("three", TypeError, "got a str"),
        ([1.0, None, 2.0], TypeError, "got a list with None in it"),
        ((1.0, "two", 3.0), TypeError, "got a tuple with a str in it"),
        ([1.0, {}, 2.0], TypeError, "got a list with a dict in it"),
        ([[1.0], [1.0, 2.0], [3.0]], ValueError, "got a list whose entries differ in length"),
        (sp.csr_array(np.ones((3, 1))), TypeError, r"got a sparse one: use its toarray\(\)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_vector_of_numbers_is_named(v: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=f"^b must be a vector of real numbers, {told}"):
        DeepCD.solve(chain(3), v)
    with pytest.raises(error, match=f"^b must be a vector of numbers, {told}"):
        deepcd.cg(chain(3), v)
