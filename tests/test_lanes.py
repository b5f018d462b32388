"""Vectors of sixteen numbers: compiled, they are what they are on slices of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError

from deepcd.solvers.kernels import lanes
from deepcd.solvers.kernels.lanes import LANES, entry, evens, load, odds, shortened, splat, store, total, widened

I = np.uint64  # noqa: E741


def _work(a: Any, codes: Any, short: Any, out: Any) -> Any:
    """Do something with everything that there is; return a sum and an entry."""
    u, v = load(a, I(1)), load(a, I(17))
    store(out, I(3), (u - v) * load(codes, I(5)) + splat(a[0]) * load(short, I(2)))
    store(out, I(19), evens(u, v))
    store(out, I(35), odds(u, v))
    return total(u * v), entry(short, I(7)), entry(a, I(7))


def test_compiled_lanes_are_slices() -> None:
    rng = np.random.default_rng(0)
    a, codes = rng.standard_normal(40).astype(np.float32), rng.integers(0, 256, 40).astype(np.uint8)
    short = shortened(rng.standard_normal(40).astype(np.float32))
    expected, out = np.zeros(60, dtype=np.float32), np.zeros(60, dtype=np.float32)
    plain, compiled = _work(a, codes, short, expected), njit(_work)(a, codes, short, out)
    np.testing.assert_allclose(out, expected, rtol=2e-6)
    np.testing.assert_allclose(compiled, plain, rtol=2e-6)
    assert not expected[:3].any()
    assert not expected[3 + 3 * LANES :].any()
    np.testing.assert_array_equal(out[35 : 35 + LANES], np.concatenate([a[2:17:2], a[18:33:2]]))


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_bfloat16_is_the_nearest_number(scale: float) -> None:
    x = (scale * np.random.default_rng(1).standard_normal(2000)).astype(np.float32)
    short = shortened(x)
    rounded = widened(short)
    assert np.all(abs(rounded - x) <= abs(x) / 256)
    for neighbour in (short + np.uint16(1), short - np.uint16(1)):
        assert np.all(abs(rounded - x) <= abs(widened(neighbour) - x))


def test_bfloat16_keeps_what_it_can_hold() -> None:
    x = np.array([0.0, 1.0, -2.5, 0.75, 256.0, 1.0 + 1 / 256, 1.0 + 3 / 256], dtype=np.float32)
    np.testing.assert_array_equal(widened(shortened(x)), [0.0, 1.0, -2.5, 0.75, 256.0, 1.0, 1.0 + 4 / 256])


def test_lanes_do_not_mix_with_other_types() -> None:
    @njit
    def mixed(a: Any) -> None:
        store(a, I(0), load(a, I(0)) + 1.0)

    with pytest.raises(TypingError):
        mixed(np.zeros(16, dtype=np.float32))
    assert lanes.lanes.name == "lanes"
