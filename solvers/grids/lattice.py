"""A lattice over the nodes of a mesh, and the operator on it that stands for the matrix: an auxiliary grid.

After Xu ("The auxiliary space method and optimal multigrid preconditioning techniques for unstructured grids",
Computing 56, 1996) a matrix of a mesh is preconditioned by a method for the same equation on a lattice. Nothing is
known of the equation but the matrix and the coordinates. Half the sum of -a_ij (x_j - x_i)^2 over a row is, per axis,
the conductivity at a node times its volume; lumped onto the faces of the lattice and smoothed, it makes an operator on
faces, as `FaceCycle` takes it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from deepcd.solvers.grids.embedding import geometry
from deepcd.solvers.kernels import lattice as passes
from deepcd.solvers.kernels import survey
from deepcd.solvers.kernels.faces import forming
from deepcd.solvers.kernels.faces.records import F32, Faces

F64 = NDArray[np.float64]

RATIO = 1.5  # spacing of the lattice, in median lengths of couplings
MOST = 3  # lattice points per node beyond which the lattice is made coarser
FEWEST = 30  # nodes per lattice point from which on points and matrix do not belong together
GRADED = 4.0  # length of couplings over that in other places up to which a lattice of one spacing serves all
LONG = 5.0  # longest over shortest axis of a neighbourhood up to which sweeps and lattice share the work
FLAT = 20.0  # the same of most nodes in three dimensions, from which on they lie on a surface
TORN = 0.5  # nodes beyond a wall, in units of the nodes on a plane, from which on one lattice point cannot serve both
ENOUGH = 8000  # nodes that are enough to look for such walls
GAP = 4.0  # lattice spacings between bodies
BODIES = 1000  # number of bodies from which on they are not moved apart
ALIKE = 3.0  # contrast of coefficients up to which only volumes differ
HOLLOW = 0.02  # share of the median volume up to which a face's energy is not divided by it
SAMPLE = 2000  # nodes and faces that quantiles are taken of
LEAST, TINY = 1e-100, 1e-30


class NoLattice(ValueError):
    """A lattice would not serve; the message says why."""


@dataclass(frozen=True, eq=False)
class Lattice:
    """A lattice over nodes, and the operator on it.

    Parameters
    ----------
    shape : tuple of 2 or 3 ints
        Points per axis, without padding.
    base : ndarray of int32, shape (n,)
        Flat index in the padded box of the lowest point of each node's lattice cell.
    fraction : ndarray of float32, shape (n, d)
        Where in its cell a node is.
    faces : Faces
        The operator divided by `unit`.
    unit : float
        Mean weight of a face, in units of A.
    contrast : float
        How much the coefficient differs over the lattice.
    sealed : ndarray of int32, flat on the padded box, or None
        Numbers of the bodies whose rows sum to zero, -1 elsewhere; None for a single body.
    """

    shape: tuple[int, ...]
    base: NDArray[np.int32]
    fraction: F32
    faces: Faces
    unit: float
    contrast: float
    sealed: NDArray[np.int32] | None

    @property
    def strides(self) -> NDArray[np.int64]:
        """Strides of the padded box along all axes."""
        return _strides(self.shape)


def _strides(shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the strides of the padded box of a shape along all axes."""
    return np.array([stride for stride in (*geometry(shape)[1], 1) if stride])


class _Nodes(NamedTuple):
    """Where nodes lie, and to which body they belong."""

    shape: tuple[int, ...]
    strides: NDArray[np.int64]
    base: NDArray[np.int32]
    fraction: F32
    body: NDArray[np.int32]
    bodies: int


def lay(A: sp.csr_array, points: F64) -> Lattice:
    """Lay a lattice over the nodes of a mesh.

    Parameters
    ----------
    A : csr_array of float64, shape (n, n)
        Symmetric, with a positive diagonal and sorted indices; each row has off-diagonal entries.
    points : ndarray of float64, shape (n, d)
        Coordinates of the node of each row, d = 2 or 3; finite.

    Returns
    -------
    Lattice

    Raises
    ------
    NoLattice
        If couplings differ too much in length, if they are far longer in one direction than in another, if the nodes
        lie on a surface, if a wall without thickness runs between them, or if points and matrix do not belong together.

    Examples
    --------
    >>> import numpy as np
    >>> from deepcd.pde import domain, poisson
    >>> from deepcd.solvers.grids.lattice import lay
    >>> A = poisson(domain((30, 20), walls="air")).A
    >>> lay(A, np.argwhere(np.ones((30, 20))).astype(float)).shape
    (15, 21)
    """
    n = points.shape[0]
    sample = np.unique(np.linspace(0, n - 1, SAMPLE).astype(np.int64))
    x = _scaled(A, points, sample)
    d = x.shape[1]  # but for axes that all points share
    squares, energies, rests = np.empty(n), np.empty((n, d)), np.empty(n)
    passes.look(A.indptr, A.indices, A.data, x, squares, energies, rests)
    low, high = np.quantile(squares[sample], [0.01, 0.99])
    if high > GRADED**2 * low:
        raise NoLattice(
            f"couplings are {math.sqrt(high / max(low, TINY)):.3g} times as long in some places as in others, "
            "and a lattice of one spacing does not serve them all"
        )
    nodes, spacing = _placed(A, x)
    if math.prod(nodes.shape) * FEWEST < n:
        raise NoLattice(
            f"a lattice as fine as the couplings are long has {math.prod(nodes.shape)} points for {n} nodes: "
            "the points are not those of the rows of A, or are in another order"
        )
    energies /= spacing**2
    volumes = (squares / spacing**2) ** (d / 2)
    sums = np.zeros(((nodes.shape[0] + 2) * int(nodes.strides[0]), 2 + 2 * d))
    passes.aggregate(nodes.base, nodes.fraction, nodes.strides, energies, volumes, rests, sums)
    _refuse_walls(A, nodes, sums)
    faces, unit, contrast = _operator(nodes, sums.T.copy())
    return Lattice(nodes.shape, nodes.base, nodes.fraction, faces, unit, contrast, _sealed(nodes, rests, len(sums)))


def _scaled(A: sp.csr_array, points: F64, sample: NDArray[np.int64]) -> F64:
    """Return coordinates in units of the spacing of a lattice, from the shortest axis of the mesh to the longest.

    Each axis has a spacing of its own, so a mesh that was stretched along one is as good as another. Axes along which
    all points are the same are left out.
    """
    low, high = np.empty((1, points.shape[1])), np.empty((1, points.shape[1]))
    passes.extents(points, np.broadcast_to(np.int32(0), len(points)), low, high)
    extent = (high - low)[0]
    if not (extent.max() == 0 or LEAST < extent.max() < 1 / LEAST):
        raise NoLattice(f"the points extend over {extent.max():.3g}, whose square float64 does not hold")
    axes = np.flatnonzero(extent > 1e-12 * extent.max())
    if axes.size < 2:
        raise NoLattice("the points lie on a line")
    moments = np.empty((sample.size, points.shape[1], points.shape[1]))
    if passes.offsets(A.indptr, A.indices, points, sample, moments) > sample.size / 2:
        raise NoLattice(
            "there are several unknowns at each point; for elasticity give B=deepcd.pde.rigid_body_modes(points)"
        )
    lengths = np.median(moments[:, axes, axes], axis=0) * axes.size
    if not lengths.min() > 0:
        raise NoLattice("most couplings lead along an axis, or nowhere")
    unit = 1 / (RATIO * np.sqrt(lengths))
    _refuse_shapes(moments[:, axes[:, None], axes] * (unit * unit[:, None]))
    order = np.argsort(extent[axes] * unit, kind="stable")
    return np.ascontiguousarray(points[:, axes[order]] * unit[order])


def _refuse_shapes(moments: F64) -> None:
    """Look for neighbourhoods that are much longer one way than another."""
    values = np.linalg.eigvalsh(moments)
    aspect = np.sqrt(values[:, -1] / np.maximum(values[:, 0], 1e-12 * values[:, -1] + TINY))
    middle, most = np.quantile(aspect, [0.5, 0.99])
    if moments.shape[1] == 3 and middle > FLAT:
        raise NoLattice("the points lie on a surface")
    if most > LONG:
        raise NoLattice(f"couplings are {most:.3g} times as long in one direction as in another")


def _placed(A: sp.csr_array, x: F64) -> tuple[_Nodes, float]:
    """Return where nodes lie in a lattice, and the spacing that it has in units of x: one, or more for fewer points.

    Bodies are moved side by side along the last axis, so that a lattice does not join what A does not.
    """
    (n, d), body = x.shape, np.empty(len(x), dtype=np.int32)
    bodies = survey.number_by_levels(A.indptr, A.indices, np.empty(n, dtype=A.indices.dtype), body)
    if bodies > BODIES:
        raise NoLattice(f"A consists of {bodies} parts that are not coupled")
    low, high = np.empty((bodies, d)), np.empty((bodies, d))
    passes.extents(x, body, low, high)
    extent = high - low
    box = np.append(extent[:, :-1].max(axis=0), extent[:, -1].sum() + GAP * (bodies - 1))
    spacing = 1.0
    while float(np.prod(box / spacing + 2)) > MOST * n:
        spacing *= 1.1
    shift = 0.5 - low / spacing
    shift[1:, -1] += np.cumsum(extent[:-1, -1] / spacing + GAP)
    shape = tuple(int(size) + 2 for size in (extent / spacing + shift + low / spacing).max(axis=0))
    strides = _strides(shape)
    base, fraction = np.empty(n, dtype=np.int32), np.empty((n, d), dtype=np.float32)
    passes.place(x, body, 1 / spacing, shift, strides, base, fraction)
    return _Nodes(shape, strides, base, fraction, body, bodies), spacing


def _refuse_walls(A: sp.csr_array, nodes: _Nodes, sums: F64) -> None:
    """Look for walls without thickness."""
    n, d = nodes.fraction.shape
    starts, sorted_nodes = np.empty(len(sums) + 1, dtype=np.int64), np.empty(n, dtype=np.int64)
    passes.sort(nodes.base, len(sums), starts, sorted_nodes)
    where = nodes.base, nodes.fraction, nodes.strides, starts, sorted_nodes
    share = 1 << max(n // ENOUGH, 1).bit_length() - 1
    looked, lost = passes.torn(A.indptr, A.indices, *where, sums, share)
    if lost > TORN * n ** (1 - 1 / d) * looked / (n * 2**d) + 5:
        raise NoLattice("a wall without thickness, or a gap, runs between nodes that are close to each other")


def _operator(nodes: _Nodes, sums: F64) -> tuple[Faces, float, float]:
    """Return the operator on the lattice, the mean weight of its faces in units of A, and the contrast.

    A coefficient is as sharp as the mesh says, but volumes are smoothed: with a spacing near the length of couplings
    they are noisy.
    """
    d, live = len(nodes.shape), sums[0] > passes.TOUCHED
    total = sums[2 : 2 + d]
    total = total[total > 0]
    if not total.size:
        raise NoLattice("A has no energy along the axes: it has positive couplings, or the points are not its own")
    unit = float(total[total > 1e-3 * np.median(_sample(total))].mean())
    fields = []
    for a, stride in enumerate(nodes.strides):
        both = live.copy()
        both[:-stride] &= live[stride:]
        energy = np.where(both, sums[2 + a] / unit, 0).astype(np.float32)
        volume = np.where(both, sums[2 + d + a], 0).astype(np.float32)
        fields.append((energy, volume, _smooth(energy, both, nodes.strides), _smooth(volume, both, nodes.strides)))
    flat = np.concatenate([smooth for _, _, _, smooth in fields])
    middle = float(np.median(_sample(flat[flat > 0])))
    chosen = [np.flatnonzero(smooth > middle / 2) for _, _, _, smooth in fields]
    ratios = [energy[k] / volume[k] for k, (_, _, energy, volume) in zip(chosen, fields, strict=True)]
    low, mid, high = np.quantile(_sample(np.concatenate(ratios)), [0.01, 0.5, 0.99])
    contrast = float(high / max(low, TINY))
    weights = [
        np.float32(mid) * smooth_volume
        if contrast <= ALIKE
        else np.where(volume > HOLLOW * middle, energy / np.maximum(volume, TINY) * smooth_volume, smooth_energy)
        for energy, volume, smooth_energy, smooth_volume in fields
    ]
    w = [np.maximum(weight, 0).astype(np.float32) for weight in weights]
    extra = np.where(live, sums[1] / unit, 0).astype(np.float32)
    diagonal, inverse = np.zeros_like(extra), np.zeros_like(extra)
    own, middle_axis = geometry(nodes.shape), w[-2] if d == 3 else w[0]
    forming.form_diagonal(*own, w[0], middle_axis, w[-1], extra, diagonal)
    forming.invert(diagonal, inverse)
    return Faces(w[0], middle_axis, w[-1], extra, inverse), unit, contrast


def _sample(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return some of the values, from all over."""
    return values[:: max(values.size // (5 * SAMPLE), 1)]


def _smooth(field: F32, both: NDArray[np.bool_], strides: NDArray[np.int64]) -> F32:
    """Return a field on the faces that are open, averaged with its neighbours along all axes."""
    for stride in strides:
        out = np.empty_like(field)
        passes.smooth(field, both, stride, out)
        field = out
    return field


def _sealed(nodes: _Nodes, rests: F64, size: int) -> NDArray[np.int32] | None:
    """Return which lattice points belong to which of several bodies whose rows sum to zero."""
    if nodes.bodies == 1:
        return None
    free = np.bincount(nodes.body, rests, minlength=nodes.bodies) == 0
    if not free.any():
        return None
    labels = np.full(size, -1, dtype=np.int32)
    passes.inherit(nodes.base, nodes.strides, np.where(free[nodes.body], nodes.body, -1), labels)
    return labels
