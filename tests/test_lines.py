"""Lines that look the same: what is found for one of them holds for the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from deepcd.solvers.grids.embedding import geometry
from deepcd.solvers.kernels import lines as passes
from deepcd.solvers.kernels import reference
from deepcd.solvers.kernels.patterns import neighbourhood
from deepcd.solvers.kernels.records import Box
from deepcd.solvers.preconditioners.multigrid.lines import Lines

SHAPES = [
    (5, 4, 6),
    (3, 1, 5),
    (1, 1, 4),
    (2, 3, 1),
    (5, 5, 5),
    (1, 1, 1),
    (7, 6),
    (1, 5),
    (4, 1),
    (6, 3),
    (20, 3, 5),
    (20, 6),
]


class Case:
    """A box whose first half is one plane, or line, again and again, and whose other half is random."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.rng = np.random.default_rng(sum((7**k) * v for k, v in enumerate(shape)))
        self.planar = len(shape) == 2
        self.n, self.s = geometry(shape)
        fluid, dirichlet = self.rng.random(self.n) < 0.85, self.rng.integers(1, 4, self.n)
        dirichlet *= self.rng.random(self.n) < 0.2
        half = (self.n[0] + 1) // 2
        fluid[:half], dirichlet[:half] = fluid[0], dirichlet[0]
        self.diagonal = reference.stencil_diagonal(fluid, dirichlet)
        self.codes = reference.cell_codes(self.diagonal)
        self.flat = self.pad(self.diagonal).astype(np.uint8)
        self.lines = Lines.of(Box(self.n, self.s), self.flat)

    def pad(self, x: NDArray[Any]) -> NDArray[Any]:
        return reference.pad(x, self.planar).ravel()

    def by_line(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return (inner lines, cells)."""
        return x.reshape(-1, *x.shape[2:])


@pytest.fixture(params=SHAPES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def test_lines_of_a_kind_have_the_same_patterns(case: Case) -> None:
    around = case.by_line(reference.neighbourhoods(case.codes, case.planar))
    kinds = case.lines.kinds[case.lines.inner]
    first = {int(line): number for number, line in enumerate(case.lines.inner)}
    for number, kind in enumerate(kinds):
        assert kind > 0
        example = first[int(case.lines.first_of_kind[kind - 1])]
        np.testing.assert_array_equal(around[number], around[example])
    others = np.setdiff1d(np.arange(case.lines.kinds.size), case.lines.inner)
    assert not case.lines.kinds[others].any()
    if case.n[0] == 20:  # three times looked around, four lines in the middle of the first half are left
        assert case.lines.first_of_kind.size < case.lines.inner.size


def test_irregular_cells(case: Case) -> None:
    interior = (reference.neighbourhoods(case.codes, case.planar) == 1).all(-1)
    expected = np.flatnonzero(case.pad((case.diagonal > 0) & ~interior))
    lines, length = case.lines.inner, case.lines.length
    cells, slots = np.empty((2, lines.size * length), dtype=np.int64)
    around = neighbourhood((*case.s, 1))
    codes = case.pad(case.codes).astype(np.uint8)
    count = passes.irregular_cells(codes, lines, length, around, cells, slots)
    np.testing.assert_array_equal(cells[:count], expected)
    np.testing.assert_array_equal(lines[slots[:count] // length] * length + slots[:count] % length, expected)


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_coefficients_make_the_smoothers_of_the_definition(case: Case, share: float) -> None:
    """Patterns are drawn for each kind of line; where they are 0 all round, cells are not listed."""
    lines, rng = case.lines, case.rng
    outputs = rng.uniform(-2, 2, (6, 2, 4)).astype(np.float32)
    patterns = rng.integers(1, 6, (1 + lines.first_of_kind.size, lines.length)).astype(np.int32)
    patterns *= rng.random(patterns.shape) < share
    patterns[0] = patterns[:, 0] = patterns[:, -1] = 0
    ids = patterns[lines.kinds[lines.inner], 1:-1].reshape(case.n) * (case.diagonal > 0)
    for kind, line in enumerate(lines.first_of_kind):  # what is no unknown has number 0
        patterns[1 + kind] *= case.flat[line * lines.length : (line + 1) * lines.length] > 0
    constants = np.array([[0.2, 0.03, 0.04, 0.05], [0.3, 0.02, 0.01, 0.06]], dtype=np.float32)
    factors = (np.exp(outputs * [1, 0.5, 0.5, 0.5]) * [0.5, *[0.3**0.5] * 3]).astype(np.float32)
    listed, numbers, delta = lines.coefficients(case.flat, patterns, factors, constants)
    odd = ids != 0
    near = odd | ((case.diagonal > 0) & (reference.coupling(np.ones((3, *case.n)), odd.astype(float)) > 0))
    np.testing.assert_array_equal(listed, np.flatnonzero(case.pad(near)))
    np.testing.assert_array_equal(numbers, case.pad(ids)[listed])
    own = case.diagonal.astype(float)
    inverse = np.divide(1, own, out=np.zeros(case.n), where=own > 0)
    inside = np.flatnonzero(case.pad(np.ones(case.n)))
    for k in range(2):
        a, c = reference.smoother(
            reference.unit_faces(case.diagonal > 0), inverse, outputs[ids, k].astype(float), 0.3, 0.5
        )
        index = np.searchsorted(inside, listed)
        found = reference.listed_smoother(case.diagonal, constants[k, 0], constants[k, 1:], index, delta[k].T)
        expected = reference.matrix(a, c, 1.0)
        np.testing.assert_allclose(found.toarray()[index], expected.toarray()[index], atol=3e-6)
    if case.planar:
        assert not delta[:, 3:5].any()
