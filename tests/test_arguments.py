"""What public functions accept: conversions, refusals that name what is wrong, norms of vectors of any magnitude."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from deepcd.solvers.arguments import (
    as_columns,
    as_csr,
    as_null_space,
    as_vector,
    count,
    is_finite,
    magnitude,
    norm,
    norms,
    power_of_two,
    tolerance,
)
from deepcd.solvers.survey import read

from .systems import SYSTEMS, line, ring, weighted

EPS = float(np.finfo(np.float64).eps)
TINY, HUGE = 5e-324, 1.7e308


class TestMatrices:
    def test_what_has_the_form_already_is_not_copied(self) -> None:
        A = line(5)
        assert as_csr(A)[0] is A
        assert read(A, EPS).A is A

    @pytest.mark.parametrize("convert", [sp.csr_matrix, sp.csc_array, sp.coo_array, sp.dia_array, sp.csr_array.toarray])
    def test_every_kind_becomes_a_csr_array(self, convert: Any) -> None:
        matrix, dtype = as_csr(convert(line(5)))
        assert type(matrix) is sp.csr_array
        assert [matrix.dtype, dtype] == [np.dtype(np.float64)] * 2
        np.testing.assert_array_equal(matrix.toarray(), line(5).toarray())

    @pytest.mark.parametrize(
        ("given", "precision"),
        [(np.float16, np.float32), (np.float32, np.float32), (np.longdouble, np.float64), (np.int8, np.float64)],
    )
    def test_the_precision_is_kept_in_mind(self, given: type, precision: type) -> None:
        matrix, dtype = as_csr(np.array([[2, 1], [1, 3]], dtype=given))
        assert [matrix.dtype, dtype] == [np.dtype(np.float64), np.dtype(precision)]
        np.testing.assert_array_equal(matrix.toarray(), [[2, 1], [1, 3]])

    def test_duplicates_are_summed_in_a_copy(self) -> None:
        A = sp.csr_array((np.array([1.0, 5.0, 1.0, 2.0]), np.array([1, 0, 1, 1]), np.array([0, 3, 4])), shape=(2, 2))
        before = A.indices.copy()
        matrix = read(as_csr(A)[0], EPS).A
        np.testing.assert_array_equal(matrix.toarray(), [[5, 2], [0, 2]])
        np.testing.assert_array_equal(matrix.indices, [0, 1, 1])
        np.testing.assert_array_equal(A.indices, before)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_the_entry_that_is_not_finite_is_named(self, bad: float) -> None:
        A = sp.csr_array((np.array([1.0, 2.0, bad, 3.0]), np.array([0, 3, 1, 3]), np.array([0, 1, 1, 3, 4])), (4, 4))
        with pytest.raises(ValueError, match=rf"A must be finite, got {bad} at A\[2, 1\]"):
            read(sp.csr_array(A.toarray()), EPS)
        assert read(sp.csr_array((4, 4)), EPS).A.nnz == 0

    @pytest.mark.parametrize(
        ("A", "error", "match"),
        [
            (np.ones(4), ValueError, r"square matrix, got shape \(4,\)"),
            (np.ones((2, 3)), ValueError, r"square matrix, got shape \(2, 3\)"),
            (3.0, ValueError, r"square matrix, got shape \(\)"),
            (np.array([["a"]]), TypeError, "A must hold real numbers, got dtype <U1"),
            (sp.eye_array(2, dtype=complex), TypeError, "A must be real, got complex128; deepcd.cg solves"),
            (lambda v: v, TypeError, "operator without entries: use deepcd.cg"),
            (None, TypeError, "A must be a matrix of real numbers, got None"),
        ],
    )
    def test_what_is_none_is_refused(self, A: Any, error: type[Exception], match: str) -> None:
        with pytest.raises(error, match=match):
            as_csr(A)


class TestVectors:
    def test_what_has_the_form_already_is_not_copied(self) -> None:
        for v in (np.arange(3.0), np.arange(3, dtype=np.float32), np.arange(3.0)[:, None]):
            assert np.shares_memory(as_vector("b", v, 3), v)
            assert as_vector("b", v, 3).shape == (3,)

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (np.int32, np.float64),
            (np.bool_, np.float64),
            (np.float16, np.float64),
            (np.float32, np.float32),
            (np.complex64, np.complex64),
            (np.clongdouble, np.complex128),
        ],
    )
    def test_the_precision_of_the_answer(self, given: type, expected: type) -> None:
        assert as_vector("b", np.ones(2, dtype=given), 2, real=False).dtype == expected

    def test_columns_come_in_c_order(self) -> None:
        B = np.asfortranarray(np.arange(6.0).reshape(3, 2))
        found = as_vector("b", B, 3, columns=True)
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, B)
        assert as_vector("b", B[:, :1], 3, columns=True).shape == (3,)
        with pytest.raises(ValueError, match=r"b must have shape \(3,\) or \(3, 1\) .* one column at a time"):
            as_vector("b", B, 3)
        with pytest.raises(ValueError, match=r"\(3,\), \(3, 1\) or \(3, k\) to match A, got \(2, 3\)$"):
            as_vector("b", B.T, 3, columns=True)

    @pytest.mark.parametrize(
        ("v", "match"),
        [
            ([1.0, np.nan, np.inf], r"v must be finite, got nan at v\[1\]"),
            (np.array([[1, 2], [3, np.inf], [0, 0]]), r"v must be finite, got inf at v\[1, 1\]"),
            (np.array([1, 2, 1j * np.inf]), r"at v\[2\]"),
        ],
    )
    def test_the_entry_that_is_not_finite_is_named(self, v: Any, match: str) -> None:
        with pytest.raises(ValueError, match=match):
            as_vector("v", v, 3, columns=True, real=False)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
    def test_the_largest_numbers_are_finite(self, dtype: type) -> None:
        largest = np.finfo(dtype).max
        v: Any = np.full(3, largest + 1j * largest if np.dtype(dtype).kind == "c" else largest, dtype=dtype)
        np.testing.assert_array_equal(as_vector("b", v, 3, real=False), v)

    def test_what_holds_no_numbers_is_refused(self) -> None:
        with pytest.raises(TypeError, match="x0 must be real, got complex128"):
            as_vector("x0", [1j], 1)
        with pytest.raises(TypeError, match="x0 must hold numbers, got dtype object"):
            as_vector("x0", np.array([None]), 1, real=False)

    def test_zero_vectors_are_refused_by_column(self) -> None:
        np.testing.assert_array_equal(as_columns("B", [1, 0], 2), [[1], [0]])
        assert as_columns("B", np.ones((2, 3), dtype=np.float32), 2).dtype == np.float64
        with pytest.raises(ValueError, match="B must not hold zero vectors, got one as column 1"):
            as_columns("B", [[1, 0, 2], [0, 0, 0]], 2)


class TestNullSpaces:
    def test_the_constant_and_vectors_of_any_length(self) -> None:
        np.testing.assert_array_equal(as_null_space("constant", ring(5), EPS), np.ones((5, 1)))
        A, null = weighted(6)
        for factor in (1e-150, 1.0, 1e150):
            np.testing.assert_array_equal(as_null_space(factor * null, A, EPS), factor * null[:, None])
        chambers = SYSTEMS["chambers"]
        left = (chambers.null() @ chambers.null()[0] > 0).astype(float)  # an entry per cell of the first chamber
        found = as_null_space(np.c_[left, 3 - 3 * left], chambers.A, EPS)
        np.testing.assert_array_equal(found.sum(axis=1) > 0, 1)
        assert found.shape == (chambers.A.shape[0], 2)

    def test_the_column_that_is_none_is_named(self) -> None:
        with pytest.raises(ValueError, match=r"\|A v\| reaches 4 for its column 1"):
            as_null_space(np.c_[np.ones(6), np.cos(np.pi * np.arange(6))], ring(6), EPS)
        with pytest.raises(ValueError, match=r'\(n, m\) or "constant", got \'ones\''):
            as_null_space("ones", ring(5), EPS)

    def test_what_counts_as_zero_depends_on_the_precision_of_the_entries(self) -> None:
        v = np.ones(5) + 1e-7 * np.arange(5)
        assert as_null_space(v, ring(5), float(np.finfo(np.float32).eps)).shape == (5, 1)
        with pytest.raises(ValueError, match="mapped to zero"):
            as_null_space(v, ring(5), EPS)


class TestNumbers:
    @pytest.mark.parametrize("value", [0.5, np.float32(0.5), Fraction(1, 2)])
    def test_real_numbers_are_tolerances(self, value: Any) -> None:
        assert type(tolerance("tol", value)) is float
        assert tolerance("tol", value) == 0.5

    def test_zero_is_one_where_it_is_allowed(self) -> None:
        assert tolerance("atol", 0, zero=True) == 0.0
        with pytest.raises(ValueError, match="tol must be finite and positive, got 0"):
            tolerance("tol", 0)
        with pytest.raises(ValueError, match=r"atol must be finite and not negative, got -1e-09"):
            tolerance("atol", -1e-9, zero=True)

    @pytest.mark.parametrize(
        ("value", "error"),
        [
            (None, ValueError),
            ("legacy", ValueError),
            (True, TypeError),
            (1j, TypeError),
            ([1.0], TypeError),
            (math.nan, ValueError),
            (math.inf, ValueError),
        ],
    )
    def test_what_is_no_tolerance(self, value: Any, error: type[Exception]) -> None:
        with pytest.raises(error, match="tol must be"):
            tolerance("tol", value)

    def test_counts(self) -> None:
        assert type(count("n", np.int64(3))) is int
        assert count("n", 0, least=0) == 0
        with pytest.raises(ValueError, match="n must be at least 1, got 0"):
            count("n", 0)
        for value in (1.0, "1", None, np.array([1, 2])):
            with pytest.raises(TypeError, match="n must be an integer, got"):
                count("n", value)


class TestMagnitudes:
    @pytest.mark.parametrize("size", [TINY, 1e-310, 1e-170, 1e-160, 1e-140, 1.0, 1e140, 1e155, 1e300])
    def test_norms_are_right_at_every_magnitude(self, size: float) -> None:
        v = size * np.array([3.0, -4.0, 0.0])
        expected = 5.0 * size
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert norm(v) == pytest.approx(expected, rel=1e-14, abs=0)
            found = norms(np.c_[v, [3.0, 0.0, 4.0], np.zeros(3), -v])
        np.testing.assert_allclose(found, [expected, 5.0, 0.0, expected], rtol=1e-14, atol=0)
        np.testing.assert_array_equal(norms(v), [norm(v)])

    def test_norms_of_what_is_not_finite_and_of_nothing(self) -> None:
        assert norm(np.array([1.0, np.inf])) == math.inf
        assert math.isnan(norm(np.array([np.nan, 1.0])))
        assert norm(np.empty(0)) == 0.0
        assert norm(np.full(2, HUGE)) == math.inf

    def test_the_largest_absolute_value(self) -> None:
        assert magnitude(np.array([1.0, -3.0, 2.0])) == 3.0
        assert magnitude(np.array([1.0, 3.0, -2.0])) == 3.0
        assert math.isnan(magnitude(np.array([1.0, np.nan])))
        assert type(magnitude(np.empty(0))) is float

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_finite_is_what_has_finite_entries_whatever_their_squares(self, dtype: type) -> None:
        largest = float(np.finfo(dtype).max)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert is_finite(np.array([largest, -largest], dtype=dtype))
            for bad in (np.nan, np.inf, -np.inf):
                assert not is_finite(np.array([1.0, bad, largest], dtype=dtype))

    @pytest.mark.parametrize("value", [TINY, 1e-300, 0.3, 0.5, 1.0, 3.0, 2.0**1000, HUGE])
    def test_powers_of_two_lie_just_above_and_have_a_reciprocal(self, value: float) -> None:
        power = power_of_two(value)
        assert math.frexp(power)[0] == 0.5
        assert 0 < 1 / power < math.inf
        assert (1 / power) * power == 1
        if 1e-300 < value < 1e300:
            assert power / 2 <= value < power
