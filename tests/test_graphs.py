"""The systems of the benchmark of graphs, and its command line."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from benchmarks import graphs
from benchmarks.graphs import FAMILIES, system
from deepcd.data.random_graphs import MIXTURES, PARTS, Graph, laplacian
from deepcd.solvers.bench import methods


@pytest.mark.parametrize("family", FAMILIES)
def test_is_a_dominant_matrix_of_a_connected_graph(family: str) -> None:
    for seed in range(3):
        problem, again = system(family, 400, seed), system(family, 400, seed)
        A, b = problem.A, problem.b
        assert (A - again.A).nnz == 0
        assert np.array_equal(b, again.b)
        assert 250 <= A.shape[0] <= 700
        assert abs(A - A.T).max() <= 1e-15 * abs(A).max()
        off = A - np.diag(A.diagonal())
        assert off.max() <= 0
        sums = np.asarray(A.sum(axis=1)).ravel()
        assert sums.min() >= -1e-12 * abs(A).max()
        assert connected_components(A)[0] == 1
        if sums.max() <= 1e-12 * abs(A).max():
            assert abs(b.sum()) <= 1e-10 * abs(b).sum()


@pytest.mark.parametrize("make", [*PARTS, *set(MIXTURES)], ids=lambda make: make.__name__)
def test_parts_of_chimeras_are_connected(make: Callable[..., Graph]) -> None:
    for n in (20, 333):
        for seed in range(6):
            i, j, count = make(np.random.default_rng(seed), n)
            assert i.shape == j.shape
            assert min(i.min(), j.min()) >= 0
            assert max(i.max(), j.max()) < count
            assert 0.3 * n <= count <= 1.7 * n + 5
            assert connected_components(laplacian(i, j, np.ones(i.size), count))[0] == 1


def test_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--families", "chimera", "grid 2D", "--size", "300", "--methods", "approximate-cholesky", "ssor"]
    monkeypatch.setattr(sys, "argv", ["graphs", *arguments, "--output", ""])
    monkeypatch.setattr(methods, "clock", methods.clock)  # which the program replaces
    graphs.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all(float(line.split()[-1]) <= 1e-8 for line in lines[1:])
