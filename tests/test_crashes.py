"""Training that is killed, or runs out of disk, in real processes: what was good survives, and resuming changes no bit.

One process imports torch and forks a child per run, which calls the command line as a user would.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deepcd.data import weight_files
from deepcd.data.files import sole_writer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be forked")

# Boxes of two levels, and a checkpoint every two of six steps. The calls that are counted come in this order: os.fsync
# of the trial of the disk (1), of each checkpoint and its folder (2 to 7), of the weights and their folder (8, 9);
# os.replace of each checkpoint (1 to 3) and of the weights (4).
PARENT = """
import contextlib, json, os, resource, signal, sys, tempfile, time
from deepcd.cli import app
from deepcd.solvers.training import samples, training

samples.random_shape = lambda ndim, rng: ((9, 10), 2)
training.CHECKPOINT_STEPS = 2
training.draw = lambda *_: None

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def cut(descriptor):
    with contextlib.suppress(OSError):  # a folder cannot be cut
        os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
    die()

def fill(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

def interrupt(module, name, at, before=lambda *_: None, after=lambda *_: None):
    calls, function = [], getattr(module, name)
    def wrapped(*arguments):
        calls.append(None)
        if len(calls) == at:
            before(*arguments)
        result = function(*arguments)
        if len(calls) == at:
            after(*arguments)
        return result
    setattr(module, name, wrapped)

with tempfile.TemporaryDirectory() as folder:  # compiled and loaded once, not by every child
    app(["train", "--dim", "2", "--steps", "4", "--out", folder + "/w"], standalone_mode=False)

for line in sys.stdin:
    where, at, log, arguments = json.loads(line)
    child = os.fork()
    if not child:
        os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 2)
        if where == "step":
            interrupt(training, "sample_loss", at, after=die)
        elif where == "write":
            interrupt(os, "fsync", at, before=cut)
        elif where == "rename":
            interrupt(os, "replace", at, before=die)
        elif where == "renamed":
            interrupt(os, "replace", at, after=die)
        elif where == "full":
            interrupt(training, "sample_loss", at, before=lambda *_: fill(20_000))
        try:
            app(arguments)
        except SystemExit as end:  # at once: torch takes a second to go
            os._exit(end.code)
    if where == "time":
        time.sleep(at)
        os.kill(child, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Runs:
    """Runs of ``deepcd train``, each in a process of its own, in one folder."""

    def __init__(self, parent: subprocess.Popen[str], folder: Path) -> None:
        self.parent, self.folder, self.log = parent, folder / "runs", folder / "log"
        self.folder.mkdir()
        self.out = self.folder / "w"

    def train(self, *options: str, where: str = "", at: float = 0) -> int:
        """Run to the end, or to an accident, and return the exit status, negative for a signal."""
        assert self.parent.stdin
        assert self.parent.stdout
        command = ["train", "--dim", "2", "--steps", "6", "--out", str(self.out), *options]
        self.parent.stdin.write(json.dumps([where, at, str(self.log), command]) + "\n")
        self.parent.stdin.flush()
        return int(self.parent.stdout.readline())

    def resume(self) -> int:
        """Go on as a user would: from the checkpoint if there is one."""
        return self.train(*(["--resume"] if self.checkpoint.exists() else []))

    @property
    def checkpoint(self) -> Path:
        return self.folder / "w.checkpoint"

    @property
    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    def weights(self) -> dict[str, np.ndarray]:
        return weight_files.load(self.out, "learned-multigrid-2d/2")[0]


@pytest.fixture(scope="module")
def parent() -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield process


@pytest.fixture
def runs(parent: subprocess.Popen[str], tmp_path: Path) -> Runs:
    return Runs(parent, tmp_path)


@pytest.fixture(scope="module")
def straight(parent: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The weights of a run that nothing happened to."""
    runs = Runs(parent, tmp_path_factory.mktemp("straight"))
    assert runs.train() == 0
    return runs.weights()


def assert_same(runs: Runs, straight: dict[str, np.ndarray]) -> None:
    """The weights are those of an undisturbed run, and nothing else lies about."""
    weights = runs.weights()
    assert weights.keys() == straight.keys()
    for name, array in straight.items():
        np.testing.assert_array_equal(weights[name], array, strict=True)
    assert runs.names == ["w", "w.checkpoint"]


@pytest.mark.parametrize(
    ("where", "at"),
    [
        *(("step", n) for n in (1, 4, 6)),
        *(("write", n) for n in (1, 2, 3, 4, 8, 9)),
        *((where, n) for where in ("rename", "renamed") for n in (1, 3, 4)),
    ],
)
def test_killed_at_every_kind_of_moment(runs: Runs, straight: dict[str, np.ndarray], where: str, at: int) -> None:
    assert runs.train(where=where, at=at) == -signal.SIGKILL
    if runs.checkpoint.exists():
        weight_files.load(runs.checkpoint, None)
    if runs.out.exists():
        runs.weights()
    if where == "write" and at % 2 == 0:  # half a file, not yet renamed
        assert [name for name in runs.names if name.endswith(".tmp")]
    assert runs.resume() == 0
    assert_same(runs, straight)


def test_killed_again_and_again(runs: Runs, straight: dict[str, np.ndarray]) -> None:
    """By the clock, so at moments that nobody thought of."""
    clock = random.Random(0)
    for _ in range(8):
        options = ["--resume"] if runs.checkpoint.exists() else []
        assert runs.train(*options, where="time", at=clock.uniform(0.0, 0.4)) in (-signal.SIGKILL, 0)
    assert runs.resume() == 0
    assert_same(runs, straight)


def test_a_full_disk_keeps_what_is_good(runs: Runs, straight: dict[str, np.ndarray]) -> None:
    """No file may grow beyond 20 kB from the fourth step on: neither checkpoint nor weights can be written."""
    assert runs.train(where="full", at=4) == 2
    assert runs.names == ["w.checkpoint"]
    assert weight_files.load(runs.checkpoint, None)[1]["step"] == 2
    log = runs.log.read_text(encoding="utf-8")
    for line, file in (("step 4: checkpoint", "w.checkpoint"), ("step 6: checkpoint", "w.checkpoint"), ("error", "w")):
        assert any(
            line in said and "File too large" in said and f"{runs.folder / file}'" in said for said in log.splitlines()
        )
    assert runs.resume() == 0
    assert_same(runs, straight)


def test_old_weights_survive_a_full_disk(runs: Runs, straight: dict[str, np.ndarray]) -> None:
    assert runs.train() == 0
    content = runs.out.read_bytes()
    assert runs.train("--seed", "1", where="full", at=1) == 2
    assert runs.out.read_bytes() == content
    assert_same(runs, straight)


def test_two_runs_do_not_write_one_file(runs: Runs, straight: dict[str, np.ndarray]) -> None:
    with sole_writer(runs.out):
        assert runs.train() == 2
        assert "Another process is writing it" in runs.log.read_text(encoding="utf-8")
        assert runs.names == [".w.lock"]
    assert runs.train() == 0
    assert_same(runs, straight)
