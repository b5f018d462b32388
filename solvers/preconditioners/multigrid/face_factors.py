"""Learned factors of the coarse operators of multigrid on face weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.solvers.kernels.faces import factors, forming
from deepcd.solvers.kernels.faces.records import F32, Faces
from deepcd.solvers.kernels.lanes import LANES
from deepcd.solvers.learned.face_architecture import FACTORS, FEATURES, HIGHEST, KINDS, LOWEST
from deepcd.solvers.preconditioners.multigrid.face_levels import Coarser, FaceLevel

BLOCK = 512  # cells that are looked at together: what is read of them stays in the first-level cache
Network = list[F32]  # of each layer the weights, outputs first, and in the last column the biases


def networks_of(parameters: dict[str, Any]) -> list[Network]:
    """Return the layers of the networks in a weight file, filled up by zeros to multiples of eight outputs."""
    networks = []
    for kind in range(KINDS):
        layers: Network = []
        for layer in (0, 2, 4):
            weight, bias = parameters[f"kinds.{kind}.{layer}.weight"], parameters[f"kinds.{kind}.{layer}.bias"]
            inputs = len(layers[-1]) if layers else FEATURES
            full = np.zeros((-(-len(bias) // 8) * 8, inputs + 1), dtype=np.float32)
            full[: len(bias), : weight.shape[1]], full[: len(bias), -1] = weight, bias
            layers.append(full)
        networks.append(layers)
    return networks


def features(coarse: Coarser, start: int, stop: int) -> F32:
    """Return what a network reads of some entries of a level's padded box, shape (FEATURES, entries)."""
    (_, s, _), f, diagonal, _ = coarse.level
    out = np.empty((FEATURES, stop - start), dtype=np.float32)
    factors.look(s, coarse.halved, (f.w0, f.w1, f.w2), tuple(coarse.lumped), f.extra, diagonal, f.inverse, start, out)
    return out


def with_factors(coarse: Coarser, network: Network) -> Coarser:
    """Return the same level with the factors that a network answers."""
    return coarse._replace(level=scaled(coarse.level, answers(coarse, network)))


def answers(coarse: Coarser, network: Network) -> F32:
    """Return the logarithms of the factors of all cells, shape (FACTORS, padded box)."""
    plane, size = coarse.level.grid.s[0], coarse.level.diagonal.size
    out = np.zeros((FACTORS, size), dtype=np.float32)
    scratch = [np.empty(max(map(len, network)) * LANES, dtype=np.float32) for _ in range(2)]
    seen = np.zeros((FEATURES, BLOCK), dtype=np.float32)
    for start in range(plane, size - plane, BLOCK):
        stop = min(start + BLOCK, size - plane)
        seen[:, : stop - start] = features(coarse, start, stop)
        factors.answer(seen.ravel(), BLOCK, *network, *scratch, out[:, :stop], start)
    return np.clip(out, np.array(LOWEST, dtype=np.float32)[:, None], np.array(HIGHEST, dtype=np.float32)[:, None])


def scaled(level: FaceLevel, logarithms: NDArray[np.float32]) -> FaceLevel:
    """Return a level whose operator and inverse diagonal have factors, shape (FACTORS, padded box)."""
    (n, s, wrap), f, _, sealed = level
    own = np.exp(logarithms[:4] * np.array([0.5, 0.5, 0.5, 1], dtype=np.float32)[:, None])
    first, last = f.w0.copy(), f.w2.copy()
    faces = [first, first if s[1] == 0 else f.w1.copy(), last]
    for axis in range(3):
        if n[axis] > 1:
            factors.scale_faces(n, s, wrap, axis, own[axis], faces[axis])
    forming.close_faces(n, s, wrap, *faces)
    fields = Faces(faces[0], faces[1], faces[2], f.extra * own[3], np.zeros_like(f.inverse))
    made = FaceLevel.of(level.grid, fields, sealed)
    forming.invert(made.diagonal, made.faces.inverse)
    np.multiply(made.faces.inverse, np.exp(logarithms[4]), out=made.faces.inverse)
    return made
