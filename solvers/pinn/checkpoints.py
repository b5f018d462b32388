"""Checkpoints of a run: everything that continues it bit for bit, in one file that is never half written.

A weight file (`deepcd.data.weight_files`: safetensors, a JSON record, a SHA-256) whose architecture is "pinn/1".
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deepcd.data import weight_files

if TYPE_CHECKING:
    from deepcd.solvers.pinn.training import Run

NAME = "checkpoint.safetensors"
ARCHITECTURE = "pinn/1"


def save(path: Path, run: Run) -> None:
    """Write a checkpoint; the one before stays until this one is whole.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written.
    """
    tensors: dict[str, Any] = {f"network.{k}": v.numpy() for k, v in run.network.state_dict().items() if v.numel()}
    tensors |= {f"sampler.{k}": v.numpy() for k, v in run.sampler.state_dict().items()}
    tensors |= {f"method.{k}": v for k, v in run.method.state().items()}
    tensors |= {f"film.{number}": points for number, points in run.film.items()}
    tensors["generator"] = run.generator.get_state().numpy()
    tensors["gradients"] = np.array(run.objective.evaluations)
    record = {
        "architecture": ARCHITECTURE,
        "problem": run.problem.name,
        "settings": asdict(run.settings),
        "history": run.history,
    }
    weight_files.save(path, tensors, record)


def load(path: Path, run: Run) -> None:
    """Take up the run of a checkpoint.

    Raises
    ------
    WeightFileError
        If the file is missing or damaged.
    ValueError
        If it is of another problem, or was made under other settings.
    """
    tensors, record = weight_files.load(path, ARCHITECTURE)
    ours = {"problem": run.problem.name, **asdict(run.settings)}
    theirs = {"problem": record["problem"], **record["settings"]}
    for name, value in ours.items():
        if theirs.get(name) != value:
            raise ValueError(
                f"{path} is of a run with {name} = {theirs.get(name)}, not {value}: resume with its settings"
            )

    def part(prefix: str) -> dict[str, Any]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    network = run.network.state_dict()
    run.network.load_state_dict(network | {k: torch.from_numpy(v.copy()) for k, v in part("network.").items()})
    run.sampler.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in part("sampler.").items()})
    run.method.load(part("method."))
    run.generator.set_state(torch.from_numpy(tensors["generator"].copy()))
    run.objective.evaluations = int(tensors["gradients"])
    run.film = {int(number): points for number, points in part("film.").items()}
    run.history = [dict(row) for row in record["history"]]
