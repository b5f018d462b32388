"""Checkpoints of a training run: all that is needed to continue it bit for bit, in a file that is never half written.

A checkpoint is a weight file (`deepcd.data.weight_files`: safetensors, a JSON record, a SHA-256; written to a temporary
file, synchronised and renamed). Its architecture has another name, so that neither is mistaken for the other. It holds
no random streams, since each step's generator is seeded by the run's seed and the step.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deepcd.data import weight_files
from deepcd.solvers.learned.architecture import architecture

LONGEST = 6  # largest number of iterations that a training step unrolls
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # names of Adam's moments
LIBRARIES = ("deepcd", "numba", "numpy", "scipy", "torch")  # packages whose versions a record states


@dataclass(frozen=True)
class CycleSettings:
    """All that decides, together with code and versions, every number of a run that trains the multigrid cycle.

    A checkpoint is resumed under the same settings only.
    """

    ndim: int
    steps: int
    seed: int
    hidden: int
    rate: float
    start: str = ""  # SHA-256 of the weight file that the run starts from; empty if there is none

    @property
    def architecture(self) -> str:
        """Name of the network in weight files."""
        return architecture(self.ndim)


@dataclass
class Log:
    """The history of a run: one entry per step taken, and the numbers of the steps that were skipped."""

    step: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    residuals: list[list[float]] = field(default_factory=list)  # mean log10 relative residual after each iteration
    shape: list[tuple[int, ...]] = field(default_factory=list)  # (batch, n0, n1, n2)
    skipped: list[int] = field(default_factory=list)  # steps whose loss or gradient was not finite

    def recent(self, most: int) -> list[float]:
        """Return the mean residuals of those of the last `most` entries with as many iterations as the last one."""
        last = [r for r in self.residuals[-most:] if len(r) == len(self.residuals[-1])]
        return [float(mean) for mean in np.mean(last, axis=0)] if last else []

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the log as arrays, with residuals padded by 0 to the largest number of iterations."""
        residuals = np.zeros((len(self.step), LONGEST), dtype=np.float32)
        for row, values in zip(residuals, self.residuals, strict=True):
            row[: len(values)] = values
        return {
            "log.step": np.array(self.step, dtype=np.int64),
            "log.loss": np.array(self.loss, dtype=np.float32),
            "log.residuals": residuals,
            "log.unrolled": np.array([len(r) for r in self.residuals], dtype=np.int64),
            "log.shape": np.array(self.shape, dtype=np.int64).reshape(-1, 4),
            "log.skipped": np.array(self.skipped, dtype=np.int64),
        }

    @classmethod
    def of(cls, tensors: dict[str, NDArray[Any]]) -> Log:
        """Return the log that `tensors` has turned into arrays."""
        rows = zip(tensors["log.residuals"].tolist(), tensors["log.unrolled"].tolist(), strict=True)
        return cls(
            tensors["log.step"].tolist(),
            tensors["log.loss"].tolist(),
            [row[:count] for row, count in rows],
            [tuple(shape) for shape in tensors["log.shape"].tolist()],
            tensors["log.skipped"].tolist(),
        )


@dataclass
class State:
    """A run between two steps."""

    settings: Any  # `CycleSettings` or `DCDMSettings`: a dataclass with architecture, steps, seed, rate and start
    net: torch.nn.Module
    optimizer: torch.optim.Adam
    step: int = 0  # number of steps done, including those skipped
    seconds: float = 0.0
    log: Log = field(default_factory=Log)


def path_for(out: Path) -> Path:
    """Return the path of the checkpoint of the run that writes `out`."""
    return out.with_name(out.name + ".checkpoint")


def save(path: Path, state: State) -> None:
    """Write a checkpoint; the previous one stays until the new one is complete.

    Parameters
    ----------
    path : Path
    state : State

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written.
    """
    tensors = {f"net.{name}": value.numpy() for name, value in state.net.state_dict().items()}
    for name, parameter in state.net.named_parameters():
        # Parameters that no gradient has reached have no moments, and must have none after a resume.
        for key, value in state.optimizer.state.get(parameter, {}).items():
            tensors[f"adam.{key}.{name}"] = value.numpy()
    record = {
        "architecture": _architecture(state.settings),
        "step": state.step,
        "seconds": state.seconds,
        "settings": asdict(state.settings),
        "versions": versions(),
    }
    weight_files.save(path, tensors | state.log.tensors(), record)


def load(path: Path, state: State) -> None:
    """Bring a fresh state to where a checkpoint left off, or refuse the checkpoint.

    Parameters
    ----------
    path : Path
    state : State
        The fresh state, which is changed in place.

    Raises
    ------
    FileNotFoundError
        If there is no checkpoint.
    ValueError
        If the file is damaged, is not a checkpoint, or belongs to other settings, which the message names.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint {path} to resume from; check out, or start without resume")
    try:
        tensors, record = weight_files.load(path, None)
    except weight_files.WeightFileError as error:
        raise ValueError(f"checkpoint {path} {error.__cause__}; start anew without resume") from error
    ours, theirs = asdict(state.settings), record.get("settings")
    if not isinstance(theirs, dict):
        raise ValueError(f"{path} holds {record['architecture']!r}, no checkpoint; start anew without resume")
    differing = [
        f"{name} is {theirs.get(name)!r}, not {ours[name]!r}" for name in ours if theirs.get(name) != ours[name]
    ]
    if differing or record["architecture"] != _architecture(state.settings):
        raise ValueError(
            f"checkpoint {path} belongs to another run: {', '.join(differing) or record['architecture']}; "
            "give the settings it was started with, or start anew without resume"
        )
    try:
        _restore(state, tensors, record)
    except (LookupError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"checkpoint {path} is damaged ({str(error)[:200]}); start anew without resume") from error


def _restore(state: State, tensors: dict[str, NDArray[Any]], record: dict[str, Any]) -> None:
    """Put tensors and record into a fresh state; check what another program may have written."""
    state.net.load_state_dict(
        {k.removeprefix("net."): torch.from_numpy(v) for k, v in tensors.items() if k[:4] == "net."}
    )
    for name, parameter in state.net.named_parameters():
        moments = {k: torch.from_numpy(tensors[f"adam.{k}.{name}"]) for k in MOMENTS if f"adam.{k}.{name}" in tensors}
        if not moments:
            continue
        expected = {"step": torch.Size(), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
        if {key: moment.shape for key, moment in moments.items()} != expected:
            raise ValueError(f"the moments of {name} are not those of its shape {tuple(parameter.shape)}")
        state.optimizer.state[parameter] = moments
    state.step, state.seconds, state.log = int(record["step"]), float(record["seconds"]), Log.of(tensors)
    if sorted(state.log.step + state.log.skipped) != list(range(state.step)) or state.step > state.settings.steps:
        raise ValueError(f"its log is not that of {state.step} steps")


def check_room(out: Path, state: State) -> None:
    """Write as many bytes beside `out` as the run will need, and remove them, so that a lack of room shows early.

    Parameters
    ----------
    out : Path
        The weight file that the run will write.
    state : State

    Raises
    ------
    OSError
        If the folder does not exist, cannot be written or has no room. The message names it and the reason.
    """
    parameters = sum(p.numel() for p in state.net.parameters())
    size = 16 * parameters + 100 * state.settings.steps + 500_000  # bytes: moments, weights, log and figure
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(bytes(size))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        advice = f"cannot take the {size / 1e6:.1f} MB of weights and checkpoint ({error.strerror}); give another out"
        raise OSError(error.errno, f"folder {out.parent} {advice}") from error
    finally:
        if temporary.parent.is_dir():
            temporary.unlink(missing_ok=True)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that the numbers depend on."""
    found = {"python": python_version()}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:  # deepcd run from a source tree
            found[library] = "unknown"
    return found


def _architecture(settings: Any) -> str:
    return f"checkpoint of {settings.architecture}"
