"""Local patterns: codes, and the numbering of neighbourhoods."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from deepcd.solvers.grids.embedding import geometry
from deepcd.solvers.kernels import reference
from deepcd.solvers.kernels.patterns import (
    LARGEST_CODE,
    cell_codes,
    distinct_windows,
    like_the_one_before,
    neighbourhood,
    number_patterns,
    repeated_windows,
)

# The hash multiplies modulo 2^64 on purpose; only plain Python finds that remarkable.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in scalar multiply:RuntimeWarning")


def random_codes(shape: tuple[int, ...], seed: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return reference.pad(rng.choice([0, 1, 1, 1, 2, 5, 15], size=geometry(shape)[0]), len(shape) == 2).astype(np.uint8)


def numbered(
    codes: NDArray[np.uint8], around: NDArray[np.int64], most: int, capacity: int
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Number all neighbourhoods with tables of `most` rows, one after the other."""
    positions, tables, start, base = np.flatnonzero(codes), [], 0, 0
    ids = np.full(len(positions), -1, dtype=np.int32)
    while start < len(positions):
        keys, slots = np.zeros((capacity, 2), dtype=np.uint64), np.full(capacity, -1, dtype=np.int32)
        patterns = np.zeros((most, len(around)), dtype=np.uint8)
        start, count = number_patterns(codes, positions, start, around, keys, slots, patterns, 0, base, ids)
        tables.append(patterns[:count])
        base += count
    return np.concatenate(tables), ids


@pytest.mark.parametrize("shape", [(5, 4, 6), (3, 1, 5), (1, 1, 4), (8, 8), (1, 6), (4, 1)], ids=str)
def test_every_cell_finds_its_neighbourhood_and_none_is_numbered_twice(shape: tuple[int, ...]) -> None:
    codes, around = random_codes(shape, 1), neighbourhood((*geometry(shape)[1], 1))
    patterns, ids = numbered(codes, around, 512, 2048)
    expected = codes[np.flatnonzero(codes)[:, None] + around]
    np.testing.assert_array_equal(patterns[ids], expected)
    assert len(np.unique(patterns, axis=0)) == len(patterns) == len(np.unique(expected, axis=0))


def test_repeated_neighbourhoods_share_a_number() -> None:
    codes = reference.pad(np.ones((6, 1, 6)), planar=True).astype(np.uint8)
    patterns, ids = numbered(codes, neighbourhood((8, 0, 1)), 36, 128)
    assert len(patterns) == 9  # four corners, four sides, the interior
    assert np.count_nonzero(ids == ids[7]) == 16


def test_a_full_table_stops_and_goes_on() -> None:
    codes, around = random_codes((5, 4, 6), 2), neighbourhood((*geometry((5, 4, 6))[1], 1))
    patterns, ids = numbered(codes, around, 7, 16)
    np.testing.assert_array_equal(patterns[ids], codes[np.flatnonzero(codes)[:, None] + around])


def test_crowded_hash_tables_tell_patterns_apart() -> None:
    codes, around = random_codes((5, 4, 6), 3), neighbourhood((*geometry((5, 4, 6))[1], 1))
    patterns, ids = numbered(codes, around, 127, 128)
    np.testing.assert_array_equal(patterns[ids], codes[np.flatnonzero(codes)[:, None] + around])


def test_only_the_last_offsets_differ() -> None:
    """Cells 16 to 26 of a neighbourhood go into the second half of the key."""
    codes = np.zeros((5, 5, 10), dtype=np.uint8)
    codes[2, 2, 2], codes[2, 2, 7], codes[3, 3, 8] = 1, 1, 3
    patterns, ids = numbered(codes.ravel(), neighbourhood((50, 10, 1)), 8, 16)
    assert len(set(ids.tolist())) == len(patterns) == 3


def test_neighbourhood_offsets() -> None:
    assert neighbourhood((8, 0, 1)).tolist() == [-9, -8, -7, -1, 0, 1, 7, 8, 9]
    around = neighbourhood((56, 8, 1))
    assert around.shape == (27,)
    assert (around[0], around[13], around[14], around[26]) == (-65, 0, 1, 65)


def test_codes_count_dirichlet_faces_up_to_the_largest() -> None:
    diagonal = np.zeros((3, 5), dtype=np.uint8)
    diagonal[1, 1:4] = [1, 4, 1 + 40]
    codes = np.zeros_like(diagonal).ravel()
    cell_codes(diagonal.ravel(), (5, 0, 1), codes)
    assert codes.reshape(3, 5)[1].tolist() == [0, 1, 3, LARGEST_CODE, 0]


@pytest.mark.parametrize("kinds", [1, 2, 40])
def test_distinct_windows(kinds: int) -> None:
    words = (np.random.default_rng(0).integers(0, kinds, 200) << 20).astype(np.uint32)
    origins, offsets = np.arange(3, 190, 2), np.array([-3, 0, 1])
    windows = words[origins[:, None] + offsets]
    count = len(np.unique(windows, axis=0))
    known = np.r_[False, (windows[1:] == windows[:-1]).all(axis=1)]
    for repeated in (known, np.zeros_like(known)):
        found = distinct_windows(words, origins, offsets, repeated)
        assert (found is None) == (count > len(origins) // 2)
        if found is not None:
            firsts, numbers = found
            assert len(firsts) == count
            np.testing.assert_array_equal(words[firsts[numbers][:, None] + offsets], windows)
    assert (count > len(origins) // 2) == (kinds == 40)


def test_as_many_windows_as_half_of_them_are_numbered_and_not_one_more() -> None:
    words = np.array([1, 2, 3, 1, 2, 3], dtype=np.uint32)
    none, alone = np.zeros(6, dtype=bool), np.array([0])
    found = distinct_windows(words, np.arange(6), alone, none)
    assert found is not None
    assert (found[0].tolist(), found[1].tolist()) == ([0, 1, 2], [0, 1, 2, 0, 1, 2])
    words[5] = 4
    assert distinct_windows(words, np.arange(6), alone, none) is None


@pytest.mark.parametrize("shape", [(1, 3), (40, 1), (200, 4)])
def test_rows_like_the_one_before(shape: tuple[int, int]) -> None:
    rows = np.random.default_rng(1).integers(0, 2, shape).astype(np.uint32)
    same = np.random.default_rng(2).random(shape[0]) < 0.5
    like_the_one_before(rows, same)
    np.testing.assert_array_equal(same, np.r_[False, (rows[1:] == rows[:-1]).all(axis=1)])


@pytest.mark.parametrize("offsets", [[-9, -8, -7, -1, 0, 1, 7, 8, 9], [-3, 0, 3], [0], [-60, 0, 60]], ids=str)
@pytest.mark.parametrize("keep", [0.1, 0.7, 1.1])
def test_cells_whose_window_is_that_of_the_cell_before(offsets: list[int], keep: float) -> None:
    rng, around = np.random.default_rng(3), np.array(offsets)
    words = np.repeat(rng.integers(0, 2, 30), rng.integers(1, 9, 30))
    same, margin = np.r_[False, words[1:] == words[:-1]], around.max()
    cells = np.flatnonzero(rng.random(len(words)) < keep)
    cells = cells[(cells >= margin) & (cells < len(words) - margin)]
    assert cells.size
    repeated = rng.random(cells.size) < 0.5
    repeated_windows(same, cells, around, repeated)
    windows = words[cells[:, None] + around]
    alike = np.r_[False, (windows[1:] == windows[:-1]).all(axis=1) & (np.diff(cells) == 1)]
    np.testing.assert_array_equal(repeated, alike)
