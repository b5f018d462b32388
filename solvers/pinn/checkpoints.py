"""Checkpoints of a run: everything that is needed to continue it bit for bit, in one file that is never half written.

A checkpoint is a weight file (`deepcd.data.weight_files`: safetensors, a JSON record, a SHA-256) of architecture
"pinn/3".
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from deepcd.data import weight_files
from deepcd.solvers.pinn.run import Run

NAME = "checkpoint.safetensors"
ARCHITECTURE = "pinn/3"  # the number rises whenever tensors or settings change


def save(path: Path, run: Run) -> None:
    """Write a checkpoint; the previous one stays until the new one is complete.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written.
    """
    tensors: dict[str, Any] = {f"network.{k}": v.numpy() for k, v in run.network.state_dict().items() if v.numel()}
    tensors |= {f"sampler.{k}": v.numpy() for k, v in run.sampler.state_dict().items()}
    tensors |= {f"method.{k}": v for k, v in run.method.state().items()}
    tensors |= {f"film.{number}": points for number, points in run.film.items()}
    tensors |= {f"run.{k}": v for k, v in run.state().items()}
    record = {
        "architecture": ARCHITECTURE,
        "problem": run.problem.name,
        "settings": asdict(run.settings),
        "history": run.history,
    }
    weight_files.save(path, tensors, record)


def load(path: Path, run: Run) -> None:
    """Bring a run that has not begun to where a checkpoint left off.

    Raises
    ------
    WeightFileError
        If the file is missing or damaged.
    ValueError
        If the file is not a checkpoint of this version, or belongs to another problem or to other settings.
    """
    tensors, record = weight_files.load(path, None)
    if record["architecture"] != ARCHITECTURE:
        raise ValueError(
            f"{path} holds {record['architecture']!r}, but this version resumes {ARCHITECTURE!r} only: "
            "start anew in another folder"
        )
    ours = {"problem": run.problem.name, **asdict(run.settings)}
    theirs = {"problem": record["problem"], **record["settings"]}
    for name, value in ours.items():
        if theirs.get(name) != value:
            raise ValueError(
                f"{path} belongs to a run with {name} = {theirs.get(name)}, not {value}: resume with its settings"
            )

    def part(prefix: str) -> dict[str, Any]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    network = run.network.state_dict()
    run.network.load_state_dict(network | {k: torch.from_numpy(v.copy()) for k, v in part("network.").items()})
    run.sampler.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in part("sampler.").items()})
    run.method.load(part("method."))
    run.history = [dict(row) for row in record["history"]]
    run.restore(part("run."))
    run.film = {int(number): points for number, points in part("film.").items()}
