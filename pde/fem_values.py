"""Values of what an equation is given, at points: numbers, functions of the coordinates, or one of these per part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcd.pde.volume_meshes import VolumeMesh

F64 = NDArray[np.float64]
Value = float | Callable[[F64], Any]  # a function takes the coordinates, shape (d, ...), and answers in shape (...)
Field = Value | Mapping[str, Value]
Row = list[Value] | tuple[Value, ...]
Matrix = list[Row] | tuple[Row, ...]  # of d rows
SKEW = 1e-12  # largest difference between an entry of a symmetric matrix and its mirror image, relative to the entries


def sampled(value: Value, x: F64, what: str, least: float = -np.inf, *, open_: bool = False) -> F64:
    """Return a given value at points.

    Parameters
    ----------
    value : float or callable
        What was given.
    x : ndarray of float64, shape (d, ...)
        Coordinates of the points.
    what : str
        What it is, for messages.
    least : float, default -inf
        The smallest value that makes sense.
    open_ : bool, default False
        Whether that one does not either.

    Returns
    -------
    ndarray of float64, shape (...)

    Raises
    ------
    TypeError, ValueError
        If it is not a number nor a function, if it answers in another shape, or if a value is complex, not finite or
        too small.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.pde.fem_values import sampled
    >>> sampled(lambda x: x[0] + 1, np.zeros((2, 3)), "source")
    array([1., 1., 1.])
    """
    if callable(value):
        answer = np.asarray(value(x.copy()))
    elif isinstance(value, Real | np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        answer = np.asarray(value)
    else:
        raise TypeError(f"{what} must be a number or a function of the coordinates, got {type(value).__name__}")
    if answer.dtype.kind not in "fiub":
        raise TypeError(f"{what} must be real, got values of type {answer.dtype}")
    try:
        values = np.broadcast_to(answer.astype(np.float64), x.shape[1:])
    except ValueError:
        raise ValueError(
            f"{what} is given coordinates of shape {x.shape}, x[0] being the first one at every point, and must answer "
            f"with a number or in shape {x.shape[1:]}, got {answer.shape}"
        ) from None
    wrong = ~np.isfinite(values) | (values < least) | (open_ & (values <= least))
    if wrong.any():
        at = tuple(np.argwhere(wrong)[0])
        bound = "" if least == -np.inf else f" and {'above' if open_ else 'at least'} {least:g}"
        raise ValueError(f"{what} must be finite{bound}, got {values[at]} at {x[(slice(None), *at)].tolist()}")
    return values


def on_cells(
    given: Field,
    mesh: VolumeMesh,
    x: F64,
    what: str,
    *,
    fill: float | None,
    least: float = -np.inf,
    open_: bool = False,
) -> F64:
    """Return values at the quadrature points of all cells.

    Parameters
    ----------
    given : float, callable or mapping of str to these
        One for all cells, or one for each tagged part.
    mesh : VolumeMesh
        It knows the tags.
    x : ndarray of float64, shape (d, m, q)
        Coordinates of the points of each cell.
    what : str
        What it is, for messages.
    fill : float or None
        The value of cells that no part has; None if there must not be any.
    least, open_
        See `sampled`.

    Returns
    -------
    ndarray of float64, shape (m, q)

    Raises
    ------
    TypeError, ValueError
        As `sampled`; or if parts overlap, or leave cells without a value that they need.
    """
    if not isinstance(given, Mapping):
        return sampled(given, x, what, least, open_=open_)
    values = np.full(x.shape[1:], 0.0 if fill is None else fill)
    owner = np.full(x.shape[1], -1)
    for part, (tag, value) in enumerate(given.items()):
        cells = mesh.cells_of(tag, what)
        taken = owner[cells][owner[cells] >= 0]
        if taken.size:
            other = list(given)[taken[0]]
            raise ValueError(f"{what}: the parts {other!r} and {tag!r} have {taken.size} cells in common")
        owner[cells] = part
        values[cells] = sampled(value, x[:, cells], f"{what} of {tag!r}", least, open_=open_)
    left = np.count_nonzero(owner < 0)
    if fill is None and left:
        raise ValueError(f"{what} is not given in {left} of {len(owner)} cells; {mesh.tags}")
    return values


def matrices(given: Matrix, x: F64, what: str) -> F64:
    """Return a symmetric positive definite matrix at points.

    Parameters
    ----------
    given : list or tuple of d lists or tuples of d float or callable
        Its rows.
    x : ndarray of float64, shape (d, ...)
        Coordinates of the points.
    what : str
        What it is, for messages.

    Returns
    -------
    ndarray of float64, shape (d, d, ...)

    Raises
    ------
    TypeError, ValueError
        As `sampled`; or if the matrix has another shape, or is not symmetric or not positive definite somewhere.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.pde.fem_values import matrices
    >>> matrices([[2.0, lambda x: x[0]], [lambda x: x[0], 1.0]], np.ones((2, 1)), "coefficient")[..., 0].tolist()
    [[2.0, 1.0], [1.0, 1.0]]
    """
    d = len(x)
    if len(given) != d or any(not isinstance(row, list | tuple) or len(row) != d for row in given):
        raise ValueError(f"{what} as a matrix must have {d} rows of {d} entries each, got {given!r:.80}")
    K = np.array(
        [[sampled(entry, x, f"{what}[{i}][{j}]") for j, entry in enumerate(row)] for i, row in enumerate(given)]
    )
    skew = (np.abs(K - K.swapaxes(0, 1)) > SKEW * np.abs(K).max(axis=(0, 1))).any(axis=(0, 1))
    rest, definite = K, np.ones(x.shape[1:], dtype=bool)  # a matrix is positive definite if all its pivots are positive
    for _ in range(d):
        pivot = rest[0, 0]
        definite &= pivot > 0
        rest = rest[1:, 1:] - rest[1:, :1] * rest[:1, 1:] / np.where(pivot > 0, pivot, 1.0)
    for wrong, property_ in ((skew, "symmetric"), (~definite, "positive definite")):
        if wrong.any():
            at = tuple(np.argwhere(wrong)[0])
            where = x[(slice(None), *at)].tolist()
            raise ValueError(
                f"{what} must be {property_}, got {K[(slice(None), slice(None), *at)].tolist()} at {where}"
            )
    return K
