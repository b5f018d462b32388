"""What holds at the ends of a box: given values (Dirichlet), given fluxes (Neumann), a mixture (Robin), or repetition.

An end is reduced to the two numbers that finite volumes need. With R the resistance per area between the end and the
centre of the cell beside it, and g what is given there, the flux per area out of the cell is t u - s g, where u is the
value at the centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcd.pde.grids import Grid

Boundary = str | Sequence[Any]

KINDS = 'each end is "dirichlet", "neumann" or ("robin", alpha), an axis is one of these, a pair of them or "periodic"'


class End(NamedTuple):
    """The condition at one end of an axis.

    Parameters
    ----------
    kind : {"dirichlet", "robin"}
        "dirichlet": u = g. "robin": k du/dn + alpha u = g, where n points out of the box; Neumann with alpha 0.
    number : float
        Distance of the place where u is given, in halves of a cell; or alpha, not negative.
    """

    kind: str
    number: float

    def exchange(self, resistance: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return t and s of a flux t u - s g out of the cells beside the end.

        Parameters
        ----------
        resistance : ndarray of float64
            Resistance per area between the end and the centres of these cells; infinite where nothing flows.

        Returns
        -------
        t, s : ndarray of float64
            Numbers of the same shape, not negative.

        Examples
        --------
        >>> import numpy as np
        >>> from deepcd.pde.boundaries import End
        >>> half = np.array([0.25])
        >>> [(t.tolist(), s.tolist()) for t, s in (End("dirichlet", 1).exchange(half), End("robin", 4).exchange(half))]
        [([4.0], [4.0]), ([2.0], [0.5])]
        """
        if self.kind == "dirichlet":
            t = 1 / (self.number * resistance)
            return t, t
        if self.number == 0:
            return np.zeros_like(resistance), np.ones_like(resistance)
        s = 1 / (1 + self.number * resistance)
        return self.number * s, s


Ends = tuple[tuple[End, End] | None, ...]  # per axis the low and the high end, None if it is periodic


def ends_of(grid: Grid) -> Ends:
    """Return what the walls of a grid mean: no flux through solid ones, the value 0 in air."""
    meaning = {"solid": End("robin", 0.0), "air": End("dirichlet", 2.0 if grid.air_at == "center" else 1.0)}
    return tuple(
        None if axis in grid.periodic else (meaning[str(pair[0])], meaning[str(pair[1])])
        for axis, pair in enumerate(grid.walls)
    )


def ends(boundary: Boundary, ndim: int) -> Ends:
    """Expand the short forms of a boundary.

    Parameters
    ----------
    boundary : str or sequence
        "dirichlet", "neumann", ("robin", alpha) or "periodic" for all axes, or one entry per axis: one of these, or a
        pair of the first three, for the low and the high end.
    ndim : int
        Number of axes.

    Returns
    -------
    tuple of (End, End) or None
        The ends of every axis, None for a periodic one. Values are given on the faces of the end cells.

    Raises
    ------
    ValueError
        If an entry is malformed.

    Examples
    --------
    >>> from deepcd.pde.boundaries import ends
    >>> ends(["periodic", ("dirichlet", ("robin", 2.0))], 2)
    (None, (End(kind='dirichlet', number=1.0), End(kind='robin', number=2.0)))
    """
    if not isinstance(boundary, Sequence):
        raise ValueError(f"{KINDS}; got {boundary!r}")
    entries = [boundary] * ndim if _is_one(boundary) else boundary
    if len(entries) != ndim:
        raise ValueError(f"boundary needs one entry per axis ({ndim}), got {len(entries)}: {boundary!r}")
    result: list[tuple[End, End] | None] = []
    for entry in entries:
        if isinstance(entry, str) and entry == "periodic":
            result.append(None)
            continue
        pair = [entry] * 2 if _is_one(entry) else entry
        if not isinstance(pair, Sequence) or len(pair) != 2:
            raise ValueError(f"{KINDS}; got {entry!r}")
        result.append((_end(pair[0]), _end(pair[1])))
    return tuple(result)


def _is_one(entry: Any) -> bool:
    """Return whether an entry is one condition, rather than a sequence of them."""
    if isinstance(entry, str):
        return True
    return isinstance(entry, Sequence) and len(entry) == 2 and isinstance(entry[0], str) and entry[0] == "robin"


def _end(entry: Any) -> End:
    if isinstance(entry, str):
        if entry == "dirichlet":
            return End("dirichlet", 1.0)
        if entry == "neumann":
            return End("robin", 0.0)
    elif isinstance(entry, Sequence) and len(entry) == 2 and entry[0] == "robin":
        alpha = entry[1]
        if not (isinstance(alpha, Real) and 0 <= float(alpha) < np.inf):
            raise ValueError(f"the alpha of a Robin condition must be finite and not negative, got {alpha!r}")
        return End("robin", float(alpha))
    raise ValueError(f"{KINDS}; got {entry!r}")
