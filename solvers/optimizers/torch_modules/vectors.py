"""Tensors as one vector of float64, and the Jacobian of residuals with respect to such a vector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

F64 = NDArray[np.float64]
REAL = (torch.float32, torch.float64)
ENTRIES = 1 << 14  # entries of the gradients that one backward pass computes together; more fall out of the caches


def vector(tensors: Sequence[Tensor]) -> F64:
    """Return a copy of all entries of tensors, one tensor after the other."""
    entries: F64 = torch.cat([t.detach().reshape(-1).cpu().double() for t in tensors]).numpy()
    return entries


def pieces(theta: F64, like: Sequence[Tensor]) -> list[Tensor]:
    """Return the entries of a vector as tensors of these shapes and precisions."""
    parts = torch.from_numpy(theta).split([t.numel() for t in like])
    return [part.reshape(t.shape).to(t.dtype) for part, t in zip(parts, like, strict=True)]


def transposed_jacobian(r: Tensor, parameters: Sequence[Tensor]) -> F64:
    """Return the transposed Jacobian of residuals, by one backward pass per residual, many of them at once.

    Parameters
    ----------
    r : Tensor, shape (N,)
        Residuals with their graph.
    parameters : sequence of Tensor
        P numbers in all.

    Returns
    -------
    ndarray of float64, shape (P, N)

    Raises
    ------
    ValueError
        If r depends on none of the parameters, or a derivative is not finite.
    """
    sizes = [p.numel() for p in parameters]
    transposed = np.zeros((sum(sizes), len(r)))
    blocks = np.split(transposed, np.cumsum(sizes)[:-1])
    chunk = max(1, ENTRIES // max(transposed.shape))
    for start in range(0, len(r), chunk):
        units = r.new_zeros(min(chunk, len(r) - start), len(r))
        units.diagonal(start).fill_(1)
        rows = _pulled_back(r, parameters, units)
        if all(row is None for row in rows):
            raise ValueError("the residuals depend on none of the parameters: compute them with the module")
        for block, row in zip(blocks, rows, strict=True):
            if row is not None:
                block[:, start : start + chunk] = row.reshape(len(units), -1).cpu().numpy().T
    finite = np.isfinite(transposed).all(axis=0)
    if not finite.all():
        raise ValueError(
            f"the gradient of residual {finite.argmin()} is not finite at the current parameters: start where it is"
        )
    return transposed


def _pulled_back(r: Tensor, parameters: Sequence[Tensor], units: Tensor) -> Sequence[Tensor | None]:
    """Return the products of each row of `units` (k, N) with the Jacobian, a tensor (k, ...) per parameter."""

    def products(v: Tensor, batched: bool) -> Sequence[Tensor | None]:
        return torch.autograd.grad(r, parameters, v, retain_graph=True, allow_unused=True, is_grads_batched=batched)

    try:
        return products(units, True)
    except RuntimeError:  # vmap does not know an operation of this graph
        each = [products(unit, False) for unit in units]
    return [None if rows[0] is None else torch.stack(rows) for rows in zip(*each, strict=True)]


def refuse_infinite(name: str, values: Tensor) -> None:
    """Raise if an entry is not a finite number."""
    bad = ~values.isfinite().reshape(-1)
    if bad.any():
        raise ValueError(
            f"entry {int(bad.int().argmax())} of the {name} at the current parameters is "
            f"{values.reshape(-1)[bad][0].item()}: start where they are finite"
        )
