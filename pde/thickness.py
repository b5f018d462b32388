"""How thick the body inside a closed surface is, measured from its surface inward.

A grid sees a body at the centres of its cells only, so that walls thinner than a cell are lost in part or altogether.
Rays that start at random places of the surface and run inward tell how much of it belongs to such walls, however many
triangles there are. The intersection is that of Möller and Trumbore (Journal of Graphics Tools 2, 1997).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepcd.pde.meshes import Mesh

PAIRS = 4_000_000  # number of pairs of a ray and a triangle that are tried
RAYS = (20, 500)  # least and largest number of rays


def wall_thickness(mesh: Mesh, seed: int = 0) -> NDArray[np.float64]:
    """Return the thickness of the body at random places of its surface, distributed evenly over its area.

    Parameters
    ----------
    mesh : Mesh
        A closed surface whose triangles are counterclockwise seen from outside; see `Mesh.oriented`.
    seed : int, default 0
        Seed of the places.

    Returns
    -------
    ndarray of float64, shape (k,)
        Length of the rays that run inward at a right angle to the surface, in units of length. Rays that find no other
        side are left out.

    Examples
    --------
    >>> from deepcd.pde import box_mesh
    >>> from deepcd.pde.thickness import wall_thickness
    >>> plate = box_mesh((0, 0, 0), (1, 1, 0.01))
    >>> float(np.median(wall_thickness(plate)).round(6))
    0.01
    """
    rng = np.random.default_rng(seed)
    a, b, c = np.moveaxis(mesh.vertices[mesh.triangles], 1, 0)
    along, across = b - a, c - a
    normal = np.cross(along, across)
    area = np.linalg.norm(normal, axis=1)
    count = int(np.clip(PAIRS // len(a), *RAYS))
    chosen = rng.choice(len(a), size=count, p=area / area.sum())
    s, t = rng.random((2, count, 1))
    s, t = np.where(s + t > 1, 1 - s, s), np.where(s + t > 1, 1 - t, t)
    start = a[chosen] + s * along[chosen] + t * across[chosen]
    inward = -normal[chosen] / area[chosen, None]
    lengths = np.array([_first(a, along, across, *ray) for ray in zip(start, inward, chosen, strict=True)])
    return lengths[np.isfinite(lengths)]


def _first(
    a: NDArray[np.float64],
    along: NDArray[np.float64],
    across: NDArray[np.float64],
    start: NDArray[np.float64],
    direction: NDArray[np.float64],
    own: np.int64,
) -> np.float64:
    """Return how far a ray goes until it leaves through a triangle other than its own, infinity if it never does."""
    h = np.cross(direction, across)
    determinant = (along * h).sum(axis=1)
    to_start = start - a
    with np.errstate(divide="ignore", invalid="ignore"):  # triangles that the ray runs along are not met
        u = (to_start * h).sum(axis=1) / determinant
        q = np.cross(to_start, along)
        v = q @ direction / determinant
        distance = (across * q).sum(axis=1) / determinant
        met = (u >= 0) & (v >= 0) & (u + v <= 1) & (distance > 0)
    met[own] = False
    return np.min(distance, where=met, initial=np.inf)
