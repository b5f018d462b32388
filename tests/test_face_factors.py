"""Learned factors of coarse operators with face weights: against their definition, and that nothing can break them."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from deepcd.solvers.kernels.faces import reference
from deepcd.solvers.kernels.faces.reference import Weights
from deepcd.solvers.learned.face_architecture import FACTORS, FEATURES, HIGHEST, KINDS, LOWEST
from deepcd.solvers.preconditioners.multigrid.face_cycle import FaceCycle
from deepcd.solvers.preconditioners.multigrid.face_factors import answers, features, networks_of, scaled
from deepcd.solvers.preconditioners.multigrid.face_levels import FaceLevel, coarsen
from tests.faces import BOXES, Shape, Wrap, compiled, cropped, padded, random_weights

IDS = ["x".join(map(str, n)) + "".join(" r"[w] for w in wrap).rstrip() for n, wrap in BOXES]


def random_parameters(rng: np.random.Generator, size: float, hidden: int = 5) -> dict[str, Any]:
    """Return networks whose answers reach as far as `size`, or are zero."""
    sizes = [FEATURES, hidden, hidden, FACTORS]
    found = {}
    for kind in range(KINDS):
        for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
            scale = size if layer == 2 else 1.0
            found[f"kinds.{kind}.{2 * layer}.weight"] = scale * rng.standard_normal((outputs, inputs))
            found[f"kinds.{kind}.{2 * layer}.bias"] = scale * rng.standard_normal(outputs)
    return {name: value.astype(np.float32) for name, value in found.items()}


def weights_of(level: FaceLevel) -> Weights:
    """Return the operator of a level as arrays."""
    (n, _, wrap), f = level.grid, level.faces
    w0, w1, w2 = (cropped(w, n).astype(float) for w in (f.w0, f.w1, f.w2))
    if n[1] == 1:
        w1 = 0 * w0
    return Weights((w0, w1, w2), cropped(f.extra, n).astype(float), wrap)


@pytest.mark.parametrize(("n", "wrap"), BOXES, ids=IDS)
def test_what_networks_read(n: Shape, wrap: Wrap) -> None:
    coarse = coarsen(FaceLevel.of(*compiled(random_weights(n, wrap, np.random.default_rng(1)))))
    level = coarse.level
    plane, size, m = level.grid.s[0], level.diagonal.size, level.grid.n
    seen = np.zeros((FEATURES, size), dtype=np.float32)
    seen[:, plane : size - plane] = features(coarse, plane, size - plane)
    lumped = weights_of(
        level._replace(faces=level.faces._replace(w0=coarse.lumped[0], w1=coarse.lumped[1], w2=coarse.lumped[2]))
    )
    op, number = weights_of(level), np.arange(int(np.prod(m))).reshape(m)
    place = cropped(np.arange(size), m)
    for cell in np.ndindex(*m):
        if level.diagonal[place[cell]] == 0:
            continue
        inner = all(0 < c < k - 1 for c, k, w in zip(cell, m, wrap, strict=True) if w)
        if inner:  # beyond an end of an axis that repeats, a network sees no neighbour
            expected = reference.features(op, lumped, coarse.halved, cell)
            np.testing.assert_allclose(seen[:, place[cell]], expected, atol=2e-5, err_msg=f"{cell} {number[cell]}")


@pytest.mark.parametrize(("n", "wrap"), BOXES, ids=IDS)
def test_factors_multiply_faces_and_the_extra_diagonal(n: Shape, wrap: Wrap) -> None:
    rng = np.random.default_rng(2)
    level = FaceLevel.of(*compiled(random_weights(n, wrap, rng)))
    fields = rng.uniform(-1, 1, (FACTORS, *n))
    fields[4] = -abs(fields[4])
    made = scaled(level, np.stack([padded(own) for own in fields]))
    expected = reference.scaled(weights_of(level), fields)
    for own, other in zip((*weights_of(made).w, weights_of(made).extra), (*expected.w, expected.extra), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-5)
    diagonal = reference.matrix(expected).diagonal()
    np.testing.assert_allclose(cropped(made.diagonal, n).ravel(), diagonal, rtol=1e-5)
    smoothing = np.where(diagonal > 0, np.exp(fields[4].ravel()) / np.where(diagonal > 0, diagonal, 1), 0)
    np.testing.assert_allclose(cropped(made.faces.inverse, n).ravel(), smoothing, rtol=1e-5)


def test_answers_are_those_of_the_network_and_are_cut() -> None:
    parameters = random_parameters(np.random.default_rng(3), 5.0)
    n = (6, 70, 90)  # more than one block of cells
    coarse = coarsen(FaceLevel.of(*compiled(random_weights(n, (False,) * 3, np.random.default_rng(4)))))
    plane, size = coarse.level.grid.s[0], coarse.level.diagonal.size
    found = answers(coarse, networks_of(parameters)[1])
    value = features(coarse, plane, size - plane)
    for layer in (0, 2, 4):
        weight, bias = parameters[f"kinds.1.{layer}.weight"], parameters[f"kinds.1.{layer}.bias"]
        value = weight @ value + bias[:, None]
        value = np.maximum(value, 0) if layer < 4 else value
    lowest, highest = (np.array(limits)[:, None] for limits in (LOWEST, HIGHEST))
    np.testing.assert_allclose(found[:, plane : size - plane], np.clip(value, lowest, highest), atol=1e-3)
    assert (found[:4].min(), found[:4].max(), found[4].max()) == (-1.5, 1.5, 0.0)  # some were


def test_without_answers_the_cycle_is_the_classical_one() -> None:
    n = (12, 11, 10)
    given = compiled(random_weights(n, (False,) * 3, np.random.default_rng(5)))
    r, found = padded(np.random.default_rng(6).standard_normal(n)), []
    for parameters in (None, random_parameters(np.random.default_rng(7), 0.0)):
        cycle = FaceCycle(*given, coarsest=20, parameters=parameters)
        cycle.memory_map.weights[:] = 1
        found.append(cycle.zeros())
        cycle.apply(r, found[-1])
    np.testing.assert_allclose(found[1], found[0], atol=1e-5 * abs(found[0]).max())


@pytest.mark.parametrize(("n", "wrap"), BOXES, ids=IDS)
@pytest.mark.parametrize("decades", [0.0, 6.0])
def test_whatever_networks_answer_the_cycle_is_positive_definite(n: Shape, wrap: Wrap, decades: float) -> None:
    op = random_weights(n, wrap, np.random.default_rng(8), decades=decades, walls=0.1)
    cycle = FaceCycle(*compiled(op), coarsest=8, parameters=random_parameters(np.random.default_rng(9), 2.0))
    diagonal = reference.matrix(op).diagonal()
    unknown = diagonal > 0
    columns = []
    for unit in np.eye(diagonal.size)[unknown]:
        z = cycle.zeros()
        cycle.apply(padded(unit.reshape(n)), z)
        columns.append(cropped(z, n).ravel()[unknown].astype(float))
    root = np.sqrt(diagonal[unknown])
    M = np.stack(columns, axis=1) * root * root[:, None]
    assert abs(M - M.T).max() <= 2e-5 * abs(M).max()
    assert np.linalg.eigvalsh((M + M.T) / 2)[0] > 1e-3


def test_copies_know_their_name_and_their_factors() -> None:
    n = (9, 10, 11)
    given = compiled(random_weights(n, (False,) * 3, np.random.default_rng(10)))
    cycle = FaceCycle(*given, coarsest=20, parameters=random_parameters(np.random.default_rng(11), 1.0))
    r = padded(np.random.default_rng(12).standard_normal(n))
    expected = cycle.zeros()
    cycle.apply(r, expected)
    for twin in (pickle.loads(pickle.dumps(cycle)), copy.deepcopy(cycle), cycle.twin(2)):
        z = twin.zeros()
        twin.apply(r, z)
        assert twin.name == "learned-multigrid"
        np.testing.assert_allclose(z, expected, atol=1e-6 * abs(expected).max())
