"""Finite volumes for -div(k grad u) + c u = f on a Cartesian box, with the coefficient in cells or on their faces.

Every equation is integrated over its cell, so that A is symmetric on stretched grids too, and what leaves a cell enters
its neighbour. The flux through a face is the difference of both values over the resistance between the centres: that of
half a cell on either side, in series. This is the harmonic mean of k, weighted by distance; where k jumps at faces, it
is exact for solutions that are linear on either side (Patankar, Numerical Heat Transfer and Fluid Flow, 1980, section
4.2; LeVeque, Finite Difference Methods, 2007, section 2.15).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from deepcd.pde.boundaries import Boundary, ends, ends_of
from deepcd.pde.cell_systems import CellSystem
from deepcd.pde.face_weights import FaceWeights
from deepcd.pde.grids import Cell, Grid

F64 = NDArray[np.float64]
Coefficient = ArrayLike | tuple[ArrayLike, ...]
Spacing = float | Sequence[ArrayLike]


@dataclass(frozen=True, eq=False, repr=False)
class DiffusionSystem(CellSystem):
    """The matrix of a diffusion equation and the places of its unknowns; :func:`diffusion` makes it.

    Parameters
    ----------
    weights : FaceWeights
        The operator integrated over each cell, as fields over the box.
    widths : tuple of ndarray of float64
        Widths of the cells along each axis, in units of length.
    cells : ndarray of int64, shape (n,)
        Flat index (C order) into the box of each unknown, ascending.
    isolated : ndarray of int64, shape (k,)
        Flat indices of the fluid cells that nothing is coupled to. Their row of A is empty, so they are not unknowns.
    gains : tuple
        What a boundary value of 1 adds to the right-hand side: per axis a pair of arrays over the cells at the low and
        the high end, or None if it is periodic.
    """

    weights: FaceWeights
    widths: tuple[F64, ...]
    cells: NDArray[np.int64]
    isolated: NDArray[np.int64]
    gains: tuple[tuple[F64, F64] | None, ...]
    opening: ClassVar[str] = "boundary values or reaction"

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of cells of the box per axis."""
        return self.weights.extra.shape

    @cached_property
    def A(self) -> csr_array:
        """The matrix, shape (n, n), symmetric positive semidefinite, in units of the coefficient times length^(d - 2).

        It is assembled when it is asked for. Row i is the equation of cell i integrated over its volume.
        """
        return self.weights.matrix()

    @cached_property
    def volumes(self) -> F64:
        """The volume (in 2D the area) of the cell of each unknown, shape (n,), in units of length^d."""
        return self.from_field(np.broadcast_to(_product(_along(self.widths)), self.shape))

    @cached_property
    def centers(self) -> tuple[F64, ...]:
        """Coordinates of the centres of cells, one broadcastable array per axis; the box starts at the origin."""
        return _along([np.cumsum(width) - 0.5 * width for width in self.widths])

    @cached_property
    def component(self) -> NDArray[np.int32]:
        """Connected component of each unknown, shape (n,): 0, 1, ... in the order of the components' first cells."""
        return np.asarray(connected_components(self.A, directed=False)[1], dtype=np.int32)

    @cached_property
    def sealed(self) -> NDArray[np.bool_]:
        """Mask of the components without Dirichlet data, Robin data or reaction; A maps the constant on them to 0."""
        tied = self.from_field(self.weights.extra) > 0
        return np.bincount(self.component, weights=tied) == 0

    def rhs(self, source: ArrayLike = 0.0, values: float | Sequence[Any] = 0.0) -> F64:
        """Return the right-hand side of A u = b for a source and boundary data.

        Parameters
        ----------
        source : array_like, shape of the box
            The source f at the centres of cells, or a number.
        values : float or sequence, default 0.0
            The data g at the ends of the box: a number for all ends, or one entry per axis, which is a number or a pair
            (low, high). Either of these is a number or an array over the cells of that end, of the shape of the box
            without that axis. Dirichlet data is u, Robin data k du/dn + alpha u, Neumann data k du/dn, where n points
            out of the box. The entry of a periodic axis has no meaning.

        Returns
        -------
        ndarray of float64, shape (n,)
            The source times the volumes plus what enters through the ends.

        Raises
        ------
        ValueError
            If an argument is of the wrong shape.

        Examples
        --------
        >>> from scipy.sparse.linalg import spsolve
        >>> from deepcd.pde import diffusion
        >>> rod = diffusion((4, 1), 2.0, boundary=["dirichlet", "neumann"])  # from u = 0 to u = 8 on a length of 4
        >>> spsolve(rod.A, rod.rhs(values=[(0.0, 8.0), 0.0])).round(9).tolist()
        [1.0, 3.0, 5.0, 7.0]
        """
        field = np.asarray(source, dtype=np.float64)
        if field.shape not in ((), self.shape):
            raise ValueError(f"source must be a number or an array of shape {self.shape}, got shape {field.shape}")
        b = self.volumes * self.from_field(np.broadcast_to(field, self.shape))
        entries = _entries(values, len(self.shape))
        if len(entries) != len(self.shape):
            raise ValueError(f"values must be a number or have one entry per axis ({len(self.shape)}), got {values!r}")
        entering = np.zeros(self.shape)
        for axis, (entry, gains) in enumerate(zip(entries, self.gains, strict=True)):
            if gains is None:
                continue
            pair = _entries(entry, 2)
            if len(pair) != 2:
                raise ValueError(f"values along axis {axis} must be a number or a pair (low, high), got {entry!r}")
            for end, gain, value in zip((0, -1), gains, pair, strict=True):
                data = np.asarray(value, dtype=np.float64)
                if data.shape not in ((), gain.shape):
                    raise ValueError(
                        f"values at an end of axis {axis} must be a number or an array of shape {gain.shape}, "
                        f"got shape {data.shape}"
                    )
                np.moveaxis(entering, axis, 0)[end] += gain * data
        return b + self.from_field(entering)


def diffusion(
    grid: Grid | Sequence[int],
    coefficient: Coefficient = 1.0,
    *,
    spacing: Spacing | None = None,
    reaction: ArrayLike = 0.0,
    boundary: Boundary | None = None,
) -> DiffusionSystem:
    """Assemble the finite volumes of -div(k grad u) + c u over the fluid cells of a box, in C order.

    Parameters
    ----------
    grid : Grid or sequence of int
        Number of cells per axis, two or three. In a Grid, solid cells take part in no flux, and u = 0 holds in air, at
        the place that `air_at` says.
    coefficient : float, array_like or tuple, default 1.0
        The coefficient k, finite and not negative; nothing flows where it is 0. A number, an array with one number per
        cell, or a tuple of one array per axis over the faces, of the shape of the box but one longer along its axis. On
        a periodic axis the first and the last face are the same, and the first counts.
    spacing : float or sequence, optional
        Width of the cells in units of length: a number for all axes, or one entry per axis, which is a number or an
        array with one width per cell. Default: that of the Grid, otherwise 1.
    reaction : float or array_like, default 0.0
        The c of each cell, finite and not negative.
    boundary : str or sequence, optional
        "dirichlet", "neumann", ("robin", alpha) or "periodic" for all axes, or one entry per axis: one of these, or a
        pair (low, high) of the first three. Data is given on the end faces, to :meth:`DiffusionSystem.rhs`; Robin means
        k du/dn + alpha u. Default: the walls of the Grid, otherwise "neumann".

    Returns
    -------
    DiffusionSystem
        The system; its A is symmetric, since every row is integrated over the volume of its cell.

    Raises
    ------
    ValueError
        If an argument is malformed.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.pde import diffusion
    >>> k = np.array([[1.0, 1.0], [3.0, 3.0]])
    >>> system = diffusion((2, 2), k, boundary=[("dirichlet", "neumann"), "neumann"])
    >>> system.A.toarray().tolist()
    [[4.5, -1.0, -1.5, 0.0], [-1.0, 4.5, 0.0, -1.5], [-1.5, 0.0, 4.5, -3.0], [0.0, -1.5, -3.0, 4.5]]
    >>> system.rhs(source=2.0, values=[(10.0, 0.0), 0.0]).tolist()
    [22.0, 22.0, 2.0, 2.0]
    """
    box = grid if isinstance(grid, Grid) else Grid(np.zeros(shape_of(grid, "grid", "a Grid, or "), dtype=np.uint8))
    shape, ndim = box.shape, len(box.shape)
    at_ends = ends_of(box) if boundary is None else ends(boundary, ndim)
    if any(pair is None and n < 3 for pair, n in zip(at_ends, shape, strict=True)):
        raise ValueError(f"a periodic axis needs at least three cells, got shape {shape}")
    widths = widths_of(box.spacing if spacing is None else spacing, shape)
    k, c = _coefficient(coefficient, shape), _checked(reaction, shape, "reaction")

    along = _along(widths)
    extra = np.where(box.fluid, c * _product(along), 0.0)
    faces: list[F64] = []
    gains: list[tuple[F64, F64] | None] = []
    for axis, pair in enumerate(at_ends):
        # Here the axis comes first. Its faces are numbered from 0 to n; face i lies between the cells i - 1 and i.
        before, after = _resistances(k, widths, axis, pair is None)
        area = np.moveaxis(_product([np.ones((1,) * ndim), *along[:axis], *along[axis + 1 :]]), axis, 0)
        inside, tied = np.moveaxis(box.cells, axis, 0), np.moveaxis(extra, axis, 0)
        beyond = [np.full_like(inside[:1], Cell.SOLID)] * 2 if pair else [inside[-1:], inside[:1]]
        kind = np.concatenate([beyond[0], inside, beyond[1]])
        low, high = kind[:-1], kind[1:]
        weight = np.where((low == Cell.FLUID) & (high == Cell.FLUID), area / (before + after), 0.0)
        faces.append(np.ascontiguousarray(np.moveaxis(weight[1:], 0, axis)))
        for fluid, other, near, part in ((low, high, before, slice(1, None)), (high, low, after, slice(-1))):
            surface = ((fluid == Cell.FLUID) & (other == Cell.AIR))[part]
            if surface.any():
                resistance = near if box.air_at == "face" else before + after
                tied += np.where(surface, (area / resistance)[part], 0.0)
        if pair is None:
            gains.append(None)
            continue
        gained = []
        for end, resistance, condition in zip((0, -1), (after[0], before[-1]), pair, strict=True):
            t, s = condition.exchange(resistance)
            opening = np.where(inside[end] == Cell.FLUID, area[0], 0.0)
            tied[end] += opening * t
            gained.append(opening * s)
        gains.append((gained[0], gained[1]))
    weights = FaceWeights(tuple(faces), extra)
    cells = weights.cells()
    isolated = np.setdiff1d(np.flatnonzero(box.fluid), cells, assume_unique=True)
    return DiffusionSystem(weights, widths, cells, isolated, tuple(gains))


def _resistances(k: F64 | tuple[F64, ...], widths: Sequence[F64], axis: int, repeats: bool) -> tuple[F64, F64]:
    """Return the resistances per area from every face of an axis to the centres before and after it, the axis first.

    Beyond the ends of the box the end cells are mirrored, or those of the other end follow.
    """
    half = 0.5 * np.pad(widths[axis], 1, mode="wrap" if repeats else "edge")
    half = half.reshape(-1, *[1] * (len(widths) - 1))
    if isinstance(k, tuple):
        on_faces = np.moveaxis(k[axis], axis, 0)
        low = high = np.concatenate([on_faces[:-1], on_faces[:1]]) if repeats else on_faces
    else:
        in_cells = np.moveaxis(k, axis, 0)
        first, last = in_cells[:1], in_cells[-1:]
        low = np.concatenate([last if repeats else first, in_cells])
        high = np.concatenate([in_cells, first if repeats else last])
    with np.errstate(divide="ignore", over="ignore"):  # nothing flows where k is 0
        return half[:-1] / low, half[1:] / high


def shape_of(cells: Sequence[int], name: str, others: str = "") -> tuple[int, ...]:
    """Return the shape of a box as a tuple, and refuse what is none.

    Parameters
    ----------
    cells : sequence of int
        Number of cells per axis, two or three.
    name : str
        Name of the argument in the message.
    others : str, default ""
        What else the argument may be, in the message, with a comma and "or" behind it.

    Returns
    -------
    tuple of int

    Raises
    ------
    ValueError
        If there are not two or three positive integers.

    Examples
    --------
    >>> from deepcd.pde.diffusion import shape_of
    >>> shape_of([4, 3], "shape")
    (4, 3)
    """
    if len(cells) not in (2, 3) or any(int(n) != n or n < 1 for n in cells):
        raise ValueError(f"{name} must be {others}two or three positive numbers of cells, got {cells!r}")
    return tuple(int(n) for n in cells)


def _entries(values: Any, count: int) -> Sequence[Any]:
    """Return a sequence as it is, and a number as often as asked for."""
    return values if isinstance(values, Sequence) or np.ndim(values) else [values] * count


def widths_of(spacing: Spacing, shape: Sequence[int]) -> tuple[F64, ...]:
    """Return one array of the widths of cells per axis.

    Parameters
    ----------
    spacing : float or sequence
        A number for all axes, or one entry per axis, which is a number or an array with one width per cell.
    shape : sequence of int
        Number of cells per axis.

    Returns
    -------
    tuple of ndarray of float64
        New arrays of positive widths, in units of length.

    Raises
    ------
    ValueError
        If the spacing is malformed.

    Examples
    --------
    >>> from deepcd.pde.diffusion import widths_of
    >>> [width.tolist() for width in widths_of([0.5, [1.0, 2.0]], (3, 2))]
    [[0.5, 0.5, 0.5], [1.0, 2.0]]
    """
    entries = _entries(spacing, len(shape))
    if len(entries) != len(shape):
        raise ValueError(f"spacing must be a number or have one entry per axis ({len(shape)}), got {spacing!r}")
    result = []
    for axis, (entry, n) in enumerate(zip(entries, shape, strict=True)):
        width = np.asarray(entry, dtype=np.float64)
        if width.shape not in ((), (n,)):
            raise ValueError(
                f"spacing along axis {axis} must be a number or an array with one width per cell ({n}), "
                f"got shape {width.shape}"
            )
        if not ((width > 0) & np.isfinite(width)).all():
            raise ValueError(f"spacing must be positive and finite, but along axis {axis} is {entry!r}")
        result.append(np.broadcast_to(width, n).copy())
    return tuple(result)


def _coefficient(coefficient: Coefficient, shape: tuple[int, ...]) -> F64 | tuple[F64, ...]:
    if not isinstance(coefficient, tuple):
        return _checked(coefficient, shape, "coefficient")
    if len(coefficient) != len(shape):
        raise ValueError(
            f"a coefficient on faces must be a tuple of one array per axis ({len(shape)}), got {len(coefficient)}"
        )
    on_faces = [tuple(n + (d == axis) for d, n in enumerate(shape)) for axis in range(len(shape))]
    return tuple(
        _checked(k, of, f"coefficient on the faces of axis {axis}")
        for axis, (k, of) in enumerate(zip(coefficient, on_faces, strict=True))
    )


def _checked(values: ArrayLike, shape: tuple[int, ...], name: str) -> F64:
    """Return a number or an array as an array of a shape, and refuse what is negative or not finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape not in ((), shape):
        raise ValueError(f"{name} must be a number or an array of shape {shape}, got shape {array.shape}")
    array = np.broadcast_to(array, shape)
    bad = ~((array >= 0) & np.isfinite(array))
    if bad.any():
        place = tuple(int(i) for i in np.unravel_index(np.argmax(bad), shape))
        raise ValueError(f"{name} must be finite and not negative, but is {array[place]} at {place}")
    return array


def _along(widths: Sequence[F64]) -> tuple[F64, ...]:
    """Return one array per axis that broadcasts along the others."""
    return tuple(np.reshape(w, [-1 if d == axis else 1 for d in range(len(widths))]) for axis, w in enumerate(widths))


def _product(along: Sequence[F64]) -> F64:
    return functools.reduce(np.multiply, along)
