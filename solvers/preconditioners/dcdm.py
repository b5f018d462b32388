"""The Deep Conjugate Direction Method's network as a preconditioner.

Kaneda, Akar, Chen, Kala, Hyde and Teran, "A Deep Conjugate Direction Method for Iteratively Solving Linear Systems",
ICML 2023. The network sees only the residual, divided by its norm. It has learned the inverse of one matrix, that of a
box without obstacles, and conjugate directions correct what differs. It is neither linear nor symmetric.
"""

from __future__ import annotations

import math
from copy import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deepcd.solvers.learned.dcdm_network import DCDMNetwork
from deepcd.solvers.learned.torch_threads import torch_threads

F32 = NDArray[np.float32]


class DCDM:
    """The map M r = |r| network(r / |r|) on the padded box of a grid.

    Parameters
    ----------
    shape : tuple of 2 or 3 ints
        Cells per axis without padding.
    diagonal : ndarray of uint8, shape of the padded box
        Zero where there is no unknown, and nowhere else.
    weights : dict of str to float32 ndarray
        Parameters of the network.
    variant : {"64", "128", "2d"}
        Variant of the network.
    normalise : bool, default True
        Whether the residual is divided by its norm, as published. False, for `benchmarks/dcdm.py`, shows what the
        division contributes.
    threads : int, default 1
        Number of threads that torch uses while M is applied.

    Raises
    ------
    ValueError
        If the network is for another number of axes than the grid has.
    """

    name = "dcdm"
    symmetric = linear = False

    def __init__(
        self,
        shape: tuple[int, ...],
        diagonal: NDArray[np.uint8],
        weights: dict[str, Any],
        variant: str,
        normalise: bool = True,
        threads: int = 1,
    ) -> None:
        self.network = DCDMNetwork(variant)
        if self.network.ndim != len(shape):
            raise ValueError(
                f"a DCDM network of {self.network.ndim} axes was given, but the grid has {len(shape)}; "
                "train one with `deepcd train-dcdm`"
            )
        self.network.load_state_dict({name: torch.from_numpy(np.asarray(value)) for name, value in weights.items()})
        self.network.requires_grad_(False)
        self._padded, self._normalise, self._threads = diagonal.shape, normalise, threads
        self._inside = tuple(slice(1, -1) for _ in shape)
        self._unknown = torch.from_numpy((diagonal[self._inside] > 0).astype(np.float32))

    @property
    def work(self) -> float:
        """Passes over the finest grid per iteration."""
        return 4.0 + self.network.work

    def zeros(self) -> F32:
        """Return a zero vector on the padded box, float32."""
        return np.zeros(math.prod(self._padded), dtype=np.float32)

    def twin(self, threads: int) -> DCDM:
        """Return a copy that uses another number of threads; torch keeps no work vectors that would be shared."""
        other = copy(self)
        other._threads = threads
        return other

    def apply(self, r: NDArray[Any], z: NDArray[Any]) -> float:
        """Set z to M r and return r.z."""
        shape = self._padded
        size = float(np.linalg.norm(r)) if self._normalise else 1.0
        inner = np.array(r.reshape(shape)[self._inside], dtype=np.float32, order="C")  # a copy, for a chain as well
        if size > 0:
            inner /= np.float32(size)
        with torch_threads(self._threads), torch.inference_mode():
            direction = self.network(torch.from_numpy(inner)[None])[0] * self._unknown
        z[...] = 0
        z.reshape(shape)[self._inside] = direction.numpy() * np.float32(size)
        return float(np.dot(r.astype(np.float64), z))

    def __str__(self) -> str:
        """Return one line that names the network."""
        return f"dcdm: the network {self.network.variant!r} of Kaneda et al., no geometry"
