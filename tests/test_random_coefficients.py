"""Random systems: every family is symmetric and positive semidefinite, keeps its promise, and repeats with the seed."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from deepcd.data import COEFFICIENTS, OWN_ENDS, random_coefficients
from deepcd.data.random_coefficients import random_ends
from deepcd.pde import FaceWeights

OPEN = [*COEFFICIENTS, *OWN_ENDS]
SEALED = [f"sealed {name}" for name in COEFFICIENTS]
PERIODIC = [f"periodic {name}" for name in COEFFICIENTS]
SHAPES = [(13, 12), (5, 9, 7), (1, 11), (6, 1, 8)]


def draw(family: str, shape: tuple[int, ...] = (24, 24), seed: int = 0) -> FaceWeights:
    return random_coefficients(family, shape, np.random.default_rng(seed))


def inner(weights: FaceWeights, axis: int) -> NDArray[np.float64]:
    """Return the weights along an axis without the last faces, which belong to the wall."""
    return np.take(weights.faces[axis], range(weights.extra.shape[axis] - 1), axis)


def untied(weights: FaceWeights) -> NDArray[np.bool_]:
    """Return which connected components have no extra diagonal, so that the constant on them is in the null space."""
    label = connected_components(weights.matrix(), directed=False)[1]
    return np.bincount(label, weights=weights.extra.ravel()[weights.cells()]) == 0


@pytest.mark.parametrize("family", [*OPEN, *SEALED, *PERIODIC])
@pytest.mark.parametrize("shape", [(13, 12), (5, 9, 7)], ids=str)
def test_symmetric_and_positive_semidefinite(family: str, shape: tuple[int, ...]) -> None:
    """The eigenvalues are those of the matrix scaled by its diagonal, which lie from 0 to 2."""
    for seed in range(3):
        weights = draw(family, shape, seed)
        A = weights.matrix()
        assert all(face.shape == shape and face.min() >= 0 for face in weights.faces)
        assert weights.extra.min() >= 0
        assert not (A - A.T).data.any()
        scale = A.diagonal() ** -0.5
        eigenvalues = np.linalg.eigvalsh(scale[:, None] * A.toarray() * scale)
        assert eigenvalues[0] > -1e-13
        assert eigenvalues[-1] < 2 + 1e-13
        assert np.count_nonzero(eigenvalues < 1e-13) >= untied(weights).sum()


@pytest.mark.parametrize("family", [*OPEN, *SEALED])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_same_for_the_same_seed(family: str, shape: tuple[int, ...]) -> None:
    one, same = draw(family, shape, 3), draw(family, shape, 3)
    for a, b in zip((*one.faces, one.extra), (*same.faces, same.extra), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("family", OPEN)
def test_seeds_differ(family: str) -> None:
    assert (
        len({b"".join(a.tobytes() for a in (*w.faces, w.extra)) for w in (draw(family, seed=s) for s in range(9))}) > 3
    )


@pytest.mark.parametrize("family", [*OPEN, *SEALED])
@pytest.mark.parametrize("shape", [(2, 3, 2), (2, 2), (4, 3)], ids=str)
def test_tiny_boxes(family: str, shape: tuple[int, ...]) -> None:
    assert draw(family, shape).matrix().shape[0] > 0


@pytest.mark.parametrize("family", [*OPEN, *SEALED, *PERIODIC])
def test_null_spaces(family: str) -> None:
    """Dirichlet data, air and reaction leave none; sealed, periodic boxes and landscapes have the constants."""
    for seed in range(4):
        weights = draw(family, (14, 15), seed)
        free = untied(weights)
        if "screened" in family or family in ("ghost fluid", "random walker"):
            assert not free.any()
        elif family in SEALED or family in PERIODIC or family == "landscape":
            assert free.all()
            assert not weights.extra.any()
            A = weights.matrix()
            assert (np.abs(A.sum(axis=1)) <= 1e-14 * A.diagonal()).all()
        elif family not in ("cut cells", "obstacles"):  # which may have pockets
            assert not free.any()


@pytest.mark.parametrize("family", PERIODIC)
def test_periodic_boxes_are_coupled_around(family: str) -> None:
    for axis, face in enumerate(draw(family, (9, 8, 10)).faces):
        assert np.take(face, -1, axis).any()
    with pytest.raises(ValueError, match="at least three cells"):
        draw(family, (2, 8))


@pytest.mark.parametrize(
    ("family", "low", "high"),
    [
        ("blocks 1e4", 1e-2, 1e2),
        ("blocks 1e6", 1e-3, 1e3),
        ("cell by cell", 1e-4, 1.0),
        ("pores", 1e-4, 1.0),
        ("two phases", 1.0, 1e3),
        ("landscape", 1e-8, 1.0),
        ("random walker", 1e-10, 1.0),
        ("ghost fluid", 1.0, 1.0),
        ("obstacles", 1.0, 1.0),
        ("screened", 1.0, 1.0),
        ("stretched one axis", 0.1, 10.0),
        ("stretched all but one", 1.0, 100.0),
    ],
)
def test_contrasts(family: str, low: float, high: float) -> None:
    """Of the weights between cells, reached by some draw and never left."""
    weights = [draw(family, (16, 17, 18), seed) for seed in range(6)]
    found = np.concatenate([inner(w, axis).ravel() for w in weights for axis in range(3)])
    found = found[found > 0]
    assert found.min() >= low * (1 - 1e-9)
    assert found.max() <= high * (1 + 1e-9)
    assert found.min() < 5 * low
    assert found.max() > high / 5


@pytest.mark.parametrize("variance", [2, 4])
@pytest.mark.parametrize("length", [2, 8, 32])
def test_log_normal_weights(variance: int, length: int) -> None:
    """Their variance is nearly that of cells where the field is smooth."""
    weights = draw(f"log-normal {variance}/{length}", (128, 128))
    logs = np.log(inner(weights, 0))
    assert logs.var() == pytest.approx(variance, rel=0.25 if length > 2 else 0.5)
    rough = np.abs(np.diff(logs, axis=1)).mean() / np.sqrt(variance)
    assert 0.7 < rough * length < 1.3


@pytest.mark.parametrize("ratio", [1e-2, 1e-4])
def test_reservoirs_conduct_less_across_layers(ratio: float) -> None:
    """The coefficient covers six decades, and one axis conducts less by the ratio."""
    weights = [draw(f"reservoir {ratio:.0e}".replace("e-0", "e-"), (24, 25, 26), seed) for seed in range(4)]
    for w in weights:
        largest = np.array([face.max() for face in w.faces])
        axis = int(np.argmin(largest))
        others = [d for d in range(3) if d != axis]
        assert (largest[axis] / largest[others] < 30 * ratio).all()
        along = inner(w, others[0])
        assert 1e3 < along.max() / along.min() <= 1e6 * (1 + 1e-9)


def test_thin_cells() -> None:
    one, everywhere = draw("towards walls one axis", (40, 40)), draw("towards walls all axes", (40, 40))
    spread = [inner(one, axis).max() / inner(one, axis).min() for axis in range(2)]
    assert min(spread) > 10
    assert np.unique(np.concatenate([face.round(12) for face in one.faces], axis=0), axis=0).shape[0] < 60
    for axis in range(2):
        assert inner(everywhere, axis).max() / inner(everywhere, axis).min() > 200


def test_reactions() -> None:
    for family, value in (("screened 1e-3", 1e-3), ("screened 0.1", 0.1), ("screened 10", 10.0)):
        weights = draw(f"sealed {family}", (6, 7, 8))
        np.testing.assert_array_equal(weights.extra, value)
    drawn = np.log10([draw("sealed screened", (3, 3), seed).extra[0, 0] for seed in range(60)])
    assert drawn.min() < -4
    assert drawn.max() > 1


def test_cut_cells_are_neither_open_nor_closed() -> None:
    for seed in range(3):
        faces = inner(draw("cut cells", (40, 40), seed), 0)
        assert 0.01 < ((faces > 0) & (faces < 1)).mean() < 0.4
        assert (faces == 1).any()


def test_free_surfaces_lie_anywhere_between_centres() -> None:
    weights = [draw("ghost fluid", (30, 30), seed) for seed in range(8)]
    extra = np.concatenate([w.extra[w.extra > 0] for w in weights])
    assert extra.min() >= 1
    assert extra.max() <= 4 * 1000
    assert len(np.unique(extra)) > 0.9 * len(extra)
    assert all((w.diagonal() == 0).any() for w in weights)


def test_landscapes_have_holes_and_components() -> None:
    drawn = [draw("landscape", (40, 40), seed) for seed in range(10)]
    assert all((w.diagonal() == 0).any() for w in drawn)
    assert max(len(untied(w)) for w in drawn) > 1


def test_ends() -> None:
    """Some end has Dirichlet data, every choice of ends is drawn, and axes of one cell have walls."""
    drawn = [random_ends((5, 1, 4), np.random.default_rng(seed)) for seed in range(200)]
    kinds = {"dirichlet", "neumann"}
    assert all(pairs[1] == ("neumann", "neumann") for pairs in drawn)
    assert {(*pairs[0], *pairs[2]) for pairs in drawn} == set(product(kinds, repeat=4)) - {("neumann",) * 4}
    assert any("dirichlet" in pair for pair in random_ends((1, 1), np.random.default_rng(0)))


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("log-normal", "sealed landscape", "open box", ""):
        with pytest.raises(ValueError, match=rf"family must be one of log-normal 2/2, .*ghost fluid.*got '{name}'"):
            draw(name)
    nothing = FaceWeights((np.zeros((4, 4)),) * 2, np.zeros((4, 4)))
    monkeypatch.setitem(OWN_ENDS, "nothing", lambda shape, rng: nothing)
    with pytest.raises(ValueError, match="no unknown in 100 systems of family 'nothing'"):
        draw("nothing", (4, 4))
