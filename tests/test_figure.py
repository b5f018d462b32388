"""The figure of a run: its curves are the log, and a viewer never sees half of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, BinaryIO

import matplotlib.image
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deepcd.solvers.training import figure
from deepcd.solvers.training.checkpoints import CycleSettings, Log


def log(steps: int) -> Log:
    unrolled = [3 if 5 * s < steps else 6 for s in range(steps)]
    residuals = [[-1.0 - n for n in range(u)] for u in unrolled]
    return Log(list(range(steps)), [-float(u) for u in unrolled], residuals, [(1, 4, 4, 4)] * steps)


@pytest.mark.parametrize("steps", [0, 1, 300])
def test_a_picture_of_any_length(tmp_path: Path, steps: int) -> None:
    figure.draw(tmp_path / "f.png", log(steps), CycleSettings(3, 300, 0, 32, 3e-3))
    assert os.listdir(tmp_path) == ["f.png"]
    assert matplotlib.image.imread(tmp_path / "f.png").shape == (462, 1100, 4)


def test_curves_are_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[Any, Any]] = []
    monkeypatch.setattr(Axes, "legend", lambda *_, **__: None)
    monkeypatch.setattr(figure, "_curve", lambda axes, x, y, *_: drawn.append((x.tolist(), y.tolist())))
    figure.draw(tmp_path / "f.png", log(10), CycleSettings(3, 10, 0, 32, 3e-3))
    assert drawn[0] == ([1, 2], [-3.0, -3.0])
    assert drawn[1] == (list(range(3, 11)), [-6.0] * 8)
    assert drawn[2] == (list(range(1, 11)), [-1.0] * 10)
    assert drawn[7] == (list(range(3, 11)), [-6.0] * 8)


def test_the_picture_before_stays_where_the_new_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.png"
    path.write_bytes(b"old")

    def broken(self: Any, to: BinaryIO, **_: Any) -> None:
        to.write(b"half")
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Figure, "savefig", broken)
    with pytest.raises(OSError, match="full"):
        figure.draw(path, Log(), CycleSettings(3, 1, 0, 32, 3e-3))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f.png"]
