"""Sequences of pressure solves on disk: what comes back, what is shared, what is refused."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deepcd.pde import PressureSolve, ball, domain, load_solves, poisson, save_solves

GRIDS = [
    domain((6, 5, 4), solid=ball((3, 2, 2), 1.5), walls=["solid", ("air", "solid"), "air"], spacing=0.5),
    domain((6, 5, 4), air=ball((3, 2, 2), 1.5), air_at="face", spacing=0.1),
]


def run() -> Iterator[PressureSolve]:
    """Solves on one grid, then on another."""
    rng = np.random.default_rng(0)
    systems = [poisson(grid) for grid in GRIDS]
    for k in range(12):
        system = systems[int(k >= 7)]
        yield PressureSolve(system, rng.standard_normal(len(system.cells)), rng.standard_normal(len(system.cells)))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Return a file of that run; its name gets no suffix."""
    path = tmp_path / "run"
    assert save_solves(path, run()) == 12
    return path


def test_what_comes_back(saved: Path) -> None:
    again = list(load_solves(saved))
    for one, other in zip(again, run(), strict=True):
        np.testing.assert_array_equal(one.b, other.b)
        np.testing.assert_array_equal(one.x0, other.x0)
        a, b = one.system, other.system
        np.testing.assert_array_equal(a.grid.cells, b.grid.cells)
        assert (a.grid.walls, a.grid.spacing, a.grid.air_at) == (b.grid.walls, b.grid.spacing, b.grid.air_at)
        assert (a.A != b.A).nnz == 0
    assert len({id(one.system) for one in again}) == 2


def test_plain_arrays(saved: Path) -> None:
    """Anybody can read it with NumPy; cells are bytes, and those of a grid are there once."""
    with np.load(saved, allow_pickle=False) as archive:
        assert sorted(name for name in archive.files if name.startswith("cells")) == ["cells_0", "cells_1"]
        assert archive["cells_1"].dtype == np.uint8
        assert archive["b_11"].dtype == archive["x0_11"].dtype == np.float64
        assert [int(archive[f"grid_{k}"]) for k in range(12)] == [0] * 7 + [1] * 5


def test_frames_are_read_one_at_a_time(saved: Path) -> None:
    frames = load_solves(saved)
    first = next(frames)
    frames.close()  # type: ignore[attr-defined]
    np.testing.assert_array_equal(first.b, next(run()).b)


def test_no_solves(tmp_path: Path) -> None:
    assert save_solves(tmp_path / "none.npz", []) == 0
    assert list(load_solves(tmp_path / "none.npz")) == []


def rewritten(source: Path, target: Path, **changes: np.ndarray | None) -> Path:
    with np.load(source) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays |= {name: array for name, array in changes.items() if array is not None}
    with target.open("wb") as stream:
        np.savez(stream, **{name: array for name, array in arrays.items() if changes.get(name, array) is not None})
    return target


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"b_3": np.zeros(5)}, r"b_3 is float64 of shape \(5,\)"),
        ({"x0_0": np.zeros(90, dtype=np.float32)}, "x0_0 is float32"),
        ({"cells_1": None}, "cells_1"),
        ({"cells_0": np.full((6, 5, 4), 7, dtype=np.uint8)}, "cells may hold 0"),
        ({"walls_0": np.zeros((3, 2))}, "each wall"),
        ({"air_at_1": np.array("edge")}, "air_at"),
        ({"spacing_0": np.array([1.0, 2.0])}, "no file of save_solves"),
        ({"grid_2": np.array("x")}, "no file of save_solves"),
    ],
)
def test_files_that_do_not_fit(
    saved: Path, tmp_path: Path, changes: dict[str, np.ndarray | None], message: str
) -> None:
    path = rewritten(saved, tmp_path / "other.npz", **changes)
    with pytest.raises(ValueError, match=message) as caught:
        list(load_solves(path))
    assert str(path) in str(caught.value)


def test_files_of_other_kinds(saved: Path, tmp_path: Path) -> None:
    text, truncated, pickled, array = (tmp_path / name for name in ("text", "truncated", "pickled", "array"))
    text.write_text("not an archive")
    truncated.write_bytes(saved.read_bytes()[:-100])
    np.save(array, np.zeros(3))
    with zipfile.ZipFile(pickled, "w") as archive, archive.open("b_0.npy", "w") as stream:
        np.lib.format.write_array(stream, np.array([None]), allow_pickle=True)
    for path in (text, truncated, pickled, array.with_suffix(".npy")):
        with pytest.raises(ValueError, match="no file of save_solves"):
            list(load_solves(path))
    with pytest.raises(FileNotFoundError):
        list(load_solves(tmp_path / "missing.npz"))


def test_a_run_that_breaks_off_leaves_the_file_before(tmp_path: Path) -> None:
    path, system = tmp_path / "run.npz", poisson(domain((4, 4), walls="air"))
    whole = [PressureSolve(system, np.ones(16), np.zeros(16))]
    save_solves(path, whole)

    def broken() -> Iterator[PressureSolve]:
        yield from whole
        raise RuntimeError("the solve failed")

    with pytest.raises(RuntimeError, match="the solve failed"):
        save_solves(path, broken())
    assert len(list(load_solves(path))) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["run.npz"]
