"""Checkpoints: what comes back is what was saved, bit for bit; everything else is refused by name."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deepcd.data import weight_files
from deepcd.solvers.training import checkpoints
from deepcd.solvers.training.checkpoints import CycleSettings, Log, State
from deepcd.solvers.training.network import CycleNetwork

SETTINGS = CycleSettings(ndim=2, steps=10, seed=3, hidden=4, rate=1e-2)


def fresh(settings: CycleSettings = SETTINGS) -> State:
    net = CycleNetwork(settings.ndim, settings.hidden)
    return State(settings, net, torch.optim.Adam(net.parameters(), lr=settings.rate))


@pytest.fixture
def state() -> State:
    """A state whose deepest network no gradient has reached yet."""
    state = fresh()
    for _ in range(2):
        state.optimizer.zero_grad()
        for name, parameter in state.net.named_parameters():
            if not name.startswith("coarse.1"):
                parameter.grad = torch.randn_like(parameter)
        state.optimizer.step()
    state.step, state.seconds = 4, 1.25
    state.log = Log([0, 2, 3], [0.5, -1.0, -2.0], [[-1.0, -2.0, -3.5]] * 2 + [[-1.0] * 6], [(2, 8, 1, 9)] * 3, [1])
    return state


def moments(state: State) -> dict[str, np.ndarray]:
    return {
        f"{name}.{key}": value.numpy()
        for name, parameter in state.net.named_parameters()
        for key, value in state.optimizer.state.get(parameter, {}).items()
    }


def test_everything_comes_back(tmp_path: Path, state: State) -> None:
    path = tmp_path / "w.checkpoint"
    checkpoints.save(path, state)
    back = fresh()
    checkpoints.load(path, back)
    assert (back.step, back.seconds, back.log) == (state.step, state.seconds, state.log)
    for name, value in state.net.state_dict().items():
        np.testing.assert_array_equal(back.net.state_dict()[name].numpy(), value.numpy(), strict=True)
    assert moments(back).keys() == moments(state).keys()
    assert not any(name.startswith("coarse.1") for name in moments(back))
    for name, array in moments(state).items():
        np.testing.assert_array_equal(moments(back)[name], array, strict=True)


def test_an_empty_log_comes_back(tmp_path: Path) -> None:
    state = fresh()
    state.step, state.log.skipped = 1, [0]
    checkpoints.save(tmp_path / "c", state)
    back = fresh()
    checkpoints.load(tmp_path / "c", back)
    assert back.log == state.log
    assert back.log.recent(50) == []


def test_recent_averages_entries_of_the_last_phase() -> None:
    log = Log(residuals=[[-9.0] * 3, [-1.0] * 3, [-1.0, -2.0, -3.0, -4.0], [-2.0, -3.0, -4.0, -5.0]])
    assert log.recent(50) == [-1.5, -2.5, -3.5, -4.5]
    assert log.recent(1) == [-2.0, -3.0, -4.0, -5.0]


@pytest.mark.parametrize(
    ("name", "value"),
    [("ndim", 3), ("steps", 11), ("seed", 4), ("hidden", 5), ("rate", 0.02), ("start", "ab" * 32)],
    ids=str,
)
def test_other_settings_are_refused_by_name(tmp_path: Path, state: State, name: str, value: Any) -> None:
    checkpoints.save(tmp_path / "c", state)
    other = fresh(dataclasses.replace(SETTINGS, **{name: value}))
    with pytest.raises(ValueError, match=f"{name} is {getattr(SETTINGS, name)!r}, not {value!r};") as caught:
        checkpoints.load(tmp_path / "c", other)
    assert str(tmp_path / "c") in str(caught.value)


def test_missing_damaged_and_foreign_files_are_refused(tmp_path: Path, state: State) -> None:
    path = tmp_path / "c"
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*c to resume from"):
        checkpoints.load(path, fresh())
    checkpoints.save(path, state)
    content = path.read_bytes()
    path.write_bytes(content[:-7])
    with pytest.raises(ValueError, match="truncated"):
        checkpoints.load(path, fresh())
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match="SHA-256"):
        checkpoints.load(path, fresh())
    weight_files.save(path, {"w": np.ones(3)}, {"architecture": SETTINGS.architecture})
    with pytest.raises(ValueError, match="'learned-multigrid-2d/2', no checkpoint"):
        checkpoints.load(path, fresh())


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("net.tap", None, "tap"),
        ("net.tap", np.ones(99, dtype=np.float32), "tap"),
        ("net.other", np.ones(1), "other"),
        ("adam.exp_avg.tap", None, "moments of tap"),
        ("adam.exp_avg.tap", np.ones(99, dtype=np.float32), "moments of tap"),
        ("adam.step.tap", np.ones(2), "moments of tap"),
        ("log.step", None, "log.step"),
        ("log.step", np.array([0, 1, 2]), "its log is not that of 4 steps"),
        ("log.unrolled", np.array([3]), "is damaged"),
        ("log.shape", np.ones(3), "is damaged"),
        ("step", None, "step"),
        ("step", -1, "its log is not that of -1 steps"),
        ("step", 11, "its log is not that of 11 steps"),
        ("step", "four", "four"),
        ("step", 1e999, "is damaged"),
        ("seconds", None, "seconds"),
        ("seconds", [1], "is damaged"),
    ],
)
def test_what_another_program_wrote_is_refused(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch, name: str, change: Any, says: str
) -> None:
    """With a checksum that holds."""
    path = tmp_path / "c"
    checkpoints.save(path, state)
    tensors, record = weight_files.load(path, None)
    target: dict[str, Any] = tensors if "." in name else record
    if change is None:
        del target[name]
    else:
        target[name] = change
    monkeypatch.setattr(weight_files, "load", lambda *_: (tensors, record))
    with pytest.raises(ValueError, match="start anew without resume") as caught:
        checkpoints.load(path, fresh())
    assert says in str(caught.value)


def test_a_checkpoint_is_not_taken_for_weights(tmp_path: Path, state: State) -> None:
    checkpoints.save(tmp_path / "c", state)
    with pytest.raises(weight_files.WeightFileError, match="checkpoint of learned-multigrid-2d/2"):
        weight_files.load(tmp_path / "c", SETTINGS.architecture)


def full(_descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_keeps_the_last_good_checkpoint(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c"
    checkpoints.save(path, state)
    content = path.read_bytes()
    state.step = 5
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(path, state)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["c"]


def test_room_is_checked_and_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints.check_room(tmp_path / "w.safetensors", fresh())
    assert os.listdir(tmp_path) == []
    with pytest.raises(FileNotFoundError, match=r"none cannot take the .* MB"):
        checkpoints.check_room(tmp_path / "none" / "w.safetensors", fresh())
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file cannot take"):
        checkpoints.check_room(tmp_path / "file" / "w.safetensors", fresh())
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device.*another out"):
        checkpoints.check_room(tmp_path / "w.safetensors", fresh())
    assert os.listdir(tmp_path) == ["file"]


def test_the_room_asked_for_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = fresh(CycleSettings(ndim=2, steps=20_000, seed=3, hidden=128, rate=1e-2))
    for parameter in state.net.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    log = state.log
    log.step, log.loss, log.residuals = list(range(20_000)), [1.0] * 20_000, [[1.0] * 6] * 20_000
    log.shape = [(1, 64, 1, 64)] * 20_000
    checkpoints.save(tmp_path / "c", state)
    needed = (tmp_path / "c").stat().st_size + sum(4 * p.numel() for p in state.net.parameters())
    asked: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: asked.append(os.fstat(descriptor).st_size))
    checkpoints.check_room(tmp_path / "w", state)
    assert needed < asked[0] < 2 * needed
