"""The definition of the multigrid cycle and of every compiled pass in it, in plain NumPy.

A vector is an array over the box, shape (n0, n1, n2) (in 2D n1 = 1), zero where there is no unknown; `pad` and `unpad`
take it to the flat padded box of the kernels and back. An operator is given by its diagonal and by `faces`, shape
(3, n0, n1, n2): per axis the weight of the face between a cell and the next one. Everything is float64, slow and small;
what the kernels do in float32 is compared with it.

The method is `cycle`, its hierarchies are `learned_levels` and `geometric_levels`; what comes before are their parts.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, diags_array, kron

from deepcd.solvers.learned.architecture import A0, C0, COARSE, FACES, FINE, PHI, PSI, SHARE, SMOOTHER, Output, first_of
from deepcd.solvers.learned.architecture import DIRICHLET as LEARNED_DIRICHLET

F64 = NDArray[np.float64]
GEOMETRIC_DIRICHLET, LEAST_WEIGHT = 0.5, 0.2
SMALLEST_DIAGONAL = 1e-6


def pad(x: NDArray[Any], planar: bool = False) -> NDArray[Any]:
    """Return the flat padded box of an array (n0, n1, n2); `planar`: the box is 2D and n1 = 1 gets no padding."""
    return np.pad(x, [(1, 1), (0, 0) if planar else (1, 1), (1, 1)]).ravel()


def unpad(box: NDArray[Any], n: Sequence[int], planar: bool = False) -> NDArray[Any]:
    """Return the cells (n0, n1, n2) of a flat padded box."""
    middle = 0 if planar else 1
    return box.reshape(n[0] + 2, n[1] + 2 * middle, n[2] + 2)[1:-1, middle : n[1] + middle, 1:-1].copy()


def shifted(x: NDArray[Any], axis: int, step: int) -> NDArray[Any]:
    """Return the value `step` cells further along an axis, 0 beyond the box."""
    n = x.shape[axis]
    beyond = np.pad(x, [(abs(step), abs(step)) if d == axis else (0, 0) for d in range(x.ndim)])
    return np.take(beyond, np.arange(n) + abs(step) + step, axis)


# Operators


def unit_faces(unknown: NDArray[np.bool_]) -> F64:
    """Return the face weights of the finest grid: 1 between two unknowns."""
    return np.stack([unknown * shifted(unknown.astype(float), axis, 1) for axis in range(3)])


def stencil_diagonal(unknown: NDArray[np.bool_], dirichlet: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the byte per cell that is the finest operator: neighbours plus Dirichlet count, 0 elsewhere."""
    count = row_sums(unit_faces(unknown)) + dirichlet
    return np.where(unknown, count, 0).astype(np.uint8)


def row_sums(faces: F64) -> F64:
    """Return the sum of the weights of the six faces of every cell."""
    return np.asarray(sum(w + shifted(w, axis, -1) for axis, w in enumerate(faces)))


def coupling(faces: ArrayLike, x: F64) -> F64:
    """Return the sum over the neighbours of face weight times x."""
    return np.asarray(sum(w * shifted(x, d, 1) + shifted(w * x, d, -1) for d, w in enumerate(np.asarray(faces))))


def sweep(alpha: float, base: F64, sigma: float, diagonal: ArrayLike, tau: float, faces: ArrayLike, x: F64) -> F64:
    """Return alpha base + sigma diagonal x + tau (sum over the neighbours of face weight times x)."""
    return alpha * base + sigma * np.asarray(diagonal) * x + tau * coupling(faces, x)


def matrix(diagonal: ArrayLike, faces: ArrayLike, sign: float) -> csr_array:
    """Return diag(diagonal) + sign * (face weights) as a matrix over the cells: A with -1, a smoother with 1."""
    own, weights = np.asarray(diagonal, dtype=float), np.asarray(faces, dtype=float)
    number, dense = np.arange(own.size).reshape(own.shape), diags_array(own.ravel()).tolil()
    for axis, w in enumerate(weights):
        for p in np.flatnonzero(w):
            q = shifted(number, axis, 1).flat[p]
            dense[p, q] = dense[q, p] = sign * w.flat[p]
    return csr_array(dense)


def stencil(diagonal: NDArray[np.uint8]) -> csr_array:
    """Return A of the finest grid."""
    return matrix(diagonal, unit_faces(diagonal > 0), -1.0)


def listed_smoother(
    diagonal: NDArray[np.uint8], a: float, c: ArrayLike, cells: ArrayLike, delta: ArrayLike
) -> csr_array:
    """Return S of the finest grid from constants and corrections of listed cells.

    Parameters
    ----------
    diagonal : uint8 (n0, n1, n2)
    a : float
    c : three floats
        Constant coefficients of a cell itself and of its neighbours per axis.
    cells : int (m,)
        Flat indices into the box of the cells with corrections.
    delta : float (m, 7)
        What is added there: to a, then to the neighbours -0, +0, -1, +1, -2, +2. The result need not be symmetric.
    """
    unknown = diagonal > 0
    S = matrix(a * unknown, unit_faces(unknown) * np.reshape(c, (3, 1, 1, 1)), 1.0).tolil()
    number = np.arange(diagonal.size).reshape(diagonal.shape) + 1  # 0 is beyond the box
    for p, d in zip(np.asarray(cells), np.asarray(delta), strict=True):
        S[p, p] += d[0]
        for k in range(6):
            q = shifted(number, k // 2, 2 * (k % 2) - 1).flat[p] - 1
            if q >= 0 and unknown.flat[q]:
                S[p, q] += d[1 + k]
    return csr_array(S)


def red_black(A: csr_array, n: Sequence[int], r: F64, z: F64, colour: int) -> F64:
    """Return z after half a Gauss-Seidel sweep: over the cells with i + j + k = colour (mod 2).

    r and z are vectors, shape (cells,), or several of them as columns.
    """
    d = A.diagonal()
    chosen = (np.indices(n).sum(0).ravel() % 2 == colour % 2) & (d > 0)
    result = z.copy()
    result[chosen] += ((r - A @ z)[chosen].T / d[chosen]).T
    return result


# Transfers


def interpolation(n: Sequence[int], near: ArrayLike, far: ArrayLike) -> csr_array:
    """Return P from the halved box (rounding up) to the box n.

    Per axis a fine cell takes `near` of its own coarse cell and `far` of the next on its side, so that a coarse cell
    reaches four fine ones with weights far, near, near, far. What would come from beyond the box is 0.
    """
    factors = []
    for k, a, b in zip(n, np.asarray(near, dtype=float), np.asarray(far, dtype=float), strict=True):
        P = np.zeros((k, (k + 1) // 2 + 2))
        for i in range(k):
            P[i, i // 2 + 1] += a
            P[i, i // 2 + 1 + (1 if i % 2 else -1)] += b
        factors.append(P[:, 1:-1])
    return csr_array(functools.reduce(kron, factors))


def taps(q: float, n: Sequence[int]) -> tuple[F64, F64]:
    """Return the near and the far weight per axis, 1 - q and q; an axis of one cell is not halved and has 1 and 0."""
    far = np.where(np.asarray(n) > 1, q, 0.0)
    return 1 - far, far


def aggregate(x: F64) -> F64:
    """Sum over the two (at an odd end one) fine cells per axis of every coarse cell."""
    for axis in range(3):
        x = np.add.reduceat(x, np.arange(0, x.shape[axis], 2), axis)
    return x


def aggregate_faces(faces: F64) -> tuple[F64, F64]:
    """Sum face weights over coarse cells, per axis: those inside a cell and those towards the next one."""
    inside, crossing = [], []
    for axis, w in enumerate(faces):
        even = np.expand_dims(np.arange(w.shape[axis]) % 2 == 0, [d for d in range(3) if d != axis])
        within = even & (w.shape[axis] > 1)
        inside.append(aggregate(w * within))
        crossing.append(aggregate(w * ~within))
    return np.stack(inside), np.stack(crossing)


# Local patterns and networks


def cell_codes(diagonal: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return 0 where there is no unknown, else 1 + Dirichlet count, at most 15."""
    unknown = diagonal > 0
    return np.where(unknown, np.minimum(1 + diagonal - row_sums(unit_faces(unknown)), 15), 0).astype(np.int64)


def neighbourhoods(x: NDArray[Any], planar: bool) -> NDArray[Any]:
    """Return the values in the 3 x 3 x 3 (3 x 3) cells around every cell, first axis slowest: (n0, n1, n2, 27 or 9)."""
    steps = (-1, 0, 1)
    around = [(i, j, k) for i in steps for j in ((0,) if planar else steps) for k in steps]
    return np.stack([shifted(shifted(shifted(x, 0, i), 1, j), 2, k) for i, j, k in around], axis=-1)


def network(inputs: F64, layers: Sequence[NDArray[Any]]) -> F64:
    """Return three affine layers with max(0, .) between; layers are w1 (inputs, hidden), b1, w2, b2, w3, b3."""
    w1, b1, w2, b2, w3, b3 = layers
    return np.maximum(np.maximum(inputs @ w1 + b1, 0) @ w2 + b2, 0) @ w3 + b3


def pattern_inputs(patterns: NDArray[Any]) -> F64:
    """Return the finest network's inputs for codes (..., cells): which are unknowns, then half the Dirichlet counts."""
    return np.concatenate([(patterns > 0).astype(float), 0.5 * np.maximum(patterns.astype(float) - 1, 0)], axis=-1)


def layers_of(weights: Mapping[str, Any], prefix: str) -> list[F64]:
    """Return the layers of a stored network, inputs first: neighbour by neighbour, and for each its channels."""
    layers = []
    for number in (0, 2, 4):
        w = np.asarray(weights[f"{prefix}{number}.weight"], dtype=float)
        if w.ndim == 5:  # a convolution: (outputs, channels, 3, 3, 3)
            w = np.moveaxis(w, 1, -1).reshape(len(w), -1)
        layers += [w.T, np.asarray(weights[f"{prefix}{number}.bias"], dtype=float)]
    return layers


def face_mean(output: F64, axis: int) -> F64:
    """Return the mean of a cell's value and the next one's."""
    return 0.5 * (output + shifted(output, axis, 1))


def cut(outputs: NDArray[Any], of: Sequence[Output]) -> NDArray[Any]:
    """Return outputs, the first along the last axis, within their limits."""
    return np.clip(outputs[..., : len(of)], [o.lowest for o in of], [o.highest for o in of])


def scale_faces(faces: F64, dirichlet: F64, outputs: F64) -> tuple[F64, F64]:
    """Multiply weights by the exponential of outputs 0, 1, 2 (both cells' mean) and 3."""
    o = cut(outputs, (*FACES, SHARE))
    scaled = [w * np.exp(face_mean(o[..., axis], axis)) for axis, w in enumerate(faces)]
    return np.stack(scaled), dirichlet * np.exp(o[..., 3])


def smoother(faces: F64, inverse: F64, outputs: NDArray[Any], c0: float = C0, a0: float = A0) -> tuple[F64, F64]:
    """Return the coefficients a (own) and c (faces) of S from four outputs.

    c_ij = c0 exp(mean of both cells' outputs) w_ij / (d_i d_j) and a_i = sum_j c_ij + a0 exp(output) / d_i, so that S
    is diagonally dominant and hence positive definite.
    """
    o = cut(outputs, SMOOTHER)
    c = [c0 * np.exp(face_mean(o[..., 1 + d], d)) * w * inverse * shifted(inverse, d, 1) for d, w in enumerate(faces)]
    a = row_sums(np.stack(c)) + a0 * np.exp(o[..., 0]) * inverse
    return a, np.stack(c)


def transfer_scaling(output: NDArray[Any], inverse: F64) -> F64:
    """Return phi, the factor of every cell on what comes from and goes to the coarser level."""
    return np.exp(np.clip(output, PHI.lowest, PHI.highest)) * (inverse > 0)


# The cycle


class LevelMatrices(NamedTuple):
    """Matrices of one level over the cells of its box."""

    A: csr_array
    G: Any  # pre-smoothing from zero is z = G r, post-smoothing its transpose; at last the pseudo-inverse of A
    T: csr_array | None  # from the next coarser level
    S: Sequence[csr_array] = ()  # the steps that G takes one after the other, if they are named


def cycle(levels: Sequence[LevelMatrices]) -> F64:
    """Return M of the whole cycle as a dense matrix.

    Smooth, correct with T C T' of the next level, smooth with the transpose. C is two cycles there, C = 2 M - M A M
    (on the coarsest level this is the pseudo-inverse again).
    """
    A, G, T, _ = levels[0]
    if T is None:
        return np.asarray(G)
    M = cycle(levels[1:])
    C = 2 * M - M @ (levels[1].A @ M)
    eye = np.eye(A.shape[0])
    before, after = eye - A @ G, eye - G.T @ A
    return np.asarray(G + G.T - G.T @ (A @ G) + after @ (T @ (T @ C).T) @ before)


def pseudo_inverse(A: csr_array) -> F64:
    """Return the dense pseudo-inverse: constants on components without Dirichlet data have none."""
    return np.linalg.pinv(A.toarray(), rcond=1e-9, hermitian=True)


def halve(faces: F64, dirichlet: F64, nominal: F64, share: float) -> tuple[F64, F64, F64, F64]:
    """Return the faces inside coarse cells, then the face, Dirichlet and nominal weights of the coarse level.

    Face weights are halved along halved axes: the distance between cells doubles. Dirichlet weights keep a `share`.
    """
    halved = np.array(dirichlet.shape) > 1
    inside, crossing = aggregate_faces(faces)
    crossing *= np.where(halved, 0.5, 1.0).reshape(3, 1, 1, 1)
    coarse_nominal = nominal * 2.0 ** halved.sum() / np.where(halved, 4.0, 1.0)
    return inside, crossing, share * aggregate(dirichlet), coarse_nominal


def form(faces: F64, dirichlet: NDArray[Any], nominal: F64) -> tuple[F64, F64]:
    """Return the diagonal, row sums of all weights, and its inverse; cells with next to none are no unknowns."""
    diagonal = row_sums(faces) + dirichlet
    unknown = diagonal > SMALLEST_DIAGONAL * nominal.max()
    diagonal[~unknown] = 0
    return diagonal, unknown / np.where(unknown, diagonal, 1)


def learned_levels(
    diagonal: NDArray[np.uint8], planar: bool, weights: Mapping[str, Any], coarsest: int
) -> list[LevelMatrices]:
    """Return the hierarchy of the learned cycle: two smoothing steps on the finest level, one on all others.

    Parameters
    ----------
    diagonal : uint8 (n0, n1, n2)
    planar : bool
        The box is 2D.
    weights : mapping of str to array
        Parameters as they are stored: networks "fine.", "coarse.0.", "coarse.1.", and "tap", one per kind of level.
    coarsest : int
        Boxes of at most so many cells are solved exactly.

    Notes
    -----
    Without the limit on the largest eigenvalue of S A of coarse levels, which guards against networks gone wrong.
    """
    codes, kinds = cell_codes(diagonal), len(weights["tap"])
    outputs = network(pattern_inputs(neighbourhoods(codes, planar)), layers_of(weights, "fine."))
    faces, volume, capacity, nominal = unit_faces(codes > 0), (codes > 0).astype(float), 1.0, np.ones(3)
    dirichlet = np.where(codes > 0, diagonal - row_sums(faces), 0.0)
    own, inverse = form(faces, dirichlet, nominal)
    found: list[tuple[csr_array, list[csr_array], F64, F64, tuple[int, ...]]] = []
    levels = []
    while True:
        n, kind = own.shape, COARSE if found else FINE
        phi = transfer_scaling(outputs[..., first_of(kind, "phi")], inverse)
        psi = np.exp(np.clip(outputs[..., first_of(COARSE, "psi")], PSI.lowest, PSI.highest)) * (inverse > 0)
        steps = range(first_of(kind, "a"), len(kind), len(SMOOTHER))
        smoothers = [matrix(*smoother(faces, inverse, outputs[..., k:]), 1.0) for k in steps]
        handed = outputs[..., len(kind) :] * (volume > 0)[..., None]
        found.append((matrix(own, faces, -1.0), smoothers, phi, psi, n))
        if len(found) > 1 and math.prod(n) <= coarsest:
            break
        inside, faces, dirichlet, nominal = halve(faces, dirichlet, nominal, LEARNED_DIRICHLET)
        per = 2.0 ** (np.array(n) > 1).sum()
        volume, capacity = aggregate(volume), capacity * per
        features = [volume / capacity, dirichlet / nominal.max(), *(inside.T / (2 * nominal)).T, *(faces.T / nominal).T]
        features += [aggregate(handed[..., f]) / per for f in range(handed.shape[-1])]
        around = np.stack([neighbourhoods(f, planar) for f in features], axis=-1)
        number = min(len(found), kinds - 1) - 1
        outputs = network(around.reshape(*around.shape[:3], -1), layers_of(weights, f"coarse.{number}."))
        faces, dirichlet = scale_faces(faces, dirichlet, outputs)
        own, inverse = form(faces, dirichlet, nominal)
    for k, ((A, S, phi, _, n), (_, _, _, psi, _)) in enumerate(itertools.pairwise(found)):
        P = interpolation(n, *taps(float(weights["tap"][min(k, kinds - 1)]), n))
        G = S[0]
        for step in S[1:]:
            G = csr_array(G + step - step @ (A @ G))
        levels.append(LevelMatrices(A, G, _diagonal(phi) @ P @ _diagonal(psi), S))
    return [*levels, LevelMatrices(found[-1][0], pseudo_inverse(found[-1][0]), None)]


def geometric_levels(diagonal: NDArray[np.uint8], sweeps: int, coarsest: int) -> list[LevelMatrices]:
    """Return the hierarchy of the classical cycle.

    Parameters
    ----------
    diagonal : uint8 (n0, n1, n2)
    sweeps : int
        Number of Gauss-Seidel sweeps, red cells first.
    coarsest : int
        Boxes of at most so many cells are solved exactly.

    Notes
    -----
    Interpolation is divided by the share of its weights that falls on unknowns, except beside Dirichlet data, where the
    missing weights stand for zeros that are prescribed.
    """
    faces, nominal = unit_faces(diagonal > 0), np.ones(3)
    dirichlet = np.where(diagonal > 0, diagonal - row_sums(faces), 0.0)
    own, inverse = form(faces, dirichlet, nominal)
    found, levels = [], []
    while True:
        found.append((matrix(own, faces, -1.0), inverse > 0, dirichlet > 0, own.shape))
        if len(found) > 1 and own.size <= coarsest:
            break
        _, faces, dirichlet, nominal = halve(faces, dirichlet, nominal, GEOMETRIC_DIRICHLET)
        own, inverse = form(faces, dirichlet, nominal)
    for (A, unknown, beside, n), (_, below, _, _) in itertools.pairwise(found):
        P = interpolation(n, *taps(0.25, n)) @ _diagonal(below)
        weight = np.where(beside, 1.0, np.maximum(P.sum(axis=1).reshape(n), LEAST_WEIGHT))
        G, eye = np.zeros(A.shape), np.eye(A.shape[0])
        for colour in (0, 1) * sweeps:
            G = red_black(A, n, eye, G, colour)
        levels.append(LevelMatrices(A, G, _diagonal(unknown / weight) @ P))
    return [*levels, LevelMatrices(found[-1][0], pseudo_inverse(found[-1][0]), None)]


def _diagonal(x: NDArray[Any]) -> csr_array:
    return csr_array(diags_array(x.ravel().astype(float)))
