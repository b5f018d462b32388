"""What is said of a run: a bar on a terminal, lines in the log elsewhere, and nothing on standard output."""

from __future__ import annotations

import io
import logging
import re
from pathlib import Path

import pytest
from rich.console import Console

from deepcd.solvers.training import progress, samples, train


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes of two levels."""
    monkeypatch.setattr(samples, "random_shape", lambda ndim, rng: ((9, 10), 1))


def test_lines_go_to_the_log_where_there_is_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY", 2)
    caplog.set_level(logging.INFO, "deepcd")
    train(2, tmp_path / "w", steps=5, hidden=4, progress=True)
    lines = [record.getMessage() for record in caplog.records if record.name == "deepcd"]
    assert [line.split(":")[0] for line in lines] == ["step 2 of 5", "step 4 of 5", "step 5 of 5"]
    for word in ("log10|r| ", "loss ", "rate ", "steps/s", " left"):
        assert word in lines[0]
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80)
    monkeypatch.setattr(progress, "Console", lambda stderr: console)
    return stream


def test_a_bar_on_a_terminal(tmp_path: Path, terminal: io.StringIO) -> None:
    train(2, tmp_path / "w", steps=3, hidden=4, progress=True)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    for word in ("3/3", "log10|r| ", "loss ", "rate ", "steps/s", "0:00:00"):
        assert word in shown
    assert "…" not in shown  # it fits


def test_no_bar_if_not_wanted(tmp_path: Path, terminal: io.StringIO) -> None:
    train(2, tmp_path / "w", steps=1, hidden=4, progress=False)
    assert terminal.getvalue() == ""
