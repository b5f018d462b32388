"""The two kinds of operators that waves and the outer passes work on: faces, and couplings to all cells around.

Which of the two an argument is, is known when a pass is compiled. `x` are always planes p - 1, p and p + 1 of a vector,
and `bounds` where a loop over a plane begins and ends.
"""

from __future__ import annotations

from typing import Any

from numba.extending import overload

from deepcd.solvers.kernels.faces import around, stages
from deepcd.solvers.kernels.faces.records import Around


def relax(grid: Any, f: Any, omega: Any, x: Any, r: Any, p: Any, bounds: Any, out: Any) -> None:
    """Set `out` to x + omega (r - A x) / d in plane p; r is the whole box."""
    (_relax_around if isinstance(f, Around) else _relax_faces)(grid, f, omega, x, r, p, bounds, out)


def subtract(grid: Any, f: Any, x: Any, r: Any, p: Any, bounds: Any, out: Any) -> None:
    """Set `out` to r - A x in plane p; r is the whole box."""
    (_subtract_around if isinstance(f, Around) else _subtract_faces)(grid, f, x, r, p, bounds, out)


def image(grid: Any, f: Any, x: Any, p: Any, bounds: Any, q: Any) -> Any:
    """Set q to A x in plane p; return the energy of what leads to no earlier cell."""
    return (_image_around if isinstance(f, Around) else _image_faces)(grid, f, x, p, bounds, q)


def _is_around(f: Any) -> bool:
    """Return whether a type of numba's is that of `Around`."""
    return getattr(f, "instance_class", None) is Around


@overload(relax)
def _relax(grid, f, omega, x, r, p, bounds, out):
    return _relax_around if _is_around(f) else _relax_faces


@overload(subtract)
def _subtract(grid, f, x, r, p, bounds, out):
    return _subtract_around if _is_around(f) else _subtract_faces


@overload(image)
def _image(grid, f, x, p, bounds, q):
    return _image_around if _is_around(f) else _image_faces


def _relax_around(grid, f, omega, x, r, p, bounds, out):
    s0, (lo, hi) = grid.s[0], bounds
    o = (p + 1) * s0
    around.relax_plane(
        grid.s[1], omega, f.w[p], f.w[p + 1], f.extra[o : o + s0], f.inverse[o : o + s0], x[0], x[1], x[2],
        r[o : o + s0], lo, hi, out,
    )  # fmt: skip


def _relax_faces(grid, f, omega, x, r, p, bounds, out):
    s0, (lo, hi) = grid.s[0], bounds
    o, before = (p + 1) * s0, p * s0
    stages.relax_plane(
        grid.s[1], omega, f.w0[before : before + s0], f.w0[o : o + s0], f.w1[o : o + s0], f.w2[o : o + s0],
        f.extra[o : o + s0], f.inverse[o : o + s0], x[0], x[1], x[2], r[o : o + s0], lo, hi, out,
    )  # fmt: skip


def _subtract_around(grid, f, x, r, p, bounds, out):
    s0, (lo, hi) = grid.s[0], bounds
    o = (p + 1) * s0
    around.residual_plane(
        grid.s[1], f.w[p], f.w[p + 1], f.extra[o : o + s0], x[0], x[1], x[2], r[o : o + s0], lo, hi, out
    )


def _subtract_faces(grid, f, x, r, p, bounds, out):
    s0, (lo, hi) = grid.s[0], bounds
    o, before = (p + 1) * s0, p * s0
    stages.residual_plane(
        grid.s[1], f.w0[before : before + s0], f.w0[o : o + s0], f.w1[o : o + s0], f.w2[o : o + s0],
        f.extra[o : o + s0], x[0], x[1], x[2], r[o : o + s0], lo, hi, out,
    )  # fmt: skip


def _image_around(grid, f, x, p, bounds, q):
    s0, (lo, hi) = grid.s[0], bounds
    o = (p + 1) * s0
    return around.image_plane(grid.s[1], f.w[p], f.w[p + 1], f.extra[o : o + s0], x[0], x[1], x[2], lo, hi, q)


def _image_faces(grid, f, x, p, bounds, q):
    (n, s, wrap), (lo, hi) = grid, bounds
    o, before = (p + 1) * s[0], p * s[0]
    own = f.w2[o : o + s[0]]
    energy = stages.image_plane(
        s[1], f.w0[before : before + s[0]], f.w0[o : o + s[0]], f.w1[o : o + s[0]], own, f.extra[o : o + s[0]],
        x[0], x[1], x[2], lo, hi, q,
    )  # fmt: skip
    return energy - stages.clear_padding(n, s, own, x[1], q) if wrap[2] else energy
