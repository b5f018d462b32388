"""The network of the Deep Conjugate Direction Method as published, and what makes a preconditioner of it.

Kaneda, Akar, Chen, Kala, Hyde and Teran, "A Deep Conjugate Direction Method for Iteratively Solving Linear Systems",
ICML 2023. A convolutional network sees the residual alone, divided by its norm, and no geometry: it has learned the
inverse of one matrix, that of a box, and conjugate directions mend what differs. It is neither linear nor symmetric.
"""

from __future__ import annotations

from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deepcd.solvers.grid_discovery import Embedding

F32 = NDArray[np.float32]
FILTERS = 16
SMALL = 20_480  # numbers: images of fewer that come alone are left, by torch, to a way that is ten times slower
# Axes, and residual blocks before the pooling, under it, and after it. The two networks of the paper are called after
# the box they were trained on; the third is the first of them in two dimensions.
VARIANTS = {"64": (3, 1, 3, 2), "128": (3, 2, 5, 3), "2d": (2, 1, 3, 2)}


class Block(nn.Module):
    """x + relu(conv(relu(conv(x)))): the addition comes after the last relu."""

    def __init__(self, conv: Any) -> None:
        super().__init__()
        self.first, self.second = conv(FILTERS, FILTERS), conv(FILTERS, FILTERS)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum."""
        inner = functional.relu(self.second(functional.relu(self.first(x))))
        return x + inner


class DCDMNetwork(nn.Module):
    """Convolutions of three cells and sixteen channels on two grids: direction = network(residual of length one).

    Parameters
    ----------
    variant : {"64", "128", "2d"}
        The two networks of the paper, of 97,457 and 152,881 parameters, or the smaller one in two dimensions.

    Raises
    ------
    ValueError
        If there is no such variant.

    Examples
    --------
    >>> import torch
    >>> from deepcd.solvers.preconditioners.dcdm import DCDMNetwork
    >>> [sum(p.numel() for p in DCDMNetwork(variant).parameters()) for variant in ("64", "128")]
    [97457, 152881]
    >>> DCDMNetwork("64")(torch.zeros(2, 8, 9, 10)).shape
    torch.Size([2, 8, 9, 10])
    """

    def __init__(self, variant: str | int = "64") -> None:
        super().__init__()
        self.variant = str(variant)
        if self.variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(map(repr, VARIANTS))}, got {variant!r}")
        self.ndim, before, under, after = VARIANTS[self.variant]
        layer = nn.Conv3d if self.ndim == 3 else nn.Conv2d

        def conv(inputs: int, outputs: int, width: int = 3) -> nn.Module:
            return layer(inputs, outputs, width, padding=width // 2)

        def blocks(number: int) -> nn.Sequential:
            return nn.Sequential(*(Block(conv) for _ in range(number)))

        self.lift, self.enter = conv(1, FILTERS), conv(FILTERS, FILTERS)
        self.before, self.leave = blocks(before), conv(FILTERS, FILTERS)
        self.under, self.after = blocks(under), blocks(after)
        self.sum = conv(FILTERS, 1, 1)

    def forward(self, r: Tensor) -> Tensor:
        """Return directions for residuals of length one.

        Parameters
        ----------
        r : Tensor of float32, shape (batch, n0, n1) or (batch, n0, n1, n2)
            Zero where there is no unknown. Odd edges are filled up with a layer of zeros.

        Returns
        -------
        Tensor of float32, of the same shape
        """
        shape = r.shape[1:]
        if len(shape) != self.ndim:
            raise ValueError(f"r must have a batch and {self.ndim} axes, got shape {tuple(r.shape)}")
        odd = [side for n in reversed(shape) for side in (0, n % 2)]
        x = functional.pad(r[:, None], odd)
        if len(r) == 1 and FILTERS * shape[0] * shape[1] <= SMALL:
            x = x.expand(2, *x.shape[1:])
        x = functional.relu(self.enter(self.lift(x)))
        skipped = functional.relu(self.leave(self.before(x)))
        pool = functional.avg_pool3d if self.ndim == 3 else functional.avg_pool2d
        x = functional.interpolate(self.under(pool(skipped, 2)), scale_factor=2.0, mode="nearest")
        x = self.sum(self.after(x + skipped))
        return x[(slice(len(r)), 0, *(slice(n) for n in shape))]


class DCDM:
    """M r = |r| network(r / |r|) on the box of an embedding.

    Parameters
    ----------
    embedding : Embedding
    weights : dict of str to float32 ndarray
        Parameters of the network.
    variant : {"64", "128", "2d"}
        Of the network.
    normalise : bool, default True
        Divide by the norm, which the published method does; without it M is what the ablation is about.
    threads : int, default 1
        Of torch, while M is applied.

    Raises
    ------
    ValueError
        If the network is one for another number of axes.
    """

    name = "dcdm"
    symmetric = linear = False

    def __init__(
        self,
        embedding: Embedding,
        weights: dict[str, Any],
        variant: str,
        normalise: bool = True,
        threads: int = 1,
    ) -> None:
        self.network = DCDMNetwork(variant)
        if self.network.ndim != len(embedding.shape):
            raise ValueError(
                f"a DCDM network of {self.network.ndim} axes was given, but the grid has {len(embedding.shape)}; "
                "train one with `deepcd train-dcdm`"
            )
        self.network.load_state_dict({name: torch.from_numpy(np.asarray(value)) for name, value in weights.items()})
        self.network.requires_grad_(False)
        self._embedding, self._normalise, self._threads = embedding, normalise, threads
        self._inside = tuple(slice(1, -1) for _ in embedding.shape)
        self._unknown = torch.from_numpy((embedding.diagonal[self._inside] > 0).astype(np.float32))

    @property
    def work(self) -> float:
        """Passes over the finest grid per iteration: each convolution reads and writes sixteen channels."""
        before, under, after = VARIANTS[self.network.variant][1:]
        fine, coarse = 3 + 2 * (before + after), 2 * under
        return 4.0 + 2 * FILTERS * (fine + coarse / 2**self.network.ndim)

    def zeros(self) -> F32:
        """Return a zero vector on the padded box, float32."""
        return np.zeros(self._embedding.diagonal.size, dtype=np.float32)

    def twin(self, threads: int) -> DCDM:
        """Return the same with threads of its own; torch keeps no work vectors."""
        other = copy(self)
        other._threads = threads
        return other

    def apply(self, r: NDArray[Any], z: NDArray[Any]) -> float:
        """Set z to M r and return r.z."""
        shape = self._embedding.diagonal.shape
        size = float(np.linalg.norm(r)) if self._normalise else 1.0
        inner = np.array(r.reshape(shape)[self._inside], dtype=np.float32, order="C")  # a copy, of a chain as well
        if size > 0:
            inner /= np.float32(size)
        with torch_threads(self._threads), torch.inference_mode():
            direction = self.network(torch.from_numpy(inner)[None])[0] * self._unknown
        z[...] = 0
        z.reshape(shape)[self._inside] = direction.numpy() * np.float32(size)
        return float(np.dot(r.astype(np.float64), z))

    def __str__(self) -> str:
        """Return what it is."""
        return f"dcdm: the network {self.network.variant!r} of Kaneda et al., no geometry"


def variant_of(architecture: str) -> str:
    """Return the variant that a weight file's architecture names, such as "dcdm-64/1".

    Raises
    ------
    ValueError
        If it is another network.
    """
    variant = architecture.removeprefix("dcdm-").removesuffix("/1")
    if architecture != f"dcdm-{variant}/1" or variant not in VARIANTS:
        known = ", ".join(f"'dcdm-{name}/1'" for name in VARIANTS)
        raise ValueError(f"the weights are those of {architecture!r}; DCDM networks are {known}")
    return variant


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let torch compute with so many threads for a while."""
    before = torch.get_num_threads()
    if before == number:
        yield
        return
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
